//! Conversations: what was said in them, and what each user has noted about them.

use std::collections::{BTreeMap, BTreeSet};

use super::device::User;
use super::expected::{State, group_id};

/// A message that was acknowledged.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) client_msg_id: String,
    pub(super) sender: Option<User>,
    pub(super) kind: i32,
    pub(super) text: String,
    /// Seq of the message that it carries.
    pub(super) carries: Option<i64>,
    /// Number of the action that sent it.
    pub(super) at: i64,
    pub(super) revoked: Option<User>,
    pub(super) erased: bool,
    pub(super) hidden: BTreeSet<User>,
}

/// A conversation in a user's list.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// Lowest seq that the user has not cleared.
    pub(super) floor: i64,
    /// Highest seq that a former member sees; 0 for all.
    pub(super) ceiling: i64,
    /// Newest seq when the user took it off the list.
    pub(super) removed: Option<i64>,
    pub(super) pinned: bool,
    pub(super) receive: i32,
    /// Number of the action that made it.
    pub(super) at: i64,
}

/// What a conversation is to one user.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    pub(super) read: i64,
    /// Messages of the peer that the user has reported as read.
    pub(super) reported: BTreeSet<i64>,
    /// `None`: nothing noted; a member of a group has the conversation as it is for all.
    pub(super) record: Option<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parties {
    Pair(User, User),
    Group(String),
}

#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) parties: Parties,
    pub(super) entries: Vec<Entry>,
    /// Lowest seq that was not cleared for everybody.
    pub(super) floor: i64,
    pub(super) own: BTreeMap<User, Own>,
}

impl Log {
    pub(super) fn newest(&self) -> i64 {
        self.entries.len() as i64
    }

    pub(super) fn entry(&self, seq: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    pub(super) fn entry_mut(&mut self, seq: i64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq).ok()?.checked_sub(1)?)
    }
}

impl State {
    pub(super) fn log(&mut self, id: &str, parties: impl FnOnce() -> Parties) -> &mut Log {
        self.logs.entry(id.to_owned()).or_insert_with(|| Log {
            parties: parties(),
            entries: Vec::new(),
            floor: 0,
            own: BTreeMap::new(),
        })
    }

    /// Adds a message; returns its seq.
    pub(super) fn append(&mut self, id: &str, parties: Parties, entry: Entry) -> i64 {
        let step = self.step;
        let log = self.log(id, || parties);
        let sender = entry.sender;
        log.entries.push(Entry { at: step, ..entry });
        let seq = log.newest();
        if let (1, Parties::Pair(a, b), false) = (seq, &log.parties, id.starts_with("n_")) {
            // The first message brings the chat into both lists.
            for user in [*a, *b] {
                let own = log.own.entry(user).or_default();
                own.record.get_or_insert_with(|| Record { at: step, ..Record::default() });
            }
        }
        if let Some(sender) = sender {
            let own = log.own.entry(sender).or_default();
            own.read = own.read.max(seq);
        }
        seq
    }

    pub(super) fn newest(&self, conversation: &str) -> i64 {
        self.logs.get(conversation).map_or(0, Log::newest)
    }

    /// What a user has noted about a conversation, to be changed.
    pub(super) fn own_mut(&mut self, user: User, conversation: &str) -> Option<&mut Own> {
        Some(self.logs.get_mut(conversation)?.own.entry(user).or_default())
    }

    /// Opens a group's chat to somebody who comes in.
    pub(super) fn open(&mut self, group: &str, user: User) {
        let (step, hides, id) = (self.step, self.hides_history, group_id(group));
        let newest = self.newest(&id);
        let log = self.log(&id, || Parties::Group(group.to_owned()));
        let own = log.own.entry(user).or_default();
        let hides = hides && newest > 0;
        if own.record.is_none() && !hides {
            return;
        }
        let record = own.record.get_or_insert_with(|| Record { at: step, ..Record::default() });
        (record.ceiling, record.removed) = (0, None);
        if hides {
            record.floor = newest + 1;
        }
    }

    /// Ends what somebody sees of a group's chat who is no longer in it, at a seq; 0: nothing was
    /// ever said.
    pub(super) fn close(&mut self, group: &str, user: User, joined: i64, seq: i64) {
        let id = group_id(group);
        let log = self.log(&id, || Parties::Group(group.to_owned()));
        let own = log.own.entry(user).or_default();
        if seq == 0 {
            own.record = None;
            return;
        }
        let record = own.record.get_or_insert_with(|| Record { at: joined, ..Record::default() });
        record.ceiling = seq;
    }
}
