use proto::msg::SendMsgResp;
use serde::Serialize;
use services::message::admin_send::{BusinessNotification, Receivers, SendMsg, SimpleMsg};

use super::answer::{Answer, decode, encode};
use super::route::{Call, Route, call, read};
use crate::error_code::ApiError;

const SINGLE: i32 = 1;
const WRITE_GROUP: i32 = 2;
const GROUP: i32 = 3;
const NOTIFICATION: i32 = 4;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/msg/newest_seq", read!(max_seqs)),
        Route::new("/msg/search_msg", call!(search_msg)),
        Route::new("/msg/send_msg", |call| Box::pin(send_msg(call))).with_bad_request(),
        Route::new("/msg/batch_send_msg", |call| Box::pin(batch_send_msg(call))).with_bad_request(),
        Route::new("/msg/send_simple_msg", |call| Box::pin(send_simple_msg(call)))
            .with_bad_request(),
        Route::new("/msg/send_business_notification", |call| {
            Box::pin(send_business_notification(call))
        })
        .with_bad_request(),
        Route::new("/msg/pull_msg_by_seq", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                call.services.fetch_ranges(call.caller()?, &request).await?;
                encode(&call.services.pull_by_ranges(call.caller()?, &request)?)
            })
        }),
        Route::new("/msg/revoke_msg", call!(revoke_msg)),
        Route::new("/msg/mark_msgs_as_read", call!(mark_msgs_as_read)),
        Route::new("/msg/mark_conversation_as_read", call!(mark_conversation_as_read)),
        Route::new("/msg/get_conversations_has_read_and_max_seq", read!(read_and_max_seqs)),
        Route::new("/msg/set_conversation_has_read_seq", call!(set_conversation_has_read_seq)),
        Route::new("/msg/clear_conversation_msg", call!(clear_conversation_msg)),
        Route::new("/msg/user_clear_all_msg", call!(user_clear_all_msg)),
        Route::new("/msg/delete_msgs", call!(delete_msgs)),
        // The missing letter is part of the API.
        Route::new("/msg/delete_msg_phsical_by_seq", call!(delete_msg_physical_by_seq)),
        Route::new("/msg/delete_msg_physical", call!(delete_msg_physical)),
        Route::new("/msg/check_msg_is_send_success", read!(get_send_msg_status)),
        Route::new("/msg/get_server_time", read!(get_server_time)),
    ]
}

/// The answer to a send; `modify` is there only when a webhook changed the message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(rename = "serverMsgID")]
    server_msg_id: String,
    #[serde(rename = "clientMsgID")]
    client_msg_id: String,
    send_time: i64,
    #[serde(rename = "recvID", skip_serializing_if = "Option::is_none")]
    recv_id: Option<String>,
}

#[derive(Serialize)]
struct BatchAnswer {
    results: Option<Vec<Sent>>,
    #[serde(rename = "failedUserIDs")]
    failed_user_ids: Option<Vec<String>>,
}

fn sent(response: SendMsgResp, recv_id: Option<String>) -> Sent {
    Sent {
        server_msg_id: response.server_msg_id,
        client_msg_id: response.client_msg_id,
        send_time: response.send_time,
        recv_id,
    }
}

fn require(given: bool, name: &str) -> Result<(), ApiError> {
    if given { Ok(()) } else { Err(ApiError::bad_body(format!("{name} is required"))) }
}

/// What a message to send cannot do without.
fn bind(body: &[u8]) -> Result<SendMsg, ApiError> {
    let request: SendMsg = decode(body)?;
    require(!request.send_id.is_empty(), "sendID")?;
    require(request.content.is_some(), "content")?;
    require(request.content_type != 0, "contentType")?;
    require(request.session_type != 0, "sessionType")?;
    let to_group = [WRITE_GROUP, GROUP].contains(&request.session_type);
    require(!to_group || !request.group_id.is_empty(), "groupID")?;
    Ok(request)
}

async fn send_msg(call: Call) -> Answer {
    let request = bind(&call.body)?;
    let to_user = [SINGLE, NOTIFICATION].contains(&request.session_type);
    require(!to_user || !request.recv_id.is_empty(), "recvID")?;
    let response = call.services.send_msg(call.caller()?, request).await?;
    encode(&sent(response, None))
}

async fn batch_send_msg(call: Call) -> Answer {
    let request = bind(&call.body)?;
    let receivers: Receivers = decode(&call.body)?;
    require(receivers.recv_ids.is_some(), "recvIDs")?;
    let batch = call.services.batch_send_msg(call.caller()?, request, receivers).await?;
    let results: Vec<Sent> = batch
        .results
        .into_iter()
        .map(|(receiver, response)| sent(response, Some(receiver)))
        .collect();
    encode(&BatchAnswer {
        results: (!results.is_empty()).then_some(results),
        failed_user_ids: (!batch.failed.is_empty()).then_some(batch.failed),
    })
}

async fn send_simple_msg(call: Call) -> Answer {
    let request: SimpleMsg = decode(&call.body)?;
    require(!request.content.is_empty(), "content")?;
    let key = parameter(&call.query, "key");
    let response = call.services.send_simple_msg(call.caller()?, &key, request).await?;
    encode(&sent(response, None))
}

async fn send_business_notification(call: Call) -> Answer {
    let request: BusinessNotification = decode(&call.body)?;
    require(!request.send_user_id.is_empty(), "sendUserID")?;
    let response = call.services.send_business_notification(call.caller()?, request).await?;
    encode(&sent(response, None))
}

/// The first value of a parameter in a query, decoded; empty if it is not there.
fn parameter(query: &str, name: &str) -> String {
    let value = query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    });
    // A plus sign is a blank in forms, but a digit of base64.
    percent_encoding::percent_decode_str(value.unwrap_or_default()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&key=ab%3D%3D&key=2", "key"), "ab==");
        assert_eq!(parameter("key=a+b=", "key"), "a+b=");
        assert_eq!(parameter("keys=1", "key"), "");
    }
}
