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
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
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
