//! What is refused stands in the log, with who asked for what, and never more than a few lines of it.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use testnet::{Process, Result, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
const DEADLINE: Duration = Duration::from_secs(30);

/// A node whose log is kept.
struct Logged {
    process: Process,
    api: u16,
    ws: u16,
    log: PathBuf,
    _child: Child,
}

impl Logged {
    async fn start(process: Process, words: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        let (api, ws) = (free_port()?, free_port()?);
        let log = process.scratch().join("log");
        let mut command = process.command("serve");
        command.args(["--api", &format!("127.0.0.1:{api}"), "--ws", &format!("127.0.0.1:{ws}")]);
        command.args(words).envs(variables.iter().copied());
        let child = command.stdout(Stdio::null()).stderr(File::create(&log)?).spawn()?;
        let node = Self { process, api, ws, log, _child: child };
        let began = std::time::Instant::now();
        while !process_is_up(&node).await? {
            assert!(began.elapsed() < DEADLINE, "{}", node.log()?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(node)
    }

    fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// The warnings of a kind, once there is one.
    async fn warnings(&self, kind: &str) -> Result<Vec<String>> {
        let began = std::time::Instant::now();
        loop {
            let log = self.log()?;
            let of_kind = |line: &&str| line.contains("WARN") && line.contains(kind);
            let lines: Vec<String> = log.lines().filter(of_kind).map(str::to_owned).collect();
            if !lines.is_empty() {
                return Ok(lines);
            }
            assert!(began.elapsed() < DEADLINE, "nothing of {kind}: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Posts a body and does not look at the answer.
    async fn post(&self, path: &str, token: &str, body: &str) -> Result {
        let mut stream = TcpStream::connect(("127.0.0.1", self.api)).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\noperationID: o\r\n\
             token: {token}\r\nX-Forwarded-For: 192.0.2.7\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_and_tokens_are_told_a_few_times_with_their_address() -> Result {
    let node = Logged::start(Process::builder(PROGRAM).prepare()?, &[], &[]).await?;
    let guess = json!({ "secret": "guessed-secret", "userID": "imAdmin" }).to_string();
    // Of a long path the beginning is written.
    let long = format!("/user/get_users_info/{}", "p".repeat(60_000));
    node.post(&long, "guessed.token.here", "{}").await?;
    for _ in 0..8 {
        node.post("/auth/get_admin_token", "", &guess).await?;
        node.post("/user/get_users_info", "guessed.token.here", "{}").await?;
    }
    let mut ws = TcpStream::connect(("127.0.0.1", node.ws)).await?;
    ws.write_all(b"GET /?sendID=a HTTP/1.1\r\nHost: l\r\nConnection: close\r\n\r\n").await?;
    ws.read_to_end(&mut Vec::new()).await?;
    for (kind, operation, address, count) in [
        ("wrong secret", "/auth/get_admin_token", "192.0.2.7", 5),
        ("bad token", "/user/get_users_info", "192.0.2.7", 5),
        ("refused handshake", "WebSocket handshake", "127.0.0.1", 1),
    ] {
        let lines = node.warnings(kind).await?;
        assert_eq!(lines.len(), count, "{lines:#?}");
        for line in lines {
            assert!(line.contains(operation) && line.contains(address), "{line}");
        }
    }
    let log = node.log()?;
    assert!(!log.contains("guessed"), "{log}");
    let longest = log.lines().map(str::len).max();
    assert!(longest < Some(512), "{longest:?}");
    assert!(!log.contains(testnet::SECRET), "{log}");
    Ok(())
}

async fn process_is_up(node: &Logged) -> Result<bool> {
    Ok(node.process.command("health").output().await?.status.success())
}

/// A folder on a disk of its own, so that nobody else fills or frees it, and its free MiB.
async fn small_disk() -> Result<(tempfile::TempDir, u64)> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let mut command = tokio::process::Command::new("df");
    let asked = command.args(["--output=avail", "-BM"]).arg(folder.path()).output().await?;
    let free = String::from_utf8(asked.stdout)?;
    let free = free.lines().nth(1).expect("a line").trim().trim_end_matches('M').parse()?;
    Ok((folder, free))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told() -> Result {
    let process = Process::builder(PROGRAM).prepare()?;
    let (disk, free) = small_disk().await?;
    std::os::unix::fs::symlink(disk.path(), process.data())?;
    let reserve = format!("{} MiB", free - 24);
    let node = Logged::start(process, &[], &[("ENTENTE_STORE_RESERVE", &reserve)]).await?;
    let added = node.process.command("user").args(["add", "zoe"]).output().await?;
    assert_eq!(added.status.code(), Some(0), "{added:?}");
    std::fs::write(disk.path().join("much"), vec![1; 32 << 20])?;
    for id in ["ada", "bob", "eve"] {
        let refused = node.process.command("user").args(["add", id]).output().await?;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    let lines = node.warnings("full disk").await?;
    assert_eq!(lines.len(), 1, "{lines:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_link_is_told() -> Result {
    let (alpha, beta) =
        (Process::builder(PROGRAM).prepare()?, Process::builder(PROGRAM).prepare()?);
    let mut keys = Vec::new();
    for node in [&alpha, &beta] {
        let key = node.command("federation").args(["key", "show"]).output().await?;
        keys.push(String::from_utf8(key.stdout)?.trim().to_owned());
    }
    let ports = [free_port()?, free_port()?];
    for (node, domain, other) in [(&alpha, "beta.example", 1), (&beta, "alpha.example", 0)] {
        let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", ports[other]);
        let words = ["pin", domain, &keys[other], &address];
        assert!(node.command("federation").args(words).output().await?.status.success());
    }
    let at = |port: u16| format!("127.0.0.1:{port}");
    let words = ["--domain", "alpha.example", "--federation", &at(ports[0])];
    let alpha = Logged::start(alpha, &words, &[]).await?;
    let words = ["--domain", "beta.example", "--federation", &at(ports[1])];
    let deny = [("ENTENTE_FEDERATION_DENY", "alpha.example")];
    let beta = Logged::start(beta, &words, &deny).await?;
    let words = ["check", "beta.example"];
    let checked = alpha.process.command("federation").args(words).output().await?;
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    let lines = beta.warnings("refused link").await?;
    assert!(lines[0].contains("alpha.example is denied"), "{lines:?}");
    assert!(lines[0].contains(&keys[0]), "{lines:?}");
    Ok(())
}
