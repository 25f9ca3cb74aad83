//! Everything that users can read, held against what they may see.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::msg::{
    ConversationSeqs, GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq, GetSeqMessageReq,
};
use proto::sdkws::{GetMaxSeqReq, MsgData, PullMessageBySeqsReq, PullMsgs, SeqRange};
use serde_json::{Value, json};

use super::content::{GONE, shown_of};
use super::copy::get;
use super::device::{Device, PLATFORMS, USERS, User};
use super::expected::State;
use super::log::Record;
use super::play::Player;
use super::sight::{Reach, Shown, Window};
use super::world::World;
use crate::Result;

/// Order of a pull: newest first.
const DESCENDING: i32 = 1;

/// One of so many users looks, where not all do.
const LOOKS_ONE_IN: usize = 3;

/// What a row of a user's list of conversations shows.
type Row = (bool, i64, i64, i64);

fn row_of(record: &Record) -> Row {
    (record.pinned, i64::from(record.receive), record.floor, record.ceiling)
}

fn row_from(row: &Value) -> Row {
    let number = |name: &str| row[name].as_i64().unwrap_or_default();
    let pinned = row["isPinned"] == true;
    (pinned, number("recvMsgOpt"), number("minSeq"), number("maxSeq"))
}

impl<W: World> Player<W> {
    /// Users look at everything: all of them, or some.
    pub(super) async fn look(&mut self, all: bool) -> Result {
        for user in User::all() {
            if !all && !self.random.once_in(LOOKS_ONE_IN) {
                continue;
            }
            self.look_as(user).await.with_context(|| user.to_string())?;
            self.sync(Device { user, platform: PLATFORMS[0] }).await?;
        }
        self.look_as_admin().await
    }

    /// One user looks at the lists.
    pub(super) async fn peek(&mut self) -> Result {
        let user = User(self.random.below(USERS));
        self.look_at_conversations(user).await.with_context(|| user.to_string())
    }

    async fn look_as(&mut self, user: User) -> Result {
        self.look_at_conversations(user).await?;
        self.look_at_messages(user).await?;
        self.look_at_friends(user).await?;
        self.look_at_groups(user).await
    }

    /// Brings what a device has of the lists up to date: it must be what is there.
    pub(super) async fn sync(&mut self, device: Device) -> Result {
        let user = device.user;
        let copies = self.copies.entry(device).or_default();
        copies.sync(&mut self.world, user).await?;
        let rows = &copies.conversations.rows;
        let rows: BTreeMap<String, Row> =
            rows.iter().map(|(id, row)| (id.clone(), row_from(row))).collect();
        let wanted: BTreeMap<String, Row> =
            self.state.list(user).iter().map(|(id, record)| (id.clone(), row_of(record))).collect();
        ensure!(rows == wanted, "{device} has the conversations {rows:?} instead of {wanted:?}");
        let state = &self.state;
        for (what, rows, wanted) in [
            ("friends", &copies.friends.rows, ids_of(state.friends_of(user))),
            ("blocked users", &copies.blacks.rows, ids_of(state.blocked_by(user))),
            ("groups", &copies.groups.rows, state.groups_of(user)),
        ] {
            let rows: Vec<&String> = rows.keys().collect();
            let wanted: Vec<&String> = wanted.iter().collect();
            ensure!(rows == wanted, "{device} has the {what} {rows:?} instead of {wanted:?}");
        }
        for (group, copy) in &copies.members {
            let rows: BTreeMap<&String, i64> = copy
                .rows
                .iter()
                .map(|(id, row)| (id, row["roleLevel"].as_i64().unwrap_or_default()))
                .collect();
            let wanted = state.roles(group);
            let wanted: BTreeMap<&String, i64> = wanted.iter().map(|(id, r)| (id, *r)).collect();
            ensure!(rows == wanted, "{device} has in {group} {rows:?} instead of {wanted:?}");
        }
        Ok(())
    }

