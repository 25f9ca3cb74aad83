//! Reads everything that is stored, at the start and then once a day, so that what the disk has damaged
//! is known before somebody needs it.

use std::time::{Duration, Instant};

use services::Services;
use store::Store;
use tokio_util::sync::CancellationToken;

/// Time between two passes.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Read at once, before a pass slows down.
const FIRST_BYTES: u64 = 64 << 20;
/// Read in a second from then on, at most.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// Reads until the node stops.
pub(crate) async fn read_all(services: Services, stop: CancellationToken) {
    loop {
        let (store, stopped) = (services.store().clone(), stop.clone());
        let pass = tokio::task::spawn_blocking(move || pass(&store, stopped));
        if let Ok(Err(error)) = pass.await {
            tracing::warn!(%error, "what is stored was not read to the end");
        }
        if let Err(error) = services.find_damaged_content(slowly(stop.clone())).await {
            tracing::warn!(%error, "uploaded files were not read to the end");
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Waits after each part that was read, so that no more is read in a second than is to be; says whether
/// to go on.
fn slowly(stop: CancellationToken) -> impl FnMut(u64) -> bool {
    let begun = Instant::now();
    let mut read = 0_u64;
    move |bytes| {
        read += bytes;
        let slow = read.saturating_sub(FIRST_BYTES);
        let due = Duration::from_millis(slow.saturating_mul(1_000) / BYTES_PER_SECOND);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        !stop.is_cancelled()
    }
}

fn pass(store: &Store, stop: CancellationToken) -> Result<(), store::StoreError> {
    store.read_all(&mut slowly(stop))?;
    match store.damaged() {
        0 => {}
        damaged => tracing::error!(
            damaged,
            "the disk has damaged stored values; `entente verify` names them"
        ),
    }
    Ok(())
}
