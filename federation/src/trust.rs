//! Which key speaks for a domain, and who says so.
//!
//! In this order: the operator's pin, the document that the domain serves over HTTPS, and, only
//! where switched on, whoever comes first. A newer document counts when a key that is believed
//! already has signed it.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use futures_util::future::BoxFuture;
use prost::Message as _;
use proto::federation::{NodeKey, Signature, SignedDocument};
use store::record::Peer;
use store::{Store, Tx, schema};
use tokio::time::Instant;

use crate::document::{self, Verified};
use crate::signed::{Use, verify};
use crate::{Domain, FederationError, PublicKey, peer_id};

/// Tells the time, in Unix milliseconds.
pub(crate) type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Fetches the document that a domain serves over HTTPS.
pub type Fetch = Arc<
    dyn Fn(Domain) -> BoxFuture<'static, Result<SignedDocument, FederationError>> + Send + Sync,
>;

/// What is believed of one domain.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pinned: Vec<PublicKey>,
    keys: Vec<NodeKey>,
    sequence: u64,
    pub(crate) addresses: Vec<String>,
}

impl Known {
    fn of(domain: &Domain, peer: &Peer) -> Self {
        let pinned = peer.pinned_keys.iter().filter_map(|key| key.as_slice().try_into().ok());
        let mut known = Self {
            pinned: pinned.collect(),
            addresses: peer.pinned_addresses.clone(),
            ..Self::default()
        };
        let signed = SignedDocument::decode(peer.document.clone()).unwrap_or_default();
        if let Ok(Verified { document, .. }) = document::check(&signed, domain) {
            known.keys = document.keys;
            known.sequence = document.sequence;
            for address in document.addresses {
                if !known.addresses.contains(&address) {
                    known.addresses.push(address);
                }
            }
        }
        known
    }

    fn revoked(&self, key: &PublicKey) -> bool {
        self.keys.iter().any(|known| known.public_key.as_ref() == key && known.revoked_ms != 0)
    }

    /// Whether `key` speaks for the domain at `now_ms`.
    pub(crate) fn believes(&self, key: &PublicKey, now_ms: i64) -> bool {
        if self.revoked(key) {
            return false;
        }
        let named = self.keys.iter().filter(|known| known.public_key.as_ref() == key);
        let mut named = named.filter(|known| known.until_ms == 0 || now_ms < known.until_ms);
        self.pinned.contains(key) || named.next().is_some()
    }

    /// Whether `key` spoke for the domain at `at_ms`, as far as is known now.
    fn believed(&self, key: &PublicKey, at_ms: i64) -> bool {
        let named = self.keys.iter().find(|known| known.public_key.as_ref() == key);
        named.map_or(self.pinned.contains(key), |known| {
            (known.until_ms == 0 || at_ms < known.until_ms)
                && (known.revoked_ms == 0 || at_ms < known.revoked_ms)
        })
    }

    /// The key under which the node is to be reached: the newest.
    pub(crate) fn key(&self, now_ms: i64) -> Option<PublicKey> {
        let named =
            self.keys.iter().rev().filter_map(|key| key.public_key.as_ref().try_into().ok());
        named.chain(self.pinned.iter().rev().copied()).find(|key| self.believes(key, now_ms))
    }

    pub(crate) fn is_pinned(&self) -> bool {
        !self.pinned.is_empty()
    }
}

/// What this node believes of others.
pub struct Trust {
    store: Store,
    now: Now,
    fetch: Option<Fetch>,
    first_use: bool,
    known: DashMap<Domain, Arc<Known>>,
    /// When domains were last asked for their document.
    asked: DashMap<Domain, Instant>,
}

/// Time in which a domain is asked for its document once.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Domains of which it is remembered when they were asked; anybody can name one.
const MOST_ASKED: usize = 10_000;

impl Trust {
    pub(crate) fn new(store: Store, now: Now, fetch: Option<Fetch>, first_use: bool) -> Self {
        Self { store, now, fetch, first_use, known: DashMap::new(), asked: DashMap::new() }
    }

    /// What is believed of a domain; empty where nothing is.
    pub(crate) fn known(&self, domain: &Domain) -> Result<Arc<Known>, FederationError> {
        if let Some(known) = self.known.get(domain) {
            return Ok(Arc::clone(&known));
        }
        let Some(peer) = schema::PEERS.get(&self.store.view(), domain.as_str())? else {
            // Not kept: anybody can name a domain.
            return Ok(Arc::default());
        };
        let known = Arc::new(Known::of(domain, &peer));
        self.known.insert(domain.clone(), Arc::clone(&known));
        Ok(known)
    }

    /// Forgets what is kept in memory of a domain, after its record has changed.
    pub fn refresh(&self, domain: &Domain) {
        self.known.remove(domain);
    }

