//! Measures durable commits: messages per second and latency with 1, 8, 64 and 512 callers.
//!
//! `cargo run --release -p store --example commit [FOLDER] [SECONDS]`
#![allow(clippy::print_stdout, reason = "the program's own answer")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::Message as _;
use proto::sdkws::MsgData;
use store::engine::{DiskEngine, Engine};
use store::record::ConversationHead;
use store::{Append, Options, Store, StoreError, message_log};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of text in a message.
const TEXT: usize = 200;
const CONVERSATIONS: u64 = 1_000;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let folder = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    println!("callers  reader  messages/s   p50 ms   p99 ms   max ms   reads/s");
    for reader in [false, true] {
        for callers in [1, 8, 64, 512] {
            let path = folder.join(format!("{callers}-{reader}"));
            let engine = DiskEngine::open(&path, 128 << 20)?;
            let length = Duration::from_secs(seconds);
            runtime.block_on(measure(Box::new(engine), callers, reader, length))?;
        }
    }
    Ok(())
}

async fn measure(
    engine: Box<dyn Engine>,
    callers: u64,
    reader: bool,
    length: Duration,
) -> Outcome<()> {
    let store = Store::open(engine, Options::default())?;
    let done = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let reading = reader.then(|| {
        let (store, done, reads) = (store.clone(), Arc::clone(&done), Arc::clone(&reads));
        std::thread::spawn(move || read(&store, &done, &reads))
    });
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < length {
                let append = message(caller, latencies.len() as u64);
                let sent = Instant::now();
                store.transact(move |tx| tx.append(append)).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, StoreError>(latencies)
        });
    }
    let mut latencies = Vec::new();
    for outcome in tasks.join_all().await {
        latencies.extend(outcome?);
    }
    let took = start.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    if let Some(reading) = reading {
        reading.join().map_err(|_| "the reader failed")??;
    }
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len() - 1)).map_or(0.0, |l| l.as_secs_f64() * 1e3)
    };
    println!(
        "{callers:>7}  {:>6}  {:>10.0}  {:>7.2}  {:>7.2}  {:>7.2}  {:>8.0}",
        if reader { "yes" } else { "no" },
        latencies.len() as f64 / took,
        at(0.5),
        at(0.99),
        at(1.0),
        reads.load(Ordering::Relaxed) as f64 / took,
    );
    store.close();
    Ok(())
}

/// Pages of history, one after the other, as clients pull them.
fn read(store: &Store, done: &AtomicBool, reads: &AtomicU64) -> Result<(), StoreError> {
    while !done.load(Ordering::Relaxed) {
        let number = reads.load(Ordering::Relaxed) % CONVERSATIONS + 1;
        let view = store.view();
        let (newest, _) = message_log::newest_of(&view, number)?;
        let page = message_log::messages_raw(
            &view,
            number,
            newest - 50,
            newest,
            store::Direction::Descending,
        );
        for row in page {
            row?;
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn message(caller: u64, n: u64) -> Append {
    let id = format!("{caller}-{n}");
    let data = MsgData {
        send_id: format!("user{caller}"),
        client_msg_id: id.clone(),
        content: vec![b'x'; TEXT].into(),
        ..Default::default()
    };
    let group = format!("{}", (caller * 31 + n) % CONVERSATIONS);
    Append {
        conversation: format!("sg_{group}"),
        head: ConversationHead { session_type: 3, group_id: group, ..Default::default() },
        message: data.encode_to_vec(),
        now: i64::try_from(n).unwrap_or(i64::MAX),
        repeat: Some((data.send_id, id)),
    }
}
