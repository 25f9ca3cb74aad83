//! Waiting for a data folder that somebody else works with just now.

use std::thread;
use std::time::{Duration, Instant};

use store::StoreError;

/// How long it is waited for: longer than a short command takes, and a start.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries to open something until nobody else has it, but not for ever.
pub(crate) fn patiently<T>(mut open: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if is_locked(&error) && Instant::now() < until => thread::sleep(PAUSE),
            done => return done,
        }
    }
}

/// Whether another process works with the data.
fn is_locked(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(StoreError::Locked(_))))
}
