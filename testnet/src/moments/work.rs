//! Users who send and change, and note what they have asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::told::{List, Told};
use crate::random::Random;
use crate::{Client, Process, Result, Wire, text_message};

/// The user who changes its name and its friends, and owns the group.
pub(crate) const NAMED: &str = "s0";
pub(crate) const FIRST_NAME: &str = NAMED;
pub(crate) const GROUP: &str = "g";
pub(crate) const PLATFORM: i32 = 2;
/// Users who send.
const SENDERS: usize = 8;
/// Users who come and go in the lists.
const COMING: usize = 40;
/// Longest pause after each message and change.
const PAUSE_MS: usize = 20;

/// The users.
pub(crate) struct Work {
    admin: Client,
    clients: Vec<Client>,
    pub(crate) told: Arc<Told>,
}

/// Work under way.
pub(crate) struct Load {
    ended: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Ends it and waits.
    pub(crate) async fn end(mut self) -> Result {
        self.ended.store(true, SeqCst);
        while let Some(task) = self.tasks.join_next().await {
            task?;
        }
        Ok(())
    }
}

impl Work {
    /// Registers everybody.
    pub(crate) async fn prepare(node: &Process) -> Result<Self> {
        let admin = node.admin().await?;
        let names: Vec<String> = (0..SENDERS).map(|at| format!("s{at}")).collect();
        let coming: Vec<String> = (0..COMING).map(coming).collect();
        let all: Vec<&str> = names.iter().chain(&coming).map(String::as_str).collect();
        admin.register(&all).await?;
        let mut clients = Vec::new();
        for name in &names {
            clients.push(admin.client(name, PLATFORM).await?);
        }
        let owner = clients.first().context("nobody sends")?;
        let body = json!({
            "ownerUserID": NAMED, "memberUserIDs": names[1..],
            "groupInfo": { "groupID": GROUP, "groupName": GROUP, "groupType": 2 },
        });
        owner.call("/group/create_group", body).await?;
        Ok(Self { admin: admin.client, clients, told: Arc::default() })
    }

    /// Works until it is ended or the node goes away.
    pub(crate) fn start(&self, random: &mut Random) -> Load {
        let ended = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (at, client) in self.clients.iter().cloned().enumerate() {
            let (told, ended) = (Arc::clone(&self.told), Arc::clone(&ended));
            let mut random = Random::new(random.next());
            // Ends with an error when the node goes away.
            tasks.spawn(async move {
                let _ = send(at, &client, &told, &ended, &mut random).await;
            });
        }
        let Some(owner) = self.clients.first() else { return Load { ended, tasks } };
        for list in [Some(List::Friends), Some(List::Members), None] {
            let (told, ended) = (Arc::clone(&self.told), Arc::clone(&ended));
            let mut random = Random::new(random.next());
            let (admin, owner) = (self.admin.clone(), owner.clone());
            tasks.spawn(async move {
                let _ = match list {
                    Some(list) => change(list, [&admin, &owner], &told, &ended, &mut random).await,
                    None => rename(&owner, &told, &ended, &mut random).await,
                };
            });
        }
        Load { ended, tasks }
    }
}

fn coming(at: usize) -> String {
    format!("c{at}")
}

/// Now and then nothing happens for a while.
async fn pause(random: &mut Random) {
    let most = if random.once_in(50) { 20 * PAUSE_MS } else { PAUSE_MS };
    sleep(Duration::from_millis(random.below(most) as u64)).await;
}

async fn send(
    at: usize,
    client: &Client,
    told: &Told,
    ended: &AtomicBool,
    random: &mut Random,
) -> Result {
    let mut socket = client.connect(Wire::GOB_GZIP).await?;
    let to = format!("s{}", at ^ 1);
    let mut pair = [client.user_id.as_str(), &to];
    pair.sort_unstable();
    let pair = format!("si_{}_{}", pair[0], pair[1]);
    while !ended.load(SeqCst) {
        // Some are too long for the index itself.
        let longest = if random.once_in(10) { 20_000 } else { 300 };
        let length = random.below(longest);
        let mut message = text_message(&client.user_id, &to, &"x".repeat(length));
        let mut conversation = pair.clone();
        if random.once_in(3) {
            message.recv_id.clear();
            message.group_id = GROUP.into();
            message.session_type = 3;
            conversation = format!("sg_{GROUP}");
        }
        let place = told.message(conversation, message.client_msg_id.clone());
        socket.send(&message).await?;
        told.message_answered(place);
        socket.kept();
        pause(random).await;
    }
    Ok(())
}

async fn change(
    list: List,
    [admin, owner]: [&Client; 2],
    told: &Told,
    ended: &AtomicBool,
    random: &mut Random,
) -> Result {
    while !ended.load(SeqCst) {
        let user = coming(random.below(COMING));
        // Of what had no answer nobody knows what is to be done next.
        let Some(there) = told.is_in(list, &user) else { continue };
        let id = &owner.user_id;
        let (client, path, body) = match (list, there) {
            (List::Friends, false) => {
                let body = json!({ "ownerUserID": id, "friendUserIDs": [user] });
                (admin, "/friend/import_friend", body)
            }
            (List::Friends, true) => {
                let body = json!({ "ownerUserID": id, "friendUserID": user });
                (owner, "/friend/delete_friend", body)
            }
            (List::Members, false) => {
                let body = json!({ "groupID": GROUP, "invitedUserIDs": [user] });
                (owner, "/group/invite_user_to_group", body)
            }
            (List::Members, true) => {
                let body = json!({ "groupID": GROUP, "kickedUserIDs": [user] });
                (owner, "/group/kick_group", body)
            }
        };
        told.change(list, &user, !there);
        client.call(path, body).await?;
        told.change_answered(list, &user);
        pause(random).await;
    }
    Ok(())
}

async fn rename(owner: &Client, told: &Told, ended: &AtomicBool, random: &mut Random) -> Result {
    while !ended.load(SeqCst) {
        let name = format!("n{}", random.next());
        told.name(name.clone());
        let body = json!({ "userInfo": { "userID": owner.user_id, "nickname": name } });
        owner.call("/user/update_user_info", body).await?;
        told.name_answered();
        pause(random).await;
    }
    Ok(())
}
