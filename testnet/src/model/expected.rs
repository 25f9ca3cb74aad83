//! The model: what there is, who may do what, and who is told.
//!
//! Codes are those of the client API.

use std::collections::{BTreeMap, BTreeSet};

use super::action::Chat;
use super::device::{Device, User};
use super::group::Group;
use super::world::Reach;
use crate::random::Random;

/// Content types.
pub(super) mod kind {
    pub(crate) const TEXT: i32 = 101;
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
const BLOCKED: i64 = 1302;
const ALREADY_FRIENDS: i64 = 1304;
const REQUEST_HANDLED: i64 = 1305;
const ALREADY_REVOKED: i64 = 1404;

/// A message as it comes to a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) conversation: String,
    /// 0 if it has no place in a log.
    pub(super) seq: i64,
    pub(super) kind: i32,
    /// Of a text; empty otherwise.
    pub(super) text: String,
}

/// A message as it is read later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Shown {
    pub(super) seq: i64,
    pub(super) client_msg_id: String,
    pub(super) kind: i32,
    /// Of a text, or who revoked it; empty otherwise.
    pub(super) text: String,
    pub(super) gone: bool,
    pub(super) read: bool,
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

/// A message that was acknowledged.
#[derive(Debug, Clone, Default)]
struct Entry {
    client_msg_id: String,
    sender: Option<User>,
    kind: i32,
    text: String,
    revoked: Option<User>,
    erased: bool,
    hidden: BTreeSet<User>,
}

/// What a conversation is to one user.
#[derive(Debug, Clone, Default)]
struct Own {
    /// Lowest seq that the user has not cleared.
    floor: i64,
    /// Highest seq that a former member sees; 0 for all.
    ceiling: i64,
    read: i64,
    /// Messages of the peer that the user has reported as read.
    reported: BTreeSet<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parties {
    Pair(User, User),
    Group(String),
}

#[derive(Debug, Clone)]
struct Log {
    parties: Parties,
    entries: Vec<Entry>,
    /// Lowest seq that was not cleared for everybody.
    floor: i64,
    own: BTreeMap<User, Own>,
}

impl Log {
    fn newest(&self) -> i64 {
        self.entries.len() as i64
    }

    fn entry(&self, seq: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    fn entry_mut(&mut self, seq: i64) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(seq).ok()?.checked_sub(1)?)
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
    pub(super) friends: BTreeSet<(User, User)>,
    requests: BTreeMap<(User, User), Request>,
    pub(super) blacks: BTreeSet<(User, User)>,
    pub(super) groups: BTreeMap<String, Group>,
    logs: BTreeMap<String, Log>,
    online: BTreeSet<Device>,
    logged_in: BTreeSet<Device>,
    stored: BTreeSet<String>,
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

impl State {
    pub(super) fn online(&self) -> impl Iterator<Item = Device> {
        self.online.iter().copied()
    }

    pub(super) fn is_online(&self, device: Device) -> bool {
        self.online.contains(&device)
    }

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

    // Logs.

    fn log(&mut self, id: &str, parties: impl FnOnce() -> Parties) -> &mut Log {
        self.logs.entry(id.to_owned()).or_insert_with(|| Log {
            parties: parties(),
            entries: Vec::new(),
            floor: 0,
            own: BTreeMap::new(),
        })
    }

    /// Adds a message; returns its seq.
    fn append(&mut self, id: &str, parties: Parties, entry: Entry) -> i64 {
        let log = self.log(id, || parties);
        let sender = entry.sender;
        log.entries.push(entry);
        let seq = log.newest();
        if let Some(sender) = sender {
            let own = log.own.entry(sender).or_default();
            own.read = own.read.max(seq);
        }
        seq
    }

    pub(super) fn is_member(&self, user: User, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.members.contains_key(&user))
    }

    fn is_present(&self, user: User, log: &Log) -> bool {
        match &log.parties {
            Parties::Pair(a, b) => user == *a || user == *b,
            Parties::Group(group) => self.is_member(user, group),
        }
    }

    fn own(&self, user: User, log: &Log) -> Own {
        log.own.get(&user).cloned().unwrap_or_default()
    }

    fn takes_part(&self, user: User, conversation: &str) -> bool {
        let Some(log) = self.logs.get(conversation) else { return false };
        let former = matches!(log.parties, Parties::Group(_)) && self.own(user, log).ceiling != 0;
        self.is_present(user, log) || former
    }

    /// Lowest and highest seq that a user sees.
    fn window(&self, user: User, conversation: &str) -> Option<(i64, i64)> {
        if !self.takes_part(user, conversation) {
            return None;
        }
        let log = self.logs.get(conversation)?;
        let own = self.own(user, log);
        let high = if own.ceiling == 0 { log.newest() } else { own.ceiling.min(log.newest()) };
        Some((log.floor.max(own.floor).max(1), high))
    }

