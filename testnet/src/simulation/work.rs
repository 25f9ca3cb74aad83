//! What users do and what fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use federation::transport::simulated::Network;
use futures_util::future::join_all;
use proto::group::{
    CreateGroupReq, InviteUserToGroupReq, KickGroupMemberReq, QuitGroupReq, SetGroupInfoReq,
};
use proto::msg::RevokeMsgReq;
use proto::relation::{ApplyToAddFriendReq, DeleteFriendReq, RespondFriendApplyReq};
use proto::sdkws::{GroupInfo, GroupInfoForSet, MsgData};
use services::{Caller, Services};
use tokio::time::Instant;

use super::organisation::Organisation;
use super::sight::{Copy, Removed};
use crate::Result;
use crate::random::Random;

/// Users of each organisation.
const USERS: usize = 2;
/// Longest pause after an action, in milliseconds.
pub(super) const PAUSE_MS: usize = 400;
/// Actions after one of which somebody looks at the own lists.
const LOOK_ONCE_IN: usize = 4;
/// Farthest that a clock is off, in milliseconds.
pub(super) const SKEW_MS: usize = 4_000;
/// Time that everything gets to arrive when all links are whole again.
pub(super) const SETTLES: Duration = Duration::from_secs(1_800);

/// A user: the organisation and the number within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct User {
    pub(super) node: usize,
    pub(super) number: usize,
}

impl User {
    /// The ID at the user's own node.
    pub(super) fn id(self) -> String {
        format!("u{}{}", self.node, self.number)
    }

    /// The ID as clients of `node` see it.
    pub(super) fn id_at(self, node: usize) -> String {
        if node == self.node {
            return self.id();
        }
        format!("{}@node{}_example", self.id(), self.node)
    }
}

/// A group: where its home is, and its ID there.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) home: usize,
    pub(super) id: String,
}

impl Group {
    /// The ID as clients of `node` see it.
    pub(super) fn id_at(&self, node: usize) -> String {
        if node == self.home {
            return self.id.clone();
        }
        format!("{}@node{}_example", self.id, self.home)
    }
}

/// A message that was sent, and whether it was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) client_msg_id: String,
    pub(super) acknowledged: bool,
}

pub(super) struct World {
    pub(super) nodes: Vec<Organisation>,
    pub(super) network: Network,
    pub(super) random: Random,
    trace: bool,
    /// Messages of chats of two, by sender and receiver, in the order of sending.
    pub(super) chats: BTreeMap<(User, User), Vec<Sent>>,
    pub(super) groups: Vec<Group>,
    /// Messages to groups, by group and sender, in the order of sending.
    pub(super) said: BTreeMap<(usize, User), Vec<Sent>>,
    /// Who left a group or was thrown out at some time: what such a user says may be refused when it
    /// arrives.
    pub(super) unsteady: BTreeSet<(usize, User)>,
    /// What a device of each user has of the conversations.
    pub(super) copies: BTreeMap<User, Copy>,
    /// Conversations that users took off their lists, by their IDs there.
    pub(super) removed: BTreeMap<(User, String), Removed>,
    /// Messages that users deleted for themselves.
    pub(super) deleted: BTreeSet<(User, String, i64)>,
    next_message: u64,
}

impl World {
    pub(super) async fn start(seed: u64, count: usize, trace: bool) -> Result<Self> {
        let network = Network::default();
        let began = Instant::now();
        let mut nodes = Vec::new();
        for index in 0..count {
            let mut node = Organisation::new(index, seed, began, &network)?;
            node.start().await?;
            let users = (0..USERS).map(|number| User { node: index, number }.id());
            node.register(&users.collect::<Vec<_>>()).await?;
            nodes.push(node);
        }
        for from in &nodes {
            for to in nodes.iter().filter(|to| to.domain != from.domain) {
                from.trust(to).await?;
            }
        }
        let random = Random::new(seed);
        Ok(Self {
            nodes,
            network,
            random,
            trace,
            chats: BTreeMap::new(),
            groups: Vec::new(),
            said: BTreeMap::new(),
            unsteady: BTreeSet::new(),
            copies: BTreeMap::new(),
            removed: BTreeMap::new(),
            deleted: BTreeSet::new(),
            next_message: 0,
        })
    }

