//! Conversation IDs and what they stand for.

use proto::sdkws::MsgData;
use store::record::ConversationHead;

/// Chat of two users.
pub const SINGLE: i32 = 1;
/// Chat of a group.
pub const GROUP: i32 = 3;
/// Messages of a system account to a user.
pub const NOTIFICATION: i32 = 4;

/// Two user IDs in byte order, joined by `_`.
fn joined(a: &str, b: &str) -> String {
    if a <= b { format!("{a}_{b}") } else { format!("{b}_{a}") }
}

fn pair(a: &str, b: &str) -> Vec<String> {
    let mut pair = vec![a.to_owned(), b.to_owned()];
    pair.sort();
    pair
}

/// `si_a_b`.
pub fn single(a: &str, b: &str) -> String {
    format!("si_{}", joined(a, b))
}

/// `sn_a_b`.
pub fn notification(a: &str, b: &str) -> String {
    format!("sn_{}", joined(a, b))
}

/// `sg_group`.
pub fn group(group_id: &str) -> String {
    format!("sg_{group_id}")
}

/// The group whose chat it is; empty for any other conversation.
pub fn group_of(conversation_id: &str) -> &str {
    conversation_id.strip_prefix("sg_").unwrap_or_default()
}

/// `n_user_user`, the stream of what concerns one user only.
pub fn own_stream(user_id: &str) -> String {
    format!("n_{user_id}_{user_id}")
}

/// The notification stream beside a chat: the text before the first `_` becomes `n`.
pub fn stream_of(chat: &str) -> String {
    match chat.split_once('_') {
        Some((_, rest)) => format!("n_{rest}"),
        None => format!("n_{chat}"),
    }
}

/// Whether the ID names a notification stream.
pub fn is_stream(conversation_id: &str) -> bool {
    conversation_id.starts_with("n_")
}

/// Whether a message belongs to the notification stream rather than to the chat.
pub fn is_notification(message: &MsgData) -> bool {
    message.options.get("isNotNotification") == Some(&false)
}

/// ID of the conversation a message belongs to, and who takes part in it.
pub fn of_message(message: &MsgData) -> (String, ConversationHead) {
    let (prefix, tail, pair, group_id) = match message.session_type {
        GROUP => ("sg", message.group_id.clone(), Vec::new(), message.group_id.clone()),
        session => (
            if session == NOTIFICATION { "sn" } else { "si" },
            joined(&message.send_id, &message.recv_id),
            pair(&message.send_id, &message.recv_id),
            String::new(),
        ),
    };
    let prefix = if is_notification(message) { "n" } else { prefix };
    let head = ConversationHead {
        session_type: message.session_type,
        pair,
        group_id,
        ..ConversationHead::default()
    };
    (format!("{prefix}_{tail}"), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_byte_order_of_the_users() {
        assert_eq!(single("b", "a"), "si_a_b");
        assert_eq!(single("a", "B"), "si_B_a");
        assert_eq!(stream_of("si_a_b_c"), "n_a_b_c");
        assert_eq!(stream_of("sg_1"), "n_1");
    }

    #[test]
    fn two_pairs_with_one_id_have_different_parties() {
        let message = |from: &str, to: &str| MsgData {
            send_id: from.into(),
            recv_id: to.into(),
            session_type: SINGLE,
            ..Default::default()
        };
        let (first, head) = of_message(&message("a", "b_c"));
        let (second, other) = of_message(&message("c", "a_b"));
        assert_eq!(first, second);
        assert!(!head.same_parties(&other));
    }
}
