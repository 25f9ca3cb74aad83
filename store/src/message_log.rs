//! Messages of a conversation: contiguous sequences, rising send times, repeats recognised.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use proto::qualified::is_remote;
use proto::sdkws::MsgData;

use crate::engine::Direction;
use crate::layered::Read;
use crate::record::{ConversationHead, Number, SeqGap};
use crate::schema::{CONVERSATION_HEADS, COUNTERS, GROUP_HOMES, MESSAGES, counter};
use crate::{StoreError, Tx};

/// Field numbers of `MsgData`.
const SEQ: u32 = 14;
const SEND_TIME: u32 = 15;

/// Conversations whose tail stays in memory.
const CACHED_TAILS: usize = 65_536;
/// Most messages behind those left out that a restore may have lost in one conversation.
const MOST_LOST: i64 = 1 << 20;
/// Messages remembered for them, in all; each takes 20 bytes.
const REMEMBERED: usize = 2 << 20;

/// A message to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Conversation ID.
    pub conversation: String,
    /// What to create the conversation with, if this is its first message.
    pub head: ConversationHead,
    /// The encoded `MsgData` without `seq` and `sendTime`.
    pub message: Vec<u8>,
    /// Time now in milliseconds; the message gets it unless the one before it is as late.
    pub now: i64,
    /// Sender and clientMsgID, if a repeat is to be recognised.
    pub repeat: Option<(String, String)>,
}

/// What became of an [`Append`].
#[derive(Debug, Clone)]
pub struct Appended {
    /// Number of the conversation.
    pub conversation: u64,
    /// Sequence in the conversation, from 1 without gaps but those that restores leave.
    pub seq: i64,
    /// Send time in milliseconds, greater than that of every message before.
    pub send_time: i64,
    /// The stored message, as clients receive it.
    pub message: Bytes,
    /// The message was already there; nothing was appended.
    pub repeated: bool,
    /// There was no message before it.
    pub first: bool,
    /// Somebody may have deleted the conversation until its next message, which this is.
    pub awaited: bool,
}

/// What became of a message that was to be put back.
#[derive(Debug, Clone)]
pub enum PutBack {
    /// It has the seq again that it had.
    Done(Box<Appended>),
    /// It was never lost.
    Here,
    /// Another message has its seq, or its neighbours leave it no time.
    NoPlace,
    /// Its seq is none that was left out.
    Nowhere,
}

/// What the committer remembers of the end of a conversation.
struct Tail {
    /// Identity of the conversation.
    head: ConversationHead,
    max_seq: i64,
    send_time: i64,
    recent: Recent,
}

/// The newest messages of a conversation, oldest first.
///
/// Every append looks through all fingerprints; so they lie side by side.
#[derive(Default)]
struct Recent {
    fingerprints: VecDeque<u32>,
    /// Seq and send time.
    places: VecDeque<(i64, i64)>,
}

/// Fingerprints compared at a time, without a branch.
const COMPARED: usize = 64;

impl Recent {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn push_back(&mut self, fingerprint: u32, seq: i64, sent: i64) {
        self.fingerprints.push_back(fingerprint);
        self.places.push_back((seq, sent));
    }

    fn push_front(&mut self, fingerprint: u32, seq: i64, sent: i64) {
        self.fingerprints.push_front(fingerprint);
        self.places.push_front((seq, sent));
    }

    fn pop_front(&mut self) {
        self.fingerprints.pop_front();
        self.places.pop_front();
    }

    /// Send time of the oldest.
    fn oldest(&self) -> Option<i64> {
        self.places.front().map(|(_, sent)| *sent)
    }

    /// Seqs of the messages with one of two fingerprints.
    fn like(&self, wanted: [u32; 2]) -> Vec<i64> {
        let [a, b] = wanted;
        let (front, back) = self.fingerprints.as_slices();
        let mut found = Vec::new();
        let mut passed = 0;
        for chunk in front.chunks(COMPARED).chain(back.chunks(COMPARED)) {
            if chunk.iter().fold(false, |any, print| any | (*print == a) | (*print == b)) {
                let like = (passed..).zip(chunk).filter(|(_, print)| wanted.contains(print));
                found.extend(like.filter_map(|(at, _)| self.places.get(at)).map(|place| place.0));
            }
            passed += chunk.len();
        }
        found
    }
}

