//! Arrivals at a fixed rate, whatever the server does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;

use super::drive::Shared;

/// Tells the sessions in turn when to send, `rate` times a second, until sending ends.
///
/// A thread of its own: timers of the runtime are too coarse and would wait for the generator.
pub(crate) fn start(
    rate: u32,
    sessions: Vec<mpsc::UnboundedSender<u64>>,
    shared: Arc<Shared>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let began = shared.clock.now();
        let step = 1e9 / f64::from(rate.max(1));
        for (number, session) in (0_u64..).zip(sessions.iter().cycle()) {
            let due = began + (number as f64 * step) as u64;
            if let Some(wait) = shared.clock.at(due).checked_duration_since(Instant::now()) {
                std::thread::sleep(wait);
            }
            let done = shared.sent_all.load(Ordering::Relaxed)
                || shared.budget.fetch_sub(1, Ordering::Relaxed) <= 0;
            if done || session.send(due).is_err() {
                break;
            }
        }
    })
}

/// Waits for the pacer, if there is one.
pub(crate) fn join(pacer: Option<std::thread::JoinHandle<()>>) -> crate::Result {
    let ended = pacer.is_none_or(|pacer| pacer.join().is_ok());
    anyhow::ensure!(ended, "the pacer failed");
    Ok(())
}
