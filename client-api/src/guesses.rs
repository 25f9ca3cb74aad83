//! Guessing secrets and tokens: who is wrong again and again waits, by address.
//!
//! The first wrong ones of an address cost nothing. Then a guess takes one of a few turns, and a wrong
//! one keeps its turn for a while, longer each time: whoever sends a thousand at once does not learn
//! more than whoever sends one after the other. A right one gives its turn back at once; whoever hangs
//! up takes nothing back.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Extensions;
use parking_lot::Mutex;
use services::{ServiceError, Services};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client_address::{ClientAddress, block};
use crate::error_code::ApiError;
use crate::refusal::refusal;

/// Wrong ones that cost nothing.
const FREE: u32 = 20;
/// By how much each wrong one beyond keeps its turn longer, and how long at most.
const STEP: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);
/// Time after which one wrong guess is forgotten.
const FORGET: Duration = Duration::from_secs(10);
/// Turns of an address at the same time.
const TURNS: usize = 4;
/// Guesses of an address that may wait for a turn, and how long; others are refused untried.
const WAITING: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that are remembered; the one that was silent longest is forgotten first.
const ADDRESSES: usize = 16_384;

/// The wrong guesses of all addresses, on both ports.
#[derive(Clone)]
pub struct Guesses(Arc<Shared>);

struct Shared {
    free: u32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    addresses: HashMap<IpAddr, Failures>,
    /// The addresses, those silent longest first.
    order: BTreeMap<u64, IpAddr>,
    next: u64,
}

struct Failures {
    count: u32,
    /// When the count was put right for the time that has passed.
    counted: Instant,
    order: u64,
    turns: Arc<Semaphore>,
    waiting: Arc<()>,
}

impl Default for Guesses {
    fn default() -> Self {
        Self::after(FREE)
    }
}

impl Guesses {
    /// Guesses that are slowed down after so many wrong ones of an address.
    pub fn after(free: u32) -> Self {
        Self(Arc::new(Shared { free, known: Mutex::default() }))
    }

    /// A turn to guess, for the client of a request.
    ///
    /// It counts as wrong until it turns out to be right.
    pub(crate) async fn turn(extensions: &Extensions) -> Result<Turn, ApiError> {
        let (Some(guesses), Some(client)) =
            (extensions.get::<Self>(), extensions.get::<ClientAddress>())
        else {
            return Ok(Turn::default());
        };
        guesses.turn_of(client.0).await
    }

    /// Returns when the client of a request may be told that its token is none. It is told in any
    /// case: a device with an old token asks again until it hears so.
    async fn wrong_token(extensions: &Extensions) {
        let latest = Instant::now() + LONGEST;
        let turn = async {
            match Self::turn(extensions).await {
                Ok(turn) => turn.wrong().await,
                Err(_) => sleep_until(latest).await,
            }
        };
        let _ = timeout_at(latest, turn).await;
    }

    async fn turn_of(&self, client: IpAddr) -> Result<Turn, ApiError> {
        let address = block(client);
        let mut turn = Turn::default();
        let (over, turns, waiting) = {
            let mut known = self.0.known.lock();
            let failures = known.touched(address);
            failures.count = failures.count.saturating_add(1);
            let over = failures.count.saturating_sub(self.0.free);
            (over, Arc::clone(&failures.turns), Arc::clone(&failures.waiting))
        };
        if over > 0 {
            // One is that of the address itself, one is this.
            let permit = match Arc::clone(&turns).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) if Arc::strong_count(&waiting) > WAITING + 2 => {
                    return Err(ApiError::too_many_guesses());
                }
                Err(_) => {
                    let waited = tokio::time::timeout(PATIENCE, turns.acquire_owned()).await;
                    let permit = waited.ok().and_then(Result::ok);
                    permit.ok_or_else(ApiError::too_many_guesses)?
                }
            };
            turn.kept = STEP.saturating_mul(over).min(LONGEST);
            turn.permit = Some(permit);
        }
        turn.of = Some((self.clone(), address));
        Ok(turn)
    }
}

impl Known {
    /// What is known of an address, its count put right.
    fn touched(&mut self, address: IpAddr) -> &mut Failures {
        let (now, order) = (Instant::now(), self.next);
        self.next += 1;
        if !self.addresses.contains_key(&address)
            && self.addresses.len() >= ADDRESSES
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.addresses.remove(&oldest);
        }
        let failures = self.addresses.entry(address).or_insert_with(|| Failures {
            count: 0,
            counted: now,
            order,
            turns: Arc::new(Semaphore::new(TURNS)),
            waiting: Arc::default(),
        });
        self.order.remove(&failures.order);
        failures.order = order;
        self.order.insert(order, address);
        let forgotten = now.duration_since(failures.counted).as_secs() / FORGET.as_secs();
        if forgotten > 0 {
            let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
            failures.count = failures.count.saturating_sub(forgotten);
            failures.counted = now;
        }
        failures
    }
}

/// Leave to guess once. Dropped, it was a wrong guess, and its turn is kept as long as that of one.
#[derive(Default)]
pub(crate) struct Turn {
    of: Option<(Guesses, IpAddr)>,
    kept: Duration,
    /// When a wrong guess may be told.
    end: Option<Instant>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// The guess was right.
    pub(crate) fn right(mut self) {
        self.permit = None;
        let Some((guesses, address)) = &self.of else { return };
        if let Some(failures) = guesses.0.known.lock().addresses.get_mut(address) {
            failures.count = failures.count.saturating_sub(1);
        }
    }

    /// The guess was wrong; returns when that may be told.
    pub(crate) async fn wrong(mut self) {
        let end = Instant::now() + self.kept;
        self.end = Some(end);
        sleep_until(end).await;
    }
}

