//! The federation of one node: its workers and what they share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use prost::Message as _;
use proto::federation::{
    Greeting, MediaRequest, NodeDocument, Response, Signature, SignedDocument, request,
};
use store::{Store, outbox, schema};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::halt::{Halt, Halts};
use crate::identity::Identity;
use crate::media::{self, Media};
use crate::outgoing::Outgoing;
use crate::peer::{LinkState, Peer, PeerReport, Refusals};
use crate::policy::Openness;
use crate::shared::{Settings, Shared};
use crate::signed::Use;
use crate::transport::{Incoming, Transport};
use crate::trust::{Fetch, Trust};
use crate::{
    AskError, Domain, FederationError, Rules, VERSION, control, document, peer_id, serving,
};

/// Time between two greetings of the nodes that are known.
const GREET_EVERY: Duration = Duration::from_secs(5 * 60);

/// What a [`Federation`] is made of.
pub struct Parts {
    /// What the operator has set.
    pub settings: Settings,
    /// The keys of this node.
    pub identity: Identity,
    /// The data.
    pub store: Store,
    /// Opens links.
    pub transport: Arc<dyn Transport>,
    /// Links that others open.
    pub incoming: mpsc::Receiver<Incoming>,
    /// What is done with events.
    pub rules: Arc<dyn Rules>,
    /// Tells the time, in Unix milliseconds.
    pub now: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Fetches node documents over HTTPS.
    pub fetch: Option<Fetch>,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Number of this run of the node, drawn at random.
    pub instance: u64,
}

/// The federation of one node.
#[derive(Clone)]
pub struct Federation {
    shared: Arc<Shared>,
}

impl Federation {
    /// Starts to deliver what waits, and to serve other nodes.
    pub async fn start(parts: Parts) -> Result<Self, FederationError> {
        let Parts { settings, identity, store, transport, incoming, rules, now, fetch, .. } = parts;
        let (stop, instance) = (parts.stop, parts.instance);
        let document = own_document(&settings, &identity, &store, now()).await?;
        let trust = Trust::new(store.clone(), Arc::clone(&now), fetch, settings.first_use);
        let shared = Shared {
            settings,
            identity,
            document,
            store,
            transport,
            rules,
            now,
            trust,
            halts: Halts::new(&stop),
            stop,
            instance,
            peers: DashMap::new(),
            links: DashMap::new(),
            admitted: DashSet::new(),
            faults: DashMap::new(),
            runtime: Handle::current(),
        };
        let federation = Self { shared: Arc::new(shared) };
        tokio::spawn(serving::accept(Arc::clone(&federation.shared), incoming));
        let waiting: Vec<String> = {
            let view = federation.shared.store.view();
            let waiting = outbox::heads(&view)
                .filter(|row| row.as_ref().map_or(true, |(_, head)| head.last > head.acknowledged))
                .map(|row| Ok(row?.0));
            waiting.collect::<Result<_, FederationError>>()?
        };
        for domain in waiting {
            federation.wake(&domain.parse()?);
        }
        tokio::spawn(federation.clone().greet());
        Ok(federation)
    }

