//! What users do, at random.

use super::device::{Device, PLATFORMS, USERS, User};
use super::expected::{State, group_id, kind};
use super::list::Wanted;
use crate::random::Random;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chat {
    Pair(User),
    Group(String),
}

/// How somebody wants to come into a group.
pub(super) const ADMISSIONS: usize = 3;

#[derive(Debug, Clone)]
pub(super) enum Action {
    LogIn(Device),
    Cut(Device),
    Return(Device),
    ReturnStale(Device),
    ForceLogout(Device),
    Restart,
    Pass(i64),
    /// Messages of different devices, sent side by side.
    Send(Vec<Device>, Chat),
    /// A message of some type that carries another one of the chat.
    Carry {
        device: Device,
        chat: Chat,
        kind: i32,
        seq: i64,
    },
    /// The last message of a device once more.
    Repeat(Device),
    Revoke {
        by: User,
        conversation: String,
        seq: i64,
    },
    Delete {
        by: User,
        conversation: String,
        seq: i64,
        everybody: bool,
    },
    Clear {
        by: User,
        conversation: String,
        everybody: bool,
    },
    ClearAll(User),
    /// Takes a conversation off the list.
    Remove {
        by: User,
        conversation: String,
    },
    /// Sets how a conversation is in the list.
    Set {
        by: User,
        chat: Chat,
        wanted: Wanted,
    },
    /// A device brings its copies of the lists up to date.
    Sync(Device),
    /// A device loses what it has.
    Forget(Device),
    Read {
        by: User,
        conversation: String,
        seq: i64,
    },
    AskFriend {
        from: User,
        to: User,
    },
    AnswerFriend {
        from: User,
        to: User,
        agree: bool,
    },
    RemoveFriend {
        owner: User,
        friend: User,
    },
    Block {
        owner: User,
        other: User,
    },
    Unblock {
        owner: User,
        other: User,
    },
    CreateGroup {
        owner: User,
        members: Vec<User>,
        admission: i32,
        quiet: bool,
    },
    Invite {
        by: User,
        group: String,
        user: User,
        quiet: bool,
    },
    Join {
        group: String,
        user: User,
    },
    AnswerJoin {
        by: User,
        group: String,
        user: User,
        agree: bool,
    },
    Kick {
        by: User,
        group: String,
        user: User,
        quiet: bool,
    },
    Quit {
        group: String,
        user: User,
    },
    Transfer {
        by: User,
        group: String,
        to: User,
    },
    Dismiss {
        by: User,
        group: String,
        quiet: bool,
    },
    Rank {
        by: User,
        group: String,
        user: User,
        admin: bool,
    },
    MuteMember {
        by: User,
        group: String,
        user: User,
        seconds: u32,
    },
    UnmuteMember {
        by: User,
        group: String,
        user: User,
    },
    MuteGroup {
        by: User,
        group: String,
        on: bool,
    },
}

/// Chooses what is done next.
pub(super) fn choose(random: &mut Random, state: &State, paused: bool) -> Action {
    let user = |random: &mut Random| User(random.below(USERS));
    match random.below(100) {
        0..=24 => send(random, state),
        25..=27 => match online(random, state) {
            Some(device) => Action::Repeat(device),
            None => Action::LogIn(any_device(random)),
        },
        28..=33 => connection(random, state, paused),
        34..=47 => message(random, state),
        48..=57 => relation(random),
        58 => Action::Restart,
        59..=61 if paused => Action::Pass(random.below(8_000) as i64),
        59..=69 => of_list(random, state),
        70..=73 => Action::Sync(any_device(random)),
        _ => {
            let groups: Vec<&String> = state.groups.keys().collect();
            if groups.len() < 4 && random.once_in(6) || groups.is_empty() {
                let owner = user(random);
                let mut members: Vec<User> = User::all().collect();
                members.retain(|member| *member != owner && random.once_in(2));
                let (admission, quiet) = (random.below(ADMISSIONS) as i32, random.once_in(4));
                return Action::CreateGroup { owner, members, admission, quiet };
            }
            let group = groups[random.below(groups.len())].clone();
            let (by, user) = (user(random), user(random));
            in_group(random, state, by, group, user, paused)
        }
    }
}

/// What somebody often does next.
pub(super) fn follow(random: &mut Random, state: &State, action: &Action) -> Option<Action> {
    match action {
        Action::Kick { group, user, .. } | Action::Quit { group, user } => {
            let leaves = !state.is_member(*user, group) && random.once_in(3);
            leaves.then(|| Action::Remove { by: *user, conversation: group_id(group) })
        }
        Action::Carry { device, chat, seq, .. } => {
            // What was carried is taken back.
            let conversation = chat.conversation(device.user);
            let entry = state.logs.get(&conversation)?.entry(*seq)?;
            let by = entry.sender.filter(|_| random.once_in(3))?;
            let seq = *seq;
            Some(if random.once_in(3) {
                Action::Delete { by, conversation, seq, everybody: true }
            } else {
                Action::Revoke { by, conversation, seq }
            })
        }
        Action::Remove { by, conversation } => {
            let group = conversation.strip_prefix("sg_")?;
            let outside = !state.is_member(*by, group) && random.once_in(2);
            let inviter = state.members(group).first().copied().filter(|_| outside)?;
            let (group, quiet) = (group.to_owned(), random.once_in(2));
            Some(Action::Invite { by: inviter, group, user: *by, quiet })
        }
        _ => None,
    }
}

fn any_device(random: &mut Random) -> Device {
    let user = User(random.below(USERS));
    Device { user, platform: PLATFORMS[random.below(PLATFORMS.len())] }
}

