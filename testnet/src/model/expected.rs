//! The model: what there is, and who is told.
//!
//! Codes are those of the client API.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Chat;
use super::device::{Device, User};
use super::group::Group;
use super::log::{Entry, Log, Parties};

/// Content types.
pub(super) mod kind {
    pub(crate) const TEXT: i32 = 101;
    pub(crate) const AT: i32 = 106;
    pub(crate) const MERGE: i32 = 107;
    pub(crate) const QUOTE: i32 = 114;
    pub(crate) const FRIEND_APPROVED: i32 = 1201;
    pub(crate) const FRIEND_REJECTED: i32 = 1202;
    pub(crate) const FRIEND_APPLICATION: i32 = 1203;
    pub(crate) const FRIEND_DELETED: i32 = 1205;
    pub(crate) const BLACK_ADDED: i32 = 1207;
    pub(crate) const BLACK_DELETED: i32 = 1208;
    pub(crate) const CONVERSATION_CHANGED: i32 = 1300;
    pub(crate) const CLEARED: i32 = 1703;
    pub(crate) const REVOKED: i32 = 2101;
    pub(crate) const DELETED: i32 = 2102;
    pub(crate) const READ: i32 = 2200;
}

pub(super) const OK: i64 = 0;
pub(super) const ARGS: i64 = 1001;
pub(super) const DENIED: i64 = 1002;
pub(super) const NOT_FOUND: i64 = 1004;
pub(super) const FAILED: i64 = 500;

/// A message as it comes to a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) conversation: String,
    /// 0 if it has no place in a log.
    pub(super) seq: i64,
    pub(super) kind: i32,
    /// Of what a user wrote; empty otherwise.
    pub(super) text: String,
}

/// What follows from an action.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) code: i64,
    pub(super) seen: Vec<(Vec<User>, Seen)>,
    pub(super) kicked: Vec<Device>,
}

impl Outcome {
    pub(super) fn refused(code: i64) -> Self {
        Self { code, ..Self::default() }
    }
}

/// A request to become friends or to join a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Waiting,
    Handled,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Milliseconds; only as far as time is paused.
    pub(super) now: i64,
    /// Number of the action.
    pub(super) step: i64,
    /// New members do not see what was said before they came.
    pub(super) hides_history: bool,
    pub(super) friends: BTreeSet<(User, User)>,
    pub(super) requests: BTreeMap<(User, User), Request>,
    pub(super) blacks: BTreeSet<(User, User)>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) logs: BTreeMap<String, Log>,
    pub(super) online: BTreeSet<Device>,
    pub(super) logged_in: BTreeSet<Device>,
    pub(super) stored: BTreeSet<String>,
}

/// ID of the chat of two.
pub(super) fn pair_id(a: User, b: User) -> String {
    format!("si_{}_{}", a.min(b), a.max(b))
}

fn stream_id(a: User, b: User) -> String {
    format!("n_{}_{}", a.min(b), a.max(b))
}

/// ID of a group's chat.
pub(super) fn group_id(group: &str) -> String {
    format!("sg_{group}")
}

impl Chat {
    /// ID of the conversation for one who writes to it.
    pub(super) fn conversation(&self, from: User) -> String {
        match self {
            Self::Pair(to) => pair_id(from, *to),
            Self::Group(group) => group_id(group),
        }
    }

    pub(super) fn parties(&self, from: User) -> Parties {
        match self {
            Self::Pair(to) => Parties::Pair(from, *to),
            Self::Group(group) => Parties::Group(group.clone()),
        }
    }
}

impl State {
    pub(super) fn online(&self) -> impl Iterator<Item = Device> {
        self.online.iter().copied()
    }

    pub(super) fn is_online(&self, device: Device) -> bool {
        self.online.contains(&device)
    }

    // Connections.

    pub(super) fn log_in(&mut self, device: Device) -> Outcome {
        let kicked = if self.online.insert(device) { Vec::new() } else { vec![device] };
        self.logged_in.insert(device);
        Outcome { kicked, ..Outcome::default() }
    }

    pub(super) fn cut(&mut self, device: Device) {
        self.online.remove(&device);
    }

    /// Whether the token of the device still counts.
    pub(super) fn comes_back(&mut self, device: Device) -> bool {
        let counts = self.logged_in.contains(&device);
        if counts {
            self.online.insert(device);
        }
        counts
    }

    pub(super) fn force_logout(&mut self, device: Device) -> Outcome {
        self.logged_in.remove(&device);
        let kicked = if self.online.remove(&device) { vec![device] } else { Vec::new() };
        Outcome { kicked, ..Outcome::default() }
    }

    pub(super) fn restart(&mut self) {
        self.online.clear();
    }

    // Telling.

    /// Tells a user (and the sender's devices) of something that has no place in a log.
    pub(super) fn tell(&self, outcome: &mut Outcome, kind: i32, from: User, to: User) {
        let seen = Seen { conversation: stream_id(from, to), seq: 0, kind, text: String::new() };
        outcome.seen.push((vec![from, to], seen));
    }

    /// As [`tell`](Self::tell), but kept for devices that are away.
    pub(super) fn tell_for_good(&mut self, outcome: &mut Outcome, kind: i32, from: User, to: User) {
        let conversation = stream_id(from, to);
        let entry = Entry { kind, ..Entry::default() };
        let seq = self.append(&conversation, Parties::Pair(from, to), entry);
        outcome.seen.push((vec![from, to], Seen { conversation, seq, kind, text: String::new() }));
    }

    /// Tells a user of the own conversations.
    pub(super) fn tell_changed(&self, outcome: &mut Outcome, user: User) {
        self.tell(outcome, kind::CONVERSATION_CHANGED, user, user);
    }

    /// Tells users of something in a group; returns the seq of its place in the chat.
    pub(super) fn tell_group(
        &mut self,
        outcome: &mut Outcome,
        group: &str,
        (kind, in_chat, kept): (i32, bool, bool),
        by: User,
        to: &[User],
    ) -> i64 {
        let mut place = 0;
        let parties = Parties::Group(group.to_owned());
        if in_chat {
            let entry = Entry { sender: Some(by), kind, ..Entry::default() };
            let conversation = group_id(group);
            place = self.append(&conversation, parties.clone(), entry);
            let seen = Seen { conversation, seq: place, kind, text: String::new() };
            outcome.seen.push((to.to_vec(), seen));
        }
        let conversation = format!("n_{group}");
        let mut seq = 0;
        if kept {
            seq = self.append(&conversation, parties, Entry { kind, ..Entry::default() });
        }
        let seen = Seen { conversation, seq, kind, text: String::new() };
        outcome.seen.push((to.to_vec(), seen));
        place
    }

    /// Members of a group, by rank and then as they joined.
    pub(super) fn members(&self, group: &str) -> Vec<User> {
        self.groups.get(group).map(Group::by_rank).unwrap_or_default()
    }
}