    /// Shows itself to every node it knows, now and then: they learn new keys and addresses, and
    /// that it is there.
    async fn greet(self) {
        let stop = self.shared.halts.quiet.clone();
        loop {
            for domain in self.known().unwrap_or_default() {
                let greeting = request::Body::Greeting(Greeting {});
                let asked = self.ask(&domain, greeting);
                match stop.run_until_cancelled(asked).await {
                    None => return,
                    Some(Ok(_)) => self.shared.peer(&domain).reachable.notify_one(),
                    Some(Err(error)) => tracing::debug!(%error, "a greeting"),
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(GREET_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Domains of the nodes of which something is known.
    fn known(&self) -> Result<Vec<Domain>, FederationError> {
        let view = self.shared.store.view();
        let mut known = Vec::new();
        for row in schema::PEERS.scan(&view, ()) {
            let domain: Domain = row?.0.parse()?;
            if domain != *self.domain() {
                known.push(domain);
            }
        }
        Ok(known)
    }

    /// Where others reach this node, as multiaddrs.
    pub fn addresses(&self) -> &[String] {
        &self.shared.settings.addresses
    }

    /// Domain of this node.
    pub fn domain(&self) -> &Domain {
        &self.shared.settings.domain
    }

    /// The node document, signed and encoded.
    pub fn document(&self) -> Vec<u8> {
        self.shared.document.encode_to_vec()
    }

    /// Something was queued for `domain`.
    pub fn wake(&self, domain: &Domain) {
        let peer = self.shared.peer(domain);
        if !peer.working.swap(true, Ordering::Relaxed) {
            let worker = Outgoing {
                shared: Arc::clone(&self.shared),
                destination: domain.clone(),
                peer: Arc::clone(&peer),
            };
            self.shared.runtime.spawn(worker.run());
        }
        peer.wake.notify_one();
    }

    /// Whether events to `domain` flow at this moment.
    pub fn is_up(&self, domain: &Domain) -> bool {
        self.shared.peer(domain).is_up()
    }

    /// Why this node deals with no other one any more; `None` while it does.
    pub fn halt(&self) -> Option<Halt> {
        self.shared.halts.halt()
    }

    /// Waits until this node deals with no other one any more.
    pub async fn halted(&self) -> Halt {
        self.shared.halts.halted().await
    }

    /// Asks the node of `domain`; waits no longer than an answer may take.
    pub async fn ask(&self, domain: &Domain, body: request::Body) -> Result<Response, AskError> {
        let answer = self.shared.settings.timing.answer;
        let failed = |reason: String| AskError { domain: domain.clone(), reason };
        match tokio::time::timeout(answer, control::ask(&self.shared, domain, body)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(FederationError::Timeout.to_string())),
        }
    }

    /// Opens content that the node of `domain` has, from some byte of it on.
    pub async fn open_media(
        &self,
        domain: &Domain,
        request: MediaRequest,
    ) -> Result<Media, AskError> {
        let opened = media::open(&self.shared, domain, request).await;
        opened.map_err(|error| AskError { domain: domain.clone(), reason: error.to_string() })
    }

    /// Signs with the key in use.
    pub fn sign(&self, purpose: Use, bytes: &[u8]) -> Signature {
        self.shared.identity().sign(purpose, bytes)
    }

    /// Whether a signature is of a key that spoke for `domain`, which may be this node's own, at
    /// some time in Unix milliseconds. Fails with [`FederationError::Unknown`] if nothing is known
    /// of the domain.
    pub fn holds(
        &self,
        domain: &Domain,
        purpose: Use,
        bytes: &[u8],
        signature: &Signature,
        at_ms: i64,
    ) -> Result<bool, FederationError> {
        self.shared.trust.holds(domain, purpose, bytes, signature, at_ms)
    }

    /// The document of another node, as it was last believed.
    pub fn document_of(&self, domain: &Domain) -> Result<SignedDocument, FederationError> {
        let peer = schema::PEERS.get(&self.shared.store.view(), domain.as_str())?;
        Ok(SignedDocument::decode(peer.unwrap_or_default().document).unwrap_or_default())
    }

    /// A handle that does not keep the federation from ending.
    pub fn downgrade(&self) -> WeakFederation {
        WeakFederation(Arc::downgrade(&self.shared))
    }

    /// The record of a peer was changed from outside.
    pub fn refresh(&self, domain: &Domain) {
        self.shared.trust.refresh(domain);
        self.shared.peer(domain).reachable.notify_one();
    }

    /// Every other node that is known or was ever dealt with.
    pub fn peers(&self) -> Result<Vec<PeerReport>, FederationError> {
        let (store, now_ms) = (&self.shared.store, (self.shared.now)());
        let mut reports = reports(store, Some(self.domain()), now_ms, |domain| {
            self.shared.peers.get(domain).map(|peer| Arc::clone(&peer))
        })?;
        if let Some(halt) = self.halt() {
            for report in &mut reports {
                report.state = LinkState::Stopped;
                report.last_error = Some(halt.to_string());
            }
        }
        Ok(reports)
    }
}

/// A [`Federation`] that may have ended.
#[derive(Clone)]
pub struct WeakFederation(Weak<Shared>);

impl WeakFederation {
    /// The federation, unless it has ended.
    pub fn upgrade(&self) -> Option<Federation> {
        Some(Federation { shared: self.0.upgrade()? })
    }
}

/// Every other node that the data knows, without what only a running node can tell.
pub fn stored_peers(
    store: &Store,
    own: Option<&Domain>,
    now_ms: i64,
) -> Result<Vec<PeerReport>, FederationError> {
    reports(store, own, now_ms, |_| None)
}

fn reports(
    store: &Store,
    own: Option<&Domain>,
    now_ms: i64,
    running: impl Fn(&Domain) -> Option<Arc<Peer>>,
) -> Result<Vec<PeerReport>, FederationError> {
    let view = store.view();
    let mut domains = std::collections::BTreeSet::new();
    for row in schema::PEERS.scan(&view, ()) {
        domains.insert(row?.0);
    }
    for row in outbox::heads(&view) {
        domains.insert(row?.0);
    }
    for row in schema::CURSORS.scan(&view, ()) {
        domains.insert(row?.0);
    }
    if let Some(own) = own {
        domains.remove(own.as_str());
    }
    let trust = Trust::new(store.clone(), Arc::new(move || now_ms), None, false);
    let mut reports = Vec::with_capacity(domains.len());
    for name in domains {
        let domain: Domain = name.parse()?;
        let known = trust.known(&domain)?;
        let head = outbox::head(&view, &name)?;
        let mut quarantined = 0;
        for row in schema::QUARANTINE.scan(&view, name.as_str()) {
            row?;
            quarantined += 1;
        }
        let mut report = PeerReport {
            domain: name,
            state: LinkState::Idle,
            queued: head.last - head.acknowledged,
            delivered: head.acknowledged,
            received: 0,
            quarantined,
            throttled: 0,
            refusals: Refusals::default(),
            peer_id: known.key(now_ms).map(|key| peer_id::to_text(&key)).transpose()?,
            pinned: known.is_pinned(),
            addresses: known.addresses.clone(),
            last_error: None,
            doubled: false,
        };
        if let Some(peer) = running(&domain) {
            peer.fill(&mut report);
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The document of this node; it gets a new sequence when what it says has changed.
async fn own_document(
    settings: &Settings,
    identity: &Identity,
    store: &Store,
    now_ms: i64,
) -> Result<SignedDocument, FederationError> {
    let domain = settings.domain.clone();
    let policy = match settings.policies.incoming.openness {
        Openness::Open => proto::federation::Policy::Open,
        Openness::Closed => proto::federation::Policy::AllowList,
    };
    let said = NodeDocument {
        domain: domain.to_string(),
        sequence: 0,
        time_ms: 0,
        keys: identity.keys(),
        addresses: settings.addresses.clone(),
        versions: vec![VERSION],
        policy: policy.into(),
    };
    let identity = identity.clone();
    // Needed to start, and somebody may start the node to delete.
    store
        .transact_to_make_room(move |tx| {
            let mut peer = schema::PEERS.get(tx, domain.as_str())?.unwrap_or_default();
            let before = SignedDocument::decode(peer.document.clone()).unwrap_or_default();
            let mut sequence = 0;
            if let Ok(before) = document::check(&before, &domain) {
                sequence = before.document.sequence;
                let same = NodeDocument { sequence: 0, time_ms: 0, ..before.document };
                if same == said {
                    return Ok(before.signed);
                }
            }
            // A restored node must not say something new under a number it has used.
            let sequence = (sequence + 1).max(now_ms.cast_unsigned());
            let signed =
                document::sign(&identity, &NodeDocument { sequence, time_ms: now_ms, ..said });
            peer.document = signed.encode_to_vec().into();
            peer.document_received = now_ms;
            schema::PEERS.put(tx, domain.as_str(), &peer);
            Ok(signed)
        })
        .await
}