/// The tails of conversations in use.
pub(crate) struct Tails {
    tails: HashMap<String, Tail>,
    /// Entries in all `recent` together.
    remembered: usize,
    next_number: Option<u64>,
    window_ms: i64,
    window_messages: usize,
    /// Seqs that every conversation leaves out.
    skipped: i64,
}

impl Tails {
    /// Repeats are known for `window_ms` and among `window_messages`; every conversation leaves out
    /// `skipped` seqs.
    pub(crate) fn new(window_ms: i64, window_messages: usize, skipped: i64) -> Self {
        let (tails, next_number) = (HashMap::new(), None);
        Self { tails, remembered: 0, next_number, window_ms, window_messages, skipped }
    }

    pub(crate) fn forget(&mut self, conversation: &str) {
        if let Some(tail) = self.tails.remove(conversation) {
            self.remembered -= tail.recent.len();
        }
    }

    pub(crate) fn forget_all(&mut self) {
        self.tails.clear();
        (self.remembered, self.next_number) = (0, None);
    }

    /// Forgets everything rather than grow without bound; tails in use are read again.
    fn make_room(&mut self) {
        if self.tails.len() >= CACHED_TAILS || self.remembered >= REMEMBERED {
            self.tails.clear();
            self.remembered = 0;
        }
    }

    fn insert(&mut self, conversation: String, tail: Tail) {
        self.remembered += tail.recent.len();
        self.tails.insert(conversation, tail);
    }
}

