//! Links that other nodes open: how many there may be, and what serves them.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::budget::Faults;
use crate::shared::Shared;
use crate::transport::{Incoming, Lane};
use crate::{FederationError, PublicKey, control, incoming, media, peer_id};

/// Links that nodes have open at the same time which were let in before, and that strangers have.
const LINKS: usize = 4_096;
const LINKS_OF_STRANGERS: usize = 512;
/// Links of one lane that one other node has open at the same time.
const LINKS_PER_PEER: usize = 64;
/// Keys whose faults are remembered; beyond, those that are forgiven are forgotten, or all.
const MOST_FAULTY: usize = 4_096;

/// Serves what others open until the node stops.
pub(crate) async fn accept(shared: Arc<Shared>, mut links: mpsc::Receiver<Incoming>) {
    let known = Arc::new(Semaphore::new(LINKS));
    let strangers = Arc::new(Semaphore::new(LINKS_OF_STRANGERS));
    let stop = shared.stop.clone();
    while let Some(Some(link)) = stop.run_until_cancelled(links.recv()).await {
        let room = if shared.admitted.contains(&link.peer) { &known } else { &strangers };
        let Ok(place) = Arc::clone(room).try_acquire_owned() else {
            refusal(&link.peer, link.lane, "too many links are open");
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let quiet = shared.halts.quiet.clone();
            quiet.run_until_cancelled(serve(shared, link)).await;
            drop(place);
        });
    }
}

/// Serves one link.
async fn serve(shared: Arc<Shared>, link: Incoming) {
    if shared.halts.has_begun() {
        return;
    }
    let (peer, lane) = (link.peer, link.lane);
    let room = || Arc::new(Semaphore::new(LINKS_PER_PEER));
    let room = Arc::clone(&shared.links.entry((peer, lane)).or_insert_with(room));
    let place = tokio::time::timeout(shared.settings.timing.answer, room.acquire()).await;
    let Ok(Ok(place)) = place else {
        refusal(&peer, lane, "it has too many links open");
        return;
    };
    let wait = shared.faults.get_mut(&peer).map(|mut faults| faults.charge(0));
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        // Nothing of it is read meanwhile.
        tokio::time::sleep(wait).await;
    }
    let served = match lane {
        Lane::Events => incoming::serve(Arc::clone(&shared), link).await,
        Lane::Control => control::serve(Arc::clone(&shared), link).await,
        Lane::Media => media::serve(Arc::clone(&shared), link).await,
    };
    if let Err(error) = served {
        let fault = error.fault();
        if fault > 0 || matches!(error, FederationError::Policy(_)) {
            refusal(&peer, lane, &error.to_string());
        } else {
            tracing::debug!(peer = hex::encode(peer), ?lane, %error, "a link ended");
        }
        if fault > 0 {
            forget_the_forgiven(&shared);
            shared.faults.entry(peer).or_default().charge(fault);
        }
    }
    drop(place);
    shared.links.remove_if(&(peer, lane), |_, room| room.available_permits() == LINKS_PER_PEER);
}

/// Writes a warning of a link that was refused, or ended by its own fault. The target tells the log
/// that others can cause as many as they like.
fn refusal(peer: &PublicKey, lane: Lane, reason: &str) {
    let address = peer_id::to_text(peer).unwrap_or_default();
    let operation = format!("link for {lane:?}").to_lowercase();
    tracing::warn!(target: "refused", kind = "refused link", address, operation, reason);
}

fn forget_the_forgiven(shared: &Shared) {
    let faults = &shared.faults;
    if faults.len() >= MOST_FAULTY {
        faults.retain(|_, faults: &mut Faults| !faults.is_over());
    }
    if faults.len() >= MOST_FAULTY {
        faults.clear();
    }
}
