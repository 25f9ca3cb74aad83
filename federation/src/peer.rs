//! What goes on between this node and each other one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::budget::{Budget, Cost, Spending};
use crate::instance::{Inbound, Probes};

/// State of the stream of events to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// There was nothing to send since the start.
    #[default]
    Idle,
    /// A link is being opened.
    Connecting,
    /// Events flow.
    Up,
    /// The last try failed; the next one follows.
    Waiting,
    /// This node deals with no other one any more.
    Stopped,
}

/// One other node, as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct PeerReport {
    /// Its domain.
    pub domain: String,
    /// State of the stream to it.
    pub state: LinkState,
    /// Events that wait for it.
    pub queued: u64,
    /// Events that it has made durable, in all.
    pub delivered: u64,
    /// Events that came from it since the start.
    pub received: u64,
    /// Events in quarantine that came from it.
    pub quarantined: u64,
    /// Times since the start that it was over its budget.
    pub throttled: u64,
    /// What was refused since the start, by whom and why: counts by code.
    pub refusals: Refusals,
    /// Peer ID of the key under which it is reached.
    pub peer_id: Option<String>,
    /// The operator pinned a key.
    pub pinned: bool,
    /// Where it is reached, as multiaddrs.
    pub addresses: Vec<String>,
    /// Why the last try failed; `None` once one has succeeded.
    pub last_error: Option<String>,
    /// Two instances of it were there at the same time, and one of them is refused.
    pub doubled: bool,
}

/// Refused events, by error code.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Refusals {
    /// Events from there that this node refused.
    pub here: BTreeMap<i32, u64>,
    /// Events from here that the other node refused.
    pub there: BTreeMap<i32, u64>,
    /// Links from there that this node refused, by what it said.
    pub links: BTreeMap<String, u64>,
}

pub(crate) struct Peer {
    /// Something was queued.
    pub(crate) wake: Notify,
    /// It has just shown that it can be reached.
    pub(crate) reachable: Notify,
    /// The worker runs.
    pub(crate) working: AtomicBool,
    pub(crate) received: AtomicU64,
    /// Times that it was made to wait, or refused, because it was over its budget.
    throttled: AtomicU64,
    spending: Mutex<Spending>,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    state: LinkState,
    refusals: Refusals,
    last_error: Option<String>,
    /// The link on which events come in.
    inbound: Option<Inbound>,
    /// It was seen to run twice.
    doubled: bool,
    /// It has said that another instance of this node asks to be let in.
    told_of_other: bool,
}

/// Kinds of refused links that are told apart.
const MOST_KINDS: usize = 32;

impl Peer {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            wake: Notify::default(),
            reachable: Notify::default(),
            working: AtomicBool::default(),
            received: AtomicU64::default(),
            throttled: AtomicU64::default(),
            spending: Mutex::new(Spending::new(budget)),
            status: Mutex::default(),
        }
    }

    /// Charges a batch to its budget, and to its users and groups what is on their account; returns
    /// how long it has to wait before the next.
    pub(crate) fn charge(&self, events: usize, bytes: usize, costs: Vec<Cost>) -> Duration {
        let wait = {
            let mut spending = self.spending.lock();
            spending.batch(events, bytes).max(spending.each(costs))
        };
        self.waits(wait)
    }

    /// The same for events that were refused.
    pub(crate) fn charge_refused(&self, events: usize) -> Duration {
        let wait = self.spending.lock().refused(events);
        self.waits(wait)
    }

    /// How long it has to wait before its first batch on a new link.
    pub(crate) fn has_to_wait(&self) -> Duration {
        self.spending.lock().wait()
    }

    fn waits(&self, wait: Duration) -> Duration {
        if !wait.is_zero() {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        wait
    }

    /// Whether its budget has room for a request.
    pub(crate) fn may_ask(&self) -> bool {
        let may = self.spending.lock().request();
        if !may {
            self.throttled.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    pub(crate) fn set_state(&self, state: LinkState) {
        let mut status = self.status.lock();
        status.state = state;
        if state == LinkState::Up {
            status.last_error = None;
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.status.lock().state == LinkState::Up
    }

    pub(crate) fn failed(&self, reason: String) {
        let mut status = self.status.lock();
        status.state = LinkState::Waiting;
        status.last_error = Some(reason);
    }

    pub(crate) fn refused_here(&self, code: i32) {
        *self.status.lock().refusals.here.entry(code).or_default() += 1;
    }

    pub(crate) fn refused_there(&self, code: i32) {
        *self.status.lock().refusals.there.entry(code).or_default() += 1;
    }

    pub(crate) fn refused_link(&self, reason: &str) {
        let links = &mut self.status.lock().refusals.links;
        let kind = if links.len() < MOST_KINDS { reason } else { "other" };
        *links.entry(kind.to_owned()).or_default() += 1;
    }

    /// Takes over the one inbound stream of events; the one before it ends.
    pub(crate) fn take_over(&self, instance: u64) -> (CancellationToken, Probes) {
        let (mine, probes) = Inbound::new(instance);
        let ended = mine.ended.clone();
        let mut status = self.status.lock();
        if let Some(before) = status.inbound.replace(mine) {
            status.doubled &= before.is_of(instance);
            before.ended.cancel();
        }
        (ended, probes)
    }

    /// The link on which events come in.
    pub(crate) fn inbound(&self) -> Option<Inbound> {
        self.status.lock().inbound.clone().filter(|inbound| !inbound.ended.is_cancelled())
    }

    /// Notes that it says that this node runs twice; false if that was known.
    pub(crate) fn note_other(&self) -> bool {
        !std::mem::replace(&mut self.status.lock().told_of_other, true)
    }

    /// Notes that it runs twice; false if that was known.
    pub(crate) fn note_doubled(&self) -> bool {
        !std::mem::replace(&mut self.status.lock().doubled, true)
    }

    pub(crate) fn fill(&self, report: &mut PeerReport) {
        let status = self.status.lock();
        report.state = status.state;
        report.refusals = status.refusals.clone();
        report.last_error.clone_from(&status.last_error);
        report.doubled = status.doubled;
        report.received = self.received.load(Ordering::Relaxed);
        report.throttled = self.throttled.load(Ordering::Relaxed);
    }
}
