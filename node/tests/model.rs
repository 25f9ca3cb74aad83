//! Random work held against a model of who must see what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::path::Path;

use testnet::model::{play_in_memory, play_in_process, regressions};

/// Seeds played in memory; `.ci/model` plays 200, `testnet model` 10,000.
const SEEDS: u64 = 40;
const STEPS: usize = 200;

#[test]
fn the_services_do_what_the_model_says() {
    for seed in 1..=SEEDS {
        if let Err(error) = play_in_memory(seed, STEPS, false) {
            panic!("seed {seed}: {error:#}");
        }
    }
}

#[test]
fn seeds_that_failed_once_fail_no_more() {
    for (seed, steps) in regressions().unwrap() {
        if let Err(error) = play_in_memory(seed, steps, false) {
            panic!("seed {seed}: {error:#}");
        }
    }
}

#[tokio::test]
async fn a_real_node_does_what_the_model_says() {
    let server = Path::new(env!("CARGO_BIN_EXE_entente"));
    for seed in 1..=2 {
        if let Err(error) = play_in_process(server, seed, STEPS).await {
            panic!("seed {seed}: {error:#}");
        }
    }
}
