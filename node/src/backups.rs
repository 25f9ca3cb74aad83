//! Backups that the node makes by itself: a full one now and then, and in between the journal of the
//! database, shipped beside it.
//!
//! Two threads do it. One ships every second, and hears only of what is durable; nobody who commits
//! waits for it. The other makes full backups, restores each on trial, and removes old ones. Whatever
//! goes wrong is said and tried again; the node goes on.

mod full;
pub(crate) mod list;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use services::Environment;
use store::Store;
use store::backup::{ShipError, Shipper, journal_beside};

use self::list::{Check, Listed};
use crate::data_folder::DataFolder;
use crate::operation::Configured;

/// Time between two looks at what is to be shipped.
const SHIP_EVERY: Duration = Duration::from_secs(1);
/// Time between two trials of the newest backup.
const CHECK_EVERY_MS: i64 = 24 * 60 * 60 * 1_000;
/// Time to the next try after one that failed; it doubles up to the most.
const FIRST_RETRY: Duration = Duration::from_secs(30);
const MOST_RETRY: Duration = Duration::from_secs(60 * 60);
/// Time after which a folder is said to be silent.
const SILENT: Duration = Duration::from_secs(10);
/// How long a backup that is under way is waited for when the node stops.
const PATIENCE: Duration = Duration::from_secs(5);

/// The backups of a node that serves. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Backups(Arc<Shared>);

/// The threads; they end with [`finish`](Running::finish).
pub(crate) struct Running {
    backups: Backups,
    shipping: JoinHandle<()>,
    making: JoinHandle<()>,
}

struct Shared {
    folder: PathBuf,
    every_ms: i64,
    keep: usize,
    passphrase_file: Option<PathBuf>,
    configured: Configured,
    data: DataFolder,
    /// `None` once the node has stopped, and likewise.
    store: Mutex<Option<Store>>,
    shipper: Mutex<Option<Shipper>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopping: bool,
    /// What the last start has left was looked at.
    looked: bool,
    /// A part of the journal cannot be shipped any more.
    gap: bool,
    /// Shipping fails, and that was said.
    failing: bool,
    /// When the folder was last written to, or could have been.
    answered: Option<Instant>,
    /// Backups that were asked for, and how many of these requests are done.
    asked: u64,
    done: u64,
    /// What came of the last try, if anybody has asked for it.
    outcome: Option<Result<PathBuf, String>>,
    known: Known,
}

/// What is known of the backups.
#[derive(Default, Clone)]
struct Known {
    newest: Option<(PathBuf, i64)>,
    /// When the last commit was written that was shipped behind it, Unix milliseconds. Asking the shipper
    /// could mean to wait for a disk.
    reaches_ms: i64,
    /// The newest that was in order when it was restored on trial.
    good: Option<PathBuf>,
    /// What came of restoring the newest.
    check: Option<Check>,
    /// Why the last try came to nothing.
    problem: Option<String>,
}

fn now_ms() -> i64 {
    Environment::system().clock.now_ms()
}

impl Running {
    /// Begins, if a folder is configured.
    pub(crate) fn start(
        data: &DataFolder,
        configured: Configured,
        store: &Store,
    ) -> anyhow::Result<Option<Self>> {
        let config = &configured.config().backup;
        if config.folder.as_os_str().is_empty() {
            return Ok(None);
        }
        if store.only_reads() {
            // Nothing changes, and the node starts again when something can.
            tracing::warn!("no backups are made: the data can only be read");
            return Ok(None);
        }
        let passphrase_file =
            Some(config.passphrase_file.clone()).filter(|file| !file.as_os_str().is_empty());
        if passphrase_file.is_none() {
            tracing::warn!(
                "backups are made without the secret and the keys of the node: no \
                 backup.passphrase_file is set"
            );
        }
        let shared = Shared {
            folder: std::path::absolute(&config.folder)?,
            every_ms: config.every.ms(),
            keep: config.keep,
            passphrase_file,
            data: data.clone(),
            store: Mutex::new(Some(store.clone())),
            shipper: Mutex::new(Some(Shipper::new(store.clone()))),
            configured,
            state: Mutex::new(State { answered: Some(Instant::now()), ..State::default() }),
            changed: Condvar::new(),
        };
        let backups = Backups(Arc::new(shared));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).context("cannot start a thread")
        };
        let (ships, makes) = (backups.clone(), backups.clone());
        let shipping = spawn("shipping", Box::new(move || ships.0.ship_on()))?;
        let making = spawn("backups", Box::new(move || makes.0.make_on()))?;
        Ok(Some(Self { backups, shipping, making }))
    }

    /// For those who ask.
    pub(crate) fn handle(&self) -> Backups {
        self.backups.clone()
    }

    /// Ships the rest and ends; the store takes no more changes. A folder that does not answer holds
    /// nobody up for long.
    pub(crate) fn finish(self) {
        let shared = &self.backups.0;
        shared.state.lock().stopping = true;
        shared.changed.notify_all();
        if !has_ended(&self.shipping, 2 * PATIENCE) {
            let folder = shared.folder.display();
            tracing::error!(%folder, "it does not answer; the next start ships the rest");
            return;
        }
        // A trial that is under way needs neither.
        has_ended(&self.making, PATIENCE);
        if let Some(mut shipper) = shared.shipper.try_lock() {
            shipper.take();
        }
        shared.store.lock().take();
    }
}

