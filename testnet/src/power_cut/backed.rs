//! What the backups that a node makes by itself must bring back after a power cut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::fact::{Done, Fact};
use super::trace::{Change, Event, MESSAGE_DIGITS, MESSAGE_MARK, Trace, marked};

/// Folder of the backups, beside the data folder.
pub(super) const FOLDER: &str = "backups";

/// What a full backup and the journal behind it hold, by the name of the file.
pub(super) type Held = BTreeMap<String, BTreeSet<String>>;

/// What happened to one full backup in a record.
#[derive(Debug, Default)]
struct Chain {
    /// Line at which it was begun; none: it was there before.
    begun: Option<usize>,
    /// Line from which on it is there for certain.
    certain: Option<usize>,
    /// Messages in the journal behind it, and the line from which on they are there for certain.
    shipped: Vec<(usize, String)>,
}

/// The backups of a record.
#[derive(Debug, Default)]
pub(super) struct Backed(BTreeMap<String, Chain>);

/// A file of a shipped journal.
struct Shipped {
    name: String,
    /// Line from which on its name is certain.
    named: Option<usize>,
    /// Messages that were written and not synced, and the line at which they had been written.
    written: Vec<(usize, String)>,
    /// Messages that were synced before the name of the file.
    synced: Vec<String>,
}

impl Backed {
    /// Reads what was done below `root`, where `files` were before.
    pub(super) fn of(events: &[Event], root: &Path, files: &[PathBuf]) -> Self {
        let folder = root.join(FOLDER);
        let mut backed = Self::default();
        let mut shipped: HashMap<usize, Shipped> = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            if let Some(name) = in_journal(&folder, file) {
                shipped.insert(number, Shipped::new(name, Some(0)));
            }
        }
        let mut next = files.len();
        let mut renamed = Vec::new();
        for Event { start, end, change } in events {
            match change {
                Change::Create { path } => {
                    let number = next;
                    next += 1;
                    if let Some(name) = in_journal(&folder, path) {
                        shipped.insert(number, Shipped::new(name, None));
                    } else if let Some(name) = backup(&folder, path, ".backup.partial") {
                        backed.0.entry(name).or_default().begun = Some(*start);
                    }
                }
                Change::Rename { to, .. } => {
                    renamed.extend(backup(&folder, to, ".backup").map(|name| (*end, name)));
                }
                Change::Write { file, data, .. } => {
                    if let Some(shipped) = shipped.get_mut(file) {
                        // Each write must be certain before the next.
                        backed.synced(shipped, *start, *start);
                        if !shipped.synced.is_empty() {
                            backed.named(shipped, *start);
                        }
                        let ids = marked(data, MESSAGE_MARK, MESSAGE_DIGITS);
                        shipped.written.extend(ids.into_iter().map(|id| (*end, id)));
                    }
                }
                Change::SyncFile { file } => {
                    if let Some(shipped) = shipped.get_mut(file) {
                        backed.synced(shipped, *start, *end);
                    }
                }
                Change::SyncFolder { path } if *path == folder => {
                    for (_, name) in renamed.extract_if(.., |(at, _)| *at < *start) {
                        let chain = backed.0.entry(name).or_default();
                        chain.certain.get_or_insert(*end);
                    }
                }
                Change::SyncFolder { path } => {
                    for shipped in shipped.values_mut() {
                        if path.file_stem().is_some_and(|stem| *stem == *shipped.name) {
                            backed.named(shipped, *end);
                        }
                    }
                }
                _ => {}
            }
        }
        backed
    }

    /// What was written to a file before a sync began is certain when that ends, if its name is.
    fn synced(&mut self, shipped: &mut Shipped, start: usize, end: usize) {
        let ids = shipped.written.extract_if(.., |(at, _)| *at < start).map(|(_, id)| id);
        if shipped.named.is_some() {
            let chain = self.0.entry(shipped.name.clone()).or_default();
            chain.shipped.extend(ids.map(|id| (end, id)));
        } else {
            shipped.synced.extend(ids);
        }
    }

    fn named(&mut self, shipped: &mut Shipped, end: usize) {
        shipped.named.get_or_insert(end);
        let chain = self.0.entry(shipped.name.clone()).or_default();
        chain.shipped.extend(shipped.synced.drain(..).map(|id| (end, id)));
    }

    /// Whether some backup must be there when the power goes before line `cut`.
    pub(super) fn must_be_there(&self, cut: usize) -> bool {
        self.0.values().any(|chain| chain.certain.is_some_and(|certain| certain < cut))
    }

    /// What each backup must bring back when the power goes before line `cut`, if it is there; `before`
    /// says so of the beginning.
    pub(super) fn held(&self, trace: &Trace, cut: usize, before: &Held, known: &[Fact]) -> Held {
        let mut held = before.clone();
        for (name, chain) in &self.0 {
            let ids = held.entry(name.clone()).or_default();
            if let Some(begun) = chain.begun {
                ids.extend(known.iter().filter_map(|fact| match fact {
                    Fact::Message { id, .. } => Some(id.clone()),
                    _ => None,
                }));
                let left = trace.messages.iter().filter(|(_, left)| **left < begun);
                ids.extend(left.map(|(id, _)| id.clone()));
            }
            let shipped = chain.shipped.iter().filter(|(certain, _)| *certain < cut);
            ids.extend(shipped.map(|(_, id)| id.clone()));
        }
        held
    }

    /// How many messages were shipped, however often.
    pub(super) fn shipped(&self) -> usize {
        self.0.values().map(|chain| chain.shipped.len()).sum()
    }
}

