//! The chat rules: who may do what, what follows from it, and who is told.
//!
//! Knows neither HTTP nor WebSocket. Every operation is a method of [`Services`] that takes the
//! [`Caller`] and a request message and returns a response message or a [`ServiceError`].

pub mod access;
pub mod auth;
mod change;
pub mod conversation;
pub mod conversation_id;
pub mod delivery;
pub mod environment;
mod error;
pub mod hub;
pub mod message;
pub mod notification;
pub mod platform;
pub mod presence;
pub mod settings;
pub mod user;

pub use access::Caller;
pub use environment::Environment;
pub use error::{Result, ServiceError};
pub use settings::Settings;

use std::sync::Arc;

use store::Store;

use delivery::Outbox;
use hub::Hub;

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
}

impl Services {
    /// Sets up the services and starts the delivery task; must run inside a tokio runtime.
    pub fn new(store: Store, settings: Settings, environment: Environment) -> Self {
        let hub = Arc::new(Hub::default());
        let outbox = Outbox::start(Arc::clone(&hub));
        Self { inner: Arc::new(Inner { store, settings, environment, hub, outbox }) }
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
        hex(&bytes)
    }

    pub(crate) fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.inner.environment.random.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
