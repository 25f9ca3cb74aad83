//! A device's copies of the lists, kept up to date by their version logs as SDKs do.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::device::{USERS, User};
use super::world::World;
use crate::Result;
use crate::version_log::Version;

/// A list with a version log: how what changed is asked for, and how all of it.
struct List {
    changes: &'static str,
    all: &'static str,
    rows: &'static str,
    /// Where in a row its ID is.
    id: &'static str,
}

const CONVERSATIONS: List = List {
    changes: "/conversation/get_incremental_conversations",
    all: "/conversation/get_all_conversations",
    rows: "conversations",
    id: "/conversationID",
};
const FRIENDS: List = List {
    changes: "/friend/get_incremental_friends",
    all: "/friend/get_friend_list",
    rows: "friendsInfo",
    id: "/friendUser/userID",
};
const BLACKS: List = List {
    changes: "/friend/get_incremental_blacks",
    all: "/friend/get_black_list",
    rows: "blacks",
    id: "/blackUserInfo/userID",
};
const GROUPS: List = List {
    changes: "/group/get_incremental_join_groups",
    all: "/group/get_joined_group_list",
    rows: "groups",
    id: "/groupID",
};
const MEMBERS: List = List {
    changes: "/group/get_incremental_group_members_batch",
    all: "/group/get_group_member_list",
    rows: "members",
    id: "/userID",
};

/// A copy of one list.
#[derive(Debug, Default)]
pub(super) struct Copy {
    version: Version,
    pub(super) rows: BTreeMap<String, Value>,
}

impl Copy {
    /// Takes over what an answer says has changed; `false`: everything has to be fetched.
    fn take(&mut self, list: &List, answer: &Value) -> Result<bool> {
        let Some(changes) = self.version.step(answer)? else { return Ok(false) };
        for id in changes.gone {
            self.rows.remove(id);
        }
        self.rows.extend(by_id(list, changes.rows)?);
        Ok(true)
    }
}

fn by_id<'a>(
    list: &List,
    rows: impl IntoIterator<Item = &'a Value>,
) -> Result<BTreeMap<String, Value>> {
    let named = rows.into_iter().map(|row| {
        let id = row.pointer(list.id).and_then(Value::as_str);
        Ok((id.with_context(|| format!("no {} in {row}", list.id))?.to_owned(), row.clone()))
    });
    named.collect()
}

/// What a device has of the lists of its user.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) conversations: Copy,
    pub(super) friends: Copy,
    pub(super) blacks: Copy,
    pub(super) groups: Copy,
    pub(super) members: BTreeMap<String, Copy>,
}

impl Copies {
    /// Brings all of them up to date. Of members, also groups are asked for that the user has left.
    pub(super) async fn sync<W: World>(&mut self, world: &mut W, user: User) -> Result {
        for (list, copy) in [
            (&CONVERSATIONS, &mut self.conversations),
            (&FRIENDS, &mut self.friends),
            (&BLACKS, &mut self.blacks),
            (&GROUPS, &mut self.groups),
        ] {
            let body = copy.version.since(json!({ "userID": user.id() }));
            let answer = get(world, user, list.changes, body).await?;
            if !copy.take(list, &answer)? {
                copy.rows = all(world, user, list, "").await?;
            }
        }
        let known: BTreeSet<String> =
            self.members.keys().chain(self.groups.rows.keys()).cloned().collect();
        if known.is_empty() {
            return Ok(());
        }
        let asked: Vec<Value> = known
            .iter()
            .map(|group| {
                let copy = self.members.entry(group.clone()).or_default();
                copy.version.since(json!({ "groupID": group }))
            })
            .collect();
        let body = json!({ "userID": user.id(), "reqList": asked });
        let (code, answer) = world.call(user, MEMBERS.changes, body).await?;
        // Who is in none of the groups named is refused.
        let refused = code == 1002 && self.groups.rows.is_empty();
        ensure!(code == 0 || refused, "{user}, {}: {code} {answer}", MEMBERS.changes);
        self.members.retain(|group, _| self.groups.rows.contains_key(group));
        for group in answer["respList"].as_object().into_iter().flat_map(|map| map.keys()) {
            ensure!(self.members.contains_key(group), "{user} is told the members of {group}");
        }
        for (group, copy) in &mut self.members {
            let changed = answer["respList"].get(group);
            let changed = changed.with_context(|| format!("{user} is not told of {group}"))?;
            if !copy.take(&MEMBERS, changed)? {
                copy.rows = all(world, user, &MEMBERS, group).await?;
            }
        }
        Ok(())
    }
}

async fn all<W: World>(
    world: &mut W,
    user: User,
    list: &List,
    group: &str,
) -> Result<BTreeMap<String, Value>> {
    let body = json!({
        "ownerUserID": user.id(), "userID": user.id(), "fromUserID": user.id(),
        "groupID": group, "pagination": { "pageNumber": 1, "showNumber": 4 * USERS },
    });
    let answer = get(world, user, list.all, body).await?;
    by_id(list, answer[list.rows].as_array().into_iter().flatten())
}

/// Calls a route that must answer.
pub(super) async fn get<W: World>(
    world: &mut W,
    user: User,
    path: &str,
    body: Value,
) -> Result<Value> {
    let (code, data) = world.call(user, path, body).await?;
    ensure!(code == 0, "{user}, {path}: code {code}: {data}");
    Ok(data)
}
