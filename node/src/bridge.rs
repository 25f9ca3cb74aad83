//! Joins the rules and the federation, which know nothing of each other.

use std::sync::Arc;

use federation::identity::Identity;
use federation::transport::{Incoming, Transport};
use federation::{Begin, Domain, Federation, FederationError, Parts, Rules, Settings};
use proto::federation::{Event, Refusal, Response, request};
use services::Services;
use services::environment::Clock;
use services::federation::{BoxFuture, OtherNodes};
use store::record::Queued;
use store::{StoreError, View};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Starts to federate: the rules of `services` and the other nodes get to know each other.
///
/// `links` opens links to other nodes and has those that they open.
pub async fn federate(
    services: &Services,
    clock: Arc<dyn Clock>,
    settings: Settings,
    identity: Identity,
    links: (Arc<dyn Transport>, mpsc::Receiver<Incoming>),
    stop: CancellationToken,
) -> Result<Federation, FederationError> {
    let (transport, incoming) = links;
    let federation = Federation::start(Parts {
        settings,
        identity,
        store: services.store().clone(),
        transport,
        incoming,
        rules: Arc::new(RulesOf(services.clone())),
        now: Arc::new(move || clock.now_ms()),
        fetch: None,
        stop,
    })
    .await?;
    services.federate(Arc::new(Others(federation.clone())));
    Ok(federation)
}

/// The rules, as the federation calls them.
struct RulesOf(Services);

impl Rules for RulesOf {
    fn write_out(&self, view: &View<'_>, queued: &Queued) -> Result<Event, StoreError> {
        self.0.write_out(view, queued)
    }

    fn apply(
        &self,
        origin: &Domain,
        begin: Begin,
    ) -> BoxFuture<'_, Result<Vec<Refusal>, StoreError>> {
        let origin = origin.clone();
        Box::pin(async move { self.0.apply_events(&origin, begin).await })
    }

    fn acknowledged(
        &self,
        destination: &Domain,
        seq: u64,
        refusals: Vec<Refusal>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let destination = destination.clone();
        Box::pin(async move { self.0.events_acknowledged(&destination, seq, refusals).await })
    }

    fn answer(&self, origin: &Domain, request: request::Body) -> BoxFuture<'_, Response> {
        let origin = origin.clone();
        Box::pin(async move { self.0.answer_node(&origin, request).await })
    }
}

/// The other nodes, as the rules call them.
struct Others(Federation);

impl OtherNodes for Others {
    fn wake(&self, domain: &Domain) {
        self.0.wake(domain);
    }

    fn ask<'a>(
        &'a self,
        domain: &'a Domain,
        request: request::Body,
    ) -> BoxFuture<'a, Result<Response, String>> {
        Box::pin(async move { self.0.ask(domain, request).await.map_err(|error| error.reason) })
    }
}
