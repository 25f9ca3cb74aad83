use bytes::Bytes;

use crate::StoreError;
use crate::engine::{Batch, Engine, KeyRange, Scan};
use crate::layered::{self, Direction, Read};
use crate::message_log::Tails;

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
        }
    }

    pub(crate) fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) {
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

    pub(crate) fn keep(self) -> Vec<AfterCommit> {
        self.after
    }

    pub(crate) fn undo(self) {
        for (key, before) in self.journal.into_iter().rev() {
            match before {
                Some(value) => self.changes.insert(key, value),
                None => self.changes.remove(&key),
            };
        }
        for conversation in self.appended_to {
            self.tails.forget(&conversation);
        }
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
