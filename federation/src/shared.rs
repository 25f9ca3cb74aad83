//! What all that makes up the federation of a node shares.

use std::sync::Arc;
use std::time::Duration;

use dashmap::{DashMap, DashSet};
use proto::federation::{ByeCode, SignedDocument};
use store::Store;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::budget::Faults;
use crate::halt::Halts;
use crate::identity::Identity;
use crate::peer::Peer;
use crate::policy::Policies;
use crate::transport::{Lane, Link, Transport};
use crate::trust::{Now, Trust};
use crate::{Budget, Domain, FederationError, PublicKey, Rules};

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Domain of this node.
    pub domain: Domain,
    /// Where others reach it, as multiaddrs.
    pub addresses: Vec<String>,
    /// With whom it deals.
    pub policies: Policies,
    /// Believe whoever comes first for a domain of which nothing is known. For testnets.
    pub first_use: bool,
    /// What each other node may cost.
    pub budget: Budget,
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

/// Keys that are remembered to have been let in; beyond, all are strangers again.
const MOST_ADMITTED: usize = 16_384;

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) identity: Identity,
    pub(crate) document: SignedDocument,
    pub(crate) store: Store,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) now: Now,
    pub(crate) trust: Trust,
    pub(crate) stop: CancellationToken,
    pub(crate) halts: Halts,
    /// Number of this run of the node.
    pub(crate) instance: u64,
    pub(crate) peers: DashMap<Domain, Arc<Peer>>,
    /// Places for the links of one key; a lane does not take those of another.
    pub(crate) links: DashMap<(PublicKey, Lane), Arc<Semaphore>>,
    /// Keys that were let in since the start.
    pub(crate) admitted: DashSet<PublicKey>,
    /// Keys whose links have ended by their fault.
    pub(crate) faults: DashMap<PublicKey, Faults>,
    /// Where workers run; what wakes them may come from any thread.
    pub(crate) runtime: Handle,
}

impl Shared {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn document(&self) -> SignedDocument {
        self.document.clone()
    }

    pub(crate) fn peer(&self, domain: &Domain) -> Arc<Peer> {
        let new = || Arc::new(Peer::new(&self.settings.budget));
        Arc::clone(&self.peers.entry(domain.clone()).or_insert_with(new))
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

    /// Opens a link to the node of `domain`.
    pub(crate) async fn open(
        &self,
        domain: &Domain,
        lane: Lane,
    ) -> Result<Box<dyn Link>, FederationError> {
        if self.halts.has_begun() {
            return Err(FederationError::Halted);
        }
        self.settings.policies.outgoing.check(domain)?;
        let (key, addresses) = self.trust.route(domain).await?;
        Ok(self.transport.open(key, addresses, lane).await?)
    }

    /// The domain that asks, as [`origin`](Self::origin) and [`admit`](Self::admit) let it in, if
    /// its budget has room for a request.
    pub(crate) async fn admit_request(
        &self,
        (origin, audience): (&str, &str),
        key: &PublicKey,
        document: Option<SignedDocument>,
        instance: u64,
    ) -> Result<Domain, FederationError> {
        let origin = self.origin(origin, audience)?;
        self.admit(&origin, key, document).await?;
        let peer = self.peer(&origin);
        self.only_one(&origin, &peer, instance).await?;
        if peer.may_ask() {
            return Ok(origin);
        }
        let reason = "too many requests; later".to_owned();
        Err(FederationError::Bye { code: ByeCode::ByeBusy, reason })
    }

    /// Makes sure that this node deals with `origin` and that `key` speaks for it.
    pub(crate) async fn admit(
        &self,
        origin: &Domain,
        key: &PublicKey,
        document: Option<SignedDocument>,
    ) -> Result<(), FederationError> {
        self.settings.policies.incoming.check(origin)?;
        self.trust.authenticate(origin, key, document).await?;
        if self.admitted.len() >= MOST_ADMITTED {
            self.admitted.clear();
        }
        self.admitted.insert(*key);
        Ok(())
    }
}