    pub(super) fn acknowledged(&self) -> usize {
        let sent = self.chats.values().chain(self.said.values()).flatten();
        sent.filter(|sent| sent.acknowledged).count()
    }

    pub(super) fn users(&self) -> Vec<User> {
        let nodes = 0..self.nodes.len();
        nodes.flat_map(|node| (0..USERS).map(move |number| User { node, number })).collect()
    }

    pub(super) fn any_user(&mut self) -> User {
        let node = self.random.below(self.nodes.len());
        User { node, number: self.random.below(USERS) }
    }

    fn any_pair(&mut self) -> (User, User) {
        let from = self.any_user();
        loop {
            let to = self.any_user();
            if to != from {
                return (from, to);
            }
        }
    }

    pub(super) fn caller(user: User) -> Caller {
        Caller {
            user_id: user.id(),
            platform_id: 5,
            operation_id: "simulation".into(),
            is_admin: false,
        }
    }

    #[expect(clippy::print_stdout, reason = "asked for")]
    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{}", what());
        }
    }

    /// The services of a user's node, if it runs.
    pub(super) fn services(&self, user: User) -> Option<Services> {
        self.nodes.get(user.node).and_then(|node| node.services().ok()).cloned()
    }

    /// Does one thing, and lets some time pass.
    pub(super) async fn step(&mut self) -> Result {
        match self.random.below(100) {
            0..34 => self.chat().await,
            34..50 => self.talk_in_group().await,
            50..58 => self.tidy_up().await?,
            58..64 => self.ask_friend().await,
            64..70 => self.answer_friend().await,
            70..72 => self.delete_friend().await,
            72..75 => self.make_group().await,
            75..80 => self.change_members().await,
            80..82 => self.rename_group().await,
            82..84 => self.revoke().await,
            84..92 => self.break_link(),
            92..97 => self.restart().await?,
            _ => {
                let node = self.random.below(self.nodes.len());
                let ahead = self.random.below(2 * SKEW_MS) as i64 - SKEW_MS as i64;
                self.note(|| format!("clock of {node} is {ahead} ms ahead"));
                self.nodes[node].set_ahead(ahead);
            }
        }
        let pause = self.random.below(PAUSE_MS) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.random.once_in(LOOK_ONCE_IN) {
            let user = self.any_user();
            self.check_lists(user).with_context(|| format!("{user:?}"))?;
        }
        Ok(())
    }

    fn message(&mut self, from: User) -> MsgData {
        self.next_message += 1;
        MsgData {
            send_id: from.id(),
            client_msg_id: format!("m{}", self.next_message),
            sender_platform_id: 5,
            session_type: 1,
            content_type: 101,
            content: format!("{{\"content\":\"{}\"}}", self.next_message).into_bytes().into(),
            status: 1,
            ..MsgData::default()
        }
    }

    /// Sends some messages one after the other, as a client does.
    async fn send(&self, from: User, messages: Vec<MsgData>) -> Vec<Sent> {
        let mut sent = Vec::new();
        for message in messages {
            let client_msg_id = message.client_msg_id.clone();
            let acknowledged = match self.services(from) {
                Some(services) => {
                    services.send_message(&Self::caller(from), message, None).await.is_ok()
                }
                None => false,
            };
            sent.push(Sent { client_msg_id, acknowledged });
        }
        sent
    }

    pub(super) async fn chat(&mut self) {
        let mut sends: Vec<(User, User, Vec<MsgData>)> = Vec::new();
        for _ in 0..=self.random.below(3) {
            let (from, to) = self.any_pair();
            if sends.iter().any(|(other, ..)| *other == from) {
                continue;
            }
            let count = 1 + self.random.below(4);
            let messages = (0..count).map(|_| {
                let message = self.message(from);
                MsgData { recv_id: to.id_at(from.node), ..message }
            });
            let messages: Vec<MsgData> = messages.collect();
            self.note(|| format!("{from:?} writes {count} to {to:?}"));
            sends.push((from, to, messages));
        }
        let this = &*self;
        let work = sends
            .into_iter()
            .map(|(from, to, messages)| async move { (from, to, this.send(from, messages).await) });
        for (from, to, sent) in join_all(work).await {
            self.chats.entry((from, to)).or_default().extend(sent);
        }
    }

    async fn talk_in_group(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        let group = self.random.below(self.groups.len());
        let mut sends: Vec<(User, MsgData)> = Vec::new();
        for _ in 0..=self.random.below(3) {
            let from = self.any_user();
            if sends.iter().any(|(other, _)| *other == from) {
                continue;
            }
            let mut message = self.message(from);
            message.session_type = 3;
            message.group_id = self.groups[group].id_at(from.node);
            self.note(|| format!("{from:?} says something in group {group}"));
            sends.push((from, message));
        }
        let this = &*self;
        let work = sends
            .into_iter()
            .map(|(from, message)| async move { (from, this.send(from, vec![message]).await) });
        for (from, sent) in join_all(work).await {
            self.said.entry((group, from)).or_default().extend(sent);
        }
    }

    async fn ask_friend(&mut self) {
        let (from, to) = self.any_pair();
        let Some(services) = self.services(from) else { return };
        let request = ApplyToAddFriendReq {
            from_user_id: from.id(),
            to_user_id: to.id_at(from.node),
            ..ApplyToAddFriendReq::default()
        };
        let done = services.add_friend(&Self::caller(from), request).await;
        self.note(|| format!("{from:?} asks {to:?}: {:?}", done.is_ok()));
    }

    async fn answer_friend(&mut self) {
        let (from, to) = self.any_pair();
        let Some(services) = self.services(to) else { return };
        let request = RespondFriendApplyReq {
            from_user_id: from.id_at(to.node),
            to_user_id: to.id(),
            handle_result: if self.random.once_in(4) { -1 } else { 1 },
            ..RespondFriendApplyReq::default()
        };
        let done = services.add_friend_response(&Self::caller(to), request).await;
        self.note(|| format!("{to:?} answers {from:?}: {:?}", done.is_ok()));
    }

    async fn delete_friend(&mut self) {
        let (owner, friend) = self.any_pair();
        let Some(services) = self.services(owner) else { return };
        let request =
            DeleteFriendReq { owner_user_id: owner.id(), friend_user_id: friend.id_at(owner.node) };
        let done = services.delete_friend(&Self::caller(owner), request).await;
        self.note(|| format!("{owner:?} deletes {friend:?}: {:?}", done.is_ok()));
    }

    async fn make_group(&mut self) {
        if self.groups.len() >= 4 {
            return;
        }
        let owner = self.any_user();
        let Some(services) = self.services(owner) else { return };
        let mut members: Vec<User> =
            self.users().into_iter().filter(|user| *user != owner).collect();
        members.retain(|_| self.random.once_in(2));
        let request = CreateGroupReq {
            owner_user_id: owner.id(),
            member_user_ids: members.iter().map(|user| user.id_at(owner.node)).collect(),
            group_info: Some(GroupInfo {
                group_name: "group".into(),
                group_type: 2,
                ..GroupInfo::default()
            }),
            ..CreateGroupReq::default()
        };
        let made = services.create_group(&Self::caller(owner), request).await;
        self.note(|| format!("{owner:?} makes a group with {members:?}: {:?}", made.is_ok()));
        if let Some(info) = made.ok().and_then(|made| made.group_info) {
            self.groups.push(Group { home: owner.node, id: info.group_id });
        }
    }

    async fn change_members(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        let at = self.random.below(self.groups.len());
        let group = self.groups[at].clone();
        let (actor, other) = self.any_pair();
        let Some(services) = self.services(actor) else { return };
        let (caller, group_id) = (Self::caller(actor), group.id_at(actor.node));
        let other_id = other.id_at(actor.node);
        // Sometimes the chat does not say it.
        let send_message = self.random.once_in(3).then_some(false);
        let done = match self.random.below(4) {
            0 => {
                self.unsteady.insert((at, actor));
                let request = QuitGroupReq { group_id, user_id: actor.id() };
                services.quit_group(&caller, request).await.is_ok()
            }
            1 => {
                self.unsteady.insert((at, other));
                let request = KickGroupMemberReq {
                    group_id,
                    kicked_user_ids: vec![other_id],
                    send_message,
                    ..KickGroupMemberReq::default()
                };
                services.kick_group(&caller, request).await.is_ok()
            }
            _ => {
                let id = group.id_at(other.node);
                if let Some(removed) = self.removed.get_mut(&(other, format!("sg_{id}"))) {
                    removed.asked_again = true;
                }
                let request = InviteUserToGroupReq {
                    group_id,
                    invited_user_ids: vec![other_id],
                    send_message,
                    ..InviteUserToGroupReq::default()
                };
                services.invite_user_to_group(&caller, request).await.is_ok()
            }
        };
        self.note(|| format!("{actor:?} changes group {at} about {other:?}: {done}"));
    }

    async fn rename_group(&mut self) {
        if self.groups.is_empty() {
            return;
        }
        let at = self.random.below(self.groups.len());
        let actor = self.any_user();
        let Some(services) = self.services(actor) else { return };
        let request = SetGroupInfoReq {
            group_info_for_set: Some(GroupInfoForSet {
                group_id: self.groups[at].id_at(actor.node),
                group_name: format!("name {}", self.random.below(1_000)),
                ..GroupInfoForSet::default()
            }),
        };
        let done = services.set_group_info(&Self::caller(actor), request).await;
        self.note(|| format!("{actor:?} renames group {at}: {}", done.is_ok()));
    }

    async fn revoke(&mut self) {
        let (from, to) = self.any_pair();
        let Some(services) = self.services(from) else { return };
        let mut pair = [from.id(), to.id_at(from.node)];
        pair.sort();
        let request = RevokeMsgReq {
            conversation_id: format!("si_{}_{}", pair[0], pair[1]),
            seq: 1 + self.random.below(10) as i64,
            user_id: from.id(),
        };
        let done = services.revoke_msg(&Self::caller(from), request).await;
        self.note(|| format!("{from:?} revokes a message to {to:?}: {}", done.is_ok()));
    }

    pub(super) fn break_link(&mut self) {
        let (a, b) = (self.random.below(self.nodes.len()), self.random.below(self.nodes.len()));
        if a == b {
            return;
        }
        let (from, to) = (self.nodes[a].key, self.nodes[b].key);
        match self.random.below(4) {
            0 => self.network.reset(from, to),
            1 => self.network.set_cut(from, to, true),
            _ => self.network.set_cut(from, to, false),
        }
        self.note(|| format!("the link of {a} and {b} changes"));
    }

    pub(super) async fn restart(&mut self) -> Result {
        let at = self.random.below(self.nodes.len());
        if self.nodes[at].is_running() {
            self.note(|| format!("node {at} ends"));
            self.nodes[at].kill();
        } else {
            self.note(|| format!("node {at} starts"));
            self.nodes[at].start().await?;
        }
        Ok(())
    }

    /// Starts every node that does not run, and mends every link.
    pub(super) async fn reconnect(&mut self) -> Result {
        for node in &mut self.nodes {
            node.set_ahead(0);
            if !node.is_running() {
                node.start().await?;
            }
        }
        for a in &self.nodes {
            for b in &self.nodes {
                self.network.set_cut(a.key, b.key, false);
            }
        }
        Ok(())
    }

    /// Makes everything whole and waits until all has arrived.
    pub(super) async fn heal(&mut self) -> Result {
        self.reconnect().await?;
        let began = Instant::now();
        loop {
            let mut waiting = Vec::new();
            for node in &self.nodes {
                for peer in node.federation()?.peers()? {
                    if peer.queued > 0 {
                        waiting.push(format!(
                            "{} -> {}: {} queued, {:?}",
                            node.domain, peer.domain, peer.queued, peer.last_error
                        ));
                    }
                }
            }
            if waiting.is_empty() {
                break;
            }
            ensure!(began.elapsed() < SETTLES, "events are stuck: {waiting:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // What follows from the last events, such as marks for everybody.
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(())
    }
}