impl Drop for Turn {
    /// Who hangs up before the answer must not have the turn back before its time.
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        let end = self.end.unwrap_or(now + self.kept);
        if let Ok(runtime) = Handle::try_current()
            && end > now
        {
            runtime.spawn(async move {
                sleep_until(end).await;
                drop(permit);
            });
        }
    }
}

/// The answer to a request with a token; if the node does not hold the token, not before its turn or
/// the longest wait.
///
/// Tokens that the node holds are never slowed down, whatever else comes from their address.
pub(crate) async fn judged<T>(
    answer: Result<T, ServiceError>,
    services: &Services,
    token: &str,
    extensions: &Extensions,
    operation: &str,
) -> Result<T, ApiError> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => {
            if !services.holds_token(token) {
                refusal("bad token", extensions, operation, &error);
                Guesses::wrong_token(extensions).await;
            }
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 0, 0, 0, 1));

    /// Guesses all at once; how many were tried, and how long it took until all were told.
    async fn wrong(guesses: &Guesses, count: usize) -> (usize, Duration) {
        let start = Instant::now();
        let tasks: Vec<_> = (0..count)
            .map(|_| {
                let guesses = guesses.clone();
                tokio::spawn(async move {
                    let turn = guesses.turn_of(CLIENT).await;
                    let tried = turn.is_ok();
                    if let Ok(turn) = turn {
                        turn.wrong().await;
                    }
                    tried
                })
            })
            .collect();
        let mut tried = 0;
        for task in tasks {
            tried += usize::from(task.await.expect("ends"));
        }
        (tried, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_are_not_tried() {
        let guesses = Guesses::default();
        let (tried, took) = wrong(&guesses, 1_000).await;
        assert!(tried < 100, "{tried}");
        assert!(took > Duration::from_secs(3), "{took:?}");
    }

    /// How many are tried in a time by clients that hang up as soon as a right one were told.
    async fn tried_by_hanging_up(guesses: &Guesses, time: Duration, verdict: bool) -> usize {
        let end = Instant::now() + time;
        let clients = (0..8).map(|_| {
            let guesses = guesses.clone();
            tokio::spawn(async move {
                let mut tried = 0;
                while Instant::now() < end {
                    let guess = async {
                        let turn = guesses.turn_of(CLIENT).await.expect("few wait");
                        tried += 1;
                        if verdict {
                            turn.wrong().await;
                        } else {
                            let _turn = turn;
                            tokio::time::sleep(LONGEST).await;
                        }
                    };
                    let _ = tokio::time::timeout(Duration::from_millis(5), guess).await;
                }
                tried
            })
        });
        let clients: Vec<_> = clients.collect();
        let mut tried = 0;
        for client in clients {
            tried += client.await.expect("ends");
        }
        tried
    }

    #[tokio::test(start_paused = true)]
    async fn hanging_up_gives_no_turn_back() {
        for verdict in [true, false] {
            let guesses = Guesses::default();
            wrong(&guesses, 100).await;
            let tried = tried_by_hanging_up(&guesses, LONGEST * 10, verdict).await;
            assert!(tried <= TURNS * 11, "{tried} tried, verdict: {verdict}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_token_is_told_in_any_case() {
        let guesses = Guesses::default();
        let crowd = guesses.clone();
        let crowd = tokio::spawn(async move { wrong(&crowd, 1_000).await });
        tokio::task::yield_now().await;
        let mut extensions = Extensions::new();
        extensions.insert(guesses);
        extensions.insert(ClientAddress(CLIENT));
        for _ in 0..3 {
            let start = Instant::now();
            Guesses::wrong_token(&extensions).await;
            let took = start.elapsed();
            assert!(took > Duration::from_secs(3) && took <= LONGEST + STEP, "{took:?}");
        }
        crowd.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_cost_nothing_and_each_more_costs_more() {
        let guesses = Guesses::default();
        for _ in 0..FREE {
            assert_eq!(wrong(&guesses, 1).await, (1, Duration::ZERO));
        }
        let mut before = Duration::ZERO;
        for _ in 0..10 {
            let (_, took) = wrong(&guesses, 1).await;
            assert!(took > before, "{took:?}");
            before = took;
        }
        for _ in 0..100 {
            wrong(&guesses, 1).await;
        }
        let took = wrong(&guesses, 1).await.1;
        assert!((LONGEST..LONGEST + STEP).contains(&took), "{took:?}");
        // The right one is not kept, and it takes nothing back of what was wrong.
        let start = Instant::now();
        guesses.turn_of(CLIENT).await.expect("a turn").right();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(wrong(&guesses, 1).await.1 >= LONGEST);
        // All is forgotten in the end.
        tokio::time::sleep(FORGET * 200).await;
        assert_eq!(wrong(&guesses, 1).await, (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_not_slowed_down() {
        let guesses = Guesses::default();
        wrong(&guesses, 200).await;
        let other: IpAddr = "192.0.2.1".parse().expect("an address");
        let start = Instant::now();
        guesses.turn_of(other).await.expect("a turn").wrong().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        let neighbour: IpAddr = "2001:db8:0:7:ffff::9".parse().expect("an address");
        assert!(guesses.turn_of(neighbour).await.expect("a turn").kept > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_forgotten_oldest_first() {
        let guesses = Guesses::default();
        for last in 0..u32::try_from(ADDRESSES).expect("few") + 10 {
            let address = IpAddr::V4(last.into());
            guesses.turn_of(address).await.expect("a turn").wrong().await;
        }
        let known = guesses.0.known.lock();
        assert_eq!((known.addresses.len(), known.order.len()), (ADDRESSES, ADDRESSES));
        assert!(!known.addresses.contains_key(&IpAddr::V4(9.into())));
        assert!(known.addresses.contains_key(&IpAddr::V4(10.into())));
    }
}
