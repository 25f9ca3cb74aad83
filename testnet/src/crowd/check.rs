//! What a phone keeps against what the node states.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use proto::msg::{GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp};
use serde_json::{Value, json};

use super::copy::{Copy, strings};
use super::life::Ledger;
use super::phone::Phone;

const READ_AND_MAX_SEQS: i32 = 1006;

/// Compares everything a phone has; faults are noted with their kind.
pub(super) async fn check(phone: &mut Phone, ledger: &Ledger) -> Result<()> {
    lists(phone).await;
    let request = GetConversationsHasReadAndMaxSeqReq {
        user_id: phone.user().to_owned(),
        conversation_ids: phone.copy.conversations.ids.iter().cloned().collect(),
        ..Default::default()
    };
    let (code, stated): (i32, GetConversationsHasReadAndMaxSeqResp) =
        phone.ask("check", READ_AND_MAX_SEQS, &request).await?;
    ensure!(code == 0, "{READ_AND_MAX_SEQS} answered {code}");
    for id in phone.copy.conversations.ids.clone() {
        let stated = stated.seqs.get(&id).cloned().unwrap_or_default();
        let chat = phone.copy.chats.entry(id.clone()).or_default();
        let unread = (chat.max_seq - chat.read_seq).max(0);
        let wanted = (stated.max_seq - stated.has_read_seq).max(0);
        if chat.max_seq != stated.max_seq {
            phone.tally.fault("a chat ends elsewhere on the phone");
        } else if unread != wanted {
            phone.tally.fault("a chat has another number of unread messages on the phone");
        }
        phone.open(&id).await?;
        messages(phone, &id, ledger);
    }
    Ok(())
}

/// All IDs that the node states.
async fn all(phone: &mut Phone, path: &str, body: &Value, ids: &str) -> BTreeSet<String> {
    let answer = phone.must("check", path, body.clone()).await;
    strings(&answer[ids]).into_iter().collect()
}

async fn lists(phone: &mut Phone) {
    let user = json!({ "userID": phone.user(), "idHash": 0 });
    let friends = all(phone, "/friend/get_full_friend_user_ids", &user, "userIDs").await;
    let groups = all(phone, "/group/get_full_join_group_ids", &user, "groupIDs").await;
    let conversations =
        all(phone, "/conversation/get_full_conversation_ids", &user, "conversationIDs").await;
    let mut members = BTreeMap::new();
    for group in &groups {
        let body = json!({ "groupID": group, "idHash": 0 });
        let ids = all(phone, "/group/get_full_group_member_user_ids", &body, "userIDs").await;
        members.insert(group.clone(), ids);
    }
    let Phone { copy, tally, .. } = phone;
    let Copy { friends: had, groups: joined, conversations: chats, members: of, .. } = copy;
    for (what, has, wanted) in [
        ("friend", &had.ids, &friends),
        ("group", &joined.ids, &groups),
        ("conversation", &chats.ids, &conversations),
    ] {
        compare(what, has, wanted, |fault| tally.fault(fault));
    }
    let nobody = BTreeSet::new();
    for (group, wanted) in &members {
        let has = of.get(group).map_or(&nobody, |members| &members.ids);
        compare("member", has, wanted, |fault| tally.fault(fault));
    }
}

fn compare(what: &str, has: &BTreeSet<String>, wanted: &BTreeSet<String>, fault: impl Fn(String)) {
    wanted.difference(has).for_each(|_| fault(format!("a phone lacks a {what}")));
    has.difference(wanted).for_each(|_| fault(format!("a phone has a {what} too many")));
}

/// Every message that was acknowledged is there once, and no seq is missing.
fn messages(phone: &Phone, id: &str, ledger: &Ledger) {
    let Some(chat) = phone.copy.chats.get(id) else { return };
    let missing = (1..=chat.max_seq).filter(|seq| !chat.messages.contains_key(seq)).count();
    (0..missing).for_each(|_| phone.tally.fault("a phone lacks a message"));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for client_msg_id in chat.messages.values().filter(|id| !id.is_empty()) {
        *seen.entry(client_msg_id).or_default() += 1;
    }
    seen.values()
        .filter(|times| **times > 1)
        .for_each(|_| phone.tally.fault("a message is there twice"));
    let takes_part = match id.strip_prefix("sg_") {
        Some(group) => phone.copy.groups.ids.contains(group),
        None => true,
    };
    let ledger = ledger.lock();
    for written in ledger.get(id).into_iter().flatten().filter(|_| takes_part) {
        if !seen.contains_key(written.as_str()) {
            phone.tally.fault("an acknowledged message is not on a phone");
        }
    }
}
