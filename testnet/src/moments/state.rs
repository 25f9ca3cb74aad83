//! What a node holds: read from its store, or as clients see it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use anyhow::Context as _;
use proto::sdkws::MsgData;
use serde_json::json;
use store::engine::DiskEngine;
use store::{Direction, Options, Store, message_log, schema};

use super::told::List;
use super::work::{GROUP, NAMED, PLATFORM};
use crate::{Client, Process, Result, Wire};

const CACHE_BYTES: u64 = 16 << 20;

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    /// Its clientMsgID.
    pub(crate) id: String,
    /// Of all else that makes it what it is.
    pub(crate) hash: u64,
}

impl Row {
    fn of(seq: i64, message: &MsgData) -> Self {
        let mut hasher = DefaultHasher::new();
        (&message.server_msg_id, message.send_time, &message.send_id).hash(&mut hasher);
        (message.content_type, &message.content[..]).hash(&mut hasher);
        Self { seq, id: message.client_msg_id.clone(), hash: hasher.finish() }
    }
}

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) conversations: BTreeMap<String, Vec<Row>>,
    pub(crate) friends: BTreeSet<String>,
    pub(crate) members: BTreeSet<String>,
    /// The name of the user who changes it.
    pub(crate) name: String,
}

impl State {
    pub(crate) fn list(&self, list: List) -> &BTreeSet<String> {
        match list {
            List::Friends => &self.friends,
            List::Members => &self.members,
        }
    }

    /// How many messages.
    pub(crate) fn messages(&self) -> usize {
        self.conversations.values().map(Vec::len).sum()
    }

    /// What the store in a data folder holds. Opening it may change its files.
    pub(crate) fn in_store(data: &Path) -> Result<Self> {
        let engine = DiskEngine::open(&data.join("store"), CACHE_BYTES)?;
        let store = Store::open(Box::new(engine), Options::default())?;
        let view = store.view();
        let mut state = Self::default();
        for row in schema::CONVERSATION_HEADS.scan(&view, ()) {
            let (conversation, head) = row?;
            let all = message_log::messages(&view, head.number, 1, i64::MAX, Direction::Ascending);
            let rows = all.map(|row| row.map(|(seq, message)| Row::of(seq, &message)));
            let rows = rows.collect::<std::result::Result<Vec<_>, _>>()?;
            if !rows.is_empty() {
                state.conversations.insert(conversation, rows);
            }
        }
        for row in schema::FRIENDS.scan(&view, NAMED) {
            state.friends.insert(row?.0.1);
        }
        for row in schema::MEMBERS.scan(&view, GROUP) {
            state.members.insert(row?.0.1);
        }
        state.name = schema::USERS.get(&view, NAMED)?.map(|user| user.nickname).unwrap_or_default();
        drop(view);
        store.close();
        Ok(state)
    }

    /// What clients of a node see of some conversations, and of the lists.
    pub(crate) async fn seen(node: &Process, conversations: &[String]) -> Result<Self> {
        let admin = node.admin().await?;
        let mut state = Self::default();
        for conversation in conversations {
            let user = member_of(conversation);
            let client = admin.client(user, PLATFORM).await?;
            let mut socket = client.connect(Wire::GOB_GZIP).await?;
            let history = socket.history_from(conversation, 1).await?;
            let rows: Vec<Row> = history.iter().map(|one| Row::of(one.seq, one)).collect();
            if !rows.is_empty() {
                state.conversations.insert(conversation.clone(), rows);
            }
        }
        let client = admin.client(NAMED, PLATFORM).await?;
        let friends = json!({ "userID": NAMED, "idHash": 0 });
        state.friends = ids(&client, "/friend/get_full_friend_user_ids", friends).await?;
        let members = json!({ "groupID": GROUP, "idHash": 0 });
        state.members = ids(&client, "/group/get_full_group_member_user_ids", members).await?;
        let info = client.call("/user/get_users_info", json!({ "userIDs": [NAMED] })).await?;
        let name = info["usersInfo"][0]["nickname"].as_str();
        state.name = name.with_context(|| format!("no name: {info}"))?.to_owned();
        Ok(state)
    }

    /// What differs from the beginning of each conversation as it was in the end.
    pub(crate) fn not_as_in(&self, end: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (conversation, rows) in &self.conversations {
            let later = end.conversations.get(conversation).map_or(&[][..], Vec::as_slice);
            let same = rows.iter().zip(later).take_while(|(row, later)| row == later).count();
            if same < rows.len() {
                let (found, was) = (rows.get(same), later.get(same));
                wrong.push(format!(
                    "{conversation}: {found:?} in place {}, where {was:?} was",
                    same + 1
                ));
            }
            let out_of_order = (1..).zip(rows).find(|(place, row)| row.seq != *place);
            if let Some((place, row)) = out_of_order {
                wrong.push(format!("{conversation}: seq {} in place {place}", row.seq));
            }
        }
        wrong
    }
}

/// A user who sees a conversation.
fn member_of(conversation: &str) -> &str {
    conversation.strip_prefix("si_").and_then(|pair| pair.split('_').next()).unwrap_or(NAMED)
}

async fn ids(client: &Client, path: &str, body: serde_json::Value) -> Result<BTreeSet<String>> {
    let answer = client.call(path, body).await?;
    let ids = answer["userIDs"].as_array().into_iter().flatten();
    Ok(ids.filter_map(|id| id.as_str().map(str::to_owned)).collect())
}
