//! `restore`.
//!
//! Everything goes into a folder of its own in the data folder first. Once the backup was read to its
//! end and all of it is in order, files and keys get their place, and the database last: with that
//! rename the restore has happened. Before it, whatever ends the program leaves a folder that
//! commands refuse and the next restore clears away.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use federation::identity::Identity;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use store::backup::{self, BackupError, Behind, End, NewEpoch, Reached, Take, journal_beside};

use super::backup::STANDARD;
use super::passphrase::{self, Which};
use crate::backup::Note;
use crate::backups::list;
use crate::cli::{Data, RestoreOptions};
use crate::config::Checks;
use crate::damage;
use crate::data_folder::{DataFolder, RESTORE_LOCK, write_file};
use crate::objects::{self, CONFIG};
use crate::printer::Printer;
use crate::progress;
use crate::sealed::Secrets;

/// What can be done without the passphrase.
const INSTEAD: &str = "With --without-secrets those in the backup are not restored";
/// Largest configuration that is taken from a backup.
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// `restore FILE`.
pub(crate) fn run_one(
    data: &Data,
    options: &RestoreOptions,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    let file = &which(options)?;
    let journal = journal_behind(options, file)?;
    let (input, bytes): (Box<dyn Read>, u64) = if file.as_os_str() == STANDARD {
        (Box::new(io::stdin()), 0)
    } else {
        let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let bytes = input.metadata()?.len();
        (Box::new(input), bytes)
    };
    let config = folder.config(data.config.as_deref(), &[], Checks::Values)?;
    let staging = Staging::begin(&folder)?;
    let bar = progress::bar(printer, "bytes");
    let input = Watched { input, read: 0, total: bytes, bar: &bar };
    let mut taken = Taken::new(options, &bar, &staging);
    let restored = backup::restore_with(
        BufReader::with_capacity(1 << 20, input),
        &mut taken,
        journal.as_deref().map(|folder| Behind { folder, until_ms: options.until }),
        &staging.store(),
        config.store.cache.bytes(),
        NewEpoch { salt: rand::random(), skip: options.lost },
        |_| {},
    );
    bar.finish_and_clear();
    let (restored, reached) = restored
        .map_err(|error| anyhow::anyhow!("{}: {error}. Nothing was changed", file.display()))?;
    let Taken { mut secrets, note, config, .. } = taken;
    secrets.config = secrets.config.or(config);
    let again = || format!("the restore into {} is not complete", folder.path().display());
    let set_aside = staging.place(&folder, &secrets).with_context(again)?;
    folder.make()?;
    let mut missing: Vec<String> = note["left_out"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|what| Some(what.as_str()?.to_owned()))
        .collect();
    if restored.format == 1 {
        missing.push(
            "secret, keys of the node, configuration and uploaded files: put them there".into(),
        );
    }
    let made_ms = note["made_ms"].as_i64();
    let journal = Followed { reached, wanted_ms: options.until, made_ms };
    if journal.commits() > 0 {
        missing.push("files uploaded after it was made: copy them from where objects/ was".into());
    }
    let result = json!({
        "data": folder.path(),
        "backup": file,
        "commits": journal.commits(),
        "until": journal.until_ms().map(list::time),
        "until_ms": journal.until_ms(),
        "whole": journal.is_whole(),
        "entries": restored.records,
        "files": restored.files,
        "secret": secrets.secret.is_some(),
        "identity": secrets.identity.is_some(),
        "config": secrets.config.is_some(),
        "set_aside": set_aside,
        "not_in_the_backup": missing,
    });
    printer.print(&result, || {
        let (entries, files) = (restored.records, restored.files);
        let into = folder.path().display();
        let mut lines = vec![format!("Restored {entries} entries, {files} files into {into}.")];
        lines.extend(journal.lines());
        lines.extend(
            set_aside
                .iter()
                .map(|aside| format!("Another one was there, which is kept: {}", aside.display())),
        );
        lines.extend(missing.iter().map(|what| format!("Not in the backup: {what}")));
        lines.join("\n")
    })?;
    Ok(if journal.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(damage::EXIT_CODE) })
}

/// The file to restore: the one that is named, or of a folder the newest that is not too new.
fn which(options: &RestoreOptions) -> anyhow::Result<PathBuf> {
    let given = &options.file;
    if !given.is_dir() {
        return Ok(given.clone());
    }
    let mut listed = list::of(given)?;
    listed.retain(list::Listed::is_readable);
    let until = options.until.unwrap_or(i64::MAX);
    match listed.iter().rev().find(|one| one.note.made_ms <= until) {
        Some(found) => Ok(found.file.clone()),
        None if listed.is_empty() => bail!("there is no backup in {}", given.display()),
        None => bail!("all backups in {} are of a later time", given.display()),
    }
}

