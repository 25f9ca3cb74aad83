//! Messages that disappear with age; on a full disk also those that were cleared for everybody.

use proto::msg::{DeleteMsgPhysicalReq, DeleteMsgPhysicalResp};
use store::record::ConversationHead;
use store::{Direction, Read, message_log, schema};

use super::admin_send::STATUS_MS;
use super::delete::{erase, forget};
use super::required_list;
use crate::Services;
use crate::access::{Caller, takes_part};
use crate::change::Change;
use crate::day;
use crate::error::{Result, ServiceError};

/// Messages removed, or conversations looked at, in one step.
const CHUNK: usize = 500;

impl Services {
    /// Removes messages older than `timestamp` seconds from conversations.
    pub async fn delete_msg_physical(
        &self,
        caller: &Caller,
        request: DeleteMsgPhysicalReq,
    ) -> Result<DeleteMsgPhysicalResp> {
        caller.must_be_admin()?;
        required_list("conversationIDs", &request.conversation_ids)?;
        if request.timestamp < 1 {
            return Err(ServiceError::args("timestamp is at least 1 second"));
        }
        let before = self.now().saturating_sub(request.timestamp.saturating_mul(1_000));
        let old = Old { before, cleared: self.store().is_full() };
        for id in request.conversation_ids {
            self.prune(caller, &id, old).await?;
        }
        Ok(DeleteMsgPhysicalResp {})
    }

    async fn prune(&self, caller: &Caller, id: &str, old: Old) -> Result<()> {
        loop {
            let id = id.to_owned();
            let removed =
                self.change_to_make_room(caller, move |change| prune(change, &id, old)).await?;
            if removed < CHUNK {
                return Ok(());
            }
        }
    }

    /// Removes what was cleared for everybody; where that fails it is removed later.
    pub(super) async fn remove_cleared(self, ids: Vec<String>) {
        let old = Old { before: i64::MIN, cleared: true };
        for id in ids {
            if let Err(error) = self.prune(&Caller::node(""), &id, old).await {
                tracing::debug!(%error, "what was cleared is removed later");
                return;
            }
        }
    }

    /// Removes what is older than messages are kept and, on a full disk, what was cleared for everybody.
    async fn prune_all(&self) -> Result<()> {
        let Some(admin) = self.settings().admin_users.first() else { return Ok(()) };
        let caller = Caller::node(admin);
        let retain = self.settings().retain;
        let before =
            if retain.is_zero() { i64::MIN } else { self.now().saturating_sub(day::ms(retain)) };
        let what = Old { before, cleared: self.store().is_full() };
        if before == i64::MIN && !what.cleared {
            return Ok(());
        }
        let mut next = String::new();
        loop {
            let (old, last) = self.conversations_with_old(&next, what)?;
            for id in old {
                self.prune(&caller, &id, what).await?;
            }
            match last {
                Some(last) if last != next => next = last,
                _ => return Ok(()),
            }
        }
    }

    /// Those of the next conversations whose oldest message is to be removed, and the last one looked at.
    fn conversations_with_old(
        &self,
        first: &str,
        what: Old,
    ) -> Result<(Vec<String>, Option<String>)> {
        let view = self.store().view();
        let (mut old, mut last) = (Vec::new(), None);
        let rows = schema::CONVERSATION_HEADS.range(&view, first, (), Direction::Ascending);
        for row in rows.take(CHUNK) {
            let (id, head) = row?;
            let mut messages =
                message_log::messages(&view, head.number, 0, i64::MAX, Direction::Ascending);
            if let Some((seq, oldest)) = messages.next().transpose()?
                && what.has(seq, oldest.send_time, &head)
                // Of a conversation that is all removed, one erased message remains.
                && (!message_log::is_erased(&oldest) || messages.next().is_some())
            {
                old.push(id.clone());
            }
            last = Some(id);
        }
        Ok((old, last))
    }

    /// Removes what has become old on its own, mutes too: to be called now and then.
    pub async fn tidy_messages(&self) -> Result<()> {
        self.destruct_messages().await?;
        self.prune_all().await?;
        self.forget_mutes().await?;
        self.forget_sends().await
    }

    /// Forgets which sends went through, once nobody can ask any more.
    async fn forget_sends(&self) -> Result<()> {
        let Some(admin) = self.settings().admin_users.first() else { return Ok(()) };
        let caller = Caller::node(admin);
        let mut next = String::new();
        loop {
            let (old, last) = self.forgotten_sends(&next)?;
            if !old.is_empty() {
                self.change_to_make_room(&caller, move |change| {
                    old.iter().for_each(|id| schema::SEND_STATUS.delete(change.tx, id));
                    Ok(())
                })
                .await?;
            }
            match last {
                Some(last) if last != next => next = last,
                _ => return Ok(()),
            }
        }
    }

    /// The outdated sends among the next ones, and the last one looked at.
    fn forgotten_sends(&self, first: &str) -> Result<(Vec<String>, Option<String>)> {
        let (view, now) = (self.store().view(), self.now());
        let (mut old, mut last) = (Vec::new(), None);
        let rows = schema::SEND_STATUS.range(&view, first, (), Direction::Ascending);
        for row in rows.take(CHUNK) {
            let (id, noted) = row?;
            if now - noted.value >= STATUS_MS {
                old.push(id.clone());
            }
            last = Some(id);
        }
        Ok((old, last))
    }

