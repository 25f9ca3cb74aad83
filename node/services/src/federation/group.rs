//! Groups of this node with members elsewhere: their log.
//!
//! What a change did to a group, its members and its chat becomes one entry of the group's log, in
//! the transaction of the change. The nodes with members get the entries in order and so come to
//! the same state and the same seqs.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use proto::federation::{
    EntryHeader, Event, EventKind, GroupEntry, GroupMember, GroupMessage, GroupSnapshot,
    MessageChange, Notice, Revoked, SeqGap, Signature, SignedMandate,
};
use proto::qualified::{Domain, home_of, is_remote, qualify};
use proto::sdkws::{GroupInfo, MsgData};
use sha2::{Digest as _, Sha256};
use store::group_log::entry_hash;
use store::record::{GroupLog, Member, Number, Queued};
use store::{Read, StoreError, View, message_log, outbox, schema};

use super::Trouble;
use super::home::moved;
use crate::border::{bare, link_outbound};
use crate::change::Change;
use crate::conversation_id;
use crate::error::Result;

/// Bytes of the header of an entry, and of the contents beside it, from which on the next one begins.
const MAX_HEADER_BYTES: usize = 32 * 1_024;
const MAX_CONTENT_BYTES: usize = 96 * 1_024;
/// Bytes that a mandate takes in a header, at most.
const MANDATE_BYTES: usize = 1_024;
/// Bytes of members that a snapshot brings; the others are fetched page by page.
const SNAPSHOT_BYTES: usize = 40 * 1_024;

/// Something that a change did to a group, besides what its tables say.
pub(crate) enum Crossing {
    /// A message to all members, encoded as they get it, and who gets it although gone.
    Message { conversation: String, message: Vec<u8>, leavers: Vec<String> },
    /// A message of the chat was revoked or erased.
    Changed { seq: i64 },
    /// Everything below a seq is gone for all.
    Cleared { below: i64 },
    /// This node has become the home; no later message gets a seq up to these.
    Home { warrant: Option<SignedMandate>, chat_until: i64, notices_until: i64 },
    /// Who may become the home, or does at once.
    Mandate { to: Option<Domain>, moves: bool },
}

/// Headers of entries that follow on each other, each of them small enough to be kept and sent.
struct Headers {
    finished: Vec<EntryHeader>,
    last: EntryHeader,
    bytes: usize,
    contents: usize,
}

impl Headers {
    fn begin(first: EntryHeader) -> Self {
        Self { finished: Vec::new(), last: first, bytes: 0, contents: 0 }
    }

    /// The header in which there is room for so many bytes, and for contents beside it.
    fn with_room(&mut self, bytes: usize, contents: usize) -> &mut EntryHeader {
        self.bytes += bytes;
        self.contents += contents;
        let full = self.bytes > MAX_HEADER_BYTES || self.contents > MAX_CONTENT_BYTES;
        // What is too large for any entry gets one of its own.
        if full && (self.bytes, self.contents) != (bytes, contents) {
            (self.bytes, self.contents) = (bytes, contents);
            let finished = std::mem::take(&mut self.last);
            self.last = EntryHeader {
                group: finished.group.clone(),
                epoch: finished.epoch,
                seq: finished.seq + 1,
                time_ms: finished.time_ms,
                ..EntryHeader::default()
            };
            self.finished.push(finished);
        }
        &mut self.last
    }

    fn all(mut self) -> Vec<EntryHeader> {
        self.finished.push(self.last);
        self.finished
    }
}

/// The digest of a message's content.
pub(super) fn digest(content: &[u8]) -> Vec<u8> {
    Sha256::digest(content).to_vec()
}

/// Which entry of which group is queued.
fn reference(group_id: &str, log: &GroupLog) -> Queued {
    Queued {
        kind: EventKind::EventGroupEntry as u32,
        body: group_id.as_bytes().to_vec().into(),
        conversation: log.epoch,
        seq: log.seq.cast_signed(),
        ..Queued::default()
    }
}

/// The event of a queued entry.
pub(super) fn write_out(
    view: &View<'_>,
    queued: &Queued,
    own: &Domain,
    event: Event,
) -> std::result::Result<Event, StoreError> {
    let nothing = Event { kind: EventKind::EventNothing as u32, ..event.clone() };
    let group_id = String::from_utf8_lossy(&queued.body).into_owned();
    let key = (group_id.as_str(), queued.conversation, queued.seq.cast_unsigned());
    let Some(entry) = schema::GROUP_ENTRIES.get(view, key)? else { return Ok(nothing) };
    let body = stored_entry(view, &group_id, entry.header, own)?;
    Ok(Event { body: body.encode_to_vec().into(), ..event })
}

