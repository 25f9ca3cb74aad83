//! One session at work: sends, receives, and checks that nothing is lost, doubled or out of order.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::latency::Sample;
use super::marker::{Clock, Marker};
use super::peer::{Event, Session, To};
use super::text::Texts;
use super::windows::Windows;
use crate::Result;

/// Faults of one session that are told in full.
const FAULTS_TOLD: usize = 5;

/// What all sessions of a run share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    /// Nobody sends any more.
    pub(crate) sent_all: AtomicBool,
    /// The sessions end.
    pub(crate) end: CancellationToken,
    /// Messages that may still be sent.
    pub(crate) budget: AtomicI64,
    pub(crate) sent: AtomicU64,
    /// Deliveries to others that what was sent has to cause.
    pub(crate) due: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) delivered: AtomicU64,
    /// Messages pushed back to their sender.
    pub(crate) echoed: AtomicU64,
    /// Faults seen so far.
    pub(crate) faults: AtomicU64,
    /// Where latencies of deliveries are noted in a long run, instead of each on its own.
    pub(crate) windows: Option<Windows>,
}

impl Shared {
    pub(crate) fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self::of(budget, None))
    }

    /// For a run without a bound, of which only windows of latencies are kept.
    pub(crate) fn with_windows() -> Result<Arc<Self>> {
        Ok(Arc::new(Self::of(u64::MAX, Some(Windows::new()?))))
    }

    fn of(budget: u64, windows: Option<Windows>) -> Self {
        Self {
            clock: Clock::start(),
            sent_all: AtomicBool::new(false),
            end: CancellationToken::new(),
            budget: AtomicI64::new(i64::try_from(budget).unwrap_or(i64::MAX)),
            sent: AtomicU64::new(0),
            due: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            windows,
        }
    }

    fn may_send(&self) -> bool {
        !self.sent_all.load(Ordering::Relaxed) && self.budget.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

/// When a session sends.
pub(crate) enum Pace {
    /// Never.
    Silent,
    /// One message.
    Once,
    /// As soon as fewer than so many of its messages wait for their acknowledgement.
    Window(usize),
    /// At moments told to it, in nanoseconds of the clock.
    Arrivals(mpsc::UnboundedReceiver<u64>),
}

/// How long contents are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sizes {
    Fixed(usize),
    /// Evenly between two lengths on a logarithmic scale.
    Between(usize, usize),
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => write!(f, "{bytes} bytes"),
            Self::Between(least, most) => write!(f, "{least} to {most} bytes"),
        }
    }
}

impl Sizes {
    fn pick(self, texts: &mut Texts) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Between(least, most) => {
                let share = texts.below(1 << 20) as f64 / f64::from(1 << 20);
                let factor = (most as f64 / least as f64).powf(share);
                (least as f64 * factor) as usize
            }
        }
    }
}

/// What one session has to do; it has part in one conversation only.
pub(crate) struct Work {
    /// Its number; its messages carry it.
    pub(crate) number: u32,
    /// Where its messages go.
    pub(crate) to: To,
    /// Sessions other than this one that each of its messages reaches.
    pub(crate) reaches: u64,
    pub(crate) pace: Pace,
    pub(crate) sizes: Sizes,
    pub(crate) texts: Texts,
}

/// What became of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) number: u32,
    pub(crate) sent: u32,
    pub(crate) acknowledged: u32,
    pub(crate) acknowledgements: Vec<Sample>,
    pub(crate) deliveries: Vec<Sample>,
    /// Messages received from each session, itself included.
    pub(crate) received: HashMap<u32, u32>,
    /// Bytes of contents sent.
    pub(crate) bytes: u64,
    pub(crate) faults: Vec<String>,
    /// Place of the last message in the one conversation it has part in.
    last_seq: i64,
}

