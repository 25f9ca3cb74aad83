//! Chats of two users on two nodes.
//!
//! Each node keeps the chat with seqs of its own. A message is named across the border by its
//! author and its seq on the author's node, which the other node keeps beside its own.

use std::collections::BTreeSet;

use prost::Message as _;
use proto::federation::{
    Chat, Clear, Delete, Event, EventKind, MessageRef, Profile, Read as ReadEvent, Refusal, Revoke,
};
use proto::msg::{DeleteMsgsReq, DeleteSyncOpt, RevokeMsgReq};
use proto::qualified::{Domain, home_of, is_remote};
use proto::sdkws::MsgData;
use store::record::{Number, Queued};
use store::{Direction, Read, StoreError, View, message_log, schema};

use super::Trouble;
use crate::Services;
use crate::border;
use crate::change::{Change, audience, json};
use crate::conversation_id::{self, SINGLE};
use crate::error::{Result, ServiceError};
use crate::message::{self, CUSTOM, MAX_ELEMENTS, SENT};
use crate::notification::{FROM_SYSTEM, is_system};

type Done = std::result::Result<(), Trouble>;

/// How far the clock of another node may be ahead before its times are cut, in milliseconds.
const MAX_AHEAD_MS: i64 = 5_000;
/// Largest seq of a message.
pub(super) const MAX_SEQ: i64 = i64::MAX / 2;
/// Longest ID of a message in bytes.
pub(super) const MAX_MESSAGE_ID_BYTES: usize = 128;
/// What the stock apps show for a message to somebody who has blocked the sender.
const TIP_BLOCKED: i32 = 910;
/// What the stock apps show for a message to somebody who is not a friend.
const TIP_NOT_FRIEND: i32 = 911;

/// The event of a stored message; nothing if the message is gone meanwhile.
pub(super) fn write_out(
    view: &View<'_>,
    queued: &Queued,
    own: &Domain,
    event: Event,
) -> std::result::Result<Event, StoreError> {
    let nothing = Event { kind: EventKind::EventNothing as u32, ..event.clone() };
    let key = (queued.conversation, queued.seq.cast_unsigned());
    let Some(message) = schema::MESSAGES.get(view, key)? else { return Ok(nothing) };
    if message_log::is_erased(&message) {
        return Ok(nothing);
    }
    let send_time_ms = message.send_time;
    match border::bare(message, own) {
        Ok(message) => {
            let message = message.into();
            let chat = Chat { message, author_seq: queued.seq, send_time_ms };
            Ok(Event { body: chat.encode_to_vec().into(), ..event })
        }
        Err(error) => {
            tracing::error!(%error, "a message cannot leave this node");
            Ok(nothing)
        }
    }
}

impl Change<'_, '_> {
    /// Tells the receiver's node of a message that was just stored, if that is another one.
    pub(crate) fn cross_message(
        &mut self,
        message: &MsgData,
        conversation: u64,
        seq: i64,
    ) -> Result<()> {
        let Some(domain) = peer_node(message.session_type, &message.send_id, &message.recv_id)
        else {
            return Ok(());
        };
        let kind = EventKind::EventChat as u32;
        let event = Queued { kind, time: self.now, conversation, seq, ..Queued::default() };
        self.queue(&domain, &event)?;
        Ok(())
    }

    /// Tells the peer's node that a message was revoked.
    pub(crate) fn cross_revoke(
        &mut self,
        by: &str,
        message: &MsgData,
        conversation: u64,
        seq: i64,
    ) -> Result<()> {
        let peer = if by == message.send_id { &message.recv_id } else { &message.send_id };
        let Some(domain) = peer_node(message.session_type, by, peer) else { return Ok(()) };
        let Some(message) = self.reference(&message.send_id, conversation, seq)? else {
            return Ok(());
        };
        let body = Revoke {
            by: self.qualified(by)?,
            peer: self.qualified(peer)?,
            message: Some(message),
            time_ms: self.now,
        };
        self.tell_node(&domain, EventKind::EventRevoke, &body)
    }

