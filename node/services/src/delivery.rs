//! What leaves the node after a change is durable, in the order of the changes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use proto::OperationId;
use proto::msg::SendMsgResp;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::conversation_id;
use crate::hub::Hub;

/// Deliveries that may wait before those who cause them have to.
const QUEUE: usize = 8_192;

/// How much later than the answer a delivery leaves that must not overtake what the caller does on
/// the answer.
const LATER: Duration = Duration::from_millis(100);

/// Answers the sender of a message.
pub type Reply = Box<dyn FnOnce(SendMsgResp) + Send>;

/// One message on its way to connections, encoded at most once per kind of frame.
pub struct Push {
    /// An encoded `PushMessages` with this one message.
    pub data: Bytes,
    /// Operation ID of the request that caused it.
    pub operation_id: OperationId,
    frames: [OnceLock<Bytes>; FRAME_KINDS],
}

/// Kinds of frames: encoding × compression.
pub const FRAME_KINDS: usize = 4;

impl Push {
    /// Wraps an encoded `MsgData` of a conversation.
    pub fn new(conversation_id: &str, message: &[u8], operation_id: &OperationId) -> Self {
        Self {
            data: push_messages(conversation_id, message),
            operation_id: operation_id.clone(),
            frames: Default::default(),
        }
    }

    /// Several pushes as one; each must be in a conversation of its own.
    ///
    /// Encoded messages one after the other are their union.
    pub fn joined(pushes: &[Arc<Self>], operation_id: &OperationId) -> Self {
        let data: Vec<u8> = pushes.iter().flat_map(|push| push.data.iter().copied()).collect();
        Self { data: data.into(), operation_id: operation_id.clone(), frames: Default::default() }
    }

    /// The frame of one kind, made by `encode` the first time it is wanted.
    pub fn frame(&self, kind: usize, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        match self.frames.get(kind) {
            Some(slot) => slot.get_or_init(|| encode(self)).clone(),
            None => encode(self),
        }
    }
}

/// Who gets a push.
pub enum Audience {
    /// These users.
    Users(Vec<String>),
    /// Everybody in the group, and these users.
    Group(String, Vec<String>),
}

/// One step of what follows from a change.
pub enum Delivery {
    /// Answer the sender; comes before the push of the same message.
    Reply(Reply, Box<SendMsgResp>),
    /// Push a message.
    Push(Audience, Arc<Push>),
    /// Push to each of many users a message of their own.
    PushEach(PushEach),
    /// These users are now in the group.
    Joined(String, Vec<String>),
    /// These users are no longer in the group.
    Left(String, Vec<String>),
    /// Nobody is in the group any more.
    Dismissed(String),
    /// These, a moment later.
    Later(Vec<Delivery>),
}

/// Pushes to many users, each made only if it reaches somebody.
pub struct PushEach {
    /// Those who get one.
    pub users: Vec<String>,
    /// Also gets each of them.
    pub copies: Option<String>,
    /// Makes the push for a user.
    pub make: Box<dyn Fn(&str) -> Push + Send>,
}

/// The queue to the delivery task.
#[derive(Clone)]
pub struct Outbox {
    queue: mpsc::Sender<Vec<Delivery>>,
}

impl Outbox {
    pub(crate) fn start(hub: Arc<Hub>) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Vec<Delivery>>(QUEUE);
        tokio::spawn(async move {
            while let Some(deliveries) = waiting.recv().await {
                for delivery in deliveries {
                    match delivery {
                        Delivery::Later(deliveries) => {
                            let hub = Arc::clone(&hub);
                            tokio::spawn(async move {
                                tokio::time::sleep(LATER).await;
                                hub.deliver(Delivery::Later(deliveries));
                            });
                        }
                        delivery => hub.deliver(delivery),
                    }
                }
            }
        });
        Self { queue }
    }

    /// Hands over from the committer thread; waits while the queue is full.
    pub(crate) fn after_commit(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(deliveries)) = self.queue.try_send(deliveries) {
            let _ = self.queue.blocking_send(deliveries);
        }
    }

    /// Hands over from a task.
    pub(crate) async fn send(&self, deliveries: Vec<Delivery>) {
        let _ = self.queue.send(deliveries).await;
    }
}

/// `PushMessages` with one conversation and one message, spliced from the encoded message.
fn push_messages(conversation_id: &str, message: &[u8]) -> Bytes {
    let field = if conversation_id::is_stream(conversation_id) { 2 } else { 1 };
    let mut pull_msgs = Vec::with_capacity(message.len() + 8);
    put_bytes(&mut pull_msgs, 1, message);
    let mut entry = Vec::with_capacity(pull_msgs.len() + conversation_id.len() + 16);
    put_bytes(&mut entry, 1, conversation_id.as_bytes());
    put_bytes(&mut entry, 2, &pull_msgs);
    let mut out = Vec::with_capacity(entry.len() + 8);
    put_bytes(&mut out, field, &entry);
    out.into()
}

/// Appends a length-delimited protobuf field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::sdkws::{MsgData, PullMsgs, PushMessages};

    use super::*;

    #[test]
    fn joined_pushes_hold_all_messages() {
        let push = |id: &str| {
            let message = MsgData { send_id: id.into(), seq: 7, ..Default::default() };
            Arc::new(Push::new(id, &message.encode_to_vec(), &"op".into()))
        };
        let joined = Push::joined(&[push("si_a_b"), push("n_a_b"), push("si_a_c")], &"op-2".into());
        assert_eq!(joined.operation_id.as_str(), "op-2");
        let messages = PushMessages::decode(joined.data).expect("decodes");
        let in_chats: Vec<(&str, &str)> =
            messages.msgs.iter().map(|(id, m)| (id.as_str(), m.msgs[0].send_id.as_str())).collect();
        assert_eq!(in_chats, [("si_a_b", "si_a_b"), ("si_a_c", "si_a_c")]);
        assert_eq!(messages.notification_msgs.keys().collect::<Vec<_>>(), ["n_a_b"]);
    }

    #[test]
    fn spliced_pushes_equal_encoded_ones() {
        let message = MsgData { send_id: "a".into(), seq: 7, ..Default::default() };
        for id in ["si_a_b", "n_a_b"] {
            let pull = PullMsgs { msgs: vec![message.clone()], is_end: false, end_seq: 0 };
            let mut expected = PushMessages::default();
            if id.starts_with("n_") {
                expected.notification_msgs.insert(id.into(), pull);
            } else {
                expected.msgs.insert(id.into(), pull);
            }
            let spliced = push_messages(id, &message.encode_to_vec());
            assert_eq!(PushMessages::decode(spliced).expect("decodes"), expected);
        }
    }
}