/// Waits until a thread has ended, but not for ever.
fn has_ended(thread: &JoinHandle<()>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !thread.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    thread.is_finished()
}

impl Backups {
    /// Makes a full backup now; returns its file.
    pub(crate) fn now(&self) -> anyhow::Result<PathBuf> {
        let shared = &self.0;
        let mut state = shared.state.lock();
        state.asked += 1;
        let own = state.asked;
        shared.changed.notify_all();
        while state.done < own {
            if state.stopping {
                bail!("the node is stopping");
            }
            shared.changed.wait(&mut state);
        }
        match &state.outcome {
            Some(Ok(file)) => Ok(file.clone()),
            Some(Err(why)) => bail!("{why}"),
            None => bail!("nothing came of it"),
        }
    }

    /// What is known, for `health`.
    pub(crate) fn status(&self) -> Value {
        let shared = &self.0;
        let (answered, known) = {
            let state = shared.state.lock();
            (state.answered, state.known.clone())
        };
        let Known { newest, reaches_ms, check, problem, .. } = known;
        let silent = answered.map(|at| at.elapsed()).filter(|silent| *silent > SILENT);
        let silent = silent.map(|silent| {
            let folder = shared.folder.display();
            format!("{folder} has not answered for {} seconds", silent.as_secs())
        });
        let reaches = newest.as_ref().map(|(_, made_ms)| list::time(reaches_ms.max(*made_ms)));
        json!({
            "folder": shared.folder,
            "newest": newest.as_ref().map(|(file, _)| file),
            "made": newest.as_ref().map(|(_, made_ms)| list::time(*made_ms)),
            "reaches": reaches,
            "checked": check.as_ref().map(|check| list::time(check.at_ms)),
            "ok": check.as_ref().map(Check::is_in_order),
            "problem": silent.or(problem).or(check.and_then(|check| check.problem)),
        })
    }
}

impl Shared {
    /// The store, for a while.
    fn store(&self) -> anyhow::Result<Store> {
        self.store.lock().clone().context("the node is stopping")
    }

    fn is_stopping(&self) -> bool {
        self.state.lock().stopping
    }

    /// Ships until the node stops, and then the rest.
    fn ship_on(&self) {
        loop {
            let mut state = self.state.lock();
            let until = Instant::now() + SHIP_EVERY;
            while !state.stopping && !self.changed.wait_until(&mut state, until).timed_out() {}
            let last = state.stopping;
            if last {
                // It may have come just before: what is behind the last backup is shipped all the same.
                let until = Instant::now() + PATIENCE;
                while !state.looked && !self.changed.wait_until(&mut state, until).timed_out() {}
            }
            drop(state);
            self.ship();
            if last {
                return;
            }
        }
    }

    /// Ships what is durable, and says once when that fails; returns whether all was shipped.
    fn ship(&self) -> bool {
        let newest = self.state.lock().known.newest.clone();
        let (outcomes, reaches_ms) = match &mut *self.shipper.lock() {
            Some(shipper) => {
                tracing::debug!("the journal is shipped");
                let outcomes = shipper.ship();
                tracing::debug!("the journal was shipped");
                let newest = newest.map(|(file, _)| journal_beside(&file));
                (outcomes, newest.and_then(|folder| shipper.reaches_ms(&folder)))
            }
            None => return false,
        };
        let mut failed = None;
        let mut gap = false;
        for (folder, outcome) in outcomes {
            match outcome {
                Ok(()) => {}
                Err(ShipError::Gap) => {
                    gap = true;
                    let folder = folder.display();
                    tracing::warn!(
                        %folder,
                        "a part of the journal can no longer be shipped; a new backup is made"
                    );
                }
                Err(error) => failed = Some((folder, error)),
            }
        }
        let shipped = failed.is_none() && !gap;
        let mut state = self.state.lock();
        if state.looked {
            state.answered = Some(Instant::now());
        }
        state.known.reaches_ms = reaches_ms.unwrap_or_default().max(state.known.reaches_ms);
        if gap {
            state.gap = true;
            self.changed.notify_all();
        }
        match (failed, state.failing) {
            (Some((folder, error)), false) => {
                let folder = folder.display();
                tracing::error!(%folder, %error, "the journal cannot be shipped; it is tried again");
                state.known.problem =
                    Some(format!("the journal cannot be shipped to {folder}: {error}"));
                state.failing = true;
            }
            (None, true) => {
                tracing::info!("the journal is shipped again");
                state.known.problem = None;
                state.failing = false;
            }
            _ => {}
        }
        shipped
    }