    /// Tells the author's node what was read.
    pub(crate) fn cross_read(
        &mut self,
        reader: &str,
        author: &str,
        conversation_id: &str,
        has_read_seq: i64,
        seqs: &[i64],
    ) -> Result<()> {
        let Some(domain) = peer_node(SINGLE, reader, author) else { return Ok(()) };
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, conversation_id)? else {
            return Ok(());
        };
        let up_to = author_seq_at(self.tx, head.number, has_read_seq)?.unwrap_or_default();
        let seqs = author_seqs(self.tx, head.number, seqs)?;
        if up_to == 0 && seqs.is_empty() {
            return Ok(());
        }
        let (reader, author) = (self.qualified(reader)?, self.qualified(author)?);
        let mut read = ReadEvent { reader, author, up_to, seqs: Vec::new() };
        if seqs.is_empty() {
            return self.tell_node(&domain, EventKind::EventRead, &read);
        }
        for seqs in seqs.chunks(MAX_ELEMENTS) {
            read.seqs = seqs.to_vec();
            self.tell_node(&domain, EventKind::EventRead, &read)?;
        }
        Ok(())
    }

    /// Tells the peer's node of messages that are gone for both.
    pub(crate) fn cross_delete(
        &mut self,
        by: &str,
        peer: &str,
        messages: Vec<MessageRef>,
    ) -> Result<()> {
        let Some(domain) = peer_node(SINGLE, by, peer) else { return Ok(()) };
        if messages.is_empty() {
            return Ok(());
        }
        let body = Delete { by: self.qualified(by)?, peer: self.qualified(peer)?, messages };
        self.tell_node(&domain, EventKind::EventDelete, &body)
    }

    /// Tells the peer's node that all messages up to `through` are gone for both.
    pub(crate) fn cross_clear(
        &mut self,
        by: &str,
        peer: &str,
        conversation: u64,
        through: i64,
    ) -> Result<()> {
        let Some(domain) = peer_node(SINGLE, by, peer) else { return Ok(()) };
        let peer_up_to = author_seq_at(self.tx, conversation, through)?.unwrap_or_default();
        let (by, peer) = (self.qualified(by)?, self.qualified(peer)?);
        let body = Clear { by, peer, own_up_to: through, peer_up_to };
        self.tell_node(&domain, EventKind::EventClear, &body)
    }

    /// How a message of `author` is named across the border; `None` if it never crossed.
    pub(crate) fn reference(
        &self,
        author: &str,
        conversation: u64,
        seq: i64,
    ) -> Result<Option<MessageRef>> {
        let author_seq = if is_remote(author) {
            author_seqs(self.tx, conversation, &[seq])?.first().copied()
        } else {
            Some(seq)
        };
        let author = self.qualified(author)?;
        Ok(author_seq.map(|author_seq| MessageRef { author, author_seq }))
    }

    pub(super) fn chat_received(&mut self, origin: &Domain, chat: Chat) -> Done {
        let Chat { message, author_seq, send_time_ms } = chat;
        let message = MsgData::decode(message)?;
        self.user_of(origin, &message.send_id)?;
        self.local_user(&message.recv_id)?;
        let mut message = self.services.inbound(message)?;
        check_chat(&message, author_seq)?;
        message.seq = 0;
        message.status = SENT;
        message.is_read = false;
        message.send_time = sent_at(self.now, send_time_ms);
        self.services.check_shape(&message)?;
        if self.is_here(&message, author_seq)? {
            return Ok(());
        }
        self.introduce(origin, &message)?;
        self.services.check_single(&*self.tx, &mut message)?;
        let appended = self.append(&message, true)?;
        if appended.repeated {
            return Ok(());
        }
        let key = (appended.conversation, author_seq);
        schema::AUTHOR_SEQS.put(self.tx, key, &Number { value: appended.seq });
        let (conversation, _) = conversation_id::of_message(&message);
        self.push(&conversation, &appended.message, audience(&message, &[]));
        Ok(())
    }

    /// Whether a message was received before, however long ago: a node that was restored sends again
    /// what it does not know to have arrived.
    fn is_here(&self, message: &MsgData, author_seq: i64) -> Result<bool> {
        let (conversation, _) = conversation_id::of_message(message);
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &conversation)? else {
            return Ok(false);
        };
        let Some(seq) = schema::AUTHOR_SEQS.get(self.tx, (head.number, author_seq))? else {
            return Ok(false);
        };
        let known = schema::MESSAGES.get(self.tx, (head.number, seq.value.cast_unsigned()))?;
        Ok(known.is_some_and(|known| known.client_msg_id == message.client_msg_id))
    }

    /// Whoever writes for the first time gets a profile from what the message says.
    fn introduce(&mut self, origin: &Domain, message: &MsgData) -> Done {
        if schema::USERS.contains(self.tx, &message.send_id)? {
            return Ok(());
        }
        let profile = Profile {
            user_id: self.qualified(&message.send_id)?,
            nickname: message.sender_nickname.clone(),
            face_url: message.sender_face_url.clone(),
            ..Profile::default()
        };
        self.note_profile(origin, profile)?;
        Ok(())
    }

    /// The chat of a user of `origin` with one of this node: both, and its ID.
    fn chat_of(
        &self,
        origin: &Domain,
        there: &str,
        here: &str,
    ) -> std::result::Result<(String, String, String), Trouble> {
        let (there, here) = (self.user_of(origin, there)?, self.local_user(here)?);
        let id = conversation_id::single(&there, &here);
        Ok((there, here, id))
    }

    /// The seq here of a message that another node names.
    fn resolve(
        &self,
        origin: &Domain,
        conversation: u64,
        message: &MessageRef,
    ) -> std::result::Result<Option<i64>, Trouble> {
        if self.own_user(&message.author).is_ok() {
            return Ok(Some(message.author_seq));
        }
        self.user_of(origin, &message.author)?;
        let seq = schema::AUTHOR_SEQS.get(self.tx, (conversation, message.author_seq))?;
        Ok(seq.map(|seq| seq.value))
    }

    pub(super) fn chat_revoked(&mut self, origin: &Domain, event: &Revoke) -> Done {
        let (by, _, conversation_id) = self.chat_of(origin, &event.by, &event.peer)?;
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &conversation_id)? else {
            return Ok(());
        };
        let message = event.message.clone().unwrap_or_default();
        let Some(seq) = self.resolve(origin, head.number, &message)? else { return Ok(()) };
        let request = RevokeMsgReq { conversation_id, seq, user_id: by.clone() };
        match self.as_user(&by, |change| message::revoke(change, &request)) {
            // Gone here already, for example by retention.
            Ok(_) | Err(ServiceError::AlreadyRevoked | ServiceError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn chat_read(&mut self, origin: &Domain, event: &ReadEvent) -> Done {
        let (reader, author, conversation_id) =
            self.chat_of(origin, &event.reader, &event.author)?;
        if event.seqs.len() > MAX_ELEMENTS {
            return Err(Trouble::Bad("it names too many messages".into()));
        }
        let max_seq = message_log::newest(self.tx, &conversation_id)?.0;
        let seqs: BTreeSet<i64> =
            event.seqs.iter().copied().filter(|seq| (1..=max_seq).contains(seq)).collect();
        let up_to = event.up_to.clamp(0, max_seq);
        self.as_user(&reader, |change| {
            message::mark_read(change, &reader, &author, &conversation_id, up_to, &seqs)
        })?;
        Ok(())
    }

    pub(super) fn chat_deleted(&mut self, origin: &Domain, event: &Delete) -> Done {
        let (by, _, conversation_id) = self.chat_of(origin, &event.by, &event.peer)?;
        if event.messages.len() > MAX_ELEMENTS {
            return Err(Trouble::Bad("it names too many messages".into()));
        }
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &conversation_id)? else {
            return Ok(());
        };
        let mut seqs = Vec::new();
        for message in &event.messages {
            seqs.extend(self.resolve(origin, head.number, message)?);
        }
        if seqs.is_empty() {
            return Ok(());
        }
        let sync = DeleteSyncOpt { is_sync_self: true, is_sync_other: true };
        let request = DeleteMsgsReq {
            conversation_id,
            seqs,
            user_id: by.clone(),
            delete_sync_opt: Some(sync),
        };
        self.as_user(&by, |change| message::delete(change, request))?;
        Ok(())
    }

    pub(super) fn chat_cleared(&mut self, origin: &Domain, event: &Clear) -> Done {
        let (by, _, conversation_id) = self.chat_of(origin, &event.by, &event.peer)?;
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &conversation_id)? else {
            return Ok(());
        };
        let mut newest = schema::AUTHOR_SEQS.range(
            self.tx,
            (head.number, 0_i64),
            (head.number, event.own_up_to),
            Direction::Descending,
        );
        let theirs = newest.next().transpose()?.map_or(0, |(_, seq)| seq.value);
        drop(newest);
        let through = theirs.max(event.peer_up_to);
        self.as_user(&by, |change| {
            message::clear_for_everybody(change, &by, &conversation_id, Some(through))
        })?;
        Ok(())
    }

    /// The receiver's node does not take a message: a tip in the chat says so.
    pub(super) fn chat_refused(&mut self, queued: &Queued, refusal: &Refusal) -> Done {
        let key = (queued.conversation, queued.seq.cast_unsigned());
        let Some(message) = schema::MESSAGES.get(self.tx, key)? else { return Ok(()) };
        if message_log::is_erased(&message) {
            return Ok(());
        }
        let tip = MsgData {
            send_id: message.recv_id.clone(),
            recv_id: message.send_id.clone(),
            create_time: self.now,
            ..refusal_tip(self.services, &message, refusal)?
        };
        let appended = self.append(&tip, false)?;
        let (conversation, _) = conversation_id::of_message(&tip);
        self.push(&conversation, &appended.message, audience(&tip, &[]));
        Ok(())
    }
}

