//! Whether a user of another node takes a message, asked before it is stored.
//!
//! The sender so sees the same error as from a local receiver. An answer holds for some seconds and
//! is withdrawn when it changes; if the other node cannot be reached, the message waits in the
//! outbox, and a refusal comes later, as a tip.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::federation::{MaySend, Withdraw, request, response};
use proto::qualified::{Domain, home_of, qualify};
use proto::sdkws::MsgData;
use store::schema;
use tokio::sync::OwnedMutexGuard;

use super::may_cross;
use crate::Services;
use crate::conversation_id::SINGLE;
use crate::error::{Result, ServiceError};

/// How long another node may rely on a yes of this one, in milliseconds.
pub(super) const VALID_MS: i64 = 10_000;
/// How long this node relies on one, at most.
const MOST_VALID_MS: i64 = 60_000;
/// How long a sender waits for the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a node is not asked again that did not answer, in milliseconds.
const SILENT_MS: i64 = 3_000;
/// Pairs that are remembered; beyond them all are forgotten.
const MOST_PAIRS: usize = 100_000;

/// What was asked and answered lately.
#[derive(Default)]
pub(crate) struct Verdicts {
    /// Sender and receiver elsewhere: until when the receiver takes messages.
    taken: Mutex<HashMap<(String, String), i64>>,
    /// Sender elsewhere and receiver: until when the sender's node relies on a yes.
    given: Mutex<HashMap<(String, String), i64>>,
    /// Nodes that did not answer: until when they are not asked.
    silent: Mutex<HashMap<Domain, i64>>,
    /// Pairs for which the other node is being asked, and their messages that wait meanwhile.
    asking: Mutex<HashMap<(String, String), Arc<Row>>>,
}

/// Whose turn it is among the messages of a pair: first come, first served.
type Row = tokio::sync::Mutex<()>;

/// The turn of one message. Those behind it wait until this is dropped, so that none overtakes it.
pub(crate) struct Turn {
    services: Services,
    pair: (String, String),
    place: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.place = None;
        let mut asking = self.services.inner.verdicts.asking.lock();
        // Nobody but the map knows the row: nobody waits in it.
        if asking.get(&self.pair).is_some_and(|row| Arc::strong_count(row) == 1) {
            asking.remove(&self.pair);
        }
    }
}

fn remember<K: Eq + std::hash::Hash>(map: &Mutex<HashMap<K, i64>>, key: K, until: i64) {
    let mut map = map.lock();
    if map.len() >= MOST_PAIRS {
        map.clear();
    }
    map.insert(key, until);
}

impl Services {
    /// Refuses a message to a user of another node that would be refused there.
    ///
    /// Whoever gets a turn keeps it until the message is stored: messages of a pair stay in the
    /// order in which they came, however long the other node takes to answer.
    pub(crate) async fn check_elsewhere(&self, message: &MsgData) -> Result<Option<Turn>> {
        let pair = (message.send_id.clone(), message.recv_id.clone());
        let row = {
            let mut asking = self.inner.verdicts.asking.lock();
            if !asking.contains_key(&pair) && self.is_taken(&pair) {
                return Ok(None);
            }
            Arc::clone(asking.entry(pair.clone()).or_default())
        };
        // Made before it waits: whoever gives up waiting leaves no row behind.
        let mut turn = Turn { services: self.clone(), pair, place: None };
        turn.place = Some(row.lock_owned().await);
        self.ask_elsewhere(&turn.pair).await?;
        Ok(Some(turn))
    }

    /// Whether the receiver is known to take messages of the sender.
    fn is_taken(&self, pair: &(String, String)) -> bool {
        self.inner.verdicts.taken.lock().get(pair).is_some_and(|until| self.now() < *until)
    }

    async fn ask_elsewhere(&self, pair: &(String, String)) -> Result<()> {
        let (from, to) = (pair.0.as_str(), pair.1.as_str());
        let (Some(own), Some(domain)) = (self.domain(), home_of(to)) else {
            return Err(ServiceError::not_found(format!("no user {to}")));
        };
        {
            let view = self.store().view();
            if !schema::USERS.contains(&view, from)? {
                return Err(ServiceError::not_found(format!("no user {from}")));
            }
            may_cross(&view, from)?;
        }
        if self.is_taken(pair) {
            return Ok(());
        }
        let verdicts = &self.inner.verdicts;
        self.must_be_known(to).await?;
        if verdicts.silent.lock().get(&domain).is_some_and(|until| self.now() < *until) {
            return Ok(());
        }
        let ask = MaySend { from: qualify(from, own)?, to: qualify(to, own)? };
        let asked = self.ask(&domain, request::Body::MaySend(ask));
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => {
                if let Some(response::Body::SendVerdict(verdict)) = answer.body {
                    let valid = verdict.valid_ms.clamp(0, MOST_VALID_MS);
                    remember(&verdicts.taken, pair.clone(), self.now() + valid);
                }
                Ok(())
            }
            Ok(Err(error @ ServiceError::Elsewhere { .. })) => Err(error),
            Ok(Err(_)) | Err(_) => {
                remember(&verdicts.silent, domain, self.now() + SILENT_MS);
                Ok(())
            }
        }
    }

    /// Answers another node whether `to`, a user of this one, takes messages of `from`.
    pub(super) fn answer_may_send(&self, from: String, to: String) -> Result<i64> {
        let mut message = MsgData {
            send_id: from.clone(),
            recv_id: to.clone(),
            session_type: SINGLE,
            content_type: crate::message::TEXT,
            ..MsgData::default()
        };
        let view = self.store().view();
        // Noted before it is answered: what changes in between is withdrawn.
        remember(&self.inner.verdicts.given, (from, to), self.now() + VALID_MS);
        self.check_receiver(&view, &mut message)?;
        Ok(VALID_MS)
    }

    /// Tells the node of `from` that what it was told of `to` may have changed.
    pub(crate) fn withdraw_verdict(&self, from: &str, to: &str) {
        let given = self.inner.verdicts.given.lock().remove(&(from.to_owned(), to.to_owned()));
        let (Some(own), Some(domain)) = (self.domain(), home_of(from)) else { return };
        if given.is_none_or(|until| until < self.now()) {
            return;
        }
        let (Ok(from), Ok(to)) = (qualify(from, own), qualify(to, own)) else { return };
        let services = self.clone();
        self.inner.runtime.spawn(async move {
            let withdraw = request::Body::Withdraw(Withdraw { from, to });
            // If it does not arrive, the verdict ends by itself.
            let _ = services.ask(&domain, withdraw).await;
        });
    }

    /// Another node takes back what it said of its user `to`.
    pub(super) fn verdict_withdrawn(&self, from: String, to: String) {
        self.inner.verdicts.taken.lock().remove(&(from, to));
    }
}
