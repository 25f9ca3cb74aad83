//! Shipping: what is committed after a backup goes into files beside it.
//!
//! The journal is read from its files, so commits wait for nothing. Who is too far behind finds that
//! it has been written anew, and needs a new backup.

use std::io;
use std::path::{Path, PathBuf};

use crate::Store;
use crate::engine::{Follower, Position, Resumed, Shipped};

/// Why a journal was not shipped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShipError {
    /// It can be tried again.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What comes next is not in the journal any more; nothing more is shipped there.
    #[error("the journal of the database has moved on")]
    Gap,
}

/// Ships the journal of a store behind one backup, or several.
pub struct Shipper {
    store: Store,
    chains: Vec<Chain>,
}

/// What is shipped behind one backup.
struct Chain {
    shipped: Shipped,
    /// `None`: to be made.
    follower: Option<Follower>,
}

impl Chain {
    fn ship(&mut self, store: &Store, last: u64) -> Result<(), ShipError> {
        if self.follower.is_none() {
            self.follower = store.follow(self.shipped.batch());
        }
        let Some(follower) = &mut self.follower else { return Err(ShipError::Gap) };
        match self.shipped.take(follower, last) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ShipError::Gap),
            Err(error) => {
                // What it has read is not all there.
                self.follower = None;
                Err(error.into())
            }
        }
    }
}

impl Shipper {
    /// Ships nothing yet.
    pub fn new(store: Store) -> Self {
        // Whoever goes on may need all that is there.
        store.followed(0);
        Self { store, chains: Vec::new() }
    }

    /// Begins to ship into `folder`, which must not exist, what comes behind a backup.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn begin(&mut self, folder: &Path, behind: Position) -> io::Result<()> {
        let shipped = Shipped::begin(folder, behind)?;
        self.chains.push(Chain { shipped, follower: None });
        self.tell();
        Ok(())
    }

    /// Goes on to ship behind a backup of before; the error within says why that cannot be.
    ///
    /// # Errors
    /// The folder, or the journal, cannot be read.
    pub fn go_on(&mut self, folder: &Path, behind: Position) -> io::Result<Result<(), String>> {
        let now = self.store.view().position();
        let Some(now) = now.filter(|now| now.journal == behind.journal) else {
            return Ok(Err("the backup is of another database, or of before a restore".into()));
        };
        let resumed = match Shipped::go_on(folder, behind)? {
            Ok(resumed) => resumed,
            Err(reason) => return Ok(Err(reason)),
        };
        let last = resumed.shipped.batch();
        if now.batch < last {
            return Ok(Err("the database is older than what was shipped".into()));
        }
        let follower = self.store.follow(last.saturating_sub(1));
        let Some(follower) = follower else { return Ok(Err("there is no journal".into())) };
        if !resumed.is_followed(follower)? {
            return Ok(Err("the journal does not go on from what was shipped".into()));
        }
        let Resumed { shipped, .. } = resumed;
        self.chains.push(Chain { shipped, follower: None });
        Ok(Ok(()))
    }

    /// Ships no more but into these folders.
    pub fn only(&mut self, folders: &[PathBuf]) {
        self.chains.retain(|chain| folders.iter().any(|folder| folder == chain.shipped.folder()));
        self.tell();
    }

    /// Ships what is durable; returns for each folder what came of it. One with a gap is not shipped
    /// to any more.
    pub fn ship(&mut self) -> Vec<(PathBuf, Result<(), ShipError>)> {
        let Some(now) = self.store.view().position() else { return Vec::new() };
        let store = &self.store;
        let outcomes: Vec<_> = self
            .chains
            .iter_mut()
            .map(|chain| (chain.shipped.folder().to_owned(), chain.ship(store, now.batch)))
            .collect();
        for (folder, outcome) in &outcomes {
            if matches!(outcome, Err(ShipError::Gap)) {
                self.chains.retain(|chain| chain.shipped.folder() != folder);
            }
        }
        self.tell();
        outcomes
    }

    /// When the last commit was written that is in a folder, Unix milliseconds.
    pub fn reaches_ms(&self, folder: &Path) -> Option<i64> {
        let chain = self.chains.iter().find(|chain| chain.shipped.folder() == folder);
        chain.and_then(|chain| chain.shipped.last_ms())
    }

    /// Says what is not needed any more.
    fn tell(&self) {
        let least = self.chains.iter().map(|chain| chain.shipped.batch()).min();
        self.store.followed(least.unwrap_or(u64::MAX));
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.store.followed(u64::MAX);
    }
}

/// Where the journal behind a backup is shipped to: beside it, `NAME.journal` for `NAME.backup`.
pub fn journal_beside(file: &Path) -> PathBuf {
    if file.extension().is_some_and(|extension| extension == "backup") {
        return file.with_extension("journal");
    }
    super::beside_it(file, ".journal")
}

/// When the last commit was written that was shipped into a folder, Unix milliseconds.
///
/// # Errors
/// The folder cannot be read.
pub fn reaches_ms(folder: &Path) -> io::Result<Option<i64>> {
    Shipped::reaches_ms(folder)
}
