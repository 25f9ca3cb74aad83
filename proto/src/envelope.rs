//! What travels in one binary WebSocket message: requests of clients, answers and pushes.
//!
//! The client chooses the encoding when it connects: native SDKs speak [gob](crate::gob), the
//! JavaScript SDK speaks JSON. Either may be compressed; then every message is one gzip member.

mod gob;
mod gzip;
mod json;

use std::borrow::Cow;

use bytes::Bytes;

use crate::gob::DecodeError;
pub use gzip::GzipError;
pub use json::JsonError;

/// How an envelope is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// The stream format of the native SDKs.
    Gob,
    /// One JSON object, `data` in base64.
    Json,
}

/// From a client to the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What is asked for.
    pub req_identifier: i32,
    /// Part of the format, left empty by clients.
    pub token: String,
    /// The user of the connection.
    pub send_id: String,
    /// Trace id chosen by the client.
    pub operation_id: String,
    /// Ties the answer to the request.
    pub msg_incr: String,
    /// The protobuf message.
    pub data: Bytes,
}

/// From the node to a client: an answer, or a push when `msg_incr` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// Repeats the request's, or says what is pushed.
    pub req_identifier: i32,
    /// Repeats the request's.
    pub msg_incr: String,
    /// Repeats the request's; in a push, that of the cause.
    pub operation_id: String,
    /// 0 when all is well.
    pub err_code: i32,
    /// Name of the error.
    pub err_msg: String,
    /// The protobuf message; `None` is JSON `null`. Gob does not tell `None` from no bytes.
    pub data: Option<Bytes>,
}

/// Why a frame is no envelope. Never holds content of the frame.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Larger than the caller allows.
    #[error("the envelope has more than {0} bytes")]
    TooLarge(usize),
    /// Not one sound gzip member.
    #[error("cannot inflate: {0}")]
    Gzip(#[from] GzipError),
    /// Not the gob stream of an envelope.
    #[error("gob: {0}")]
    Gob(#[from] DecodeError),
    /// A number has more than 32 bits.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Not the JSON of an envelope.
    #[error("{0}")]
    Json(#[from] JsonError),
}

/// Reads a request. `limit` is the most bytes the envelope may have, after inflating.
pub fn decode_request(
    frame: &[u8],
    encoding: Encoding,
    gzip: bool,
    limit: usize,
) -> Result<Request, EnvelopeError> {
    let envelope = open(frame, gzip, limit)?;
    match encoding {
        Encoding::Gob => gob::decode_request(&envelope),
        Encoding::Json => Ok(json::decode(&envelope)?),
    }
}

/// Reads an answer or a push, as a client does.
pub fn decode_response(
    frame: &[u8],
    encoding: Encoding,
    gzip: bool,
    limit: usize,
) -> Result<Response, EnvelopeError> {
    let envelope = open(frame, gzip, limit)?;
    match encoding {
        Encoding::Gob => gob::decode_response(&envelope),
        Encoding::Json => Ok(json::decode(&envelope)?),
    }
}

/// Writes an answer or a push.
pub fn encode_response(response: &Response, encoding: Encoding, gzip: bool) -> Bytes {
    let envelope = match encoding {
        Encoding::Gob => gob::encode_response(response),
        Encoding::Json => json::encode_response(response),
    };
    seal(envelope, gzip)
}

/// Writes a request, as a client does.
pub fn encode_request(request: &Request, encoding: Encoding, gzip: bool) -> Bytes {
    let envelope = match encoding {
        Encoding::Gob => gob::encode_request(request),
        Encoding::Json => json::encode_request(request),
    };
    seal(envelope, gzip)
}

fn open(frame: &[u8], gzip: bool, limit: usize) -> Result<Cow<'_, [u8]>, EnvelopeError> {
    if gzip {
        Ok(Cow::Owned(gzip::inflate(frame, limit)?))
    } else if frame.len() > limit {
        Err(EnvelopeError::TooLarge(limit))
    } else {
        Ok(Cow::Borrowed(frame))
    }
}

fn seal(envelope: Vec<u8>, gzip: bool) -> Bytes {
    if gzip { gzip::deflate(&envelope).into() } else { envelope.into() }
}
