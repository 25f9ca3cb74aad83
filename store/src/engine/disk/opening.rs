//! What each start does about what it finds.
//!
//! | checkpoint | what is checked before anything is changed |
//! | --- | --- |
//! | none, and nothing else | nothing: the folder is new |
//! | none, but an index | that it is one of the time before journals; else it is damage |
//! | unreadable | it is damage |
//! | new | nothing: nothing was ever stored; what is there is begun again |
//! | adopting | nothing: an index of that time is taken over, once more if need be |
//! | closed | every file of the index, by checksum; the journal is not needed |
//! | open | a copy of the index, entry by entry; the journal behind it |
//!
//! And always: that the value log has the segments it must have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Stage};
use super::copy::{self, IndexCopy};
use super::file::{damaged, fails, sync_folder};
use super::journal::{self, Found, Journal};
use super::listing;
use super::overlay::Overlay;
use crate::engine::index::{Index, folder as index_folder};
use crate::{StoreError, fault};

pub(super) fn checkpoint_path(folder: &Path) -> PathBuf {
    folder.join("checkpoint")
}

pub(super) fn journal_folder(folder: &Path) -> PathBuf {
    folder.join("journal")
}

fn values_folder(folder: &Path) -> PathBuf {
    folder.join("values")
}

/// A folder that is ready to be used.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) overlay: Overlay,
    /// `None`: it is only read.
    pub(super) journal: Option<Journal>,
    pub(super) id: u64,
}

/// What a folder holds.
enum State {
    /// Nothing, whatever files are there.
    New,
    /// An index without a journal.
    Adopting,
    /// Data.
    Kept(Box<Kept>),
}

/// What was found of data.
struct Kept {
    checkpoint: Checkpoint,
    /// What the journal has behind it.
    found: Found,
    /// The copy of the index, if one was looked into.
    copied: Option<Copied>,
}

/// A copy of an index, open, and where it is.
type Copied = (Index, IndexCopy);

/// Opens a folder to change it; it is locked.
pub(super) fn to_write(folder: &Path, cache_bytes: u64) -> Result<Opened, StoreError> {
    copy::drop_all(folder);
    match look(folder, Some(folder), CHECK_CACHE_BYTES)? {
        State::New => begin(folder, cache_bytes, Stage::New),
        State::Adopting => {
            let name = folder.display();
            tracing::info!(folder = %name, "taking over data that was stored without a journal");
            begin(folder, cache_bytes, Stage::Adopting)
        }
        State::Kept(kept) => {
            let Kept { checkpoint, found, copied } = *kept;
            drop(copied);
            go_on(folder, cache_bytes, checkpoint, &found)
        }
    }
}

/// Opens a folder to read it, by a copy of its index.
pub(super) fn to_read(folder: &Path, cache_bytes: u64) -> Result<(Opened, IndexCopy), StoreError> {
    let overlay = Overlay::default();
    let (id, copied) = match look(folder, None, cache_bytes)? {
        State::New => return Err(StoreError::NothingStored),
        State::Adopting => (0, None),
        State::Kept(kept) => {
            replay(&overlay, &kept.found);
            (kept.checkpoint.journal, kept.copied)
        }
    };
    let (index, copy) = match copied {
        Some(copied) => copied,
        None => open_copy(folder, None, cache_bytes)?,
    };
    Ok((Opened { index, overlay, journal: None, id }, copy))
}

/// Opens what can be opened of a copy of the index, whatever its checkpoint says; the copy is made in
/// `copies`, or where the system keeps what is needed for a moment.
pub(super) fn open_copy(
    folder: &Path,
    copies: Option<&Path>,
    cache_bytes: u64,
) -> Result<Copied, StoreError> {
    let copy = IndexCopy::make(folder, copies)?;
    let index = open_index(&copy.path(), &values_folder(folder), cache_bytes, folder)?;
    Ok((index, copy))
}

/// Looks at everything and changes nothing; copies are made in `copies`, if not elsewhere.
fn look(folder: &Path, copies: Option<&Path>, cache_bytes: u64) -> Result<State, StoreError> {
    let Some(checkpoint) = Checkpoint::read(&checkpoint_path(folder))? else {
        return without_checkpoint(folder, copies, cache_bytes);
    };
    let copied = match checkpoint.stage() {
        stage @ (Stage::New | Stage::Adopting) => {
            // What is there of a journal has nothing, or there were checkpoints since.
            let journal = journal_folder(folder);
            let is_empty = journal::is_empty(&journal, checkpoint.journal);
            return match (is_empty.map_err(fails(&journal))?, stage) {
                (false, _) => Err(damaged(&checkpoint_path(folder), "it is not the newest")),
                (true, Stage::New) => Ok(State::New),
                (true, _) => Ok(State::Adopting),
            };
        }
        Stage::Closed => {
            listing::check(folder, &checkpoint.files)?;
            // An older file beside an index that nothing was written to since.
            if journal::is_ahead(&journal_folder(folder), checkpoint.batch) {
                return Err(damaged(&checkpoint_path(folder), "it is not the newest"));
            }
            None
        }
        Stage::Open => {
            let copied = open_copy(folder, copies, cache_bytes)?;
            check_index(folder, &copied.0, &checkpoint)?;
            Some(copied)
        }
    };
    check_values(&values_folder(folder), &checkpoint)?;
    let journal = journal_folder(folder);
    let found = match &copied {
        None => Found::nothing(&journal, checkpoint.batch)?,
        Some((index, _)) => {
            let batch = index.sum().unwrap_or_default().batch;
            journal::read(&journal, checkpoint.journal, batch)?
        }
    };
    Ok(State::Kept(Box::new(Kept { checkpoint, found, copied })))
}

