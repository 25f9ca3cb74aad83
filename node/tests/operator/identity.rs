//! A node goes on under the keys and the domain under which others know it, or not at all.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use testnet::{Process, Result};

use super::{PROGRAM, said};

const DOMAIN: &str = "alpha.example";

async fn run(node: &Process, words: &[&str]) -> Result<Output> {
    Ok(node.command(words[0]).args(&words[1..]).output().await?)
}

async fn peer_id(node: &Process) -> Result<String> {
    let shown = run(node, &["federation", "key", "show"]).await?;
    assert!(shown.status.success(), "{}", said(&shown));
    Ok(String::from_utf8(shown.stdout)?.trim().to_owned())
}

/// Must be refused, with words that say what is wrong.
async fn refused(node: &Process, words: &[&str], code: i32, why: &[&str]) -> Result {
    let refused = run(node, words).await?;
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(code), "{words:?}: {text}");
    for why in why {
        assert!(text.contains(why), "{words:?}: no {why:?} in {text}");
    }
    Ok(())
}

fn serving<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let words = ["serve", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"];
    let words = words.into_iter().chain(["--federation", "127.0.0.1:0"]);
    words.chain(more.iter().copied()).collect()
}

/// A node that has federated, and stopped.
async fn federated() -> Result<Process> {
    let node = Process::builder(PROGRAM).argument("--federation").argument("127.0.0.1:0");
    let mut node = node.variable("ENTENTE_FEDERATION_DOMAIN", DOMAIN).start().await?;
    assert_eq!(node.stop().await?, Some(0));
    Ok(node)
}

fn file(node: &Process) -> PathBuf {
    node.data().join("identity.json")
}

fn set_aside(node: &Process) -> Vec<String> {
    let names = std::fs::read_dir(node.data()).expect("a folder");
    let names = names.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains("set-aside")).collect()
}

