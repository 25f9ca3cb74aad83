//! What the JS SDK asks for at once: conversations with their last message and parties.

use proto::jssdk::{
    ConversationMsg, GetActiveConversationsReq, GetActiveConversationsResp, GetConversationsReq,
    GetConversationsResp,
};
use proto::relation::FriendInfoOnly;
use store::record::Conversation;
use store::{Read, schema};

use crate::Services;
use crate::access::Caller;
use crate::conversation::{find, list, to_wire};
use crate::error::Result;
use crate::message::{Steps, each_once, newest_shown, seqs};
use crate::user::check_count;

/// Conversations in one answer where the request does not say or says too many.
const DEFAULT_COUNT: usize = 100;
/// Most conversations in one answer.
const MAX_COUNT: i64 = 500;
/// Conversations named in one request, at most.
const MAX_IDS: usize = 10_000;

impl Services {
    /// A user's conversations with the newest messages, pinned ones first.
    pub fn get_active_conversations(
        &self,
        caller: &Caller,
        request: &GetActiveConversationsReq,
    ) -> Result<GetActiveConversationsResp> {
        let count = match request.count {
            count @ 1..=MAX_COUNT => usize::try_from(count).unwrap_or(DEFAULT_COUNT),
            _ => DEFAULT_COUNT,
        };
        let (view, owner) = (self.store().view(), caller.acts_for(&request.owner_user_id)?);
        let mut unread_count = 0;
        let mut rows = Vec::new();
        for (id, record) in list(&view, owner)? {
            let seqs = seqs(&view, owner, &id)?;
            if seqs.max_seq == 0 {
                continue;
            }
            unread_count += (seqs.max_seq - seqs.has_read_seq).max(0);
            let key = (!record.pinned, std::cmp::Reverse(seqs.max_seq_time));
            rows.push((key, id, record, seqs));
        }
        rows.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let (mut conversations, mut steps) = (Vec::new(), Steps::default());
        for (_, id, record, seqs) in rows.into_iter().take(count) {
            let read = (seqs.max_seq, seqs.has_read_seq);
            conversations.extend(filled(&view, owner, &id, record, read, &mut steps)?);
        }
        Ok(GetActiveConversationsResp { unread_count, conversations })
    }

    /// Those of the conversations named that the user has, each once.
    pub fn get_js_conversations(
        &self,
        caller: &Caller,
        request: &GetConversationsReq,
    ) -> Result<GetConversationsResp> {
        check_count("conversationIDs", request.conversation_ids.len(), MAX_IDS)?;
        let (view, owner) = (self.store().view(), caller.acts_for(&request.owner_user_id)?);
        let (mut answer, mut steps) = (GetConversationsResp::default(), Steps::default());
        for id in each_once(&request.conversation_ids) {
            let Some(record) = find(&view, owner, id)? else { continue };
            let seqs = seqs(&view, owner, id)?;
            answer.unread_count += (seqs.max_seq - seqs.has_read_seq).max(0);
            let read = (seqs.max_seq, seqs.has_read_seq);
            let filled = filled(&view, owner, id, record, read, &mut steps)?;
            answer.conversations.extend(filled);
        }
        Ok(answer)
    }
}

/// A conversation with everything around it; `None` if nothing can be shown of it.
fn filled(
    from: &impl Read,
    owner: &str,
    id: &str,
    record: Conversation,
    (max_seq, read_seq): (i64, i64),
    steps: &mut Steps,
) -> Result<Option<ConversationMsg>> {
    let Some(last_msg) = newest_shown(from, owner, id, steps)? else { return Ok(None) };
    let mut filled =
        ConversationMsg { last_msg: Some(last_msg), max_seq, read_seq, ..Default::default() };
    if record.group_id.is_empty() {
        filled.user = schema::USERS.get(from, &record.user_id)?;
        let friend = schema::FRIENDS.get(from, (owner, &record.user_id))?;
        filled.friend = friend.map(|friend| FriendInfoOnly {
            owner_user_id: owner.to_owned(),
            friend_user_id: record.user_id.clone(),
            remark: friend.remark,
            create_time: friend.created,
            add_source: friend.add_source,
            operator_user_id: friend.operator_user_id,
            ex: friend.ex,
            is_pinned: friend.pinned,
        });
    } else {
        filled.group = schema::GROUPS.get(from, &record.group_id)?.map(|group| group.info);
    }
    filled.conversation = Some(to_wire(owner, id, record));
    Ok(Some(filled))
}
