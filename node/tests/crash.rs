//! What was acknowledged survives `kill -9`, again and again on one data folder.
#![allow(clippy::print_stdout, reason = "a test may print")]

use std::path::Path;

use testnet::crash::Phase;
use testnet::{Result, crash};

const ROUNDS: usize = 20;
const SENDERS: usize = 64;
/// Of each phase.
const ROUNDS_IN: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_in_twenty_kills() -> Result {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    let report = crash::rounds(server, ROUNDS, SENDERS, 20, |_| {}).await?;
    println!("{report:?}");
    assert_eq!(report.kills, ROUNDS);
    assert!(report.kills_at_start > 0 && report.changes > ROUNDS, "{report:?}");
    assert!(report.messages > ROUNDS * SENDERS, "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_by_kills_in_the_middle_of_something() -> Result {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    for phase in [
        Phase::Checkpoint,
        Phase::Compaction,
        Phase::Shipping,
        Phase::Backup,
        Phase::Restore,
        Phase::Repair,
        Phase::Upgrade,
    ] {
        let kills = crash::phase::rounds(server, phase, ROUNDS_IN, 20, &mut || ()).await?;
        println!("{phase:?}: {kills:?}");
        assert!(kills.hits >= ROUNDS_IN, "{phase:?} was hit {} times", kills.hits);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_federated_nodes_agree_after_ten_kills() -> Result {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    let report = crash::federated::rounds(server, 3, 10, 7, |_| {}).await?;
    println!("{report:?}");
    assert_eq!(report.kills, 10);
    assert!(report.messages > 100, "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_learns_from_the_others_what_it_has_lost() -> Result {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    let done = crash::federated::succession::restored(server, 3, 1).await?;
    println!("{done:?}");
    assert!(done.messages > 30 && done.in_chats > 30, "{done:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_outlives_its_homes() -> Result {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    let done = crash::federated::succession::rounds(server, 3, 4, 5, |_| {}).await?;
    println!("{done:?}");
    assert_eq!((done.taken_over, done.moved), (3, 1));
    assert!(done.messages > 50, "{done:?}");
    Ok(())
}
