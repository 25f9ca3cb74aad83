//! Damage to the files of a data folder: the node says so and changes nothing, or serves the rest.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use testnet::{Client, Process, Result, Wire, upload};

/// Exit code when data is damaged.
const DAMAGED: Option<i32> = Some(3);
/// What stands where a damaged message was.
const SAYS_SO: &str = "This message was damaged on the server";
/// Messages in the chat.
const MESSAGES: usize = 40;

/// A node that has worked, stopped.
struct Folder {
    node: Process,
    alice: Client,
    /// A link to what she has uploaded.
    link: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Folder {
    async fn new() -> Result<Self> {
        let builder = Process::builder(env!("CARGO_BIN_EXE_entente")).keep_log();
        let mut node = builder.start().await?;
        let admin = node.admin().await?;
        let [alice, _] = admin.users(["alice", "bob"]).await?;
        let mut socket = alice.connect(Wire::GOB_GZIP).await?;
        for n in 0..MESSAGES {
            socket.send_text("bob", &format!("message {n} of many")).await?;
        }
        let link = upload::upload(&alice, "alice/notes", "application/pdf", &[7; 10_000]).await?;
        node.stop().await?;
        let files = read(&node.data());
        Ok(Self { node, alice, link, files })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.node.data().join(file)
    }

    /// Puts everything back.
    fn mend(&self) -> Result {
        fs::remove_dir_all(self.node.data())?;
        for (file, content) in &self.files {
            fs::create_dir_all(file.parent().expect("a folder"))?;
            fs::write(file, content)?;
        }
        Ok(())
    }

    fn change(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result {
        let mut bytes = fs::read(self.path(file))?;
        change(&mut bytes);
        Ok(fs::write(self.path(file), bytes)?)
    }

    async fn run(&self, words: &[&str]) -> Result<Output> {
        Ok(self.node.command(words[0]).args(&words[1..]).output().await?)
    }

    /// Everybody refuses the folder, names the file, and changes nothing.
    async fn must_be_refused(&mut self, file: &str) -> Result {
        let before = read(&self.node.data());
        let backup = self.node.scratch().join("backup");
        let backup = backup.to_str().expect("a text");
        for words in [&["verify"][..], &["backup", backup], &["user", "list"]] {
            let output = self.run(words).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.code() == DAMAGED, "{words:?}: {}: {said}", output.status);
            check_words(&said, file)?;
        }
        ensure!(self.node.launch().await.is_err(), "it serves");
        ensure!(self.node.exit_code()? == DAMAGED, "it ends otherwise");
        check_words(&self.node.log()?, file)?;
        ensure!(before == read(&self.node.data()), "something was changed");
        Ok(())
    }

    async fn history(&self) -> Result<Vec<Seen>> {
        let mut socket = self.alice().connect(Wire::GOB_GZIP).await?;
        let messages = socket.history("bob").await?.into_iter();
        let seen = messages.map(|message| {
            let text = String::from_utf8_lossy(&message.content).into_owned();
            Seen { seq: message.seq, damaged: text.contains(SAYS_SO), text }
        });
        Ok(seen.collect())
    }

    /// What the link of the upload leads to.
    async fn follow(&self) -> Result<(u16, Vec<u8>)> {
        let rest = self.node.rest();
        let mut at = self.link.clone();
        loop {
            let answer = rest.http().get(&at).send().await?;
            match answer.headers().get("location") {
                Some(to) => at = to.to_str()?.to_owned(),
                None => return Ok((answer.status().as_u16(), answer.bytes().await?.to_vec())),
            }
        }
    }

    fn alice(&self) -> Client {
        Client { rest: self.node.rest(), ..self.alice.clone() }
    }

    async fn health(&self) -> Result<Value> {
        let output = self.run(&["health", "--json"]).await?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until the node knows what it has lost.
    async fn until_told(&self, what: &str) -> Result {
        let began = Instant::now();
        while self.health().await?[what] != 1 {
            ensure!(began.elapsed() < Duration::from_secs(20), "{}", self.health().await?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// A message, as far as these tests look at it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    seq: i64,
    text: String,
    damaged: bool,
}

fn check_words(said: &str, file: &str) -> Result {
    ensure!(said.contains(file), "{file} is not named: {said}");
    ensure!(said.contains("damaged") && said.contains("Nothing was changed"), "{said}");
    ensure!(!said.contains("backtrace") && !said.contains("panicked"), "{said}");
    Ok(())
}

/// Every file below a folder.
fn read(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(read(&path));
        } else if path.is_file() {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_of_the_database_is_noticed() -> Result {
    let mut folder = Folder::new().await?;
    folder.change("store/db", |bytes| bytes[1_662] ^= 1)?;
    folder.must_be_refused("store/db").await?;
    // Nothing was written over it: with the bit as it was, all is there.
    folder.change("store/db", |bytes| bytes[1_662] ^= 1)?;
    folder.node.launch().await?;
    assert_eq!(folder.history().await?.len(), MESSAGES);
    folder.node.stop().await?;
    assert_eq!(folder.run(&["verify"]).await?.status.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_bytes_of_the_database_are_noticed() -> Result {
    let folder = Folder::new().await?;
    let length = folder.files[&folder.path("store/db")].len();
    for n in 0..40 {
        let (at, run) = (n * (length - 512) / 40, 1 + n * 13 % 512);
        folder
            .change("store/db", |bytes| bytes[at..at + run].iter_mut().for_each(|b| *b ^= 0x5a))?;
        let before = read(&folder.node.data());
        let verified = folder.run(&["verify"]).await?;
        assert_eq!(verified.status.code(), DAMAGED, "{run} bytes at {at}");
        assert!(before == read(&folder.node.data()), "verify has changed something");
        folder.mend()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_or_cut_is_noticed() -> Result {
    let mut folder = Folder::new().await?;
    fs::remove_file(folder.path("store/db"))?;
    folder.must_be_refused("store/db").await?;
    folder.mend()?;
    folder.change("store/db", |bytes| bytes.truncate(bytes.len() / 2))?;
    folder.must_be_refused("store/db").await
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_settings_of_the_database_are_told_in_plain_words() -> Result {
    let mut folder = Folder::new().await?;
    folder.change("store/conf", |bytes| bytes[15] ^= 4)?;
    folder.must_be_refused("store/conf").await?;
    folder.mend()?;
    folder.change("store/conf", Vec::clear)?;
    folder.must_be_refused("store/conf").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_does_not_take_the_others_with_it() -> Result {
    let mut folder = Folder::new().await?;
    let wanted = b"message 17 of many";
    folder.change("store/values/00000001", |bytes| {
        let at = bytes.windows(wanted.len()).position(|window| window == wanted);
        bytes[at.expect("it is there")] ^= 1;
    })?;
    let verified = folder.run(&["verify"]).await?;
    assert_eq!(verified.status.code(), DAMAGED);
    let named = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(named.contains("MESSAGES") && named.contains("not as they were written"), "{named}");

    folder.node.launch().await?;
    let seen = folder.history().await?;
    assert_eq!(seen.len(), MESSAGES);
    for (n, message) in seen.iter().enumerate() {
        assert_eq!(message.damaged, n == 17, "{message:?}");
        assert_eq!(message.seq, n as i64 + 1);
        assert_eq!(message.text.contains(&format!("message {n} of many")), n != 17, "{message:?}");
    }
    folder.until_told("damaged").await?;
    assert!(folder.node.log()?.contains("a stored value is damaged"));
    // The node that serves names it, too.
    assert_eq!(folder.run(&["verify"]).await?.status.code(), DAMAGED);

    let alice = folder.alice();
    let mut socket = alice.connect(Wire::GOB_GZIP).await?;
    socket.send_text("bob", "and on").await?;
    assert_eq!(folder.history().await?.len(), MESSAGES + 1);
    let mut body = json!({ "userID": "alice", "conversationID": "si_alice_bob", "seqs": [18] });
    alice.call("/msg/delete_msgs", &body).await?;
    let left = folder.history().await?;
    assert!(left.iter().all(|message| !message.damaged), "{left:?}");
    // For everybody: then nobody lacks it any more.
    assert_eq!(folder.health().await?["damaged"], 1);
    body["deleteSyncOpt"] = json!({ "isSyncSelf": true, "isSyncOther": true });
    alice.call("/msg/delete_msgs", &body).await?;
    assert_eq!(folder.health().await?["damaged"], 0);
    folder.node.stop().await?;
    assert_eq!(folder.run(&["verify"]).await?.status.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_upload_is_not_given_out() -> Result {
    let mut folder = Folder::new().await?;
    let uploads = |path: &&PathBuf| path.starts_with(folder.path("objects/content"));
    let file = folder.files.keys().find(uploads).expect("it is there").clone();
    type Damage = fn(&mut Vec<u8>);
    let damages: [Damage; 2] = [|bytes| bytes[5_000] ^= 1, |bytes| bytes.truncate(9_000)];
    for damage in damages {
        let mut content = fs::read(&file)?;
        damage(&mut content);
        fs::write(&file, &content)?;
        let verified = folder.run(&["verify"]).await?;
        assert_eq!(verified.status.code(), DAMAGED);
        let named = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(named.contains("OBJECTS") && named.contains("alice/notes"), "{named}");

        folder.node.launch().await?;
        folder.until_told("damaged_files").await?;
        let (status, _) = folder.follow().await?;
        assert_eq!(status, 500);
        assert!(folder.node.log()?.contains("an uploaded file is damaged"));
        // Whoever has it uploads it again, and it is there again.
        let alice = folder.alice();
        upload::upload(&alice, "alice/notes", "application/pdf", &[7; 10_000]).await?;
        assert_eq!(folder.follow().await?, (200, vec![7; 10_000]));
        assert_eq!(folder.health().await?["damaged_files"], 0);
        folder.node.stop().await?;
        assert_eq!(folder.run(&["verify"]).await?.status.code(), Some(0));
        folder.mend()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_missing_may_be_put_back() -> Result {
    let mut folder = Folder::new().await?;
    let uploads = |path: &&PathBuf| path.starts_with(folder.path("objects/content"));
    let file = folder.files.keys().find(uploads).expect("it is there").clone();
    fs::remove_file(&file)?;
    assert_eq!(folder.run(&["verify"]).await?.status.code(), DAMAGED);
    folder.node.launch().await?;
    assert_eq!(folder.follow().await?.0, 404);
    folder.until_told("damaged_files").await?;
    fs::write(&file, &folder.files[&file])?;
    assert_eq!(folder.follow().await?, (200, vec![7; 10_000]));
    assert_eq!(folder.health().await?["damaged_files"], 0);
    folder.node.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_is_told() -> Result {
    let builder = Process::builder(env!("CARGO_BIN_EXE_entente")).own_secret().keep_log();
    let mut node = builder.start().await?;
    node.stop().await?;
    let file = node.data().join("secret");
    let secret = fs::read(&file)?;
    let mut other = secret.clone();
    other[9] ^= 1;
    for content in [Some(other), None] {
        match content {
            Some(content) => fs::write(&file, content)?,
            None => fs::remove_file(&file)?,
        }
        let said = node.log()?.len();
        node.launch().await?;
        node.stop().await?;
        let log = node.log()?.split_off(said);
        assert!(log.contains("the secret is not the one"), "{log}");
        fs::write(&file, &secret)?;
        let verified = node.command("verify").output().await?;
        assert_eq!(verified.status.code(), DAMAGED);
        node.launch().await?;
        node.stop().await?;
        let verified = node.command("verify").output().await?;
        assert_eq!(verified.status.code(), Some(0));
    }
    Ok(())
}