/// A folder without a checkpoint: a new one, or one of the time before them.
fn without_checkpoint(
    folder: &Path,
    copies: Option<&Path>,
    cache_bytes: u64,
) -> Result<State, StoreError> {
    let there = |name: &str| folder.join(name).exists();
    if !there("db") {
        let first = ["values", "journal"].into_iter().find(|name| there(name));
        return match first {
            None => Ok(State::New),
            Some(_) => Err(damaged(&folder.join("db"), "it is missing")),
        };
    }
    let (index, _copy) = open_copy(folder, copies, cache_bytes)?;
    match index.sum() {
        None => Ok(State::Adopting),
        Some(_) => Err(damaged(&checkpoint_path(folder), "it is missing")),
    }
}

/// Page cache while a copy is checked.
const CHECK_CACHE_BYTES: u64 = 8 << 20;

/// Checks an index, entry by entry.
fn check_index(folder: &Path, index: &Index, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    if fault::is_on("unchecked-opening") {
        return Ok(());
    }
    let db = folder.join("db");
    let sum = index.sum().ok_or_else(|| damaged(&db, "it is empty"))?;
    index.check().map_err(|_| damaged(&db, "its entries are not those that were written"))?;
    if sum.step < checkpoint.step || sum.batch < checkpoint.batch {
        let reason = format!("it ends with step {}, and had {}", sum.step, checkpoint.step);
        return Err(damaged(&db, reason));
    }
    Ok(())
}

/// Opens an index; what it says when it cannot is said of the original.
fn open_index(
    path: &Path,
    values: &Path,
    cache_bytes: u64,
    folder: &Path,
) -> Result<Index, StoreError> {
    Index::open(path, values, cache_bytes).map_err(|error| match error {
        StoreError::Engine(reason) => damaged(&folder.join("db"), reason),
        other => other,
    })
}

/// Looks whether the value log has what it must have.
fn check_values(folder: &Path, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    for segment in &checkpoint.values {
        let path = folder.join(format!("{:08x}", segment.segment));
        match fs::metadata(&path) {
            Ok(found) if found.len() >= segment.bytes => {}
            Ok(found) => {
                let reason = format!("it has {} bytes, and had {}", found.len(), segment.bytes);
                return Err(damaged(&path, reason));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged(&path, "it is missing"));
            }
            Err(source) => return Err(StoreError::Folder { folder: path, source }),
        }
    }
    Ok(())
}

/// Makes what is not there: everything, or all but an index that has no journal, whose entries count as
/// before the first batch. What an earlier try has left that was cut short is removed.
fn begin(folder: &Path, cache_bytes: u64, stage: Stage) -> Result<Opened, StoreError> {
    let checkpoint = Checkpoint { stage: stage.into(), journal: random(), ..Checkpoint::default() };
    checkpoint.write(&checkpoint_path(folder))?;
    for entry in fs::read_dir(folder).map_err(fails(folder))? {
        let path = entry.map_err(fails(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "journal" || (name == "values" && stage == Stage::New) {
            fs::remove_dir_all(&path).map_err(fails(&path))?;
        } else if index_folder::is_file(name) && stage == Stage::New {
            fs::remove_file(&path).map_err(fails(&path))?;
        }
    }
    go_on(folder, cache_bytes, checkpoint, &Found::nothing(&journal_folder(folder), 0)?)
}

/// Opens what was looked at.
fn go_on(
    folder: &Path,
    cache_bytes: u64,
    checkpoint: Checkpoint,
    found: &Found,
) -> Result<Opened, StoreError> {
    let id = checkpoint.journal;
    let stage = checkpoint.stage();
    let path = checkpoint_path(folder);
    if stage != Stage::Open {
        let journal = journal_folder(folder);
        Journal::prepare(&journal, checkpoint.batch).map_err(fails(&journal))?;
        sync_folder(folder).map_err(fails(folder))?;
    }
    if stage == Stage::Closed {
        // From here on the files of the index change.
        let open = Checkpoint { stage: Stage::Open.into(), files: Vec::new(), ..checkpoint };
        open.write(&path)?;
    }
    let index = open_index(folder, &values_folder(folder), cache_bytes, folder)?;
    index.begin()?;
    let journal = Journal::open(&journal_folder(folder), id, found)?;
    if matches!(stage, Stage::New | Stage::Adopting) {
        Checkpoint::of(&index, id, Stage::Open)?.write(&path)?;
    }
    if stage == Stage::Adopting {
        tracing::info!("the data was taken over");
    }
    let overlay = Overlay::default();
    replay(&overlay, found);
    Ok(Opened { index, overlay, journal: Some(journal), id })
}

/// Lays what the index lacks over it.
fn replay(overlay: &Overlay, found: &Found) {
    for record in &found.records {
        overlay.put(&record.batch);
    }
}

/// A number that no other journal has.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}