    /// How far a conversation goes for a user.
    pub(super) fn reach(&self, user: User, conversation: &str) -> Reach {
        let part = self.takes_part(user, conversation);
        let Some(log) = self.logs.get(conversation).filter(|_| part) else {
            return Reach::default();
        };
        let own = self.own(user, log);
        let (low, max_seq) = self.window(user, conversation).unwrap_or_default();
        // What is not there to be read counts as read.
        let read = own.read.max(low - 1).min(max_seq);
        let gone = |seq: &i64| {
            log.entry(*seq).is_some_and(|entry| entry.erased || entry.hidden.contains(&user))
        };
        let gone = (read + 1..=max_seq).filter(gone).count() as i64;
        Reach { max_seq, read_seq: read + gone }
    }

    /// What a user reads of a conversation.
    pub(super) fn view(&self, user: User, conversation: &str) -> Vec<Shown> {
        let Some((low, high)) = self.window(user, conversation) else { return Vec::new() };
        let Some(log) = self.logs.get(conversation) else { return Vec::new() };
        let shown = |seq: i64| {
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
            let read = match log.parties {
                Parties::Pair(a, b) => [a, b].iter().any(|reader| {
                    Some(*reader) != entry.sender && self.own(*reader, log).reported.contains(&seq)
                }),
                Parties::Group(_) => false,
            };
            let client_msg_id = entry.client_msg_id.clone();
            Some(Shown { seq, client_msg_id, kind, text, gone, read })
        };
        (low..=high).filter_map(shown).collect()
    }

    // Telling.

    /// Tells a user (and the sender's devices) of something that has no place in a log.
    fn tell(&self, outcome: &mut Outcome, kind: i32, from: User, to: User) {
        let seen = Seen { conversation: stream_id(from, to), seq: 0, kind, text: String::new() };
        outcome.seen.push((vec![from, to], seen));
    }

    /// As [`tell`](Self::tell), but kept for devices that are away.
    fn tell_for_good(&mut self, outcome: &mut Outcome, kind: i32, from: User, to: User) {
        let conversation = stream_id(from, to);
        let entry = Entry { kind, ..Entry::default() };
        let seq = self.append(&conversation, Parties::Pair(from, to), entry);
        outcome.seen.push((vec![from, to], Seen { conversation, seq, kind, text: String::new() }));
    }

    /// Tells a user of the own conversations.
    pub(super) fn tell_changed(&self, outcome: &mut Outcome, user: User) {
        self.tell(outcome, kind::CONVERSATION_CHANGED, user, user);
    }

