//! What a user may see: the one rule with which every list, count, newest message and window has to
//! agree.
//!
//! A user sees a conversation of which he is part: one of the pair, a member of the group, or one who
//! was and sees it up to where he left. Of that he sees what neither he nor all have cleared, and
//! what was not said before he came where the node is set so. He does not see what was deleted, and
//! of what was revoked only that it was, also where another message carries it. A conversation that
//! he took off his list is there again when something was said since that he sees, or when he comes
//! back.

use std::collections::BTreeMap;

use super::device::User;
use super::expected::{Request, State, kind};
use super::group::Role;
use super::log::{Entry, Log, Own, Parties, Record};
use crate::random::Random;

/// A message as it is read later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shown {
    pub(super) seq: i64,
    pub(super) client_msg_id: String,
    pub(super) kind: i32,
    /// Of what a user wrote, or who revoked it; empty otherwise.
    pub(super) text: String,
    /// Type and text of the message that it carries; nothing of one that is gone.
    pub(super) carried: Option<(i32, String)>,
    pub(super) gone: bool,
    pub(super) read: bool,
}

/// What a user sees of a conversation's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Lowest seq that was not cleared; 0 if nothing was.
    pub(super) low: i64,
    pub(super) high: i64,
}

/// How far a conversation goes for a user, and how much of it is unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reach {
    pub(super) max_seq: i64,
    pub(super) unread: i64,
}

impl State {
    /// Chats with their newest seq, streams left out.
    pub(super) fn chats(&self) -> impl Iterator<Item = (&String, i64)> {
        let chats = self.logs.iter().filter(|(id, _)| !id.starts_with("n_"));
        chats.map(|(id, log)| (id, log.newest()))
    }

    /// Mostly somebody who takes part in a conversation.
    pub(super) fn anybody_in(&self, conversation: &str, random: &mut Random) -> User {
        let all: Vec<User> = User::all().collect();
        let inside: Vec<User> =
            all.iter().copied().filter(|user| self.takes_part(*user, conversation)).collect();
        let choice = if inside.is_empty() || random.once_in(10) { &all } else { &inside };
        choice[random.below(choice.len())]
    }

