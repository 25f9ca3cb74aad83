//! What changed in a list since a client last synchronised.

use md5::{Digest as _, Md5};
use store::Read;
use store::version_log::{self, Change, List, SORT_ELEMENT, Version};

use crate::change::json;
use crate::error::Result;

/// Changes after which a client gets the whole list instead.
const MAX_CHANGES: usize = 200;

/// What a client has to do to be up to date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Incremental {
    /// State of the list now.
    pub(crate) now: Version,
    /// The client must fetch the whole list; nothing else is filled then.
    pub(crate) full: bool,
    /// Elements that are gone.
    pub(crate) delete: Vec<String>,
    /// Elements that are new.
    pub(crate) insert: Vec<String>,
    /// Elements that changed.
    pub(crate) update: Vec<String>,
    /// Version of the last change of the order, 0 if it did not change.
    pub(crate) sort_version: u64,
}

/// Compares the state a client has of a list with the list as it is.
pub(crate) fn incremental(
    from: &impl Read,
    list: List,
    owner: &str,
    version_id: &str,
    version: u64,
) -> Result<Incremental> {
    let now = version_log::version(from, list, owner)?;
    let mut answer = Incremental {
        full: false,
        delete: Vec::new(),
        insert: Vec::new(),
        update: Vec::new(),
        sort_version: 0,
        now,
    };
    if version == 0 || version_id != answer.now.id || version > answer.now.version {
        answer.full = true;
        return Ok(answer);
    }
    match version_log::changes_since(from, list, owner, version, MAX_CHANGES)? {
        None => answer.full = true,
        Some(changes) => {
            for changed in changes {
                if changed.element == SORT_ELEMENT {
                    answer.sort_version = changed.version;
                    continue;
                }
                match changed.change {
                    Change::Delete => answer.delete.push(changed.element),
                    Change::Insert => answer.insert.push(changed.element),
                    Change::Update => answer.update.push(changed.element),
                }
            }
        }
    }
    Ok(answer)
}

/// Hash by which a client knows whether it has the same list of IDs in the same order.
pub(crate) fn id_hash(ids: &[String]) -> Result<u64> {
    if ids.is_empty() {
        return Ok(0);
    }
    let digest = Md5::digest(json(&ids)?);
    let first: [u8; 8] = std::array::from_fn(|at| digest[at]);
    Ok(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use store::engine::MemoryEngine;
    use store::{Options, Store, StoreError};

    use super::*;

    fn store() -> Store {
        let options = Options { salt: [1; 16], ..Options::default() };
        Store::open(Box::new(MemoryEngine::default()), options).expect("opens")
    }

    fn step(store: &Store, elements: Vec<(String, Change)>) {
        let stepped: std::result::Result<u64, StoreError> = store.transact_blocking(move |tx| {
            let elements = elements.iter().map(|(id, change)| (id.as_str(), *change));
            tx.step(List::Friends, "me", elements)
        });
        stepped.expect("steps");
    }

    fn one(store: &Store, id: &str, change: Change) {
        step(store, vec![(id.to_owned(), change)]);
    }

    fn since(store: &Store, id: &str, version: u64) -> Incremental {
        incremental(&store.view(), List::Friends, "me", id, version).expect("reads")
    }

    #[test]
    fn whoever_has_no_version_of_this_log_gets_all() {
        let store = store();
        let first = since(&store, "", 0);
        assert_eq!((first.full, first.now.version), (true, 1));
        let id = first.now.id;
        assert_eq!(id.len(), 24);
        assert!(since(&store, &id, 0).full);
        assert!(since(&store, &id, 2).full, "a version from the future");
        assert!(since(&store, "0102030405060708090a0b0c", 1).full);
        assert!(since(&store, &id.to_uppercase(), 1).full);
        assert!(since(&store, "not hex", 1).full);
        let equal = since(&store, &id, 1);
        assert_eq!((equal.full, equal.now.version, equal.sort_version), (false, 1, 0));
        assert!(equal.delete.is_empty() && equal.insert.is_empty() && equal.update.is_empty());
    }

    #[test]
    fn every_element_shows_once_with_what_happened_last() {
        let store = store();
        let id = since(&store, "", 0).now.id;
        one(&store, "a", Change::Insert);
        one(&store, "b", Change::Insert);
        one(&store, "c", Change::Insert);
        step(&store, vec![(SORT_ELEMENT.into(), Change::Update), ("a".into(), Change::Update)]);
        one(&store, "c", Change::Delete);
        let all = since(&store, &id, 1);
        assert_eq!((all.full, all.now.version), (false, 6));
        assert_eq!((all.insert, all.update, all.delete), (ids(&["b"]), ids(&["a"]), ids(&["c"])));
        assert_eq!(all.sort_version, 5);
        let tail = since(&store, &id, 5);
        assert_eq!((tail.delete, tail.sort_version), (ids(&["c"]), 0));
    }

    #[test]
    fn too_many_changes_mean_all() {
        let store = store();
        let id = since(&store, "", 0).now.id;
        step(&store, (0..MAX_CHANGES).map(|n| (format!("u{n:04}"), Change::Insert)).collect());
        let changes = since(&store, &id, 1);
        assert_eq!((changes.full, changes.insert.len()), (false, MAX_CHANGES));
        one(&store, "one more", Change::Delete);
        let changes = since(&store, &id, 1);
        assert_eq!((changes.full, changes.now.version), (true, 3));
        assert!(changes.insert.is_empty() && changes.delete.is_empty());
        assert!(!since(&store, &id, 2).full);
    }

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hashes_are_those_of_the_clients() {
        for (list, expected) in [
            (&[][..], 0),
            (&["u1"], 7_752_955_785_994_369_517),
            (&["u1", "u2"], 9_194_020_308_628_654_040),
            (&["u2", "u1"], 2_170_532_237_559_490_439),
            (&["si_u1_u2", "sg_100"], 5_477_099_328_258_138_363),
            (&["a&b"], 10_057_479_126_767_406_615),
            (&["用户1"], 9_493_922_867_085_588_093),
        ] {
            assert_eq!(id_hash(&ids(list)).expect("hashes"), expected, "{list:?}");
        }
    }
}
