//! What a seed is played in.

use prost::Message;
use proto::msg::{
    GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp, GetLastMessageReq,
    GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp,
};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp,
};
use serde_json::Value;
use services::{Caller, Services};

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

/// A question that a device asks over its connection.
pub(super) trait Question: Message {
    type Answer: Message + Default;
    /// Its number on the connection.
    const NUMBER: i32;

    /// Asks the services themselves.
    fn ask(&self, services: &Services, caller: &Caller) -> services::Result<Self::Answer>;
}

macro_rules! questions {
    ($($number:literal $question:ident $answer:ident $method:ident;)*) => {$(
        impl Question for $question {
            type Answer = $answer;
            const NUMBER: i32 = $number;

            fn ask(&self, services: &Services, caller: &Caller) -> services::Result<Self::Answer> {
                services.$method(caller, self)
            }
        }
    )*};
}

questions! {
    1001 GetMaxSeqReq GetMaxSeqResp max_seqs;
    1002 PullMessageBySeqsReq PullMessageBySeqsResp pull_by_ranges;
    1005 GetSeqMessageReq GetSeqMessageResp pull_by_seqs;
    1006 GetConversationsHasReadAndMaxSeqReq GetConversationsHasReadAndMaxSeqResp read_and_max_seqs;
    1007 GetLastMessageReq GetLastMessageResp last_messages;
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

    /// Asks a question as a user; it must be answered.
    async fn ask<Q: Question>(&mut self, user: User, question: &Q) -> Result<Q::Answer>;

    /// Calls a route of the REST API as the app admin; it must succeed.
    async fn admin(&mut self, path: &str, body: Value) -> Result<Value>;

    /// Waits until everything has arrived that follows from what was done; returns it by device.
    async fn settle(&mut self) -> Result<Vec<(Device, Vec<Arrival>)>>;

    /// Stops the node and starts it again; all connections break.
    async fn restart(&mut self) -> Result;

    /// Ends it.
    async fn end(self) -> Result;
}
