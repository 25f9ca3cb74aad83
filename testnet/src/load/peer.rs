//! What is common to everything that `load` drives: a session that sends and receives messages.
//!
//! [`openim`](super::openim) is the session of Entente and of the raw relay. Another kind of server
//! implements [`Session`] with its own protocol and makes its sessions itself.

use std::future::Future;

use crate::Result;

use super::marker::Marker;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// A user.
    User(String),
    /// A group.
    Group(String),
}

/// Something that reached a session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A message of this session was accepted.
    Acknowledged(Marker),
    /// A message of this session was refused; says why.
    Refused(String),
    /// A message.
    Message {
        /// What it says about itself.
        marker: Marker,
        /// Its place in the conversation, 0 if the server counts none.
        seq: i64,
    },
}

/// One logged-in device.
pub(crate) trait Session: Send + 'static {
    /// Writes a message; it may stay in a buffer until [`flush`](Self::flush).
    fn feed(
        &mut self,
        to: &To,
        marker: Marker,
        content: &str,
    ) -> impl Future<Output = Result> + Send;

    /// Sends what was fed.
    fn flush(&mut self) -> impl Future<Output = Result> + Send;

    /// The next event; may be dropped half way and called again.
    fn next(&mut self) -> impl Future<Output = Result<Event>> + Send;

    /// An event that is there already.
    fn ready(&mut self) -> Option<Result<Event>>;
}
