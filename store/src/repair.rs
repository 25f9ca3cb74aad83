//! Making whole data from what can still be read of a damaged folder.
//!
//! The index is the base, if it is a state in which it once was; else a backup, if there is one; else
//! what can be read of the index. Over it goes every batch of the journal that is whole. The damaged
//! folder is only read. What is lost is listed; if anything is, the new data begin a new epoch, as
//! after a restore, for clients and other nodes may know what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use prost::Message as _;

use crate::backup::{self, BackupError, NewEpoch};
use crate::engine::{Batch, Bulk, DiskEngine, Engine, Hole, Salvage};
use crate::record::Meta;
use crate::schema::{self, CONVERSATION_HEADS, MESSAGES, META};
use crate::{Options, Store, StoreError};

/// Seqs of one conversation that are listed.
const MOST_SEQS: usize = 100;

/// Where the new data came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The index and the journal behind it.
    Index,
    /// The journal alone, which was whole.
    Journal,
    /// A backup and the journal.
    Backup,
    /// What could be read of an index that is damaged: rows may be missing or old.
    PartOfIndex,
}

/// Commits of which nothing is left.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LostCommits {
    /// How many.
    pub commits: u64,
    /// Written after this time, Unix milliseconds, where it is known.
    pub after: Option<i64>,
    /// Written before this time, Unix milliseconds, where it is known.
    pub before: Option<i64>,
}

/// Messages of one conversation that the disk has damaged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LostMessages {
    /// Conversation ID; empty if nothing says which it was.
    pub conversation: String,
    /// Their seqs, the first hundred.
    pub seqs: Vec<u64>,
    /// How many in all.
    pub messages: u64,
}

/// What came of a repair.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Repaired {
    /// Where the data came from.
    pub base: Base,
    /// Entries by table.
    pub entries: BTreeMap<&'static str, u64>,
    /// Commits that are missing.
    pub lost_commits: Vec<LostCommits>,
    /// Messages that are damaged; their seqs are kept for placeholders.
    pub lost_messages: Vec<LostMessages>,
    /// Other values that are damaged, by table.
    pub lost_values: BTreeMap<&'static str, u64>,
    /// Whether the journal goes on from the base; else what was done after the backup is lost.
    pub followed: bool,
}

impl Repaired {
    /// Whether everything is there.
    pub fn is_whole(&self) -> bool {
        self.lost_commits.is_empty()
            && self.lost_messages.is_empty()
            && self.lost_values.is_empty()
            && self.base != Base::PartOfIndex
            && self.followed
    }
}

/// Makes new data in `target`, which must not exist, from what is left in `folder`. The new folder
/// appears when it is complete.
///
/// `backup` is used where the index cannot be. `epoch` is for what is made if anything is lost.
/// `progress` hears the number of entries written so far.
pub fn repair(
    folder: &Path,
    backup: Option<&mut dyn Read>,
    target: &Path,
    cache_bytes: u64,
    epoch: NewEpoch,
    mut progress: impl FnMut(u64),
) -> Result<Repaired, BackupError> {
    if fs::symlink_metadata(target).is_ok() {
        return Err(BackupError::NotEmpty(target.to_owned()));
    }
    let salvage = Salvage::of(folder, cache_bytes)?;
    // Half of it would be taken for all.
    backup::complete(target, ".half", |half| {
        make(salvage, backup, half, cache_bytes, epoch, &mut progress)
    })
}

