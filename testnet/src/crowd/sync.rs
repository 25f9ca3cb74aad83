//! What a phone does when it comes and when something is pushed: the calls of the native SDK.

use std::collections::BTreeSet;

use anyhow::Result;
use proto::msg::{GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp, PullMsgs,
    SeqRange,
};
use serde_json::{Value, json};

use super::copy::{ListCopy, strings};
use super::phone::Phone;
use crate::Push;

const NEWEST_SEQ: i32 = 1001;
const PULL: i32 = 1002;
const READ_AND_MAX_SEQS: i32 = 1006;

/// Conversations in one request for messages.
const PULLED_TOGETHER: usize = 100;
/// Messages fetched where pushes left a gap in a chat.
const GAP: i64 = 10;
/// Groups in one request for members.
const GROUPS_TOGETHER: usize = 500;
/// Rows of a page.
const PAGE: usize = 100;

/// Content types after which lists are fetched.
mod kind {
    pub(super) const FRIENDS: std::ops::RangeInclusive<i32> = 1201..=1210;
    pub(super) const GROUPS: std::ops::RangeInclusive<i32> = 1501..=1520;
    pub(super) const CONVERSATIONS: [i32; 2] = [1300, 1701];
    pub(super) const READ: i32 = 2200;
}

/// What has to be fetched after some notifications.
#[derive(Default)]
struct Stale {
    friends: bool,
    conversations: bool,
    joined: bool,
    groups: BTreeSet<String>,
}

impl Phone {
    /// Fetches everything that is new, after connecting.
    pub(super) async fn synchronise(&mut self, operation_id: &str) -> Result<()> {
        let user_id = self.user().to_owned();
        let fresh = self.copy.chats.is_empty();
        let request = GetMaxSeqReq { user_id: user_id.clone() };
        let newest: GetMaxSeqResp = self.good(operation_id, NEWEST_SEQ, &request).await?;
        let mut ranges = Vec::new();
        for (id, max_seq) in newest.max_seqs {
            let chat = self.copy.chats.entry(id.clone()).or_default();
            let stream = id.starts_with("n_");
            if fresh && stream {
                // A new phone begins with the lists themselves.
                chat.max_seq = max_seq;
            } else if max_seq > chat.max_seq {
                let (begin, num) = (chat.max_seq + 1, if stream { i64::from(i32::MAX) } else { 1 });
                ranges.push(SeqRange { conversation_id: id, begin, end: max_seq, num });
            }
        }
        let notifications = self.pull(operation_id, ranges).await?;
        self.take_notifications(operation_id, notifications).await?;
        self.friends(operation_id).await;
        self.joined(operation_id).await;
        let groups = self.copy.groups.ids.clone();
        self.members(operation_id, groups).await;
        self.conversations(operation_id).await;
        self.read_positions(operation_id).await
    }

    /// Asks how far all conversations go and are read.
    pub(super) async fn read_positions(&mut self, operation_id: &str) -> Result<()> {
        let request = GetConversationsHasReadAndMaxSeqReq {
            user_id: self.user().to_owned(),
            ..Default::default()
        };
        let positions: GetConversationsHasReadAndMaxSeqResp =
            self.good(operation_id, READ_AND_MAX_SEQS, &request).await?;
        for (id, seqs) in positions.seqs {
            let chat = self.copy.chats.entry(id).or_default();
            chat.read_seq = chat.read_seq.max(seqs.has_read_seq);
        }
        Ok(())
    }

    /// Handles what was pushed, all under one operation ID.
    pub(super) async fn handle(&mut self, operation_id: &str, pushes: Vec<Push>) -> Result<()> {
        let (mut notifications, mut ranges) = (Vec::new(), Vec::new());
        for push in pushes {
            let Push::Message { conversation_id, message, .. } = push else { continue };
            let known = self.copy.chats.get(&conversation_id).map_or(0, |chat| chat.max_seq);
            if message.seq > known + 1 {
                let stream = conversation_id.starts_with("n_");
                ranges.push(SeqRange {
                    conversation_id: conversation_id.clone(),
                    begin: known + 1,
                    end: message.seq - 1,
                    num: if stream { message.seq } else { GAP },
                });
            }
            if message.seq == 0 || message.seq > known {
                notifications.extend(self.take(&conversation_id, *message));
            }
        }
        notifications.extend(self.pull(operation_id, ranges).await?);
        self.take_notifications(operation_id, notifications).await
    }

