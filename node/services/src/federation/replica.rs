//! Groups of other nodes with members here: following their log.

use prost::Message as _;
use proto::federation::{
    EntryHeader, GroupEntry, GroupMember, GroupMessage, GroupSnapshot, Mandate, Notice, Profile,
    Revoked, SeqGap,
};
use proto::qualified::{Domain, home_of, is_remote, localise};
use proto::sdkws::{GroupInfo, MsgData};
use store::group_log::entry_hash;
use store::message_log::is_erased;
use store::record::{
    Conversation, ConversationHead, Group, GroupReplica, MessageMarks, Present, Revoke,
};
use store::version_log::{Change as What, List};
use store::{Append, Direction, schema};

use super::Trouble;
use super::group::{digest, member_record};
use super::head::{check_home, follows};
use super::signature::Vouched;
use crate::access::role;
use crate::change::{Change, audience};
use crate::conversation_id::{self, GROUP};
use crate::delivery::Delivery;
use crate::error::Result;
use crate::group::{DISMISSED, INFO_ELEMENT, check_texts, rank};
use crate::message::{self, mark_named};
use crate::notification::kind;
use crate::user::check_profile;

type Done = std::result::Result<(), Trouble>;

/// Largest seq that a home may give.
const MAX_SEQ: i64 = i64::MAX / 2;
/// How far the clock of a home may be ahead, in milliseconds.
const MAX_AHEAD_MS: i64 = 24 * 3_600_000;
/// Gaps that a home may tell of.
const MAX_GAPS: usize = 1_000;

impl Change<'_, '_> {
    /// The ID here of a group of `origin`, from its qualified form.
    fn group_of(&self, origin: &Domain, qualified: &str) -> std::result::Result<String, Trouble> {
        let id = localise(qualified, &self.own_domain()?)?;
        if self.group_home(&id)?.as_ref() != Some(origin) {
            return Err(Trouble::Bad(format!("{qualified} is not a group of {origin}")));
        }
        Ok(id)
    }

    /// A group's info as clients see it here.
    fn info_inbound(&self, info: &[u8]) -> std::result::Result<GroupInfo, Trouble> {
        let own = self.own_domain()?;
        let info = GroupInfo::decode(info)?;
        check_texts(&info)?;
        let id = |id: String| if id.is_empty() { Ok(id) } else { localise(&id, &own) };
        Ok(GroupInfo {
            group_id: localise(&info.group_id, &own)?,
            owner_user_id: id(info.owner_user_id)?,
            creator_user_id: id(info.creator_user_id)?,
            notification_user_id: id(info.notification_user_id)?,
            face_url: self.services.link_inbound(info.face_url),
            ..info
        })
    }

    /// A place in a conversation that the home of its group may give.
    fn check_place(&self, seq: i64, time: i64) -> Done {
        let latest = self.now.saturating_add(MAX_AHEAD_MS);
        if (0..=MAX_SEQ).contains(&seq) && (0..=latest).contains(&time) {
            return Ok(());
        }
        Err(Trouble::Bad(format!("no message has seq {seq} and time {time}")))
    }

