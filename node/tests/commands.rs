//! The commands of the program, with the node serving and stopped.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::process::Output;

use serde_json::Value;
use testnet::{Process, Result, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

async fn run(node: &Process, arguments: &[&str]) -> Result<Output> {
    let mut command = node.command(arguments[0]);
    Ok(command.args(&arguments[1..]).output().await?)
}

/// Runs a command that must succeed with `--json`; returns what it printed.
async fn json(node: &Process, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = run(node, &arguments).await?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{arguments:?}: {error}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_added_listed_and_let_in() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    for serving in [true, false] {
        let id = if serving { "ada" } else { "bob" };
        if !serving {
            assert_eq!(node.stop().await?, Some(0));
        }
        let added = json(&node, &["user", "add", id, "--nickname", "N."]).await?;
        assert_eq!(added["userID"], id);
        let again = run(&node, &["user", "add", id]).await?;
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&again.stderr).contains("already registered"));
        let listed = json(&node, &["user", "list"]).await?;
        let ids: Vec<&str> = listed["users"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|user| user["userID"].as_str())
            .collect();
        assert!(ids.contains(&"imAdmin") && ids.contains(&id));
    }
    let token = json(&node, &["user", "token", "bob"]).await?;
    node.launch().await?;
    let token = token["token"].as_str().expect("a token").to_owned();
    let bob = testnet::Client { rest: node.rest(), user_id: "bob".into(), platform_id: 5, token };
    bob.connect(Wire::GOB_GZIP).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_serving_is_restored() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let [alice, _bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut socket = alice.connect(Wire::GOB_GZIP).await?;
    for n in 0..50 {
        socket.send_text("bob", &n.to_string()).await?;
    }
    let file = node.scratch().join("backup");
    let path = file.to_str().expect("text").to_owned();
    let sending = tokio::spawn(async move {
        for n in 0..200 {
            socket.send_text("bob", &format!("more {n}")).await?;
        }
        Result::Ok(())
    });
    let written = json(&node, &["backup", &path]).await?;
    assert!(written["entries"].as_u64().is_some_and(|entries| entries > 60));
    sending.await??;
    assert_eq!(run(&node, &["backup", &path]).await?.status.code(), Some(1), "it exists");
    assert_eq!(json(&node, &["verify"]).await?["clean"], true);
    assert_eq!(run(&node, &["restore", &path]).await?.status.code(), Some(1), "not empty");

    let mut other = Process::builder(PROGRAM).start().await?;
    other.stop().await?;
    std::fs::remove_dir_all(other.data().join("store"))?;
    let restored = json(&other, &["restore", &path]).await?;
    assert_eq!(restored["entries"], written["entries"]);
    assert_eq!(json(&other, &["verify"]).await?["clean"], true);
    other.launch().await?;
    let bob = other.admin().await?.client("bob", 5).await?;
    let pulled = bob
        .call(
            "/msg/pull_msg_by_seq",
            serde_json::json!({
                "userID": "bob",
                "seqRanges": [{ "conversationID": "si_alice_bob", "begin": 1, "end": 50, "num": 50 }],
            }),
        )
        .await?;
    let messages = pulled["msgs"]["si_alice_bob"]["Msgs"].as_array().expect("messages");
    assert_eq!(messages.len(), 50);

    // A damaged backup is refused and leaves nothing behind.
    other.stop().await?;
    std::fs::remove_dir_all(other.data().join("store"))?;
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes)?;
    assert_eq!(run(&other, &["restore", &path]).await?.status.code(), Some(1));
    assert!(!other.data().join("store").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_folder_is_for_one_node() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let mut second = node.command("serve");
    second.args(["--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"]);
    let output = second.output().await?;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("in use") || said.contains("another"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_and_checked() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    node.stop().await?;
    let example = run(&node, &["config", "example"]).await?;
    assert!(String::from_utf8_lossy(&example.stdout).contains("[ws]"));
    let checked = run(&node, &["config", "check"]).await?;
    assert!(checked.status.success());
    let shown = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(shown.contains("admin_users") && !shown.contains("openIM123"), "{shown}");
    std::fs::write(node.data().join("config.toml"), "[ws]\nlisten_at = 1\n")?;
    assert_eq!(run(&node, &["config", "check"]).await?.status.code(), Some(2));
    assert_eq!(run(&node, &["no-such-command"]).await?.status.code(), Some(2));
    let version = json(&node, &["version"]).await?;
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_json_where_results_are() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    for (words, code) in [
        (&["user", "add", "imAdmin"][..], 1),
        (&["backup", "/no/such/folder/file"], 1),
        (&["restore", "/no/such/file"], 1),
        (&["federation", "check", "Not A Domain"], 1),
        (&["user", "token", "imAdmin", "--platform", "99"], 2),
        (&["no-such-command"], 2),
        (&["serve", "--api", "nonsense"], 2),
    ] {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let output = run(&node, &words).await?;
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{words:?}: {output:?}");
        let error: Value = serde_json::from_slice(&output.stderr)?;
        assert!(error["error"].as_str().is_some_and(|text| !text.is_empty()), "{words:?}: {error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_at_its_start_is_json_too() -> Result {
    let node = Process::builder(PROGRAM).prepare()?;
    let (api, ws) = (testnet::free_port()?, testnet::free_port()?);
    let mut command = node.command("serve");
    command.args(["--json", "--api", &format!("127.0.0.1:{api}")]);
    command.args(["--ws", &format!("127.0.0.1:{ws}")]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    let out = child.stdout.take().expect("piped");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let said: Value = serde_json::from_str(&lines.next_line().await?.expect("a line"))?;
    assert_eq!(said["api"], format!("http://127.0.0.1:{api}"));
    assert_eq!(said["ws"], format!("ws://127.0.0.1:{ws}"));
    assert_eq!(said["created"], true);

    let healthy = json(&node, &["health"]).await?;
    assert_eq!(healthy["healthy"], true);
    child.kill().await?;
    let gone = run(&node, &["health"]).await?;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no node serves"), "{gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_through_a_pipe() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    node.admin().await?.users(["alice", "bob"]).await?;
    let folder = tempfile::tempdir()?;
    for serving in [true, false] {
        if !serving {
            node.stop().await?;
        }
        let mut command = node.command("backup");
        let output = command.args(["-", "--json"]).current_dir(folder.path()).output().await?;
        assert!(output.status.success(), "{output:?}");
        let summary: Value = serde_json::from_slice(&output.stderr)?;
        assert!(output.stdout.starts_with(b"entente backup"), "no backup");
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "a file was made");

        let other = Process::builder(PROGRAM).prepare()?;
        let file = folder.path().join("backup");
        std::fs::write(&file, &output.stdout)?;
        let mut restore = other.command("restore");
        restore.args(["-", "--json"]).stdin(std::fs::File::open(&file)?);
        let restored = restore.output().await?;
        assert!(restored.status.success(), "{restored:?}");
        let restored: Value = serde_json::from_slice(&restored.stdout)?;
        assert_eq!(restored["entries"], summary["entries"]);
        assert_eq!(json(&other, &["verify"]).await?["clean"], true);
        std::fs::remove_file(&file)?;

        // Half a backup must not look like a whole one.
        let mut command = node.command("backup");
        let mut child = command
            .arg("-")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        let cut = child.wait_with_output().await?;
        assert_eq!(cut.status.code(), Some(1), "{cut:?}");
        assert!(!String::from_utf8_lossy(&cut.stderr).contains("panicked"), "{cut:?}");
    }
    Ok(())
}

/// What the node answers on its control socket.
async fn asked(node: &Process, line: &str) -> Result<Vec<Value>> {
    let mut stream = tokio::net::UnixStream::connect(node.data().join("control.sock")).await?;
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_hear_how_much_is_done_does() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    node.admin().await?.users(["alice", "bob"]).await?;
    let [silent] = &asked(&node, r#""verify""#).await?[..] else { panic!("progress") };
    let entries = &silent["done"]["entries"];
    assert!(entries.as_u64() > Some(0), "{silent}");
    let watched = asked(&node, r#"{"watched":"verify"}"#).await?;
    let [.., progress, result] = &watched[..] else { panic!("no progress: {watched:?}") };
    assert_eq!(&progress["progress"][0], entries);
    assert!(progress["progress"][1].as_u64() > Some(0), "{progress}");
    assert_eq!(&result["done"]["entries"], entries);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_an_address_is_not_called_good() -> Result {
    let node = Process::builder(PROGRAM).argument("--domain").argument("alpha.example");
    let node = node.argument("--federation").argument("127.0.0.1:0").start().await?;
    let key = Process::builder(PROGRAM).prepare()?;
    let key = json(&key, &["federation", "key", "show"]).await?;
    let peer_id = key["peer_id"].as_str().expect("a peer ID");
    for pinned in [false, true] {
        if pinned {
            let pin =
                ["federation", "pin", "none.invalid", peer_id, "/ip4/127.0.0.1/udp/9/quic-v1"];
            json(&node, &pin).await?;
        }
        let checked = run(&node, &["federation", "check", "none.invalid"]).await?;
        assert_eq!(checked.status.code(), Some(1));
        let text = String::from_utf8(checked.stdout)?;
        for what in ["DNS", "document"] {
            let line = text.lines().find(|line| line.split('\t').nth(1) == Some(what));
            let line = line.unwrap_or_else(|| panic!("nothing of {what}: {text}"));
            let mark = if pinned { "none" } else { "BAD" };
            assert!(line.starts_with(mark), "{line}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_with_hyphens_are_taken_and_others_told_what_to_write() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    json(&node, &["user", "add", "jean-luc"]).await?;
    let admin = node.admin().await?;
    admin.register(&["jean"]).await?;
    let [jean_luc, jean] = [admin.client("jean-luc", 5).await?, admin.client("jean", 5).await?];
    jean.connect(Wire::GOB_GZIP).await?.send_text("jean-luc", "engage").await?;
    let mut socket = jean_luc.connect(Wire::JSON).await?;
    let history = socket.history("jean").await?;
    assert_eq!(history.len(), 1);
    for (id, why, instead) in [
        ("jean.luc", "native clients fail", "such as jean-luc"),
        ("jl@corp", "domain of another node", "such as jl-corp"),
        ("jean luc", "letters, digits, _ and -", "such as jean-luc"),
    ] {
        let refused = run(&node, &["user", "add", id]).await?;
        let said = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.contains(instead), "{said}");
    }
    Ok(())
}
