//! The envelope around every answer.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error_code::ApiError;

/// JSON text of `data`, or nothing for answers without fields.
pub(super) type Answer = Result<Option<Bytes>, ApiError>;

/// The request in a JSON body.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    Ok(proto::json::from_slice(body)?)
}

/// The answer for a response message; one without fields has no `data`.
pub(super) fn encode<T: Serialize>(response: &T) -> Answer {
    if size_of::<T>() == 0 {
        return Ok(None);
    }
    match proto::json::to_vec(response) {
        Ok(json) => Ok(Some(json.into())),
        Err(error) => {
            tracing::error!(%error, "an answer does not encode");
            Err(ApiError::internal())
        }
    }
}

/// The HTTP response for an answer; `bad_body` is the status where the body does not bind.
pub(super) fn respond(answer: Answer, bad_body: StatusCode) -> Response {
    let (status, text) = match answer {
        Ok(None) => (StatusCode::OK, br#"{"errCode":0,"errMsg":"","errDlt":""}"#.to_vec()),
        Ok(Some(data)) => {
            let mut text = Vec::with_capacity(data.len() + 48);
            text.extend_from_slice(br#"{"errCode":0,"errMsg":"","errDlt":"","data":"#);
            text.extend_from_slice(&data);
            text.push(b'}');
            (StatusCode::OK, text)
        }
        Err(error) => {
            let status = if error.bad_body { bad_body } else { StatusCode::OK };
            (status, error.to_json().into_bytes())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// An error as the whole HTTP response.
pub(super) fn refuse(error: ApiError) -> Response {
    respond(Err(error), StatusCode::OK)
}
