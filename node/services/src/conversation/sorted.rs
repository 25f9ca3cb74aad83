//! The list of conversations with their last messages, newest first.

use std::cmp::Reverse;

use proto::conversation::{
    ConversationElem, GetSortedConversationListReq, GetSortedConversationListResp, MsgInfo,
};
use proto::sdkws::MsgData;
use store::record::Conversation;
use store::{Read, schema};

use super::{find, list};
use crate::Services;
use crate::access::Caller;
use crate::conversation_id::GROUP;
use crate::error::{Result, ServiceError};
use crate::message::{Steps, each_once, newest_shown, seqs};
use crate::page::Page;
use crate::user::check_count;

/// Conversations named in one request, at most.
const MAX_IDS: usize = 10_000;

impl Services {
    /// A page of a user's conversations with their last messages: pinned first, then newest first.
    pub fn get_sorted_conversation_list(
        &self,
        caller: &Caller,
        request: &GetSortedConversationListReq,
    ) -> Result<GetSortedConversationListResp> {
        let owner = request.user_id.as_str();
        if owner.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        let page = Page::required(request.pagination.as_ref())?;
        check_count("conversationIDs", request.conversation_ids.len(), MAX_IDS)?;
        caller.must_be(owner)?;
        let view = self.store().view();
        let conversations = if request.conversation_ids.is_empty() {
            list(&view, owner)?
        } else {
            let mut found = Vec::new();
            for id in each_once(&request.conversation_ids) {
                found.extend(find(&view, owner, id)?.map(|record| (id.clone(), record)));
            }
            found
        };
        if conversations.is_empty() {
            return Err(ServiceError::not_found("no such conversation"));
        }
        let (mut unread_total, mut conversation_total) = (0, 0);
        let mut rows = Vec::new();
        for (id, record) in conversations {
            let seqs = seqs(&view, owner, &id)?;
            let spoken = seqs.max_seq > 0;
            let unread = (seqs.max_seq - seqs.has_read_seq).max(0);
            unread_total += unread;
            conversation_total += i64::from(spoken);
            let time = if spoken { seqs.max_seq_time } else { record.order.cast_signed() };
            rows.push(((!record.pinned, Reverse(time)), id, record, unread));
        }
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let (mut conversation_elems, mut steps) = (Vec::new(), Steps::default());
        for (_, id, record, unread_count) in page.of(rows) {
            let last = newest_shown(&view, owner, &id, &mut steps)?;
            conversation_elems.push(ConversationElem {
                conversation_id: id,
                recv_msg_opt: record.recv_msg_opt,
                unread_count,
                is_pinned: record.pinned,
                msg_info: last.map(|message| msg_info(&view, &record, message)).transpose()?,
            });
        }
        Ok(GetSortedConversationListResp { conversation_total, unread_total, conversation_elems })
    }
}

/// The last message as the list shows it: with the peer's name and face, or the sender's name and
/// the group.
fn msg_info(from: &impl Read, conversation: &Conversation, message: MsgData) -> Result<MsgInfo> {
    let mut info = MsgInfo {
        server_msg_id: message.server_msg_id,
        client_msg_id: message.client_msg_id,
        session_type: message.session_type,
        send_id: message.send_id,
        recv_id: message.recv_id,
        group_id: message.group_id,
        latest_msg_recv_time: message.send_time,
        msg_from: message.msg_from,
        content_type: message.content_type,
        content: String::from_utf8_lossy(&message.content).into_owned(),
        ex: message.ex,
        ..Default::default()
    };
    if conversation.session_type == GROUP {
        let sender = schema::USERS.get(from, &info.send_id)?;
        info.sender_name = sender.map_or(message.sender_nickname, |sender| sender.nickname);
        if let Some(group) = schema::GROUPS.get(from, &conversation.group_id)? {
            info.group_name = group.info.group_name;
            info.group_face_url = group.info.face_url;
            info.group_type = group.info.group_type;
            info.group_member_count = group.info.member_count;
        }
    } else if let Some(peer) = schema::USERS.get(from, &conversation.user_id)? {
        info.sender_name = peer.nickname;
        info.face_url = peer.face_url;
    }
    Ok(info)
}
