//! What an operator does to a node, with the program and with its folder.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod folder;
mod identity;
mod lock;
mod page;
mod restore;
mod scheduled;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use testnet::Result;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).arg("--data").arg(data).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(data: &Path, words: &[&str]) -> Result<Output> {
    Ok(command(data, words).output().await?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn done(data: &Path, words: &[&str]) -> Result<String> {
    let output = run(data, words).await?;
    anyhow::ensure!(output.status.success(), "{words:?}: {}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

async fn serving(data: &Path) -> Result<(Child, Value)> {
    let words = ["serve", "--json", "--api", "127.0.0.1:0", "--ws", "127.0.0.1:0"];
    let mut child = command(data, &words).stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().expect("piped");
    let line = BufReader::new(out).lines().next_line().await?;
    Ok((child, serde_json::from_str(&line.expect("it says where it is"))?))
}

async fn stop(mut child: Child) -> Result {
    let id = child.id().expect("it runs").to_string();
    Command::new("kill").args(["-TERM", &id]).status().await?;
    assert_eq!(child.wait().await?.code(), Some(0));
    Ok(())
}

/// Every file and folder below `path`, and itself.
fn all(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a folder") {
            all(&entry.expect("an entry").path(), found);
        }
    }
}

fn must_be_private(path: &Path) {
    let mut found = Vec::new();
    all(path, &mut found);
    for path in found {
        let mode = std::fs::symlink_metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
    }
}
