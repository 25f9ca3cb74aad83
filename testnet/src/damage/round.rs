//! One damage, and what comes of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::built::{Built, State, node_at};
use super::folder;
use super::harm::{self, Harm};
use super::look::{self, Opened};
use super::sight::Sight;
use crate::random::Random;
use crate::{Process, Result};

/// Exit code when data is damaged.
const DAMAGED: i32 = 3;
/// What a node says whose secret is another one; nobody can log in with the one before.
const ANOTHER_SECRET: &str = "the secret is not the one with which this node has served before";
/// Time in which a node must have found what it has lost.
const FINDS: Duration = Duration::from_secs(30);

/// What became of a damage.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing is served and nothing was changed.
    Refused,
    /// What is lost says so, or is refused; the rest is served.
    Told,
    /// Everything is there; `entente verify` names the damage.
    Named,
    /// Everything is there.
    Nothing,
    /// Something is wrong and nobody says so.
    Lost(String),
}

/// A round.
pub(super) struct Round {
    pub(super) state: &'static str,
    pub(super) harm: String,
    kind: &'static str,
    real: bool,
    pub(super) outcome: Outcome,
    /// As it was damaged, before anybody opened it.
    pub(super) folder: PathBuf,
    _node: Process,
}

/// Damages a copy of one of the folders and looks what comes of it.
pub(super) async fn play(
    server: &Path,
    built: &Built,
    random: &mut Random,
    real: bool,
) -> Result<Round> {
    let state = &built.states[random.below(built.states.len())];
    let mut node = node_at(server, &state.folder)?;
    let harm = harm::damage(&node.data(), &state.older, random)?;
    // What is not in the store only the node itself looks at.
    let real = real || !harm.file.starts_with("store");
    let damaged = node.scratch().join("damaged");
    folder::copy(&node.data(), &damaged)?;
    let outcome = outcome(built, state, &mut node, &harm, real).await?;
    let Harm { file, what, kind } = harm;
    let harm = format!("{} {what}", file.display());
    Ok(Round { state: state.name, harm, kind, real, outcome, folder: damaged, _node: node })
}

async fn outcome(
    built: &Built,
    state: &State,
    node: &mut Process,
    harm: &Harm,
    real: bool,
) -> Result<Outcome> {
    let before = folder::prints(&node.data())?;
    let verified = node.command("verify").output().await?;
    let code = verified.status.code();
    let lost = |why: String| Ok(Outcome::Lost(why));
    if let Some(file) = folder::changed(&before, &folder::prints(&node.data())?) {
        return lost(format!("verify has changed {}", file.display()));
    }
    let error = String::from_utf8_lossy(&verified.stderr);
    if !matches!(code, Some(0 | DAMAGED)) && !is_said(&error, harm) {
        return lost(format!("verify ended with {}: {error}", verified.status));
    }
    let found = code != Some(0);
    let outcome = if real {
        serve(built, state, node, harm).await?
    } else {
        open(state, &node.data().join("store")).await?
    };
    let after = folder::prints(&node.data())?;
    Ok(match (outcome, found) {
        (Outcome::Refused, false) => Outcome::Lost("it refuses, and verify finds nothing".into()),
        (Outcome::Refused, true) => match folder::changed(&before, &after) {
            None => Outcome::Refused,
            // Which keys a node has is known only when its store is open.
            Some(_) if harm.is_of_keys() && is_whole(state, node).await? => Outcome::Refused,
            Some(file) => Outcome::Lost(format!("it refuses, and has changed {}", file.display())),
        },
        (Outcome::Told, false) => {
            Outcome::Lost("it has lost something; verify finds nothing".into())
        }
        (Outcome::Nothing, true) => Outcome::Named,
        (outcome, _) => outcome,
    })
}

/// Whether an error names what was damaged, so that somebody can put it right.
fn is_said(error: &str, harm: &Harm) -> bool {
    let name = harm.file.file_name().unwrap_or_default().to_string_lossy();
    let others = ["config.toml", "secret", "identity.json"];
    others.iter().any(|other| error.contains(other)) || error.contains(name.as_ref())
}

