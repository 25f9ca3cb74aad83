//! What clients see of a node: everything that its users can pull and list.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use anyhow::Context as _;
use prost::Message as _;
use reqwest::Url;
use serde_json::{Value, json};

use super::built::People;
use crate::{Client, Process, Result, Wire};

/// Differences that are told.
const MOST_WRONG: usize = 5;
/// What is in a message that stands where a damaged one was.
const SAYS_SO: &str = "This message was damaged on the server";
/// What stands for a message that says that it is damaged.
const DAMAGED: &str = "damaged";
/// What begins the words for something that was refused.
const REFUSED: &str = "refused: ";

/// Everything seen, each under a name of its own.
#[derive(Debug)]
pub(super) struct Sight(BTreeMap<String, String>);

/// How one sight differs from another.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// What is not as it was, although nobody says so.
    pub(super) wrong: Vec<String>,
    /// Messages that say that they are damaged, and what was refused.
    pub(super) missing: usize,
}

impl Sight {
    /// Looks at everything.
    pub(super) async fn of(node: &Process, people: &People) -> Result<Self> {
        let mut seen = BTreeMap::new();
        let mut pulled = BTreeSet::new();
        for client in people.at(node) {
            let conversations = lists(&client, &mut seen).await?;
            let mut socket = client.connect(Wire::GOB_GZIP).await?;
            for id in conversations {
                if !pulled.insert(id.clone()) {
                    continue;
                }
                match socket.history_from(&id, 1).await {
                    Ok(messages) => {
                        for message in messages {
                            let name = format!("message {} of {id}", message.seq);
                            let content = String::from_utf8_lossy(&message.content);
                            let what = if content.contains(SAYS_SO) {
                                DAMAGED.to_owned()
                            } else {
                                hash(&message.encode_to_vec())
                            };
                            seen.insert(name, what);
                        }
                    }
                    Err(error) => {
                        seen.insert(format!("messages of {id}"), format!("{REFUSED}{error}"));
                    }
                }
            }
        }
        for link in &people.uploads {
            let url = Url::parse(link)?;
            let content = content(node, &url).await?;
            seen.insert(format!("content at {}", url.path()), content);
        }
        Ok(Self(seen))
    }

    /// Compares what was seen `before` with what is seen `now`.
    pub(super) fn differences(before: &Self, now: &Self) -> Differences {
        let mut found = Differences::default();
        for (name, was) in &before.0 {
            match now.0.get(name) {
                Some(is) if is == was => {}
                Some(is) if is == DAMAGED || is.starts_with(REFUSED) => found.missing += 1,
                Some(_) => found.wrong.push(format!("{name} is another")),
                // Of what was refused as a whole.
                None if now.refuses_all_of(name) => found.missing += 1,
                None => found.wrong.push(format!("{name} is gone")),
            }
        }
        let new = now.0.iter().filter(|(name, _)| !before.0.contains_key(*name));
        let new = new.filter(|(_, is)| !is.starts_with(REFUSED));
        found.wrong.extend(new.map(|(name, _)| format!("{name} is new")));
        found.wrong.truncate(MOST_WRONG);
        found
    }

    fn refuses_all_of(&self, name: &str) -> bool {
        let of = name.split_once(" of ").map(|(_, id)| format!("messages of {id}"));
        of.is_some_and(|of| self.0.contains_key(&of))
    }
}

impl Differences {
    /// Whether everything is as it was.
    pub(super) fn is_none(&self) -> bool {
        self.missing == 0 && self.wrong.is_empty()
    }
}

/// What a user lists; returns its conversations.
async fn lists(client: &Client, seen: &mut BTreeMap<String, String>) -> Result<Vec<String>> {
    let user = &client.user_id;
    let body = json!({
        "userID": user, "ownerUserID": user, "fromUserID": user, "userIDs": [user],
        "pagination": { "pageNumber": 1, "showNumber": 100 },
    });
    let mut answers = Vec::new();
    for path in [
        "/conversation/get_all_conversations",
        "/group/get_joined_group_list",
        "/friend/get_friend_list",
        "/user/get_users_info",
    ] {
        answers.push(list(client, path, "", body.clone(), seen).await?);
    }
    for group in answers[1]["groups"].as_array().into_iter().flatten() {
        let id = group["groupID"].as_str().context("no group ID")?;
        let mut body = body.clone();
        body["groupID"] = id.into();
        list(client, "/group/get_group_member_list", id, body, seen).await?;
    }
    let conversations = answers[0]["conversations"].as_array().into_iter().flatten();
    let ids = conversations.filter_map(|row| row["conversationID"].as_str().map(str::to_owned));
    Ok(ids.collect())
}

async fn list(
    client: &Client,
    path: &str,
    what: &str,
    body: Value,
    seen: &mut BTreeMap<String, String>,
) -> Result<Value> {
    let answer = client.post(path, body).await?;
    let text = match answer.code {
        0 => answer.body["data"].to_string(),
        code => format!("{REFUSED}{code}"),
    };
    seen.insert(format!("{path} {what} of {}", client.user_id), text);
    Ok(answer.body["data"].clone())
}

/// What is behind a link, or that it is refused.
async fn content(node: &Process, link: &Url) -> Result<String> {
    let rest = node.rest();
    let mut at = Url::parse(rest.api())?.join(link.path())?;
    for _ in 0..3 {
        let answer = rest.http().get(at.clone()).send().await?;
        let status = answer.status();
        if status.is_redirection() {
            let to = answer.headers().get("location").context("no location")?.to_str()?;
            at = at.join(to)?;
            continue;
        }
        if !status.is_success() {
            return Ok(format!("{REFUSED}{status}"));
        }
        // An answer that breaks off was not given, either.
        return Ok(match answer.bytes().await {
            Ok(bytes) => hash(&bytes),
            Err(error) => format!("{REFUSED}{error}"),
        });
    }
    Ok(format!("{REFUSED}it leads nowhere"))
}

fn hash(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}