/// An entry with the contents of its messages, as far as they are not gone.
pub(super) fn stored_entry(
    from: &impl Read,
    group_id: &str,
    header: bytes::Bytes,
    own: &Domain,
) -> std::result::Result<GroupEntry, StoreError> {
    let decoded = EntryHeader::decode(header.clone()).unwrap_or_default();
    let mut contents = Vec::new();
    for message in decoded.messages.iter().filter(|message| message.seq > 0) {
        let content = stored(from, group_id, message.notice, message.seq, own)?;
        let content = content.filter(|content| message.digest == digest(content));
        contents.push(content.unwrap_or_default().into());
    }
    Ok(GroupEntry { header, contents, head: None })
}

/// A stored message of a group as it crosses; `None` if it is gone.
fn stored(
    from: &impl Read,
    group_id: &str,
    notice: bool,
    seq: i64,
    own: &Domain,
) -> std::result::Result<Option<Vec<u8>>, StoreError> {
    let chat = conversation_id::group(group_id);
    let id = if notice { conversation_id::stream_of(&chat) } else { chat };
    let Some(head) = schema::CONVERSATION_HEADS.get(from, &id)? else { return Ok(None) };
    let message = schema::MESSAGES.get(from, (head.number, seq.cast_unsigned()))?;
    let Some(message) = message.filter(|message| !message_log::is_erased(message)) else {
        return Ok(None);
    };
    Ok(bare(message, own).ok())
}

/// A group's info as it crosses.
pub(super) fn info_outbound(info: GroupInfo, own: &Domain) -> Result<Vec<u8>> {
    let id = |id: String| if id.is_empty() { Ok(id) } else { qualify(&id, own) };
    let info = GroupInfo {
        group_id: qualify(&info.group_id, own)?,
        owner_user_id: id(info.owner_user_id)?,
        creator_user_id: id(info.creator_user_id)?,
        notification_user_id: id(info.notification_user_id)?,
        face_url: link_outbound(info.face_url),
        ..info
    };
    Ok(info.encode_to_vec())
}

impl Change<'_, '_> {
    /// Ends a change: what it did to groups with members elsewhere goes into their logs.
    pub(crate) fn cross_groups(&mut self) -> Result<()> {
        if self.services.domain().is_none() {
            return Ok(());
        }
        let mut members: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
        for ((group_id, user_id), existed) in schema::MEMBERS.written(self.tx)? {
            members.entry(group_id).or_default().push((user_id, existed));
        }
        let infos: BTreeSet<String> =
            schema::GROUPS.written(self.tx)?.into_iter().map(|(id, _)| id).collect();
        let crossings = self.groups_crossed();
        let touched: BTreeSet<String> =
            members.keys().chain(&infos).chain(&crossings).cloned().collect();
        for group_id in touched {
            if self.group_home(&group_id)?.is_some() {
                // A user's act that began while this node was still the home.
                if !self.caller.user_id.is_empty() {
                    return Err(moved(&group_id));
                }
                continue;
            }
            let members = members.remove(&group_id).unwrap_or_default();
            self.cross_group(&group_id, infos.contains(&group_id), &members)?;
        }
        Ok(())
    }

    /// As [`cross_groups`](Self::cross_groups), for one group of this node, before the change ends.
    pub(super) fn cross_now(&mut self, group_id: &str) -> Result<()> {
        let written = schema::MEMBERS.written(self.tx)?.into_iter();
        let members = written.filter(|((group, _), _)| group == group_id);
        let members: Vec<_> = members.map(|((_, user), existed)| (user, existed)).collect();
        let changed = schema::GROUPS.written(self.tx)?.iter().any(|(id, _)| id == group_id);
        if changed || !members.is_empty() || self.groups_crossed().contains(group_id) {
            self.cross_group(group_id, changed, &members)?;
        }
        Ok(())
    }

