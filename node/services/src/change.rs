use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;
use proto::msg::SendMsgResp;
use proto::qualified::is_remote;
use proto::sdkws::MsgData;
use store::record::{Conversation, Present};
use store::version_log::{Change as What, List};
use store::{Append, Appended, PutBack, StoreError, Tx, schema};

use crate::access::Caller;
use crate::conversation_id::{self, NOTIFICATION, SINGLE};
use crate::delivery::{Audience, Delivery, Push, Reply};
use crate::error::{Result, ServiceError};
use crate::federation::Crossing;
use crate::{Services, Settings};

/// Pushes in one frame where they go together, and their bytes: the native SDK reads no frame over
/// 1 MiB.
const PUSHES_PER_FRAME: usize = 64;
const BYTES_PER_FRAME: usize = 512 * 1024;

/// One change under way: a transaction, who makes it, and what is to be sent once it is durable.
pub(crate) struct Change<'a, 'tx> {
    pub(crate) tx: &'a mut Tx<'tx>,
    pub(crate) services: &'a Services,
    pub(crate) caller: &'a Caller,
    /// Milliseconds; one time for the whole change.
    pub(crate) now: i64,
    deliveries: Vec<Delivery>,
    /// What is done to groups, for their members elsewhere; `None`: this node does not federate.
    crossings: Option<BTreeMap<String, Vec<Crossing>>>,
    /// Why this could not be noted.
    failed: Option<ServiceError>,
}

impl Services {
    /// Runs `work` as one transaction; its deliveries leave in commit order once it is durable.
    pub(crate) async fn change<T, F>(&self, caller: &Caller, work: F) -> Result<T>
    where
        F: FnOnce(&mut Change<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store().transact(self.transaction(caller, work)).await
    }

    /// As [`change`](Self::change), for what deletes, and for what must be done before anybody can delete:
    /// it goes on when the disk is full.
    ///
    /// How far somebody has read is not among it: that comes with every message read, takes room and
    /// gives none, and clients report it again.
    pub(crate) async fn change_to_make_room<T, F>(&self, caller: &Caller, work: F) -> Result<T>
    where
        F: FnOnce(&mut Change<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store().transact_to_make_room(self.transaction(caller, work)).await
    }

    /// As [`change`](Self::change), behind what users of this node do; queued at the call.
    pub(crate) fn change_behind<T, F>(
        &self,
        caller: &Caller,
        work: F,
    ) -> impl Future<Output = Result<T>> + Send + use<T, F>
    where
        F: FnOnce(&mut Change<'_, '_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.store().transact_behind(self.transaction(caller, work))
    }

    fn transaction<T, F>(
        &self,
        caller: &Caller,
        work: F,
    ) -> impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static + use<T, F>
    where
        F: FnOnce(&mut Change<'_, '_>) -> Result<T> + Send + 'static,
    {
        let services = self.clone();
        let caller = caller.clone();
        let now = self.now();
        move |tx| {
            let mut change = Change {
                tx,
                services: &services,
                caller: &caller,
                now,
                deliveries: Vec::new(),
                crossings: services.domain().map(|_| BTreeMap::new()),
                failed: None,
            };
            let answer = work(&mut change)?;
            if let Some(error) = change.failed.take() {
                return Err(error);
            }
            change.cross_groups()?;
            let deliveries = std::mem::take(&mut change.deliveries);
            let outbox = services.inner.outbox.clone();
            tx.after_commit(move || outbox.after_commit(deliveries));
            Ok(answer)
        }
    }
}

