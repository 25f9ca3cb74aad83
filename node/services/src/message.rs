//! Messages: sending, pulling, reading, revoking, deleting, searching.

pub mod admin_send;
mod carried;
mod clear;
mod content;
mod delete;
mod mention;
mod prune;
mod pull;
mod read;
mod revoke;
mod search;
mod send;
mod view;

pub(crate) use clear::clear_for_everybody;
pub(crate) use content::kind::{CUSTOM, TEXT};
pub(crate) use delete::{delete, erase, forget};
pub(crate) use mention::mark_named;
pub use pull::MAX_PULLED_BYTES;
pub(crate) use pull::{Steps, each_once, newest_shown, seqs};
pub(crate) use read::mark_read;
pub(crate) use revoke::revoke;
pub(crate) use send::{SENT, Sending, accept, response};
pub(crate) use view::window;

use proto::sdkws::MsgData;
use store::message_log::{self, ERASED};
use store::record::Conversation;

use crate::conversation_id::{GROUP, NOTIFICATION};
use crate::error::{Result, ServiceError};
use crate::notification::To;

/// Seqs or conversation IDs in one change.
pub(crate) const MAX_ELEMENTS: usize = 1_000;

/// Marks a place in a conversation whose message is with the home node of the group.
const ELSEWHERE: &str = "elsewhere";

/// What stands for a message that is gone, without its place.
pub(crate) fn trace() -> MsgData {
    MsgData { status: ERASED, ..MsgData::default() }
}

/// What stands for a message that is with the home node of its group.
pub(crate) fn elsewhere() -> MsgData {
    MsgData { server_msg_id: ELSEWHERE.to_owned(), ..trace() }
}

/// Whether a message still has to be fetched from the home node of its group.
pub(crate) fn is_elsewhere(message: &MsgData) -> bool {
    message.server_msg_id == ELSEWHERE && message_log::is_erased(message)
}

/// Refuses an empty argument.
fn required(name: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(ServiceError::args(format!("{name} is empty")));
    }
    Ok(())
}

/// Refuses an empty list and one that is too long.
fn required_list<T>(name: &str, list: &[T]) -> Result<()> {
    if list.is_empty() {
        return Err(ServiceError::args(format!("{name} is empty")));
    }
    if list.len() > MAX_ELEMENTS {
        return Err(ServiceError::args(format!("{name} has over {MAX_ELEMENTS} elements")));
    }
    Ok(())
}

/// Where a notification about a conversation goes that concerns everybody in it.
fn everybody_in(conversation: &Conversation) -> To<'_> {
    match conversation.session_type {
        GROUP => To::Group(&conversation.group_id, &[]),
        NOTIFICATION => To::Account(&conversation.user_id),
        _ => To::User(&conversation.user_id),
    }
}
