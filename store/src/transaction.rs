use bytes::Bytes;

use crate::engine::{Batch, Direction, Engine, KeyRange, MAX_KEY_BYTES, MAX_VALUE_BYTES, Scan};
use crate::layered::{self, Read};
use crate::message_log::Tails;
use crate::{StoreError, schema};

/// Work to do once a transaction is durable.
pub(crate) type AfterCommit = Box<dyn FnOnce() + Send>;

/// One transaction: reads see its own writes, nothing else runs at the same time.
///
/// Transactions run one after the other on the committer thread, so there is nothing to lock and
/// nothing to retry. Keep them short: look things up that may be slow in a [`View`](crate::View)
/// first.
pub struct Tx<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) salt: [u8; 16],
    /// Changes of this transaction and of those before it in the same commit.
    pub(crate) changes: &'a mut Batch,
    pub(crate) tails: &'a mut Tails,
    /// What [`changes`](Self::changes) held before each write, to undo a refused transaction.
    journal: Vec<(Vec<u8>, Option<Option<Bytes>>)>,
    /// Conversations whose cached tail this transaction moved.
    pub(crate) appended_to: Vec<String>,
    after: Vec<AfterCommit>,
    /// Why the transaction must not be kept, whatever its closure says.
    refused: Option<StoreError>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(
        engine: &'a dyn Engine,
        salt: [u8; 16],
        changes: &'a mut Batch,
        tails: &'a mut Tails,
    ) -> Self {
        Self {
            engine,
            salt,
            changes,
            tails,
            journal: Vec::new(),
            appended_to: Vec::new(),
            after: Vec::new(),
            refused: None,
        }
    }

    pub(crate) fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        if let Err(error) = check_size(&key, value.as_ref()) {
            self.refused.get_or_insert(error);
            return;
        }
        let before = self.changes.insert(key.clone(), value);
        self.journal.push((key, before));
    }

    /// Runs `work` once this transaction is durable, before its caller is answered.
    ///
    /// Work of all transactions runs in commit order on the committer thread: it may hand things
    /// over, it must not wait for anything that waits for the store.
    pub fn after_commit(&mut self, work: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(work));
    }

    /// The raw keys of a table that were written, in the order of the first writes, and whether each
    /// had a value before the transaction.
    pub(crate) fn written(&self, tag: u8) -> Result<Vec<(Vec<u8>, bool)>, StoreError> {
        let mut seen = std::collections::HashSet::new();
        let mut written = Vec::new();
        for (key, before) in &self.journal {
            if key.first() != Some(&tag) || !seen.insert(key) {
                continue;
            }
            let existed = match before {
                Some(value) => value.is_some(),
                None => self.engine.get(key)?.is_some(),
            };
            written.push((key.clone(), existed));
        }
        Ok(written)
    }

    /// A point to which [`go_back`](Self::go_back) can return.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            writes: self.journal.len(),
            appends: self.appended_to.len(),
            after: self.after.len(),
            sound: self.refused.is_none(),
        }
    }

    /// Why the transaction would be refused as it stands.
    pub fn refusal(&self) -> Option<&StoreError> {
        self.refused.as_ref()
    }

    /// Undoes everything since `savepoint`.
    pub fn go_back(&mut self, savepoint: &Savepoint) {
        if savepoint.sound {
            self.refused = None;
        }
        self.undo_writes(savepoint.writes);
        for conversation in self.appended_to.drain(savepoint.appends..) {
            self.tails.forget(&conversation);
        }
        self.after.truncate(savepoint.after);
    }

    /// Accepts the changes, unless one of them was refused.
    pub(crate) fn keep(mut self) -> Result<Vec<AfterCommit>, StoreError> {
        match self.refused.take() {
            None => Ok(self.after),
            Some(error) => {
                self.undo();
                Err(error)
            }
        }
    }

    pub(crate) fn undo(mut self) {
        self.undo_writes(0);
        for conversation in self.appended_to {
            self.tails.forget(&conversation);
        }
    }

    fn undo_writes(&mut self, from: usize) {
        for (key, before) in self.journal.drain(from..).rev() {
            match before {
                Some(value) => self.changes.insert(key, value),
                None => self.changes.remove(&key),
            };
        }
    }
}

/// A point within a transaction.
#[derive(Debug)]
pub struct Savepoint {
    writes: usize,
    appends: usize,
    after: usize,
    /// Nothing had been refused.
    sound: bool,
}

/// One oversized record must cost its transaction, not the engine.
fn check_size(key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
    let too_large = |what, bytes, limit| {
        let table = schema::table_name(key);
        Err(StoreError::TooLarge { what, table, bytes, limit })
    };
    match value {
        _ if key.len() > MAX_KEY_BYTES => too_large("key", key.len(), MAX_KEY_BYTES),
        Some(value) if value.len() > MAX_VALUE_BYTES => {
            too_large("value", value.len(), MAX_VALUE_BYTES)
        }
        _ => Ok(()),
    }
}

impl Read for Tx<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        layered::get(self.engine, self.changes, key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        layered::scan(self.engine, self.changes, range, direction)
    }

    fn salt(&self) -> [u8; 16] {
        self.salt
    }
}