    pub(super) fn tell_one(&self, outcome: &mut Outcome, kind: i32, from: User, to: User) {
        self.tell(outcome, kind, from, to);
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

    pub(super) fn members(&self, group: &str) -> Vec<User> {
        let group = self.groups.get(group);
        group.map(|group| group.members.keys().copied().collect()).unwrap_or_default()
    }

    /// Ends what a user sees of a group's chat at a seq; 0 lifts that.
    pub(super) fn bound(&mut self, group: &str, user: User, seq: i64) {
        if let Some(log) = self.logs.get_mut(&group_id(group)) {
            log.own.entry(user).or_default().ceiling = seq;
        }
    }

    pub(super) fn newest(&self, conversation: &str) -> i64 {
        self.logs.get(conversation).map_or(0, Log::newest)
    }

    // Messages.

    /// The code with which a message is answered.
    pub(super) fn may_send(&self, from: User, to: &Chat) -> i64 {
        match to {
            Chat::Pair(to) if self.blacks.contains(&(*to, from)) => BLOCKED,
            Chat::Pair(_) => OK,
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
    pub(super) fn send(
        &mut self,
        outcome: &mut Outcome,
        from: User,
        to: &Chat,
        client_msg_id: &str,
        text: &str,
    ) {
        self.stored.insert(client_msg_id.to_owned());
        let entry = Entry {
            client_msg_id: client_msg_id.to_owned(),
            sender: Some(from),
            kind: kind::TEXT,
            text: text.to_owned(),
            ..Entry::default()
        };
        let (conversation, parties, users) = match to {
            Chat::Pair(to) => (pair_id(from, *to), Parties::Pair(from, *to), vec![from, *to]),
            Chat::Group(group) => {
                (group_id(group), Parties::Group(group.clone()), self.members(group))
            }
        };
        let seq = self.append(&conversation, parties, entry);
        let text = text.to_owned();
        outcome.seen.push((users, Seen { conversation, seq, kind: kind::TEXT, text }));
    }

    /// Whether a user may take back a message of an author in a group.
    fn is_over(&self, group: &str, user: User, author: Option<User>) -> bool {
        self.groups.get(group).is_some_and(|group| group.is_over(user, author))
    }

    pub(super) fn revoke(&mut self, by: User, conversation: &str, seq: i64) -> Outcome {
        let Some((low, high)) = self.window(by, conversation) else {
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
        let Some((low, high)) = self.window(by, conversation) else {
            return Outcome::refused(DENIED);
        };
        let Some(log) = self.logs.get(conversation) else { return Outcome::refused(DENIED) };
        let parties = log.parties.clone();
        let entry = log.entry(seq).filter(|_| (low..=high).contains(&seq));
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
        if !self.takes_part(by, conversation) {
            return outcome;
        }
        let reach = self.reach(by, conversation);
        let Some(log) = self.logs.get(conversation) else { return outcome };
        let parties = log.parties.clone();
        if let (Parties::Group(group), true) = (&parties, everybody)
            && !self.groups.get(group).is_some_and(|group| group.manages(by))
        {
            return Outcome::refused(DENIED);
        }
        let Some(log) = self.logs.get_mut(conversation) else { return outcome };
        let newest = if everybody { log.newest() } else { reach.max_seq };
        let own = log.own.entry(by).or_default();
        own.read = own.read.max(newest);
        if !everybody {
            let changed = std::mem::replace(&mut own.floor, newest + 1) != newest + 1;
            if changed {
                self.tell_changed(&mut outcome, by);
            }
            self.tell(&mut outcome, kind::CLEARED, by, by);
            return outcome;
        }
        log.floor = newest + 1;
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

    pub(super) fn read(&mut self, by: User, conversation: &str, seq: i64) -> Outcome {
        if !self.takes_part(by, conversation) {
            return Outcome::refused(NOT_FOUND);
        }
        let reach = self.reach(by, conversation);
        let through = seq.min(reach.max_seq);
        let Some(log) = self.logs.get_mut(conversation) else {
            return Outcome::refused(NOT_FOUND);
        };
        let own = log.own.entry(by).or_default();
        own.reported.extend(own.read + 1..=through);
        own.read = own.read.max(through);
        let parties = log.parties.clone();
        let mut outcome = Outcome::default();
        match parties {
            Parties::Pair(a, b) => {
                let peer = if a == by { b } else { a };
                self.tell_for_good(&mut outcome, kind::READ, by, peer);
            }
            Parties::Group(_) => self.tell(&mut outcome, kind::READ, by, by),
        }
        outcome
    }

    // Friends.

    pub(super) fn ask_friend(&mut self, from: User, to: User) -> Outcome {
        if self.friends.contains(&(from, to)) && self.friends.contains(&(to, from)) {
            return Outcome::refused(ALREADY_FRIENDS);
        }
        self.requests.insert((from, to), Request::Waiting);
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::FRIEND_APPLICATION, from, to);
        outcome
    }

    pub(super) fn answer_friend(&mut self, from: User, to: User, agree: bool) -> Outcome {
        match self.requests.get_mut(&(from, to)) {
            None => return Outcome::refused(NOT_FOUND),
            Some(Request::Handled) => {
                return Outcome::refused(if agree { ARGS } else { REQUEST_HANDLED });
            }
            Some(waiting) => *waiting = Request::Handled,
        }
        let mut outcome = Outcome::default();
        if !agree {
            self.tell(&mut outcome, kind::FRIEND_REJECTED, to, from);
            return outcome;
        }
        if let Some(opposite) = self.requests.get_mut(&(to, from)) {
            *opposite = Request::Handled;
        }
        self.friends.extend([(from, to), (to, from)]);
        let kind = kind::FRIEND_APPROVED;
        let conversation = pair_id(from, to);
        let entry = Entry { sender: Some(to), kind, ..Entry::default() };
        let seq = self.append(&conversation, Parties::Pair(from, to), entry);
        let seen = Seen { conversation, seq, kind, text: String::new() };
        outcome.seen.push((vec![from, to], seen));
        self.tell(&mut outcome, kind, to, from);
        outcome
    }

    pub(super) fn remove_friend(&mut self, owner: User, friend: User) -> Outcome {
        self.friends.remove(&(owner, friend));
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::FRIEND_DELETED, owner, friend);
        outcome
    }

    pub(super) fn block(&mut self, owner: User, other: User) -> Outcome {
        if !self.blacks.insert((owner, other)) {
            return Outcome::refused(FAILED);
        }
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::BLACK_ADDED, owner, other);
        outcome
    }

    pub(super) fn unblock(&mut self, owner: User, other: User) -> Outcome {
        self.blacks.remove(&(owner, other));
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::BLACK_DELETED, owner, other);
        outcome
    }
}
