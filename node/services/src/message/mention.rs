//! The "somebody mentioned you" marks on the conversations of group members.

use std::collections::BTreeSet;

use proto::OperationId;
use proto::qualified::is_remote;
use proto::sdkws::MsgData;
use store::record::GroupCall;
use store::{Direction, Read, schema};

use super::{MAX_ELEMENTS, content};
use crate::access::Caller;
use crate::change::Change;
use crate::conversation_id::{self, GROUP};
use crate::error::Result;
use crate::{Services, platform};

/// Stands for everybody in a list of mentioned users.
const EVERYBODY: &str = "AtAllTag";

const AT_ME: i32 = 1;
const AT_ALL: i32 = 2;
const AT_ALL_AND_ME: i32 = 3;
const ANNOUNCEMENT: i32 = 4;

/// Members marked in one transaction; what others say has to wait for it.
const CHUNK: usize = 64;
/// Members looked at in one step.
const LOOKED_AT: usize = 1_000;

/// Marks the members a group message mentions by name, in the transaction that stores it.
///
/// Of a message to everybody it notes that the others have to be marked, and returns whether it is
/// one: [`Services::mark_everybody`] does the rest when the message is out.
pub(crate) fn mark_named(change: &mut Change<'_, '_>, message: &MsgData) -> Result<bool> {
    if message.session_type != GROUP || message.content_type != content::kind::AT {
        return Ok(false);
    }
    let named = message.at_user_id_list.iter().filter(|user| *user != EVERYBODY);
    let named: BTreeSet<&String> = named.take(MAX_ELEMENTS).collect();
    let to_all = message.at_user_id_list.iter().any(|user| user == EVERYBODY);
    let mark = if to_all { AT_ALL_AND_ME } else { AT_ME };
    for user_id in &named {
        mark_member(change, &message.group_id, user_id, mark)?;
    }
    if to_all {
        // It takes the place of an earlier one whose members are still being marked.
        let call = GroupCall {
            after: String::new(),
            sender: message.send_id.clone(),
            named: named.into_iter().cloned().collect(),
            operation_id: change.caller.operation_id.to_string(),
            mark: AT_ALL,
        };
        schema::GROUP_CALLS.put(change.tx, &message.group_id, &call);
    }
    Ok(to_all)
}

/// Marks a user's conversation with a group, if the user is in it.
fn mark_member(
    change: &mut Change<'_, '_>,
    group_id: &str,
    user_id: &str,
    mark: i32,
) -> Result<()> {
    // Each node marks its own users.
    if is_remote(user_id) || !schema::MEMBERS.contains(change.tx, (group_id, user_id))? {
        return Ok(());
    }
    let chat = conversation_id::group(group_id);
    if change.edit_conversation(user_id, &chat, |record| record.group_at_type = mark)? {
        change.conversations_changed(user_id, vec![chat])?;
    }
    Ok(())
}

impl Change<'_, '_> {
    /// Notes that all members of a group are to be shown that there is an announcement;
    /// [`Services::mark_everybody`] does the rest when it is out.
    pub(crate) fn note_announcement(&mut self, group_id: &str) {
        let call = GroupCall {
            operation_id: self.caller.operation_id.to_string(),
            mark: ANNOUNCEMENT,
            ..Default::default()
        };
        schema::GROUP_CALLS.put(self.tx, group_id, &call);
    }
}

fn mark_of(call: &GroupCall) -> i32 {
    if call.mark == 0 { AT_ALL } else { call.mark }
}

impl Services {
    /// Goes on with the members that the last stop of the node left unmarked.
    pub(crate) fn resume_mentions(&self) -> Result<()> {
        let view = self.store().view();
        for row in schema::GROUP_CALLS.scan(&view, ()) {
            tokio::spawn(self.clone().mark_everybody(row?.0));
        }
        Ok(())
    }

    /// As [`mark_everybody`](Self::mark_everybody), from within a change.
    pub(crate) fn mark_everybody_later(&self, group_id: String) {
        self.inner.runtime.spawn(self.clone().mark_everybody(group_id));
    }

    /// Marks the members of a group that somebody called, some at a time so that other changes are
    /// not held up.
    pub(crate) async fn mark_everybody(self, group_id: String) {
        loop {
            match self.mark_more(&group_id).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "members are marked as mentioned at the next start");
                    break;
                }
            }
        }
    }

    /// Returns whether members are left to be marked.
    async fn mark_more(&self, group_id: &str) -> Result<bool> {
        let (call, unmarked, last) = {
            let view = self.store().view();
            let Some(call) = schema::GROUP_CALLS.get(&view, group_id)? else { return Ok(false) };
            let (unmarked, last) = unmarked(&view, group_id, &call)?;
            (call, unmarked, last)
        };
        let caller = Caller {
            user_id: call.sender.clone(),
            platform_id: platform::ADMIN,
            operation_id: OperationId::new(&call.operation_id),
            is_admin: false,
        };
        let group_id = group_id.to_owned();
        self.change(&caller, move |change| {
            // Meanwhile another message to everybody may have begun anew.
            let now = schema::GROUP_CALLS.get(change.tx, &group_id)?;
            if now.as_ref() != Some(&call) {
                return Ok(now.is_some());
            }
            for user_id in &unmarked {
                mark_member(change, &group_id, user_id, mark_of(&call))?;
            }
            match last {
                Some(after) => {
                    schema::GROUP_CALLS.put(change.tx, &group_id, &GroupCall { after, ..call });
                    Ok(true)
                }
                None => {
                    schema::GROUP_CALLS.delete(change.tx, &group_id);
                    Ok(false)
                }
            }
        })
        .await
    }
}

/// Who of the next members needs the mark, and the last member looked at.
fn unmarked(
    from: &impl Read,
    group_id: &str,
    call: &GroupCall,
) -> Result<(Vec<String>, Option<String>)> {
    let chat = conversation_id::group(group_id);
    let (mut unmarked, mut last) = (Vec::new(), None);
    let after = call.after.as_str();
    let rows = schema::MEMBERS.range(from, (group_id, after), group_id, Direction::Ascending);
    let ids = rows.map(|row| row.map(|((_, user_id), _)| user_id));
    for id in ids.skip_while(|id| id.as_ref().is_ok_and(|id| id == after)).take(LOOKED_AT) {
        let user_id = id?;
        if user_id != call.sender && call.named.binary_search(&user_id).is_err() {
            let record = schema::CONVERSATIONS.get(from, (&user_id, &chat))?;
            if record.is_none_or(|record| record.group_at_type != mark_of(call)) {
                unmarked.push(user_id.clone());
            }
        }
        last = Some(user_id);
        if unmarked.len() == CHUNK {
            break;
        }
    }
    Ok((unmarked, last))
}
