//! Playing one seed: act, compare, act again.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use proto::sdkws::MsgData;
use serde_json::{Value, json};

use super::action::{Action, Chat, choose};
use super::device::{Device, USERS, User};
use super::expected::{Outcome, Seen, Shown, State, kind};
use super::world::{Arrival, World};
use crate::Result;
use crate::random::Random;

/// Actions between two looks at everything that can be read.
const LOOK_EVERY: usize = 40;
/// Status of a message that is gone.
const GONE: i32 = 4;

/// Plays a seed of `steps` actions; an error says where the world and the model part.
pub(super) async fn play<W: World>(world: W, seed: u64, steps: usize, trace: bool) -> Result {
    let mut player = Player {
        world,
        state: State::default(),
        random: Random::new(seed),
        messages: 0,
        groups: 0,
        last: BTreeMap::new(),
    };
    for step in 0..steps {
        let action = choose(&mut player.random, &player.state, W::PAUSED);
        if trace {
            say(&format!("{step}: {action:?}"));
        }
        let done = player.act(&action).await;
        done.with_context(|| format!("step {step}, {action:?}"))?;
        if (step + 1) % LOOK_EVERY == 0 || step + 1 == steps {
            player.look().await.with_context(|| format!("looking after step {step}"))?;
        }
    }
    player.world.end().await
}

#[expect(clippy::print_stdout, reason = "asked for with --trace")]
fn say(line: &str) {
    println!("{line}");
}

struct Player<W> {
    world: W,
    state: State,
    random: Random,
    messages: u64,
    groups: u64,
    /// The last message of each device, and where it went.
    last: BTreeMap<Device, (MsgData, Chat)>,
}

impl<W: World> Player<W> {
    async fn act(&mut self, action: &Action) -> Result {
        // Time passes in any case; nothing may depend on two things having the same.
        let ms = 1 + self.random.below(40) as i64;
        self.world.pass(ms);
        self.state.now += ms;
        let outcome = match action {
            Action::Send(devices, to) => return self.send(devices, to).await,
            Action::Repeat(device) => {
                let Some((message, to)) = self.last.get(device).cloned() else { return Ok(()) };
                return self.deliver(vec![(*device, message)], &to).await;
            }
            Action::Pass(ms) => {
                self.world.pass(*ms);
                self.state.now += ms;
                Outcome::default()
            }
            Action::LogIn(device) => {
                if !self.world.log_in(*device).await? {
                    self.state.cut(*device);
                }
                self.state.log_in(*device)
            }
            Action::Cut(device) => {
                self.world.cut(*device).await?;
                self.state.cut(*device);
                Outcome::default()
            }
            Action::Return(device) => {
                let back = self.world.connect(*device).await?;
                let counts = self.state.comes_back(*device);
                ensure!(back == counts, "connected: {back} instead of {counts}");
                Outcome::default()
            }
            Action::ReturnStale(device) => {
                let back = self.world.connect_stale(*device).await?;
                ensure!(back != Some(true), "an old token connects");
                Outcome::default()
            }
            Action::ForceLogout(device) => {
                self.world.force_logout(*device).await?;
                self.state.force_logout(*device)
            }
            Action::Restart => {
                self.world.restart().await?;
                self.state.restart();
                Outcome::default()
            }
            action => return self.call(action).await,
        };
        self.compare(&outcome).await
    }

    /// Carries out what is a call of the REST API.
    async fn call(&mut self, action: &Action) -> Result {
        let (by, path, body) = self.request(action)?;
        let (code, data) = self.world.call(by, path, body).await?;
        let outcome = self.expect(action);
        ensure!(code == outcome.code, "code {code} instead of {}: {data}", outcome.code);
        self.compare(&outcome).await
    }

