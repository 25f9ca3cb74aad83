//! A UDP relay in front of a node: what goes through it can be cut, delayed or lost.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::Result;

/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Senders that one relay knows at the same time; beyond them all are forgotten.
const MOST_SENDERS: usize = 64;

/// What is wrong with the link between two nodes.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    cut: AtomicBool,
    delay_ms: AtomicU64,
    loss_percent: AtomicU32,
    /// Bytes that came, of both directions.
    bytes: AtomicU64,
}

impl Faults {
    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    pub(crate) fn slow(&self, delay_ms: u64, loss_percent: u32) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
        self.loss_percent.store(loss_percent, Ordering::Relaxed);
    }

    /// Bytes that came to the relay so far, of both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn text(&self) -> String {
        let (delay, loss) =
            (self.delay_ms.load(Ordering::Relaxed), self.loss_percent.load(Ordering::Relaxed));
        match (self.cut.load(Ordering::Relaxed), delay, loss) {
            (true, ..) => "cut".to_owned(),
            (_, 0, 0) => String::new(),
            _ => format!("+{delay} ms, {loss} % lost"),
        }
    }

    /// How long a datagram takes; `None`: it is lost.
    fn fate(&self) -> Option<Duration> {
        let lost = rand::random_range(0..100) < self.loss_percent.load(Ordering::Relaxed);
        if lost || self.cut.load(Ordering::Relaxed) {
            return None;
        }
        Some(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)))
    }
}

/// Starts a relay to `node`; returns the port on which it listens.
pub(crate) async fn start(node: SocketAddr, faults: Arc<Faults>) -> Result<u16> {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    let port = front.local_addr()?.port();
    tokio::spawn(async move {
        let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            // An ICMP error of an earlier send comes up here; the relay goes on.
            let Ok((bytes, from)) = front.recv_from(&mut buffer).await else { continue };
            if senders.len() >= MOST_SENDERS {
                senders.clear();
            }
            let upstream = match senders.get(&from) {
                Some(upstream) => Arc::clone(upstream),
                None => match upstream(node, from, &front, &faults).await {
                    Ok(upstream) => Arc::clone(senders.entry(from).or_insert(upstream)),
                    Err(_) => continue,
                },
            };
            faults.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let datagram = buffer.get(..bytes).unwrap_or_default().to_vec();
            pass(&faults, async move {
                let _ = upstream.send(&datagram).await;
            });
        }
    });
    Ok(port)
}

/// A socket for one sender, whose answers go back to it.
async fn upstream(
    node: SocketAddr,
    sender: SocketAddr,
    front: &Arc<UdpSocket>,
    faults: &Arc<Faults>,
) -> Result<Arc<UdpSocket>> {
    let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    upstream.connect(node).await?;
    let (back, front, faults) = (Arc::downgrade(&upstream), Arc::clone(front), Arc::clone(faults));
    tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Some(upstream) = back.upgrade() {
            let received =
                tokio::time::timeout(Duration::from_secs(60), upstream.recv(&mut buffer)).await;
            let Ok(Ok(bytes)) = received else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            faults.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let datagram = buffer.get(..bytes).unwrap_or_default().to_vec();
            let front = Arc::clone(&front);
            pass(&faults, async move {
                let _ = front.send_to(&datagram, sender).await;
            });
        }
    });
    Ok(upstream)
}

fn pass(faults: &Faults, send: impl Future<Output = ()> + Send + 'static) {
    let Some(delay) = faults.fate() else { return };
    tokio::spawn(async move {
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        send.await;
    });
}
