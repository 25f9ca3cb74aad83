//! What happens on the node while it is recorded.

use std::sync::Arc;

use anyhow::ensure;
use parking_lot::Mutex;
use proto::envelope::Encoding;
use serde_json::{Value, json};

use super::fact::{Done, Fact, Step};
use super::trace::{MESSAGE_MARK, OPERATION_MARK};
use crate::random::Random;
use crate::{Admin, Client, Process, Result, Wire, text_message};

/// Uncompressed, so that IDs can be found in what leaves the node.
const PLAIN: Wire = Wire { encoding: Encoding::Gob, gzip: false };

/// Users who send.
const SENDERS: usize = 6;
/// Connections that change friends and groups.
const CHANGERS: usize = 2;

#[derive(Clone)]
struct Work {
    round: usize,
    seed: u64,
    admin: Admin,
    done: Arc<Mutex<Done>>,
}

/// Runs the workload of one round: each sender sends `messages`, friends and groups change
/// meanwhile. It ends early, without an error, when the node goes away.
pub(super) async fn run(node: &Process, round: usize, messages: usize, seed: u64) -> Result<Done> {
    let admin = node.admin().await?;
    let work = Work { round, seed, admin, done: Arc::default() };
    let users: Vec<String> = (0..SENDERS).map(|at| work.user(at)).collect();
    let registered = users.iter().map(|id| Fact::User { id: id.clone() }).collect();
    let body: Vec<Value> = users.iter().map(|id| json!({ "userID": id, "nickname": id })).collect();
    let operator = work.admin.client.clone();
    work.change(&operator, 99, 0, "/user/user_register", json!({ "users": body }), registered)
        .await?;
    let mut clients = Vec::new();
    for user in &users {
        clients.push(work.admin.client(user, 2).await?);
    }
    let group = work.group();
    let mut facts: Vec<Fact> = users
        .iter()
        .map(|user| Fact::Member { group: group.clone(), user: user.clone(), there: true })
        .collect();
    facts.push(Fact::Group { id: group.clone() });
    let body = json!({
        "ownerUserID": users[0], "memberUserIDs": users[1..],
        "groupInfo": { "groupID": group, "groupName": group, "groupType": 2 },
    });
    work.change(&clients[0], 99, 1, "/group/create_group", body, facts).await?;
    let mut senders = tokio::task::JoinSet::new();
    for (at, client) in clients.iter().cloned().enumerate() {
        let work = work.clone();
        senders.spawn(async move { work.send(client, at, messages).await });
    }
    let mut changers = tokio::task::JoinSet::new();
    for at in 0..CHANGERS {
        let (work, owner) = (work.clone(), clients[0].clone());
        changers.spawn(async move { work.keep_changing(owner, at).await });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    // The record then ends amid changes.
    changers.abort_all();
    while changers.join_next().await.is_some() {}
    Ok(std::mem::take(&mut *work.done.lock()))
}

impl Work {
    fn user(&self, at: usize) -> String {
        format!("r{}_u{at}", self.round)
    }

    fn group(&self) -> String {
        format!("r{}_g", self.round)
    }

    async fn send(&self, client: Client, at: usize, messages: usize) -> Result {
        let mut random = Random::new(self.seed ^ (at as u64 + 1));
        let mut socket = client.connect(PLAIN).await?;
        let to = self.user(at ^ 1);
        let mut pair = [client.user_id.as_str(), &to];
        pair.sort_unstable();
        let single = format!("si_{}_{}", pair[0], pair[1]);
        for number in 0..messages {
            let length = if random.once_in(8) { 20_000 } else { 1_000 };
            let text = "x".repeat(random.below(length));
            let mut message = text_message(&client.user_id, &to, &text);
            let mut conversation = single.clone();
            if at % 3 == 2 {
                message.recv_id.clear();
                message.group_id = self.group();
                message.session_type = 3;
                conversation = format!("sg_{}", message.group_id);
            }
            let id = format!("{MESSAGE_MARK}{:04}{at:04}{number:06}", self.round);
            message.client_msg_id.clone_from(&id);
            self.done.lock().messages.insert(id, conversation);
            socket.send(&message).await?;
        }
        Ok(())
    }

    /// Registers users, makes them friends and members, and ends some of it again.
    async fn keep_changing(&self, owner: Client, at: usize) -> Result {
        let (admin, group) = (self.admin.client.clone(), self.group());
        let mut next = 0;
        for number in 0.. {
            let user = format!("r{}_c{at}_{number}", self.round);
            let mut operation = || {
                next += 1;
                next
            };
            let friend =
                |there| Fact::Friend { owner: owner.user_id.clone(), friend: user.clone(), there };
            let back =
                Fact::Friend { owner: user.clone(), friend: owner.user_id.clone(), there: true };
            let member =
                |there| vec![Fact::Member { group: group.clone(), user: user.clone(), there }];
            let body = json!({ "users": [{ "userID": user, "nickname": user }] });
            let fact = vec![Fact::User { id: user.clone() }];
            self.change(&admin, at, operation(), "/user/user_register", body, fact).await?;
            let body = json!({ "ownerUserID": owner.user_id, "friendUserIDs": [user] });
            let facts = vec![friend(true), back];
            self.change(&admin, at, operation(), "/friend/import_friend", body, facts).await?;
            let body = json!({ "groupID": group, "invitedUserIDs": [user] });
            let path = "/group/invite_user_to_group";
            self.change(&owner, at, operation(), path, body, member(true)).await?;
            if number % 3 == 0 {
                let body = json!({ "ownerUserID": owner.user_id, "friendUserID": user });
                let facts = vec![friend(false)];
                self.change(&owner, at, operation(), "/friend/delete_friend", body, facts).await?;
            }
            if number % 2 == 0 {
                let body = json!({ "groupID": group, "kickedUserIDs": [user] });
                let path = "/group/kick_group";
                self.change(&owner, at, operation(), path, body, member(false)).await?;
            }
        }
        Ok(())
    }

    /// Changes something and notes what follows from it, before it is known to have worked.
    async fn change(
        &self,
        client: &Client,
        worker: usize,
        number: usize,
        path: &str,
        body: Value,
        facts: Vec<Fact>,
    ) -> Result {
        let operation = format!("{OPERATION_MARK}{:03}{worker:02}{number:05}", self.round);
        self.done.lock().steps.push(Step { operation: operation.clone(), facts });
        let answer = client.rest.post(path, &client.token, &operation, body.to_string()).await?;
        ensure!(answer.code == 0, "{path}: {}", answer.text);
        Ok(())
    }
}
