use store::StoreError;

/// Result of an operation.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// Why an operation was refused or failed. The text is for people; clients get the code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ServiceError {
    #[error("{0}")]
    Args(String),
    #[error("{0}")]
    NoPermission(String),
    #[error("{0}")]
    NotFound(String),
    #[error("user {0} is not registered")]
    UserNotFound(String),
    #[error("user {0} is already registered")]
    Registered(String),
    #[error("no group {0}")]
    GroupNotFound(String),
    #[error("group {0} exists already")]
    GroupExists(String),
    #[error("{0} is not in the group")]
    NotInGroup(String),
    #[error("the group is dismissed")]
    Dismissed,
    #[error("the request to join is already handled")]
    GroupRequestHandled,
    #[error("a user cannot be its own friend")]
    FriendOfSelf,
    #[error("blocked by the receiver")]
    Blocked,
    #[error("not a friend of the receiver")]
    NotFriend,
    #[error("already friends")]
    AlreadyFriends,
    #[error("the friend request is already handled")]
    FriendRequestHandled,
    #[error("muted in the group until {0}")]
    Muted(i64),
    #[error("the group is muted")]
    GroupMuted,
    #[error("the message is already revoked")]
    AlreadyRevoked,
    #[error("the token has expired")]
    TokenExpired,
    #[error("{0}")]
    TokenInvalid(String),
    #[error("not a token")]
    TokenMalformed,
    #[error("the token is not valid yet")]
    TokenNotYetValid,
    #[error("{0}")]
    TokenUnknown(String),
    #[error("the token was kicked")]
    TokenKicked,
    #[error("the node does not hold this token")]
    TokenNotHeld,
    #[error("{0}")]
    UploadExpired(String),
    #[error("{0}")]
    Data(String),
    /// Input that clients know to fail with the general code.
    #[error("{0}")]
    Failed(String),
    /// An object or upload is not as it should be; clients know no code for that.
    #[error("{0}")]
    Object(String),
    #[error("the disk is full")]
    DiskFull,
    #[error("{0}")]
    Internal(String),
    /// The node of somebody concerned cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Another node refuses, with a code of its own.
    #[error("{reason}")]
    Elsewhere { code: i32, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Codes and names under which clients know errors.
const CODES: &[(i32, &str)] = &[
    (500, "ServerInternalError"),
    (1001, "ArgsError"),
    (1002, "NoPermissionError"),
    (1004, "RecordNotFoundError"),
    (1101, "UserIDNotFoundError"),
    (1102, "RegisteredAlreadyError"),
    (1201, "GroupIDNotFoundError"),
    (1202, "GroupIDExisted"),
    (1203, "NotInGroupYetError"),
    (1204, "DismissedAlreadyError"),
    (1206, "GroupRequestHandled"),
    (1301, "CanNotAddYourselfError"),
    (1302, "BlockedByPeer"),
    (1303, "NotPeersFriend"),
    (1304, "RelationshipAlreadyError"),
    (1305, "FriendRequestHandled"),
    (1402, "MutedInGroup"),
    (1403, "MutedGroup"),
    (1404, "MsgAlreadyRevoke"),
    (1501, "TokenExpiredError"),
    (1502, "TokenInvalidError"),
    (1503, "TokenMalformedError"),
    (1504, "TokenNotValidYetError"),
    (1506, "TokenKickedError"),
    (1507, "TokenNotExistError"),
    (1701, "FileUploadedExpiredError"),
    (90_007, "DataError"),
];

impl ServiceError {
    /// Code under which clients know the error.
    pub fn code(&self) -> i32 {
        match self {
            Self::Args(_) => 1001,
            Self::NoPermission(_) => 1002,
            Self::NotFound(_) => 1004,
            Self::UserNotFound(_) => 1101,
            Self::Registered(_) => 1102,
            Self::GroupNotFound(_) => 1201,
            Self::GroupExists(_) => 1202,
            Self::NotInGroup(_) => 1203,
            Self::Dismissed => 1204,
            Self::GroupRequestHandled => 1206,
            Self::FriendOfSelf => 1301,
            Self::Blocked => 1302,
            Self::NotFriend => 1303,
            Self::AlreadyFriends => 1304,
            Self::FriendRequestHandled => 1305,
            Self::Muted(_) => 1402,
            Self::GroupMuted => 1403,
            Self::AlreadyRevoked => 1404,
            Self::TokenExpired => 1501,
            Self::TokenInvalid(_) => 1502,
            Self::TokenMalformed => 1503,
            Self::TokenNotYetValid => 1504,
            Self::TokenUnknown(_) => 1505,
            Self::TokenKicked => 1506,
            Self::TokenNotHeld => 1507,
            Self::UploadExpired(_) => 1701,
            Self::Data(_) => 90_007,
            Self::Elsewhere { code, .. } => *code,
            Self::Failed(_)
            | Self::Object(_)
            | Self::DiskFull
            | Self::Internal(_)
            | Self::Unreachable(_)
            | Self::Store(_) => 500,
        }
    }

    /// Name under which clients know the error.
    pub fn name(&self) -> &str {
        if let Self::TokenUnknown(reason) = self {
            return reason;
        }
        let code = self.code();
        CODES.iter().find(|(known, _)| *known == code).map_or("Error", |(_, name)| name)
    }

    /// Bad input.
    pub fn args(reason: impl Into<String>) -> Self {
        Self::Args(reason.into())
    }

    /// The caller may not do this.
    pub fn denied(reason: impl Into<String>) -> Self {
        Self::NoPermission(reason.into())
    }

    /// An object or upload is not as it should be.
    pub fn object(reason: impl Into<String>) -> Self {
        Self::Object(reason.into())
    }

    /// Something the request names does not exist.
    pub fn not_found(reason: impl Into<String>) -> Self {
        Self::NotFound(reason.into())
    }
}
