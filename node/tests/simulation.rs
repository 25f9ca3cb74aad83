//! Organisations over links that fail, in paused time: some of what `testnet simulate` does.

use std::sync::atomic::{AtomicU64, Ordering};

use testnet::{Result, simulation};

/// Seeds played here, and their length.
const SEEDS: u64 = 200;
const COPIES: u64 = 60;
const STEPS: usize = 60;
const NODES: usize = 5;

#[test]
fn organisations_agree_in_the_end() {
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    let played = simulation::play(seed, STEPS, NODES, false);
                    assert!(played.is_ok(), "seed {seed}, {STEPS} steps: {played:?}");
                }
            });
        }
    });
}

#[test]
fn an_older_copy_of_a_node_loses_nothing_that_others_have() {
    for seed in 1..=COPIES {
        let played = simulation::play_copies(seed, STEPS, NODES, false);
        assert!(played.is_ok(), "seed {seed}, {STEPS} steps: {played:?}");
    }
}

#[test]
fn seeds_that_once_failed() -> Result {
    let lines = simulation::REGRESSIONS.lines();
    for line in lines.filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let numbers = line.split(',').map(|number| number.trim().parse::<u64>());
        let numbers = numbers.collect::<std::result::Result<Vec<_>, _>>()?;
        let [seed, steps, nodes] = numbers[..] else { anyhow::bail!("not a seed: {line}") };
        let played = simulation::play(seed, steps as usize, nodes as usize, false);
        assert!(played.is_ok(), "seed {line}: {played:?}");
    }
    Ok(())
}