/// What says that another node did not take a message.
pub(super) fn refusal_tip(
    services: &Services,
    message: &MsgData,
    refusal: &Refusal,
) -> Result<MsgData> {
    let custom_type = match refusal.code {
        1302 => TIP_BLOCKED,
        1303 => TIP_NOT_FRIEND,
        _ => 0,
    };
    let reason: String = refusal.reason.chars().take(200).collect();
    let data = json(&serde_json::json!({
        "customType": custom_type,
        "data": { "clientMsgID": message.client_msg_id, "code": refusal.code },
    }))?;
    let content = serde_json::json!({ "data": data, "description": reason, "extension": "" });
    Ok(MsgData {
        send_id: message.send_id.clone(),
        group_id: message.group_id.clone(),
        client_msg_id: services.new_id(),
        server_msg_id: services.new_id(),
        session_type: message.session_type,
        msg_from: FROM_SYSTEM,
        content_type: CUSTOM,
        content: json(&content)?.into(),
        status: SENT,
        options: [("offlinePush".to_owned(), false), ("unreadCount".to_owned(), false)].into(),
        ..MsgData::default()
    })
}

/// The node to tell of what a user of this node does in a chat of two; `None` if it is this one.
fn peer_node(session_type: i32, by: &str, peer: &str) -> Option<Domain> {
    if session_type != SINGLE || is_remote(by) { None } else { home_of(peer) }
}