    /// One pass over all conversations whose owner has messages disappear after a time.
    ///
    /// Returns for how many something was done.
    pub async fn destruct_messages(&self) -> Result<usize> {
        let Some(admin) = self.settings().admin_users.first().cloned() else { return Ok(0) };
        let caller = Caller::node(&admin);
        let mut after = (String::new(), String::new());
        let mut total = 0;
        loop {
            let (due, last) = self.due(&after)?;
            total += due.len();
            if !due.is_empty() {
                self.change_to_make_room(&caller, move |change| {
                    due.iter().try_for_each(|(owner, id)| destruct(change, owner, id))
                })
                .await?;
            }
            match last {
                Some(last) => after = last,
                None => return Ok(total),
            }
        }
    }

    /// The conversations to be passed over among the next ones, and the last one looked at.
    #[expect(clippy::type_complexity, reason = "keys of a table")]
    fn due(
        &self,
        after: &(String, String),
    ) -> Result<(Vec<(String, String)>, Option<(String, String)>)> {
        let (view, now) = (self.store().view(), self.now());
        let (mut due, mut last) = (Vec::new(), None);
        let first = (after.0.as_str(), after.1.as_str());
        let rows = schema::CONVERSATIONS.range(&view, first, (), Direction::Ascending);
        for row in rows.skip_while(|row| row.as_ref().is_ok_and(|row| row.0 == *after)).take(CHUNK)
        {
            let (key, record) = row?;
            let wait = record.destruct_time.saturating_mul(1_000);
            if record.destruct && wait > 0 && record.destructed.saturating_add(wait) < now {
                due.push(key.clone());
            }
            last = Some(key);
        }
        Ok((due, last))
    }
}

/// Messages that are to be removed, from the oldest on.
#[derive(Clone, Copy)]
struct Old {
    /// Those sent before this time.
    before: i64,
    /// Those that were cleared for everybody: nobody but an administrator sees them any more.
    cleared: bool,
}

impl Old {
    fn has(self, seq: i64, send_time: i64, head: &ConversationHead) -> bool {
        send_time < self.before || (self.cleared && seq < head.min_seq)
    }
}

/// Removes the oldest messages; returns how many were looked at.
fn prune(change: &mut Change<'_, '_>, id: &str, what: Old) -> Result<usize> {
    let Some(mut head) = schema::CONVERSATION_HEADS.get(change.tx, id)? else { return Ok(0) };
    let (newest, _) = message_log::newest_of(change.tx, head.number)?;
    let old: Vec<i64> =
        message_log::messages(change.tx, head.number, 0, newest, Direction::Ascending)
            .take(CHUNK)
            .take_while(|row| {
                row.as_ref().map_or(true, |(seq, message)| what.has(*seq, message.send_time, &head))
            })
            .map(|row| row.map(|(seq, _)| seq))
            .collect::<std::result::Result<_, _>>()?;
    let Some(last) = old.last().copied() else { return Ok(0) };
    for &seq in &old {
        // The newest row stays: it says how far the conversation has come.
        if seq == newest {
            erase(change, head.number, seq)?;
        } else {
            schema::MESSAGES.delete(change.tx, (head.number, seq.cast_unsigned()));
            forget(change, head.number, seq)?;
        }
    }
    forget_author_seqs(change, head.number, last)?;
    if last + 1 > head.min_seq {
        head.min_seq = last + 1;
        schema::CONVERSATION_HEADS.put(change.tx, id, &head);
    }
    Ok(old.len())
}

/// Forgets how another node names the messages up to `last` that are gone.
fn forget_author_seqs(change: &mut Change<'_, '_>, number: u64, last: i64) -> Result<()> {
    let mut gone = Vec::new();
    for row in schema::AUTHOR_SEQS.scan(change.tx, number) {
        let ((_, author_seq), seq) = row?;
        if seq.value > last {
            break;
        }
        if !schema::MESSAGES.contains(change.tx, (number, seq.value.cast_unsigned()))? {
            gone.push(author_seq);
        }
    }
    for author_seq in gone {
        schema::AUTHOR_SEQS.delete(change.tx, (number, author_seq));
    }
    Ok(())
}

/// Hides from the owner what is older than the conversation's time.
fn destruct(change: &mut Change<'_, '_>, owner: &str, id: &str) -> Result<()> {
    let now = change.now;
    let Some(record) = schema::CONVERSATIONS.get(change.tx, (owner, id))? else { return Ok(()) };
    let before = now.saturating_sub(record.destruct_time.saturating_mul(1_000));
    let seq = if takes_part(change.tx, owner, id)? { newest_at(change.tx, id, before)? } else { 0 };
    let edited = change.edit_conversation(owner, id, |record| {
        record.destructed = now;
        if seq > 0 {
            record.min_seq = record.min_seq.max(seq + 1);
        }
    })?;
    if edited {
        change.conversations_changed(owner, vec![id.to_owned()])?;
    }
    Ok(())
}

/// Highest seq of a conversation that was sent at or before a time; 0 if there is none.
fn newest_at(from: &impl Read, id: &str, time: i64) -> Result<i64> {
    let Some(head) = schema::CONVERSATION_HEADS.get(from, id)? else { return Ok(0) };
    let (mut low, (mut high, _)) = (0, message_log::newest_of(from, head.number)?);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let message = schema::MESSAGES.get(from, (head.number, middle.cast_unsigned()))?;
        // What was removed is older than all that is left.
        if message.is_none_or(|message| message.send_time <= time) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}
