//! Actions that are calls of the REST API: how each is asked for, and what follows by the model.

use anyhow::bail;
use serde_json::{Value, json};

use super::action::{Action, Chat};
use super::device::User;
use super::expected::{Outcome, State};
use crate::Result;

/// Who calls what with what, for an action that is a call of the REST API.
pub(super) fn request(action: &Action, new_group: &str) -> Result<(User, &'static str, Value)> {
    use Action as A;
    let id = |user: &User| user.id();
    Ok(match action {
        A::Revoke { by, conversation, seq } => (
            *by,
            "/msg/revoke_msg",
            json!({ "userID": id(by), "conversationID": conversation, "seq": seq }),
        ),
        A::Delete { by, conversation, seq, everybody } => (
            *by,
            "/msg/delete_msgs",
            json!({
                "userID": id(by), "conversationID": conversation, "seqs": [seq],
                "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": everybody },
            }),
        ),
        A::Clear { by, conversation, everybody } => (
            *by,
            "/msg/clear_conversation_msg",
            json!({
                "userID": id(by), "conversationIDs": [conversation],
                "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": everybody },
            }),
        ),
        A::ClearAll(by) => (
            *by,
            "/msg/user_clear_all_msg",
            json!({
                "userID": id(by), "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": false },
            }),
        ),
        A::Remove { by, conversation } => (
            *by,
            "/conversation/delete_conversations",
            json!({ "ownerUserID": id(by), "conversationIDs": [conversation] }),
        ),
        A::Set { by, chat, wanted } => {
            let mut wished = json!({ "conversationID": chat.conversation(*by) });
            match chat {
                Chat::Pair(peer) => {
                    wished["conversationType"] = 1.into();
                    wished["userID"] = id(peer).into();
                }
                Chat::Group(group) => {
                    wished["conversationType"] = 3.into();
                    wished["groupID"] = group.as_str().into();
                }
            }
            if let Some(pinned) = wanted.pinned {
                wished["isPinned"] = pinned.into();
            }
            if let Some(receive) = wanted.receive {
                wished["recvMsgOpt"] = receive.into();
            }
            (
                *by,
                "/conversation/set_conversations",
                json!({ "userIDs": [id(by)], "conversation": wished }),
            )
        }
        A::Read { by, conversation, seq } => (
            *by,
            "/msg/mark_conversation_as_read",
            json!({ "userID": id(by), "conversationID": conversation, "hasReadSeq": seq }),
        ),
        A::AskFriend { from, to } => (
            *from,
            "/friend/add_friend",
            json!({ "fromUserID": id(from), "toUserID": id(to), "reqMsg": "" }),
        ),
        A::AnswerFriend { from, to, agree } => (
            *to,
            "/friend/add_friend_response",
            json!({
                "fromUserID": id(from), "toUserID": id(to), "handleMsg": "",
                "handleResult": if *agree { 1 } else { -1 },
            }),
        ),
        A::RemoveFriend { owner, friend } => (
            *owner,
            "/friend/delete_friend",
            json!({ "ownerUserID": id(owner), "friendUserID": id(friend) }),
        ),
        A::Block { owner, other } => (
            *owner,
            "/friend/add_black",
            json!({ "ownerUserID": id(owner), "blackUserID": id(other) }),
        ),
        A::Unblock { owner, other } => (
            *owner,
            "/friend/remove_black",
            json!({ "ownerUserID": id(owner), "blackUserID": id(other) }),
        ),
        A::CreateGroup { owner, members, admission, quiet } => (
            *owner,
            "/group/create_group",
            json!({
                "ownerUserID": id(owner), "sendMessage": !quiet,
                "memberUserIDs": members.iter().map(id).collect::<Vec<_>>(),
                "groupInfo": {
                    "groupID": new_group, "groupName": "g", "groupType": 2,
                    "needVerification": admission,
                },
            }),
        ),
        A::Invite { by, group, user, quiet } => (
            *by,
            "/group/invite_user_to_group",
            json!({
                "groupID": group, "invitedUserIDs": [id(user)], "reason": "",
                "sendMessage": !quiet,
            }),
        ),
        A::Join { group, user } => (
            *user,
            "/group/join_group",
            json!({
                "groupID": group, "inviterUserID": id(user), "joinSource": 3,
                "reqMessage": "",
            }),
        ),
        A::AnswerJoin { by, group, user, agree } => (
            *by,
            "/group/group_application_response",
            json!({
                "groupID": group, "fromUserID": id(user), "handledMsg": "",
                "handleResult": if *agree { 1 } else { -1 },
            }),
        ),
        A::Kick { by, group, user, quiet } => (
            *by,
            "/group/kick_group",
            json!({
                "groupID": group, "kickedUserIDs": [id(user)], "reason": "",
                "sendMessage": !quiet,
            }),
        ),
        A::Quit { group, user } => {
            (*user, "/group/quit_group", json!({ "groupID": group, "userID": id(user) }))
        }
        A::Transfer { by, group, to } => (
            *by,
            "/group/transfer_group",
            json!({ "groupID": group, "oldOwnerUserID": id(by), "newOwnerUserID": id(to) }),
        ),
        A::Dismiss { by, group, quiet } => {
            (*by, "/group/dismiss_group", json!({ "groupID": group, "deleteMember": quiet }))
        }
        A::Rank { by, group, user, admin } => (
            *by,
            "/group/set_group_member_info",
            json!({ "members": [{
                "groupID": group, "userID": id(user),
                "roleLevel": if *admin { 60 } else { 20 },
            }] }),
        ),
        A::MuteMember { by, group, user, seconds } => (
            *by,
            "/group/mute_group_member",
            json!({ "groupID": group, "userID": id(user), "mutedSeconds": seconds }),
        ),
        A::UnmuteMember { by, group, user } => (
            *by,
            "/group/cancel_mute_group_member",
            json!({ "groupID": group, "userID": id(user) }),
        ),
        A::MuteGroup { by, group, on: true } => {
            (*by, "/group/mute_group", json!({ "groupID": group }))
        }
        A::MuteGroup { by, group, on: false } => {
            (*by, "/group/cancel_mute_group", json!({ "groupID": group }))
        }
        other => bail!("{other:?} is no call"),
    })
}

