//! One full backup: writing it, restoring it on trial, and removing what it makes superfluous.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use store::backup::{Behind, End, NewFile, Rehearsal, journal_beside, rehearse};

use super::list::{self, Check, Listed};
use super::{Shared, now_ms};
use crate::backup::{self, SUFFIX};
use crate::command::passphrase;

/// What begins the name of a folder in which a backup is restored on trial.
const TRIAL: &str = ".entente-trial-";
/// Page cache of a trial.
const TRIAL_CACHE_BYTES: u64 = 8 << 20;
/// What ends the name of a backup that is not complete.
const HALF: &str = ".backup.partial";
/// What ends the name of a shipped journal.
const JOURNAL: &str = ".journal";

/// Makes a full backup, restores it on trial and removes old ones; returns its file.
pub(super) fn make(shared: &Shared) -> anyhow::Result<PathBuf> {
    tracing::debug!("a full backup begins");
    let sources = shared.configured.sources(&shared.store()?)?;
    let passphrase = shared.passphrase_file().map(passphrase::in_file).transpose()?;
    let mut content = backup::gather(&shared.data, &sources, passphrase.as_deref(), true)?;
    content.note.scheduled = true;
    let (file, path) = begin(&shared.folder, &sources.domain)?;
    let written = write(shared, content, file, &path);
    let summary = match written {
        Ok(summary) => summary,
        Err(error) => {
            ship_only(shared);
            let _ = list::remove_folder(&journal_beside(&path));
            return Err(error);
        }
    };
    let name = path.display();
    tracing::info!(file = %name, entries = summary.records, files = summary.files, "a backup was made");
    {
        let mut state = shared.state.lock();
        state.known.newest = Some((path.clone(), now_ms()));
        state.known.check = None;
    }
    let checked = check(shared, &path)?;
    let in_order = checked.is_in_order();
    {
        let mut state = shared.state.lock();
        state.known.check = Some(checked);
        if in_order {
            state.known.good = Some(path.clone());
        }
    }
    // Where that could not be written until now, it goes on.
    if shared.ship() {
        ship_only(shared);
    }
    prune(shared)?;
    Ok(path)
}

/// Ships behind the newest backup, and behind the newest that is known to be of use.
fn ship_only(shared: &Shared) {
    let known = shared.state.lock().known.clone();
    let files = known.newest.map(|(file, _)| file).into_iter().chain(known.good);
    let folders: Vec<PathBuf> = files.map(|file| journal_beside(&file)).collect();
    if let Some(shipper) = &mut *shared.shipper.lock() {
        shipper.only(&folders);
    }
}

/// A new file under a name of its own.
fn begin(folder: &Path, domain: &str) -> anyhow::Result<(NewFile, PathBuf)> {
    for _ in 0..3 {
        let path = backup::named(folder, domain)?;
        match NewFile::create(&path, false) {
            Ok(file) => return Ok((file, path)),
            // Made in this very second.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                thread::sleep(Duration::from_secs(1));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot write {}", path.display()));
            }
        }
    }
    bail!("somebody else makes backups in {}", folder.display())
}

fn write(
    shared: &Shared,
    content: backup::Content,
    mut file: NewFile,
    path: &Path,
) -> anyhow::Result<store::backup::Summary> {
    let fails = || format!("cannot write {}", path.display());
    let store = shared.store()?;
    let view = store.strict_view();
    let position = view.position().context("the database keeps no journal")?;
    match &mut *shared.shipper.lock() {
        Some(shipper) => shipper.begin(&journal_beside(path), position).with_context(fails)?,
        None => bail!("the node is stopping"),
    }
    let out = UntilStop { inner: &mut file, shared };
    let objects = shared.data.objects();
    let summary = backup::write(view, content, objects, out, |_| {}).with_context(fails)?;
    // The journal behind the one before must reach to the moment of this one, however the node ends.
    shared.ship();
    file.keep().with_context(fails)?;
    Ok(summary)
}

/// Restores a backup on trial, with the journal behind it; what comes of it is noted beside it.
pub(super) fn check(shared: &Shared, file: &Path) -> anyhow::Result<Check> {
    tracing::debug!("a backup is restored on trial");
    let tried = try_restore(shared, file);
    if shared.is_stopping() {
        bail!("the node is stopping");
    }
    let mut reached_ms = 0;
    let problem = match tried {
        Err(error) => Some(format!("{error:#}")),
        Ok(Rehearsal { reached, report, .. }) => {
            reached_ms = reached.as_ref().and_then(|reached| reached.last_ms).unwrap_or_default();
            match (reached.map(|reached| reached.end), report.findings.first()) {
                (Some(End::Broken { file, reason }), _) => {
                    Some(format!("the journal behind it: {}: {reason}", file.display()))
                }
                (_, Some(first)) => {
                    let more = report.findings.len() as u64 - 1 + report.omitted;
                    Some(format!("{first}, and {more} more things"))
                }
                _ => None,
            }
        }
    };
    let name = file.display();
    match &problem {
        None => tracing::info!(file = %name, "the backup was restored on trial: it is in order"),
        Some(problem) => tracing::error!(
            file = %name,
            problem,
            "the backup was restored on trial: it is not in order; older ones are kept"
        ),
    }
    let made_ms = shared.state.lock().known.newest.as_ref().map_or(0, |(_, made_ms)| *made_ms);
    let check = Check { at_ms: now_ms(), problem, reached_ms: reached_ms.max(made_ms) };
    list::note_check(file, &check)?;
    Ok(check)
}

