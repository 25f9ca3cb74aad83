//! The gob form of the envelopes.

use bytes::Bytes;

use super::{EnvelopeError, Request, Response};
use crate::gob::{self, Field, Kind, Value};

const REQUEST: [Field; 6] = [
    Field { name: "ReqIdentifier", kind: Kind::Int },
    Field { name: "Token", kind: Kind::Text },
    Field { name: "SendID", kind: Kind::Text },
    Field { name: "OperationID", kind: Kind::Text },
    Field { name: "MsgIncr", kind: Kind::Text },
    Field { name: "Data", kind: Kind::Bytes },
];

const RESPONSE: [Field; 6] = [
    Field { name: "ReqIdentifier", kind: Kind::Int },
    Field { name: "MsgIncr", kind: Kind::Text },
    Field { name: "OperationID", kind: Kind::Text },
    Field { name: "ErrCode", kind: Kind::Int },
    Field { name: "ErrMsg", kind: Kind::Text },
    Field { name: "Data", kind: Kind::Bytes },
];

/// The id that the definitions below give their type.
const TYPE_ID: i64 = 65;

/// Defines the type of [`REQUEST`].
const REQUEST_DEFINITION: &[u8] = b"\x66\xff\x81\x03\x01\x01\x0cGeneralWsReq\x01\xff\x82\0\x01\x06\
    \x01\x0dReqIdentifier\x01\x04\0\
    \x01\x05Token\x01\x0c\0\
    \x01\x06SendID\x01\x0c\0\
    \x01\x0bOperationID\x01\x0c\0\
    \x01\x07MsgIncr\x01\x0c\0\
    \x01\x04Data\x01\x0a\0\
    \0\0";

/// Defines the type of [`RESPONSE`].
const RESPONSE_DEFINITION: &[u8] = b"\x60\xff\x81\x03\x01\x01\x04Resp\x01\xff\x82\0\x01\x06\
    \x01\x0dReqIdentifier\x01\x04\0\
    \x01\x07MsgIncr\x01\x0c\0\
    \x01\x0bOperationID\x01\x0c\0\
    \x01\x07ErrCode\x01\x04\0\
    \x01\x06ErrMsg\x01\x0c\0\
    \x01\x04Data\x01\x0a\0\
    \0\0";

pub(super) fn decode_request(frame: &[u8]) -> Result<Request, EnvelopeError> {
    let [id, token, send_id, operation_id, msg_incr, data] = gob::decode(frame, &REQUEST)?;
    Ok(Request {
        req_identifier: int("ReqIdentifier", id)?,
        token: text(token),
        send_id: text(send_id),
        operation_id: text(operation_id),
        msg_incr: text(msg_incr),
        data: Bytes::copy_from_slice(bytes(data)),
    })
}

pub(super) fn decode_response(frame: &[u8]) -> Result<Response, EnvelopeError> {
    let [id, msg_incr, operation_id, err_code, err_msg, data] = gob::decode(frame, &RESPONSE)?;
    let data = bytes(data);
    Ok(Response {
        req_identifier: int("ReqIdentifier", id)?,
        msg_incr: text(msg_incr),
        operation_id: text(operation_id),
        err_code: int("ErrCode", err_code)?,
        err_msg: text(err_msg),
        data: (!data.is_empty()).then(|| Bytes::copy_from_slice(data)),
    })
}

pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    let values = [
        Value::Int(request.req_identifier.into()),
        Value::Bytes(request.token.as_bytes()),
        Value::Bytes(request.send_id.as_bytes()),
        Value::Bytes(request.operation_id.as_bytes()),
        Value::Bytes(request.msg_incr.as_bytes()),
        Value::Bytes(&request.data),
    ];
    gob::encode(REQUEST_DEFINITION, TYPE_ID, &values)
}

pub(super) fn encode_response(response: &Response) -> Vec<u8> {
    let values = [
        Value::Int(response.req_identifier.into()),
        Value::Bytes(response.msg_incr.as_bytes()),
        Value::Bytes(response.operation_id.as_bytes()),
        Value::Int(response.err_code.into()),
        Value::Bytes(response.err_msg.as_bytes()),
        Value::Bytes(response.data.as_deref().unwrap_or_default()),
    ];
    gob::encode(RESPONSE_DEFINITION, TYPE_ID, &values)
}

fn int(field: &'static str, value: Option<Value<'_>>) -> Result<i32, EnvelopeError> {
    match value {
        Some(Value::Int(number)) => {
            i32::try_from(number).map_err(|_| EnvelopeError::OutOfRange(field))
        }
        _ => Ok(0),
    }
}

fn bytes(value: Option<Value<'_>>) -> &[u8] {
    match value {
        Some(Value::Bytes(bytes)) => bytes,
        _ => &[],
    }
}

fn text(value: Option<Value<'_>>) -> String {
    String::from_utf8_lossy(bytes(value)).into_owned()
}
