//! Durable storage of one node.
//!
//! One ordered keyspace behind a narrow [`Engine`](engine::Engine) seam. All changes pass through
//! one committer thread as closures over a [`Tx`]; readers use a [`View`], a consistent picture of
//! what is durable. A caller of [`Store::transact`] is answered only after its change is on disk.

pub mod backup;
mod committer;
pub mod engine;
pub mod epoch;
mod error;
pub mod fault;
pub mod group_log;
mod history;
pub mod key;
mod layered;
pub mod message_log;
pub mod outbox;
pub mod record;
pub mod repair;
mod room;
pub mod schema;
mod store;
pub mod table;
mod transaction;
pub mod verify;
pub mod version_log;
mod view;
mod waiting;

pub use engine::Direction;
pub use error::StoreError;
pub use layered::Read;
pub use message_log::{Append, Appended, PutBack};
pub use store::{Options, Store};
pub use table::Table;
pub use transaction::{Savepoint, Tx};
pub use view::View;