    /// Makes full backups until the node stops.
    fn make_on(&self) {
        let mut begun = false;
        let mut retry: Option<Duration> = None;
        loop {
            let asked = self.state.lock().asked;
            let outcome = if begun { self.work(asked) } else { self.begin() };
            let mut state = self.state.lock();
            state.looked = true;
            self.changed.notify_all();
            if state.stopping {
                return;
            }
            let wait = match outcome {
                Ok(due_ms) => {
                    begun = true;
                    retry = None;
                    if !state.failing {
                        state.known.problem = None;
                    }
                    let wait = u64::try_from(due_ms.saturating_sub(now_ms())).unwrap_or_default();
                    // The clock may be set meanwhile.
                    Duration::from_millis(wait).min(Duration::from_secs(60))
                }
                Err(error) => {
                    let why = format!("{error:#}");
                    let folder = self.folder.display();
                    tracing::error!(%folder, error = why, "no backup was made");
                    state.known.problem = Some(why.clone());
                    if state.done < asked {
                        (state.done, state.outcome) = (asked, Some(Err(why)));
                    }
                    let next = retry.map_or(FIRST_RETRY, |last| (last * 2).min(MOST_RETRY));
                    *retry.insert(next)
                }
            };
            self.changed.notify_all();
            let until = Instant::now() + wait;
            loop {
                let called = state.asked > state.done || (state.gap && retry.is_none());
                if state.stopping {
                    return;
                }
                if called || self.changed.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
        }
    }

    /// Goes on with what the last start has left; returns when there is something to do.
    fn begin(&self) -> anyhow::Result<i64> {
        full::clear_away(&self.folder, &self.domain()?)?;
        let Some(newest) = self.own()?.pop() else {
            return Ok(0);
        };
        let journal = journal_beside(&newest.file);
        let resumed = match (&mut *self.shipper.lock(), newest.position) {
            (Some(shipper), Some(position)) => shipper
                .go_on(&journal, position)
                .with_context(|| format!("cannot go on in {}", journal.display()))?,
            _ => Err("it does not say where the journal goes on".to_owned()),
        };
        if let Err(why) = &resumed {
            let file = newest.file.display();
            tracing::warn!(%file, why, "the journal behind the last backup has a gap; a new one is made");
        }
        let mut state = self.state.lock();
        state.gap = resumed.is_err();
        if newest.is_in_order() == Some(true) {
            state.known.good = Some(newest.file.clone());
        }
        state.known.newest = Some((newest.file, newest.note.made_ms));
        state.known.check = newest.check;
        drop(state);
        Ok(self.due_ms())
    }

    /// When there is something to do.
    fn due_ms(&self) -> i64 {
        let state = self.state.lock();
        match &state.known.newest {
            Some((_, made_ms)) if !state.gap => {
                let checked = state.known.check.as_ref().map_or(0, |check| check.at_ms);
                (made_ms + self.every_ms).min(checked + CHECK_EVERY_MS)
            }
            _ => 0,
        }
    }

    /// Does what is due; returns when there is something to do again.
    fn work(&self, asked: u64) -> anyhow::Result<i64> {
        let (due, wanted) = {
            let state = self.state.lock();
            let newest = state.known.newest.as_ref();
            let now = now_ms();
            let old = newest.is_none_or(|(_, made)| *made > now || made + self.every_ms <= now);
            (state.gap || old, state.done < asked)
        };
        if due || wanted {
            self.state.lock().gap = false;
            let made = full::make(self);
            if made.is_err() && due {
                // It is still wanted.
                self.state.lock().gap = true;
            }
            let file = made?;
            let mut state = self.state.lock();
            if state.done < asked {
                (state.done, state.outcome) = (asked, Some(Ok(file)));
            }
            self.changed.notify_all();
        } else if self.due_ms() <= now_ms() {
            self.check_newest()?;
        }
        Ok(self.due_ms())
    }

    /// Restores the newest backup on trial once more.
    fn check_newest(&self) -> anyhow::Result<()> {
        let newest = self.state.lock().known.newest.clone();
        let Some((file, _)) = newest else { return Ok(()) };
        let checked = full::check(self, &file)?;
        let in_order = checked.is_in_order();
        {
            let mut state = self.state.lock();
            // Nothing behind it is of use any more.
            state.gap = !in_order;
            state.known.check = Some(checked);
            if in_order {
                state.known.good = Some(file);
            }
        }
        full::prune(self)
    }

    fn domain(&self) -> anyhow::Result<String> {
        let domain = self.configured.config().federation.domain()?;
        Ok(domain.map(|domain| domain.to_string()).unwrap_or_default())
    }

    /// The backups that this node has made by itself, oldest first.
    fn own(&self) -> anyhow::Result<Vec<Listed>> {
        let domain = self.domain()?;
        let mut listed = list::of(&self.folder)?;
        listed.retain(|one| one.note.scheduled && one.note.domain == domain && one.is_readable());
        // One of the future is of a time in which the clock was wrong.
        let now = now_ms();
        listed.sort_by_key(|one| one.note.made_ms <= now);
        Ok(listed)
    }

    fn passphrase_file(&self) -> Option<&Path> {
        self.passphrase_file.as_deref()
    }
}
