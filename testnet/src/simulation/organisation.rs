//! One organisation: its rules and its federation over the memory engine and simulated links.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use entente::bridge;
use federation::identity::Identity;
use federation::policy::Policies;
use federation::transport::simulated::Network;
use federation::{Budget, Domain, Federation, Halt, PublicKey, Timing, trust};
use proto::sdkws::UserInfo;
use proto::user::UserRegisterReq;
use services::environment::{Clock, Environment, Random as Randomness};
use services::{Caller, Services, Settings};
use store::engine::{Batch, Direction, Engine, KeyRange, MemoryEngine, Scan};
use store::{Store, StoreError};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::random::Seeded;

/// When it begins, in Unix milliseconds.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// Links that wait to be served.
const WAITING_LINKS: usize = 256;

/// An engine that outlives the node over it.
struct Outliving(Arc<MemoryEngine>);

impl Engine for Outliving {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<Bytes>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.0.scan(range, direction)
    }

    fn apply(&self, batch: &Batch) -> std::result::Result<(), StoreError> {
        self.0.apply(batch)
    }

    fn sync(&self) -> std::result::Result<(), StoreError> {
        self.0.sync()
    }

    fn available_bytes(&self) -> Option<u64> {
        None
    }
}

/// Paused time, off by some.
struct Skewed {
    began: Instant,
    ahead_ms: AtomicI64,
}

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        BEGIN_MS + passed + self.ahead_ms.load(Ordering::Relaxed)
    }
}

/// A running node.
struct Running {
    store: Store,
    services: Services,
    federation: Federation,
    stop: CancellationToken,
}

pub(super) struct Organisation {
    pub(super) domain: Domain,
    pub(super) key: PublicKey,
    identity: Identity,
    engine: Arc<MemoryEngine>,
    clock: Arc<Skewed>,
    random: Arc<Seeded>,
    network: Network,
    running: Option<Running>,
    /// It is a copy of a node that runs, under the same keys.
    beside: bool,
}

/// What a node had stored at some time.
pub(super) struct Stored(Batch);

impl Organisation {
    /// What it has stored.
    pub(super) fn stored(&self) -> Result<Stored> {
        use std::ops::Bound::Unbounded;
        let rows = self.engine.scan((Unbounded, Unbounded), Direction::Ascending);
        let rows = rows.map(|row| row.map(|(key, value)| (key.to_vec(), Some(value))));
        Ok(Stored(rows.collect::<std::result::Result<_, _>>()?))
    }

    /// Puts in place of what it has stored what it had at another time; it must not run.
    pub(super) fn put(&mut self, stored: &Stored) -> Result {
        self.engine = Arc::default();
        self.engine.apply(&stored.0)?;
        Ok(())
    }

    /// A copy of it, which does not run yet.
    pub(super) fn copied(&self, stored: &Stored) -> Result<Self> {
        let mut copy = Self {
            domain: self.domain.clone(),
            key: self.key,
            identity: self.identity.clone(),
            engine: Arc::default(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            network: self.network.clone(),
            running: None,
            beside: true,
        };
        copy.put(stored)?;
        Ok(copy)
    }

    /// Why it deals with no other one any more.
    pub(super) fn halt(&self) -> Option<Halt> {
        self.running.as_ref().and_then(|running| running.federation.halt())
    }

    /// Starts again if its data has a new epoch, as the program does.
    pub(super) async fn follow(&mut self) -> Result<bool> {
        let again = matches!(self.halt(), Some(Halt::NewEpoch { .. }));
        if again {
            self.kill();
            self.start().await?;
        }
        Ok(again)
    }

    /// An organisation that does not run yet.
    pub(super) fn new(index: usize, seed: u64, began: Instant, network: &Network) -> Result<Self> {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8] = u8::try_from(index)?;
        let identity = Identity::new(bytes, BEGIN_MS);
        Ok(Self {
            domain: format!("node{index}.example").parse()?,
            key: identity.public_key(),
            identity,
            engine: Arc::default(),
            clock: Arc::new(Skewed { began, ahead_ms: AtomicI64::new(0) }),
            random: Arc::new(Seeded::new(seed ^ index as u64)),
            network: network.clone(),
            running: None,
            beside: false,
        })
    }

    /// Starts the node over what it has kept.
    pub(super) async fn start(&mut self) -> Result {
        let options = store::Options {
            salt: self.key[..16].try_into()?,
            reserve_bytes: 0,
            inline: true,
            ..store::Options::default()
        };
        let store = Store::open(Box::new(Outliving(Arc::clone(&self.engine))), options)?;
        let environment = Environment {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            random: Arc::clone(&self.random) as Arc<dyn Randomness>,
        };
        let settings = Settings {
            domain: Some(self.domain.clone()),
            secret: crate::SECRET.into(),
            ..Settings::default()
        };
        let services = Services::new(store.clone(), settings, environment);
        services.seed_admins().await?;
        services.resume().await?;
        let (links, incoming) = mpsc::channel(WAITING_LINKS);
        let endpoint = if self.beside {
            self.network.join_beside(self.key)
        } else {
            self.network.join(self.key, links)
        };
        let stop = CancellationToken::new();
        let settings = federation::Settings {
            domain: self.domain.clone(),
            addresses: Vec::new(),
            policies: Policies::default(),
            first_use: false,
            budget: Budget::default(),
            timing: Timing::default(),
        };
        let (clock, links) = (Arc::clone(&self.clock) as _, (Arc::new(endpoint) as _, incoming));
        let identity = self.identity.clone();
        let federation =
            bridge::federate(&services, clock, settings, identity, None, links, stop.clone())
                .await?;
        self.running = Some(Running { store, services, federation, stop });
        Ok(())
    }

    /// Ends the node at once; what was durable stays.
    pub(super) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            if !self.beside {
                self.network.leave(&self.key);
            }
            running.stop.cancel();
            running.store.close();
        }
    }

    /// Trusts another organisation.
    pub(super) async fn trust(&self, other: &Self) -> Result {
        let address = "/ip4/127.0.0.1/udp/1/quic-v1".to_owned();
        trust::pin(self.store()?, &other.domain, vec![other.key], vec![address]).await?;
        self.federation()?.refresh(&other.domain);
        Ok(())
    }

    /// Registers users.
    pub(super) async fn register(&self, users: &[String]) -> Result {
        let user = |id: &String| UserInfo {
            user_id: id.clone(),
            nickname: id.to_uppercase(),
            ..UserInfo::default()
        };
        let request = UserRegisterReq { users: users.iter().map(user).collect() };
        self.services()?.user_register(&Caller::node("imAdmin"), request).await?;
        Ok(())
    }

    pub(super) fn set_ahead(&self, ms: i64) {
        self.clock.ahead_ms.store(ms, Ordering::Relaxed);
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().ok_or_else(|| anyhow::anyhow!("{} does not run", self.domain))
    }

    pub(super) fn services(&self) -> Result<&Services> {
        Ok(&self.running()?.services)
    }

    pub(super) fn store(&self) -> Result<&Store> {
        Ok(&self.running()?.store)
    }

    pub(super) fn federation(&self) -> Result<&Federation> {
        Ok(&self.running()?.federation)
    }
}
