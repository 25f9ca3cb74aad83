//! What the rules say to other nodes and what they do with what those say.
//!
//! A change that concerns somebody elsewhere queues an event in its own transaction. An event that
//! comes in runs through the same rules as a request of a client, with the user of the other node
//! as the caller.

mod account;
mod applications;
mod catch_up;
mod chat;
mod epoch;
mod expiry;
mod friend;
mod group;
mod group_call;
mod group_send;
mod head;
mod healing;
mod history;
mod home;
mod local_only;
mod media;
mod members;
mod order;
mod presence;
mod profile;
pub mod proof;
mod replica;
mod request;
mod signature;
mod succession;
mod unsent;
mod verdict;
mod waiting;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::try_join_all;
use prost::Message;
use proto::federation::{
    Event, EventKind, Mark, MediaAnswer, MediaRequest, Refusal, Response, Signature,
    SignedDocument, request as asked,
};
use proto::qualified::{BadId, Domain, home_of, is_remote, localise, qualify, typed};
use proto::sdkws::MsgData;
use store::record::{Quarantined, Queued};
use store::{StoreError, Tx, View, outbox, schema};
use tokio::io::AsyncRead;

use crate::access::Caller;
use crate::border;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::{Services, platform};

pub use account::account;
pub(crate) use applications::{ByHome, first_page};
pub(crate) use group::Crossing;
pub(crate) use group_call::at_home;
pub(crate) use group_send::Awaited;
pub(crate) use head::HeadsToTell;
pub(crate) use healing::Healing;
pub use home::{SetGroupSuccessorReq, SetGroupSuccessorResp};
pub use local_only::LocalOnly;
pub(crate) use local_only::may_cross;
pub(crate) use media::{Fetched, Fetching};
pub(crate) use members::FetchingMembers;
pub use order::Turn;
pub(crate) use order::Turns;
pub(crate) use signature::Vouched;
pub use signature::{Judgement, Purpose};
pub use succession::TakenOver;
pub(crate) use verdict::Verdicts;

/// Events of another node in one transaction: no user of this one waits for more.
const EVENTS_AT_ONCE: usize = 32;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The other nodes, as the rules reach them.
pub trait OtherNodes: Send + Sync {
    /// Something was queued for the node of `domain`.
    fn wake(&self, domain: &Domain);

    /// Asks the node of `domain`; an error says why there is no answer.
    fn ask<'a>(
        &'a self,
        domain: &'a Domain,
        request: asked::Body,
    ) -> BoxFuture<'a, std::result::Result<Response, String>>;

    /// Opens content that the node of `domain` has; an error says why there is no answer.
    fn open_media<'a>(
        &'a self,
        domain: &'a Domain,
        request: MediaRequest,
    ) -> BoxFuture<'a, std::result::Result<(MediaAnswer, Content), String>>;

    /// Signs as this node.
    fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature;

    /// Whether the node of `domain`, which may be this one, has signed at a time in Unix
    /// milliseconds.
    fn judge(
        &self,
        domain: &Domain,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
        at_ms: i64,
    ) -> Judgement;

    /// The document of the node of `domain`; empty if there is none.
    fn document(&self, domain: &Domain) -> SignedDocument;
}

/// The bytes of content.
pub type Content = Box<dyn AsyncRead + Send + Unpin>;

/// Why an event is not applied.
enum Trouble {
    /// The rules say no; the other node is told.
    Refused(ServiceError),
    /// It cannot be understood; it is put aside.
    Bad(String),
    /// The node cannot do it now; it comes again.
    Later(StoreError),
}

