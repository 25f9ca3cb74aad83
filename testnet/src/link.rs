//! A link between two nodes: a UDP relay in front of one of them, on which datagrams are lost, delayed,
//! doubled and overtaken, as `tc netem` does it, without root and on every kernel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::Result;
use crate::random::Random;

/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// Senders that one relay knows at the same time; beyond them all are forgotten.
const MOST_SENDERS: usize = 64;
/// What waits longer behind others on a narrow link is lost.
const LONGEST_QUEUE: Duration = Duration::from_millis(300);

/// What happens to the datagrams on a link. Zeros: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Faults {
    /// Nothing gets through.
    pub(crate) cut: bool,
    /// Milliseconds that each takes.
    pub(crate) delay_ms: u64,
    /// Most further milliseconds, another number for each: they overtake each other.
    pub(crate) jitter_ms: u64,
    /// Of a hundred, those that are lost.
    pub(crate) loss_percent: u32,
    /// Of a hundred, those that come twice.
    pub(crate) duplicate_percent: u32,
    /// Kilobytes a second that fit through; zero: as many as there are.
    pub(crate) kilobytes: u64,
}

/// A link between two nodes, on which things go wrong.
#[derive(Debug, Default)]
pub(crate) struct Link {
    faults: Mutex<Faults>,
    /// Until when it is busy with what was sent, if only so much fits through.
    busy_until: Mutex<Option<Instant>>,
    /// Bytes that came, of both directions.
    bytes: AtomicU64,
}

impl Link {
    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.set(Faults::default());
    }

    /// Cuts or joins it; what else is wrong stays.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.faults.lock().cut = cut;
    }

    /// Lets something go wrong, or nothing.
    pub(crate) fn disturb(&self, random: &mut Random) {
        let mut faults = Faults::default();
        match random.below(8) {
            0 => faults.cut = true,
            1 => faults.delay_ms = random.below(40) as u64,
            2 => {
                faults.delay_ms = random.below(10) as u64;
                faults.loss_percent = random.below(20) as u32;
            }
            3 => faults.jitter_ms = random.below(30) as u64,
            4 => {
                faults.duplicate_percent = random.below(50) as u32;
                faults.jitter_ms = random.below(5) as u64;
            }
            5 => faults.kilobytes = 50 + random.below(500) as u64,
            _ => {}
        }
        self.set(faults);
    }

    /// Bytes that came to the relay so far, of both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn text(&self) -> String {
        let faults = *self.faults.lock();
        if faults.cut {
            return "cut".to_owned();
        }
        let mut words = Vec::new();
        match (faults.delay_ms, faults.jitter_ms) {
            (0, 0) => {}
            (delay, 0) => words.push(format!("+{delay} ms")),
            (delay, jitter) => words.push(format!("+{delay}-{} ms", delay + jitter)),
        }
        for (percent, what) in [(faults.loss_percent, "lost"), (faults.duplicate_percent, "twice")]
        {
            if percent > 0 {
                words.push(format!("{percent} % {what}"));
            }
        }
        if faults.kilobytes > 0 {
            words.push(format!("{} kB/s", faults.kilobytes));
        }
        words.join(", ")
    }

    /// How long each copy of a datagram takes; nothing: it is lost.
    fn fate(&self, bytes: usize) -> Vec<Duration> {
        let faults = *self.faults.lock();
        let happens = |percent| rand::random_range(0..100) < percent;
        if faults.cut || happens(faults.loss_percent) {
            return Vec::new();
        }
        let Some(waits) = self.queue(faults.kilobytes, bytes) else { return Vec::new() };
        let copies = if happens(faults.duplicate_percent) { 2 } else { 1 };
        let one = |_| {
            let jitter = rand::random_range(0..=faults.jitter_ms);
            waits + Duration::from_millis(faults.delay_ms + jitter)
        };
        (0..copies).map(one).collect()
    }

    /// How long a datagram waits until those before it are through; `None`: too many wait.
    fn queue(&self, kilobytes: u64, bytes: usize) -> Option<Duration> {
        if kilobytes == 0 {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let mut busy_until = self.busy_until.lock();
        let begins = busy_until.map_or(now, |until| until.max(now));
        if begins - now > LONGEST_QUEUE {
            return None;
        }
        let takes = Duration::from_micros(bytes as u64 * 1_000 / kilobytes);
        *busy_until = Some(begins + takes);
        Some(begins + takes - now)
    }
}

/// Starts a relay to `node`; returns the port on which it listens.
pub(crate) async fn start(node: SocketAddr, link: Arc<Link>) -> Result<u16> {
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
                None => match upstream(node, from, &front, &link).await {
                    Ok(upstream) => Arc::clone(senders.entry(from).or_insert(upstream)),
                    Err(_) => continue,
                },
            };
            link.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let datagram = buffer.get(..bytes).unwrap_or_default().to_vec();
            pass(&link, datagram, |datagram| {
                let upstream = Arc::clone(&upstream);
                async move {
                    let _ = upstream.send(&datagram).await;
                }
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
    link: &Arc<Link>,
) -> Result<Arc<UdpSocket>> {
    let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    upstream.connect(node).await?;
    let (back, front, link) = (Arc::downgrade(&upstream), Arc::clone(front), Arc::clone(link));
    tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while let Some(upstream) = back.upgrade() {
            let received =
                tokio::time::timeout(Duration::from_secs(60), upstream.recv(&mut buffer)).await;
            let Ok(Ok(bytes)) = received else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            link.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            let datagram = buffer.get(..bytes).unwrap_or_default().to_vec();
            pass(&link, datagram, |datagram| {
                let front = Arc::clone(&front);
                async move {
                    let _ = front.send_to(&datagram, sender).await;
                }
            });
        }
    });
    Ok(upstream)
}

/// Sends what becomes of a datagram, when it is time.
fn pass<F>(link: &Link, datagram: Vec<u8>, send: impl Fn(Vec<u8>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for delay in link.fate(datagram.len()) {
        let sending = send(datagram.clone());
        tokio::spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            sending.await;
        });
    }
}