/// The journal to follow behind a backup.
fn journal_behind(options: &RestoreOptions, file: &Path) -> anyhow::Result<Option<PathBuf>> {
    if file.as_os_str() == STANDARD {
        if options.until.is_some() {
            bail!("--until needs the file of the backup: the journal lies beside it");
        }
        return Ok(None);
    }
    if options.no_journal {
        return Ok(None);
    }
    if let Some(until) = options.until {
        let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let head = backup::head(input).with_context(|| format!("{}", file.display()))?;
        let note: Note = serde_json::from_slice(&head.note).unwrap_or_default();
        if note.made_ms == 0 {
            bail!("{} does not say of when it is", file.display());
        }
        if note.made_ms > until {
            bail!(
                "{} is of {}, which is later: take the backup before it",
                file.display(),
                list::time(note.made_ms)
            );
        }
    }
    Ok(Some(journal_beside(file)).filter(|journal| journal.is_dir()))
}

/// What came of the journal behind a backup.
struct Followed {
    /// `None`: there was none.
    reached: Option<Reached>,
    /// The moment that was wanted.
    wanted_ms: Option<i64>,
    /// The moment of the backup, where it is known.
    made_ms: Option<i64>,
}

impl Followed {
    fn commits(&self) -> u64 {
        self.reached.as_ref().map_or(0, |reached| reached.commits)
    }

    /// Of when the restored state is.
    fn until_ms(&self) -> Option<i64> {
        let last = self.reached.as_ref().and_then(|reached| reached.last_ms);
        last.max(self.made_ms)
    }

    /// Whether nothing is known to be missing that was wanted.
    fn is_whole(&self) -> bool {
        match &self.reached {
            Some(reached) => !matches!(reached.end, End::Broken { .. }),
            None => self.wanted_ms.is_none(),
        }
    }

    fn lines(&self) -> Vec<String> {
        let until = self.until_ms().map_or_else(|| "the backup".to_owned(), list::time);
        let Some(Reached { commits, end, .. }) = &self.reached else {
            let none = "There is no journal beside the backup: what was done after";
            let missing = self.wanted_ms.map(|_| format!("{none} {until} is missing."));
            return missing.into_iter().collect();
        };
        let mut lines =
            vec![format!("With {commits} commits of the journal behind it, up to {until}.")];
        match end {
            End::Time => {}
            End::Journal if self.wanted_ms.is_some() => {
                lines.push("The journal ends there: nothing later was shipped.".into());
            }
            End::Journal => {}
            End::Broken { file, reason } => lines.push(format!(
                "The journal is damaged or not complete: {}: {reason}. What was done after {until} is \
                 missing.",
                file.display()
            )),
        }
        lines
    }
}

/// Where a restore puts everything before it is known to be whole.
struct Staging {
    path: PathBuf,
    /// The data folder, if it was made for this restore.
    made: Option<PathBuf>,
    /// Something has its place: from then on nothing is cleared away, so that it is seen that the rest
    /// is missing.
    placing: bool,
    _lock: File,
}