    fn cross_group(
        &mut self,
        group_id: &str,
        info_changed: bool,
        members: &[(String, bool)],
    ) -> Result<()> {
        let own = self.own_domain()?;
        let crossings = self.take_crossings(group_id);
        let stream = outbox::stream_epoch(self.tx);
        let log = match schema::GROUP_LOGS.get(self.tx, group_id)? {
            Some(log) if log.stream == stream => log,
            // Restored: the seqs behind it may have been given to other entries.
            Some(log) => GroupLog { epoch: log.epoch + 1, seq: 0, stream, ..log },
            None if members.iter().any(|(user, _)| is_remote(user)) => {
                GroupLog { epoch: 1, stream, ..GroupLog::default() }
            }
            None => return Ok(()),
        };
        self.add_entries(group_id, log, info_changed, members, crossings, &own)
    }

    /// Writes what a change did to a group: one entry, or several if it is much.
    fn add_entries(
        &mut self,
        group_id: &str,
        mut log: GroupLog,
        info_changed: bool,
        written: &[(String, bool)],
        crossings: Vec<Crossing>,
        own: &Domain,
    ) -> Result<()> {
        let mut headers = Headers::begin(EntryHeader {
            group: qualify(group_id, own)?,
            epoch: log.epoch,
            seq: log.seq + 1,
            time_ms: self.now,
            ..EntryHeader::default()
        });
        if info_changed {
            let group = schema::GROUPS.get(self.tx, group_id)?.unwrap_or_default();
            let info = info_outbound(group.info, own)?;
            let header = headers.with_room(info.len(), 0);
            header.info = info.into();
        }
        for (user_id, _) in written {
            let member = self.member_outbound(group_id, user_id)?;
            headers.with_room(member.encoded_len(), 0).members.push(member);
        }
        for crossing in crossings {
            self.cross(group_id, crossing, &mut headers, own)?;
        }
        let headers = headers.all();
        let before = log.clone();
        let mut entries = Vec::new();
        for mut header in headers.iter().cloned() {
            header.previous = log.hash.clone().into();
            let encoded = header.encode_to_vec();
            (log.seq, log.hash) = (header.seq, entry_hash(&encoded));
            let entry = store::record::GroupEntry { header: encoded.into() };
            schema::GROUP_ENTRIES.put(self.tx, (group_id, log.epoch, log.seq), &entry);
            entries.push(Queued { time: self.now, ..reference(group_id, &log) });
        }
        schema::GROUP_LOGS.put(self.tx, group_id, &log);
        for (domain, new) in self.count_nodes(group_id, written)? {
            if new {
                let snapshot = self.snapshot_before(group_id, &before, &headers)?;
                self.tell_node(&domain, EventKind::EventGroupSnapshot, &snapshot)?;
            }
            for entry in &entries {
                self.queue(&domain, entry)?;
            }
        }
        for mandate in headers.into_iter().filter_map(|header| header.mandate) {
            self.follow_mandate(group_id, &mandate).map_err(Trouble::of_an_answer)?;
        }
        Ok(())
    }

