//! The model's rules of messages: who may send, revoke, delete, clear and read.

use super::action::Chat;
use super::device::User;
use super::expected::{ARGS, DENIED, NOT_FOUND, OK, Outcome, Seen, State, kind, pair_id};
use super::log::{Entry, Parties, Record};
use super::sight::Window;

const BLOCKED: i64 = 1302;
const ALREADY_REVOKED: i64 = 1404;
/// The receiver takes nothing of the conversation.
const NOT_RECEIVE: i32 = 1;

/// What a user writes.
#[derive(Debug, Clone)]
pub(super) struct Words {
    pub(super) client_msg_id: String,
    pub(super) kind: i32,
    pub(super) text: String,
    /// Seq of the message that it carries.
    pub(super) carries: Option<i64>,
}

impl State {
    /// The code with which a message is answered.
    pub(super) fn may_send(&self, from: User, to: &Chat) -> i64 {
        match to {
            Chat::Pair(to) if self.blacks.contains(&(*to, from)) => BLOCKED,
            Chat::Pair(to) => {
                let log = self.logs.get(&pair_id(from, *to));
                let record = log.and_then(|log| self.own(*to, log).record);
                let takes = record.is_none_or(|record| record.receive != NOT_RECEIVE);
                if takes { OK } else { ARGS }
            }
            Chat::Group(group) => {
                self.groups.get(group).map_or(1201, |g| g.may_send(from, self.now))
            }
        }
    }

    /// Whether a message with this ID was stored before.
    pub(super) fn is_stored(&self, client_msg_id: &str) -> bool {
        self.stored.contains(client_msg_id)
    }

    /// Stores a message that may be sent.
    pub(super) fn send(&mut self, outcome: &mut Outcome, from: User, to: &Chat, words: Words) {
        let Words { client_msg_id, kind, text, carries } = words;
        self.stored.insert(client_msg_id.clone());
        let entry = Entry {
            client_msg_id,
            sender: Some(from),
            kind,
            text: text.clone(),
            carries,
            ..Entry::default()
        };
        let users = match to {
            Chat::Pair(to) => vec![from, *to],
            Chat::Group(group) => self.members(group),
        };
        let conversation = to.conversation(from);
        let seq = self.append(&conversation, to.parties(from), entry);
        outcome.seen.push((users, Seen { conversation, seq, kind, text }));
    }

    /// A message that a user may quote: its seq, and what it is.
    pub(super) fn quotable(&self, user: User, conversation: &str, seq: i64) -> Option<&Entry> {
        let window = self.window(user, conversation)?;
        if !(window.low..=window.high).contains(&seq) {
            return None;
        }
        let entry = self.logs.get(conversation)?.entry(seq)?;
        let plain = entry.kind == kind::TEXT && entry.revoked.is_none() && !entry.erased;
        (plain && !entry.hidden.contains(&user)).then_some(entry)
    }

    /// Whether a user may take back a message of an author in a group.
    fn is_over(&self, group: &str, user: User, author: Option<User>) -> bool {
        self.groups.get(group).is_some_and(|group| group.is_over(user, author))
    }

    pub(super) fn revoke(&mut self, by: User, conversation: &str, seq: i64) -> Outcome {
        let Some(Window { low, high }) = self.window(by, conversation) else {
            return Outcome::refused(NOT_FOUND);
        };
        let Some(log) = self.logs.get(conversation) else { return Outcome::refused(NOT_FOUND) };
        let parties = log.parties.clone();
        let entry = log.entry(seq).filter(|entry| (low..=high).contains(&seq) && !entry.erased);
        let Some(entry) = entry else { return Outcome::refused(NOT_FOUND) };
        if entry.revoked.is_some() {
            return Outcome::refused(ALREADY_REVOKED);
        }
        if entry.hidden.contains(&by) {
            return Outcome::refused(NOT_FOUND);
        }
        let author = entry.sender;
        let may = match &parties {
            Parties::Pair(..) => author == Some(by),
            Parties::Group(group) => self.is_over(group, by, author),
        };
        if !may {
            return Outcome::refused(DENIED);
        }
        if let Some(entry) = self.logs.get_mut(conversation).and_then(|log| log.entry_mut(seq)) {
            entry.revoked = Some(by);
        }
        let mut outcome = Outcome::default();
        match parties {
            Parties::Pair(a, b) => {
                let peer = if a == by { b } else { a };
                self.tell_for_good(&mut outcome, kind::REVOKED, by, peer);
            }
            Parties::Group(group) => {
                let to = self.members(&group);
                self.tell_group(&mut outcome, &group, (kind::REVOKED, false, true), by, &to);
            }
        }
        outcome
    }

