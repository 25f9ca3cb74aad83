//! The backups in a folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::backup::{self, journal_beside};
use store::engine::Position;

use crate::backup::{Note, SUFFIX};
use crate::data_folder::write_file;

/// What came of restoring a backup on trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Check {
    /// When, Unix milliseconds.
    pub(crate) at_ms: i64,
    /// What is wrong; nothing: all is in order.
    pub(crate) problem: Option<String>,
    /// Up to when it came, Unix milliseconds.
    pub(crate) reached_ms: i64,
}

impl Check {
    /// Whether nothing is wrong.
    pub(crate) fn is_in_order(&self) -> bool {
        self.problem.is_none()
    }
}

/// A backup in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) file: PathBuf,
    /// Of the file and the journal behind it.
    bytes: u64,
    pub(crate) note: Note,
    pub(crate) position: Option<Position>,
    /// When the last commit was written that is in the journal behind it, Unix milliseconds; `None`:
    /// there is no journal.
    reaches_ms: Option<i64>,
    pub(crate) check: Option<Check>,
    /// Why nothing more is known of it.
    unreadable: Option<String>,
}

/// A time as people and programs read it.
pub(crate) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// Where the result of the last check of a backup is kept.
fn check_file(file: &Path) -> PathBuf {
    file.with_extension("check")
}

/// Keeps the result of a check.
pub(super) fn note_check(file: &Path, check: &Check) -> anyhow::Result<()> {
    write_file(&check_file(file), &serde_json::to_string(check)?)
}

impl Listed {
    /// Up to when it reaches with its journal, Unix milliseconds.
    pub(crate) fn reaches_ms(&self) -> i64 {
        self.reaches_ms.unwrap_or_default().max(self.note.made_ms)
    }

    /// Whether nothing is known of it but that it cannot be read.
    pub(crate) fn is_readable(&self) -> bool {
        self.unreadable.is_none()
    }

    /// Whether it was in order when it was restored on trial; `None`: it was not tried.
    pub(crate) fn is_in_order(&self) -> Option<bool> {
        self.check.as_ref().map(Check::is_in_order)
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let checked = self.check.as_ref().map(|check| {
            json!({
                "at": time(check.at_ms),
                "ok": check.is_in_order(),
                "problem": check.problem,
                "reached": time(check.reached_ms),
            })
        });
        json!({
            "file": self.file,
            "bytes": self.bytes,
            "made": self.is_readable().then(|| time(self.note.made_ms)),
            "made_ms": self.is_readable().then_some(self.note.made_ms),
            "reaches": self.is_readable().then(|| time(self.reaches_ms())),
            "reaches_ms": self.is_readable().then(|| self.reaches_ms()),
            "journal": self.reaches_ms.is_some(),
            "scheduled": self.note.scheduled,
            "domain": self.note.domain,
            "left_out": self.note.left_out,
            "checked": checked,
            "problem": self.unreadable,
        })
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        if let Some(why) = &self.unreadable {
            return format!("{name}\t{why}");
        }
        let made = time(self.note.made_ms);
        let mebibytes = self.bytes.div_ceil(1 << 20);
        let reaches = time(self.reaches_ms());
        let checked = match &self.check {
            None => "not checked".to_owned(),
            Some(Check { at_ms, problem: None, .. }) => {
                format!("checked {}: in order", time(*at_ms))
            }
            Some(Check { at_ms, problem: Some(problem), .. }) => {
                format!("checked {}: {problem}", time(*at_ms))
            }
        };
        format!("{name}\tof {made}\t{mebibytes} MiB\treaches until {reaches}\t{checked}")
    }

    fn read(file: PathBuf) -> io::Result<Self> {
        let journal = journal_beside(&file);
        let reaches_ms = if journal.is_dir() { backup::reaches_ms(&journal)? } else { None };
        let bytes = fs::metadata(&file)?.len() + size(&journal)?;
        let head = backup::head(File::open(&file)?);
        let (mut note, mut position, mut unreadable) = (Note::default(), None, None);
        match head {
            Ok(head) => {
                position = head.position;
                match serde_json::from_slice(&head.note) {
                    Ok(read) => note = read,
                    Err(_) => unreadable = Some("it does not say of what it is".to_owned()),
                }
            }
            Err(error) => unreadable = Some(error.to_string()),
        }
        let check = fs::read(check_file(&file)).ok();
        let check = check.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Self { file, bytes, note, position, reaches_ms, check, unreadable })
    }
}

/// Bytes of what is in a folder; 0 if there is none.
fn size(folder: &Path) -> io::Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// The backups in a folder, oldest first.
pub(crate) fn of(folder: &Path) -> anyhow::Result<Vec<Listed>> {
    let fails = || format!("cannot read {}", folder.display());
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder).with_context(fails)? {
        let path = entry.with_context(fails)?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX));
        if !named || !path.is_file() {
            continue;
        }
        match Listed::read(path) {
            // Removed in this moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => listed.push(read.with_context(fails)?),
        }
    }
    listed.sort_by(|a, b| (a.note.made_ms, &a.file).cmp(&(b.note.made_ms, &b.file)));
    Ok(listed)
}

/// Removes a backup, its journal and what is known of it.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    // The file first: a journal of which the backup is gone is known to be of no use.
    for path in [file.to_owned(), check_file(file)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    remove_folder(&journal_beside(file))
}

/// Removes a folder, if it is there.
pub(super) fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
