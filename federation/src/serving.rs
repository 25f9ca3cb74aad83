//! Links that other nodes open: how many there may be, and what serves them.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::shared::Shared;
use crate::transport::{Incoming, Lane};
use crate::{control, incoming, media};

/// Links that others have open at the same time.
const LINKS: usize = 4_096;
/// Links of one lane that one other node has open at the same time.
const LINKS_PER_PEER: usize = 64;

/// Serves what others open until the node stops.
pub(crate) async fn accept(shared: Arc<Shared>, mut links: mpsc::Receiver<Incoming>) {
    let room = Arc::new(Semaphore::new(LINKS));
    let stop = shared.stop.clone();
    while let Some(Some(link)) = stop.run_until_cancelled(links.recv()).await {
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(serve(shared, link)).await;
            drop(place);
        });
    }
}

/// Serves one link.
async fn serve(shared: Arc<Shared>, link: Incoming) {
    let (peer, lane) = (link.peer, link.lane);
    let room = || Arc::new(Semaphore::new(LINKS_PER_PEER));
    let room = Arc::clone(&shared.links.entry((peer, lane)).or_insert_with(room));
    let place = tokio::time::timeout(shared.settings.timing.answer, room.acquire()).await;
    let Ok(Ok(place)) = place else {
        tracing::debug!(peer = hex::encode(peer), "another node has too many links open");
        return;
    };
    let served = match lane {
        Lane::Events => incoming::serve(Arc::clone(&shared), link).await,
        Lane::Control => control::serve(Arc::clone(&shared), link).await,
        Lane::Media => media::serve(Arc::clone(&shared), link).await,
    };
    if let Err(error) = served {
        tracing::debug!(peer = hex::encode(peer), ?lane, %error, "a link ended");
    }
    drop(place);
    shared.links.remove_if(&(peer, lane), |_, room| room.available_permits() == LINKS_PER_PEER);
}