    fn request(&mut self, action: &Action) -> Result<(User, &'static str, Value)> {
        use Action as A;
        let id = |user: &User| user.id();
        Ok(match action {
            A::Revoke { by, conversation, seq } => (
                *by,
                "/msg/revoke_msg",
                json!({ "userID": id(by), "conversationID": conversation, "seq": seq }),
            ),
            A::Delete { by, conversation, seq, everybody } => (
                *by,
                "/msg/delete_msgs",
                json!({
                    "userID": id(by), "conversationID": conversation, "seqs": [seq],
                    "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": everybody },
                }),
            ),
            A::Clear { by, conversation, everybody } => (
                *by,
                "/msg/clear_conversation_msg",
                json!({
                    "userID": id(by), "conversationIDs": [conversation],
                    "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": everybody },
                }),
            ),
            A::Read { by, conversation, seq } => (
                *by,
                "/msg/mark_conversation_as_read",
                json!({ "userID": id(by), "conversationID": conversation, "hasReadSeq": seq }),
            ),
            A::AskFriend { from, to } => (
                *from,
                "/friend/add_friend",
                json!({ "fromUserID": id(from), "toUserID": id(to), "reqMsg": "" }),
            ),
            A::AnswerFriend { from, to, agree } => (
                *to,
                "/friend/add_friend_response",
                json!({
                    "fromUserID": id(from), "toUserID": id(to), "handleMsg": "",
                    "handleResult": if *agree { 1 } else { -1 },
                }),
            ),
            A::RemoveFriend { owner, friend } => (
                *owner,
                "/friend/delete_friend",
                json!({ "ownerUserID": id(owner), "friendUserID": id(friend) }),
            ),
            A::Block { owner, other } => (
                *owner,
                "/friend/add_black",
                json!({ "ownerUserID": id(owner), "blackUserID": id(other) }),
            ),
            A::Unblock { owner, other } => (
                *owner,
                "/friend/remove_black",
                json!({ "ownerUserID": id(owner), "blackUserID": id(other) }),
            ),
            A::CreateGroup { owner, members, admission } => (
                *owner,
                "/group/create_group",
                json!({
                    "ownerUserID": id(owner),
                    "memberUserIDs": members.iter().map(id).collect::<Vec<_>>(),
                    "groupInfo": {
                        "groupID": self.new_group(), "groupName": "g", "groupType": 2,
                        "needVerification": admission,
                    },
                }),
            ),
            A::Invite { by, group, user } => (
                *by,
                "/group/invite_user_to_group",
                json!({ "groupID": group, "invitedUserIDs": [id(user)], "reason": "" }),
            ),
            A::Join { group, user } => (
                *user,
                "/group/join_group",
                json!({
                    "groupID": group, "inviterUserID": id(user), "joinSource": 3,
                    "reqMessage": "",
                }),
            ),
            A::AnswerJoin { by, group, user, agree } => (
                *by,
                "/group/group_application_response",
                json!({
                    "groupID": group, "fromUserID": id(user), "handledMsg": "",
                    "handleResult": if *agree { 1 } else { -1 },
                }),
            ),
            A::Kick { by, group, user } => (
                *by,
                "/group/kick_group",
                json!({ "groupID": group, "kickedUserIDs": [id(user)], "reason": "" }),
            ),
            A::Quit { group, user } => {
                (*user, "/group/quit_group", json!({ "groupID": group, "userID": id(user) }))
            }
            A::Transfer { by, group, to } => (
                *by,
                "/group/transfer_group",
                json!({ "groupID": group, "oldOwnerUserID": id(by), "newOwnerUserID": id(to) }),
            ),
            A::Dismiss { by, group } => (*by, "/group/dismiss_group", json!({ "groupID": group })),
            A::Rank { by, group, user, admin } => (
                *by,
                "/group/set_group_member_info",
                json!({ "members": [{
                    "groupID": group, "userID": id(user),
                    "roleLevel": if *admin { 60 } else { 20 },
                }] }),
            ),
            A::MuteMember { by, group, user, seconds } => (
                *by,
                "/group/mute_group_member",
                json!({ "groupID": group, "userID": id(user), "mutedSeconds": seconds }),
            ),
            A::UnmuteMember { by, group, user } => (
                *by,
                "/group/cancel_mute_group_member",
                json!({ "groupID": group, "userID": id(user) }),
            ),
            A::MuteGroup { by, group, on: true } => {
                (*by, "/group/mute_group", json!({ "groupID": group }))
            }
            A::MuteGroup { by, group, on: false } => {
                (*by, "/group/cancel_mute_group", json!({ "groupID": group }))
            }
            other => bail!("{other:?} is no call"),
        })
    }

    fn new_group(&mut self) -> String {
        self.groups += 1;
        format!("g{}", self.groups)
    }

    fn expect(&mut self, action: &Action) -> Outcome {
        use Action as A;
        let state = &mut self.state;
        match action {
            A::Revoke { by, conversation, seq } => state.revoke(*by, conversation, *seq),
            A::Delete { by, conversation, seq, everybody } => {
                state.delete(*by, conversation, *seq, *everybody)
            }
            A::Clear { by, conversation, everybody } => state.clear(*by, conversation, *everybody),
            A::Read { by, conversation, seq } => state.read(*by, conversation, *seq),
            A::AskFriend { from, to } => state.ask_friend(*from, *to),
            A::AnswerFriend { from, to, agree } => state.answer_friend(*from, *to, *agree),
            A::RemoveFriend { owner, friend } => state.remove_friend(*owner, *friend),
            A::Block { owner, other } => state.block(*owner, *other),
            A::Unblock { owner, other } => state.unblock(*owner, *other),
            A::CreateGroup { owner, members, admission } => {
                state.create_group(&format!("g{}", self.groups), *owner, members, *admission)
            }
            A::Invite { by, group, user } => state.invite(*by, group, *user),
            A::Join { group, user } => state.join(group, *user),
            A::AnswerJoin { by, group, user, agree } => {
                state.answer_join(*by, group, *user, *agree)
            }
            A::Kick { by, group, user } => state.kick(*by, group, *user),
            A::Quit { group, user } => state.quit(group, *user),
            A::Transfer { by, group, to } => state.transfer(*by, group, *to),
            A::Dismiss { by, group } => state.dismiss(*by, group),
            A::Rank { by, group, user, admin } => state.rank(*by, group, *user, *admin),
            A::MuteMember { by, group, user, seconds } => {
                state.mute_member(*by, group, *user, Some(*seconds))
            }
            A::UnmuteMember { by, group, user } => state.mute_member(*by, group, *user, None),
            A::MuteGroup { by, group, on } => state.mute_group(*by, group, *on),
            _ => Outcome::default(),
        }
    }

    /// Sends a new message from each device.
    async fn send(&mut self, devices: &[Device], to: &Chat) -> Result {
        let mut messages = Vec::new();
        for device in devices {
            self.messages += 1;
            let number = self.messages;
            let mut message = MsgData {
                send_id: device.user.id(),
                sender_platform_id: device.platform,
                client_msg_id: format!("{number:032x}"),
                session_type: 1,
                msg_from: 100,
                content_type: kind::TEXT,
                content: json!({ "content": format!("text {number}") }).to_string().into(),
                create_time: 1,
                status: 1,
                ..MsgData::default()
            };
            match to {
                Chat::Pair(user) => message.recv_id = user.id(),
                Chat::Group(group) => {
                    message.group_id.clone_from(group);
                    message.session_type = 3;
                }
            }
            self.last.insert(*device, (message.clone(), to.clone()));
            messages.push((*device, message));
        }
        self.deliver(messages, to).await
    }

    async fn deliver(&mut self, messages: Vec<(Device, MsgData)>, to: &Chat) -> Result {
        for (device, _) in &messages {
            ensure!(self.state.is_online(*device), "{device} is not online");
        }
        let codes = self.world.send(messages.clone()).await?;
        let mut stored = Vec::new();
        for ((device, message), code) in messages.into_iter().zip(codes) {
            let wanted = self.state.may_send(device.user, to);
            ensure!(code == wanted, "{device}: code {code} instead of {wanted}");
            if code == 0 && !self.state.is_stored(&message.client_msg_id) {
                stored.push((device, message));
            }
        }
        // Sent side by side, they may be stored in any order: in the one that was told.
        let arrivals = self.world.settle().await?;
        let place = |id: &str| {
            let all = arrivals.iter().flat_map(|(_, arrivals)| arrivals);
            all.filter_map(|arrival| match arrival {
                Arrival::Message(_, message) if message.client_msg_id == id => Some(message.seq),
                _ => None,
            })
            .next()
        };
        stored.sort_by_key(|(_, message)| place(&message.client_msg_id));
        let mut outcome = Outcome::default();
        for (device, message) in stored {
            let text = text_of(&message);
            self.state.send(&mut outcome, device.user, to, &message.client_msg_id, &text);
        }
        self.compare_with(&outcome, arrivals)
    }

    async fn compare(&mut self, outcome: &Outcome) -> Result {
        let arrivals = self.world.settle().await?;
        self.compare_with(outcome, arrivals)
    }

    /// Compares what came to each device with what had to.
    fn compare_with(&self, outcome: &Outcome, arrivals: Vec<(Device, Vec<Arrival>)>) -> Result {
        let mut wanted: BTreeMap<Device, Vec<Seen>> = BTreeMap::new();
        for device in self.state.online() {
            let seen = outcome.seen.iter().filter(|(users, _)| users.contains(&device.user));
            wanted.insert(device, seen.map(|(_, seen)| seen.clone()).collect());
        }
        let mut came: BTreeMap<Device, Vec<Seen>> = BTreeMap::new();
        let mut kicked = Vec::new();
        for (device, arrivals) in arrivals {
            let seen = came.entry(device).or_default();
            for arrival in arrivals {
                match arrival {
                    Arrival::Message(conversation, message) => {
                        seen.push(seen_of(conversation, &message));
                    }
                    Arrival::Kicked => kicked.push(device),
                }
            }
        }
        ensure!(kicked == outcome.kicked, "kicked {kicked:?} instead of {:?}", outcome.kicked);
        came.retain(|device, seen| !seen.is_empty() || wanted.contains_key(device));
        for (device, wanted) in &mut wanted {
            let came = came.remove(device).unwrap_or_default();
            in_order(&came).with_context(|| device.to_string())?;
            let mut sorted = came;
            sorted.sort();
            wanted.sort();
            ensure!(sorted == *wanted, "{device} got {sorted:#?} instead of {wanted:#?}");
        }
        ensure!(came.is_empty(), "got by devices that are not there: {came:?}");
        Ok(())
    }

    /// Compares everything that can be read.
    async fn look(&mut self) -> Result {
        let chats: Vec<String> = self.state.chats().map(|(id, _)| id.clone()).collect();
        for user in User::all() {
            for chat in &chats {
                let messages = self.world.pull(user, chat).await?;
                let rising = messages.windows(2).all(|two| {
                    two[0].status == GONE
                        || two[1].status == GONE
                        || two[0].send_time < two[1].send_time
                });
                ensure!(rising, "{user}, {chat}: times do not rise");
                let wanted = self.state.view(user, chat);
                let mut shown: Vec<Shown> = messages.iter().map(shown_of).collect();
                for (shown, wanted) in shown.iter_mut().zip(&wanted) {
                    // What the node itself says has IDs of its own.
                    if wanted.client_msg_id.is_empty() {
                        shown.client_msg_id.clear();
                    }
                }
                ensure!(
                    shown == wanted,
                    "{user} reads in {chat}: {shown:#?} instead of {wanted:#?}"
                );
            }
            let reach = self.world.reach(user, &chats).await?;
            for (chat, reach) in chats.iter().zip(reach) {
                let wanted = self.state.reach(user, chat);
                ensure!(reach == wanted, "{user}, {chat}: {reach:?} instead of {wanted:?}");
            }
            self.look_at_lists(user).await?;
        }
        Ok(())
    }

    async fn look_at_lists(&mut self, user: User) -> Result {
        let body = json!({ "userID": user.id(), "idHash": 0 });
        let (_, data) = self.world.call(user, "/friend/get_full_friend_user_ids", body).await?;
        let wanted = self.state.friends.iter().filter(|(owner, _)| *owner == user);
        same("friends", user, &data["userIDs"], wanted.map(|(_, friend)| friend.id()))?;

        let page = json!({ "pageNumber": 1, "showNumber": USERS });
        let body = json!({ "userID": user.id(), "pagination": page });
        let (_, data) = self.world.call(user, "/friend/get_black_list", body).await?;
        let ids = data["blacks"].as_array().into_iter().flatten();
        let ids: Value = ids.map(|black| black["blackUserInfo"]["userID"].clone()).collect();
        let wanted = self.state.blacks.iter().filter(|(owner, _)| *owner == user);
        same("blocked", user, &ids, wanted.map(|(_, other)| other.id()))?;

        let body = json!({ "userID": user.id(), "idHash": 0 });
        let (_, data) = self.world.call(user, "/group/get_full_join_group_ids", body).await?;
        let groups: Vec<String> = self.state.groups.keys().cloned().collect();
        let joined: Vec<&String> =
            groups.iter().filter(|group| self.state.is_member(user, group)).collect();
        same("groups", user, &data["groupIDs"], joined.iter().map(|group| (*group).clone()))?;

        for group in joined {
            let path = "/group/get_full_group_member_user_ids";
            let body = json!({ "groupID": group, "idHash": 0 });
            let (_, data) = self.world.call(user, path, body).await?;
            let members = self.state.members(group);
            same("members", user, &data["userIDs"], members.iter().map(|user| user.id()))?;
        }
        Ok(())
    }
}

