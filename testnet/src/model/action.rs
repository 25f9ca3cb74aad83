//! What users do, at random.

use super::device::{Device, PLATFORMS, USERS, User};
use super::expected::State;
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
    },
    Invite {
        by: User,
        group: String,
        user: User,
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
        0..=29 => send(random, state),
        30..=32 => match online(random, state) {
            Some(device) => Action::Repeat(device),
            None => Action::LogIn(any_device(random)),
        },
        33..=39 => connection(random, state, paused),
        40..=54 => message(random, state),
        55..=69 => relation(random),
        70 => Action::Restart,
        71..=73 if paused => Action::Pass(random.below(8_000) as i64),
        _ => {
            let groups: Vec<&String> = state.groups.keys().collect();
            if groups.len() < 4 && random.once_in(6) || groups.is_empty() {
                let owner = user(random);
                let mut members: Vec<User> = User::all().collect();
                members.retain(|member| *member != owner && random.once_in(2));
                let admission = random.below(ADMISSIONS) as i32;
                return Action::CreateGroup { owner, members, admission };
            }
            let group = groups[random.below(groups.len())].clone();
            let (by, user) = (user(random), user(random));
            in_group(random, by, group, user, paused)
        }
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

fn send(random: &mut Random, state: &State) -> Action {
    let Some(first) = online(random, state) else { return Action::LogIn(any_device(random)) };
    let groups: Vec<&String> = state.groups.keys().collect();
    let mut devices = vec![first];
    if groups.is_empty() || random.once_in(2) {
        let mut to = User(random.below(USERS));
        if to == first.user {
            to = User((to.0 + 1) % USERS);
        }
        return Action::Send(devices, Chat::Pair(to));
    }
    if random.once_in(3) {
        devices = state.online().filter(|_| !random.once_in(3)).collect();
        if devices.is_empty() {
            devices.push(first);
        }
    }
    Action::Send(devices, Chat::Group(groups[random.below(groups.len())].clone()))
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
    let chats: Vec<(&String, i64)> = state.chats().collect();
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

fn relation(random: &mut Random) -> Action {
    let from = User(random.below(USERS));
    let to = User((from.0 + 1 + random.below(USERS - 1)) % USERS);
    match random.below(10) {
        0..=2 => Action::AskFriend { from, to },
        3..=5 => Action::AnswerFriend { from, to, agree: !random.once_in(3) },
        6 => Action::RemoveFriend { owner: from, friend: to },
        7 => Action::Block { owner: from, other: to },
        _ => Action::Unblock { owner: from, other: to },
    }
}

fn in_group(random: &mut Random, by: User, group: String, user: User, paused: bool) -> Action {
    match random.below(22) {
        0..=4 => Action::Invite { by, group, user },
        5..=7 => Action::Join { group, user },
        8..=10 => Action::AnswerJoin { by, group, user, agree: !random.once_in(3) },
        11..=12 => Action::Kick { by, group, user },
        13 => Action::Quit { group, user },
        14 => Action::Transfer { by, group, to: user },
        15 if random.once_in(3) => Action::Dismiss { by, group },
        15..=17 => Action::Rank { by, group, user, admin: random.once_in(2) },
        18 => {
            let seconds = if paused { 1 + random.below(20) as u32 } else { 3_600 };
            Action::MuteMember { by, group, user, seconds }
        }
        19 => Action::UnmuteMember { by, group, user },
        _ => Action::MuteGroup { by, group, on: random.once_in(2) },
    }
}