impl Shipped {
    fn new(name: String, named: Option<usize>) -> Self {
        Self { name, named, written: Vec::new(), synced: Vec::new() }
    }
}

/// The messages as facts.
pub(super) fn facts(ids: &BTreeSet<String>, done: &Done, before: &[Fact]) -> Vec<Fact> {
    let older: HashMap<&str, &Fact> = before
        .iter()
        .filter_map(|fact| match fact {
            Fact::Message { id, .. } => Some((id.as_str(), fact)),
            _ => None,
        })
        .collect();
    let fact = |id: &String| match done.messages.get(id) {
        Some(conversation) => {
            Some(Fact::Message { conversation: conversation.clone(), id: id.clone() })
        }
        None => older.get(id.as_str()).map(|fact| (*fact).clone()),
    };
    ids.iter().filter_map(fact).collect()
}

/// The backup behind which a file was shipped.
fn in_journal(folder: &Path, file: &Path) -> Option<String> {
    let journal = file.parent().filter(|journal| journal.parent() == Some(folder))?;
    journal.file_name()?.to_str()?.strip_suffix(".journal").map(str::to_owned)
}

/// The name of a backup whose file has this ending.
fn backup(folder: &Path, file: &Path, ending: &str) -> Option<String> {
    let name = file.file_name().filter(|_| file.parent() == Some(folder))?;
    name.to_str()?.strip_suffix(ending).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_shipped_is_certain_once_its_file_and_the_name_of_that_are() {
        let id = |number: usize| format!("{MESSAGE_MARK}{number:014}");
        let write = |file, number| Change::Write {
            file,
            offset: 0,
            data: format!("..{}..", id(number)).into_bytes(),
        };
        let path = |name: &str| Path::new("/r").join(FOLDER).join(name);
        let changes = vec![
            Change::Create { path: path("b.backup.partial") },
            Change::MakeFolder { path: path("b.journal") },
            Change::Create { path: path("b.journal/01") },
            write(1, 1),
            Change::SyncFile { file: 1 },
            Change::SyncFolder { path: path("b.journal") },
            Change::Rename { from: path("b.backup.partial"), to: path("b.backup") },
            Change::SyncFolder { path: path("") },
            write(1, 2),
            Change::SyncFile { file: 1 },
            write(1, 3),
            write(1, 4),
        ];
        let event = |(at, change)| Event { start: at * 2, end: at * 2 + 1, change };
        let events: Vec<Event> = changes.into_iter().enumerate().map(event).collect();
        let backed = Backed::of(&events, Path::new("/r"), &[]);
        let trace = Trace { messages: [(id(0), 0)].into(), ..Trace::default() };
        let held = |cut| {
            let held = backed.held(&trace, cut, &Held::new(), &[]);
            held.get("b").map_or(0, BTreeSet::len)
        };
        assert_eq!([9, 11, 12, 19, 20, 22, 23].map(held), [0, 0, 1, 1, 2, 2, 3]);
        assert!(!backed.must_be_there(15) && backed.must_be_there(16));
    }
}