fn make(
    mut salvage: Salvage,
    backup: Option<&mut dyn Read>,
    target: &Path,
    cache_bytes: u64,
    epoch: NewEpoch,
    progress: &mut dyn FnMut(u64),
) -> Result<Repaired, BackupError> {
    let engine = DiskEngine::open(target, cache_bytes)?;
    let mut bulk = Bulk::new(&engine);
    let mut damaged = Vec::new();
    let mut followed = true;
    let base = match backup {
        Some(input) if !salvage.is_sound() => {
            let keep = NewEpoch { salt: epoch.salt, skip: 0 };
            let (read, _) =
                backup::read_with(input, &mut backup::Nothing, None, &engine, keep, |_| {})?;
            followed = salvage.go_on_from(read.position);
            Base::Backup
        }
        _ => match (salvage.index(), salvage.is_sound()) {
            (Some(pairs), sound) => {
                for pair in pairs {
                    match pair {
                        Ok((key, value)) => {
                            bulk.put(key.to_vec(), Some(value))?;
                            progress(bulk.written());
                        }
                        Err(StoreError::DamagedValue { key, .. }) => damaged.push(key),
                        Err(_) if !sound => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                if sound { Base::Index } else { Base::PartOfIndex }
            }
            (None, true) => Base::Journal,
            (None, false) => Base::PartOfIndex,
        },
    };
    bulk.flush()?;
    for changes in salvage.batches() {
        for (key, value) in changes {
            bulk.put(key.clone(), value.clone())?;
        }
        bulk.flush()?;
        progress(bulk.written());
    }
    let holes = salvage.holes();
    let mut repaired = Repaired {
        base,
        entries: BTreeMap::new(),
        lost_commits: holes.into_iter().map(lost_commits).collect(),
        lost_messages: Vec::new(),
        lost_values: BTreeMap::new(),
        followed,
    };
    // What the journal has written over is not lost.
    damaged.retain(|key: &Vec<u8>| !matches!(engine.get(key), Ok(Some(_))));
    note_damaged(&engine, &damaged, &mut repaired)?;
    let no_meta = "nothing is left from which the data could be made; give it a backup";
    let meta = engine.get(&META.raw_key(&0_u8))?;
    let meta = meta.ok_or_else(|| StoreError::Engine(no_meta.to_owned()))?;
    if !repaired.is_whole() || base == Base::Backup {
        let before = Meta::decode(meta).map_err(|error| StoreError::Engine(error.to_string()))?;
        let meta = crate::epoch::next(before, epoch);
        let batch = Batch::from([(META.raw_key(&0_u8), Some(meta.encode_to_vec().into()))]);
        engine.apply(&batch)?;
    }
    engine.sync()?;
    count(&engine, &mut repaired)?;
    // It must be data that a node opens.
    Store::open(Box::new(engine), Options { reserve_bytes: 0, ..Options::default() })?.close();
    Ok(repaired)
}

fn lost_commits(hole: Hole) -> LostCommits {
    let (after, before) = hole.between;
    LostCommits { commits: hole.last - hole.first + 1, after, before }
}

/// Lists damaged values, and leaves a trace of each message: its seq stays taken.
fn note_damaged(
    engine: &DiskEngine,
    damaged: &[Vec<u8>],
    repaired: &mut Repaired,
) -> Result<(), StoreError> {
    if damaged.is_empty() {
        return Ok(());
    }
    let mut names = BTreeMap::new();
    let heads = CONVERSATION_HEADS.prefix();
    for pair in engine.scan(heads, crate::Direction::Ascending) {
        let (key, value) = pair?;
        if let Ok((id, head)) = CONVERSATION_HEADS.decode(&key, value) {
            names.insert(head.number, id);
        }
    }
    let mut traces = Batch::new();
    let mut messages = BTreeMap::<u64, LostMessages>::new();
    for key in damaged {
        let Some(trace) = crate::engine::stand_in(key) else {
            *repaired.lost_values.entry(schema::table_name(key)).or_default() += 1;
            continue;
        };
        let (number, seq) = MESSAGES.decode_key(key)?;
        let conversation = names.get(&number).cloned().unwrap_or_default();
        let lost = messages.entry(number).or_insert_with(|| LostMessages {
            conversation,
            seqs: Vec::new(),
            messages: 0,
        });
        lost.messages += 1;
        if lost.seqs.len() < MOST_SEQS {
            lost.seqs.push(seq);
        }
        traces.insert(key.clone(), Some(trace));
    }
    repaired.lost_messages = messages.into_values().collect();
    engine.apply(&traces)
}

fn count(engine: &DiskEngine, repaired: &mut Repaired) -> Result<(), StoreError> {
    use std::ops::Bound::Unbounded;
    for pair in engine.scan((Unbounded, Unbounded), crate::Direction::Ascending) {
        let (key, _) = pair?;
        *repaired.entries.entry(schema::table_name(&key)).or_default() += 1;
    }
    Ok(())
}