fn same(what: &str, user: User, found: &Value, wanted: impl Iterator<Item = String>) -> Result {
    let texts = found.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut found: Vec<String> = texts.map(str::to_owned).collect();
    found.sort();
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    ensure!(found == wanted, "{what} of {user}: {found:?} instead of {wanted:?}");
    Ok(())
}

/// Within each conversation, what has a seq must come in the order of the seqs.
fn in_order(seen: &[Seen]) -> Result {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for Seen { conversation, seq, .. } in seen.iter().filter(|seen| seen.seq != 0) {
        let before = last.insert(conversation, *seq).unwrap_or(0);
        ensure!(before < *seq, "{conversation}: seq {seq} came after {before}");
    }
    Ok(())
}

fn text_of(message: &MsgData) -> String {
    let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
    content["content"].as_str().unwrap_or_default().to_owned()
}

fn seen_of(conversation: String, message: &MsgData) -> Seen {
    let text = if message.content_type == kind::TEXT { text_of(message) } else { String::new() };
    Seen { conversation, seq: message.seq, kind: message.content_type, text }
}

fn shown_of(message: &MsgData) -> Shown {
    let text = match message.content_type {
        kind::TEXT => text_of(message),
        kind::REVOKED => revoker(message),
        _ => String::new(),
    };
    Shown {
        seq: message.seq,
        client_msg_id: message.client_msg_id.clone(),
        kind: message.content_type,
        text,
        gone: message.status == GONE,
        read: message.is_read,
    }
}

fn revoker(message: &MsgData) -> String {
    let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
    let detail = content["detail"].as_str().unwrap_or_default();
    let detail: Value = serde_json::from_str(detail).unwrap_or_default();
    detail["revokerID"].as_str().unwrap_or_default().to_owned()
}
