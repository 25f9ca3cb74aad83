//! The federation of one node: its workers and what they share.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use prost::Message as _;
use proto::federation::{ByeCode, Greeting, NodeDocument, Response, SignedDocument, request};
use store::{Store, outbox, schema};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::outgoing::Outgoing;
use crate::peer::{LinkState, Peer, PeerReport, Refusals};
use crate::policy::{Openness, Policy};
use crate::transport::{Incoming, Lane, Transport};
use crate::trust::{Fetch, Trust};
use crate::{
    AskError, Domain, FederationError, PublicKey, Rules, VERSION, control, document, incoming,
    peer_id,
};

/// Tells the time, in Unix milliseconds.
pub(crate) type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Links that others have open at the same time.
const LINKS: usize = 4_096;
/// Time between two greetings of the nodes that are known.
const GREET_EVERY: Duration = Duration::from_secs(5 * 60);
/// Links of one lane that one other node has open at the same time.
const LINKS_PER_PEER: u32 = 64;

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domain of this node.
    pub domain: Domain,
    /// Where others reach it, as multiaddrs.
    pub addresses: Vec<String>,
    /// With whom it deals.
    pub policy: Policy,
    /// Believe whoever comes first for a domain of which nothing is known. For testnets.
    pub first_use: bool,
    /// How long things may take.
    pub timing: Timing,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// An answer of another node.
    pub answer: Duration,
    /// Pause after the first failure to reach another node.
    pub first_backoff: Duration,
    /// Longest pause; each is twice as long as the one before.
    pub longest_backoff: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            first_backoff: Duration::from_millis(200),
            longest_backoff: Duration::from_secs(30),
        }
    }
}

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
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    identity: Identity,
    document: SignedDocument,
    pub(crate) store: Store,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) now: Now,
    pub(crate) trust: Trust,
    pub(crate) stop: CancellationToken,
    peers: DashMap<Domain, Arc<Peer>>,
    /// Places for the links of one key; a lane does not take those of another.
    links: DashMap<(PublicKey, Lane), Arc<Semaphore>>,
    /// Where workers run; what wakes them may come from any thread.
    runtime: Handle,
}

impl Shared {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn document(&self) -> SignedDocument {
        self.document.clone()
    }

    pub(crate) fn peer(&self, domain: &Domain) -> Arc<Peer> {
        Arc::clone(&self.peers.entry(domain.clone()).or_default())
    }

    /// The domain that speaks, if it is another one and speaks to this node.
    pub(crate) fn origin(&self, origin: &str, audience: &str) -> Result<Domain, FederationError> {
        let own = &self.settings.domain;
        if audience != own.as_str() {
            let reason = format!("this is {own}");
            return Err(FederationError::Bye { code: ByeCode::ByeAudience, reason });
        }
        let origin: Domain = origin.parse()?;
        if origin == *own {
            return Err(FederationError::Identity(origin));
        }
        Ok(origin)
    }

    /// Makes sure that this node deals with `origin` and that `key` speaks for it.
    pub(crate) async fn admit(
        &self,
        origin: &Domain,
        key: &PublicKey,
        document: Option<SignedDocument>,
    ) -> Result<(), FederationError> {
        self.settings.policy.check(origin)?;
        self.trust.authenticate(origin, key, document).await
    }

    /// Serves a link that another node opened.
    async fn serve(self: Arc<Self>, incoming: Incoming) {
        let (peer, lane) = (incoming.peer, incoming.lane);
        let room = || Arc::new(Semaphore::new(LINKS_PER_PEER as usize));
        let room = Arc::clone(&self.links.entry((peer, lane)).or_insert_with(room));
        let place = tokio::time::timeout(self.settings.timing.answer, room.acquire()).await;
        let Ok(Ok(place)) = place else {
            tracing::debug!(peer = hex::encode(peer), "another node has too many links open");
            return;
        };
        let served = match lane {
            Lane::Events => incoming::serve(Arc::clone(&self), incoming).await,
            Lane::Control => control::serve(Arc::clone(&self), incoming).await,
        };
        if let Err(error) = served {
            tracing::debug!(peer = hex::encode(peer), ?lane, %error, "a link ended");
        }
        drop(place);
        self.links.remove_if(&(peer, lane), |_, room| room.available_permits() == LINKS_PER_PEER as usize);
    }
}

/// The federation of one node.
#[derive(Clone)]
pub struct Federation {
    shared: Arc<Shared>,
}

impl Federation {
    /// Starts to deliver what waits, and to serve other nodes.
    pub async fn start(parts: Parts) -> Result<Self, FederationError> {
        let Parts { settings, identity, store, transport, incoming, rules, now, fetch, stop } =
            parts;
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
            stop,
            peers: DashMap::new(),
            links: DashMap::new(),
            runtime: Handle::current(),
        };
        let federation = Self { shared: Arc::new(shared) };
        tokio::spawn(federation.clone().accept(incoming));
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
        let stop = self.shared.stop.clone();
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

    async fn accept(self, mut incoming: mpsc::Receiver<Incoming>) {
        let room = Arc::new(Semaphore::new(LINKS));
        let stop = self.shared.stop.clone();
        while let Some(Some(link)) = stop.run_until_cancelled(incoming.recv()).await {
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let (shared, stop) = (Arc::clone(&self.shared), stop.clone());
            tokio::spawn(async move {
                stop.run_until_cancelled(shared.serve(link)).await;
                drop(place);
            });
        }
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

    /// The record of a peer was changed from outside.
    pub fn refresh(&self, domain: &Domain) {
        self.shared.trust.refresh(domain);
        self.shared.peer(domain).reachable.notify_one();
    }

    /// Every other node that is known or was ever dealt with.
    pub fn peers(&self) -> Result<Vec<PeerReport>, FederationError> {
        reports(&self.shared.store, Some(self.domain()), (self.shared.now)(), |domain| {
            self.shared.peers.get(domain).map(|peer| Arc::clone(&peer))
        })
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
            refusals: Refusals::default(),
            peer_id: known.key(now_ms).map(|key| peer_id::to_text(&key)).transpose()?,
            pinned: known.is_pinned(),
            addresses: known.addresses.clone(),
            last_error: None,
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
    let policy = match settings.policy.openness {
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
    store
        .transact(move |tx| {
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
