//! Conversations and their messages.

use std::collections::HashMap;

use bytes::Bytes;

use super::Check;
use crate::StoreError;
use crate::message_log::newest;
use crate::record::{ConversationHead, SeqGap};
use crate::schema::{
    CONVERSATION_HEADS, CONVERSATIONS, DELETED_CONVERSATIONS, HIDDEN_MESSAGES, MESSAGE_MARKS,
    MESSAGES, READ_POSITIONS, RETURNS, STREAMS,
};

/// What is remembered from one pair to the next.
#[derive(Default)]
pub(super) struct Conversations {
    /// Numbers of all conversations, sorted once all heads are passed.
    numbers: Vec<(u64, i64)>,
    sorted: bool,
    /// Seqs up to which messages may be elsewhere, of the conversations that have such.
    elsewhere: HashMap<u64, i64>,
    /// Seqs that were left out, of the conversations that have such.
    gaps: HashMap<u64, Vec<SeqGap>>,
    /// The message passed last: number, seq, send time.
    last: Option<(u64, u64, i64)>,
}

impl Conversations {
    pub(super) fn pair(
        &mut self,
        check: &mut Check<'_, '_>,
        key: &[u8],
        value: &Bytes,
    ) -> Result<(), StoreError> {
        if let Some((id, head)) = CONVERSATION_HEADS.row(key, value)? {
            self.numbers.push((head.number, head.min_seq));
            if !head.gaps.is_empty() {
                self.gaps.insert(head.number, head.gaps.clone());
            }
            if head.elsewhere_to > 0 {
                self.elsewhere.insert(head.number, head.elsewhere_to);
            }
            check_head(check, &id, &head);
        } else if let Some((key, message)) = MESSAGES.row(key, value)? {
            let before = self.place(check, key);
            if message.seq.cast_unsigned() != key.1 {
                check.add(&MESSAGES, &key, format!("it says that its seq is {}", message.seq));
            }
            if let Some(before) = before
                && message.send_time <= before
            {
                let problem = format!("sent at {}, the one before at {before}", message.send_time);
                check.add(&MESSAGES, &key, problem);
            }
            self.last = Some((key.0, key.1, message.send_time));
        } else if let Some((key, _)) = MESSAGE_MARKS.row(key, value)? {
            if !MESSAGES.contains(check.view, key)? {
                check.add(&MESSAGE_MARKS, &key, "there is no such message");
            }
        } else if let Some((key, _)) = HIDDEN_MESSAGES.row(key, value)? {
            if !MESSAGES.contains(check.view, (key.0, key.1))? {
                check.add(&HIDDEN_MESSAGES, &key, "there is no such message");
            }
        } else if let Some((key, _)) = DELETED_CONVERSATIONS.row(key, value)? {
            let record = check.other(&CONVERSATIONS, (&key.1, &key.0))?;
            if record.is_none_or(|record| record.hidden_through.is_none()) {
                check.add(&DELETED_CONVERSATIONS, &key, "the owner has not deleted it");
            }
        } else if let Some((key, _)) = STREAMS.row(key, value)? {
            if !CONVERSATION_HEADS.contains(check.view, &key.1)? {
                check.add(&STREAMS, &key, "there is no such stream");
            }
        } else if let Some((id, _)) = RETURNS.row(key, value)? {
            if !CONVERSATION_HEADS.contains(check.view, &id)? {
                check.add(&RETURNS, &id, "there is no such conversation");
            }
        } else if let Some((key, position)) = READ_POSITIONS.row(key, value)? {
            let max_seq = match newest(check.view, &key.1) {
                Ok((max_seq, _)) => max_seq,
                // It is reported in its own place.
                Err(error) if error.is_damage() => return Ok(()),
                Err(error) => return Err(error),
            };
            let read = position.read_seq.max(position.receipt_seq);
            if read > max_seq {
                let problem = format!("read up to {read}, the last message is {max_seq}");
                check.add(&READ_POSITIONS, &key, problem);
            }
        }
        Ok(())
    }

    /// A message that does not decode still has its place.
    pub(super) fn damaged(&mut self, check: &mut Check<'_, '_>, key: &[u8]) {
        if key.first() == Some(&MESSAGES.tag())
            && let Ok((key, _)) = MESSAGES.decode(key, Bytes::new())
        {
            let before = self.place(check, key).unwrap_or(i64::MIN);
            self.last = Some((key.0, key.1, before));
        }
    }

    /// Checks the place of a message; returns the send time of the one before it.
    fn place(&mut self, check: &mut Check<'_, '_>, key: (u64, u64)) -> Option<i64> {
        self.sort(check);
        let (number, seq) = key;
        let before = self.last.filter(|(last, _, _)| *last == number);
        let found = self.numbers.binary_search_by_key(&number, |(number, _)| *number);
        let min_seq = found.ok().and_then(|at| self.numbers.get(at)).map(|(_, min_seq)| *min_seq);
        if before.is_none() && min_seq.is_none() {
            check.add(&MESSAGES, &key, "no conversation has this number");
        }
        let expected = before.map_or(1, |(_, last, _)| last + 1);
        // What nobody may see any more may have been removed from the front.
        let lowest = min_seq.unwrap_or_default().max(1).cast_unsigned();
        // Some of those that were left out may have been put back.
        let gaps = self.gaps.get(&number).map_or(&[][..], Vec::as_slice);
        let behind = gaps.iter().fold(expected.cast_signed(), |next, gap| {
            if (gap.after + 1..=gap.until).contains(&next) { gap.until + 1 } else { next }
        });
        let left_out = behind >= seq.cast_signed();
        let elsewhere = self.elsewhere.get(&number).is_some_and(|to| seq.cast_signed() <= to + 1);
        if seq != expected && !left_out && !elsewhere && (before.is_some() || seq > lowest) {
            check.add(&MESSAGES, &key, format!("seq {expected} should be next"));
        }
        before.map(|(_, _, time)| time)
    }

    fn sort(&mut self, check: &mut Check<'_, '_>) {
        if self.sorted {
            return;
        }
        self.sorted = true;
        self.numbers.sort_unstable();
        for twice in self.numbers.windows(2) {
            let [(number, _), (next, _)] = twice else { continue };
            if number != next {
                continue;
            }
            let problem = "two conversations have this number";
            check.report.add(CONVERSATION_HEADS.name(), number, problem);
        }
    }

    /// Ends the pass; returns the highest number in use.
    pub(super) fn finish(&mut self, check: &mut Check<'_, '_>) -> u64 {
        self.sort(check);
        let of_messages = self.last.map_or(0, |(number, _, _)| number);
        self.numbers.last().map_or(0, |(number, _)| *number).max(of_messages)
    }
}

fn check_head(check: &mut Check<'_, '_>, id: &String, head: &ConversationHead) {
    if head.number == 0 {
        check.add(&CONVERSATION_HEADS, id, "it has no number");
    }
    let pair = head.pair.len() == 2 && head.pair.is_sorted() && head.group_id.is_empty();
    let group = head.pair.is_empty() && !head.group_id.is_empty();
    if !pair && !group {
        check.add(
            &CONVERSATION_HEADS,
            id,
            "it stands neither for two sorted users nor for a group",
        );
    }
}