fn try_restore(shared: &Shared, file: &Path) -> anyhow::Result<Rehearsal> {
    let trial = tempfile::Builder::new().prefix(TRIAL).tempdir_in(&shared.folder)?;
    let journal = journal_beside(file);
    let behind = Behind { folder: &journal, until_ms: None };
    let input = UntilStop { inner: File::open(file)?, shared };
    let input = io::BufReader::with_capacity(1 << 20, input);
    Ok(rehearse(input, Some(behind), &trial.path().join("store"), TRIAL_CACHE_BYTES)?)
}

/// Removes old ones.
pub(super) fn prune(shared: &Shared) -> anyhow::Result<()> {
    let own = shared.own()?;
    let in_order: Vec<_> = own.iter().map(Listed::is_in_order).collect();
    for old in superfluous(&in_order, shared.keep).filter_map(|at| own.get(at)) {
        let file = old.file.display();
        list::remove(&old.file).with_context(|| format!("cannot remove {file}"))?;
        tracing::info!(%file, "an old backup was removed");
    }
    Ok(())
}

/// Which of the backups go, of those of which it is known whether they are in order, oldest first: all
/// but the newest. While the newest is not in order, only those go that are not, either: what can be
/// used stays, and a trial that fails day after day fills no disk.
fn superfluous(in_order: &[Option<bool>], keep: usize) -> impl Iterator<Item = usize> {
    let many = in_order.len().saturating_sub(keep);
    let is_newest_bad = in_order.last() == Some(&Some(false));
    let old = in_order.iter().take(many).enumerate();
    old.filter(move |(_, one)| !is_newest_bad || **one == Some(false)).map(|(at, _)| at)
}

/// Removes what a node has left that ended in the middle of something.
pub(super) fn clear_away(folder: &Path, domain: &str) -> anyhow::Result<()> {
    let fails = || format!("cannot use {}", folder.display());
    let own = if domain.is_empty() { "entente-2".to_owned() } else { format!("entente-{domain}-") };
    for entry in fs::read_dir(folder).with_context(fails)? {
        let path = entry.with_context(fails)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let of_none = name.starts_with(&own)
            && name.ends_with(JOURNAL)
            && !path.with_extension(&SUFFIX[1..]).exists();
        if path.is_dir() && (name.starts_with(TRIAL) || of_none) {
            list::remove_folder(&path).with_context(fails)?;
        }
        let half = name.starts_with(&own) && name.ends_with(HALF);
        // Whoever still writes it has locked it.
        if half && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(&path).with_context(fails)?;
        }
    }
    Ok(())
}

/// Fails once the node stops, so that it need not wait.
struct UntilStop<'a, T> {
    inner: T,
    shared: &'a Shared,
}

impl<T> UntilStop<'_, T> {
    fn look(&self) -> io::Result<()> {
        if self.shared.is_stopping() {
            return Err(io::Error::other("the node is stopping"));
        }
        Ok(())
    }
}

impl<T: Read> Read for UntilStop<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.look()?;
        self.inner.read(into)
    }
}

impl<T: Write> Write for UntilStop<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::superfluous;

    fn left(in_order: &[Option<bool>], keep: usize) -> Vec<Option<bool>> {
        let gone: Vec<usize> = superfluous(in_order, keep).collect();
        let all = in_order.iter().enumerate();
        all.filter(|(at, _)| !gone.contains(at)).map(|(_, one)| *one).collect()
    }

    #[test]
    fn the_newest_stay_and_while_they_are_bad_the_good_ones_too() {
        let (good, bad, unknown) = (Some(true), Some(false), None);
        assert_eq!(left(&[], 2), []);
        assert_eq!(left(&[good, bad], 2), [good, bad]);
        assert_eq!(left(&[good, good, good], 2), [good, good]);
        assert_eq!(left(&[good, bad, good], 1), [good]);
        assert_eq!(left(&[good, good, bad], 2), [good, good, bad]);
        assert_eq!(left(&[good, unknown, bad, bad], 1), [good, unknown, bad]);
        let mut days = vec![good, good];
        for _ in 0..100 {
            days.push(bad);
            days = left(&days, 2);
        }
        assert_eq!(days, [good, good, bad, bad]);
    }
}
