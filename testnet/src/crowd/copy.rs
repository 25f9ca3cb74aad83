//! What a phone keeps: copies of lists that follow version logs, and messages by seq.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::version_log::Version;

/// A copy of a list, and the state of the node's list that it is a copy of.
#[derive(Debug, Default)]
pub(super) struct ListCopy {
    pub(super) ids: BTreeSet<String>,
    version: Version,
}

impl ListCopy {
    /// Adds to a request what the phone has.
    pub(super) fn since(&self, request: Value) -> Value {
        self.version.since(request)
    }

    /// Takes what changed; returns `false` if the whole list has to be fetched.
    pub(super) fn take(
        &mut self,
        answer: &Value,
        id_of: impl Fn(&Value) -> Option<String>,
    ) -> bool {
        // What an answer without a version tells of cannot be known.
        let Ok(Some(changes)) = self.version.step(answer) else { return false };
        for gone in changes.gone {
            self.ids.remove(gone);
        }
        self.ids.extend(changes.rows.into_iter().filter_map(id_of));
        true
    }
}

/// The texts in a list, which may be null.
pub(super) fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// One conversation or notification stream.
#[derive(Debug, Default)]
pub(super) struct Chat {
    /// clientMsgID by seq; what was skipped is fetched when the chat is opened.
    pub(super) messages: BTreeMap<i64, String>,
    /// Newest seq that the phone has heard of.
    pub(super) max_seq: i64,
    pub(super) read_seq: i64,
}

/// Everything a phone keeps.
#[derive(Debug, Default)]
pub(super) struct Copy {
    pub(super) friends: ListCopy,
    pub(super) groups: ListCopy,
    pub(super) conversations: ListCopy,
    /// Members by group.
    pub(super) members: BTreeMap<String, ListCopy>,
    /// Chats and streams by conversation ID.
    pub(super) chats: BTreeMap<String, Chat>,
}
