//! A store that is opened in a process of its own, and every entry of which is compared.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound::Unbounded;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::engine::{DiskEngine, Engine as _};
use store::{Direction, Options, Store, StoreError};
use tokio::process::Command;

use crate::Result;

const CACHE_BYTES: u64 = 16 << 20;
/// Differences that are told.
const MOST_WRONG: usize = 5;

/// What is known of each entry: a hash of its value, by its key in hex.
pub(crate) type Facts = BTreeMap<String, String>;

/// What came of opening a store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Opened {
    /// It says that it is damaged.
    Refused(String),
    /// It could not be opened for another reason.
    Failed(String),
    /// It is open.
    Serves {
        /// Values that cannot be read and say so.
        damaged: usize,
        /// Those of them that the operator hears of.
        told: usize,
        /// What is different, and nobody says so.
        wrong: Vec<String>,
    },
    /// What is in it.
    Holds(Facts),
}

/// Opens a store and prints what came of it.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub(super) fn print(folder: &Path, facts: Option<&Path>) -> Result<bool> {
    let facts = match facts {
        Some(file) => Some(serde_json::from_slice(&fs::read(file)?)?),
        None => None,
    };
    let opened = open(folder, facts.as_ref()).unwrap_or_else(|error| match error {
        StoreError::DamagedFile { .. } | StoreError::Damaged { .. } | StoreError::Engine(_) => {
            Opened::Refused(error.to_string())
        }
        other => Opened::Failed(other.to_string()),
    });
    println!("{}", serde_json::to_string(&opened)?);
    Ok(true)
}

/// Opens a store and compares every entry with what must be there.
pub(crate) fn open(
    folder: &Path,
    facts: Option<&Facts>,
) -> std::result::Result<Opened, StoreError> {
    let engine = Arc::new(DiskEngine::open(folder, CACHE_BYTES)?);
    let (mut found, mut damaged) = (Facts::new(), Vec::new());
    for pair in engine.scan((Unbounded, Unbounded), Direction::Ascending) {
        match pair {
            Ok((key, value)) => {
                let hash = hex::encode(&Sha256::digest(value)[..8]);
                found.insert(hex::encode(key), hash);
            }
            Err(StoreError::DamagedValue { key, .. }) => damaged.push(hex::encode(key)),
            Err(other) => return Err(other),
        }
    }
    let store = Store::open(Box::new(Arc::clone(&engine)), Options::default())?;
    let Some(facts) = facts else {
        store.close();
        return Ok(Opened::Holds(found));
    };
    store.read_all(&mut |_| true)?;
    let told = store.damaged();
    store.close();
    let damaged_there = damaged.iter().filter(|key| facts.contains_key(*key));
    let mut wrong = Vec::new();
    for (key, value) in facts {
        match found.get(key) {
            Some(now) if now == value => {}
            Some(_) => wrong.push(format!("{key} is another value")),
            None if damaged.contains(key) => {}
            None => wrong.push(format!("{key} is gone")),
        }
    }
    let new = found.keys().chain(&damaged).filter(|key| !facts.contains_key(*key));
    wrong.extend(new.map(|key| format!("{key} is there again")));
    wrong.truncate(MOST_WRONG);
    Ok(Opened::Serves { damaged: damaged_there.count(), told, wrong })
}

/// Opens a store, in another process.
pub(super) async fn at(folder: &Path, facts: Option<&Path>) -> Result<Opened> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("damage-look").arg(folder).args(facts).kill_on_drop(true);
    let output = command.output().await?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Ok(Opened::Failed(format!("{}: {error}", output.status)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
