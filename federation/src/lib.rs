//! Signed events between nodes: exactly once in effect, in order, kept until they are delivered.
//!
//! It knows domains, keys, streams and events, and nothing of what an event means: the
//! [`Rules`] of the node make events and apply them. A node has one [`Federation`].
//!
//! * [`identity`]: the keys of this node; [`document`]: who speaks for a domain; [`trust`]: whom
//!   this node believes.
//! * [`transport`]: links to other nodes, over QUIC or simulated.
//! * `outgoing`, `incoming`: the two ends of a stream of events. `control`: requests and answers.
//!   [`media`]: content.

mod budget;
mod control;
pub mod document;
mod doubled;
mod error;
mod frame;
mod halt;
pub mod identity;
mod incoming;
mod instance;
pub mod media;
mod memory;
mod node;
mod outgoing;
mod peer;
pub mod peer_id;
pub mod policy;
pub mod probe;
mod rules;
mod seal;
mod serving;
mod shared;
pub mod signed;
pub mod transport;
pub mod trust;

pub use budget::Budget;
pub use error::{AskError, FederationError};
pub use halt::Halt;
pub use node::{Federation, Parts, WeakFederation, stored_peers};
pub use peer::{LinkState, PeerReport};
pub use proto::qualified::Domain;
pub use rules::{Begin, Content, Rules};
pub use shared::{Settings, Timing};

/// Version of the protocol that this program speaks.
pub const VERSION: u32 = 1;

/// A node's ed25519 public key.
pub type PublicKey = [u8; 32];
