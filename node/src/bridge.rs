//! Joins the rules and the federation, which know nothing of each other.

use federation::{Begin, Domain, Federation, Rules};
use proto::federation::{Event, Refusal, Response, request};
use services::Services;
use services::federation::{BoxFuture, OtherNodes};
use store::record::Queued;
use store::{StoreError, View};

/// The rules, as the federation calls them.
pub struct RulesOf(pub Services);

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
pub struct Others(pub Federation);

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
