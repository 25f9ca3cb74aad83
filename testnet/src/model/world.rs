//! What a seed is played in.

use proto::sdkws::MsgData;
use serde_json::Value;

use super::device::{Device, User};
use crate::Result;

/// Something that came to a device.
#[derive(Debug, Clone)]
pub(super) enum Arrival {
    /// A message of a conversation.
    Message(String, Box<MsgData>),
    /// The login was ended; the device is offline now.
    Kicked,
}

/// How far a conversation goes for a user, and how far the user has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reach {
    pub(super) max_seq: i64,
    pub(super) read_seq: i64,
}

/// A node with users, and their devices.
///
/// Nothing happens in it but what is asked for, one thing at a time.
pub(super) trait World {
    /// Whether time passes only by [`pass`](Self::pass).
    const PAUSED: bool;

    /// Lets time pass.
    fn pass(&mut self, ms: i64);

    /// Calls a route of the REST API; returns the error code and the data.
    async fn call(&mut self, user: User, path: &str, body: Value) -> Result<(i64, Value)>;

    /// Gets a token for a device and connects with it; returns whether the token is a new one.
    ///
    /// Within the same second it is the old one; then the old connection, if any, is broken.
    async fn log_in(&mut self, device: Device) -> Result<bool>;

    /// Connects with the token that the device has; `false` if it is refused.
    async fn connect(&mut self, device: Device) -> Result<bool>;

    /// Tries the token that the device had before its last login; `None` if there was none.
    async fn connect_stale(&mut self, device: Device) -> Result<Option<bool>>;

    /// Breaks the connection of a device.
    async fn cut(&mut self, device: Device) -> Result;

    /// Ends a login on behalf of the app admin.
    async fn force_logout(&mut self, device: Device) -> Result;

    /// Sends messages side by side; returns their error codes.
    async fn send(&mut self, messages: Vec<(Device, MsgData)>) -> Result<Vec<i64>>;

    /// All messages of a conversation that a user can pull, from seq 1 on.
    async fn pull(&mut self, user: User, conversation: &str) -> Result<Vec<MsgData>>;

    /// How far conversations go for a user.
    async fn reach(&mut self, user: User, conversations: &[String]) -> Result<Vec<Reach>>;

    /// Waits until everything has arrived that follows from what was done; returns it by device.
    async fn settle(&mut self) -> Result<Vec<(Device, Vec<Arrival>)>>;

    /// Stops the node and starts it again; all connections break.
    async fn restart(&mut self) -> Result;

    /// Ends it.
    async fn end(self) -> Result;
}
