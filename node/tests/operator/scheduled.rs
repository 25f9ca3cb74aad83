//! Backups that a node makes by itself: any moment between them comes back, whatever happens to the node
//! or to the folder.

use std::future::Future;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::Value;
use testnet::{Admin, Client, Process, Result, Wire, text_message};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{PROGRAM, done, run, said};

/// Time for a whole test, and for one thing to happen.
const PATIENCE: Duration = Duration::from_secs(50);
const SOON: Duration = Duration::from_secs(15);

async fn in_time(test: impl Future<Output = Result>) -> Result {
    timeout(PATIENCE, test).await?
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("a time")
}

/// A node that makes backups in a folder beside its data.
fn prepared() -> Result<(Process, PathBuf)> {
    let mut node = Process::builder(PROGRAM).keep_log().prepare()?;
    let folder = node.scratch().join("backups");
    std::fs::create_dir(&folder)?;
    node.set_variable("ENTENTE_BACKUP_FOLDER", &folder.display().to_string());
    Ok((node, folder))
}

async fn command(node: &Process, words: &[&str]) -> Result<Output> {
    Ok(node.command(words[0]).args(&words[1..]).output().await?)
}

async fn json(node: &Process, words: &[&str]) -> Result<Value> {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let output = command(node, &words).await?;
    anyhow::ensure!(output.status.success(), "{words:?}: {}", said(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The backups that a folder has, oldest first.
async fn listed(node: &Process) -> Result<Vec<Value>> {
    let found = json(node, &["backup", "list"]).await?;
    Ok(found["backups"].as_array().expect("a list").clone())
}

/// Waits until there are so many backups and all are checked; returns them.
async fn until_there_are(node: &Process, count: usize) -> Result<Vec<Value>> {
    let began = Instant::now();
    loop {
        let found = listed(node).await?;
        let checked = found.iter().filter(|one| one["checked"]["ok"] == true).count();
        if found.len() == count && checked == count {
            return Ok(found);
        }
        anyhow::ensure!(began.elapsed() < SOON, "not {count}: {found:?}\n{}", node.log()?);
        sleep(Duration::from_millis(50)).await;
    }
}

/// What the folder reaches until, at most `SOON` after now.
async fn until_it_reaches(node: &Process, at: i64) -> Result {
    let began = Instant::now();
    loop {
        let found = listed(node).await?;
        if found.last().is_some_and(|one| one["reaches_ms"].as_i64() >= Some(at)) {
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < SOON, "{found:?} does not reach {at}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Something that was asked of the node, and when: before, and once it was acknowledged.
#[derive(Debug, Clone)]
struct Done {
    name: String,
    began: i64,
    acknowledged: Option<i64>,
}

/// Users who are registered one after the other, and messages that are sent, as fast as it goes.
#[derive(Default)]
struct Load {
    users: Mutex<Vec<Done>>,
    messages: Mutex<Vec<Done>>,
    ended: AtomicBool,
}

impl Load {
    async fn begin(node: &Process, mark: &str) -> Result<(Arc<Self>, Vec<JoinHandle<Result>>)> {
        let load = Arc::new(Self::default());
        let admin = node.admin().await?;
        let (sender, receiver) = (format!("sender-{mark}"), format!("receiver-{mark}"));
        admin.register(&[&sender, &receiver]).await?;
        let client = admin.client(&sender, 5).await?;
        let sends = tokio::spawn(Arc::clone(&load).send(client, receiver));
        let registers = tokio::spawn(Arc::clone(&load).register(admin, mark.to_owned()));
        Ok((load, vec![sends, registers]))
    }

    async fn register(self: Arc<Self>, admin: Admin, mark: String) -> Result {
        for n in 0.. {
            if self.ended.load(SeqCst) {
                break;
            }
            let name = format!("{mark}-{n}");
            let did = Done { name: name.clone(), began: now_ms(), acknowledged: None };
            self.users.lock().push(did);
            // Fails when the node is killed.
            if admin.register(&[&name]).await.is_err() {
                break;
            }
            if let Some(last) = self.users.lock().last_mut() {
                last.acknowledged = Some(now_ms());
            }
        }
        Ok(())
    }

    async fn send(self: Arc<Self>, client: Client, receiver: String) -> Result {
        let mut socket = client.connect(Wire::GOB_GZIP).await?;
        for n in 0.. {
            if self.ended.load(SeqCst) {
                break;
            }
            let message = text_message(&client.user_id, &receiver, &format!("number {n}"));
            let name = message.client_msg_id.clone();
            self.messages.lock().push(Done { name, began: now_ms(), acknowledged: None });
            if socket.send(&message).await.is_err() {
                break;
            }
            if let Some(last) = self.messages.lock().last_mut() {
                last.acknowledged = Some(now_ms());
            }
        }
        Ok(())
    }

    async fn end(&self, tasks: Vec<JoinHandle<Result>>) -> Result {
        self.ended.store(true, SeqCst);
        for task in tasks {
            task.await??;
        }
        Ok(())
    }
}

/// What was acknowledged before a moment is there, nothing that began after it.
fn must_be_of(moment: i64, dones: &[Done], there: &[String]) {
    for Done { name, began, acknowledged } in dones {
        let is_there = there.contains(name);
        if acknowledged.is_some_and(|at| at <= moment) {
            assert!(is_there, "{name} was acknowledged {acknowledged:?}, before {moment}");
        } else if *began > moment {
            assert!(!is_there, "{name} began {began}, after {moment}");
        }
    }
}

async fn users(node: &Process) -> Result<Vec<String>> {
    let found = json(node, &["user", "list", "--all"]).await?;
    let users = found["users"].as_array().expect("a list").iter();
    Ok(users.filter_map(|user| user["userID"].as_str().map(str::to_owned)).collect())
}

/// Restores into a new data folder, which verifies.
async fn restored(words: &[&str]) -> Result<(Process, Value)> {
    let node = Process::builder(PROGRAM).prepare()?;
    let words: Vec<&str> = ["restore", "--without-secrets"].iter().chain(words).copied().collect();
    let result = json(&node, &words).await?;
    json(&node, &["verify"]).await?;
    Ok((node, result))
}

#[tokio::test(flavor = "multi_thread")]
async fn any_moment_between_two_backups_comes_back() -> Result {
    in_time(async {
        let (mut node, folder) = prepared()?;
        node.launch().await?;
        until_there_are(&node, 1).await?;
        let (load, tasks) = Load::begin(&node, "u").await?;
        let from = now_ms();
        sleep(Duration::from_millis(2_500)).await;
        json(&node, &["backup", "now"]).await?;
        sleep(Duration::from_millis(1_500)).await;
        json(&node, &["backup", "now"]).await?;
        sleep(Duration::from_millis(500)).await;
        load.end(tasks).await?;
        let until = now_ms();
        // At most ten seconds behind, while nothing more happens.
        let (users_done, sent) = (load.users.lock().clone(), load.messages.lock().clone());
        let acknowledged = users_done.iter().filter(|done| done.acknowledged.is_some());
        let last = acknowledged.map(|done| done.began).max().expect("some");
        until_it_reaches(&node, last).await?;
        assert!(now_ms() - last < 10_000);
        assert_eq!(node.stop().await?, Some(0));

        let folder = folder.display().to_string();
        let mut counts = Vec::new();
        let made = listed(&node).await?;
        let made = made.iter().filter_map(|one| one["made_ms"].as_i64());
        // Just before and just after a full one, and anywhere.
        let moments = made.skip(1).flat_map(|made| [made - 1, made, made + 1]);
        let anywhere = (0..4).map(|_| rand::random_range(from..until));
        for (n, moment) in moments.chain(anywhere).enumerate() {
            let (mut other, result) = restored(&[&folder, "--until", &moment.to_string()]).await?;
            assert!(result["until_ms"].as_i64().expect("a time") <= moment, "{result}");
            assert_eq!(result["whole"], true);
            let there = users(&other).await?;
            must_be_of(moment, &users_done, &there);
            counts.push(there.len());
            if n < 2 {
                other.launch().await?;
                let receiver = other.admin().await?.client("receiver-u", 5).await?;
                let mut socket = receiver.connect(Wire::GOB_GZIP).await?;
                let stored = socket.history("sender-u").await?;
                let there: Vec<String> =
                    stored.iter().map(|message| message.client_msg_id.clone()).collect();
                must_be_of(moment, &sent, &there);
            }
        }
        counts.sort_unstable();
        counts.dedup();
        assert!(counts.len() > 2, "all moments are the same: {counts:?}");

        // All of it, and the full one alone.
        let (other, result) = restored(&[&folder]).await?;
        must_be_of(i64::MAX, &users_done, &users(&other).await?);
        assert_eq!(result["until_ms"].as_i64().map(|at| at >= last), Some(true), "{result}");
        let (other, result) = restored(&[&folder, "--no-journal"]).await?;
        assert_eq!(result["commits"], 0);
        assert!(users(&other).await?.len() < users_done.len());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_ships_goes_on_shipping() -> Result {
    in_time(async {
        let (mut node, folder) = prepared()?;
        let mut acknowledged = Vec::new();
        for round in 0..5_u64 {
            node.launch().await?;
            until_there_are(&node, 1).await?;
            let (load, tasks) = Load::begin(&node, &format!("r{round}")).await?;
            sleep(Duration::from_millis(700 + 130 * round)).await;
            node.kill().await?;
            load.end(tasks).await?;
            let dones = load.users.lock().clone();
            acknowledged.extend(dones.into_iter().filter(|done| done.acknowledged.is_some()));
        }
        // What was not shipped when it was killed is shipped by the next start.
        node.launch().await?;
        assert_eq!(node.stop().await?, Some(0));
        assert_eq!(listed(&node).await?.len(), 1, "a start is no reason for a full one");
        let (other, _) = restored(&[&folder.display().to_string()]).await?;
        let there = users(&other).await?;
        must_be_of(i64::MAX, &acknowledged, &there);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_said_and_the_node_goes_on() -> Result {
    in_time(async {
        let (mut node, folder) = prepared()?;
        std::fs::remove_dir(&folder)?;
        node.launch().await?;
        let data = node.data();
        let began = Instant::now();
        let health = loop {
            let health = json(&node, &["health"]).await?;
            if health["backups"]["problem"].is_string() {
                break health;
            }
            anyhow::ensure!(began.elapsed() < SOON, "{health}");
            sleep(Duration::from_millis(20)).await;
        };
        let place = folder.display().to_string();
        let problem = health["backups"]["problem"].as_str().expect("a text").to_owned();
        assert!(problem.contains(&place) && problem.contains("No such file"), "{problem}");
        assert!(node.log()?.contains("no backup was made"), "{}", node.log()?);
        assert!(done(&data, &["health"]).await?.contains(&place));
        done(&data, &["user", "add", "ada"]).await?;
        let refused = command(&node, &["backup", "now"]).await?;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains(&place), "{}", said(&refused));

        std::fs::create_dir(&folder)?;
        json(&node, &["backup", "now"]).await?;
        let health = json(&node, &["health"]).await?;
        assert_eq!(health["backups"]["problem"], Value::Null, "{health}");
        assert_eq!(health["backups"]["ok"], true, "{health}");

        // Somebody removes what was shipped: another full one is made.
        let journal = listed(&node).await?[0]["file"].as_str().expect("a file").to_owned();
        done(&data, &["user", "add", "bob"]).await?;
        until_it_reaches(&node, now_ms() - 20_000).await?;
        sleep(Duration::from_millis(1_200)).await;
        std::fs::remove_dir_all(journal.replace(".backup", ".journal"))?;
        done(&data, &["user", "add", "cleo"]).await?;
        until_there_are(&node, 2).await?;
        assert!(node.log()?.contains("can no longer be shipped"), "{}", node.log()?);
        assert_eq!(node.stop().await?, Some(0));
        let (other, _) = restored(&[&place]).await?;
        assert!(users(&other).await?.contains(&"cleo".to_owned()));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_does_not_answer_holds_nobody_up() -> Result {
    in_time(async {
        let (mut node, _) = prepared()?;
        node.launch().await?;
        let data = node.data();
        until_there_are(&node, 1).await?;
        // Behind this one there is nothing yet.
        let made = json(&node, &["backup", "now"]).await?;
        let file = PathBuf::from(made["file"].as_str().expect("a file"));
        // Opening the next file takes for ever, as on a server that is gone.
        let position = store::backup::head(std::fs::File::open(&file)?)?.position;
        let next = position.expect("a place").batch + 1;
        let next = store::backup::journal_beside(&file).join(format!("{next:016x}"));
        let made = tokio::process::Command::new("mkfifo").arg(&next).status().await?;
        assert!(made.success());
        done(&data, &["user", "add", "ada"]).await?;
        sleep(Duration::from_millis(1_500)).await;
        let began = Instant::now();
        for n in 0..5 {
            done(&data, &["user", "add", &format!("u{n}")]).await?;
            json(&node, &["health"]).await?;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let began = Instant::now();
        while !done(&data, &["health"]).await?.contains("has not answered for") {
            anyhow::ensure!(began.elapsed() < SOON, "health does not say so");
            sleep(Duration::from_millis(200)).await;
        }
        let began = Instant::now();
        assert_eq!(node.stop().await?, Some(0));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert!(node.log()?.contains("does not answer"), "{}", node.log()?);
        // It is there again: the next start ships the rest.
        std::fs::remove_file(next)?;
        node.launch().await?;
        assert_eq!(node.stop().await?, Some(0));
        let (other, _) = restored(&[&file.display().to_string()]).await?;
        assert_eq!(users(&other).await?.len(), 7, "six, and the admin");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn old_ones_go_and_damage_is_said() -> Result {
    in_time(async {
        let (mut node, folder) = prepared()?;
        node.set_variable("ENTENTE_BACKUP_KEEP", "2");
        node.launch().await?;
        let data = node.data();
        until_there_are(&node, 1).await?;
        assert!(node.log()?.contains("without the secret and the keys"), "{}", node.log()?);
        // One of an operator is not the node's to remove.
        let own = folder.join("entente-20200101T000000Z.backup").display().to_string();
        done(&data, &["backup", &own, "--without-secrets"]).await?;
        for n in 0..3 {
            done(&data, &["user", "add", &format!("u{n}")]).await?;
            json(&node, &["backup", "now"]).await?;
        }
        let before = now_ms();
        sleep(Duration::from_millis(5)).await;
        for n in 0..20 {
            done(&data, &["user", "add", &format!("v{n}")]).await?;
        }
        assert_eq!(node.stop().await?, Some(0));
        let found = listed(&node).await?;
        let scheduled: Vec<bool> = found.iter().map(|one| one["scheduled"] == true).collect();
        assert_eq!(scheduled, [false, true, true], "{found:?}");
        let left_out = found[1]["left_out"].to_string();
        assert!(left_out.contains("the secret"), "{left_out}");
        let mut names: Vec<String> = std::fs::read_dir(&folder)?
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| !name.starts_with("entente-2020"));
        assert_eq!(names.len(), 6, "a file, its journal and its check of each: {names:?}");

        // The journal is damaged in the middle.
        let newest = found[2]["file"].as_str().expect("a file").to_owned();
        let journal = PathBuf::from(newest.replace(".backup", ".journal"));
        let shipped = std::fs::read_dir(&journal)?.next().expect("a file")?.path();
        let mut bytes = std::fs::read(&shipped)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&shipped, bytes)?;
        let other = Process::builder(PROGRAM).prepare()?;
        let words = ["restore", "--without-secrets", &newest];
        let output = command(&other, &words).await?;
        let text = String::from_utf8(output.stdout.clone())?;
        assert_eq!(output.status.code(), Some(3), "{text}{}", said(&output));
        assert!(text.contains("damaged or not complete"), "{text}");
        assert!(text.contains(&shipped.display().to_string()), "{text}");
        json(&other, &["verify"]).await?;
        let there = users(&other).await?;
        assert!(there.contains(&"v0".to_owned()) && !there.contains(&"v19".to_owned()));
        // A moment before it, the time of the full one, or none of the journal.
        let (other, result) = restored(&[&newest, "--until", &before.to_string()]).await?;
        assert_eq!(result["whole"], true);
        assert!(!users(&other).await?.contains(&"v0".to_owned()));
        restored(&[&newest, "--no-journal"]).await?;
        let other = Process::builder(PROGRAM).prepare()?;
        for (until, why) in [("5", "which is later"), ("yesterday", "it is no time")] {
            let refused = command(&other, &["restore", "--until", until, &newest]).await?;
            assert!(said(&refused).contains(why), "{}", said(&refused));
            assert!(!other.data().exists(), "something was made");
        }
        // Behind one of an operator nothing was shipped.
        let words = ["restore", "--without-secrets", "--until", &before.to_string(), &own];
        let output = command(&other, &words).await?;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(String::from_utf8(output.stdout)?.contains("There is no journal"));
        // What a node leaves that is killed in the middle of a backup.
        std::fs::write(folder.join("entente-20260101T000000Z.backup.partial"), "half")?;
        std::fs::create_dir(folder.join("entente-20260101T000000Z.journal"))?;
        std::fs::create_dir(folder.join(".entente-trial-x"))?;
        // The next start sees it, and makes a new one.
        node.launch().await?;
        until_there_are_newer(&node, &newest).await?;
        assert_eq!(node.stop().await?, Some(0));
        for left in ["entente-20260101T000000Z.backup.partial", "entente-20260101T000000Z.journal"]
        {
            assert!(!folder.join(left).exists(), "{left}");
        }
        assert!(!folder.join(".entente-trial-x").exists());
        let refused = run(&data, &["backup", "now"]).await?;
        assert!(said(&refused).contains("no node serves"), "{}", said(&refused));
        let refused = run(&data, &["backup", "list"]).await?;
        assert!(said(&refused).contains("Name a folder"), "{}", said(&refused));
        Ok(())
    })
    .await
}

/// Waits until there is a backup newer than `file`.
async fn until_there_are_newer(node: &Process, file: &str) -> Result {
    let began = Instant::now();
    while listed(node).await?.last().is_none_or(|one| one["file"] == file) {
        anyhow::ensure!(began.elapsed() < SOON, "{}", node.log()?);
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
