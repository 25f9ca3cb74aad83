//! The chat rules: who may do what, what follows from it, and who is told.
//!
//! Knows neither HTTP nor WebSocket. Every operation is a method of [`Services`] that takes the
//! [`Caller`] and a request message and returns a response message or a [`ServiceError`].

pub mod access;
pub mod auth;
mod border;
mod change;
pub mod conversation;
pub mod conversation_id;
mod day;
pub mod delivery;
pub mod environment;
mod error;
mod fault;
pub mod federation;
pub mod friend;
pub mod group;
pub mod hub;
mod incremental;
mod indices;
pub mod jssdk;
pub mod message;
mod new_id;
pub mod notification;
pub mod object;
mod page;
pub mod platform;
pub mod presence;
mod search_text;
pub mod settings;
pub mod statistics;
pub mod third;
pub mod user;

pub use access::Caller;
pub use environment::Environment;
pub use error::{Result, ServiceError};
pub use settings::Settings;
pub use store::StoreError;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use federation::{
    Awaited, Fetching, FetchingMembers, HeadsToTell, Healing, OtherNodes, Turns, Verdicts,
};
use parking_lot::Mutex;
use store::Store;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use delivery::Outbox;
use hub::Hub;
use object::Objects;

/// Long readings, such as searches through all accounts, that run at the same time.
const LONG_READS: usize = 2;

/// All operations of a node.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    settings: Settings,
    environment: Environment,
    hub: Arc<Hub>,
    outbox: Outbox,
    /// Long readings that may run at once.
    long_reads: Semaphore,
    objects: Arc<Objects>,
    /// The other nodes, if this one federates.
    others: OnceLock<Arc<dyn OtherNodes>>,
    verdicts: Verdicts,
    /// Senders who wait for another node.
    awaited: Awaited,
    /// Groups of other nodes whose log is being fetched.
    catching_up: Mutex<HashSet<String>>,
    /// There are groups whose home may not be as their ID says.
    homes_differ: AtomicBool,
    fetching_members: FetchingMembers,
    /// In which order what other nodes send is applied.
    turns: Turns,
    healing: Healing,
    heads_to_tell: HeadsToTell,
    fetching: Fetching,
    /// Where work goes that follows from a change.
    runtime: Handle,
}

impl Services {
    /// Sets up the services and starts the delivery task; must run inside a tokio runtime.
    pub fn new(store: Store, settings: Settings, environment: Environment) -> Self {
        let hub = Arc::new(Hub::default());
        let outbox = Outbox::start(Arc::clone(&hub));
        let long_reads = Semaphore::new(LONG_READS);
        let objects = Arc::new(Objects::new(settings.object_folder.clone()));
        let inner = Inner {
            store,
            settings,
            environment,
            hub,
            outbox,
            long_reads,
            objects,
            others: OnceLock::new(),
            verdicts: Verdicts::default(),
            awaited: Awaited::default(),
            catching_up: Mutex::default(),
            // Until somebody has looked.
            homes_differ: AtomicBool::new(true),
            fetching_members: FetchingMembers::default(),
            turns: Turns::default(),
            healing: Healing::default(),
            heads_to_tell: HeadsToTell::default(),
            fetching: Fetching::default(),
            runtime: Handle::current(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The data.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Connections of this node.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.inner.hub
    }

    pub(crate) fn now(&self) -> i64 {
        self.inner.environment.clock.now_ms()
    }

    /// 32 random hex digits.
    pub(crate) fn new_id(&self) -> String {
        let mut bytes = [0; 16];
        self.inner.environment.random.fill(&mut bytes);
        hex::encode(bytes)
    }

    /// Ten random digits, the first not 0.
    pub(crate) fn random_digits(&self) -> String {
        (1_000_000_000 + self.random_u64() % 9_000_000_000).to_string()
    }

    pub(crate) fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.inner.environment.random.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}
