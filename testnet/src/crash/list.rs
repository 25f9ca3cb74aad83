//! Lists that change while the node is killed: friends of a user, members of a group.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::Report;
use crate::random::Random;
use crate::version_log::Version;
use crate::{Client, Result};

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Friends,
    Members,
}

/// A list, what was acknowledged about it, and a copy kept as an SDK keeps it.
pub(super) struct Watched {
    kind: Kind,
    owner: Client,
    admin: Client,
    users: Vec<String>,
    /// Whether each user is in it; left out while a change has no answer.
    known: BTreeMap<String, bool>,
    copy: BTreeSet<String>,
    version: Version,
    changes: usize,
}

impl Watched {
    pub(super) fn new(kind: Kind, owner: Client, admin: Client, users: Vec<String>) -> Self {
        Self {
            kind,
            owner,
            admin,
            known: users.iter().map(|user| (user.clone(), false)).collect(),
            users,
            copy: BTreeSet::new(),
            version: Version::default(),
            changes: 0,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds and removes users until the node goes away.
    pub(super) async fn change(&mut self, random: &mut Random) {
        loop {
            let user = self.users[random.below(self.users.len())].clone();
            // After a change without an answer the next check tells.
            let Some(there) = self.known.remove(&user) else { continue };
            let (owner, admin) = (&self.owner, &self.admin);
            let id = &owner.user_id;
            let (client, path, body) = match (self.kind, there) {
                (Kind::Friends, false) => (
                    admin,
                    "/friend/import_friend",
                    json!({ "ownerUserID": id, "friendUserIDs": [user] }),
                ),
                (Kind::Friends, true) => (
                    owner,
                    "/friend/delete_friend",
                    json!({ "ownerUserID": id, "friendUserID": user }),
                ),
                (Kind::Members, false) => (
                    owner,
                    "/group/invite_user_to_group",
                    json!({ "groupID": "g", "invitedUserIDs": [user] }),
                ),
                (Kind::Members, true) => {
                    (owner, "/group/kick_group", json!({ "groupID": "g", "kickedUserIDs": [user] }))
                }
            };
            if client.call(path, body).await.is_err() {
                return;
            }
            self.known.insert(user, !there);
            self.changes += 1;
        }
    }

    /// Compares the list, a copy that follows its version log, and what was acknowledged.
    pub(super) async fn check(&mut self, report: &mut Report) -> Result {
        let kind = self.kind;
        let (incremental, full, ids) = match kind {
            Kind::Friends => (
                "/friend/get_incremental_friends",
                "/friend/get_full_friend_user_ids",
                json!({ "userID": self.owner.user_id, "idHash": 0 }),
            ),
            Kind::Members => (
                "/group/get_incremental_group_members",
                "/group/get_full_group_member_user_ids",
                json!({ "groupID": "g", "idHash": 0 }),
            ),
        };
        let since = self.version.since(json!({ "userID": self.owner.user_id, "groupID": "g" }));
        let changed = self.owner.call(incremental, since).await?;
        let all = self.owner.call(full, ids).await?;
        let all = users(all["userIDs"].as_array().into_iter().flatten())?;
        match self.version.step(&changed)? {
            None => self.copy.clone_from(&all),
            Some(changes) => {
                for user in changes.gone {
                    self.copy.remove(user);
                }
                self.copy.extend(users(changes.rows)?);
            }
        }
        ensure!(
            self.copy == all,
            "{kind:?}: the version log says {:?}, there are {all:?}",
            self.copy
        );
        for (user, there) in &self.known {
            ensure!(all.contains(user) == *there, "{kind:?}: {user} acknowledged as {there}");
        }
        for user in &self.users {
            self.known.insert(user.clone(), all.contains(user));
        }
        report.changes += std::mem::take(&mut self.changes);
        Ok(())
    }
}

/// The user IDs of a list of IDs, friends or members.
fn users<'a>(list: impl IntoIterator<Item = &'a Value>) -> Result<BTreeSet<String>> {
    let id = |entry: &Value| {
        let id = entry.as_str().or(entry["userID"].as_str());
        let id = id.or(entry["friendUser"]["userID"].as_str());
        id.map(str::to_owned).with_context(|| format!("no user: {entry}"))
    };
    list.into_iter().map(id).collect()
}
