//! What is made of a damaged folder: everything that is left, and a list of what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use proto::sdkws::MsgData;
use store::backup::{self, NewEpoch, NewFile};
use store::engine::{Direction, DiskEngine, DiskOptions, Engine as _};
use store::record::{ConversationHead, Number};
use store::repair::{Base, Repaired, repair};
use store::{Append, Options, Store, StoreError, schema};

const CACHE: u64 = 8 << 20;
const EPOCH: NewEpoch = NewEpoch { salt: [9; 16], skip: 1_000 };

fn open(folder: &Path) -> Store {
    let options = DiskOptions { cache_bytes: CACHE, checkpoint_bytes: 256 << 10 };
    let engine = DiskEngine::open_with(folder, options).unwrap();
    Store::open(Box::new(engine), Options { reserve_bytes: 0, ..Options::default() }).unwrap()
}

fn say(store: &Store, text: &str) {
    let content = Bytes::from(text.to_owned());
    let message = MsgData { content, ..MsgData::default() };
    let pair = vec!["a".to_owned(), "b".to_owned()];
    let append = Append {
        conversation: "si_a_b".into(),
        head: ConversationHead { session_type: 1, pair, ..ConversationHead::default() },
        message: message.encode_to_vec(),
        now: 1_000,
        repeat: None,
    };
    store.transact_blocking(move |tx| tx.append(append)).unwrap();
}

fn count(store: &Store, value: i64) {
    let number = Number { value };
    let put = move |tx: &mut store::Tx<'_>| {
        schema::COUNTERS.put(tx, "x", &number);
        Ok::<_, StoreError>(())
    };
    store.transact_blocking(put).unwrap();
}

fn back_up(store: &Store, file: &Path) {
    let mut new = NewFile::create(file, false).unwrap();
    backup::write(store.strict_view(), &mut new, |_| {}).unwrap();
    new.keep().unwrap();
}

/// All pairs but the meta record.
fn pairs(folder: &Path) -> BTreeMap<Bytes, Bytes> {
    use std::ops::Bound::Unbounded;
    let engine = DiskEngine::open(folder, CACHE).unwrap();
    let scan = engine.scan((Unbounded, Unbounded), Direction::Ascending);
    scan.map(Result::unwrap).filter(|(key, _)| key[0] != schema::META.tag()).collect()
}

struct Case {
    _work: tempfile::TempDir,
    live: PathBuf,
    damaged: PathBuf,
    target: PathBuf,
}

impl Case {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        let at = |name: &str| work.path().join(name);
        let (live, damaged, target) = (at("live"), at("damaged"), at("target"));
        Self { _work: work, live, damaged, target }
    }

    /// Makes the folder that a killed process leaves.
    fn kill(&self) {
        support::copy(&self.live, &self.damaged);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.damaged.join(name);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }

    fn repair(&self, backup: Option<&Path>) -> Repaired {
        assert!(DiskEngine::open(&self.damaged, CACHE).is_err(), "nothing is damaged");
        let before = support::content(&self.damaged);
        let mut file = backup.map(|path| File::open(path).unwrap());
        let backup = file.as_mut().map(|file| file as &mut dyn Read);
        let repaired = repair(&self.damaged, backup, &self.target, CACHE, EPOCH, |_| {}).unwrap();
        assert!(support::content(&self.damaged) == before, "the damaged folder was changed");
        repaired
    }
}

#[test]
fn an_index_that_is_damaged_or_gone_is_made_from_the_journal() {
    for gone in [false, true] {
        let case = Case::new();
        let store = open(&case.live);
        for n in 0..300 {
            say(&store, &format!("message {n}"));
            count(&store, n);
        }
        store.close();
        support::copy(&case.live, &case.damaged);
        if gone {
            fs::remove_file(case.damaged.join("db")).unwrap();
        } else {
            case.change("db", |bytes| bytes[1_662] ^= 4);
        }
        let repaired = case.repair(None);
        assert!(repaired.is_whole(), "{repaired:?}");
        assert_eq!(pairs(&case.target), pairs(&case.live));
        assert_eq!(repaired.entries["MESSAGES"], 300);
    }
}

