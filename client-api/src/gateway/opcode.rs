//! The operations of the gateway.

use std::sync::Arc;

use bytes::Bytes;
use proto::Message;
use proto::envelope::Request;
use proto::maps::WithMaps;
use proto::msg::GetLastMessageReq;
use proto::push::DelUserPushTokenReq;
use proto::sdkws::{SetAppBackgroundStatusReq, SubUserOnlineStatus};
use services::hub::Connection;
use services::{Caller, Services};

use crate::error_code::ApiError;

/// Numbers of requests and pushes.
pub(super) mod id {
    pub(crate) const NEWEST_SEQ: i32 = 1001;
    pub(crate) const PULL_BY_RANGE: i32 = 1002;
    pub(crate) const SEND_MESSAGE: i32 = 1003;
    pub(crate) const SEND_SIGNAL: i32 = 1004;
    pub(crate) const PULL_BY_SEQS: i32 = 1005;
    pub(crate) const READ_AND_MAX_SEQS: i32 = 1006;
    pub(crate) const LAST_MESSAGES: i32 = 1007;
    pub(crate) const PUSH: i32 = 2001;
    pub(crate) const KICK: i32 = 2002;
    pub(crate) const LOGOUT: i32 = 2003;
    pub(crate) const BACKGROUND: i32 = 2004;
    pub(crate) const ONLINE_STATUS: i32 = 2005;
}

/// Every request a client may send, by number; anything else ends the connection.
pub(super) const OPCODES: [i32; 10] = [
    id::NEWEST_SEQ,
    id::PULL_BY_RANGE,
    id::SEND_MESSAGE,
    id::SEND_SIGNAL,
    id::PULL_BY_SEQS,
    id::READ_AND_MAX_SEQS,
    id::LAST_MESSAGES,
    id::LOGOUT,
    id::BACKGROUND,
    id::ONLINE_STATUS,
];

/// The answer to a request: its data, `None` where it has none.
pub(super) type Answer = Result<Option<Bytes>, ApiError>;

/// Decodes the data of a request.
pub(super) fn decode<T: Message + Default>(request: &Request) -> Result<T, ApiError> {
    T::decode(request.data.clone())
        .map_err(|error| ApiError { detail: error.to_string(), ..ApiError::internal() })
}

pub(super) fn encode(response: &impl Message) -> Option<Bytes> {
    Some(response.encode_to_vec().into())
}

fn encode_whole(response: impl WithMaps) -> Option<Bytes> {
    Some(response.encode_whole().into())
}

/// Whether a request only fetches messages: its answer can be made again, with fewer of them.
pub(super) fn pulls(req_identifier: i32) -> bool {
    [id::PULL_BY_RANGE, id::PULL_BY_SEQS, id::LAST_MESSAGES].contains(&req_identifier)
}

/// Runs any request but a send; one that fetches messages brings at most so many bytes of them.
pub(super) async fn run(
    services: &Services,
    connection: &Arc<Connection>,
    caller: &Caller,
    request: &Request,
    bytes: usize,
) -> Answer {
    match request.req_identifier {
        id::NEWEST_SEQ => Ok(encode(&services.max_seqs(caller, &decode(request)?)?)),
        id::PULL_BY_RANGE => {
            must_be_traceable(request)?;
            let request = decode(request)?;
            services.fetch_ranges(caller, &request).await.map_err(ApiError::from)?;
            Ok(encode_whole(services.pull_ranges_within(caller, &request, bytes)?))
        }
        id::PULL_BY_SEQS => {
            must_be_traceable(request)?;
            let request = decode(request)?;
            services.fetch_seqs(caller, &request).await.map_err(ApiError::from)?;
            Ok(encode_whole(services.pull_seqs_within(caller, &request, bytes)?))
        }
        id::READ_AND_MAX_SEQS => {
            must_be_traceable(request)?;
            Ok(encode_whole(services.read_and_max_seqs(caller, &decode(request)?)?))
        }
        id::LAST_MESSAGES => {
            let request: GetLastMessageReq = decode(request)?;
            let ids = &request.conversation_ids;
            if !ids.is_empty() {
                services.fetch_last(caller, &request.user_id, ids).await?;
            }
            Ok(encode_whole(services.last_messages_within(caller, &request, bytes)?))
        }
        id::LOGOUT => {
            let request: DelUserPushTokenReq = decode(request)?;
            Ok(encode(&services.delete_push_token(caller, request).await?))
        }
        id::BACKGROUND => {
            must_be_traceable(request)?;
            let request: SetAppBackgroundStatusReq = decode(request)?;
            connection.set_background(request.is_background);
            Ok(None)
        }
        id::ONLINE_STATUS => {
            let request: SubUserOnlineStatus = decode(request)?;
            Ok(encode(&services.watch(connection, &request)?))
        }
        _ => Err(ApiError::args("no such operation")),
    }
}

fn must_be_traceable(request: &Request) -> Result<(), ApiError> {
    if request.operation_id.is_empty() || request.msg_incr.is_empty() {
        return Err(ApiError {
            detail: "operationID or msgIncr is empty".into(),
            ..ApiError::internal()
        });
    }
    Ok(())
}