    /// Keeps a message; gives it back if it is a notification.
    fn take(&mut self, conversation_id: &str, message: MsgData) -> Option<MsgData> {
        let mine = message.send_id == self.user();
        if message.seq > 0 {
            let chat = self.copy.chats.entry(conversation_id.to_owned()).or_default();
            chat.messages.insert(message.seq, message.client_msg_id.clone());
            chat.max_seq = chat.max_seq.max(message.seq);
            if mine {
                chat.read_seq = chat.read_seq.max(message.seq);
            }
        }
        if conversation_id.starts_with("n_") {
            return Some(message);
        }
        self.copy.conversations.ids.insert(conversation_id.to_owned());
        None
    }

    /// Fetches ranges of messages; returns the notifications among them.
    async fn pull(&mut self, operation_id: &str, ranges: Vec<SeqRange>) -> Result<Vec<MsgData>> {
        let mut notifications = Vec::new();
        for ranges in ranges.chunks(PULLED_TOGETHER) {
            let request = PullMessageBySeqsReq {
                user_id: self.user().to_owned(),
                seq_ranges: ranges.to_vec(),
                order: 0,
            };
            let pulled: PullMessageBySeqsResp = self.good(operation_id, PULL, &request).await?;
            for (id, PullMsgs { msgs, .. }) in
                pulled.msgs.into_iter().chain(pulled.notification_msgs)
            {
                notifications
                    .extend(msgs.into_iter().filter_map(|message| self.take(&id, message)));
            }
        }
        Ok(notifications)
    }

    /// Opens a chat: fetches what is missing, fifty at a time.
    pub(super) async fn open(&mut self, conversation_id: &str) -> Result<()> {
        let Some(chat) = self.copy.chats.get(conversation_id) else { return Ok(()) };
        let missing: Vec<i64> =
            (1..=chat.max_seq).filter(|seq| !chat.messages.contains_key(seq)).collect();
        let mut ranges = Vec::new();
        for seqs in missing.chunks(50) {
            let (Some(&begin), Some(&end)) = (seqs.first(), seqs.last()) else { continue };
            let conversation_id = conversation_id.to_owned();
            ranges.push(SeqRange { conversation_id, begin, end, num: end - begin + 1 });
        }
        for range in ranges {
            self.pull("open", vec![range]).await?;
        }
        Ok(())
    }

    async fn take_notifications(
        &mut self,
        operation_id: &str,
        notifications: Vec<MsgData>,
    ) -> Result<()> {
        let mut stale = Stale::default();
        for message in notifications {
            let kind = message.content_type;
            let detail = detail(&message);
            stale.friends |= kind::FRIENDS.contains(&kind);
            stale.conversations |= kind::CONVERSATIONS.contains(&kind);
            if kind::GROUPS.contains(&kind) {
                stale.joined = true;
                stale.groups.extend(detail["group"]["groupID"].as_str().map(str::to_owned));
            }
            if kind == kind::READ && detail["markAsReadUserID"] == self.user() {
                let id = detail["conversationID"].as_str().unwrap_or_default();
                let seq = detail["hasReadSeq"].as_i64().unwrap_or_default();
                if let Some(chat) = self.copy.chats.get_mut(id) {
                    chat.read_seq = chat.read_seq.max(seq);
                }
            }
        }
        if stale.friends {
            self.friends(operation_id).await;
        }
        if stale.joined {
            self.joined(operation_id).await;
            self.members(operation_id, stale.groups).await;
        }
        if stale.conversations {
            self.conversations(operation_id).await;
        }
        Ok(())
    }

    async fn friends(&mut self, operation_id: &str) {
        let user_id = self.user().to_owned();
        let request = self.copy.friends.since(json!({ "userID": user_id }));
        let answer = self.must(operation_id, "/friend/get_incremental_friends", request).await;
        if !take(&mut self.copy.friends, &answer, "/friendUser/userID") {
            let path = "/friend/get_full_friend_user_ids";
            let all =
                self.must(operation_id, path, json!({ "userID": user_id, "idHash": 0 })).await;
            self.copy.friends.ids = strings(&all["userIDs"]).into_iter().collect();
        }
    }