    pub(super) fn is_member(&self, user: User, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.members.contains_key(&user))
    }

    /// One of the pair, or a member of the group.
    pub(super) fn is_present(&self, user: User, log: &Log) -> bool {
        match &log.parties {
            Parties::Pair(a, b) => user == *a || user == *b,
            Parties::Group(group) => self.is_member(user, group),
        }
    }

    pub(super) fn own(&self, user: User, log: &Log) -> Own {
        log.own.get(&user).cloned().unwrap_or_default()
    }

    /// Present, or once a member of the group.
    pub(super) fn takes_part(&self, user: User, conversation: &str) -> bool {
        let Some(log) = self.logs.get(conversation).filter(|log| log.newest() > 0) else {
            return false;
        };
        let record = self.own(user, log).record;
        let former = matches!(log.parties, Parties::Group(_))
            && record.is_some_and(|record| record.ceiling != 0);
        self.is_present(user, log) || former
    }

    /// The conversation as it stands in the user's list; `None` if it is not there.
    pub(super) fn listed(&self, user: User, conversation: &str) -> Option<Record> {
        let log = self.logs.get(conversation)?;
        let member = match &log.parties {
            Parties::Group(group) => self.groups.get(group).and_then(|g| g.members.get(&user)),
            Parties::Pair(..) => None,
        };
        let Some(record) = self.own(user, log).record else {
            return member.map(|member| Record { at: member.joined, ..Record::default() });
        };
        let of_group = matches!(log.parties, Parties::Group(_));
        if of_group && member.is_none() && record.ceiling == 0 {
            return None;
        }
        let seen = if record.ceiling == 0 { log.newest() } else { record.ceiling };
        let there = record.removed.is_none_or(|removed| seen > removed);
        there.then_some(record)
    }

    /// IDs of the conversations in a user's list.
    pub(super) fn list(&self, user: User) -> Vec<(String, Record)> {
        let chats = self.logs.keys().filter(|id| !id.starts_with("n_"));
        chats.filter_map(|id| Some((id.clone(), self.listed(user, id)?))).collect()
    }

    /// Lowest and highest seq that a user sees; `None` if the conversation is not there for him.
    pub(super) fn window(&self, user: User, conversation: &str) -> Option<Window> {
        let record = self.listed(user, conversation)?;
        if !self.takes_part(user, conversation) {
            return None;
        }
        let log = self.logs.get(conversation)?;
        let newest = log.newest();
        let high = if record.ceiling == 0 { newest } else { record.ceiling.min(newest) };
        Some(Window { low: log.floor.max(record.floor), high })
    }

    /// How far a conversation goes for a user. What is not there to be read is not unread.
    pub(super) fn reach(&self, user: User, conversation: &str) -> Reach {
        let window = self.window(user, conversation);
        let Some((log, Window { low, high })) = self.logs.get(conversation).zip(window) else {
            return Reach::default();
        };
        let read = self.own(user, log).read.max(low - 1);
        let is_there = |seq: &i64| {
            let entry = log.entry(*seq);
            entry.is_some_and(|entry| !entry.erased && !entry.hidden.contains(&user))
        };
        let unread = (read + 1..=high).filter(is_there).count() as i64;
        Reach { max_seq: high, unread }
    }

    /// What a user reads of a conversation.
    pub(super) fn view(&self, user: User, conversation: &str) -> Vec<Shown> {
        let Some(window) = self.window(user, conversation) else { return Vec::new() };
        (window.low.max(1)..=window.high)
            .filter_map(|seq| self.shown(user, conversation, seq))
            .collect()
    }

    /// The message that the user's list shows as the last.
    pub(super) fn last(&self, user: User, conversation: &str) -> Option<Shown> {
        self.view(user, conversation).into_iter().rev().find(|shown| !shown.gone)
    }

    fn shown(&self, user: User, conversation: &str, seq: i64) -> Option<Shown> {
        let log = self.logs.get(conversation)?;
        let entry = log.entry(seq)?;
        if entry.erased {
            return Some(Shown { seq, gone: true, ..Shown::default() });
        }
        let gone = entry.hidden.contains(&user);
        let (kind, text) = match entry.revoked {
            Some(by) => (kind::REVOKED, by.id()),
            None if gone => (entry.kind, String::new()),
            None => (entry.kind, entry.text.clone()),
        };
        let carried = (entry.revoked.is_none() && !gone)
            .then(|| entry.carries.and_then(|seq| carried(log, seq)))
            .flatten();
        let read = match log.parties {
            Parties::Pair(a, b) => [a, b].iter().any(|reader| {
                Some(*reader) != entry.sender && self.own(*reader, log).reported.contains(&seq)
            }),
            Parties::Group(_) => false,
        };
        let client_msg_id = entry.client_msg_id.clone();
        Some(Shown { seq, client_msg_id, kind, text, carried, gone, read })
    }

    /// What orders a user's list: when the newest message was said, or since when it is there.
    pub(super) fn order(&self, conversation: &str, record: &Record, reach: Reach) -> i64 {
        let entry = self.logs.get(conversation).and_then(|log| log.entry(reach.max_seq));
        entry.map_or(record.at, |entry: &Entry| entry.at)
    }

    /// Up to where a stream beside a chat goes for a user; 0 if it is not for him.
    pub(super) fn stream(&self, user: User, stream: &str) -> i64 {
        let log = self.logs.get(stream).filter(|log| self.is_present(user, log));
        log.map_or(0, Log::newest)
    }

    /// The friends in a user's list.
    pub(super) fn friends_of(&self, user: User) -> Vec<User> {
        let own = self.friends.iter().filter(|(owner, _)| *owner == user);
        own.map(|(_, friend)| *friend).collect()
    }

    pub(super) fn blocked_by(&self, user: User) -> Vec<User> {
        let own = self.blacks.iter().filter(|(owner, _)| *owner == user);
        own.map(|(_, other)| *other).collect()
    }

    /// How many wait for an answer of a user to their wish to be friends.
    pub(super) fn asked_of(&self, user: User) -> usize {
        let waiting = self.requests.iter().filter(|(_, request)| **request == Request::Waiting);
        waiting.filter(|((_, to), _)| *to == user).count()
    }

    /// IDs of the groups that a user is in.
    pub(super) fn groups_of(&self, user: User) -> Vec<String> {
        let groups = self.groups.iter().filter(|(_, group)| group.members.contains_key(&user));
        groups.map(|(id, _)| id.clone()).collect()
    }

    /// Members of a group with their roles, as clients know them.
    pub(super) fn roles(&self, group: &str) -> BTreeMap<String, i64> {
        let members = self.groups.get(group).into_iter().flat_map(|group| &group.members);
        let level = |role| match role {
            Role::Owner => 100,
            Role::Admin => 60,
            Role::Ordinary => 20,
        };
        members.map(|(user, member)| (user.id(), level(member.role))).collect()
    }

    /// What a search for the texts of a user finds: their IDs, and whether they were revoked.
    pub(super) fn texts_of(&self, user: User) -> Vec<(String, bool)> {
        let chats = self.logs.iter().filter(|(id, _)| !id.starts_with("n_"));
        let entries = chats.flat_map(|(_, log)| &log.entries);
        entries
            .filter(|entry| entry.sender == Some(user) && entry.kind == kind::TEXT && !entry.erased)
            .map(|entry| (entry.client_msg_id.clone(), entry.revoked.is_some()))
            .collect()
    }
}

/// A message as another one carries it.
fn carried(log: &Log, seq: i64) -> Option<(i32, String)> {
    let entry = log.entry(seq)?;
    Some(match entry.revoked {
        _ if entry.erased => (0, String::new()),
        Some(by) => (kind::REVOKED, by.id()),
        None => (entry.kind, entry.text.clone()),
    })
}