#[test]
fn commits_that_the_journal_has_lost_are_listed() {
    let case = Case::new();
    let store = open(&case.live);
    for n in 0..50 {
        say(&store, &format!("message number {n}"));
    }
    case.kill();
    store.close();
    let journal = fs::read_dir(case.damaged.join("journal")).unwrap();
    let segment = journal.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let segment = segment.filter(|name| name != "mark").max().unwrap();
    case.change(&format!("journal/{segment}"), |bytes| {
        let text = b"message number 20";
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    });
    // What a repair that was killed has left is not taken for data.
    let half = case.target.with_file_name("target.half");
    DiskEngine::open(&half, CACHE).unwrap();
    let repaired = case.repair(None);
    assert!(!half.exists());
    assert_eq!(repaired.lost_commits.len(), 1, "{repaired:?}");
    let lost = &repaired.lost_commits[0];
    assert_eq!(lost.commits, 1);
    assert!(lost.after.unwrap() <= lost.before.unwrap());
    let (now, before) = (pairs(&case.target), pairs(&case.live));
    let missing: Vec<_> = before.iter().filter(|(key, _)| !now.contains_key(*key)).collect();
    assert_eq!(missing.len(), 1, "only one message is missing");
    assert!(now.iter().all(|(key, value)| before.get(key) == Some(value)));
}

#[test]
fn damaged_messages_are_listed_and_keep_their_seqs() {
    let case = Case::new();
    let store = open(&case.live);
    for n in 0..100 {
        say(&store, &format!("message number {n}"));
    }
    store.close();
    support::copy(&case.live, &case.damaged);
    case.change("values/00000001", |bytes| {
        let text = b"message number 70";
        let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
        bytes[at] ^= 1;
    });
    // Its journal still has the message; without it the value is lost.
    let journal = case.damaged.join("journal");
    for entry in fs::read_dir(&journal).unwrap() {
        fs::write(entry.unwrap().path(), b"").unwrap();
    }
    case.change("checkpoint", |bytes| bytes[20] ^= 1);
    let repaired = case.repair(None);
    assert_eq!(repaired.base, Base::Index, "{repaired:?}");
    assert_eq!(repaired.lost_messages.len(), 1, "{repaired:?}");
    let lost = &repaired.lost_messages[0];
    assert_eq!((lost.conversation.as_str(), lost.seqs.as_slice()), ("si_a_b", &[71][..]));
    assert_eq!(pairs(&case.target).len(), pairs(&case.live).len());
    let store = open(&case.target);
    assert_eq!(schema::META.get(&store.view(), 0).unwrap().unwrap().epoch, 2);
    store.close();
}

#[test]
fn a_backup_and_the_journal_make_up_for_an_index() {
    let case = Case::new();
    let file = case.live.with_file_name("backup");
    let store = open(&case.live);
    let long = "x".repeat(50_000);
    for n in 0..600 {
        say(&store, &format!("{n} {long}"));
    }
    back_up(&store, &file);
    for n in 0..20 {
        say(&store, &format!("later {n}"));
        count(&store, n);
    }
    store.close();
    support::copy(&case.live, &case.damaged);
    case.change("db", |bytes| bytes.iter_mut().skip(70).step_by(512).for_each(|byte| *byte ^= 4));
    let repaired = case.repair(Some(&file));
    assert_eq!(repaired.base, Base::Backup);
    assert!(repaired.is_whole(), "{repaired:?}");
    assert_eq!(pairs(&case.target), pairs(&case.live));

    // Without the backup most of it is lost, and that is said.
    fs::remove_dir_all(&case.target).unwrap();
    let result = repair(&case.damaged, None, &case.target, CACHE, EPOCH, |_| {});
    match result {
        Ok(repaired) => assert!(!repaired.is_whole(), "{repaired:?}"),
        Err(error) => assert!(error.to_string().contains("give it a backup"), "{error}"),
    }
}

#[test]
fn a_backup_of_other_data_is_not_followed_by_this_journal() {
    let case = Case::new();
    let file = case.live.with_file_name("backup");
    let other = open(&case.live.with_file_name("other"));
    say(&other, "of another time line");
    back_up(&other, &file);
    other.close();
    let store = open(&case.live);
    let long = "x".repeat(50_000);
    for n in 0..600 {
        say(&store, &format!("{n} {long}"));
    }
    store.close();
    support::copy(&case.live, &case.damaged);
    case.change("db", |bytes| bytes.iter_mut().skip(70).step_by(512).for_each(|byte| *byte ^= 4));
    let repaired = case.repair(Some(&file));
    assert_eq!(repaired.base, Base::Backup);
    assert!(!repaired.followed && !repaired.is_whole(), "{repaired:?}");
    assert_eq!(repaired.entries["MESSAGES"], 1, "nothing of the two is mixed");
}
