//! Folders in which nothing is damaged, however they came to be: nobody may say otherwise.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::ensure;

use super::built::{Built, fresh, node_at, until_sent};
use super::round::health;
use crate::random::Random;
use crate::{Process, Result};

/// A folder as the program before journals left it, as an archive: `tar`, compressed with gzip.
const BEFORE_JOURNALS: &[u8] = include_bytes!("before-journals.tar.gz");
/// Longest time under load before a kill, and of a start.
const LOAD_MS: usize = 800;
const START_MS: usize = 150;

/// A folder that was tried.
pub(super) struct Tried {
    pub(super) kind: &'static str,
    /// What was said, although nothing is damaged.
    pub(super) alarm: Option<String>,
    pub(super) node: Process,
}

/// Unpacks the folder of before there were journals.
pub(crate) fn unpack(to: &Path) -> Result {
    std::fs::create_dir_all(to)?;
    let archive = to.with_extension("tar.gz");
    std::fs::write(&archive, BEFORE_JOURNALS)?;
    let mut tar = Command::new("tar");
    let status = tar.arg("-xzf").arg(archive).arg("-C").arg(to).stdin(Stdio::null()).status()?;
    ensure!(status.success(), "tar: {status}");
    Ok(())
}

/// Makes a folder and looks whether anybody is alarmed.
pub(super) async fn play(
    server: &Path,
    built: &Built,
    number: usize,
    random: &mut Random,
) -> Result<Tried> {
    let (kind, mut node) = match number % 5 {
        0 => ("fresh", fresh(server)?),
        1 => ("crashed", node_at(server, &built.states[random.below(built.states.len())].folder)?),
        2 => ("restored", restored(server, built).await?),
        3 => ("of before journals", node_at(server, &built.before_journals)?),
        _ => ("healed", healed(server, built, random).await?),
    };
    let alarm = go_through(&mut node, built, kind, random).await.err();
    Ok(Tried { kind, alarm: alarm.map(|error| format!("{error:#}")), node })
}

/// A node whose data is older than what the other node knows, once that has given back what it lacks.
async fn healed(server: &Path, built: &Built, random: &mut Random) -> Result<Process> {
    let mut node = if random.once_in(2) {
        restored(server, built).await?
    } else {
        node_at(server, &built.states[0].older)?
    };
    let mut other = built.other(server)?;
    other.launch().await?;
    node.launch().await?;
    // Until everything is given back, nothing is sent.
    built.people.write_elsewhere(&node).await?;
    until_sent(&node).await?;
    node.stop().await?;
    other.stop().await?;
    Ok(node)
}

async fn restored(server: &Path, built: &Built) -> Result<Process> {
    let node = fresh(server)?;
    let restored = node.command("restore").arg(&built.backup).output().await?;
    let error = String::from_utf8_lossy(&restored.stderr);
    ensure!(restored.status.success(), "restore: {error}");
    Ok(node)
}

/// Looks at it, lets it start, work and crash, and looks again.
async fn go_through(node: &mut Process, built: &Built, kind: &str, random: &mut Random) -> Result {
    if kind != "fresh" {
        verify(node).await?;
    }
    if random.once_in(2) {
        node.spawn()?;
        tokio::time::sleep(Duration::from_millis(random.below(START_MS) as u64)).await;
        node.kill().await?;
        // A start that was cut off at once has made nothing.
        if node.data().join("store").exists() {
            if kind == "fresh" { verify_or_nothing(node).await? } else { verify(node).await? }
        }
    }
    node.launch().await?;
    let knows_them = matches!(kind, "crashed" | "restored" | "healed");
    let load = knows_them.then(|| built.people.load(node, random.next()));
    tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
    ensure!(health(node).await? == 0, "health: something is damaged");
    if random.once_in(3) {
        node.stop().await?;
    } else {
        node.kill().await?;
    }
    drop(load);
    verify(node).await?;
    node.launch().await?;
    verify(node).await?;
    node.stop().await?;
    verify(node).await
}

async fn verify(node: &Process) -> Result {
    let (status, text) = verified(node).await?;
    ensure!(status.success(), "verify, {status}: {text}");
    Ok(())
}

/// As [`verify`], after a first start that was cut off: it may have stored nothing, and that is said.
async fn verify_or_nothing(node: &Process) -> Result {
    let (status, text) = verified(node).await?;
    let nothing = status.code() == Some(1) && text.contains("nothing was stored here yet");
    ensure!(status.success() || nothing, "verify, {status}: {text}");
    Ok(())
}

async fn verified(node: &Process) -> Result<(ExitStatus, String)> {
    let verified = node.command("verify").output().await?;
    let (out, error) = (&verified.stdout, &verified.stderr);
    let text = [String::from_utf8_lossy(out), String::from_utf8_lossy(error)].concat();
    Ok((verified.status, text))
}
