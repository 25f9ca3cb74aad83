//! What people do with their phones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use proto::msg::SendMsgResp;
use proto::sdkws::MsgData;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::time::Instant;

use super::check;
use super::phone::Phone;
use super::tally::Tally;
use crate::node::unique;
use crate::random::Random;
use crate::text_message;

const SEND: i32 = 1003;
const GROUP: i32 = 3;
/// Codes with which a node refuses what somebody else's change has overtaken: no right to it, not
/// there, no such member, not in the group, group dismissed, role, muted.
const OVERTAKEN: [i64; 8] = [1002, 1004, 1101, 1203, 1204, 1205, 1402, 1403];
const INVITE: &str = "/group/invite_user_to_group";
/// The node is silent for so long before anything is compared.
const QUIET: Duration = Duration::from_secs(2);
/// Longest wait for that.
const SETTLED: Duration = Duration::from_secs(60);

/// clientMsgIDs that were acknowledged, by conversation.
pub(super) type Ledger = Mutex<BTreeMap<String, Vec<String>>>;

/// One person.
pub(super) struct Life {
    pub(super) phone: Phone,
    pub(super) users: Arc<Vec<String>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) random: Random,
    /// Writes, several messages a second.
    pub(super) writes: bool,
    /// Times at which this person makes a group, latest first.
    pub(super) makes: Vec<Instant>,
    /// Groups that this person has made.
    pub(super) made: Vec<String>,
    /// Does nothing more from then on.
    pub(super) until: Instant,
    /// Passed by all when nobody does anything any more, and again when nothing more comes to anybody.
    pub(super) done: Arc<Barrier>,
}

impl Life {
    /// Lives, and compares what the phone has once everything has come to everybody.
    pub(super) async fn live(mut self) -> Result<()> {
        let mut next = Instant::now() + self.pause();
        while Instant::now() < self.until {
            if !self.phone.is_online() {
                self.come_back().await;
                continue;
            }
            let act_at = self.makes.last().map_or(next, |make| next.min(*make)).min(self.until);
            tokio::select! {
                () = self.phone.wait() => self.phone.attend().await,
                () = tokio::time::sleep_until(act_at) => {}
            }
            let now = Instant::now();
            if self.makes.last().is_some_and(|make| *make <= now) {
                self.makes.pop();
                self.make_group().await;
            }
            if next <= now {
                self.act().await;
                next = Instant::now() + self.pause();
            }
        }
        self.done.wait().await;
        self.settle().await?;
        self.wait_for_others().await;
        let checked = check::check(&mut self.phone, &self.ledger).await;
        checked.with_context(|| format!("of {}", self.phone.user()))
    }

    /// Waits until nothing more comes to anybody, and reads on: the node ends a connection on which it
    /// hears nothing.
    async fn wait_for_others(&mut self) {
        let settled = Arc::clone(&self.done);
        let mut settled = std::pin::pin!(settled.wait());
        loop {
            if !self.phone.is_online() {
                self.come_back().await;
            }
            tokio::select! {
                _ = settled.as_mut() => return,
                () = self.phone.wait() => self.phone.attend().await,
            }
        }
    }