impl Tx<'_> {
    /// Appends a message, creating the conversation with its first one.
    pub fn append(&mut self, append: Append) -> Result<Appended, StoreError> {
        self.tails.make_room();
        let conversation = append.conversation.as_str();
        if !self.tails.tails.contains_key(conversation) {
            self.load_tail(&append)?;
        }
        let (window_ms, window_messages) = (self.tails.window_ms, self.tails.window_messages);
        let Some(tail) = self.tails.tails.get_mut(conversation) else {
            return Err(StoreError::Closed);
        };
        if !tail.head.same_parties(&append.head) {
            return Err(StoreError::ConversationTaken(append.conversation));
        }
        let print = append.repeat.as_ref().map(fingerprint);
        let oldest = append.now.saturating_sub(window_ms);
        while tail.recent.len() > window_messages
            || tail.recent.oldest().is_some_and(|sent| sent < oldest)
        {
            tail.recent.pop_front();
            self.tails.remembered -= 1;
        }
        if let (Some(print), Some(repeat)) = (print, append.repeat.as_ref()) {
            let number = tail.head.number;
            let erased = fingerprint(&(String::new(), repeat.1.clone()));
            for seq in tail.recent.like([print, erased]) {
                if let Some(found) = self.same_message(number, seq, repeat)? {
                    return Ok(found);
                }
            }
        }
        let Some(tail) = self.tails.tails.get_mut(conversation) else {
            return Err(StoreError::Closed);
        };
        let first = tail.send_time == 0;
        let awaited = first || tail.head.awaited;
        tail.max_seq += 1;
        tail.send_time = append.now.max(tail.send_time + 1);
        let (number, seq, send_time) = (tail.head.number, tail.max_seq, tail.send_time);
        if let Some(print) = print {
            tail.recent.push_back(print, seq, send_time);
            self.tails.remembered += 1;
        }
        let message = self.put_message(number, seq, send_time, append.message);
        self.appended_to.push(append.conversation);
        let repeated = false;
        Ok(Appended { conversation: number, seq, send_time, message, repeated, first, awaited })
    }

    /// Puts a message back that a restore has lost, under the seq it had, if that is one of those
    /// that were left out because of restores.
    ///
    /// A seq behind them is, if it is not too far away: more was lost than was left out. Its send
    /// time is moved between those of its neighbours.
    pub fn put_back(
        &mut self,
        append: Append,
        seq: i64,
        send_time: i64,
    ) -> Result<PutBack, StoreError> {
        self.tails.make_room();
        let conversation = append.conversation.clone();
        if !self.tails.tails.contains_key(&conversation) {
            self.load_tail(&append)?;
        }
        let Some(tail) = self.tails.tails.get(&conversation) else {
            return Err(StoreError::Closed);
        };
        if !tail.head.same_parties(&append.head) {
            return Err(StoreError::ConversationTaken(conversation));
        }
        let (mut head, newest, first) = (tail.head.clone(), tail.max_seq, tail.send_time == 0);
        let awaited = first || head.awaited;
        if let Some(repeat) = &append.repeat {
            // A client that was not answered has sent it again.
            for seq in tail.recent.like([fingerprint(repeat); 2]) {
                if self.same_message(head.number, seq, repeat)?.is_some() {
                    return Ok(PutBack::Here);
                }
            }
            if self.same_message(head.number, seq, repeat)?.is_some() {
                return Ok(PutBack::Here);
            }
        }
        if (newest + 1..newest + MOST_LOST).contains(&seq) {
            skip(&mut head, newest, seq - newest);
        }
        let key = (head.number, seq.cast_unsigned());
        if MESSAGES.contains(self, key)? {
            return Ok(PutBack::NoPlace);
        }
        let left_out = head.gaps.iter().any(|gap| (gap.after + 1..=gap.until).contains(&seq));
        if !left_out {
            return Ok(PutBack::Nowhere);
        }
        let (before, behind) = self.neighbours(head.number, key.1)?;
        if before + 1 >= behind {
            return Ok(PutBack::NoPlace);
        }
        // Nothing was before the first gap, so clients were told to look behind it.
        let begin = head.gaps.first().filter(|gap| gap.after == 0).map_or(0, |gap| gap.until + 1);
        if head.min_seq <= begin {
            head.min_seq = head.min_seq.min(seq);
        }
        CONVERSATION_HEADS.put(self, &conversation, &head);
        self.forget_tail(&conversation);
        let send_time = send_time.clamp(before + 1, behind - 1);
        let message = self.put_message(head.number, seq, send_time, append.message);
        self.appended_to.push(conversation);
        let (conversation, repeated) = (head.number, false);
        let put = Appended { conversation, seq, send_time, message, repeated, first, awaited };
        Ok(PutBack::Done(Box::new(put)))
    }

    /// Send times of the messages before and behind a free seq.
    fn neighbours(&self, number: u64, seq: u64) -> Result<(i64, i64), StoreError> {
        let (first, last) = ((number, 0_u64), (number, seq.saturating_sub(1)));
        let mut before = MESSAGES.range(self, first, last, Direction::Descending);
        let before = before.next().transpose()?.map_or(0, |(_, before)| before.send_time);
        let (first, last) = ((number, seq.saturating_add(1)), (number, u64::MAX));
        let mut behind = MESSAGES.range(self, first, last, Direction::Ascending);
        let behind = behind.next().transpose()?.map_or(i64::MAX, |(_, behind)| behind.send_time);
        Ok((before, behind))
    }

    /// Appends a message with a seq and a send time that its home node gave; `repeated` says that the
    /// conversation had come so far already.
    ///
    /// Seqs in between are left to be fetched.
    pub fn append_at(
        &mut self,
        append: Append,
        seq: i64,
        send_time: i64,
    ) -> Result<Appended, StoreError> {
        self.tails.make_room();
        let conversation = append.conversation.clone();
        if !self.tails.tails.contains_key(&conversation) {
            self.load_tail(&append)?;
        }
        let Some(tail) = self.tails.tails.get_mut(&conversation) else {
            return Err(StoreError::Closed);
        };
        if !tail.head.same_parties(&append.head) {
            return Err(StoreError::ConversationTaken(conversation));
        }
        let number = tail.head.number;
        let mut message = append.message;
        put_int(&mut message, SEQ, seq);
        put_int(&mut message, SEND_TIME, send_time);
        let message = Bytes::from(message);
        if seq <= tail.max_seq {
            return Ok(Appended {
                conversation: number,
                seq,
                send_time,
                message,
                repeated: true,
                first: false,
                awaited: false,
            });
        }
        let first = tail.send_time == 0;
        let awaited = first || tail.head.awaited;
        let missing = seq > tail.max_seq + 1;
        tail.max_seq = seq;
        tail.send_time = send_time;
        if missing {
            tail.head.elsewhere_to = seq - 1;
            let head = tail.head.clone();
            CONVERSATION_HEADS.put(self, &conversation, &head);
        }
        MESSAGES.put_raw(self, (number, seq.cast_unsigned()), message.clone());
        self.appended_to.push(conversation);
        let repeated = false;
        Ok(Appended { conversation: number, seq, send_time, message, repeated, first, awaited })
    }

    /// Notes whether the next message of a conversation is awaited by somebody who has deleted it.
    pub fn set_awaited(&mut self, conversation: &str, awaited: bool) -> Result<(), StoreError> {
        let Some(mut head) = CONVERSATION_HEADS.get(self, conversation)? else { return Ok(()) };
        if head.awaited == awaited {
            return Ok(());
        }
        head.awaited = awaited;
        CONVERSATION_HEADS.put(self, conversation, &head);
        if let Some(tail) = self.tails.tails.get_mut(conversation) {
            tail.head.awaited = awaited;
        }
        self.appended_to.push(conversation.to_owned());
        Ok(())
    }

    /// Forgets what is kept in memory of a conversation whose record was changed.
    pub fn forget_tail(&mut self, conversation: &str) {
        self.tails.forget(conversation);
    }

    /// Keeps an older message that was fetched from its home node.
    pub fn put_fetched(&mut self, number: u64, seq: i64, send_time: i64, message: Vec<u8>) {
        self.put_message(number, seq, send_time, message);
    }

    /// Stores an encoded message with its seq and send time; returns it as stored.
    fn put_message(
        &mut self,
        number: u64,
        seq: i64,
        send_time: i64,
        mut message: Vec<u8>,
    ) -> Bytes {
        put_int(&mut message, SEQ, seq);
        put_int(&mut message, SEND_TIME, send_time);
        let message = Bytes::from(message);
        MESSAGES.put_raw(self, (number, seq.cast_unsigned()), message.clone());
        message
    }

    fn load_tail(&mut self, append: &Append) -> Result<(), StoreError> {
        let conversation = append.conversation.as_str();
        let stored = CONVERSATION_HEADS.get(self, conversation)?;
        let tail = match stored.clone() {
            Some(head) => self.tail_of(head, append.now)?,
            None => {
                let number = self.next_number()?;
                let head = ConversationHead { number, ..append.head.clone() };
                Tail { head, max_seq: 0, send_time: 0, recent: Recent::default() }
            }
        };
        let tail = self.follow_restores(tail)?;
        if stored.as_ref() != Some(&tail.head) {
            CONVERSATION_HEADS.put(self, conversation, &tail.head);
        }
        self.appended_to.push(append.conversation.clone());
        self.tails.insert(append.conversation.clone(), tail);
        Ok(())
    }

    fn tail_of(&self, head: ConversationHead, now: i64) -> Result<Tail, StoreError> {
        let number = head.number;
        let mut tail = Tail { head, max_seq: 0, send_time: 0, recent: Recent::default() };
        let left_out = tail.head.gaps.last().map_or(0, |gap| gap.until);
        for row in MESSAGES.scan_back(self, number) {
            let ((_, seq), message) = row?;
            if tail.max_seq == 0 {
                tail.max_seq = seq.cast_signed();
                tail.send_time = message.send_time;
            }
            if message.send_time < now.saturating_sub(self.tails.window_ms)
                || tail.recent.len() >= self.tails.window_messages
            {
                break;
            }
            let print = fingerprint(&(message.send_id, message.client_msg_id));
            tail.recent.push_front(print, seq.cast_signed(), message.send_time);
        }
        tail.max_seq = tail.max_seq.max(left_out);
        Ok(tail)
    }

    /// Leaves out the seqs of messages that a restore may have lost and clients may still have.
    fn follow_restores(&self, mut tail: Tail) -> Result<Tail, StoreError> {
        let behind = self.tails.skipped - tail.head.skipped;
        // The home node of a group gives its seqs, and leaves out what it must.
        if behind > 0 && self.sequenced_here(&tail.head.group_id)? {
            tail.max_seq = skip(&mut tail.head, tail.max_seq, behind);
            tail.head.skipped = self.tails.skipped;
        }
        Ok(tail)
    }

    /// Whether this node gives the seqs of a conversation, by the group it belongs to.
    fn sequenced_here(&self, group_id: &str) -> Result<bool, StoreError> {
        let home = GROUP_HOMES.get(self, group_id)?.filter(|home| !home.domain.is_empty());
        Ok(home.map_or(!is_remote(group_id), |home| home.here))
    }

    /// Leaves out seqs behind the newest message of a conversation: at least `count`, and those that
    /// restores ask for. Returns the last seq that nobody gets any more; 0 if there is no such
    /// conversation.
    pub fn leave_out(&mut self, conversation: &str, count: i64) -> Result<i64, StoreError> {
        let skipped = self.tails.skipped;
        self.change_head(conversation, |head, newest| {
            let count = count.max(skipped - head.skipped);
            head.skipped = skipped;
            if count > 0 { skip(head, newest, count) } else { newest }
        })
    }

    /// No later message of a conversation gets a seq up to `until`.
    pub fn leave_out_until(&mut self, conversation: &str, until: i64) -> Result<(), StoreError> {
        let left_out = self.change_head(conversation, |head, newest| {
            if until > newest { skip(head, newest, until - newest) } else { newest }
        });
        left_out.map(drop)
    }

    fn change_head(
        &mut self,
        conversation: &str,
        change: impl FnOnce(&mut ConversationHead, i64) -> i64,
    ) -> Result<i64, StoreError> {
        let Some(mut head) = CONVERSATION_HEADS.get(self, conversation)? else { return Ok(0) };
        let (newest, _) = newest_of(self, head.number)?;
        let left_out = head.gaps.last().map_or(0, |gap| gap.until);
        let until = change(&mut head, newest.max(left_out));
        CONVERSATION_HEADS.put(self, conversation, &head);
        self.forget_tail(conversation);
        Ok(until)
    }

    fn next_number(&mut self) -> Result<u64, StoreError> {
        let next = match self.tails.next_number {
            Some(next) => next,
            None => {
                let given = COUNTERS.get(self, counter::CONVERSATIONS)?.unwrap_or_default().value;
                let used = MESSAGES.scan_back(self, ()).next().transpose()?;
                given.cast_unsigned().max(used.map_or(0, |((number, _), _)| number)) + 1
            }
        };
        self.tails.next_number = Some(next + 1);
        COUNTERS.put(self, counter::CONVERSATIONS, &Number { value: next.cast_signed() });
        Ok(next)
    }

    fn same_message(
        &self,
        number: u64,
        seq: i64,
        repeat: &(String, String),
    ) -> Result<Option<Appended>, StoreError> {
        let key = (number, seq.cast_unsigned());
        let Some(message) = MESSAGES.get_raw(self, key)? else { return Ok(None) };
        let Some(data) = MESSAGES.get(self, key)? else { return Ok(None) };
        let sender_known = data.send_id == repeat.0 || is_erased(&data);
        if !sender_known || data.client_msg_id != repeat.1 {
            return Ok(None);
        }
        Ok(Some(Appended {
            conversation: number,
            seq,
            send_time: data.send_time,
            message,
            repeated: true,
            first: false,
            awaited: false,
        }))
    }
}