impl<'tx> Change<'_, 'tx> {
    pub(crate) fn settings(&self) -> &Settings {
        self.services.settings()
    }

    /// Runs `work` with somebody else as the caller.
    pub(crate) fn with_caller<T, E>(
        &mut self,
        caller: &Caller,
        work: impl FnOnce(&mut Change<'_, 'tx>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let mut change = Change {
            tx: &mut *self.tx,
            services: self.services,
            caller,
            now: self.now,
            deliveries: std::mem::take(&mut self.deliveries),
            crossings: self.crossings.take(),
            failed: self.failed.take(),
        };
        let done = work(&mut change);
        self.deliveries = change.deliveries;
        self.crossings = change.crossings;
        self.failed = change.failed;
        done
    }

    /// What is to be sent so far, and what was done to groups.
    pub(crate) fn consequences(&self) -> Consequences {
        let crossings = self.crossings.iter().flatten();
        Consequences {
            deliveries: self.deliveries.len(),
            crossings: crossings.map(|(group, done)| (group.clone(), done.len())).collect(),
        }
    }

    /// Forgets what came after `before`.
    pub(crate) fn forget_consequences(&mut self, before: &Consequences) {
        self.deliveries.truncate(before.deliveries);
        for (group, done) in self.crossings.iter_mut().flatten() {
            done.truncate(before.crossings.get(group).copied().unwrap_or(0));
        }
    }

    /// Groups of this node to which something was done.
    pub(crate) fn groups_crossed(&self) -> BTreeSet<String> {
        self.crossings.iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// What was done to one of them.
    pub(crate) fn take_crossings(&mut self, group_id: &str) -> Vec<Crossing> {
        let crossings = self.crossings.as_mut();
        crossings.and_then(|crossings| crossings.remove(group_id)).unwrap_or_default()
    }

    pub(crate) fn note_crossing(&mut self, group_id: &str, crossing: Crossing) {
        if let Some(crossings) = &mut self.crossings
            && !group_id.is_empty()
        {
            match self.services.group_home(&*self.tx, group_id) {
                Ok(None) => crossings.entry(group_id.to_owned()).or_default().push(crossing),
                Ok(Some(_)) => {}
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// A message of a group's chat was revoked or erased.
    pub(crate) fn changed_in_group(&mut self, group_id: &str, seq: i64) {
        self.note_crossing(group_id, Crossing::Changed { seq });
    }

    /// Everything in a group's chat below a seq is gone for all.
    pub(crate) fn cleared_in_group(&mut self, group_id: &str, below: i64) {
        self.note_crossing(group_id, Crossing::Cleared { below });
    }

    /// Adds something to send once the change is durable.
    pub(crate) fn deliver(&mut self, delivery: Delivery) {
        self.deliveries.push(delivery);
    }

    /// Runs `work`; what it pushes to a user goes in few frames, each with many messages.
    ///
    /// A frame for each would overrun the user's devices. Every message must be in a conversation
    /// of its own.
    pub(crate) fn in_few_frames(
        &mut self,
        user_id: &str,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = std::mem::take(&mut self.deliveries);
        let worked = work(self);
        let made = std::mem::replace(&mut self.deliveries, before);
        worked?;
        let mut pushes = Vec::new();
        for delivery in made {
            match delivery {
                Delivery::Push(Audience::Users(mut users), push)
                    if users.iter().any(|user| user == user_id) =>
                {
                    users.retain(|user| user != user_id);
                    if !users.is_empty() {
                        self.deliver(Delivery::Push(Audience::Users(users), Arc::clone(&push)));
                    }
                    pushes.push(push);
                }
                other => self.deliver(other),
            }
        }
        let mut rest = pushes.as_slice();
        while !rest.is_empty() {
            let (mut count, mut bytes) = (0, 0);
            for push in rest.iter().take(PUSHES_PER_FRAME) {
                bytes += push.data.len();
                if count > 0 && bytes > BYTES_PER_FRAME {
                    break;
                }
                count += 1;
            }
            let (together, later) = rest.split_at(count);
            rest = later;
            let push = Push::joined(together, &self.caller.operation_id);
            let audience = Audience::Users(vec![user_id.to_owned()]);
            self.deliver(Delivery::Push(audience, Arc::new(push)));
        }
        Ok(())
    }

    /// Runs `work`; what it sends leaves when the caller has had time to act on the answer.
    ///
    /// SDKs fetch the black list both on the answer and on the notification, and fail where the two
    /// meet.
    pub(crate) fn later<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let before = std::mem::take(&mut self.deliveries);
        let worked = work(self);
        let made = std::mem::replace(&mut self.deliveries, before);
        self.deliver(Delivery::Later(made));
        worked
    }

    /// Answers the sender of `message` before anything else about it is sent.
    pub(crate) fn reply(&mut self, reply: Reply, response: SendMsgResp) {
        self.deliver(Delivery::Reply(reply, Box::new(response)));
    }

    /// A message as its log takes it; `once`: it is recognised when it comes again.
    fn record_of(&self, message: &MsgData, once: bool) -> Append {
        let (conversation, head) = conversation_id::of_message(message);
        let body = MsgData { seq: 0, send_time: 0, ..message.clone() };
        Append {
            conversation,
            head,
            message: body.encode_to_vec(),
            now: if message.send_time == 0 { self.now } else { message.send_time },
            repeat: (once && !message.client_msg_id.is_empty())
                .then(|| (message.send_id.clone(), message.client_msg_id.clone())),
        }
    }

    /// Stores a message at the end of its conversation, which its first message creates.
    ///
    /// `once` refuses to store the same clientMsgID of the same sender twice.
    pub(crate) fn append(&mut self, message: &MsgData, once: bool) -> Result<Appended> {
        let append = self.record_of(message, once);
        let conversation = append.conversation.clone();
        let stream = conversation_id::is_stream(&conversation);
        let appended = self.tx.append(append).map_err(|error| match error {
            StoreError::ConversationTaken(id) => taken(&id),
            other => other.into(),
        })?;
        if stream && appended.first {
            self.list_stream(message, &conversation);
        }
        if appended.repeated || stream {
            return Ok(appended);
        }
        if appended.first {
            self.begin_conversation(message, &conversation)?;
        }
        if appended.awaited {
            self.bring_back(&conversation)?;
        }
        self.raise_read(&message.send_id, &conversation, appended.seq)?;
        Ok(appended)
    }

    /// Stores a message under the seq that it had before this node was restored, or at the end if
    /// another one has that seq; false: it is here, or that seq is none that was lost.
    pub(crate) fn put_back(&mut self, message: &MsgData, seq: i64) -> Result<bool> {
        let append = self.record_of(message, true);
        let conversation = append.conversation.clone();
        let put_back = match self.tx.put_back(append, seq, message.send_time)? {
            PutBack::Done(put_back) => put_back,
            PutBack::Here | PutBack::Nowhere => return Ok(false),
            PutBack::NoPlace => return Ok(!self.append(message, true)?.repeated),
        };
        if put_back.first {
            self.begin_conversation(message, &conversation)?;
        }
        if put_back.awaited {
            self.bring_back(&conversation)?;
        }
        self.raise_read(&message.send_id, &conversation, seq)?;
        Ok(true)
    }

    /// Lists a new stream of two for both, who may have no chat beside which it would be found.
    fn list_stream(&mut self, message: &MsgData, stream: &str) {
        if message.session_type == conversation_id::GROUP {
            return;
        }
        for user_id in [&message.send_id, &message.recv_id] {
            self.list_stream_for(user_id, stream);
        }
    }

    /// Lists a stream for one of its users, if that is one of this node.
    pub(crate) fn list_stream_for(&mut self, user_id: &str, stream: &str) {
        if !is_remote(user_id) {
            schema::STREAMS.put(self.tx, (user_id, stream), &Present {});
        }
    }

    /// Puts a new chat into the lists of those it belongs to; group chats follow from membership.
    fn begin_conversation(&mut self, message: &MsgData, conversation: &str) -> Result<()> {
        let mut owners = match message.session_type {
            SINGLE => vec![
                (message.send_id.clone(), message.recv_id.clone()),
                (message.recv_id.clone(), message.send_id.clone()),
            ],
            NOTIFICATION => vec![(message.recv_id.clone(), message.send_id.clone())],
            _ => Vec::new(),
        };
        owners.dedup();
        for (owner, peer) in owners {
            if schema::CONVERSATIONS.contains(self.tx, (&owner, conversation))? {
                continue;
            }
            let record = Conversation {
                session_type: message.session_type,
                user_id: peer,
                order: self.now.cast_unsigned(),
                ..Default::default()
            };
            schema::CONVERSATIONS.put(self.tx, (&owner, conversation), &record);
            self.tx.step(List::Conversations, &owner, [(conversation, What::Insert)])?;
        }
        Ok(())
    }

    /// Raises how far a user has read; returns the seq up to which that is now.
    pub(crate) fn raise_read(
        &mut self,
        user_id: &str,
        conversation: &str,
        seq: i64,
    ) -> Result<i64> {
        let key = (user_id, conversation);
        let mut position = schema::READ_POSITIONS.get(self.tx, key)?.unwrap_or_default();
        if seq > position.read_seq {
            position.read_seq = seq;
            schema::READ_POSITIONS.put(self.tx, key, &position);
        }
        Ok(position.read_seq)
    }

    /// Pushes a message to those who get it.
    pub(crate) fn push(&mut self, conversation: &str, message: &[u8], audience: Audience) {
        if let Audience::Group(group_id, leavers) = &audience
            && self.crossings.is_some()
        {
            let crossing = Crossing::Message {
                conversation: conversation.to_owned(),
                message: message.to_vec(),
                leavers: leavers.clone(),
            };
            self.note_crossing(group_id, crossing);
        }
        let push = Push::new(conversation, message, &self.caller.operation_id);
        self.deliver(Delivery::Push(audience, Arc::new(push)));
    }
}

/// How much follows from a change at some point in it.
pub(crate) struct Consequences {
    deliveries: usize,
    crossings: BTreeMap<String, usize>,
}

/// Who gets a message: the group (and those who just left it), or receiver and sender.
pub(crate) fn audience(message: &MsgData, leavers: &[String]) -> Audience {
    if message.session_type == conversation_id::GROUP {
        return Audience::Group(message.group_id.clone(), leavers.to_vec());
    }
    let mut users = vec![message.recv_id.clone()];
    if message.options.get("senderSync") != Some(&false) && message.send_id != message.recv_id {
        users.push(message.send_id.clone());
    }
    Audience::Users(users)
}

/// Why a message is refused whose conversation ID stands for others already.
pub(crate) fn taken(conversation_id: &str) -> ServiceError {
    ServiceError::args(format!("{conversation_id} is a conversation of others"))
}

/// JSON text of something that always serializes.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    proto::json::to_string(value).map_err(|error| ServiceError::Internal(error.to_string()))
}
