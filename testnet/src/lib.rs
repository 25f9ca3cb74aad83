//! Nodes for tests and experiments, driven over the client API.
//!
//! [`Node`] runs in this process over the in-memory engine and starts in milliseconds;
//! [`Process`] is the real program with a data folder. Both give an [`Admin`], who registers users
//! and issues tokens; a [`Client`] is one device of a user, over REST and on a [`Socket`].

pub mod conformance;
pub mod crash;
pub mod crowd;
pub mod damage;
pub mod docker;
mod link;
pub mod load;
pub mod model;
pub mod moments;
pub mod nat;
mod network;
mod node;
mod organisations;
pub mod power_cut;
mod process;
mod random;
pub mod recording;
mod rest;
pub mod simulation;
mod socket;
pub mod up;
pub mod upload;
mod verdict;
mod version_log;

pub use node::{Node, NodeBuilder, SECRET, TestClock, federated, federated_with};
pub use process::{Process, ProcessBuilder, free_port};
pub use rest::{Admin, Answer, Client, Rest};
pub use socket::{Push, Socket, Wire, text_message, texts_in_texts};

/// Result of a step of a scenario.
pub type Result<T = ()> = anyhow::Result<T>;