/// Leaves out seqs behind `newest`; returns the last of them.
fn skip(head: &mut ConversationHead, newest: i64, count: i64) -> i64 {
    if newest == 0 {
        // There is nothing before it that anybody should look for.
        head.min_seq = head.min_seq.max(count + 1);
    }
    let gap = SeqGap { after: newest, until: newest + count };
    head.gaps.push(gap);
    gap.until
}

fn put_int(message: &mut Vec<u8>, field: u32, value: i64) {
    encode_key(field, WireType::Varint, message);
    encode_varint(value.cast_unsigned(), message);
}

/// What tells two sends apart at a glance; equal ones are looked at.
fn fingerprint(repeat: &(String, String)) -> u32 {
    let mut hasher = DefaultHasher::new();
    repeat.hash(&mut hasher);
    hasher.finish() as u32
}

/// Highest seq of a conversation and the send time of that message; zeros when it has none.
pub fn newest(from: &impl Read, conversation: &str) -> Result<(i64, i64), StoreError> {
    let Some(head) = CONVERSATION_HEADS.get(from, conversation)? else { return Ok((0, 0)) };
    newest_of(from, head.number)
}

/// As [`newest`], by conversation number.
pub fn newest_of(from: &impl Read, number: u64) -> Result<(i64, i64), StoreError> {
    match MESSAGES.scan_back(from, number).next() {
        Some(row) => {
            let ((_, seq), message) = row?;
            Ok((seq.cast_signed(), message.send_time))
        }
        None => Ok((0, 0)),
    }
}

