//! Joins the rules and the federation, which know nothing of each other.

use std::sync::Arc;

use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::{Incoming, Transport};
use federation::trust::Fetch;
use federation::{
    Begin, Content, Domain, Federation, FederationError, Parts, Rules, Settings, WeakFederation,
};
use proto::federation::{
    Event, Mark, MediaAnswer, MediaRequest, Refusal, Response, Signature, SignedDocument, request,
};
use services::environment::Clock;
use services::federation::{BoxFuture, Judgement, OtherNodes, Purpose, account};
use services::{ServiceError, Services};
use store::record::Queued;
use store::{StoreError, Tx, View};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Starts to federate: the rules of `services` and the other nodes get to know each other.
///
/// `links` opens links to other nodes and has those that they open; `fetch` gets the documents that
/// domains serve.
pub async fn federate(
    services: &Services,
    clock: Arc<dyn Clock>,
    settings: Settings,
    identity: Identity,
    fetch: Option<Fetch>,
    links: (Arc<dyn Transport>, mpsc::Receiver<Incoming>),
    stop: CancellationToken,
) -> Result<Federation, FederationError> {
    services.prepare_to_federate().await.map_err(not_now)?;
    let (transport, incoming) = links;
    let federation = Federation::start(Parts {
        settings,
        identity,
        store: services.store().clone(),
        transport,
        incoming,
        rules: Arc::new(RulesOf(services.clone())),
        now: Arc::new(move || clock.now_ms()),
        fetch,
        stop,
        instance: services.new_instance(),
    })
    .await?;
    services.federate(Arc::new(Others(federation.downgrade())));
    Ok(federation)
}

/// Why the rules cannot deal with something now.
fn not_now(error: ServiceError) -> FederationError {
    match error {
        ServiceError::Store(error) => FederationError::Store(error),
        other => FederationError::Rules(other.to_string()),
    }
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
        events: Vec<(u64, Event)>,
        begin: Begin,
    ) -> BoxFuture<'_, Result<Vec<Refusal>, FederationError>> {
        let (origin, turn) = (origin.clone(), self.0.turn(origin));
        let begin = move |tx: &mut Tx<'_>, first, last| begin(tx, first, last);
        Box::pin(
            async move { self.0.apply_events(&origin, turn, events, begin).await.map_err(not_now) },
        )
    }

    fn account(&self, event: &Event) -> Option<String> {
        account(event)
    }

    fn seal(&self, events: &mut [Event]) {
        self.0.seal(events);
    }

    fn acknowledged(
        &self,
        destination: &Domain,
        seq: u64,
        refusals: Vec<Refusal>,
        receipt: Option<Mark>,
    ) -> BoxFuture<'_, Result<(), FederationError>> {
        let destination = destination.clone();
        Box::pin(async move {
            let done = self.0.events_acknowledged(&destination, seq, refusals, receipt);
            done.await.map_err(not_now)
        })
    }

    fn went_back(&self) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.0.take_epoch())
    }

    fn ready_for(&self, destination: &Domain) -> BoxFuture<'_, Result<(), String>> {
        let destination = destination.clone();
        Box::pin(async move { self.0.ready_for(&destination).await })
    }

    fn answer(&self, origin: &Domain, request: request::Body) -> BoxFuture<'_, Response> {
        let origin = origin.clone();
        Box::pin(async move { self.0.answer_node(&origin, request).await })
    }

    fn media(
        &self,
        _origin: &Domain,
        request: MediaRequest,
    ) -> BoxFuture<'_, (MediaAnswer, Option<Content>)> {
        Box::pin(self.0.answer_media(request))
    }
}

/// The other nodes, as the rules call them. The federation has the rules, so they must not keep it.
struct Others(WeakFederation);

/// Why nothing comes of it.
const ENDED: &str = "the federation has ended";

fn use_of(purpose: Purpose) -> Use {
    match purpose {
        Purpose::Message => Use::Message,
        Purpose::Head => Use::Head,
        Purpose::Mandate => Use::Mandate,
    }
}

impl OtherNodes for Others {
    fn wake(&self, domain: &Domain) {
        if let Some(federation) = self.0.upgrade() {
            federation.wake(domain);
        }
    }

    fn ask<'a>(
        &'a self,
        domain: &'a Domain,
        request: request::Body,
    ) -> BoxFuture<'a, Result<Response, String>> {
        Box::pin(async move {
            let federation = self.0.upgrade().ok_or(ENDED)?;
            federation.ask(domain, request).await.map_err(|error| error.reason)
        })
    }

    fn open_media<'a>(
        &'a self,
        domain: &'a Domain,
        request: MediaRequest,
    ) -> BoxFuture<'a, Result<(MediaAnswer, Content), String>> {
        Box::pin(async move {
            let federation = self.0.upgrade().ok_or(ENDED)?;
            let media = federation.open_media(domain, request).await;
            media.map(|media| (media.answer, media.bytes)).map_err(|error| error.reason)
        })
    }

    fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        let federation = self.0.upgrade();
        federation.map(|federation| federation.sign(use_of(purpose), bytes)).unwrap_or_default()
    }

    fn judge(
        &self,
        domain: &Domain,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
        at_ms: i64,
    ) -> Judgement {
        let Some(federation) = self.0.upgrade() else { return Judgement::Unknown };
        match federation.holds(domain, use_of(purpose), bytes, signature, at_ms) {
            Ok(true) => Judgement::Holds,
            Ok(false) => Judgement::Forged,
            Err(_) => Judgement::Unknown,
        }
    }

    fn document(&self, domain: &Domain) -> SignedDocument {
        let federation = self.0.upgrade();
        let document = federation.map(|federation| federation.document_of(domain));
        document.and_then(Result::ok).unwrap_or_default()
    }
}
