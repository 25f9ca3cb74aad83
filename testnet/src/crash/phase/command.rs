//! Commands that make a database.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::process::Command;

use super::{Aim, Kills, TRIES, Watched, prepare, with_backups};
use crate::damage::folder;
use crate::moments::said;
use crate::moments::state::State;
use crate::moments::told::ALL;
use crate::random::Random;
use crate::{Process, Result};

/// Time under load.
const LOAD: Duration = Duration::from_millis(1_500);
/// Exit code of a program that finds something damaged or not complete.
const DAMAGED: Option<i32> = Some(3);

/// Kills a command at a random moment; whether it was making `half`.
async fn kill(
    command: &mut Command,
    half: &Path,
    aim: &mut Aim,
    random: &mut Random,
) -> Result<bool> {
    let (began, mut child) =
        (Instant::now(), command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    while !half.exists() && child.try_wait()?.is_none() && began.elapsed() < super::BEGINS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    aim.wait(random).await;
    let running = child.try_wait()?.is_none();
    child.kill().await?;
    let hit = running && half.exists();
    aim.learn(hit);
    Ok(hit)
}

/// Starts a node on what was made and looks at everything.
async fn check(mut node: Process, watched: &Watched) -> Result {
    crate::crash::verify(&node).await?;
    node.launch().await?;
    let state = State::seen(&node, &watched.work.told.conversations()).await?;
    let wrong = [watched.work.told.wrong(&state, ALL), watched.before.not_as_in(&state)].concat();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    ensure!(node.stop().await? == Some(0), "the node did not stop");
    Ok(())
}

pub(super) async fn restores(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let (node, backups) = with_backups(server).await?;
    let mut watched = Watched::start(node).await?;
    let load = watched.work.start(random);
    tokio::time::sleep(LOAD).await;
    said(&watched.node, "backup", &["now"]).await?;
    tokio::time::sleep(LOAD).await;
    load.end().await?;
    watched.before = State::seen(&watched.node, &watched.work.told.conversations()).await?;
    watched.node.stop().await?;
    let place = backups.path().display().to_string();
    let words = ["--without-secrets", place.as_str()];
    let mut aim = Aim::new();
    for _ in 0..rounds {
        for _ in 0..TRIES {
            let node = prepare(server, &[])?;
            let half = node.data().join("restoring");
            let mut restore = node.command("restore");
            let hit =
                kill(restore.args(words), &half.join("store.restoring"), &mut aim, random).await?;
            kills.add(hit);
            // Once the database has its place, all is done but to clear away.
            let store = node.data().join("store");
            if half.exists() && !store.exists() {
                for command in ["verify", "serve"] {
                    let refused = node.command(command).output().await?;
                    let text = String::from_utf8_lossy(&refused.stderr);
                    ensure!(refused.status.code() == DAMAGED, "{command} says: {text}");
                }
            }
            if !store.exists() {
                said(&node, "restore", &words).await?;
                ensure!(!half.exists(), "half of it is still there");
            }
            check(node, &watched).await?;
            if hit {
                break;
            }
        }
        progress();
    }
    Ok(())
}

pub(super) async fn repairs(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let mut node = prepare(server, &[("ENTENTE_STORE_CHECKPOINT", "256 KiB")])?;
    node.launch().await?;
    let mut watched = Watched::start(node).await?;
    let load = watched.work.start(random);
    tokio::time::sleep(2 * LOAD).await;
    watched.node.kill().await?;
    load.end().await?;
    watched.come_back().await?;
    watched.node.kill().await?;
    // The index and the journal have it all.
    let checkpoint = watched.node.data().join("store").join("checkpoint");
    let mut bytes = std::fs::read(&checkpoint)?;
    if let Some(byte) = bytes.last_mut() {
        *byte ^= 1;
    }
    std::fs::write(&checkpoint, bytes)?;
    let mut aim = Aim::new();
    for _ in 0..rounds {
        for _ in 0..TRIES {
            let node = watched.node.copied(&[])?;
            let (store, made) = (node.data().join("store"), node.data().join("store.repaired"));
            let damaged = folder::prints(&store)?;
            let mut repair = node.command("repair");
            let half = made.with_extension("repaired.half");
            let hit = kill(&mut repair, &half, &mut aim, random).await?;
            kills.add(hit);
            ensure!(folder::prints(&store)? == damaged, "the damaged database was changed");
            if !made.exists() {
                let repaired = said(&node, "repair", &[]).await?;
                ensure!(repaired["whole"] == true, "{repaired}");
            }
            ensure!(folder::prints(&store)? == damaged, "the damaged database was changed");
            ensure!(!half.exists(), "half of it is still there");
            std::fs::rename(&store, store.with_extension("damaged"))?;
            std::fs::rename(&made, &store)?;
            check(node, &watched).await?;
            if hit {
                break;
            }
        }
        progress();
    }
    Ok(())
}