    pub(super) fn delete(
        &mut self,
        by: User,
        conversation: &str,
        seq: i64,
        everybody: bool,
    ) -> Outcome {
        if !self.takes_part(by, conversation) {
            return Outcome::refused(DENIED);
        }
        let Some(Window { low, high }) = self.window(by, conversation) else {
            return Outcome::refused(NOT_FOUND);
        };
        let Some(log) = self.logs.get(conversation) else { return Outcome::refused(DENIED) };
        let parties = log.parties.clone();
        let entry = log.entry(seq).filter(|_| (low.max(1)..=high).contains(&seq));
        let there = entry.filter(|entry| !entry.erased);
        if let (Parties::Group(group), Some(entry), true) = (&parties, there, everybody)
            && !self.is_over(group, by, entry.sender)
        {
            return Outcome::refused(DENIED);
        }
        if entry.is_none() {
            return Outcome::default();
        }
        if let Some(entry) = self.logs.get_mut(conversation).and_then(|log| log.entry_mut(seq)) {
            entry.erased |= everybody;
            entry.hidden.insert(by);
        }
        let mut outcome = Outcome::default();
        match parties {
            _ if !everybody => self.tell_for_good(&mut outcome, kind::DELETED, by, by),
            Parties::Pair(a, b) => {
                let peer = if a == by { b } else { a };
                self.tell_for_good(&mut outcome, kind::DELETED, by, peer);
            }
            Parties::Group(group) => {
                let to = self.members(&group);
                self.tell_group(&mut outcome, &group, (kind::DELETED, false, true), by, &to);
            }
        }
        outcome
    }

    pub(super) fn clear(&mut self, by: User, conversation: &str, everybody: bool) -> Outcome {
        let mut outcome = Outcome::default();
        if !everybody {
            if self.clear_own(&mut outcome, by, conversation) {
                self.tell(&mut outcome, kind::CLEARED, by, by);
            }
            return outcome;
        }
        if self.listed(by, conversation).is_none() || !self.takes_part(by, conversation) {
            return outcome;
        }
        let Some(log) = self.logs.get_mut(conversation) else { return outcome };
        let parties = log.parties.clone();
        if let Parties::Group(group) = &parties
            && !self.groups.get(group).is_some_and(|group| group.manages(by))
        {
            return Outcome::refused(DENIED);
        }
        let newest = log.newest();
        log.floor = newest + 1;
        let own = log.own.entry(by).or_default();
        own.read = own.read.max(newest);
        match parties {
            Parties::Pair(a, b) => {
                let peer = if a == by { b } else { a };
                self.tell(&mut outcome, kind::CLEARED, by, peer);
            }
            Parties::Group(group) => {
                let to = self.members(&group);
                self.tell_group(&mut outcome, &group, (kind::CLEARED, false, false), by, &to);
            }
        }
        outcome
    }

    /// Clears all that is in the user's list.
    pub(super) fn clear_all(&mut self, by: User) -> Outcome {
        let mut outcome = Outcome::default();
        let mut cleared = false;
        for (conversation, _) in self.list(by) {
            cleared |= self.clear_own(&mut outcome, by, &conversation);
        }
        if cleared {
            self.tell(&mut outcome, kind::CLEARED, by, by);
        }
        outcome
    }

    /// Clears a conversation for a user alone; `false` if it is not in the list.
    fn clear_own(&mut self, outcome: &mut Outcome, by: User, conversation: &str) -> bool {
        let Some(before) = self.listed(by, conversation) else { return false };
        let newest = self.reach(by, conversation).max_seq;
        if let Some(own) = self.own_mut(by, conversation) {
            own.read = own.read.max(newest);
        }
        if before.floor != newest + 1 {
            self.note(by, conversation, Record { floor: newest + 1, ..before });
            self.tell_changed(outcome, by);
        }
        true
    }

    pub(super) fn read(&mut self, by: User, conversation: &str, seq: i64) -> Outcome {
        if self.listed(by, conversation).is_none() {
            return Outcome::refused(NOT_FOUND);
        }
        let through = seq.min(self.reach(by, conversation).max_seq);
        let Some(log) = self.logs.get_mut(conversation) else {
            return Outcome::refused(NOT_FOUND);
        };
        let own = log.own.entry(by).or_default();
        own.reported.extend(own.read + 1..=through);
        own.read = own.read.max(through);
        let read = own.read;
        let parties = log.parties.clone();
        let mut outcome = Outcome::default();
        match parties {
            Parties::Pair(a, b) => {
                let peer = if a == by { b } else { a };
                self.tell_for_good(&mut outcome, kind::READ, by, peer);
                // The own devices count what is not there as read, of which the peer is not told.
                let reach = self.reach(by, conversation);
                if reach.max_seq - reach.unread > read {
                    self.tell(&mut outcome, kind::READ, by, by);
                }
            }
            Parties::Group(_) => self.tell(&mut outcome, kind::READ, by, by),
        }
        outcome
    }
}
