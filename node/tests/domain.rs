//! The data folder knows the domain under which it has federated.
#![allow(clippy::expect_used, reason = "a test may fail")]

use serde_json::Value;
use testnet::{Process, Result};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

/// Starts a node, lets it say where it is, and stops it.
async fn announced(node: &Process, words: &[&str]) -> Result<Value> {
    let mut command = node.command("serve");
    command.args(["--json", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"]);
    command.args(["--federation", "127.0.0.1:0"]).args(words);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    let out = child.stdout.take().expect("piped");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(out));
    let line = lines.next_line().await?.expect("it says where it is");
    let id = child.id().expect("it runs").to_string();
    tokio::process::Command::new("kill").args(["-TERM", &id]).status().await?;
    assert_eq!(child.wait().await?.code(), Some(0));
    Ok(serde_json::from_str(&line)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_goes_on_under_its_domain() -> Result {
    let node = Process::builder(PROGRAM).prepare()?;
    // Keys alone are of no domain yet.
    assert!(node.command("federation").args(["key", "show"]).output().await?.status.success());
    assert_eq!(announced(&node, &[]).await?["federation"], Value::Null);
    let first = announced(&node, &["--domain", "alpha.example"]).await?;
    assert_eq!(first["federation"]["domain"], "alpha.example");
    let again = announced(&node, &[]).await?;
    assert_eq!(again["federation"]["domain"], "alpha.example", "it was left out");
    announced(&node, &["--domain", "alpha.example"]).await?;

    // Another one is refused, wherever it is given and by every command that reads it.
    for (words, variable) in [
        (&["serve", "--domain", "beta.example"][..], None),
        (&["serve"], Some("beta.example")),
        (&["config", "check"], Some("beta.example")),
        (&["federation", "peers"], Some("beta.example")),
        (&["user", "list"], Some("beta.example")),
    ] {
        let mut command = node.command(words[0]);
        command.args(&words[1..]);
        if let Some(domain) = variable {
            command.env("ENTENTE_FEDERATION_DOMAIN", domain);
        }
        let refused = command.output().await?;
        let said = String::from_utf8(refused.stderr)?;
        assert_eq!(refused.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains("federation.domain = \"beta.example\""), "{words:?}: {said}");
        assert!(said.contains("federated as alpha.example"), "{words:?}: {said}");
    }
    // A rotated key speaks for the same domain.
    assert!(node.command("federation").args(["key", "rotate"]).output().await?.status.success());
    let rotated = announced(&node, &[]).await?;
    assert_eq!(rotated["federation"]["domain"], "alpha.example");
    let checked = node.command("config").args(["check", "--json"]).output().await?;
    let checked: Value = serde_json::from_slice(&checked.stdout)?;
    assert_eq!(checked["federation"]["domain"], "alpha.example");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_binds_the_folder_to_nothing() -> Result {
    let node = Process::builder(PROGRAM).prepare()?;
    let taken = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let mut command = node.command("serve");
    command.args(["--api", "127.0.0.1:0", "--ws", "127.0.0.1:0", "--domain", "typo.example"]);
    command.args(["--federation", &taken.local_addr()?.to_string()]);
    let refused = command.output().await?;
    let said = String::from_utf8(refused.stderr)?;
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("in use"), "{said}");
    let started = announced(&node, &["--domain", "right.example"]).await?;
    assert_eq!(started["federation"]["domain"], "right.example");
    Ok(())
}
