//! Requests on the WebSocket, all about the user `mem`.

use proto::Message as _;
use proto::msg::{
    ConversationSeqs, GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq, GetSeqMessageReq,
};
use proto::push::DelUserPushTokenReq;
use proto::sdkws::{
    GetMaxSeqReq, PullMessageBySeqsReq, SeqRange, SetAppBackgroundStatusReq, SubUserOnlineStatus,
};
use testnet::{Client, Result, Wire, text_message};

use super::Scene;

/// The error code a caller gets; for those who cannot connect, that of the handshake.
pub(super) async fn call(scene: &Scene, caller: &str, number: i32) -> Result<i64> {
    let platform_id = if caller == "imAdmin" { 10 } else { 5 };
    let user_id = if ["none", "expired"].contains(&caller) { "mem" } else { caller };
    let client = Client {
        rest: scene.admin.client.rest.clone(),
        user_id: user_id.into(),
        platform_id,
        token: scene.token(caller),
    };
    let mut socket = match client.connect(Wire::JSON).await {
        Ok(socket) => socket,
        Err(error) => {
            let text = format!("{error:#}");
            let code = text.split("\"errCode\":").nth(1).unwrap_or_default();
            let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
            // Refused before the upgrade, as a missing token is.
            return Ok(digits.parse().unwrap_or(1602));
        }
    };
    let response = socket.exchange(number, request(number)).await?;
    Ok(i64::from(response.err_code))
}

fn request(number: i32) -> Vec<u8> {
    let user_id = "mem".to_owned();
    let chat = "si_mem_oth".to_owned();
    match number {
        1001 => GetMaxSeqReq { user_id }.encode_to_vec(),
        1002 => PullMessageBySeqsReq {
            user_id,
            seq_ranges: vec![SeqRange { conversation_id: chat, begin: 1, end: 9, num: 9 }],
            order: 0,
        }
        .encode_to_vec(),
        1003 => text_message("mem", "oth", "hi").encode_to_vec(),
        1005 => GetSeqMessageReq {
            user_id,
            conversations: vec![ConversationSeqs { conversation_id: chat, seqs: vec![1] }],
            order: 0,
        }
        .encode_to_vec(),
        1006 => {
            GetConversationsHasReadAndMaxSeqReq { user_id, ..Default::default() }.encode_to_vec()
        }
        1007 => GetLastMessageReq { user_id, conversation_ids: vec![chat] }.encode_to_vec(),
        2003 => DelUserPushTokenReq { user_id, platform_id: 5 }.encode_to_vec(),
        2004 => SetAppBackgroundStatusReq { user_id, is_background: true }.encode_to_vec(),
        2005 => SubUserOnlineStatus {
            subscribe_user_id: vec![user_id],
            unsubscribe_user_id: Vec::new(),
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}