fn online(random: &mut Random, state: &State) -> Option<Device> {
    let online: Vec<Device> = state.online().collect();
    (!online.is_empty()).then(|| online[random.below(online.len())])
}

fn other(random: &mut Random, user: User) -> User {
    User((user.0 + 1 + random.below(USERS - 1)) % USERS)
}

fn any_chat(random: &mut Random, state: &State, user: User) -> Chat {
    let groups: Vec<&String> = state.groups.keys().collect();
    if groups.is_empty() || random.once_in(2) {
        return Chat::Pair(other(random, user));
    }
    Chat::Group(groups[random.below(groups.len())].clone())
}

fn send(random: &mut Random, state: &State) -> Action {
    let Some(first) = online(random, state) else { return Action::LogIn(any_device(random)) };
    let chat = any_chat(random, state, first.user);
    if random.once_in(3) {
        let conversation = chat.conversation(first.user);
        let seq = state.newest(&conversation) - random.below(6) as i64;
        let carries = state.quotable(first.user, &conversation, seq).is_some();
        let kind = [kind::QUOTE, kind::AT, kind::MERGE][random.below(3)];
        // Only in a group somebody is mentioned.
        if carries && (kind != kind::AT || matches!(chat, Chat::Group(_))) {
            return Action::Carry { device: first, chat, kind, seq };
        }
    }
    let mut devices = vec![first];
    if matches!(chat, Chat::Group(_)) && random.once_in(3) {
        devices = state.online().filter(|_| !random.once_in(3)).collect();
        if devices.is_empty() {
            devices.push(first);
        }
    }
    Action::Send(devices, chat)
}

fn connection(random: &mut Random, state: &State, paused: bool) -> Action {
    let device = any_device(random);
    match random.below(8) {
        0..=2 => Action::LogIn(device),
        3 if state.is_online(device) => Action::Cut(device),
        4 => Action::ForceLogout(device),
        5 => Action::ReturnStale(device),
        6 if paused => Action::Pass(random.below(3_000) as i64),
        _ if state.is_online(device) => Action::Cut(device),
        _ => Action::Return(device),
    }
}

fn message(random: &mut Random, state: &State) -> Action {
    let chats: Vec<(&String, i64)> = state.chats().filter(|(_, newest)| *newest > 0).collect();
    if chats.is_empty() {
        return Action::Restart;
    }
    let (conversation, newest) = chats[random.below(chats.len())];
    let conversation = conversation.clone();
    // Mostly the newest, sometimes any, sometimes one that is not there.
    let seq = match random.below(4) {
        0 => random.below(newest as usize + 2) as i64,
        _ => newest - random.below(5) as i64,
    };
    let seq = seq.max(1);
    let by = state.anybody_in(&conversation, random);
    let everybody = random.once_in(3);
    match random.below(8) {
        0..=2 => Action::Revoke { by, conversation, seq },
        3..=4 => Action::Delete { by, conversation, seq, everybody },
        5 if random.once_in(2) => Action::Clear { by, conversation, everybody },
        _ => Action::Read { by, conversation, seq },
    }
}

/// What somebody does to the own list of conversations.
fn of_list(random: &mut Random, state: &State) -> Action {
    let by = User(random.below(USERS));
    let chats: Vec<String> = state.chats().map(|(id, _)| id.clone()).collect();
    match random.below(12) {
        0..=5 if !chats.is_empty() => {
            let conversation = chats[random.below(chats.len())].clone();
            let by = state.anybody_in(&conversation, random);
            Action::Remove { by, conversation }
        }
        6 => Action::ClearAll(by),
        7 => Action::Forget(any_device(random)),
        _ => {
            let wanted = match random.below(3) {
                0 => Wanted { pinned: Some(random.once_in(2)), receive: None },
                1 => Wanted { pinned: Some(true), receive: Some(random.below(3) as i32) },
                _ => Wanted { pinned: None, receive: Some(2 * random.below(2) as i32) },
            };
            Action::Set { by, chat: any_chat(random, state, by), wanted }
        }
    }
}

fn relation(random: &mut Random) -> Action {
    let from = User(random.below(USERS));
    let to = other(random, from);
    match random.below(10) {
        0..=2 => Action::AskFriend { from, to },
        3..=5 => Action::AnswerFriend { from, to, agree: !random.once_in(3) },
        6 => Action::RemoveFriend { owner: from, friend: to },
        7 => Action::Block { owner: from, other: to },
        _ => Action::Unblock { owner: from, other: to },
    }
}

fn in_group(
    random: &mut Random,
    state: &State,
    by: User,
    group: String,
    user: User,
    paused: bool,
) -> Action {
    let quiet = random.once_in(3);
    // Half of the time somebody acts who may.
    let by = match state.members(&group).first() {
        Some(owner) if random.once_in(2) => *owner,
        _ => by,
    };
    match random.below(22) {
        0..=4 => Action::Invite { by, group, user, quiet },
        5..=7 => Action::Join { group, user },
        8..=10 => Action::AnswerJoin { by, group, user, agree: !random.once_in(3) },
        11..=12 => Action::Kick { by, group, user, quiet },
        13 => Action::Quit { group, user },
        14 => Action::Transfer { by, group, to: user },
        15 if random.once_in(6) => Action::Dismiss { by, group, quiet },
        15..=17 => Action::Rank { by, group, user, admin: random.once_in(2) },
        18 => {
            let seconds = if paused { 1 + random.below(20) as u32 } else { 3_600 };
            Action::MuteMember { by, group, user, seconds }
        }
        19 => Action::UnmuteMember { by, group, user },
        _ => Action::MuteGroup { by, group, on: random.once_in(2) },
    }
}
