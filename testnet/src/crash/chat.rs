//! Messages that are sent while the node is killed.

use std::collections::{BTreeMap, HashSet};

use anyhow::{bail, ensure};
use parking_lot::Mutex;
use proto::sdkws::MsgData;

use super::Report;
use crate::{Client, Result, Wire, text_message};

/// What the senders know, and what was found at the last check.
pub(super) struct Chats {
    names: Vec<String>,
    senders: Vec<Mutex<Sender>>,
    found: Mutex<BTreeMap<String, Found>>,
}

#[derive(Default)]
struct Sender {
    /// A message without an answer; it is sent again, as an SDK does.
    unanswered: Option<MsgData>,
    /// Conversation and clientMsgID of what was acknowledged since the last check.
    acknowledged: Vec<(String, String)>,
}

#[derive(Default)]
struct Found {
    ids: HashSet<String>,
    newest: i64,
}

impl Chats {
    pub(super) fn new(names: Vec<String>) -> Self {
        let senders = names.iter().map(|_| Mutex::default()).collect();
        Self { names, senders, found: Mutex::default() }
    }

    /// Sends until the connection breaks.
    pub(super) async fn send(&self, at: usize, client: &Client) {
        let Ok(mut socket) = client.connect(Wire::GOB_GZIP).await else { return };
        loop {
            let waiting = self.senders[at].lock().unanswered.take();
            let message = waiting.unwrap_or_else(|| self.message(at));
            self.senders[at].lock().unanswered = Some(message.clone());
            if socket.send(&message).await.is_err() {
                return;
            }
            let mut sender = self.senders[at].lock();
            sender.unanswered = None;
            sender.acknowledged.push((self.conversation(at), message.client_msg_id));
        }
    }

    fn message(&self, at: usize) -> MsgData {
        let mut message = text_message(&self.names[at], &self.names[self.partner(at)], "survives");
        message.client_msg_id = format!("{}-{}", self.names[at], message.client_msg_id);
        if is_in_group(at) {
            message.recv_id.clear();
            message.group_id = "g".into();
            message.session_type = 3;
        }
        message
    }

    fn partner(&self, at: usize) -> usize {
        (at + 1) % self.names.len()
    }

    /// Where the sender writes: to the group or to the next user.
    fn conversation(&self, at: usize) -> String {
        if is_in_group(at) {
            return "sg_g".into();
        }
        let mut pair = [self.names[at].as_str(), self.names[self.partner(at)].as_str()];
        pair.sort_unstable();
        format!("si_{}_{}", pair[0], pair[1])
    }

    /// Pulls what is new and compares it with what was acknowledged.
    pub(super) async fn check(&self, clients: &[Client], report: &mut Report) -> Result {
        let mut done = HashSet::new();
        for (at, client) in clients.iter().enumerate() {
            let conversation = self.conversation(at);
            if !done.insert(conversation.clone()) {
                continue;
            }
            let mut before = self.found.lock().remove(&conversation).unwrap_or_default();
            let mut socket = client.connect(Wire::GOB_GZIP).await?;
            let new = socket.history_from(&conversation, before.newest + 1).await?;
            for message in new {
                before.newest += 1;
                ensure!(
                    message.seq == before.newest,
                    "{conversation}: seq {} in place {}",
                    message.seq,
                    before.newest
                );
                let id = message.client_msg_id;
                if !before.ids.insert(id.clone()) {
                    bail!("{conversation}: {id} is there twice");
                }
            }
            self.found.lock().insert(conversation, before);
        }
        let found = self.found.lock();
        for sender in &self.senders {
            let mut sender = sender.lock();
            for (conversation, id) in sender.acknowledged.drain(..) {
                let there = found.get(&conversation).is_some_and(|found| found.ids.contains(&id));
                ensure!(there, "{conversation}: {id} was acknowledged and is lost");
                report.messages += 1;
            }
            if let Some(message) = &sender.unanswered
                && found.values().any(|found| found.ids.contains(&message.client_msg_id))
            {
                report.unanswered_kept += 1;
            }
        }
        Ok(())
    }
}

/// Every third sender writes to the group.
fn is_in_group(at: usize) -> bool {
    at % 3 == 2
}