/// A send time that another node names, as far as it can be.
pub(super) fn sent_at(now: i64, send_time_ms: i64) -> i64 {
    send_time_ms.clamp(1, now + MAX_AHEAD_MS)
}

/// What no message of another node may look like.
pub(super) fn check_chat(message: &MsgData, author_seq: i64) -> Done {
    let bad = |reason: &str| Err(Trouble::Bad(reason.to_owned()));
    if message.session_type != SINGLE || !message.group_id.is_empty() {
        return bad("a chat message that is not one of two users");
    }
    if is_system(message.content_type) || conversation_id::is_notification(message) {
        return bad("only a node itself says such things, and only to its own users");
    }
    if !(1..=MAX_SEQ).contains(&author_seq) || message.options.get("history") == Some(&false) {
        return bad("a message that is not stored at its author's node");
    }
    let ids = [&message.client_msg_id, &message.server_msg_id];
    if ids.iter().any(|id| id.is_empty() || id.len() > MAX_MESSAGE_ID_BYTES) {
        return bad("a message without ID");
    }
    Ok(())
}

/// Seq on the author's node of the newest message that came from there with a seq up to `seq` here.
///
/// Both rise together, so it is found by halving.
fn author_seq_at(from: &impl Read, conversation: u64, seq: i64) -> Result<Option<i64>> {
    let below = |author_seq: i64| -> Result<Option<(i64, i64)>> {
        let (first, last) = ((conversation, 0_i64), (conversation, author_seq));
        let mut rows = schema::AUTHOR_SEQS.range(from, first, last, Direction::Descending);
        let row = rows.next().transpose()?;
        Ok(row.map(|((_, author_seq), seq)| (author_seq, seq.value)))
    };
    let (mut low, mut found) = (1, None);
    let Some((mut high, _)) = below(i64::MAX)? else { return Ok(None) };
    while low <= high {
        let middle = low + (high - low) / 2;
        match below(middle)? {
            Some((author_seq, here)) if here <= seq => {
                found = found.max(Some(author_seq));
                low = middle + 1;
            }
            Some((author_seq, _)) => high = author_seq - 1,
            None => low = middle + 1,
        }
    }
    Ok(found)
}

/// Seqs on the author's node of those of the messages at `seqs` that came from there.
fn author_seqs(from: &impl Read, conversation: u64, seqs: &[i64]) -> Result<Vec<i64>> {
    let wanted: BTreeSet<i64> = seqs.iter().copied().collect();
    let (Some(lowest), Some(highest)) = (wanted.first(), wanted.last()) else {
        return Ok(Vec::new());
    };
    let Some(newest) = author_seq_at(from, conversation, *highest)? else { return Ok(Vec::new()) };
    let (first, last) = ((conversation, 0_i64), (conversation, newest));
    let mut found = Vec::new();
    for row in schema::AUTHOR_SEQS.range(from, first, last, Direction::Descending) {
        let ((_, author_seq), here) = row?;
        if here.value < *lowest {
            break;
        }
        if wanted.contains(&here.value) {
            found.push(author_seq);
        }
    }
    found.reverse();
    Ok(found)
}