fn write(file: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::write(file, bytes).expect("writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_missing_damaged_or_of_another_node_are_refused() -> Result {
    let mut node = federated().await?;
    let file = file(&node);
    let text = file.display().to_string();
    let own = std::fs::read(&file)?;
    let id = peer_id(&node).await?;
    let another = federated().await?;
    let mut damaged = own.clone();
    damaged.truncate(own.len() / 2);
    let cases: [(Option<&[u8]>, &str); 4] = [
        (None, "is missing"),
        (Some(&damaged), "is damaged"),
        (Some(b"\xff\xfe"), "is damaged"),
        (Some(&std::fs::read(another.data().join("identity.json"))?), &id),
    ];
    for (bytes, why) in cases {
        std::fs::remove_file(&file)?;
        if let Some(bytes) = bytes {
            write(&file, bytes);
        }
        let way_out = [why, &text, "from a copy or a backup", "--new-identity"];
        for words in [&serving(&[])[..], &["user", "add", "eve"], &["federation", "peers"]] {
            refused(&node, words, 3, &way_out).await?;
        }
        if let Some(bytes) = bytes {
            assert_eq!(std::fs::read(&file)?, bytes, "it was changed");
        } else {
            refused(&node, &["federation", "key", "show"], 3, &way_out).await?;
            refused(&node, &["federation", "key", "rotate"], 3, &way_out).await?;
            assert!(!file.exists(), "keys were made");
        }
        // It is what `verify` names, too.
        let verified = run(&node, &["verify"]).await?;
        assert_eq!(verified.status.code(), Some(3));
        let named = String::from_utf8(verified.stdout)?;
        assert!(named.contains(why) && named.contains(&text), "{named}");
        // What neither says nor changes anything in its name works.
        let backup = node.scratch().join(format!("{why}.backup"));
        let words = ["backup", "--force", "--without-secrets", backup.to_str().expect("a text")];
        assert!(run(&node, &words).await?.status.success());
        write(&file, &own);
    }
    // A copy from before a rotation lacks the key that others have learned.
    assert!(run(&node, &["federation", "key", "rotate"]).await?.status.success());
    node.launch().await?;
    assert_eq!(node.stop().await?, Some(0));
    let rotated = std::fs::read(&file)?;
    write(&file, &own);
    refused(&node, &serving(&[]), 3, &["does not hold the key", "is not the one"]).await?;
    write(&file, &rotated);
    node.launch().await?;
    assert_eq!(node.stop().await?, Some(0));
    assert!(set_aside(&node).is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_missing_while_the_node_serves_are_not_made_anew() -> Result {
    let mut node = federated().await?;
    node.launch().await?;
    let file = file(&node);
    let own = std::fs::read(&file)?;
    std::fs::remove_file(&file)?;
    for word in ["show", "rotate"] {
        refused(&node, &["federation", "key", word], 3, &["is missing", DOMAIN]).await?;
    }
    assert!(!file.exists());
    write(&file, own);
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_are_made_when_asked_for_once() -> Result {
    let mut node = federated().await?;
    let id = peer_id(&node).await?;
    refused(&node, &serving(&["--new-identity"]), 1, &["is in order", "leave the option out"])
        .await?;
    for damaged in [false, true] {
        let (file, before) = (file(&node), peer_id(&node).await?);
        std::fs::remove_file(&file)?;
        if damaged {
            write(&file, "{");
        }
        let renewed = Process::builder(PROGRAM).argument("--federation").argument("127.0.0.1:0");
        let mut renewed = renewed.prepare()?;
        std::fs::rename(node.data(), renewed.data())?;
        refused(&renewed, &serving(&[]), 3, &["--new-identity"]).await?;
        // The domain need not be given: the database knows it.
        let mut serve = renewed.command("serve");
        serve
            .args(&serving(&["--new-identity", "--json"])[1..])
            .stdout(std::process::Stdio::piped());
        let mut child = serve.spawn()?;
        let out = child.stdout.take().expect("piped");
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
        let ready: Value = serde_json::from_str(&lines.next_line().await?.expect("it says so"))?;
        assert_eq!(ready["federation"]["domain"], DOMAIN);
        child.kill().await?;
        assert_ne!(peer_id(&renewed).await?, before);
        assert_eq!(set_aside(&renewed).len(), usize::from(damaged));
        renewed.launch().await?;
        assert_eq!(renewed.stop().await?, Some(0));
        std::fs::rename(renewed.data(), node.data())?;
    }
    assert_ne!(peer_id(&node).await?, id);
    node.launch().await?;
    assert_eq!(node.stop().await?, Some(0));
    let never = Process::builder(PROGRAM).prepare()?;
    refused(&never, &serving(&["--new-identity"]), 1, &["has not federated"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_domain_is_refused_however_it_is_given() -> Result {
    let node = federated().await?;
    let (file, config) = (file(&node), node.data().join("config.toml"));
    let own = std::fs::read_to_string(&file)?;
    let example = std::fs::read_to_string(&config)?;
    let other = "beta.example";
    // The file knows the domain, and without it the database does.
    for (identity, code) in [(Some(own.clone()), 2), (None, 1)] {
        std::fs::remove_file(&file)?;
        if let Some(identity) = identity {
            write(&file, identity);
        }
        for new in [&[][..], &["--new-identity"]] {
            let words: Vec<&str> =
                ["--domain", other].into_iter().chain(new.iter().copied()).collect();
            refused(&node, &serving(&words), code, &[DOMAIN, "cannot"]).await?;
        }
        let mut command = node.command("user");
        command.args(["list"]).env("ENTENTE_FEDERATION_DOMAIN", other);
        let output = command.output().await?;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let toml = format!("[federation]\ndomain = \"{other}\"\n");
        write(&config, toml);
        let mut command = node.command("serve");
        command.args(&serving(&[])[1..]).env_remove("ENTENTE_FEDERATION_DOMAIN");
        let output = command.output().await?;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(DOMAIN), "{}", said(&output));
        write(&config, &example);
        write(&file, &own);
    }
    // Keys that say they are of another domain make it no other node.
    write(&file, own.replace(DOMAIN, other));
    let mut command = node.command("serve");
    command.args(&serving(&[])[1..]).env_remove("ENTENTE_FEDERATION_DOMAIN");
    let output = command.output().await?;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("it is of beta.example"), "{}", said(&output));
    Ok(())
}
