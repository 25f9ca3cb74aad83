//! A crowd of phones on one node, each behaving as the native SDK does.
//!
//! They make groups, become friends, write, read, invite, quit, hang, go away and come back, half of
//! them with an empty store, all at once. Afterwards each phone must have every friend, group,
//! member, conversation, message and unread count that the node states; no call may be refused, and
//! no answer take as long as the SDK waits.

mod check;
mod copy;
mod life;
mod phone;
mod sync;
mod tally;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::random::Random;
use crate::verdict::must_exist;
use crate::{Admin, Process, Result};
use life::{Ledger, Life};
use phone::Phone;
use tally::Tally;

/// Phones use this platform: Android.
const PLATFORM: i32 = 2;

/// Options of `testnet crowd`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit code 1: a phone lacks something, or a call of an SDK was refused.")]
pub struct Options {
    /// Phones, each of a user of its own.
    #[arg(long, value_name = "N", default_value_t = 60)]
    phones: usize,
    /// Groups that are made in the first ten seconds.
    #[arg(long, value_name = "N", default_value_t = 200)]
    groups: usize,
    /// Phones on which people write all the time.
    #[arg(long, value_name = "N", default_value_t = 30)]
    writers: usize,
    /// Seconds for which they are busy.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Seed of what they do; a new one if left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Program to try.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
}

/// Time within which the groups are made.
const MAKING: Duration = Duration::from_secs(10);

/// Lets the crowd loose on a node; `false` if anything was wrong.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    must_exist(&options.server)?;
    if options.phones < 3 {
        bail!("a crowd has at least three phones");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = options.seed.unwrap_or_else(|| now.map_or(1, |now| u64::from(now.subsec_nanos())));
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let began = Instant::now();
    let tally = runtime.block_on(crowd(options, seed))?;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    println!("phones                         {}", options.phones);
    println!("groups made                    {}", count(&tally.groups));
    println!("messages acknowledged          {}", count(&tally.messages));
    println!("pushes handled                 {}", count(&tally.pushes));
    println!("  times several together       {}", count(&tally.batches));
    println!("REST calls                     {}", count(&tally.rest_calls));
    println!("requests over WebSocket        {}", count(&tally.gateway_requests));
    println!("longest operation ID sent      {} bytes", tally.longest.load(Ordering::Relaxed));
    println!(
        "longest that came with a push  {} bytes",
        tally.longest_pushed.load(Ordering::Relaxed)
    );
    println!("came back                      {}", count(&tally.returns));
    println!("  with an empty store          {}", count(&tally.fresh));
    println!("connections ended by the node  {}", count(&tally.cut));
    if let Some(why) = tally.why_cut() {
        println!("  the last one                 {why}");
    }
    println!("slowest answer                 {:.0?}", tally.slowest());
    println!("{:.0} s", began.elapsed().as_secs_f64());
    let (faults, kinds) = tally.faults();
    for kind in kinds {
        println!("FAULT {kind}");
    }
    println!("faults                         {faults}");
    Ok(faults == 0)
}

async fn crowd(options: &Options, seed: u64) -> Result<Arc<Tally>> {
    let node = Process::builder(&options.server).variable("ENTENTE_LOG_LEVEL", "error");
    let mut node = node.start().await?;
    let admin = node.admin().await?;
    let users: Vec<String> = (0..options.phones).map(|at| format!("phone{at}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    admin.register(&names).await?;
    let (users, tally) = (Arc::new(users), Arc::new(Tally::default()));
    let (ledger, mut random) = (Arc::new(Ledger::default()), Random::new(seed));
    let done = Arc::new(Barrier::new(options.phones));
    let until = tokio::time::Instant::now() + Duration::from_secs(options.seconds);
    let mut makes = life::shared_out(options.groups, options.phones, MAKING, &mut random)?;
    let mut lives = JoinSet::new();
    for (at, user) in users.iter().enumerate() {
        let client = admin.client(user, PLATFORM).await?;
        let life = Life {
            phone: Phone::new(client, Arc::clone(&tally)),
            users: Arc::clone(&users),
            ledger: Arc::clone(&ledger),
            random: Random::new(random.next()),
            writes: at < options.writers,
            makes: std::mem::take(makes.get_mut(at).context("no such phone")?),
            made: Vec::new(),
            until,
            done: Arc::clone(&done),
        };
        lives.spawn(life.live());
    }
    // While they are busy already.
    befriend(&admin, &users).await?;
    while let Some(lived) = lives.join_next().await {
        lived??;
    }
    node.stop().await?;
    let verified = node.command("verify").output().await?;
    if !verified.status.success() {
        tally.fault(format!("verify: {}", String::from_utf8_lossy(&verified.stdout)));
    }
    Ok(tally)
}

/// Makes everybody friends with everybody, as a migration does.
async fn befriend(admin: &Admin, users: &[String]) -> Result {
    for user in users {
        let friends: Vec<&String> = users.iter().filter(|other| *other != user).collect();
        let body = json!({ "ownerUserID": user, "friendUserIDs": friends });
        admin.client.call("/friend/import_friend", body).await?;
    }
    Ok(())
}
