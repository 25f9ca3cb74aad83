//! Codes and names under which clients know errors.

use services::{ServiceError, StoreError};

/// An error as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// Number that clients act on.
    pub(crate) code: i32,
    /// Short name.
    pub(crate) name: String,
    /// Text for people.
    pub(crate) detail: String,
    /// The body of the request does not bind; some routes answer that with another status.
    pub(crate) bad_body: bool,
}

impl ApiError {
    fn new(code: i32, name: &str, detail: impl Into<String>) -> Self {
        Self { code, name: name.to_owned(), detail: detail.into(), bad_body: false }
    }

    /// A body that does not parse, or lacks what its route cannot do without.
    pub(crate) fn bad_body(detail: impl Into<String>) -> Self {
        Self { bad_body: true, ..Self::args(detail) }
    }

    /// Bad input.
    pub(crate) fn args(detail: impl Into<String>) -> Self {
        Self::new(1001, "ArgsError", detail)
    }

    /// Something failed on this side; the details are in the log.
    pub(crate) fn internal() -> Self {
        Self::new(500, "ServerInternalError", "")
    }

    /// The gateway has no room for another connection.
    pub(crate) fn too_many_connections() -> Self {
        Self::new(1601, "ConnOverMaxNumLimit", "over max conn num limit")
    }

    /// Somebody at the address was wrong too often.
    pub(crate) fn too_many_guesses() -> Self {
        let detail = "too many wrong secrets or tokens from this address; wait a moment";
        Self::new(1002, "NoPermissionError", detail)
    }

    /// A parameter of the handshake is missing or wrong.
    pub(crate) fn connection_args(detail: impl Into<String>) -> Self {
        Self::new(1602, "args err, need token, sendID, platformID", detail)
    }

    /// A mandatory flag of the handshake is no boolean.
    pub(crate) fn invalid_flag() -> Self {
        Self::new(500, "ServerInternalError", "invalid syntax")
    }

    /// Whether it is about a token.
    pub(crate) fn is_of_token(&self) -> bool {
        (1501..=1507).contains(&self.code)
    }

    /// The JSON text `{"errCode":…,"errMsg":…,"errDlt":…}`.
    pub(crate) fn to_json(&self) -> String {
        serde_json::json!({ "errCode": self.code, "errMsg": self.name, "errDlt": self.detail })
            .to_string()
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        use ServiceError as E;
        let detail = match &error {
            E::TokenExpired
            | E::TokenMalformed
            | E::TokenNotYetValid
            | E::TokenUnknown(_)
            | E::TokenKicked
            | E::TokenNotHeld => String::new(),
            E::DiskFull | E::Store(StoreError::DiskFull { .. }) => "the disk is full".to_owned(),
            E::Internal(_) | E::Store(_) => {
                tracing::error!(%error, "request failed");
                String::new()
            }
            other => other.to_string(),
        };
        Self::new(error.code(), error.name(), detail)
    }
}

impl From<proto::json::DecodeError> for ApiError {
    fn from(error: proto::json::DecodeError) -> Self {
        Self::bad_body(error.to_string())
    }
}