/// The stored messages of a conversation with `first <= seq <= last`.
pub fn messages<'a>(
    from: &'a impl Read,
    number: u64,
    first: i64,
    last: i64,
    direction: Direction,
) -> impl Iterator<Item = Result<(i64, MsgData), StoreError>> + 'a {
    let (first, last) = (first.max(0).cast_unsigned(), last.max(0).cast_unsigned());
    MESSAGES
        .range(from, (number, first), (number, last), direction)
        .map(|row| row.map(|((_, seq), message)| (seq.cast_signed(), message)))
}

/// As [`messages`], each as the bytes that clients receive.
pub fn messages_raw<'a>(
    from: &'a impl Read,
    number: u64,
    first: i64,
    last: i64,
    direction: Direction,
) -> impl Iterator<Item = Result<(i64, Bytes), StoreError>> + 'a {
    let (first, last) = (first.max(0).cast_unsigned(), last.max(0).cast_unsigned());
    MESSAGES
        .range_raw(from, (number, first), (number, last), direction)
        .map(|row| row.map(|((_, seq), message)| (seq.cast_signed(), message)))
}

/// Whether a stored message was erased for everybody; only its seq, its send time and its IDs remain.
///
/// By the IDs a repeated send is still known: what was erased must not come back with it.
pub fn is_erased(message: &MsgData) -> bool {
    message.content.is_empty() && message.status == ERASED
}