    /// Begins to follow a group.
    ///
    /// `end` is the entry with which the epoch ended that this node knows; 0: nothing is said.
    pub(super) fn group_snapshot(
        &mut self,
        origin: &Domain,
        event: GroupSnapshot,
        end: u64,
    ) -> Done {
        let group_id = localise(&event.group, &self.own_domain()?)?;
        if self.place(&group_id)?.is_none() {
            self.take_warrants(origin, &group_id, event.warrants)?;
        }
        let group_id = self.group_of(origin, &event.group)?;
        let info = self.info_inbound(&event.info)?;
        if info.group_id != group_id {
            return Err(Trouble::Bad("the snapshot is of another group".into()));
        }
        let before = schema::GROUP_REPLICAS.get(self.tx, &group_id)?.unwrap_or_default();
        if event.epoch < before.epoch {
            return Err(Trouble::Bad("the group has come to a later epoch".into()));
        }
        if check_home(self.tx, &group_id, origin).is_err() {
            return Ok(());
        }
        if end > 0 && end < before.seq {
            self.undo_after(&group_id, before.epoch, end)?;
        }
        self.check_place(event.chat_seq, event.chat_time_ms)?;
        self.check_place(event.notices_seq, event.notices_time_ms)?;
        let ours_before = self.forget_members(&group_id)?;
        schema::GROUPS.put(self.tx, &group_id, &Group { info, next_join: 0 });
        for member in &event.members {
            self.take_member(origin, &group_id, member)?;
        }
        for user_id in ours_before {
            if !schema::MEMBERS.contains(self.tx, (&group_id, &user_id))? {
                let see_until = event.chat_seq;
                let gone = GroupMember { gone: true, see_until, ..GroupMember::default() };
                self.own_member_changed(&group_id, &user_id, &gone)?;
                self.deliver(Delivery::Left(group_id.clone(), vec![user_id]));
            }
        }
        self.tx.step(List::Members, &group_id, [(INFO_ELEMENT, What::Update)])?;
        let chat = conversation_id::group(&group_id);
        let stream = conversation_id::stream_of(&chat);
        let notices = (event.notices_seq, event.notices_time_ms);
        self.begin_at(&stream, &group_id, notices, true)?;
        self.begin_at(&chat, &group_id, (event.chat_seq, event.chat_time_ms), false)?;
        self.take_gaps(&chat, &event.chat_gaps)?;
        let GroupSnapshot { epoch, seq, hash, partial, .. } = event;
        let replica = GroupReplica {
            epoch,
            seq,
            hash: hash.to_vec(),
            members_to: String::new(),
            members_complete: !partial,
        };
        schema::GROUP_REPLICAS.put(self.tx, &group_id, &replica);
        if let Some(mandate) = &event.mandate {
            self.keep_mandate(&group_id, mandate)?;
        }
        self.home_opened(&group_id)?;
        if partial {
            let (services, group_id) = (self.services.clone(), group_id);
            self.tx.after_commit(move || services.fetch_members_later(&group_id));
        }
        Ok(())
    }

    /// Seqs that the home has left out.
    fn take_gaps(&mut self, chat: &str, gaps: &[SeqGap]) -> Result<()> {
        let Some(mut head) = schema::CONVERSATION_HEADS.get(self.tx, chat)? else { return Ok(()) };
        let before = head.gaps.len();
        for gap in gaps.iter().take(MAX_GAPS) {
            let (after, until) = (gap.after, gap.until);
            let fits = 0 <= after && after < until && until <= MAX_SEQ;
            if fits && !head.gaps.iter().any(|known| known.until == until) {
                head.gaps.push(store::record::SeqGap { after, until });
            }
        }
        if head.gaps.len() > before {
            head.gaps.sort_by_key(|gap| gap.until);
            schema::CONVERSATION_HEADS.put(self.tx, chat, &head);
            self.tx.forget_tail(chat);
        }
        Ok(())
    }

    /// Entries of an epoch behind `end` are not of the log that the new home goes on with: what this
    /// node's users said in them is sent again, everything else in them is undone.
    pub(super) fn undo_after(&mut self, group_id: &str, epoch: u64, end: u64) -> Done {
        let rows = schema::GROUP_ENTRIES.range(
            self.tx,
            (group_id, epoch, end + 1),
            (group_id, epoch),
            Direction::Ascending,
        );
        let entries = rows.collect::<std::result::Result<Vec<_>, _>>()?;
        tracing::warn!(group = group_id, epoch, end, entries = entries.len(), "entries are undone");
        let chat = conversation_id::group(group_id);
        let later = self.take_waiting(group_id)?;
        for ((_, epoch, seq), entry) in entries {
            schema::GROUP_ENTRIES.delete(self.tx, (group_id, epoch, seq));
            let header = EntryHeader::decode(entry.header).unwrap_or_default();
            for placed in header.messages.iter().filter(|placed| placed.seq > 0) {
                let id = match placed.notice {
                    true => conversation_id::stream_of(&chat),
                    false => chat.clone(),
                };
                self.undo_message(group_id, &id, placed)?;
            }
        }
        for waiting in later {
            self.wait_for_log(group_id, &waiting.client_msg_id, waiting.send)?;
        }
        Ok(())
    }