    fn cross(
        &mut self,
        group_id: &str,
        crossing: Crossing,
        headers: &mut Headers,
        own: &Domain,
    ) -> Result<()> {
        match crossing {
            Crossing::Message { conversation, message, leavers } => {
                let Ok(message) = MsgData::decode(message.as_slice()) else { return Ok(()) };
                let (seq, send_time_ms) = (message.seq, message.send_time);
                let signature = self.author_signature(&conversation, &message)?;
                let content = bare(message, own)?;
                let leavers = leavers.iter().map(|id| qualify(id, own));
                let digest = digest(&content).into();
                // What is not stored travels in the header, all else beside it.
                let (beside, inside) =
                    if seq > 0 { (content.len(), Vec::new()) } else { (0, content) };
                let message = GroupMessage {
                    notice: conversation_id::is_stream(&conversation),
                    seq,
                    send_time_ms,
                    digest,
                    content: inside.into(),
                    leavers: leavers.collect::<std::result::Result<_, _>>()?,
                    signature,
                };
                headers.with_room(message.encoded_len(), beside).messages.push(message);
            }
            Crossing::Changed { seq } => {
                let chat = conversation_id::group(group_id);
                let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &chat)? else {
                    return Ok(());
                };
                let revoked = revoked(self.tx, head.number, seq, own)?;
                let change = MessageChange { seq, revoked };
                headers.with_room(change.encoded_len(), 0).changes.push(change);
            }
            Crossing::Cleared { below } => {
                let header = headers.with_room(0, 0);
                header.cleared_to = header.cleared_to.max(below);
            }
            Crossing::Home { warrant, chat_until, notices_until } => {
                let header = headers.with_room(MANDATE_BYTES, 0);
                header.home = own.to_string();
                header.warrant = warrant;
                (header.chat_until, header.notices_until) = (chat_until, notices_until);
            }
            Crossing::Mandate { to, moves } => {
                let header = headers.with_room(MANDATE_BYTES, 0);
                header.mandate = Some(self.sign_mandate(header, to.as_ref(), moves)?);
            }
        }
        Ok(())
    }

    /// The signature of the author's node over a message that was just stored.
    fn author_signature(&self, conversation: &str, message: &MsgData) -> Result<Option<Signature>> {
        if message.seq <= 0 || !is_remote(&message.send_id) {
            return Ok(None);
        }
        let head = schema::CONVERSATION_HEADS.get(self.tx, conversation)?.unwrap_or_default();
        let key = (head.number, message.seq.cast_unsigned());
        Ok(schema::MESSAGE_SIGNATURES.get(self.tx, key)?)
    }

    pub(super) fn member_outbound(&self, group_id: &str, user_id: &str) -> Result<GroupMember> {
        let mut user = self.profile_of(user_id)?;
        user.ex.clear();
        let chat = conversation_id::group(group_id);
        let bounds = schema::CONVERSATIONS.get(self.tx, (user_id, &chat))?.unwrap_or_default();
        let member = schema::MEMBERS.get(self.tx, (group_id, user_id))?;
        let gone = member.is_none();
        let id = |id: String| if id.is_empty() { Ok(id) } else { self.qualified(&id) };
        let member = member.unwrap_or_default();
        Ok(GroupMember {
            user: Some(user),
            gone,
            see_from: bounds.min_seq,
            see_until: bounds.max_seq,
            role_level: member.role_level,
            joined_ms: member.joined,
            nickname: member.nickname,
            face_url: link_outbound(member.face_url),
            join_source: member.join_source,
            operator: id(member.operator_user_id)?,
            inviter: id(member.inviter_user_id)?,
            ex: member.ex,
            mute_end_ms: member.mute_end,
            order: member.order,
        })
    }

    /// Keeps count of the members that each other node has; returns the nodes with members before
    /// or after, and which of them are new.
    fn count_nodes(
        &mut self,
        group_id: &str,
        written: &[(String, bool)],
    ) -> Result<Vec<(Domain, bool)>> {
        let mut counts: BTreeMap<Domain, (i64, i64, bool)> = BTreeMap::new();
        for row in schema::GROUP_NODES.scan(self.tx, group_id) {
            let ((_, domain), count) = row?;
            if let Ok(domain) = domain.parse() {
                counts.insert(domain, (count.value, count.value, true));
            }
        }
        for (user_id, existed) in written {
            let Some(domain) = home_of(user_id) else { continue };
            let exists = schema::MEMBERS.contains(self.tx, (group_id, user_id))?;
            let (_, after, _) = counts.entry(domain).or_default();
            *after += i64::from(exists) - i64::from(*existed);
        }
        let mut nodes = Vec::new();
        for (domain, (before, after, known)) in counts {
            let key = (group_id, domain.as_str());
            // A group that is being dismissed tells all when it is done.
            if after <= 0 && !schema::DISMISSALS.contains(self.tx, group_id)? {
                schema::GROUP_NODES.delete(self.tx, key);
            } else if after != before {
                schema::GROUP_NODES.put(self.tx, key, &Number { value: after });
            }
            nodes.push((domain, after > 0 && before == 0 && !known));
        }
        Ok(nodes)
    }

    /// The group for a node that is new to it, as it was before the entries with `headers`.
    fn snapshot_before(
        &self,
        group_id: &str,
        before: &GroupLog,
        headers: &[EntryHeader],
    ) -> Result<GroupSnapshot> {
        // The entries themselves bring these.
        let entering = headers.iter().flat_map(|header| &header.members);
        let entering = entering.filter_map(|member| member.user.as_ref());
        let entering = entering.map(|user| user.user_id.as_str()).collect();
        let first_of = |notice: bool| {
            let messages = headers.iter().flat_map(|header| &header.messages);
            let of = messages.filter(|m| m.notice == notice && m.seq > 0);
            of.map(|message| message.seq - 1).min()
        };
        self.snapshot(group_id, before, &entering, first_of(false), first_of(true))
    }

    /// The group as it is at an entry of its log, without some members, with chat and notices up to
    /// given seqs, or all.
    pub(super) fn snapshot(
        &self,
        group_id: &str,
        log: &GroupLog,
        without: &BTreeSet<&str>,
        chat: Option<i64>,
        notices: Option<i64>,
    ) -> Result<GroupSnapshot> {
        let own = self.own_domain()?;
        let group = schema::GROUPS.get(self.tx, group_id)?.unwrap_or_default();
        let mut members = Vec::new();
        let (mut bytes, mut partial) = (0, false);
        for row in schema::MEMBER_ORDER.scan(self.tx, group_id) {
            let ((_, _, _, user_id), _) = row?;
            let member = self.member_outbound(group_id, &user_id)?;
            if member.user.as_ref().is_some_and(|user| without.contains(user.user_id.as_str())) {
                continue;
            }
            bytes += member.encoded_len();
            if bytes > SNAPSHOT_BYTES {
                partial = true;
                break;
            }
            members.push(member);
        }
        let id = conversation_id::group(group_id);
        let (chat_seq, chat_time_ms) = self.place_before(&id, chat)?;
        let stream = conversation_id::stream_of(&id);
        let (notices_seq, notices_time_ms) = self.place_before(&stream, notices)?;
        let head = schema::CONVERSATION_HEADS.get(self.tx, &id)?.unwrap_or_default();
        let gaps = head.gaps.iter().filter(|gap| gap.after <= chat_seq);
        let home = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        Ok(GroupSnapshot {
            group: qualify(group_id, &own)?,
            epoch: log.epoch,
            seq: log.seq,
            hash: log.hash.clone().into(),
            info: info_outbound(group.info, &own)?.into(),
            members,
            chat_seq,
            chat_time_ms,
            notices_seq,
            notices_time_ms,
            mandate: home.mandate,
            warrants: home.warrants,
            chat_gaps: gaps.map(|gap| SeqGap { after: gap.after, until: gap.until }).collect(),
            partial,
        })
    }

    /// Seq and time of the newest message of a conversation up to `seq`.
    fn place_before(&self, id: &str, seq: Option<i64>) -> Result<(i64, i64)> {
        let Some(seq) = seq else { return Ok(message_log::newest(self.tx, id)?) };
        let head = schema::CONVERSATION_HEADS.get(self.tx, id)?.unwrap_or_default();
        let message = schema::MESSAGES.get(self.tx, (head.number, seq.cast_unsigned()))?;
        Ok((seq, message.map_or(1, |message| message.send_time)))
    }

    /// Tells a user of another node something about a group of this one.
    pub(crate) fn cross_notice(&mut self, group_id: &str, message: &MsgData) -> Result<()> {
        let Some(domain) = home_of(&message.recv_id) else { return Ok(()) };
        let own = self.own_domain()?;
        let body = Notice {
            group: qualify(group_id, &own)?,
            message: bare(message.clone(), &own)?.into(),
        };
        self.tell_node(&domain, EventKind::EventNotice, &body)
    }
}