    async fn joined(&mut self, operation_id: &str) {
        let user_id = self.user().to_owned();
        let request = self.copy.groups.since(json!({ "userID": user_id }));
        let answer = self.must(operation_id, "/group/get_incremental_join_groups", request).await;
        if !take(&mut self.copy.groups, &answer, "/groupID") {
            let path = "/group/get_joined_group_list";
            let body = json!({ "fromUserID": user_id });
            let rows = self.pages(operation_id, path, body, "groups").await;
            self.copy.groups.ids = ids(&rows, "/groupID");
        }
        let Phone { copy, .. } = self;
        copy.members.retain(|group, _| copy.groups.ids.contains(group));
    }

    /// Fetches what changed among the members of groups that the user is in.
    async fn members(&mut self, operation_id: &str, groups: BTreeSet<String>) {
        let groups: Vec<String> =
            groups.into_iter().filter(|group| self.copy.groups.ids.contains(group)).collect();
        for groups in groups.chunks(GROUPS_TOGETHER) {
            let list: Vec<Value> = groups
                .iter()
                .map(|group| {
                    let members = self.copy.members.entry(group.clone()).or_default();
                    members.since(json!({ "groupID": group }))
                })
                .collect();
            let body = json!({ "userID": self.user(), "reqList": list });
            let path = "/group/get_incremental_group_members_batch";
            let answer = self.must(operation_id, path, body).await;
            for (group, changed) in answer["respList"].as_object().into_iter().flatten() {
                let members = self.copy.members.entry(group.clone()).or_default();
                if take(members, changed, "/userID") {
                    continue;
                }
                let body = json!({ "groupID": group, "filter": 0 });
                let path = "/group/get_group_member_list";
                let rows = self.pages(operation_id, path, body, "members").await;
                if let Some(members) = self.copy.members.get_mut(group) {
                    members.ids = ids(&rows, "/userID");
                }
            }
        }
    }

    async fn conversations(&mut self, operation_id: &str) {
        let user_id = self.user().to_owned();
        let request = self.copy.conversations.since(json!({ "userID": user_id }));
        let path = "/conversation/get_incremental_conversations";
        let answer = self.must(operation_id, path, request).await;
        if !take(&mut self.copy.conversations, &answer, "/conversationID") {
            let path = "/conversation/get_all_conversations";
            let all = self.must(operation_id, path, json!({ "ownerUserID": user_id })).await;
            let rows = all["conversations"].as_array().cloned().unwrap_or_default();
            self.copy.conversations.ids = ids(&rows, "/conversationID");
        }
    }

    /// All rows of a list, page by page until one is short.
    async fn pages(
        &mut self,
        operation_id: &str,
        path: &str,
        mut body: Value,
        rows: &str,
    ) -> Vec<Value> {
        let mut all = Vec::new();
        for page in 1.. {
            body["pagination"] = json!({ "pageNumber": page, "showNumber": PAGE });
            let answer = self.must(operation_id, path, body.clone()).await;
            let found = answer[rows].as_array().cloned().unwrap_or_default();
            let last = found.len() < PAGE;
            all.extend(found);
            if last {
                break;
            }
        }
        all
    }

    /// A request over the connection that must succeed.
    async fn good<T: proto::Message + Default>(
        &mut self,
        operation_id: &str,
        opcode: i32,
        request: &impl proto::Message,
    ) -> Result<T> {
        let (code, answer) = self.ask(operation_id, opcode, request).await?;
        if code != 0 {
            self.tally.fault(format!("{opcode} answered {code}"));
        }
        Ok(answer)
    }
}

fn take(list: &mut ListCopy, answer: &Value, id: &str) -> bool {
    list.take(answer, |row| row.pointer(id).and_then(Value::as_str).map(str::to_owned))
}

fn ids(rows: &[Value], id: &str) -> BTreeSet<String> {
    let id = |row: &Value| row.pointer(id).and_then(Value::as_str).map(str::to_owned);
    rows.iter().filter_map(id).collect()
}

/// What a notification says: JSON within JSON.
fn detail(message: &MsgData) -> Value {
    let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
    let detail = content["detail"].as_str().unwrap_or_default();
    serde_json::from_str(detail).unwrap_or_default()
}
