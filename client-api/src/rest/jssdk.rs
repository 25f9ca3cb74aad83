use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::Message;
use proto::jssdk::{GetActiveConversationsReq, GetConversationsReq};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{Answer, decode, encode};
use super::route::{Call, Route};
use crate::error_code::ApiError;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/jssdk/get_active_conversations", |call| {
            Box::pin(async move {
                let (form, request): (_, GetActiveConversationsReq) = decoded(&call)?;
                let caller = call.caller()?;
                let owner = caller.acts_for(&request.owner_user_id)?;
                call.services.fetch_last(caller, owner, &[]).await?;
                form.answer(&call.services.get_active_conversations(caller, &request)?)
            })
        }),
        Route::new("/jssdk/get_conversations", |call| {
            Box::pin(async move {
                let (form, request): (_, GetConversationsReq) = decoded(&call)?;
                let (caller, ids) = (call.caller()?, &request.conversation_ids);
                if !ids.is_empty() {
                    let owner = caller.acts_for(&request.owner_user_id)?;
                    call.services.fetch_last(caller, owner, ids).await?;
                }
                form.answer(&call.services.get_js_conversations(caller, &request)?)
            })
        }),
    ]
}

/// Field 1 of both answers, as 0: of an answer without any bytes the SDK makes nothing, and fails.
const NOTHING_UNREAD: [u8; 2] = [1 << 3, 0];

/// Form of a request; `data` of the answer has the same.
#[derive(Clone, Copy)]
enum Form {
    Json,
    /// Protobuf; in the answer as a base64 text.
    Protobuf,
}

/// Form and content of a request, by its content type.
fn decoded<T: Message + Default + DeserializeOwned>(call: &Call) -> Result<(Form, T), ApiError> {
    let is = |name: &str| call.content_type.contains(name);
    if call.content_type.is_empty() || is("application/json") {
        return Ok((Form::Json, decode(&call.body)?));
    }
    if is("application/protobuf") || is("application/x-protobuf") {
        let request = T::decode(call.body.clone());
        let request = request.map_err(|error| ApiError::args(error.to_string()))?;
        return Ok((Form::Protobuf, request));
    }
    Err(ApiError::args("the content type is neither JSON nor protobuf"))
}

impl Form {
    fn answer(self, response: &(impl Message + Serialize)) -> Answer {
        match self {
            Self::Json => encode(response),
            Self::Protobuf => {
                let mut bytes = response.encode_to_vec();
                if bytes.is_empty() {
                    bytes.extend(NOTHING_UNREAD);
                }
                let text = STANDARD.encode(bytes);
                Ok(Some(Bytes::from(format!("\"{text}\""))))
            }
        }
    }
}