    /// Key and addresses of the node of a domain, looked up if need be.
    pub(crate) async fn route(
        &self,
        domain: &Domain,
    ) -> Result<(PublicKey, Vec<String>), FederationError> {
        let mut known = self.known(domain)?;
        if known.key((self.now)()).is_none() || known.addresses.is_empty() {
            self.look_up(domain).await?;
            known = self.known(domain)?;
        }
        let key = known.key((self.now)()).ok_or(FederationError::Unknown(domain.clone()))?;
        if known.addresses.is_empty() {
            return Err(FederationError::NoAddress(domain.clone()));
        }
        Ok((key, known.addresses.clone()))
    }

    /// Makes sure that a node which connected with `key` speaks for `domain`.
    pub(crate) async fn authenticate(
        &self,
        domain: &Domain,
        key: &PublicKey,
        presented: Option<SignedDocument>,
    ) -> Result<(), FederationError> {
        if let Some(presented) = presented {
            self.learn(domain, &presented, false).await?;
        }
        if self.known(domain)?.believes(key, (self.now)()) {
            return Ok(());
        }
        self.look_up(domain).await?;
        if self.known(domain)?.believes(key, (self.now)()) {
            return Ok(());
        }
        Err(FederationError::Identity(domain.clone()))
    }

    /// Whether a signature over `bytes` is of a key that spoke for `domain` at `at_ms`.
    ///
    /// Fails with [`FederationError::Unknown`] if nothing is known of the domain.
    pub(crate) fn holds(
        &self,
        domain: &Domain,
        purpose: Use,
        bytes: &[u8],
        signature: &Signature,
        at_ms: i64,
    ) -> Result<bool, FederationError> {
        let known = self.known(domain)?;
        if known.pinned.is_empty() && known.keys.is_empty() {
            return Err(FederationError::Unknown(domain.clone()));
        }
        // The cheap question first.
        let named: Option<PublicKey> = signature.key.as_ref().try_into().ok();
        let believed = named.is_some_and(|key| known.believed(&key, at_ms));
        Ok(believed && verify(purpose, bytes, signature).is_some())
    }

    /// Asks the domain itself for its document.
    async fn look_up(&self, domain: &Domain) -> Result<(), FederationError> {
        let Some(fetch) = &self.fetch else { return Err(FederationError::Unknown(domain.clone())) };
        if self.asked.len() >= MOST_ASKED {
            self.asked.clear();
        }
        let before = self.asked.insert(domain.clone(), Instant::now());
        if before.is_some_and(|before| before.elapsed() < ASK_AGAIN) {
            return Err(FederationError::Unknown(domain.clone()));
        }
        let signed = fetch(domain.clone()).await?;
        self.learn(domain, &signed, true).await
    }

    /// Takes a document that came from somewhere, if there is a reason to believe it.
    ///
    /// `from_domain`: it came from the domain itself over HTTPS.
    async fn learn(
        &self,
        domain: &Domain,
        signed: &SignedDocument,
        from_domain: bool,
    ) -> Result<(), FederationError> {
        let verified = document::check(signed, domain)?;
        let known = self.known(domain)?;
        let now = (self.now)();
        let nothing_known = known.pinned.is_empty() && known.keys.is_empty();
        let by_a_known_key = verified.signers.iter().any(|key| known.believes(key, now));
        let first = nothing_known && (from_domain || self.first_use);
        // A pin outweighs what the domain serves; without one, the domain speaks for itself.
        let from_domain = from_domain && !known.is_pinned();
        if !(by_a_known_key || first || from_domain) {
            return Ok(());
        }
        if !nothing_known && verified.document.sequence <= known.sequence {
            return Ok(());
        }
        for address in &verified.document.addresses {
            peer_id::check_address(address)?;
        }
        let (name, document) = (domain.clone(), signed.encode_to_vec());
        self.store
            .transact(move |tx| {
                let mut peer = schema::PEERS.get(tx, name.as_str())?.unwrap_or_default();
                peer.document = document.into();
                peer.document_received = now;
                schema::PEERS.put(tx, name.as_str(), &peer);
                Ok::<_, FederationError>(())
            })
            .await?;
        self.refresh(domain);
        Ok(())
    }
}

/// Pins the key and the address of a domain's node.
///
/// An empty list of keys takes the pin away.
pub async fn pin(
    store: &Store,
    domain: &Domain,
    keys: Vec<PublicKey>,
    addresses: Vec<String>,
) -> Result<(), FederationError> {
    let addresses: Vec<String> =
        addresses.iter().map(|a| peer_id::check_address(a)).collect::<Result<_, _>>()?;
    let name = domain.clone();
    let takes_away = keys.is_empty();
    let change = move |tx: &mut Tx<'_>| {
        let mut peer = schema::PEERS.get(tx, name.as_str())?.unwrap_or_default();
        peer.pinned_keys = keys.iter().map(|key| key.to_vec()).collect();
        peer.pinned_addresses = addresses;
        schema::PEERS.put(tx, name.as_str(), &peer);
        Ok(())
    };
    if takes_away {
        store.transact_to_make_room(change).await
    } else {
        store.transact(change).await
    }
}