impl Staging {
    fn begin(folder: &DataFolder) -> anyhow::Result<Self> {
        let made = fs::symlink_metadata(folder.path()).is_err();
        folder.make_itself()?;
        let store = folder.store();
        // An empty folder holds nothing that could be lost.
        match fs::remove_dir(&store) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => bail!(
                "{} is not empty: move it out of the way, or restore into another folder with --data",
                store.display()
            ),
            removed => removed.with_context(|| format!("cannot use {}", store.display()))?,
        }
        let path = folder.restoring();
        let fails = || format!("cannot use {}", path.display());
        fs::create_dir_all(&path).with_context(fails)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join(RESTORE_LOCK));
        let lock = lock.with_context(fails)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another restore into {} is under way", folder.path().display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(fails),
        }
        // What a restore that was cut short has left, of this program or of an older one.
        for entry in fs::read_dir(&path).with_context(fails)? {
            let entry = entry?.path();
            if entry.is_dir() {
                fs::remove_dir_all(&entry)?;
            } else if entry.file_name().is_some_and(|name| name != RESTORE_LOCK) {
                fs::remove_file(&entry)?;
            }
        }
        let older = folder.restoring_of_before();
        if older.exists() {
            fs::remove_dir_all(older)?;
        }
        let made = made.then(|| folder.path().to_owned());
        Ok(Self { path, made, placing: false, _lock: lock })
    }

    fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Gives everything its place; returns what was there before and is kept under another name.
    fn place(mut self, folder: &DataFolder, secrets: &Secrets) -> anyhow::Result<Vec<PathBuf>> {
        sync_all(&self.path)?;
        self.placing = true;
        merge(&self.path.join(objects::OBJECTS), &folder.objects())?;
        let mut set_aside = Vec::new();
        let mut put = |file: &Path, text: &Option<String>| -> anyhow::Result<()> {
            let Some(text) = text else { return Ok(()) };
            let text = text.trim_end();
            match fs::read(file) {
                Ok(there) if there.trim_ascii_end() == text.as_bytes() => return Ok(()),
                Ok(there) if file == folder.identity_file() && is_newer(&there, text) => {
                    return Ok(());
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot read {}", file.display()));
                }
                _ => {}
            }
            set_aside.extend(folder.set_aside(file)?);
            write_file(file, text)
        };
        put(&folder.config_file(), &secrets.config)?;
        put(&folder.secret_file(), &secrets.secret)?;
        put(&folder.identity_file(), &secrets.identity)?;
        sync_all(folder.path())?;
        let store = folder.store();
        fs::rename(self.store(), &store)
            .with_context(|| format!("cannot make {}", store.display()))?;
        sync_all(folder.path())?;
        fs::remove_dir_all(&self.path)?;
        Ok(set_aside)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.placing {
            return;
        }
        // What is left is cleared away by the next restore; the error that led here counts.
        let _ = fs::remove_dir_all(&self.path);
        if let Some(folder) = &self.made {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes everything durable on the file system of a folder.
fn sync_all(folder: &Path) -> anyhow::Result<()> {
    let synced = File::open(folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.with_context(|| format!("cannot sync {}", folder.display()))
}

/// Moves what is below `from` to `to`; content of one name is the same content.
fn merge(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in entries {
        let (entry, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            merge(&entry, &target)?;
        } else {
            fs::rename(&entry, &target)
                .with_context(|| format!("cannot make {}", target.display()))?;
        }
    }
    Ok(())
}

/// Whether keys that are there have all those of a backup: they were rotated since.
fn is_newer(there: &[u8], in_backup: &str) -> bool {
    let there = std::str::from_utf8(there).ok().and_then(|text| Identity::read(text).ok());
    let (Some(there), Ok(in_backup)) = (there, Identity::read(in_backup)) else { return false };
    let keys = there.keys();
    let has = |key: &[u8]| keys.iter().any(|own| own.public_key == key);
    in_backup.keys().iter().all(|key| has(&key.public_key))
}

/// What comes out of a backup beside the database.
struct Taken<'a> {
    options: &'a RestoreOptions,
    bar: &'a ProgressBar,
    /// The folder of the restore.
    at: PathBuf,
    note: Value,
    secrets: Secrets,
    /// The configuration, where it is not among the secrets.
    config: Option<String>,
    file: Option<File>,
    /// The file at hand is the configuration.
    in_config: bool,
}

impl<'a> Taken<'a> {
    fn new(options: &'a RestoreOptions, bar: &'a ProgressBar, staging: &Staging) -> Self {
        let (note, secrets) = (Value::Null, Secrets::default());
        let at = staging.path.clone();
        Self { options, bar, at, note, secrets, config: None, file: None, in_config: false }
    }
}

fn beside(error: impl std::fmt::Display) -> BackupError {
    BackupError::Beside(format!("{error:#}"))
}

impl Take for Taken<'_> {
    fn note(&mut self, note: &[u8]) -> Result<(), BackupError> {
        self.note = serde_json::from_slice(note).map_err(beside)?;
        Ok(())
    }

    fn sealed(&mut self, sealed: &[u8]) -> Result<(), BackupError> {
        if self.options.without_secrets {
            return Ok(());
        }
        let file = self.options.passphrase_file.as_deref();
        let opened = self.bar.suspend(|| {
            let passphrase = passphrase::get(file, Which::Old, INSTEAD)?;
            Secrets::open(sealed, &passphrase)
        });
        self.secrets = opened.map_err(beside)?;
        if let Some(identity) = &self.secrets.identity {
            Identity::read(identity).map_err(beside)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> Result<(), BackupError> {
        self.file = None;
        self.in_config = name == CONFIG;
        if self.in_config {
            self.config = Some(String::new());
            return Ok(());
        }
        let Some(place) = objects::place(name) else {
            return Err(beside(format!("the backup holds a file {name:?}, which belongs nowhere")));
        };
        let path = self.at.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        self.file = Some(File::create_new(path)?);
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        if let Some(config) = self.config.as_mut().filter(|_| self.in_config) {
            if config.len() + bytes.len() > MAX_CONFIG_BYTES {
                return Err(beside("the configuration in the backup is too large"));
            }
            config.push_str(std::str::from_utf8(bytes).map_err(beside)?);
        }
        Ok(())
    }
}

/// Shows how much was read.
struct Watched<'a> {
    input: Box<dyn Read>,
    read: u64,
    total: u64,
    bar: &'a ProgressBar,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.read += u64::try_from(read).unwrap_or_default();
        progress::show(self.bar, (self.read, self.total));
        Ok(read)
    }
}