/// Who revoked a message; `None` if it was not, or is erased.
pub(super) fn revoked(
    from: &impl Read,
    number: u64,
    seq: i64,
    own: &Domain,
) -> Result<Option<Revoked>> {
    let marks = schema::MESSAGE_MARKS.get(from, (number, seq.cast_unsigned()))?;
    let Some(revoke) = marks.and_then(|marks| marks.revoke) else { return Ok(None) };
    Ok(Some(Revoked {
        by: qualify(&revoke.user_id, own)?,
        role: revoke.role,
        nickname: revoke.nickname,
        time_ms: revoke.time,
    }))
}

/// Member rows as they are stored, from what crossed.
pub(super) fn member_record(
    member: &GroupMember,
    id: impl Fn(&str) -> Result<String>,
    link: impl Fn(String) -> String,
) -> Result<Member> {
    let named = |name: &str| if name.is_empty() { Ok(String::new()) } else { id(name) };
    Ok(Member {
        role_level: member.role_level,
        joined: member.joined_ms,
        nickname: member.nickname.clone(),
        face_url: link(member.face_url.clone()),
        join_source: member.join_source,
        operator_user_id: named(&member.operator)?,
        inviter_user_id: named(&member.inviter)?,
        ex: member.ex.clone(),
        mute_end: member.mute_end_ms,
        order: member.order,
    })
}
