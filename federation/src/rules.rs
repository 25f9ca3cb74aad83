use futures_util::future::BoxFuture;
use proto::federation::{Event, Refusal, Response, request};
use store::record::Queued;
use store::{StoreError, Tx, View};

use crate::Domain;

/// Begins the transaction that applies a batch: moves the cursor and returns the events that are
/// still to be applied, each with its place in the stream.
pub type Begin = Box<dyn FnOnce(&mut Tx<'_>) -> Result<Vec<(u64, Event)>, StoreError> + Send>;

/// What the node does with events; it plugs this in.
pub trait Rules: Send + Sync + 'static {
    /// Writes out an event that was queued.
    fn write_out(&self, view: &View<'_>, queued: &Queued) -> Result<Event, StoreError>;

    /// Applies events of `origin` in one transaction, which `begin` begins; returns those that the
    /// rules refuse.
    fn apply(
        &self,
        origin: &Domain,
        begin: Begin,
    ) -> BoxFuture<'_, Result<Vec<Refusal>, StoreError>>;

    /// Everything for `destination` up to `seq` is durable there, but the rules there refused some.
    fn acknowledged(
        &self,
        destination: &Domain,
        seq: u64,
        refusals: Vec<Refusal>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Answers a request of `origin`.
    fn answer(&self, origin: &Domain, request: request::Body) -> BoxFuture<'_, Response>;
}