impl Trouble {
    /// As the error of a request whose answer cannot be used.
    fn of_an_answer(self) -> ServiceError {
        match self {
            Self::Later(error) => error.into(),
            Self::Refused(error) => error,
            Self::Bad(reason) => ServiceError::Unreachable(reason),
        }
    }
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Store(
                error @ (StoreError::TooLarge { .. } | StoreError::ConversationTaken(_)),
            ) => Self::Refused(ServiceError::args(error.to_string())),
            ServiceError::Store(error) => Self::Later(error),
            ServiceError::Internal(reason) => Self::Bad(reason),
            other => Self::Refused(other),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<BadId> for Trouble {
    fn from(error: BadId) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<prost::DecodeError> for Trouble {
    fn from(error: prost::DecodeError) -> Self {
        Self::Bad(error.to_string())
    }
}

impl From<BadId> for ServiceError {
    fn from(error: BadId) -> Self {
        Self::args(error.to_string())
    }
}

impl Services {
    /// Gets ready for other nodes, before there are any.
    pub async fn prepare_to_federate(&self) -> Result<()> {
        self.begin_recoveries().await?;
        self.look_at_homes()
    }

    /// Connects the rules to the other nodes; once.
    pub fn federate(&self, others: Arc<dyn OtherNodes>) {
        if self.inner.others.set(others).is_err() {
            tracing::error!("the rules are connected to other nodes already");
            return;
        }
        self.start_presence();
        self.expire_now_and_then();
        if let Err(error) =
            self.recover_later().and_then(|()| self.heal_later()).and_then(|()| self.catch_up_all())
        {
            tracing::error!(%error, "groups of other nodes are not looked at");
        }
    }

    /// Domain of this node, if it federates.
    pub(crate) fn domain(&self) -> Option<&Domain> {
        self.settings().domain.as_ref()
    }

    /// A message of another node as clients of this one see it.
    fn inbound(&self, message: MsgData) -> std::result::Result<MsgData, BadId> {
        match self.domain() {
            Some(own) => border::inbound(message, own, self.settings().api_url()),
            None => Ok(message),
        }
    }

    /// A link of another node as clients of this one see it.
    fn link_inbound(&self, link: String) -> String {
        border::link_inbound(link, self.settings().api_url())
    }

    /// An ID as a person may have typed it, in the form of clients.
    pub(crate) fn typed(&self, id: &str) -> String {
        self.domain().map_or_else(|| id.to_owned(), |own| typed(id, own))
    }

    /// Asks the node of another domain.
    async fn ask(&self, domain: &Domain, request: asked::Body) -> Result<Response> {
        let unreachable = |reason: String| {
            ServiceError::Unreachable(format!("{domain} cannot be reached: {reason}"))
        };
        let Some(others) = self.inner.others.get() else {
            return Err(unreachable("this node does not federate".into()));
        };
        let response = others.ask(domain, request).await.map_err(unreachable)?;
        if response.code != 0 {
            let Response { code, reason, .. } = response;
            return Err(ServiceError::Elsewhere { code, reason });
        }
        Ok(response)
    }

    /// The place of a batch of another node among all of that node.
    pub fn turn(&self, origin: &Domain) -> Turn {
        self.inner.turns.take(origin)
    }

    /// Writes out an event that was queued for another node.
    pub fn write_out(
        &self,
        view: &View<'_>,
        queued: &Queued,
    ) -> std::result::Result<Event, StoreError> {
        let Queued { kind, body, time, .. } = queued.clone();
        let event = Event { kind, body, time_ms: time };
        let Some(own) = self.domain() else { return Ok(event) };
        match EventKind::try_from(kind.cast_signed()) {
            Ok(EventKind::EventChat) => chat::write_out(view, queued, own, event),
            Ok(EventKind::EventGroupEntry) => group::write_out(view, queued, own, event),
            _ => Ok(event),
        }
    }

    /// Applies events of the node of `origin`, each with its place in the stream, in order; returns
    /// those that the rules refuse. What cannot be understood goes into quarantine.
    ///
    /// `begin` begins a transaction, given the places of its first and last event, and returns up to
    /// where events were applied before; `None` if some before them are missing. `turn` is the place of the events among those of the node.
    /// What users of this node do goes first; it waits for a few events at most.
    pub async fn apply_events(
        &self,
        origin: &Domain,
        turn: Turn,
        events: Vec<(u64, Event)>,
        begin: impl Fn(&mut Tx<'_>, u64, u64) -> std::result::Result<Option<u64>, StoreError>
        + Clone
        + Send
        + 'static,
    ) -> Result<Vec<Refusal>> {
        self.healed(origin).await?;
        let (events, vouched) = self.vouch_events(origin, events).await?;
        let vouched = Arc::new(vouched);
        let over = turn.comes().await;
        let mut events = VecDeque::from(events);
        let mut applied = Vec::new();
        while !events.is_empty() {
            let few: Vec<_> = events.drain(..events.len().min(EVENTS_AT_ONCE)).collect();
            applied.push(self.apply_few(origin, few, &vouched, begin.clone()));
        }
        // Those behind are queued behind these.
        drop(over);
        Ok(try_join_all(applied).await?.concat())
    }

    /// Applies some events in one transaction, which is queued at the call.
    fn apply_few<B>(
        &self,
        origin: &Domain,
        events: Vec<(u64, Event)>,
        vouched: &Arc<Vouched>,
        begin: B,
    ) -> impl Future<Output = Result<Vec<Refusal>>> + Send + use<B>
    where
        B: FnOnce(&mut Tx<'_>, u64, u64) -> std::result::Result<Option<u64>, StoreError>
            + Send
            + 'static,
    {
        let (name, origin, vouched) = (origin.to_string(), origin.clone(), Arc::clone(vouched));
        let caller = Caller::other_node(&name);
        self.change_behind(&caller, move |change| {
            let epoch = |tx: &Tx<'_>| Ok::<_, StoreError>(outbox::cursor(tx, &name)?.epoch);
            let mut refusals = Vec::new();
            let places = events.first().zip(events.last());
            let Some((first, last)) = places.map(|((first, _), (last, _))| (*first, *last)) else {
                return Ok(refusals);
            };
            let Some(before) = begin(change.tx, first, last)? else {
                return Err(ServiceError::Internal(format!("events of {origin} are missing")));
            };
            for (seq, event) in events.into_iter().filter(|(seq, _)| *seq > before) {
                match change.attempt(|change| change.apply(&origin, seq, &event, &vouched)) {
                    Ok(()) => {}
                    Err(Trouble::Later(error)) => return Err(error.into()),
                    Err(Trouble::Refused(error)) => {
                        let (code, reason) = (error.code(), error.to_string());
                        refusals.push(Refusal { seq, code, reason });
                    }
                    Err(Trouble::Bad(reason)) => {
                        tracing::warn!(%origin, seq, kind = event.kind, reason, "put aside");
                        let put_aside = Quarantined {
                            kind: event.kind,
                            body: event.body,
                            time: event.time_ms,
                            received: change.now,
                            reason,
                        };
                        let epoch = epoch(change.tx)?;
                        schema::QUARANTINE.put(change.tx, (&name, epoch, seq), &put_aside);
                    }
                }
            }
            Ok(refusals)
        })
    }

    /// Applies the events of a node again that were put aside; returns how many were applied, or
    /// refused by the rules, and how many are left.
    pub async fn retry_quarantined(&self, origin: &Domain) -> Result<(usize, usize)> {
        let (name, origin) = (origin.to_string(), origin.clone());
        let caller = Caller::other_node(&name);
        self.change(&caller, move |change| {
            let rows = schema::QUARANTINE.scan(change.tx, name.as_str());
            let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
            let (mut done, mut left) = (0, 0);
            for ((_, epoch, seq), put_aside) in rows {
                let event = Event {
                    kind: put_aside.kind,
                    body: put_aside.body.clone(),
                    time_ms: put_aside.time,
                };
                let vouched = change.services.vouch(&origin, std::slice::from_ref(&event));
                match change.attempt(|change| change.apply(&origin, seq, &event, &vouched)) {
                    Err(Trouble::Later(error)) => return Err(error.into()),
                    Err(Trouble::Bad(reason)) => {
                        left += 1;
                        let again = Quarantined { reason, ..put_aside };
                        schema::QUARANTINE.put(change.tx, (&name, epoch, seq), &again);
                    }
                    Ok(()) | Err(Trouble::Refused(_)) => {
                        done += 1;
                        schema::QUARANTINE.delete(change.tx, (&name, epoch, seq));
                    }
                }
            }
            Ok((done, left))
        })
        .await
    }

    /// Forgets the events of a node that were put aside; returns how many there were.
    pub async fn drop_quarantined(&self, origin: &Domain) -> Result<usize> {
        let name = origin.to_string();
        let caller = Caller::other_node(&name);
        self.change_to_make_room(&caller, move |change| {
            let rows = schema::QUARANTINE.scan(change.tx, name.as_str());
            let keys = rows.map(|row| row.map(|((_, epoch, seq), _)| (epoch, seq)));
            let keys = keys.collect::<std::result::Result<Vec<_>, _>>()?;
            for (epoch, seq) in &keys {
                schema::QUARANTINE.delete(change.tx, (&name, *epoch, *seq));
            }
            Ok(keys.len())
        })
        .await
    }

    /// The node of `destination` has all events up to `seq`, but refuses some: removes them and
    /// tells those concerned.
    pub async fn events_acknowledged(
        &self,
        destination: &Domain,
        seq: u64,
        refusals: Vec<Refusal>,
        receipt: Option<Mark>,
    ) -> Result<()> {
        let (name, destination) = (destination.to_string(), destination.clone());
        let caller = Caller::other_node(&name);
        self.change_to_make_room(&caller, move |change| {
            for refusal in &refusals {
                let queued = schema::OUTBOX.get(change.tx, (&name, refusal.seq))?;
                let Some(queued) = queued else { continue };
                match change.attempt(|change| change.refused(&destination, &queued, refusal)) {
                    Err(Trouble::Later(error)) => return Err(error.into()),
                    Err(Trouble::Refused(error)) => {
                        tracing::warn!(%destination, %error, "a refusal has no effect");
                    }
                    Err(Trouble::Bad(reason)) => {
                        tracing::warn!(%destination, reason, "a refusal has no effect");
                    }
                    Ok(()) => {}
                }
            }
            group_send::answered(change.tx, change.services, &name, seq, &refusals);
            Ok(change.tx.acknowledge(&name, seq, receipt)?)
        })
        .await
    }
}

impl Caller {
    /// Another node, on its own behalf.
    fn other_node(domain: &str) -> Self {
        Self::of_other_node(String::new(), domain)
    }

    /// A user of another node; `operation` traces what comes of it.
    fn of_other_node(user_id: String, operation: &str) -> Self {
        Self {
            user_id,
            platform_id: platform::NONE,
            operation_id: operation.into(),
            is_admin: false,
        }
    }
}

impl Change<'_, '_> {
    /// Domain of this node.
    fn own_domain(&self) -> Result<Domain> {
        let own = self.services.domain().cloned();
        own.ok_or_else(|| ServiceError::Internal("this node does not federate".into()))
    }

    /// Queues an event for the node of `domain`.
    fn tell_node(&mut self, domain: &Domain, kind: EventKind, body: &impl Message) -> Result<()> {
        let body = body.encode_to_vec().into();
        let event = Queued { kind: kind as u32, body, time: self.now, ..Queued::default() };
        self.queue(domain, &event)?;
        Ok(())
    }

    fn queue(&mut self, domain: &Domain, event: &Queued) -> Result<u64> {
        let seq = self.tx.queue(domain.as_str(), event)?;
        let (services, domain) = (self.services.clone(), domain.clone());
        self.tx.after_commit(move || {
            if let Some(others) = services.inner.others.get() {
                others.wake(&domain);
            }
        });
        Ok(seq)
    }

    /// The qualified form of an ID of clients.
    fn qualified(&self, id: &str) -> Result<String> {
        Ok(qualify(id, &self.own_domain()?)?)
    }

    /// The ID of a user of this node, from its qualified form; one with whom others may deal.
    fn local_user(&self, qualified: &str) -> std::result::Result<String, Trouble> {
        let id = self.own_user(qualified)?;
        if LocalOnly::User.holds(self.tx, &id)? {
            return Err(ServiceError::not_found(format!("no user {qualified}")).into());
        }
        Ok(id)
    }

    /// The same of any user.
    fn own_user(&self, qualified: &str) -> std::result::Result<String, Trouble> {
        let id = localise(qualified, &self.own_domain()?)?;
        if is_remote(&id) {
            return Err(Trouble::Bad(format!("{qualified} is not a user of this node")));
        }
        Ok(id)
    }

    /// The ID of a user of the node of `origin`, from its qualified form.
    fn user_of(&self, origin: &Domain, qualified: &str) -> std::result::Result<String, Trouble> {
        let id = localise(qualified, &self.own_domain()?)?;
        if home_of(&id).as_ref() != Some(origin) {
            return Err(Trouble::Bad(format!("{qualified} is not a user of {origin}")));
        }
        Ok(id)
    }

    /// Runs `work`; if it fails, nothing of it is kept.
    fn attempt<E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let savepoint = self.tx.savepoint();
        let before = self.consequences();
        let mut done = work(self);
        if let (Ok(()), Some(StoreError::TooLarge { what, table, bytes, limit })) =
            (&done, self.tx.refusal())
        {
            let (what, table, bytes, limit) = (*what, *table, *bytes, *limit);
            done = Err(StoreError::TooLarge { what, table, bytes, limit }.into());
        }
        if done.is_err() {
            self.tx.go_back(&savepoint);
            self.forget_consequences(&before);
        }
        done
    }

    /// Runs `work` as something that a user of another node does.
    fn as_user<T, E>(
        &mut self,
        user_id: &str,
        work: impl FnOnce(&mut Change<'_, '_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let caller = Caller::of_other_node(user_id.to_owned(), &self.caller.operation_id);
        self.with_caller(&caller, work)
    }

    fn apply(
        &mut self,
        origin: &Domain,
        seq: u64,
        event: &Event,
        vouched: &Vouched,
    ) -> std::result::Result<(), Trouble> {
        let body = event.body.clone();
        let operation = format!("{origin}/{seq}");
        let caller = Caller::of_other_node(String::new(), &operation);
        self.with_caller(&caller, |change| match EventKind::try_from(event.kind.cast_signed()) {
            Ok(EventKind::EventNothing) => Ok(()),
            Ok(EventKind::EventProfile) => change.profile_changed(origin, Message::decode(body)?),
            Ok(EventKind::EventFriendRequest) => {
                change.friend_requested(origin, Message::decode(body)?)
            }
            Ok(EventKind::EventFriendAnswer) => {
                change.friend_answered(origin, &Message::decode(body)?)
            }
            Ok(EventKind::EventFriendListed) => {
                change.friend_listed(origin, &Message::decode(body)?)
            }
            Ok(EventKind::EventChat) => change.chat_received(origin, Message::decode(body)?),
            Ok(EventKind::EventRevoke) => change.chat_revoked(origin, &Message::decode(body)?),
            Ok(EventKind::EventRead) => change.chat_read(origin, &Message::decode(body)?),
            Ok(EventKind::EventDelete) => change.chat_deleted(origin, &Message::decode(body)?),
            Ok(EventKind::EventClear) => change.chat_cleared(origin, &Message::decode(body)?),
            Ok(EventKind::EventGroupSnapshot) => {
                change.group_snapshot(origin, Message::decode(body)?, 0)
            }
            Ok(EventKind::EventGroupEntry) => {
                change.group_entry(origin, &Message::decode(body)?, vouched)
            }
            Ok(EventKind::EventGroupSend) => {
                change.group_sent(origin, Message::decode(body)?, vouched)
            }
            Ok(EventKind::EventNotice) => change.noticed(origin, Message::decode(body)?),
            Err(_) => Err(Trouble::Bad(format!("events of kind {} are not known", event.kind))),
        })
    }

    /// The node of `destination` refuses an event.
    fn refused(
        &mut self,
        destination: &Domain,
        queued: &Queued,
        refusal: &Refusal,
    ) -> std::result::Result<(), Trouble> {
        match EventKind::try_from(queued.kind.cast_signed()) {
            Ok(EventKind::EventFriendRequest) => {
                self.friend_request_refused(destination, queued, refusal)
            }
            Ok(EventKind::EventFriendAnswer) => self.friend_answer_refused(destination, queued),
            Ok(EventKind::EventChat) => self.chat_refused(queued, refusal),
            Ok(EventKind::EventGroupSend) => self.group_send_refused(queued, refusal),
            _ => Ok(()),
        }
    }
}
