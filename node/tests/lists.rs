//! What commands list: never more than asked for, with what is left out, to whoever listens.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::process::{Output, Stdio};

use serde_json::Value;
use testnet::{Process, Result};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

async fn run(node: &Process, words: &[&str]) -> Result<Output> {
    Ok(node.command(words[0]).args(&words[1..]).output().await?)
}

/// Commands that list or print something, with more than one line of it.
const TALKATIVE: [&[&str]; 12] = [
    &["user", "list"],
    &["user", "list", "--all"],
    &["user", "list", "--json"],
    &["config", "example"],
    &["config", "check"],
    &["federation", "policy"],
    &["federation", "peers"],
    &["federation", "queue", "beta.example"],
    &["federation", "quarantine", "list"],
    &["federation", "local-only", "list"],
    &["federation", "proof", "list"],
    &["verify"],
];

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_what_they_leave_out() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    let admin = node.admin().await?;
    let names: Vec<String> = (0..2_024).map(|n| format!("u{n:04}")).collect();
    for some in names.chunks(500) {
        admin.register(&some.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    let total = 2_024 + before(&node, &names).await?;
    for serving in [true, false] {
        if !serving {
            node.stop().await?;
        }
        let listed = run(&node, &["user", "list"]).await?;
        assert_eq!(String::from_utf8(listed.stdout)?.lines().count(), 100);
        let hint = String::from_utf8(listed.stderr)?;
        let more = format!("{},{:03}", (total - 100) / 1_000, (total - 100) % 1_000);
        assert!(hint.contains(&format!("… and {more} more")), "{hint}");
        assert!(hint.contains("--all") && hint.contains("--skip 100"), "{hint}");

        let all = run(&node, &["user", "list", "--all"]).await?;
        assert_eq!(String::from_utf8(all.stdout)?.lines().count(), total);
        assert_eq!(String::from_utf8(all.stderr)?, "");

        let words = ["user", "list", "--skip", "2000", "--limit", "10", "--json"];
        let part: Value = serde_json::from_slice(&run(&node, &words).await?.stdout)?;
        assert_eq!(part["users"].as_array().map(Vec::len), Some(10));
        assert_eq!((&part["total"], &part["more"]), (&total.into(), &(total - 2_010).into()));
        let words = ["user", "list", "--all", "--json"];
        let all: Value = serde_json::from_slice(&run(&node, &words).await?.stdout)?;
        assert_eq!(all["users"].as_array().map(Vec::len), Some(total));
    }
    // Nothing is nothing, not an empty line.
    let none = run(&node, &["federation", "quarantine", "list"]).await?;
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0));
    Ok(())
}

/// Accounts that were there before those with these names.
async fn before(node: &Process, names: &[String]) -> Result<usize> {
    let listed = run(node, &["user", "list", "--all", "--json"]).await?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let users = listed["users"].as_array().expect("users");
    let own = |user: &Value| names.iter().any(|name| user["userID"] == *name);
    Ok(users.iter().filter(|user| !own(user)).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_minds_a_reader_that_has_heard_enough() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    for words in TALKATIVE {
        // The reader is gone before the first line.
        let mut child = node
            .command(words[0])
            .args(&words[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        let ended = child.wait_with_output().await?;
        let said = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("roken"), "{words:?}: {said}");
    }
    for words in [&["user", "lost"][..], &["--help"], &["user", "add", "imAdmin"]] {
        let mut command = node.command(words[0]);
        let command = command.args(&words[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        drop((child.stdout.take(), child.stderr.take()));
        let code = child.wait().await?.code();
        assert!(matches!(code, Some(0..=2)), "{words:?}: {code:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_on_when_nobody_listens_to_it() -> Result {
    let mut node = Process::builder(PROGRAM).prepare()?;
    let (api, ws) = (testnet::free_port()?, testnet::free_port()?);
    let (api, ws) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{ws}"));
    for closed in [false, true] {
        let mut command = node.command("serve");
        command.args(["--api", &api, "--ws", &ws]).env("ENTENTE_LOG_LEVEL", "trace");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
        if closed {
            drop(child.stderr.take());
        } else {
            let mut errors = child.stderr.take().expect("piped");
            tokio::spawn(async move { tokio::io::copy(&mut errors, &mut tokio::io::sink()).await });
        }
        assert!(out.next_line().await?.is_some_and(|line| line.contains("ready")));
        drop(out);
        let added = run(&node, &["user", "add", if closed { "ada" } else { "bob" }]).await?;
        assert!(added.status.success(), "{added:?}");
        assert!(child.try_wait()?.is_none());
        child.kill().await?;
    }
    node.set_variable("ENTENTE_LOG_LEVEL", "error");
    Ok(())
}
