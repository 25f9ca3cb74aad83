//! The first start on a folder that was written before there were journals.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use super::{Aim, BEGINS, Kills, LOG, Marks, TRIES};
use crate::damage::folder;
use crate::damage::look::{self, Facts, Opened};
use crate::damage::sound::unpack;
use crate::random::Random;
use crate::{Process, Result, free_port};

const UPGRADE: Marks =
    Marks { begins: "taking over data that was stored without a journal", ends: "was taken over" };
/// Key of the table in which is what the node says of itself, signed anew at each start.
const OWN_DOCUMENT: &str = "74";
/// Domain of the folder.
const DOMAIN: &str = "node0.example";

pub(super) async fn rounds(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let work = tempfile::tempdir()?;
    let old = work.path().join("old");
    unpack(&old)?;
    let facts = start(server, &old, 0, &mut Aim::new(), random, kills).await?;
    ensure!(!facts.is_empty(), "there is nothing in the folder");
    let mut aim = Aim::new();
    for _ in 0..rounds {
        let before = kills.hits;
        for _ in 0..TRIES {
            let found = start(server, &old, 1 + random.below(2), &mut aim, random, kills).await?;
            let wrong = differences(&facts, &found);
            ensure!(wrong.is_empty(), "after the kill: {wrong:#?}");
            if kills.hits > before {
                break;
            }
        }
        progress();
    }
    Ok(())
}

/// Starts a node on a copy of the folder, which is killed `times` times; what it holds in the end.
async fn start(
    server: &Path,
    old: &Path,
    times: usize,
    aim: &mut Aim,
    random: &mut Random,
    kills: &mut Kills,
) -> Result<Facts> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let words = ["--domain", DOMAIN, "--federation", &listen];
    let builder =
        Process::builder(server).own_secret().keep_log().variable("ENTENTE_LOG_LEVEL", LOG);
    let mut node = words.iter().fold(builder, |builder, word| builder.argument(word)).prepare()?;
    folder::copy(old, &node.data())?;
    for _ in 0..times {
        node.spawn()?;
        let began = std::time::Instant::now();
        while !node.log()?.contains(UPGRADE.begins) && began.elapsed() < BEGINS {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        aim.wait(random).await;
        node.kill().await?;
        let hit = UPGRADE.is_under_way(&node.log()?);
        aim.learn(hit);
        kills.add(hit);
        node.forget_log()?;
        crate::crash::verify(&node).await?;
        if !hit {
            break;
        }
    }
    node.launch().await?;
    ensure!(node.stop().await? == Some(0), "the node did not stop");
    crate::crash::verify(&node).await?;
    let store: PathBuf = node.data().join("store");
    match tokio::task::spawn_blocking(move || look::open(&store, None)).await?? {
        Opened::Holds(facts) => Ok(facts),
        other => bail!("it does not open: {other:?}"),
    }
}

fn differences(known: &Facts, found: &Facts) -> Vec<String> {
    let facts = known.iter().filter(|(key, _)| !key.starts_with(OWN_DOCUMENT));
    let gone = facts.filter(|(key, value)| found.get(*key) != Some(value));
    let gone = gone.map(|(key, value)| format!("{key} was {value}, is {:?}", found.get(key)));
    let new = found.keys().filter(|key| !known.contains_key(*key));
    gone.chain(new.map(|key| format!("{key} is new"))).take(8).collect()
}