/// Runs a session until [`Shared::end`]; a connection that fails is a fault.
pub(crate) async fn drive<S: Session>(session: S, work: Work, shared: Arc<Shared>) -> Outcome {
    let mut driver = Driver { session, shared, outcome: Outcome::default(), work };
    driver.outcome.number = driver.work.number;
    let end = driver.shared.end.clone();
    if let Some(Err(error)) = end.run_until_cancelled(driver.run()).await {
        driver.fault(format!("{error:#}"));
    }
    driver.outcome
}

struct Driver<S> {
    session: S,
    work: Work,
    shared: Arc<Shared>,
    outcome: Outcome,
}

impl<S: Session> Driver<S> {
    async fn run(&mut self) -> Result {
        loop {
            self.fill_window().await?;
            let event = match &mut self.work.pace {
                Pace::Arrivals(arrivals) => tokio::select! {
                    Some(due) = arrivals.recv() => {
                        self.send(due).await?;
                        self.session.flush().await?;
                        continue;
                    }
                    event = self.session.next() => event,
                },
                Pace::Silent | Pace::Once | Pace::Window(_) => self.session.next().await,
            };
            self.take(event?);
            while let Some(event) = self.session.ready() {
                self.take(event?);
            }
        }
    }

    async fn fill_window(&mut self) -> Result {
        let window = match self.work.pace {
            Pace::Window(window) => window,
            Pace::Once if self.outcome.sent == 0 => 1,
            _ => return Ok(()),
        };
        let mut fed = false;
        while ((self.outcome.sent - self.outcome.acknowledged) as usize) < window
            && self.shared.may_send()
        {
            self.send(self.shared.clock.now()).await?;
            fed = true;
        }
        if fed { self.session.flush().await } else { Ok(()) }
    }

    async fn send(&mut self, due: u64) -> Result {
        let number = self.outcome.sent;
        let marker = Marker { sender: self.work.number, number, due };
        let bytes = self.work.sizes.pick(&mut self.work.texts);
        let content = self.work.texts.content(bytes);
        self.outcome.sent += 1;
        self.outcome.bytes += content.len() as u64;
        self.shared.due.fetch_add(self.work.reaches, Ordering::Relaxed);
        self.shared.sent.fetch_add(1, Ordering::Relaxed);
        self.session.feed(&self.work.to, marker, &content).await
    }

    fn take(&mut self, event: Event) {
        let now = self.shared.clock.now();
        match event {
            Event::Acknowledged(marker) => {
                let expected = self.outcome.acknowledged;
                if marker.sender != self.work.number || marker.number != expected {
                    self.fault(format!("acknowledged {marker:?} instead of number {expected}"));
                }
                self.outcome.acknowledged += 1;
                if self.shared.windows.is_none() {
                    self.outcome.acknowledgements.push(Sample::new(marker, now));
                }
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Event::Refused(why) => {
                self.outcome.acknowledged += 1;
                self.fault(format!("refused: {why}"));
            }
            Event::Message { marker, seq } => {
                let last = std::mem::replace(&mut self.outcome.last_seq, seq);
                if last != 0 && seq != last + 1 {
                    self.fault(format!("seq {seq} came after {last}"));
                }
                let seen = self.outcome.received.entry(marker.sender).or_default();
                let expected = *seen;
                *seen = marker.number + 1;
                if marker.number != expected {
                    self.fault(format!(
                        "message {} of session {} came instead of {expected}",
                        marker.number, marker.sender
                    ));
                }
                if marker.sender == self.work.number {
                    self.shared.echoed.fetch_add(1, Ordering::Relaxed);
                } else {
                    match &self.shared.windows {
                        Some(windows) => {
                            windows.note(Duration::from_nanos(now.saturating_sub(marker.due)));
                        }
                        None => self.outcome.deliveries.push(Sample::new(marker, now)),
                    }
                    self.shared.delivered.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn fault(&mut self, what: String) {
        self.shared.faults.fetch_add(1, Ordering::Relaxed);
        if self.outcome.faults.len() < FAULTS_TOLD {
            self.outcome.faults.push(format!("session {}: {what}", self.work.number));
        }
    }
}