/// What follows from such an action by the model.
pub(super) fn expect(state: &mut State, action: &Action, new_group: &str) -> Outcome {
    use Action as A;
    match action {
        A::Revoke { by, conversation, seq } => state.revoke(*by, conversation, *seq),
        A::Delete { by, conversation, seq, everybody } => {
            state.delete(*by, conversation, *seq, *everybody)
        }
        A::Clear { by, conversation, everybody } => state.clear(*by, conversation, *everybody),
        A::ClearAll(by) => state.clear_all(*by),
        A::Remove { by, conversation } => state.remove(*by, conversation),
        A::Set { by, chat, wanted } => state.set(*by, chat, *wanted),
        A::Read { by, conversation, seq } => state.read(*by, conversation, *seq),
        A::AskFriend { from, to } => state.ask_friend(*from, *to),
        A::AnswerFriend { from, to, agree } => state.answer_friend(*from, *to, *agree),
        A::RemoveFriend { owner, friend } => state.remove_friend(*owner, *friend),
        A::Block { owner, other } => state.block(*owner, *other),
        A::Unblock { owner, other } => state.unblock(*owner, *other),
        A::CreateGroup { owner, members, admission, quiet } => {
            state.create_group(new_group, *owner, members, *admission, *quiet)
        }
        A::Invite { by, group, user, quiet } => state.invite(*by, group, *user, *quiet),
        A::Join { group, user } => state.join(group, *user),
        A::AnswerJoin { by, group, user, agree } => state.answer_join(*by, group, *user, *agree),
        A::Kick { by, group, user, quiet } => state.kick(*by, group, *user, *quiet),
        A::Quit { group, user } => state.quit(group, *user),
        A::Transfer { by, group, to } => state.transfer(*by, group, *to),
        A::Dismiss { by, group, quiet } => state.dismiss(*by, group, *quiet),
        A::Rank { by, group, user, admin } => state.rank(*by, group, *user, *admin),
        A::MuteMember { by, group, user, seconds } => {
            state.mute_member(*by, group, *user, Some(*seconds))
        }
        A::UnmuteMember { by, group, user } => state.mute_member(*by, group, *user, None),
        A::MuteGroup { by, group, on } => state.mute_group(*by, group, *on),
        _ => Outcome::default(),
    }
}
