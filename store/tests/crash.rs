//! What was answered survives `kill -9`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use prost::Message as _;
use proto::sdkws::MsgData;
use store::engine::DiskEngine;
use store::record::{ConfigValue, ConversationHead};
use store::version_log::{Change, List};
use store::{Append, Options, Store, StoreError, Tx, message_log, schema};
use support::{add_one, count};

const CACHE: u64 = 16 << 20;
const FOLDER: &str = "ENTENTE_CRASH_TEST_FOLDER";
const WRITERS: usize = 4;

fn open(folder: &Path) -> Store {
    let engine = DiskEngine::open(folder, CACHE).unwrap();
    Store::open(Box::new(engine), Options::default()).unwrap()
}

/// Touches several tables, overwrites and deletes.
fn change(tx: &mut Tx<'_>, conversation: &str) -> Result<i64, StoreError> {
    let head =
        ConversationHead { session_type: 3, group_id: conversation.into(), ..Default::default() };
    let message = MsgData { content: vec![9; 300].into(), ..Default::default() }.encode_to_vec();
    let append = Append { conversation: conversation.into(), head, message, now: 1, repeat: None };
    let seq = tx.append(append)?.seq;
    add_one(tx, "total");
    tx.step(List::Members, conversation, [(format!("{}", seq % 7).as_str(), Change::Update)])?;
    let value = ConfigValue { value: "v".repeat(200), created: seq };
    schema::CLIENT_CONFIG.put(tx, (conversation, &format!("{seq}")), &value);
    schema::CLIENT_CONFIG.delete(tx, (conversation, &format!("{}", seq - 1)));
    Ok(seq)
}

/// Not a test: what the process does that is killed.
#[test]
fn writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let out = Mutex::new(std::io::stdout());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, out) = (&store, &out);
            scope.spawn(move || {
                loop {
                    let name = format!("c{writer}");
                    let inside = name.clone();
                    let seq = store.transact_blocking(move |tx| change(tx, &inside)).unwrap();
                    // In one piece: a line that is cut off was not answered.
                    let line = format!("acked {name} {seq}\n");
                    out.lock().unwrap().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<String, i64> = BTreeMap::new();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let mut since = None;
        let mut seen = 0;
        while lines.read_line(&mut line).unwrap() > 0 {
            if let Some(ack) = line.strip_prefix("acked ").and_then(|line| line.strip_suffix('\n'))
            {
                let (name, seq) = ack.split_once(' ').unwrap();
                acked.insert(name.into(), seq.parse().unwrap());
                seen += 1;
                since.get_or_insert_with(Instant::now);
            }
            if since.is_some_and(|since| since.elapsed() > Duration::from_millis(150 + 70 * round))
            {
                // SIGKILL; what it still wrote is read until the pipe is empty.
                child.kill().unwrap();
                since = None;
            }
            line.clear();
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen > 10, "round {round}: only {seen} changes");

        let store = open(folder.path());
        let view = store.view();
        let mut total = 0;
        for (name, seq) in &acked {
            let (newest, _) = message_log::newest(&view, name).unwrap();
            assert!(newest >= *seq, "round {round}: {name} acknowledged {seq}, has {newest}");
        }
        for row in schema::CONVERSATION_HEADS.scan(&view, ()) {
            let (name, head) = row.unwrap();
            let (newest, _) = message_log::newest_of(&view, head.number).unwrap();
            let last: Vec<String> = schema::CLIENT_CONFIG
                .scan(&view, name.as_str())
                .map(|row| row.unwrap().0.1)
                .collect();
            assert_eq!(last, [newest.to_string()], "a batch is there in part");
            total += newest;
        }
        assert_eq!(count(&view, "total"), total);
        let report = store::verify::verify(&view, |_| {}).unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        drop(view);
        // The next process needs the lock.
        store.close();
    }
}