    async fn look_at_conversations(&mut self, user: User) -> Result {
        let listed = self.state.list(user);
        let wanted: BTreeMap<String, Row> =
            listed.iter().map(|(id, record)| (id.clone(), row_of(record))).collect();
        let chats: Vec<String> = self.state.chats().map(|(id, _)| id.clone()).collect();
        let page = json!({ "pageNumber": 1, "showNumber": 100 });
        let body = json!({
            "ownerUserID": user.id(), "userID": user.id(), "conversationIDs": chats,
            "pagination": page, "idHash": 0,
        });
        for route in ["get_all_conversations", "get_owner_conversation", "get_conversations"] {
            if route == "get_conversations" && chats.is_empty() {
                continue;
            }
            let path = format!("/conversation/{route}");
            let answer = get(&mut self.world, user, &path, body.clone()).await?;
            let rows = answer["conversations"].as_array().into_iter().flatten();
            let rows: BTreeMap<String, Row> =
                rows.map(|row| (text(&row["conversationID"]), row_from(row))).collect();
            ensure!(rows == wanted, "{route}: {rows:?} instead of {wanted:?}");
            if route == "get_owner_conversation" {
                ensure!(answer["total"] == wanted.len(), "{route}: total {}", answer["total"]);
            }
        }
        let path = "/conversation/get_full_conversation_ids";
        let answer = get(&mut self.world, user, path, body.clone()).await?;
        same(path, &answer["conversationIDs"], wanted.keys().cloned())?;
        let with = |fits: fn(&Record) -> bool| {
            let fitting = listed.iter().filter(move |(_, record)| fits(record));
            fitting.map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        for (route, wanted) in [
            ("get_pinned_conversation_ids", with(|record| record.pinned)),
            ("get_not_notify_conversation_ids", with(|record| record.receive == 2)),
        ] {
            let path = format!("/conversation/{route}");
            let answer = get(&mut self.world, user, &path, body.clone()).await?;
            same(route, &answer["conversationIDs"], wanted.into_iter())?;
        }
        if !chats.is_empty() {
            let id = &chats[self.random.below(chats.len())];
            let body = json!({ "ownerUserID": user.id(), "conversationID": id });
            let path = "/conversation/get_conversation";
            let (code, data) = self.world.call(user, path, body).await?;
            let row = (code == 0).then(|| row_from(&data["conversation"]));
            ensure!(row == wanted.get(id).copied(), "{path} {id}: {code} {data}");
        }
        self.look_at_sorted(user, &listed, body.clone()).await?;
        self.look_at_active(user, &listed, &chats).await?;
        self.look_at_seqs(user, &listed, &chats).await
    }

    /// The list with its last messages, as the REST API sorts it.
    async fn look_at_sorted(
        &mut self,
        user: User,
        listed: &[(String, Record)],
        mut body: Value,
    ) -> Result {
        let path = "/conversation/get_sorted_conversation_list";
        body["conversationIDs"] = json!([]);
        let (code, data) = self.world.call(user, path, body).await?;
        if listed.is_empty() {
            ensure!(code == 1004, "{path}: {code} {data}");
            return Ok(());
        }
        let rows = data["conversationElems"].as_array().cloned().unwrap_or_default();
        let order: Vec<String> = rows.iter().map(|row| text(&row["conversationID"])).collect();
        self.in_wanted_order(user, listed, &order).context(path)?;
        let (mut unread, mut spoken) = (0, 0);
        for row in &rows {
            let id = text(&row["conversationID"]);
            let reach = self.state.reach(user, &id);
            unread += reach.unread;
            spoken += i64::from(reach.max_seq > 0);
            ensure!(row["unreadCount"] == reach.unread, "{path}: {row} instead of {reach:?}");
            let info = &row["msgInfo"];
            let message = MsgData {
                client_msg_id: text(&info["clientMsgID"]),
                content_type: info["contentType"].as_i64().unwrap_or_default() as i32,
                content: text(&info["content"]).into(),
                ..MsgData::default()
            };
            let shown = (!info.is_null()).then_some(message);
            self.is_last(user, &id, shown.as_ref(), true).context(path)?;
        }
        let totals = (&data["conversationTotal"], &data["unreadTotal"]);
        ensure!(totals == (&json!(spoken), &json!(unread)), "{path}: {totals:?}");
        Ok(())
    }

    /// The list with its last messages, as the JS SDK asks for it.
    async fn look_at_active(
        &mut self,
        user: User,
        listed: &[(String, Record)],
        chats: &[String],
    ) -> Result {
        for path in ["/jssdk/get_active_conversations", "/jssdk/get_conversations"] {
            let body = json!({ "ownerUserID": user.id(), "count": 500, "conversationIDs": chats });
            let answer = get(&mut self.world, user, path, body).await?;
            let rows = answer["conversations"].as_array().cloned().unwrap_or_default();
            let id = |row: &Value| text(&row["conversation"]["conversationID"]);
            let order: Vec<String> = rows.iter().map(id).collect();
            let shown: Vec<(String, Record)> = listed
                .iter()
                .filter(|(id, _)| self.state.last(user, id).is_some())
                .cloned()
                .collect();
            if path.ends_with("active_conversations") {
                self.in_wanted_order(user, &shown, &order).context(path)?;
            } else {
                let wanted = shown.iter().map(|(id, _)| id.clone());
                same(path, &json!(order), wanted)?;
            }
            for row in &rows {
                let id = id(row);
                let record = listed.iter().find(|(other, _)| *other == id);
                let wanted = record.map(|(_, record)| row_of(record));
                ensure!(Some(row_from(&row["conversation"])) == wanted, "{path}: {row}");
                let reach = self.state.reach(user, &id);
                let read = row["readSeq"].as_i64().unwrap_or_default();
                let found = Reach {
                    max_seq: row["maxSeq"].as_i64().unwrap_or_default(),
                    unread: row["maxSeq"].as_i64().unwrap_or_default() - read,
                };
                ensure!(found == reach, "{path}, {id}: {found:?} instead of {reach:?}");
                let last = &row["lastMsg"];
                let number = |name: &str| last[name].as_i64().unwrap_or_default();
                let message = MsgData {
                    client_msg_id: text(&last["clientMsgID"]),
                    content_type: number("contentType") as i32,
                    content: STANDARD.decode(text(&last["content"]))?.into(),
                    seq: number("seq"),
                    status: number("status") as i32,
                    is_read: last["isRead"] == true,
                    ..MsgData::default()
                };
                self.is_last(user, &id, Some(&message), false).context(path)?;
            }
            let unread: i64 = listed.iter().map(|(id, _)| self.state.reach(user, id).unread).sum();
            ensure!(answer["unreadCount"] == unread, "{path}: {} unread", answer["unreadCount"]);
        }
        Ok(())
    }

    /// Pinned ones first, then those in which something was said last.
    fn in_wanted_order(&self, user: User, listed: &[(String, Record)], found: &[String]) -> Result {
        let state = &self.state;
        let key = |(id, record): &&(String, Record)| {
            let said = state.order(id, record, state.reach(user, id));
            (!record.pinned, std::cmp::Reverse(said), id.clone())
        };
        let mut wanted: Vec<&(String, Record)> = listed.iter().collect();
        wanted.sort_by_key(key);
        let mut wanted: Vec<String> = wanted.into_iter().map(|(id, _)| id.clone()).collect();
        let mut found = found.to_vec();
        if !W::PAUSED {
            // Real time may be the same for two.
            wanted.sort();
            found.sort();
        }
        ensure!(found == wanted, "{found:?} instead of {wanted:?}");
        Ok(())
    }

    /// Whether a message is the last that a conversation shows; `bare`: without seq and marks.
    fn is_last(&self, user: User, id: &str, message: Option<&MsgData>, bare: bool) -> Result {
        let wanted = self
            .state
            .last(user, id)
            .map(|last| if bare { Shown { seq: 0, read: false, ..last } } else { last });
        let named = wanted.as_ref().is_some_and(|wanted| !wanted.client_msg_id.is_empty());
        let shown = message.map(|message| shown_of(message, named));
        ensure!(shown == wanted, "{id} ends with {shown:?} instead of {wanted:?}");
        Ok(())
    }

    /// How far conversations go, and what was said last in them.
    async fn look_at_seqs(
        &mut self,
        user: User,
        listed: &[(String, Record)],
        chats: &[String],
    ) -> Result {
        let newest = self.world.ask(user, &GetMaxSeqReq { user_id: user.id() }).await?.max_seqs;
        let mut wanted =
            BTreeMap::from([(own_stream(user), self.state.stream(user, &own_stream(user)))]);
        for (id, _) in listed {
            wanted.insert(id.clone(), self.state.reach(user, id).max_seq);
            let stream = stream_beside(id);
            let reach = self.state.stream(user, &stream);
            wanted.insert(stream, reach);
        }
        wanted.retain(|_, newest| *newest > 0);
        let mut found = newest;
        // A stream may be there without its chat.
        found
            .retain(|id, newest| wanted.contains_key(id) || *newest != self.state.stream(user, id));
        ensure!(found == wanted, "1001: {found:?} instead of {wanted:?}");

        for named in [&[][..], chats] {
            let request = GetConversationsHasReadAndMaxSeqReq {
                user_id: user.id(),
                conversation_ids: named.to_vec(),
                return_pinned: true,
            };
            let answer = self.world.ask(user, &request).await?;
            let ids: Vec<String> = match named {
                [] => listed.iter().map(|(id, _)| id.clone()).collect(),
                named => named.to_vec(),
            };
            same("1006", &json!(answer.seqs.keys().collect::<Vec<_>>()), ids.iter().cloned())?;
            for id in ids {
                let seqs = answer.seqs.get(&id).cloned().unwrap_or_default();
                let unread = seqs.max_seq - seqs.has_read_seq;
                let found = Reach { max_seq: seqs.max_seq, unread };
                let wanted = self.state.reach(user, &id);
                ensure!(found == wanted, "1006: {id} {found:?} instead of {wanted:?}");
            }
            let pinned = listed.iter().filter(|(_, record)| record.pinned);
            let found = json!(answer.pinned_conversation_ids);
            same("1006, pinned", &found, pinned.map(|(id, _)| id.clone()))?;
        }
        let request = GetLastMessageReq { user_id: user.id(), conversation_ids: chats.to_vec() };
        let answer = self.world.ask(user, &request).await?;
        for id in chats {
            self.is_last(user, id, answer.msgs.get(id), false).context("1007")?;
        }
        Ok(())
    }

    /// What can be pulled of each conversation: all of it, a part, and by seqs.
    async fn look_at_messages(&mut self, user: User) -> Result {
        let chats: Vec<String> = self.state.chats().map(|(id, _)| id.clone()).collect();
        let whole = i64::from(i32::MAX);
        for part in [false, true] {
            let mut ranges = Vec::new();
            for id in &chats {
                let newest = self.state.newest(id) as usize;
                let (begin, length, num) = if part {
                    let most = self.random.below(newest + 2);
                    (self.random.below(newest + 2), self.random.below(newest + 2), most)
                } else {
                    (1, whole as usize, whole as usize)
                };
                let range = SeqRange {
                    conversation_id: id.clone(),
                    begin: begin as i64,
                    end: (begin + length) as i64,
                    num: num as i64,
                };
                ranges.push(range);
            }
            let order = if part { self.random.below(2) as i32 } else { 0 };
            let request =
                PullMessageBySeqsReq { user_id: user.id(), seq_ranges: ranges.clone(), order };
            let answer = self.world.ask(user, &request).await?;
            for range in &ranges {
                let id = &range.conversation_id;
                let pulled = answer.msgs.get(id);
                let wanted = in_range(&self.state, user, range, order);
                is_pulled(pulled, wanted).with_context(|| format!("1002, {range:?}, {order}"))?;
            }
        }
        let order = self.random.below(2) as i32;
        let mut asked = Vec::new();
        for id in &chats {
            let newest = self.state.newest(id) as usize;
            let mut seqs = Vec::new();
            for _ in 0..self.random.below(4) {
                seqs.push(self.random.below(newest + 3) as i64);
            }
            asked.push(ConversationSeqs { conversation_id: id.clone(), seqs });
        }
        let request = GetSeqMessageReq { user_id: user.id(), conversations: asked.clone(), order };
        let answer = self.world.ask(user, &request).await?;
        for asked in asked {
            let wanted = at_seqs(&self.state, user, &asked, order);
            is_pulled(answer.msgs.get(&asked.conversation_id), wanted)
                .with_context(|| format!("1005, {asked:?}, {order}"))?;
        }
        Ok(())
    }

    async fn look_at_friends(&mut self, user: User) -> Result {
        let page = json!({ "pageNumber": 1, "showNumber": USERS });
        let body = json!({
            "userID": user.id(), "ownerUserID": user.id(), "pagination": page, "idHash": 0,
        });
        let friends = ids_of(self.state.friends_of(user));
        let world = &mut self.world;
        let path = "/friend/get_full_friend_user_ids";
        let answer = get(world, user, path, body.clone()).await?;
        same(path, &answer["userIDs"], friends.iter().cloned())?;
        let path = "/friend/get_friend_list";
        let answer = get(world, user, path, body.clone()).await?;
        same(path, &each(&answer["friendsInfo"], "/friendUser/userID"), friends.iter().cloned())?;
        ensure!(answer["total"] == friends.len(), "{path}: total {}", answer["total"]);

        let blacks = ids_of(self.state.blocked_by(user));
        let path = "/friend/get_black_list";
        let answer = get(world, user, path, body).await?;
        let found = each(&answer["blacks"], "/blackUserInfo/userID");
        same(path, &found, blacks.iter().cloned())?;
        ensure!(answer["total"] == blacks.len(), "{path}: total {}", answer["total"]);

        let path = "/friend/get_self_unhandled_apply_count";
        let body = json!({ "userID": user.id(), "time": 0 });
        let answer = get(world, user, path, body).await?;
        let wanted = self.state.asked_of(user);
        ensure!(answer["count"] == wanted, "{path}: {} instead of {wanted}", answer["count"]);
        Ok(())
    }

    async fn look_at_groups(&mut self, user: User) -> Result {
        let page = json!({ "pageNumber": 1, "showNumber": 4 * USERS });
        let body = json!({
            "userID": user.id(), "fromUserID": user.id(), "pagination": page, "idHash": 0,
        });
        let joined = self.state.groups_of(user);
        let path = "/group/get_full_join_group_ids";
        let answer = get(&mut self.world, user, path, body.clone()).await?;
        same(path, &answer["groupIDs"], joined.iter().cloned())?;
        let path = "/group/get_joined_group_list";
        let answer = get(&mut self.world, user, path, body).await?;
        same(path, &each(&answer["groups"], "/groupID"), joined.iter().cloned())?;
        ensure!(answer["total"] == joined.len(), "{path}: total {}", answer["total"]);
        for info in answer["groups"].as_array().into_iter().flatten() {
            let members = self.state.members(&text(&info["groupID"])).len();
            ensure!(info["memberCount"] == members, "{path}: {info} instead of {members}");
        }

        let all: Vec<String> = self.state.groups.keys().cloned().collect();
        for group in all {
            let members = ids_of(self.state.members(&group));
            let body = json!({
                "groupID": group, "filter": 0, "idHash": 0,
                "pagination": { "pageNumber": 1, "showNumber": USERS },
            });
            let inside = joined.contains(&group);
            for (path, list, id) in [
                ("/group/get_full_group_member_user_ids", "userIDs", ""),
                ("/group/get_group_member_user_id", "userIDs", ""),
                ("/group/get_group_member_list", "members", "/userID"),
            ] {
                let (code, data) = self.world.call(user, path, body.clone()).await?;
                if !inside {
                    ensure!(code == 1002, "{path}, {group}: {code} {data}");
                    continue;
                }
                ensure!(code == 0, "{path}, {group}: {code} {data}");
                // By rank, then as they came.
                let found = each(&data[list], id);
                ensure!(found == json!(members), "{path}, {group}: {found} not {members:?}");
                if list == "members" {
                    ensure!(data["total"] == members.len(), "{path}: total {}", data["total"]);
                }
            }
        }
        Ok(())
    }

    /// What the app admin finds by searching.
    async fn look_as_admin(&mut self) -> Result {
        let sender = User(self.random.below(USERS));
        let body = json!({
            "sendID": sender.id(), "contentType": 101,
            "pagination": { "pageNumber": 1, "showNumber": 1_000 },
        });
        let answer = self.world.admin("/msg/search_msg", body).await?;
        let found = answer["chatLogs"].as_array().into_iter().flatten();
        let mut found: Vec<(String, bool)> = found
            .map(|row| (text(&row["chatLog"]["clientMsgID"]), row["isRevoked"] == true))
            .collect();
        let mut wanted = self.state.texts_of(sender);
        ensure!(answer["chatLogsNum"] == wanted.len(), "search: {}", answer["chatLogsNum"]);
        found.sort();
        wanted.sort();
        ensure!(found == wanted, "search: {found:?} instead of {wanted:?}");
        Ok(())
    }
}

/// Messages, and whether and where they end; `None` for that where nothing is said of it.
struct Pulled {
    messages: Vec<Shown>,
    end: Option<(bool, i64)>,
}

fn in_range(state: &State, user: User, range: &SeqRange, order: i32) -> Pulled {
    let id = &range.conversation_id;
    let Some(Window { low, high }) = state.window(user, id) else {
        return Pulled { messages: Vec::new(), end: None };
    };
    let last = range.end.min(high);
    let first = range.begin.max(last - range.num + 1);
    let view = state.view(user, id).into_iter();
    let messages: Vec<Shown> = view.filter(|m| (first..=last).contains(&m.seq)).collect();
    let is_end = if order == DESCENDING { range.begin <= low } else { high <= range.end };
    Pulled { end: (!messages.is_empty()).then_some((is_end, 0)), messages }
}

fn at_seqs(state: &State, user: User, asked: &ConversationSeqs, order: i32) -> Pulled {
    let id = &asked.conversation_id;
    let window = state.window(user, id);
    let Window { low, high } = window.unwrap_or(Window { low: 0, high: 0 });
    let view = state.view(user, id);
    let (mut messages, mut end) = (Vec::new(), (false, 0));
    for seq in asked.seqs.iter().copied().filter(|seq| *seq > 0) {
        if seq < low {
            end = if order == DESCENDING { (true, low) } else { end };
        } else if seq > high {
            end = if order == DESCENDING { end } else { (true, high) };
        } else {
            messages.extend(view.iter().find(|shown| shown.seq == seq).cloned());
        }
    }
    Pulled { messages, end: Some(end) }
}

fn is_pulled(pulled: Option<&PullMsgs>, wanted: Pulled) -> Result {
    // Clients look at what they asked for, whether there is anything or not.
    let pulled = pulled.context("there is no entry")?;
    let named = wanted.messages.iter().map(|wanted| !wanted.client_msg_id.is_empty());
    let named = named.chain(std::iter::repeat(true));
    let shown: Vec<Shown> =
        pulled.msgs.iter().zip(named).map(|(message, named)| shown_of(message, named)).collect();
    ensure!(shown == wanted.messages, "{shown:#?} instead of {:#?}", wanted.messages);
    if let Some(end) = wanted.end {
        let found = (pulled.is_end, pulled.end_seq);
        ensure!(found == end, "ends: {found:?} instead of {end:?}");
    }
    let there: Vec<i64> =
        pulled.msgs.iter().filter(|m| m.status != GONE).map(|m| m.send_time).collect();
    let rising = there.is_sorted() || !shown.is_sorted_by_key(|shown| shown.seq);
    ensure!(rising, "times do not rise");
    Ok(())
}

fn own_stream(user: User) -> String {
    format!("n_{user}_{user}")
}

/// The stream beside a chat.
fn stream_beside(chat: &str) -> String {
    let parties = chat.split_once('_').map_or(chat, |(_, parties)| parties);
    format!("n_{parties}")
}

fn ids_of(users: Vec<User>) -> Vec<String> {
    users.into_iter().map(User::id).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What each row has at a place.
fn each(rows: &Value, place: &str) -> Value {
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| row.pointer(place).cloned().unwrap_or_default()).collect()
}

fn same(what: &str, found: &Value, wanted: impl Iterator<Item = String>) -> Result {
    let mut found: Vec<String> = found.as_array().into_iter().flatten().map(text).collect();
    found.sort();
    let mut wanted: Vec<String> = wanted.collect();
    wanted.sort();
    ensure!(found == wanted, "{what}: {found:?} instead of {wanted:?}");
    Ok(())
}
