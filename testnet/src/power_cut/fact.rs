//! What the node has promised, and whether a store keeps it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use store::{Direction, View, message_log, schema};

use super::trace::Trace;
use crate::Result;

/// Something that must be in the data once it was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fact {
    Message {
        conversation: String,
        id: String,
    },
    User {
        id: String,
    },
    Friend {
        owner: String,
        friend: String,
        there: bool,
    },
    Group {
        id: String,
    },
    Member {
        group: String,
        user: String,
        there: bool,
    },
    /// A file of the data folder that is written once.
    File {
        name: String,
        text: String,
    },
}

/// A change over REST and what follows from it.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) operation: String,
    pub(super) facts: Vec<Fact>,
}

/// What a workload did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Conversation of each message by clientMsgID.
    pub(super) messages: HashMap<String, String>,
    /// Changes, those of the same record in their order.
    pub(super) steps: Vec<Step>,
}

impl Fact {
    /// What it is about, whatever it says.
    fn subject(&self) -> String {
        match self {
            Self::Message { id, .. } => format!("message {id}"),
            Self::User { id } => format!("user {id}"),
            Self::Friend { owner, friend, .. } => format!("friend {friend} of {owner}"),
            Self::Group { id } => format!("group {id}"),
            Self::Member { group, user, .. } => format!("member {user} of {group}"),
            Self::File { name, .. } => format!("file {name}"),
        }
    }
}

/// What must be there when the power goes before line `cut` of the record.
///
/// A message counts from the moment it first left the node, be it as an acknowledgement or as a
/// push; a change from the moment its answer left, until a later change of the same thing arrives.
pub(super) fn required(done: &Done, trace: &Trace, cut: usize, before: &[Fact]) -> Vec<Fact> {
    let mut facts: BTreeMap<String, Fact> =
        before.iter().map(|fact| (fact.subject(), fact.clone())).collect();
    for (id, left) in &trace.messages {
        if *left < cut
            && let Some(conversation) = done.messages.get(id)
        {
            let fact = Fact::Message { conversation: conversation.clone(), id: id.clone() };
            facts.insert(fact.subject(), fact);
        }
    }
    for step in &done.steps {
        let Some(operation) = trace.operations.get(&step.operation) else { continue };
        for fact in &step.facts {
            if operation.read < cut {
                facts.remove(&fact.subject());
            }
            if operation.answered.is_some_and(|answered| answered < cut) {
                facts.insert(fact.subject(), fact.clone());
            }
        }
    }
    facts.into_values().collect()
}

/// What `facts` say and the data does not, and gaps or doubles in the conversations they name.
pub(super) fn broken(folder: &Path, view: &View<'_>, facts: &[Fact]) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for fact in facts {
        let holds = match fact {
            Fact::Message { conversation, id } => {
                wanted.entry(conversation).or_default().push(id);
                true
            }
            Fact::User { id } => schema::USERS.contains(view, id)?,
            Fact::Friend { owner, friend, there } => {
                schema::FRIENDS.contains(view, (owner, friend))? == *there
            }
            Fact::Group { id } => schema::GROUPS.contains(view, id)?,
            Fact::Member { group, user, there } => {
                schema::MEMBERS.contains(view, (group, user))? == *there
            }
            Fact::File { name, text } => {
                std::fs::read_to_string(folder.join(name)).is_ok_and(|found| found == *text)
            }
        };
        if !holds {
            broken.push(format!("acknowledged and not so: {fact:?}"));
        }
    }
    for (conversation, ids) in wanted {
        let mut found = HashSet::new();
        if let Some(head) = schema::CONVERSATION_HEADS.get(view, conversation)? {
            let all = message_log::messages(view, head.number, 1, i64::MAX, Direction::Ascending);
            for (place, row) in (1..).zip(all) {
                let (seq, message) = row?;
                if seq != place {
                    broken.push(format!("{conversation}: seq {seq} in place {place}"));
                    break;
                }
                if !found.insert(message.client_msg_id.clone()) {
                    broken.push(format!("{conversation}: {} twice", message.client_msg_id));
                }
            }
        }
        let lost = ids.iter().filter(|id| !found.contains(**id));
        broken.extend(lost.map(|id| format!("acknowledged and lost: {id} in {conversation}")));
    }
    Ok(broken)
}
