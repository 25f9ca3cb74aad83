//! What commits replaced, kept for the readers that began before them.
//!
//! Durable states form a chain. A commit publishes the values it is about to replace on the state
//! it replaces, and only then changes the engine. A reader that holds a state reads the engine
//! *first* and *then* looks along the chain: if the engine already showed it something newer, what
//! was there before is found. So readers and commits never wait for each other, and a state that
//! no reader holds any more is freed with everything that was kept for it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::StoreError;
use crate::engine::{Batch, Direction, Engine, KeyRange, Pair, Position, Scan};
use crate::layered::overlap;

/// One durable state of the data.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Where in the journal it is, if there is one: each commit is one batch.
    position: Option<Position>,
    next: OnceLock<Step>,
}

/// The commit that follows a state.
#[derive(Debug)]
struct Step {
    /// What was under each key that the commit changes.
    replaced: Batch,
    after: Arc<State>,
}

impl State {
    /// The state that an engine is in.
    pub(crate) fn of(engine: &dyn Engine) -> Self {
        Self { position: engine.position(), next: OnceLock::new() }
    }

    /// Where in the journal it is, if there is one.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Publishes what a commit will replace; returns the state it leads to.
    ///
    /// Nothing follows a commit that failed: what the engine holds then is unknown.
    pub(crate) fn follow(&self, replaced: Batch) -> Result<Arc<State>, StoreError> {
        self.lead_to(self.position.map(Position::next), replaced)
    }

    /// The state behind a commit that led to this one, and of which nothing came: that `before` it.
    pub(crate) fn undo(&self, before: &Self) -> Result<Arc<State>, StoreError> {
        self.lead_to(before.position, Batch::new())
    }

    fn lead_to(
        &self,
        position: Option<Position>,
        replaced: Batch,
    ) -> Result<Arc<State>, StoreError> {
        let after = Arc::new(Self { position, next: OnceLock::new() });
        let step = Step { replaced, after: Arc::clone(&after) };
        self.next.set(step).map_err(|_| StoreError::Fault("two commits follow one state"))?;
        Ok(after)
    }

    /// What was under `key` in this state, if a commit has changed it since.
    fn replaced(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let mut state = self;
        while let Some(step) = state.next.get() {
            if let Some(value) = step.replaced.get(key) {
                return Some(value.clone());
            }
            state = &step.after;
        }
        None
    }

    /// The value under `key` in this state.
    pub(crate) fn get(&self, engine: &dyn Engine, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let now = engine.get(key)?;
        Ok(self.replaced(key).unwrap_or(now))
    }
}

impl Drop for State {
    /// Frees a long chain link by link: the stack would not hold the recursion.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(step) = next {
            next = Arc::into_inner(step.after).and_then(|mut state| state.next.take());
        }
    }
}

/// Pairs fetched from the engine at once: few at first, since many scans want one.
const FIRST_CHUNK: usize = 2;
const LARGEST_CHUNK: usize = 128;

