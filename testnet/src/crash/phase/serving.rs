//! Nodes that serve.

use std::path::Path;

use anyhow::ensure;

use super::{Aim, Kills, Marks, TRIES, Watched, prepare, with_backups};
use crate::moments::said;
use crate::moments::state::State;
use crate::moments::told::{ALL, now_ms};
use crate::random::Random;
use crate::{Process, Result};

const CHECKPOINT: Marks = Marks { begins: "a checkpoint begins", ends: "a checkpoint was taken" };
const SHIPPING: Marks = Marks { begins: "the journal is shipped", ends: "the journal was shipped" };
const FULL: Marks = Marks { begins: "a full backup begins", ends: "a backup was made" };
const TRIAL: Marks =
    Marks { begins: "a backup is restored on trial", ends: "the backup was restored on trial" };
/// What may be lost with the machine, and was not shipped.
const SHIPPED_WITHIN_MS: i64 = 10_000;

pub(super) async fn checkpoints(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let mut node = prepare(server, &[("ENTENTE_STORE_CHECKPOINT", "64 KiB")])?;
    node.launch().await?;
    let mut watched = Watched::start(node).await?;
    let mut aim = Aim::new();
    for _ in 0..rounds {
        for _ in 0..TRIES {
            let load = watched.work.start(random);
            let hit = aim.kill(&mut watched.node, &CHECKPOINT, random).await?;
            load.end().await?;
            kills.add(hit);
            watched.come_back().await?;
            if hit {
                break;
            }
        }
        progress();
    }
    watched.node.stop().await?;
    crate::crash::verify(&watched.node).await
}

pub(super) async fn shipping(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    with_kinds(server, &[&SHIPPING], rounds, random, kills, progress).await
}

pub(super) async fn backups(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    with_kinds(server, &[&FULL, &TRIAL], rounds, random, kills, progress).await
}

/// Kills while something of `kinds` is under way, in turn.
async fn with_kinds(
    server: &Path,
    kinds: &[&Marks],
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let (node, folder) = with_backups(server).await?;
    let mut watched = Watched::start(node).await?;
    // There is one that knows everybody.
    said(&watched.node, "backup", &["now"]).await?;
    let mut aims: Vec<Aim> = kinds.iter().map(|_| Aim::new()).collect();
    for round in 0..rounds {
        let turn = round % kinds.len();
        let (Some(marks), Some(aim)) = (kinds.get(turn), aims.get_mut(turn)) else { continue };
        for _ in 0..TRIES {
            let load = watched.work.start(random);
            let asked = (!std::ptr::eq(*marks, &SHIPPING)).then(|| {
                // Ends when the node does.
                watched.node.command("backup").arg("now").output()
            });
            let asked = asked.map(tokio::spawn);
            let hit = aim.kill(&mut watched.node, marks, random).await?;
            let killed_ms = now_ms();
            load.end().await?;
            if let Some(asked) = asked {
                asked.await??;
            }
            kills.add(hit);
            let told = &watched.work.told;
            let state = restored(server, folder.path(), &told.conversations()).await?;
            let wrong = told.wrong(&state, (killed_ms - SHIPPED_WITHIN_MS, killed_ms));
            ensure!(wrong.is_empty(), "restored after the kill: {wrong:#?}");
            watched.come_back().await?;
            let wrong = state.not_as_in(&watched.before);
            ensure!(wrong.is_empty(), "restored after the kill: {wrong:#?}");
            if hit {
                break;
            }
        }
        progress();
    }
    let code = watched.node.stop().await?;
    ensure!(code == Some(0), "the node ended with {code:?}: {}", watched.node.log()?);
    let all = watched.work.told.conversations();
    let state = restored(server, folder.path(), &all).await?;
    let wrong = [watched.work.told.wrong(&state, ALL), watched.before.not_as_in(&state)].concat();
    ensure!(wrong.is_empty(), "restored in the end: {wrong:#?}");
    Ok(())
}

/// What comes back of a folder of backups, and of these conversations.
async fn restored(server: &Path, folder: &Path, conversations: &[String]) -> Result<State> {
    let node = Process::builder(server).variable("ENTENTE_LOG_LEVEL", "error").prepare()?;
    let folder = folder.display().to_string();
    said(&node, "restore", &["--without-secrets", &folder]).await?;
    said(&node, "verify", &[]).await?;
    let data = node.data();
    let mut state = tokio::task::spawn_blocking(move || State::in_store(&data)).await??;
    drop(node);
    state.conversations.retain(|conversation, _| conversations.contains(conversation));
    Ok(state)
}
