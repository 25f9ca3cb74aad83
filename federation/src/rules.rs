use std::sync::Arc;

use futures_util::future::BoxFuture;
use proto::federation::{Event, Mark, MediaAnswer, MediaRequest, Refusal, Response, request};
use store::record::Queued;
use store::{StoreError, Tx, View};
use tokio::io::AsyncRead;

use crate::{Domain, FederationError};

/// Begins a transaction that applies events, given the places of the first and the last of them in
/// the stream: moves the cursor and returns up to where events were applied before. `None`: events
/// before them are missing, and nothing may be applied.
pub type Begin =
    Arc<dyn Fn(&mut Tx<'_>, u64, u64) -> Result<Option<u64>, StoreError> + Send + Sync>;

/// The bytes of content.
pub type Content = Box<dyn AsyncRead + Send + Unpin>;

/// What the node does with events; it plugs this in.
pub trait Rules: Send + Sync + 'static {
    /// Writes out an event that was queued.
    fn write_out(&self, view: &View<'_>, queued: &Queued) -> Result<Event, StoreError>;

    /// Ends a batch of events that were written out.
    fn seal(&self, events: &mut [Event]);

    /// On whose account an event is: the user or the group of its node that causes it.
    fn account(&self, event: &Event) -> Option<String>;

    /// Applies events of `origin`, each with its place in the stream, in order, in transactions that
    /// `begin` begins; returns those that the rules refuse. Calls for one origin take effect in the
    /// order in which they are made, whenever their futures are polled.
    fn apply(
        &self,
        origin: &Domain,
        events: Vec<(u64, Event)>,
        begin: Begin,
    ) -> BoxFuture<'_, Result<Vec<Refusal>, FederationError>>;

    /// Everything for `destination` up to `seq` is durable there, as its receipt says, but the rules
    /// there refused some.
    fn acknowledged(
        &self,
        destination: &Domain,
        seq: u64,
        refusals: Vec<Refusal>,
        receipt: Option<Mark>,
    ) -> BoxFuture<'_, Result<(), FederationError>>;

    /// The data went back in time: stores another epoch, which counts from the next opening of the
    /// store on; false if that has happened too short a while ago.
    fn went_back(&self) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// In a new epoch, what must be done before anything is sent to `destination`; an error says why
    /// it cannot be done now.
    fn ready_for(&self, destination: &Domain) -> BoxFuture<'_, Result<(), String>>;

    /// Answers a request of `origin`.
    fn answer(&self, origin: &Domain, request: request::Body) -> BoxFuture<'_, Response>;

    /// Answers a request of `origin` for content; without content, it is a refusal.
    fn media(
        &self,
        origin: &Domain,
        request: MediaRequest,
    ) -> BoxFuture<'_, (MediaAnswer, Option<Content>)>;
}
