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

    /// A parameter of the handshake is missing or wrong.
    pub(crate) fn connection_args(detail: impl Into<String>) -> Self {
        Self::new(1602, "args err, need token, sendID, platformID", detail)
    }

    /// A mandatory flag of the handshake is no boolean.
    pub(crate) fn invalid_flag() -> Self {
        Self::new(500, "ServerInternalError", "invalid syntax")
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
        let (code, name) = match &error {
            E::Args(_) => (1001, "ArgsError"),
            E::Failed(_) => (500, "ServerInternalError"),
            E::NoPermission(_) => (1002, "NoPermissionError"),
            E::NotFound(_) => (1004, "RecordNotFoundError"),
            E::UserNotFound(_) => (1101, "UserIDNotFoundError"),
            E::Registered(_) => (1102, "RegisteredAlreadyError"),
            E::GroupNotFound(_) => (1201, "GroupIDNotFoundError"),
            E::GroupExists(_) => (1202, "GroupIDExisted"),
            E::NotInGroup(_) => (1203, "NotInGroupYetError"),
            E::Dismissed => (1204, "DismissedAlreadyError"),
            E::GroupRequestHandled => (1206, "GroupRequestHandled"),
            E::FriendOfSelf => (1301, "CanNotAddYourselfError"),
            E::Blocked => (1302, "BlockedByPeer"),
            E::NotFriend => (1303, "NotPeersFriend"),
            E::AlreadyFriends => (1304, "RelationshipAlreadyError"),
            E::FriendRequestHandled => (1305, "FriendRequestHandled"),
            E::Muted(_) => (1402, "MutedInGroup"),
            E::GroupMuted => (1403, "MutedGroup"),
            E::AlreadyRevoked => (1404, "MsgAlreadyRevoke"),
            E::TokenExpired => return Self::new(1501, "TokenExpiredError", ""),
            E::TokenInvalid(_) => (1502, "TokenInvalidError"),
            E::TokenMalformed => return Self::new(1503, "TokenMalformedError", ""),
            E::TokenNotYetValid => return Self::new(1504, "TokenNotValidYetError", ""),
            E::TokenUnknown(reason) => return Self::new(1505, reason, ""),
            E::TokenKicked => return Self::new(1506, "TokenKickedError", ""),
            E::TokenNotHeld => return Self::new(1507, "TokenNotExistError", ""),
            E::UploadExpired(_) => (1701, "FileUploadedExpiredError"),
            E::Data(_) => (90_007, "DataError"),
            E::Object(_) => (500, "ServerInternalError"),
            E::DiskFull | E::Store(StoreError::DiskFull { .. }) => {
                return Self::new(500, "ServerInternalError", "the disk is full");
            }
            other => {
                tracing::error!(error = %other, "request failed");
                return Self::internal();
            }
        };
        Self::new(code, name, error.to_string())
    }
}

impl From<proto::json::DecodeError> for ApiError {
    fn from(error: proto::json::DecodeError) -> Self {
        Self::bad_body(error.to_string())
    }
}
