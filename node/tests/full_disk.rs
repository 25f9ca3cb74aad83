//! A node on a disk that is full: it starts, serves what it has, lets people log in and delete, and
//! has room again afterwards.
//!
//! Each test has a small file system of its own, in a mount namespace of its own, for which it must be
//! root; without, it says so and does nothing.
#![allow(clippy::expect_used, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "it says what it measures, and that it does nothing")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testnet::{Client, Process, Result, Socket, Wire};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
/// Says that a process is in a namespace of its own.
const INSIDE: &str = "TEST_OWN_MOUNTS";
/// MiB of the file system, and those kept in reserve.
const DISK_MIB: u64 = 48;
const RESERVE_MIB: u64 = 16;
/// Time in which what a full node writes comes to rest.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Time in which what was deleted is given back.
const GIVEN_BACK: Duration = Duration::from_secs(60);

/// Runs the test of this name again with mounts of its own; `false`: this is that process.
fn runs_elsewhere(test: &str) -> Result<bool> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(false);
    }
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {test} mounts a file system, for which it must be root");
        return Ok(true);
    }
    let program = std::env::current_exe()?;
    let status = Command::new("unshare")
        .arg("-m")
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()?;
    ensure!(status.success(), "{test}: {status}");
    Ok(true)
}

/// A small file system at a path: ext4, or in memory where images cannot be mounted.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    fn mount(node: &Process) -> Result<Self> {
        let at = node.data();
        std::fs::create_dir_all(&at)?;
        let image = node.scratch().join("image");
        std::fs::File::create(&image)?.set_len(DISK_MIB << 20)?;
        let ran = |program: &str, words: &[&str], path: &[&Path]| {
            let output = Command::new(program).args(words).args(path).output();
            output.is_ok_and(|output| output.status.success())
        };
        let ext4 = ran("mkfs.ext4", &["-q", "-m", "0"], &[&image])
            && ran("mount", &["-o", "loop"], &[&image, &at]);
        let size = format!("size={DISK_MIB}m");
        let mounted = ext4 || ran("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], &[&at]);
        ensure!(mounted, "nothing can be mounted");
        eprintln!("on {}", if ext4 { "ext4" } else { "tmpfs" });
        let _ = std::fs::remove_dir(at.join("lost+found"));
        Ok(Self { at })
    }

    fn free_mib(&self) -> Result<u64> {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.at).output()?;
        let text = String::from_utf8(output.stdout)?;
        let bytes: u64 = text.lines().last().context("a line")?.trim().parse()?;
        Ok(bytes >> 20)
    }

    /// Fills it with a file of somebody else, to the last byte.
    fn fill(&self) -> Result<PathBuf> {
        let file = self.at.join("somebody-elses");
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=64k", "status=none"])
            .arg(format!("of={}", file.display()))
            .stderr(std::process::Stdio::null())
            .status()?;
        ensure!(self.free_mib()? == 0, "it is not full");
        Ok(file)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// A node on a small disk, with two users whose messages have filled it.
struct Full {
    disk: SmallDisk,
    node: Process,
    alice: Client,
    /// Messages between the two, and those before that were cleared.
    sent: usize,
    cleared: i64,
}

impl Drop for Full {
    fn drop(&mut self) {
        // The node goes first.
        if let Some(id) = self.node.id() {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }
}

fn text(n: usize) -> String {
    format!("{n} {}", "x".repeat(8_000))
}

/// Sends until that is refused; returns how often it was not.
async fn send_until_refused(socket: &mut Socket) -> Result<usize> {
    for n in 0..20_000 {
        if let Err(error) = socket.send_text("bob", &text(n)).await {
            let error = format!("{error:#}");
            ensure!(error.contains("500 ServerInternalError"), "{error}");
            return Ok(n);
        }
    }
    anyhow::bail!("it is not full")
}

impl Full {
    async fn new() -> Result<Self> {
        let mut node = Process::builder(PROGRAM)
            .variable("ENTENTE_STORE_RESERVE", &format!("{RESERVE_MIB} MiB"))
            .prepare()?;
        let disk = SmallDisk::mount(&node)?;
        node.launch().await?;
        let [alice, _bob] = node.admin().await?.users(["alice", "bob"]).await?;
        for id in ["dismissed", "left"] {
            let make = json!({ "ownerUserID": "alice", "memberUserIDs": ["bob"],
                "groupInfo": { "groupID": id, "groupType": 2 } });
            alice.call("/group/create_group", make).await?;
        }
        let mut full = Self { disk, node, alice, sent: 0, cleared: 0 };
        full.fill_up().await?;
        Ok(full)
    }

    /// Sends until that is refused for longer than it takes to give back what was only needed for a
    /// moment.
    async fn fill_up(&mut self) -> Result {
        let mut socket = self.alice.connect(Wire::GOB_GZIP).await?;
        let mut refused = 0;
        while refused < 3 {
            let sent = send_until_refused(&mut socket).await?;
            self.sent += sent;
            refused = if sent == 0 { refused + 1 } else { 0 };
            tokio::time::sleep(SETTLED).await;
        }
        let (sent, free) = (self.sent, self.disk.free_mib()?);
        eprintln!("{sent} messages, {free} MiB left");
        ensure!(sent > 1_000 && free <= RESERVE_MIB, "{sent} messages, {free} MiB left");
        Ok(())
    }

    /// What the two have said can be read, and nothing can be said.
    async fn reads_and_refuses(&self) -> Result {
        let mut socket = self.alice.connect(Wire::GOB_GZIP).await?;
        let history = socket.history_from("si_alice_bob", self.cleared + 1).await?;
        assert!(history.len() >= self.sent, "{} of {}", history.len(), self.sent);
        let refused = socket.send_text("bob", "no").await.expect_err("full");
        ensure!(format!("{refused:#}").contains("500 ServerInternalError"), "{refused:#}");
        let body = json!({ "userInfo": { "userID": "alice", "nickname": "A" } });
        let answer = self.alice.post("/user/update_user_info_ex", body).await?;
        assert_eq!(answer.code, 500, "{}", answer.text);
        assert!(answer.text.contains("the disk is full"), "{}", answer.text);
        Ok(())
    }

    async fn command(&self, words: &[&str]) -> Result<Value> {
        let mut command = self.node.command(words[0]);
        let output = command.args(&words[1..]).arg("--json").output().await?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{words:?}: {error}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Commands that look at the data.
    async fn commands_work(&self) -> Result {
        let verified = self.command(&["verify"]).await?;
        assert_eq!(verified["clean"], true, "{verified}");
        let listed = self.command(&["user", "list"]).await?;
        assert_eq!(listed["total"], 3, "{listed}");
        let backup = self.node.scratch().join("backup");
        self.command(&["backup", "--force", backup.to_str().expect("text")]).await?;
        Ok(())
    }

    /// Deletes in each way what it can, then nearly everything; waits until there is room and uses it.
    async fn has_room_after_deleting(&mut self) -> Result {
        let admin = self.node.admin().await?;
        let alice = admin.client("alice", 5).await?;
        let chat = "si_alice_bob";
        let first = self.cleared + 1;
        let seqs = json!({ "conversationID": chat, "userID": "alice", "seqs": [first, first + 1],
            "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": true } });
        alice.call("/msg/delete_msgs", seqs).await?;
        let revoked = json!({ "conversationID": chat, "userID": "alice", "seq": first + 2 });
        alice.call("/msg/revoke_msg", revoked).await?;
        if self.cleared == 0 {
            let kick = json!({ "groupID": "left", "kickedUserIDs": ["bob"] });
            alice.call("/group/kick_group", kick).await?;
            alice.call("/group/dismiss_group", json!({ "groupID": "dismissed" })).await?;
            let cleared = json!({ "conversationIDs": [chat], "userID": "alice",
                "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": true } });
            alice.call("/msg/clear_conversation_msg", cleared).await?;
        } else {
            let old = json!({ "conversationIDs": [chat], "timestamp": 1 });
            admin.client.call("/msg/delete_msg_physical", old).await?;
        }
        let conversation = json!({ "ownerUserID": "alice", "conversationIDs": [chat] });
        alice.call("/conversation/delete_conversations", conversation).await?;
        self.has_room().await?;
        let mut socket = alice.connect(Wire::GOB_GZIP).await?;
        for n in 0..200 {
            socket.send_text("bob", &text(n)).await?;
        }
        self.cleared += i64::try_from(self.sent)?;
        (self.alice, self.sent) = (alice, 200);
        Ok(())
    }

    /// Waits until most of the disk is free.
    async fn has_room(&self) -> Result {
        let begun = Instant::now();
        loop {
            let free = self.disk.free_mib()?;
            if free >= DISK_MIB * 2 / 3 {
                eprintln!("{free} MiB free after {:?}", begun.elapsed());
                return Ok(());
            }
            ensure!(begun.elapsed() < GIVEN_BACK, "only {free} MiB are free");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_a_full_node_serves_and_gets_room_by_deleting() -> Result {
    if runs_elsewhere("after_a_stop_a_full_node_serves_and_gets_room_by_deleting")? {
        return Ok(());
    }
    let mut full = Full::new().await?;
    full.reads_and_refuses().await?;
    full.commands_work().await?;
    assert_eq!(full.node.stop().await?, Some(0));
    full.commands_work().await?;
    full.node.launch().await?;
    full.fill_up().await?;
    full.reads_and_refuses().await?;
    full.commands_work().await?;
    full.has_room_after_deleting().await?;
    full.commands_work().await?;
    // Once more, with what was written since.
    full.fill_up().await?;
    full.has_room_after_deleting().await?;
    assert_eq!(full.node.stop().await?, Some(0));
    full.commands_work().await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_a_full_node_serves_and_gets_room_by_deleting() -> Result {
    if runs_elsewhere("after_a_kill_a_full_node_serves_and_gets_room_by_deleting")? {
        return Ok(());
    }
    let mut full = Full::new().await?;
    full.node.kill().await?;
    full.commands_work().await?;
    full.node.launch().await?;
    full.fill_up().await?;
    full.reads_and_refuses().await?;
    full.has_room_after_deleting().await?;
    full.node.kill().await?;
    full.node.launch().await?;
    full.commands_work().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_byte_left_a_node_serves_and_goes_on_by_itself() -> Result {
    if runs_elsewhere("without_a_byte_left_a_node_serves_and_goes_on_by_itself")? {
        return Ok(());
    }
    for killed in [false, true] {
        let mut full = Full::new().await?;
        if killed {
            full.node.kill().await?;
        } else {
            assert_eq!(full.node.stop().await?, Some(0));
        }
        let file = full.disk.fill()?;
        full.commands_work().await?;
        full.node.launch().await?;
        full.reads_and_refuses().await?;
        full.commands_work().await?;
        assert!(full.node.admin().await.is_err(), "a token needs room");
        let id = full.node.id();
        std::fs::remove_file(file)?;
        let begun = Instant::now();
        while full.node.admin().await.is_err() {
            ensure!(begun.elapsed() < GIVEN_BACK, "it does not go on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(full.node.id(), id, "the same process");
        full.fill_up().await?;
        full.reads_and_refuses().await?;
        full.has_room_after_deleting().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_filled_by_somebody_else_while_serving_only_refuses() -> Result {
    if runs_elsewhere("a_disk_filled_by_somebody_else_while_serving_only_refuses")? {
        return Ok(());
    }
    let mut full = Full::new().await?;
    let file = full.disk.fill()?;
    // Long enough for a checkpoint to be put off.
    for _ in 0..5 {
        full.reads_and_refuses().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    std::fs::remove_file(file)?;
    full.has_room_after_deleting().await?;
    assert_eq!(full.node.stop().await?, Some(0));
    full.commands_work().await
}