/// A scan of one state while commits go on.
///
/// It moves along the chain as it goes and keeps only what was replaced in the part of the range
/// that still lies ahead.
pub(crate) struct Walk<'a> {
    below: Scan<'a>,
    state: Arc<State>,
    direction: Direction,
    /// What still lies ahead; `None` at the end.
    ahead: Option<KeyRange>,
    /// What commits since have replaced there.
    replaced: Batch,
    ready: VecDeque<Pair>,
    /// What comes after these, and is the end.
    failed: Option<StoreError>,
    chunk: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        engine: &'a dyn Engine,
        state: Arc<State>,
        range: KeyRange,
        direction: Direction,
    ) -> Self {
        Self {
            below: engine.scan(range.clone(), direction),
            state,
            direction,
            ahead: Some(range),
            replaced: Batch::new(),
            ready: VecDeque::new(),
            failed: None,
            chunk: FIRST_CHUNK,
        }
    }

    fn fetch(&mut self, range: KeyRange) {
        let mut found = Vec::new();
        while found.len() < self.chunk {
            match self.below.next() {
                Some(Ok(pair)) => found.push(pair),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        if self.failed.is_some() && found.is_empty() {
            return;
        }
        self.catch_up(&range);
        let goes_on = found.len() == self.chunk || self.failed.is_some();
        let last = goes_on.then(|| found.last().map(|(key, _)| key.to_vec()));
        self.chunk = (self.chunk * 4).min(LARGEST_CHUNK);
        let passed = match last.flatten() {
            None => std::mem::take(&mut self.replaced),
            Some(last) => self.pass(range, last),
        };
        self.ready = if passed.is_empty() { found.into() } else { self.restore(found, passed) };
    }

    /// Takes in what commits have replaced since the last look.
    fn catch_up(&mut self, range: &KeyRange) {
        while let Some(step) = self.state.next.get() {
            for (key, value) in step.replaced.range::<Vec<u8>, _>(overlap(range)) {
                self.replaced.entry(key.clone()).or_insert_with(|| value.clone());
            }
            self.state = Arc::clone(&step.after);
        }
    }

    /// Moves the range beyond `last`; returns what was replaced up to there.
    fn pass(&mut self, (from, to): KeyRange, last: Vec<u8>) -> Batch {
        use std::ops::Bound::Excluded;
        match self.direction {
            Direction::Ascending => {
                let mut successor = last.clone();
                successor.push(0);
                self.ahead = Some((Excluded(last), to));
                let ahead = self.replaced.split_off(&successor);
                std::mem::replace(&mut self.replaced, ahead)
            }
            Direction::Descending => {
                let passed = self.replaced.split_off(&last);
                self.ahead = Some((from, Excluded(last)));
                passed
            }
        }
    }

    fn restore(&self, found: Vec<Pair>, passed: Batch) -> VecDeque<Pair> {
        let mut rows: std::collections::BTreeMap<Bytes, Bytes> = found.into_iter().collect();
        for (key, value) in passed {
            match value {
                Some(value) => rows.insert(key.into(), value),
                None => rows.remove(key.as_slice()),
            };
        }
        match self.direction {
            Direction::Ascending => rows.into_iter().collect(),
            Direction::Descending => rows.into_iter().rev().collect(),
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(pair) = self.ready.pop_front() {
                return Some(Ok(pair));
            }
            let range = self.ahead.take();
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            self.fetch(range?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MemoryEngine;

    const ALL: KeyRange = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);

    fn set(engine: &MemoryEngine, state: &mut Arc<State>, key: u32, value: Option<u8>) {
        let key = key.to_be_bytes().to_vec();
        let before = Batch::from([(key.clone(), engine.get(&key).unwrap())]);
        let after = state.follow(before).unwrap();
        let value = value.map(|value| Bytes::from(vec![value]));
        engine.apply(&Batch::from([(key, value)])).unwrap();
        *state = after;
    }

    #[test]
    fn a_scan_shows_the_state_it_began_with() {
        for direction in [Direction::Ascending, Direction::Descending] {
            let engine = MemoryEngine::default();
            let mut state = Arc::new(State::default());
            for key in 0..500 {
                set(&engine, &mut state, key * 2, Some(1));
            }
            let mut expected: Vec<u32> = (0..500).map(|key| key * 2).collect();
            if direction == Direction::Descending {
                expected.reverse();
            }
            let mut seen = Vec::new();
            for (at, pair) in Walk::new(&engine, Arc::clone(&state), ALL, direction).enumerate() {
                let (key, value) = pair.unwrap();
                assert_eq!(value.as_ref(), [1]);
                seen.push(u32::from_be_bytes(key.as_ref().try_into().unwrap()));
                let at = u32::try_from(at).unwrap();
                // Behind and ahead of the scan: overwritten, deleted, inserted.
                set(&engine, &mut state, (at * 7 % 500) * 2, Some(2));
                set(&engine, &mut state, (at * 11 % 500) * 2, None);
                set(&engine, &mut state, (at * 13 % 500) * 2 + 1, Some(3));
            }
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_scan_keeps_nothing_for_what_it_has_passed() {
        let engine = MemoryEngine::default();
        let mut state = Arc::new(State::default());
        for key in 0..1_000 {
            set(&engine, &mut state, key, Some(1));
        }
        let mut walk = Walk::new(&engine, Arc::clone(&state), ALL, Direction::Ascending);
        assert!(walk.by_ref().take(500).all(|pair| pair.is_ok()));
        for key in 0..400 {
            set(&engine, &mut state, key, Some(2));
        }
        let first = Arc::downgrade(&walk.state);
        assert!(walk.by_ref().take(300).all(|pair| pair.is_ok()));
        assert!(walk.replaced.is_empty());
        assert!(first.upgrade().is_none());
        assert_eq!(walk.count(), 200);
    }

    #[test]
    fn a_very_long_chain_is_freed() {
        let first = Arc::new(State::default());
        let mut last = Arc::clone(&first);
        for _ in 0..300_000 {
            last = last.follow(Batch::new()).unwrap();
        }
        let watched = Arc::downgrade(&last);
        drop(last);
        assert!(watched.upgrade().is_some());
        drop(first);
        assert!(watched.upgrade().is_none());
    }

    #[test]
    fn nothing_follows_a_failed_commit() {
        let state = State::default();
        assert!(state.follow(Batch::new()).is_ok());
        assert!(matches!(state.follow(Batch::new()), Err(StoreError::Fault(_))));
    }
}