    fn undo_message(&mut self, group_id: &str, id: &str, placed: &GroupMessage) -> Done {
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, id)? else { return Ok(()) };
        let key = (head.number, placed.seq.cast_unsigned());
        let message = schema::MESSAGES.get(self.tx, key)?;
        schema::MESSAGES.delete(self.tx, key);
        schema::MESSAGE_SIGNATURES.delete(self.tx, key);
        message::forget(self, head.number, placed.seq)?;
        self.tx.forget_tail(id);
        let said = message.filter(|message| {
            let by_user = !placed.notice && message.content_type < kind::FRIEND_APPROVED;
            by_user && !is_remote(&message.send_id) && !is_erased(message)
        });
        if let Some(message) = said {
            let client_msg_id = message.client_msg_id.clone();
            let send = self.signed_send(message)?;
            self.wait_for_log(group_id, &client_msg_id, send)?;
        }
        Ok(())
    }

    /// A node that had left the group knows nothing of who came and went since. Returns its own
    /// users who were in it.
    fn forget_members(&mut self, group_id: &str) -> Result<Vec<String>> {
        let mut rows = Vec::new();
        for row in schema::MEMBER_ORDER.scan(self.tx, group_id) {
            let ((_, rank, order, user_id), _) = row?;
            rows.push((rank, order, user_id));
        }
        let mut ours = Vec::new();
        for (rank, order, user_id) in rows {
            schema::MEMBER_ORDER.delete(self.tx, (group_id, rank, order, &user_id));
            schema::MEMBERS.delete(self.tx, (group_id, &user_id));
            schema::JOINED.delete(self.tx, (&user_id, group_id));
            if !is_remote(&user_id) {
                ours.push(user_id);
            }
        }
        Ok(ours)
    }

    /// The chat or stream of a group has come to a seq elsewhere, at a time.
    fn begin_at(
        &mut self,
        id: &str,
        group_id: &str,
        (seq, time): (i64, i64),
        all_gone: bool,
    ) -> Result<()> {
        if seq <= 0 {
            return Ok(());
        }
        let append = Append {
            conversation: id.to_owned(),
            head: ConversationHead {
                session_type: GROUP,
                group_id: group_id.to_owned(),
                ..ConversationHead::default()
            },
            message: message::elsewhere().encode_to_vec(),
            now: self.now,
            repeat: None,
        };
        // The place of the newest message; what it says is fetched when somebody wants it.
        if self.tx.append_at(append, seq, time)?.awaited {
            self.bring_back(id)?;
        }
        if let Some(mut head) = schema::CONVERSATION_HEADS.get(self.tx, id)? {
            if all_gone {
                head.min_seq = head.min_seq.max(seq + 1);
            } else {
                head.elsewhere_to = head.elsewhere_to.max(seq);
            }
            schema::CONVERSATION_HEADS.put(self.tx, id, &head);
            self.tx.forget_tail(id);
        }
        Ok(())
    }

    /// Where this node stands with a group, if the entry with `header` is the one that comes next
    /// and its home has sent it.
    fn admit(
        &mut self,
        origin: &Domain,
        group_id: &str,
        header: &EntryHeader,
    ) -> std::result::Result<Option<GroupReplica>, Trouble> {
        let home = self.group_home(group_id)?;
        if home.as_ref() != Some(origin) {
            let place = self.place(group_id)?;
            let known = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
            match (place, &header.warrant) {
                (Some(place), Some(warrant))
                    if header.home == origin.as_str() && header.epoch > place.epoch =>
                {
                    if home.is_none() {
                        // What came before in this change was done as the home.
                        self.cross_now(group_id)?;
                    }
                    self.take_new_home(origin, group_id, warrant)?;
                }
                // A former home has not heard yet that it is one.
                (Some(place), _) if header.epoch <= place.epoch && !known.warrants.is_empty() => {
                    return Ok(None);
                }
                _ => {
                    let reason = format!("{} is not a group of {origin}", header.group);
                    return Err(Trouble::Bad(reason));
                }
            }
        }
        let Some(replica) = schema::GROUP_REPLICAS.get(self.tx, group_id)? else {
            // Known from a time that this node has lost: it begins anew.
            schema::GROUP_REPLICAS.put(self.tx, group_id, &GroupReplica::default());
            self.catch_up_after(group_id);
            return Ok(None);
        };
        if (header.epoch, header.seq) <= (replica.epoch, replica.seq)
            || check_home(self.tx, group_id, origin).is_err()
        {
            return Ok(None);
        }
        let next = follows(header, (replica.epoch, replica.seq), &replica.hash);
        // Without an epoch nothing is known that an epoch could follow on.
        if !next || (header.epoch > replica.epoch && replica.epoch == 0) {
            // What is missing is fetched, and this entry with it.
            self.catch_up_after(group_id);
            return Ok(None);
        }
        Ok(Some(replica))
    }

    /// Catches up with the log of a group once what was found out is stored.
    fn catch_up_after(&mut self, group_id: &str) {
        let (services, group_id) = (self.services.clone(), group_id.to_owned());
        self.tx.after_commit(move || services.catch_up_later(&group_id));
    }

    /// Follows one step of a group's log.
    pub(super) fn group_entry(
        &mut self,
        origin: &Domain,
        event: &GroupEntry,
        vouched: &Vouched,
    ) -> Done {
        let header = EntryHeader::decode(event.header.clone())?;
        let group_id = localise(&header.group, &self.own_domain()?)?;
        let Some(replica) = self.admit(origin, &group_id, &header)? else { return Ok(()) };
        let chat = conversation_id::group(&group_id);
        let stream = conversation_id::stream_of(&chat);
        for (id, until) in [(&chat, header.chat_until), (&stream, header.notices_until)] {
            self.tx.leave_out_until(id, until.clamp(0, MAX_SEQ))?;
        }
        self.take_info(&group_id, &header)?;
        let mut left = Vec::new();
        for member in &header.members {
            left.extend(self.take_member(origin, &group_id, member)?);
        }
        let mut contents = event.contents.iter();
        for message in &header.messages {
            let content = if message.seq > 0 { contents.next() } else { Some(&message.content) };
            let content = content.cloned().unwrap_or_default();
            self.take_message(&group_id, message, content, vouched)?;
        }
        for change in &header.changes {
            self.take_change(&group_id, change.seq, change.revoked.as_ref())?;
        }
        if (1..=MAX_SEQ).contains(&header.cleared_to) {
            let chat = conversation_id::group(&group_id);
            if let Some(mut head) = schema::CONVERSATION_HEADS.get(self.tx, &chat)? {
                head.min_seq = head.min_seq.max(header.cleared_to);
                schema::CONVERSATION_HEADS.put(self.tx, &chat, &head);
                self.tx.forget_tail(&chat);
            }
        }
        let told = |message: &GroupMessage| message.notice && message.seq == 0;
        if schema::GROUPS
            .get(self.tx, &group_id)?
            .is_none_or(|group| group.info.status != DISMISSED)
        {
            self.deliver(Delivery::Left(group_id.clone(), left));
        } else if header.messages.iter().any(told) {
            // Until then those who are online are to hear of the end.
            self.deliver(Delivery::Dismissed(group_id.clone()));
        }
        let hash = entry_hash(&event.header);
        let kept = store::record::GroupEntry { header: event.header.clone() };
        schema::GROUP_ENTRIES.put(self.tx, (&group_id, header.epoch, header.seq), &kept);
        if vouched.contains(&hash) {
            self.keep_head(&group_id, &header, event, &hash);
        }
        let replica =
            GroupReplica { epoch: header.epoch, seq: header.seq, hash: hash.clone(), ..replica };
        schema::GROUP_REPLICAS.put(self.tx, &group_id, &replica);
        if header.home == origin.as_str() {
            self.home_opened(&group_id)?;
        }
        if let Some(signed) = &header.mandate {
            // One that a home before this one gave has had its effect.
            if Mandate::decode(signed.mandate.clone())?.home == origin.as_str() {
                self.follow_mandate(&group_id, signed)?;
            }
        }
        Ok(())
    }

    fn take_info(&mut self, group_id: &str, header: &EntryHeader) -> Done {
        let mut group = schema::GROUPS.get(self.tx, group_id)?.unwrap_or_default();
        if header.info.is_empty() && header.members.is_empty() {
            return Ok(());
        }
        let mut info_changed = false;
        if !header.info.is_empty() {
            let info = self.info_inbound(&header.info)?;
            if info.group_id != group_id {
                return Err(Trouble::Bad("the info is of another group".into()));
            }
            group.info = info;
            schema::GROUPS.put(self.tx, group_id, &group);
            info_changed = true;
        }
        self.note_members(group_id, &header.members, info_changed)
    }

    /// Notes in the version log of a group what becomes of members.
    pub(super) fn note_members(
        &mut self,
        group_id: &str,
        members: &[GroupMember],
        info_changed: bool,
    ) -> Done {
        let own = self.own_domain()?;
        let mut elements = Vec::new();
        if info_changed {
            elements.push((INFO_ELEMENT.to_owned(), What::Update));
        }
        for member in members {
            let user = member.user.as_ref().map_or("", |user| &user.user_id);
            let user_id = localise(user, &own)?;
            self.services.inner.fetching_members.touch(group_id, &user_id);
            let known = schema::MEMBERS.contains(self.tx, (group_id, &user_id))?;
            let what = match (member.gone, known) {
                (true, _) => What::Delete,
                (false, true) => What::Update,
                (false, false) => What::Insert,
            };
            elements.push((user_id, what));
        }
        let elements = elements.iter().map(|(id, what)| (id.as_str(), *what));
        self.tx.step(List::Members, group_id, elements)?;
        Ok(())
    }

    /// Puts a member in, or out; returns a user of this node who is gone.
    pub(super) fn take_member(
        &mut self,
        origin: &Domain,
        group_id: &str,
        member: &GroupMember,
    ) -> std::result::Result<Option<String>, Trouble> {
        let own = self.own_domain()?;
        let profile = member.user.clone().unwrap_or_default();
        let user_id = localise(&profile.user_id, &own)?;
        let ours = !is_remote(&user_id);
        if ours && !schema::USERS.contains(self.tx, &user_id)? {
            return Err(Trouble::Bad(format!("{} is not a user of this node", profile.user_id)));
        }
        if !ours {
            self.introduce_member(origin, &user_id, profile)?;
        }
        if !member.gone && ![role::ORDINARY, role::ADMIN, role::OWNER].contains(&member.role_level)
        {
            return Err(Trouble::Bad(format!("there is no role {}", member.role_level)));
        }
        check_profile(&member.nickname, &member.face_url, &member.ex)?;
        let before = schema::MEMBERS.get(self.tx, (group_id, &user_id))?;
        if let Some(before) = &before {
            let order = (group_id, rank(before.role_level), before.order, user_id.as_str());
            schema::MEMBER_ORDER.delete(self.tx, order);
        }
        if member.gone {
            // In case that this node becomes the home.
            if let Some(before) = &before {
                self.keep_mute(group_id, &user_id, before);
            }
            schema::MEMBERS.delete(self.tx, (group_id, &user_id));
            schema::JOINED.delete(self.tx, (&user_id, group_id));
        } else {
            // The home says until when the member is muted.
            self.take_mute(group_id, &user_id)?;
            let link = |link| self.services.link_inbound(link);
            let record = member_record(member, |id| Ok(localise(id, &own)?), link)?;
            let order = (group_id, rank(record.role_level), record.order, user_id.as_str());
            schema::MEMBER_ORDER.put(self.tx, order, &Present {});
            schema::MEMBERS.put(self.tx, (group_id, &user_id), &record);
            schema::JOINED.put(self.tx, (&user_id, group_id), &Present {});
        }
        if ours && before.is_some() == member.gone {
            self.own_member_changed(group_id, &user_id, member)?;
        }
        Ok((ours && member.gone && before.is_some()).then_some(user_id))
    }

    /// A user of this node has come into the group, or is gone.
    fn own_member_changed(
        &mut self,
        group_id: &str,
        user_id: &str,
        member: &GroupMember,
    ) -> Result<()> {
        let chat = conversation_id::group(group_id);
        let what = if member.gone { What::Delete } else { What::Insert };
        self.tx.step(List::JoinedGroups, user_id, [(group_id, what)])?;
        let record = schema::CONVERSATIONS.get(self.tx, (user_id, &chat))?;
        if member.gone && member.see_until <= 0 {
            // Nothing was ever said: there is nothing to be kept.
            self.bound_conversation(user_id, &chat, 0)?;
        } else if record.is_some() || member.see_from > 0 || member.see_until > 0 {
            let mut record = record.unwrap_or_else(|| Conversation {
                session_type: GROUP,
                group_id: group_id.to_owned(),
                order: member.joined_ms.max(self.now).cast_unsigned(),
                ..Conversation::default()
            });
            record.min_seq = record.min_seq.max(member.see_from.clamp(0, MAX_SEQ));
            record.max_seq = member.see_until.clamp(0, MAX_SEQ);
            if !member.gone {
                record.hidden_through = None;
            }
            schema::CONVERSATIONS.put(self.tx, (user_id, &chat), &record);
            self.awaits_no_message(user_id, &chat);
        }
        let what = if member.gone { What::Update } else { What::Insert };
        self.tx.step(List::Conversations, user_id, [(chat.as_str(), what)])?;
        if !member.gone {
            let joined = vec![user_id.to_owned()];
            self.deliver(Delivery::Joined(group_id.to_owned(), joined));
        }
        let user_id = user_id.to_owned();
        self.as_user(&user_id, |change| change.conversations_changed(&user_id, vec![chat]))
    }

    /// A member of any node gets a profile from what the home says, until its own node says more.
    fn introduce_member(&mut self, origin: &Domain, user_id: &str, profile: Profile) -> Done {
        if schema::USERS.contains(self.tx, user_id)? {
            return Ok(());
        }
        let home = home_of(user_id).unwrap_or_else(|| origin.clone());
        self.note_profile(&home, profile)?;
        // Hearsay: it is asked for again when somebody wants to know.
        schema::REMOTE_USERS.put(self.tx, user_id, &store::record::RemoteUser { confirmed: 0 });
        Ok(())
    }

    fn take_message(
        &mut self,
        group_id: &str,
        placed: &GroupMessage,
        content: bytes::Bytes,
        vouched: &Vouched,
    ) -> Done {
        let own = self.own_domain()?;
        let chat = conversation_id::group(group_id);
        let id = if placed.notice { conversation_id::stream_of(&chat) } else { chat };
        // A forged message holds its place in the order, and nobody sees it.
        let gone = content.is_empty() || !vouched.contains(&placed.digest);
        let message = if gone {
            message::trace()
        } else {
            if placed.digest != digest(&content) {
                return Err(Trouble::Bad("a message does not fit its digest".into()));
            }
            let message = self.services.inbound(MsgData::decode(content)?)?;
            if message.group_id != group_id
                || message.session_type != GROUP
                || conversation_id::is_notification(&message) != placed.notice
            {
                return Err(Trouble::Bad("a message of another conversation".into()));
            }
            message
        };
        let leavers = placed.leavers.iter().map(|id| localise(id, &own));
        let leavers: Vec<String> = leavers.collect::<std::result::Result<_, _>>()?;
        self.check_place(placed.seq, placed.send_time_ms)?;
        if placed.seq == 0 {
            if gone {
                return Ok(());
            }
            let message = MsgData { send_time: placed.send_time_ms, ..message };
            self.push(&id, &message.encode_to_vec(), audience(&message, &leavers));
            return Ok(());
        }
        let append = Append {
            conversation: id.clone(),
            head: ConversationHead {
                session_type: GROUP,
                group_id: group_id.to_owned(),
                ..ConversationHead::default()
            },
            message: MsgData { seq: 0, send_time: 0, ..message.clone() }.encode_to_vec(),
            now: self.now,
            repeat: None,
        };
        let appended = self.tx.append_at(append, placed.seq, placed.send_time_ms)?;
        if appended.awaited {
            self.bring_back(&id)?;
        }
        if appended.repeated || gone {
            return Ok(());
        }
        if let Some(signature) = &placed.signature {
            let key = (appended.conversation, placed.seq.cast_unsigned());
            schema::MESSAGE_SIGNATURES.put(self.tx, key, signature);
        }
        self.push(&id, &appended.message, audience(&message, &leavers));
        if !placed.notice && message.content_type < kind::FRIEND_APPROVED {
            if !is_remote(&message.send_id) {
                self.waits_no_more(group_id, &message.client_msg_id)?;
            }
            self.raise_read(&message.send_id, &id, placed.seq)?;
            let sender = message.send_id.clone();
            let to_all = self.as_user(&sender, |change| mark_named(change, &message))?;
            if to_all {
                self.services.mark_everybody_later(group_id.to_owned());
            }
        }
        Ok(())
    }

    /// A message of the chat was revoked, or erased.
    fn take_change(&mut self, group_id: &str, seq: i64, revoked: Option<&Revoked>) -> Done {
        let chat = conversation_id::group(group_id);
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &chat)? else { return Ok(()) };
        let key = (head.number, seq.cast_unsigned());
        if seq < 1 || !schema::MESSAGES.contains(self.tx, key)? {
            return Ok(());
        }
        match revoked {
            Some(revoked) => self.take_revoke(key, revoked)?,
            None => message::erase(self, head.number, seq)?,
        }
        Ok(())
    }

    /// Notes that a message was revoked.
    pub(super) fn take_revoke(&mut self, key: (u64, u64), revoked: &Revoked) -> Done {
        let user_id = localise(&revoked.by, &self.own_domain()?)?;
        let (role, nickname, time) = (revoked.role, revoked.nickname.clone(), revoked.time_ms);
        let before = schema::MESSAGE_MARKS.get(self.tx, key)?.unwrap_or_default();
        let revoke = Some(Revoke { role, user_id, nickname, time });
        schema::MESSAGE_MARKS.put(self.tx, key, &MessageMarks { revoke, ..before });
        Ok(())
    }

    /// The home of a group tells a user of this node something.
    pub(super) fn noticed(&mut self, origin: &Domain, event: Notice) -> Done {
        self.group_of(origin, &event.group)?;
        let message = self.services.inbound(MsgData::decode(event.message)?)?;
        let told = [kind::JOIN_APPLICATION, kind::APPLICATION_ACCEPTED, kind::APPLICATION_REJECTED];
        if is_remote(&message.recv_id)
            || !told.contains(&message.content_type)
            || !conversation_id::is_notification(&message)
        {
            return Err(Trouble::Bad("not a notice about a group".into()));
        }
        let message = MsgData { seq: 0, send_time: self.now, ..message };
        let (conversation, _) = conversation_id::of_message(&message);
        self.push(&conversation, &message.encode_to_vec(), audience(&message, &[]));
        Ok(())
    }
}
