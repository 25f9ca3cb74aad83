//! What a client says when it connects.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::OperationId;
use proto::envelope::Encoding;
use serde::Deserialize;
use services::{Caller, platform};

use super::Wire;
use crate::error_code::ApiError;

/// Longest sendID; no user has a longer one.
const MAX_ID_BYTES: usize = 256;

/// A handshake whose parameters are all there.
pub(super) struct Handshake {
    pub(super) user_id: String,
    pub(super) token: String,
    pub(super) platform_id: i32,
    pub(super) operation_id: OperationId,
    pub(super) wire: Wire,
    /// The client waits for a first text frame with the result.
    pub(super) wants_result: bool,
    pub(super) is_admin: bool,
}

impl Handshake {
    pub(super) fn with_caller(mut self, caller: Caller) -> Self {
        self.is_admin = caller.is_admin;
        self
    }
}

/// A refused handshake.
pub(super) struct Failure {
    pub(super) error: ApiError,
    /// It is told in a frame, after an upgrade.
    pub(super) after_upgrade: bool,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, after_upgrade: false }
    }
}

/// The form in which all parameters are packed into one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Packed {
    token: String,
    #[serde(rename = "userID")]
    user_id: String,
    #[serde(rename = "platformID")]
    platform_id: i32,
    #[serde(rename = "operationID")]
    operation_id: String,
    compression: String,
    #[serde(rename = "sdkType")]
    sdk_type: String,
    #[serde(rename = "sendResponse")]
    send_response: bool,
}

/// Reads the query of a handshake; `header` gives the value of the header `compression`.
pub(super) fn parse(query: &str, header: impl FnOnce() -> String) -> Result<Handshake, ApiError> {
    let mut given = HashMap::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        given.entry(decoded(name)).or_insert_with(|| decoded(value));
    }
    let mut take = |name: &str| given.remove(name).unwrap_or_default();
    let packed = take("v");
    let mut all = if packed.is_empty() {
        let platform_id = take("platformID")
            .parse()
            .map_err(|_| ApiError::connection_args("platformID is not int"))?;
        let send_response = match take("isMsgResp").as_str() {
            "" => false,
            flag => {
                boolean(flag).ok_or_else(|| ApiError::connection_args("isMsgResp is not bool"))?
            }
        };
        boolean(&take("isBackground")).ok_or_else(ApiError::invalid_flag)?;
        Packed {
            token: take("token"),
            user_id: take("sendID"),
            platform_id,
            operation_id: take("operationID"),
            compression: take("compression"),
            sdk_type: take("sdkType"),
            send_response,
        }
    } else {
        let json = URL_SAFE_NO_PAD
            .decode(packed)
            .map_err(|_| ApiError::connection_args("data is not base64"))?;
        serde_json::from_slice(&json)
            .map_err(|error| ApiError::connection_args(format!("data is not json, info={error}")))?
    };
    let missing = |name: &str| ApiError::connection_args(format!("{name} is empty"));
    for (name, value) in
        [("operationID", &all.operation_id), ("token", &all.token), ("sendID", &all.user_id)]
    {
        if value.is_empty() {
            return Err(missing(name));
        }
    }
    if all.user_id.len() > MAX_ID_BYTES {
        return Err(ApiError::connection_args("sendID is too long"));
    }
    if !platform::exists(all.platform_id) {
        return Err(ApiError::connection_args("platformID is invalid"));
    }
    let encoding = match all.sdk_type.as_str() {
        "" | "go" => Encoding::Gob,
        "js" => Encoding::Json,
        _ => return Err(ApiError::connection_args("sdkType is invalid")),
    };
    if all.compression.is_empty() {
        all.compression = header();
    }
    Ok(Handshake {
        user_id: all.user_id,
        token: all.token,
        platform_id: all.platform_id,
        operation_id: OperationId::new(&all.operation_id),
        wire: Wire { encoding, gzip: all.compression == "gzip" },
        wants_result: all.send_response,
        is_admin: false,
    })
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "sendID=u1&token=T&platformID=2&operationID=o&isBackground=false";

    fn detail(query: &str) -> String {
        parse(query, String::new).err().map(|error| error.detail).unwrap_or_default()
    }

    #[test]
    fn every_form_of_client_is_understood() {
        let Ok(native) = parse(&format!("{GOOD}&compression=gzip"), String::new) else {
            panic!("refused")
        };
        assert_eq!(native.wire, Wire { encoding: Encoding::Gob, gzip: true });
        assert!(!native.wants_result);
        let js = parse(&format!("{GOOD}&isMsgResp=true&sdkType=js"), String::new);
        let Ok(js) = js else { panic!("refused") };
        assert_eq!(js.wire, Wire { encoding: Encoding::Json, gzip: false });
        assert!(js.wants_result);
        let Ok(header) = parse(GOOD, || "gzip".into()) else { panic!("refused") };
        assert!(header.wire.gzip);
        let json = r#"{"token":"T","userID":"u1","platformID":5,"operationID":"o","sdkType":"js"}"#;
        let packed = format!("v={}", URL_SAFE_NO_PAD.encode(json));
        let Ok(packed) = parse(&packed, String::new) else { panic!("refused") };
        assert_eq!((packed.user_id.as_str(), packed.platform_id), ("u1", 5));
    }

    #[test]
    fn each_missing_or_wrong_parameter_is_named() {
        for (query, expected) in [
            ("v=%2A", "data is not base64"),
            ("sendID=u1", "platformID is not int"),
            ("platformID=2&isMsgResp=yes", "isMsgResp is not bool"),
            ("platformID=2", "invalid syntax"),
            ("platformID=2&isBackground=0", "operationID is empty"),
            ("platformID=2&isBackground=0&operationID=o", "token is empty"),
            ("platformID=2&isBackground=0&operationID=o&token=t", "sendID is empty"),
            (
                "platformID=99&isBackground=0&operationID=o&token=t&sendID=u",
                "platformID is invalid",
            ),
        ] {
            assert_eq!(detail(query), expected, "{query}");
        }
        assert_eq!(detail(&format!("{GOOD}&sdkType=c")), "sdkType is invalid");
        assert!(detail("v=e30x").starts_with("data is not json"));
    }
}