/// Whether all that was stored is there.
async fn is_whole(state: &State, node: &Process) -> Result<bool> {
    Ok(matches!(open(state, &node.data().join("store")).await?, Outcome::Nothing))
}

/// Opens the store and compares every entry.
async fn open(state: &State, store: &Path) -> Result<Outcome> {
    Ok(match look::at(store, Some(&state.facts)).await? {
        Opened::Refused(_) => Outcome::Refused,
        Opened::Failed(why) => Outcome::Lost(format!("it does not open: {why}")),
        Opened::Holds(_) => Outcome::Lost("nothing was compared".into()),
        Opened::Serves { wrong, .. } if !wrong.is_empty() => Outcome::Lost(wrong.join("; ")),
        Opened::Serves { damaged, told, .. } if told < damaged => {
            Outcome::Lost(format!("{damaged} values are damaged, and {told} of them told"))
        }
        Opened::Serves { damaged: 0, .. } => Outcome::Nothing,
        Opened::Serves { .. } => Outcome::Told,
    })
}

/// Starts the node and compares what clients see.
async fn serve(built: &Built, state: &State, node: &mut Process, harm: &Harm) -> Result<Outcome> {
    if let Err(error) = node.launch().await {
        let log = node.log()?;
        return Ok(match node.exit_code()? {
            Some(DAMAGED) => Outcome::Refused,
            Some(_) if is_said(&log, harm) => Outcome::Refused,
            code => Outcome::Lost(format!("{error}, {code:?}: {log}")),
        });
    }
    let seen = match Sight::of(node, &built.people).await {
        Ok(seen) => seen,
        Err(_) if node.log()?.contains(ANOTHER_SECRET) => return Ok(Outcome::Told),
        Err(error) => return Ok(Outcome::Lost(format!("clients cannot look: {error:#}"))),
    };
    let mut differences = Sight::differences(&state.sight, &seen);
    let mut told = 0;
    let began = Instant::now();
    while told == 0 && !differences.is_none() && began.elapsed() < FINDS {
        told = health(node).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if told > 0 {
        // Uploaded files are not given out any more once they were found damaged.
        let seen = Sight::of(node, &built.people).await?;
        differences = Sight::differences(&state.sight, &seen);
    }
    node.stop().await?;
    Ok(if !differences.wrong.is_empty() {
        Outcome::Lost(differences.wrong.join("; "))
    } else if differences.missing > 0 && told == 0 {
        Outcome::Lost(format!("{} things are missing, and nobody is told", differences.missing))
    } else if differences.missing > 0 {
        Outcome::Told
    } else {
        Outcome::Nothing
    })
}

/// What `entente health` says is damaged.
pub(super) async fn health(node: &Process) -> Result<u64> {
    let output = node.command("health").arg("--json").output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("health: {text}"))?;
    let of = |name: &str| answer[name].as_u64().unwrap_or_default();
    Ok(of("damaged") + of("damaged_files"))
}

/// What all rounds came to.
#[derive(Default)]
pub(super) struct Totals {
    rounds: usize,
    real: usize,
    kinds: BTreeMap<&'static str, [usize; 4]>,
    pub(super) lost: usize,
}

impl Totals {
    pub(super) fn add(&mut self, round: &Round) {
        self.rounds += 1;
        self.real += usize::from(round.real);
        let at = match round.outcome {
            Outcome::Refused => 0,
            Outcome::Told => 1,
            Outcome::Named => 2,
            Outcome::Nothing => 3,
            Outcome::Lost(_) => {
                self.lost += 1;
                return;
            }
        };
        self.kinds.entry(round.kind).or_default()[at] += 1;
    }

    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    pub(super) fn print(&self) {
        println!("damages                    {}", self.rounds);
        println!("  with a real start        {}", self.real);
        println!("  kind             refused    told   named  nothing");
        for (kind, [refused, told, named, nothing]) in &self.kinds {
            println!("  {kind:15} {refused:8}{told:8}{named:8}{nothing:9}");
        }
        println!("  lost without a word      {}", self.lost);
    }
}