/// Status of a message that is gone.
pub const ERASED: i32 = 4;

/// Whether the disk has lost a message; its seq remains.
pub fn is_damaged(message: &MsgData) -> bool {
    is_erased(message) && message.ex == DAMAGED
}

/// A send time for a message that has lost its own, behind the one before and ahead of the next: each
/// has a later one than the one before it.
fn time_between(from: &impl Read, number: u64, seq: i64) -> Result<i64, StoreError> {
    for row in messages(from, number, 0, seq - 1, Direction::Descending) {
        let (before, message) = row?;
        if !is_damaged(&message) {
            return Ok(message.send_time + (seq - before));
        }
    }
    Ok(0)
}

/// What a message that the disk has lost has in `ex`.
pub(crate) const DAMAGED: &str = "damaged";

impl Tx<'_> {
    /// Erases a message for everybody; what [`is_erased`] names stays, so that no gap appears.
    pub fn erase(&mut self, number: u64, seq: i64) -> Result<bool, StoreError> {
        let key = (number, seq.cast_unsigned());
        let Some(message) = MESSAGES.get(self, key)? else { return Ok(false) };
        let send_time =
            if is_damaged(&message) { time_between(self, number, seq)? } else { message.send_time };
        let trace = MsgData {
            seq,
            send_time,
            status: ERASED,
            client_msg_id: message.client_msg_id,
            server_msg_id: message.server_msg_id,
            ..Default::default()
        };
        MESSAGES.put_raw(self, key, trace.encode_to_vec().into());
        Ok(true)
    }
}