    /// Takes what still comes, until nothing does.
    async fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + SETTLED;
        loop {
            if !self.phone.is_online() {
                self.come_back().await;
            }
            match tokio::time::timeout(QUIET, self.phone.wait()).await {
                Ok(()) => self.phone.attend().await,
                Err(_) => return Ok(()),
            }
            if Instant::now() > deadline {
                anyhow::bail!("{} is not left in peace", self.phone.user());
            }
        }
    }

    fn pause(&mut self) -> Duration {
        let ms =
            if self.writes { 150 + self.random.below(500) } else { 500 + self.random.below(2_500) };
        Duration::from_millis(ms as u64)
    }

    async fn come_back(&mut self) {
        let tally = Arc::clone(&self.phone.tally);
        Tally::add(&tally.returns);
        if let Err(error) = self.phone.come().await {
            tally.fault(format!("cannot come back: {error:#}"));
            self.phone.leave();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn act(&mut self) {
        match self.random.below(100) {
            0..=2 => self.go_away().await,
            3..=4 => {
                // The app hangs, or the system gives it no time: what is pushed piles up.
                let ms = 500 + self.random.below(2_500) as u64;
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            5..=14 => self.read().await,
            15..=17 => self.invite().await,
            18 => self.quit().await,
            19 => self.kick().await,
            _ if self.writes => self.write().await,
            _ => {}
        }
    }

    async fn go_away(&mut self) {
        self.phone.leave();
        let ms = 200 + self.random.below(5_000) as u64;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        if self.random.once_in(2) {
            self.phone.forget();
            Tally::add(&self.phone.tally.fresh);
        }
    }

    fn somebody(&mut self) -> String {
        loop {
            let user = &self.users[self.random.below(self.users.len())];
            if user != self.phone.user() {
                return user.clone();
            }
        }
    }

    fn some_group(&mut self) -> Option<String> {
        let groups = &self.phone.copy.groups.ids;
        let at = self.random.below(groups.len());
        groups.iter().nth(at).cloned()
    }

    async fn write(&mut self) {
        let group = if self.random.once_in(2) { self.some_group() } else { None };
        let to = self.somebody();
        let text = format!("message {}", unique());
        let mut message = text_message(self.phone.user(), &to, &text);
        let conversation = match group {
            Some(group) => {
                message = MsgData {
                    recv_id: String::new(),
                    group_id: group.clone(),
                    session_type: GROUP,
                    ..message
                };
                format!("sg_{group}")
            }
            None => {
                let mut pair = [self.phone.user(), to.as_str()];
                pair.sort_unstable();
                format!("si_{}_{}", pair[0], pair[1])
            }
        };
        let operation_id = format!("write-{}", unique());
        match self.phone.ask::<SendMsgResp>(&operation_id, SEND, &message).await {
            Ok((0, _)) => {
                Tally::add(&self.phone.tally.messages);
                self.ledger.lock().entry(conversation).or_default().push(message.client_msg_id);
            }
            Ok((code, _)) if OVERTAKEN.contains(&i64::from(code)) => {}
            Ok((code, _)) => self.phone.tally.fault(format!("a message was answered {code}")),
            Err(error) => self.phone.lost(&error),
        }
    }

    /// Calls a route; what a change of somebody else has overtaken may be refused.
    async fn call(&mut self, path: &str, body: Value) -> Value {
        let operation_id = format!("act-{}", unique());
        match self.phone.rest(&operation_id, path, body).await {
            Ok((0, data)) => data,
            Ok((code, detail)) if is_overtaken(path, code, &detail) => Value::Null,
            Ok((code, detail)) => {
                self.phone.tally.fault(format!("{path} answered {code}: {detail}"));
                Value::Null
            }
            Err(error) => {
                self.phone.tally.fault(format!("{path}: {error:#}"));
                Value::Null
            }
        }
    }

    async fn make_group(&mut self) {
        let mut members = Vec::new();
        let most = 2 + self.random.below(self.users.len() - 2);
        for user in self.users.iter() {
            if user != self.phone.user() && self.random.below(self.users.len()) < most {
                members.push(user.clone());
            }
        }
        let owner = self.phone.user().to_owned();
        let body = json!({
            "ownerUserID": owner, "memberUserIDs": members,
            "groupInfo": { "groupName": format!("of {owner}"), "groupType": 2 },
        });
        let made = self.call("/group/create_group", body).await;
        if let Some(group) = made["groupInfo"]["groupID"].as_str() {
            Tally::add(&self.phone.tally.groups);
            self.made.push(group.to_owned());
        }
    }

    async fn invite(&mut self) {
        let Some(group) = self.some_group() else { return };
        let user = self.somebody();
        if self.phone.copy.members.get(&group).is_some_and(|members| members.ids.contains(&user)) {
            return;
        }
        let body = json!({ "groupID": group, "invitedUserIDs": [user], "reason": "" });
        self.call(INVITE, body).await;
    }

    async fn quit(&mut self) {
        let Some(group) = self.some_group() else { return };
        self.call("/group/quit_group", json!({ "groupID": group })).await;
    }

    async fn kick(&mut self) {
        let Some(group) = self.made.get(self.random.below(self.made.len())).cloned() else {
            return;
        };
        let user = self.somebody();
        self.call("/group/kick_group", json!({ "groupID": group, "kickedUserIDs": [user] })).await;
    }

    async fn read(&mut self) {
        let unread = |id: &&String| {
            let chat = self.phone.copy.chats.get(*id);
            chat.is_some_and(|chat| chat.read_seq < chat.max_seq)
        };
        let chats: Vec<String> =
            self.phone.copy.conversations.ids.iter().filter(unread).cloned().collect();
        let Some(id) = chats.get(self.random.below(chats.len())) else { return };
        let Some(chat) = self.phone.copy.chats.get(id) else { return };
        let through = chat.max_seq;
        let seqs: Vec<i64> = if id.starts_with("si_") {
            (chat.read_seq + 1..=through).collect()
        } else {
            Vec::new()
        };
        let body = json!({
            "userID": self.phone.user(), "conversationID": id,
            "hasReadSeq": through, "seqs": seqs,
        });
        self.call("/msg/mark_conversation_as_read", body).await;
    }
}

/// Whether an answer says that somebody else's change came first.
fn is_overtaken(path: &str, code: i64, detail: &Value) -> bool {
    // As OpenIM answers for somebody who is in the group by now.
    let is_member = || {
        let text = detail.as_str().unwrap_or_default();
        path == INVITE && code == 500 && text.contains("already")
    };
    OVERTAKEN.contains(&code) || is_member()
}

/// Times, latest first, at which each of some people makes their part of some groups.
pub(super) fn shared_out(
    groups: usize,
    people: usize,
    within: Duration,
    random: &mut Random,
) -> Result<Vec<Vec<Instant>>> {
    let mut times = vec![Vec::new(); people];
    let now = Instant::now();
    for at in 0..groups {
        let share = within.mul_f64(at as f64 / groups as f64);
        let person = random.below(people);
        times.get_mut(person).context("no such person")?.push(now + share);
    }
    times.iter_mut().for_each(|times| times.reverse());
    Ok(times)
}
