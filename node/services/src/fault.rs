//! Faults in what users see that a build of the test suite has on purpose, to show that the model
//! notices them.

use store::fault;

/// Such a fault; at most the one that `ENTENTE_FAULT` names is on, and none without the feature.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// A conversation that a former member has deleted comes back when others go on.
    LeftGroupComesBack,
    /// The newest message is one that the user has deleted.
    DeletedMessageIsLast,
    /// A deleted conversation comes back without a step of the version log.
    ReturnIsNotLogged,
    /// A deleted conversation stays hidden when its owner is invited again.
    ReturnedMemberSeesNothing,
    /// Messages from before somebody came count as unread.
    HistoryIsUnread,
    /// What was revoked stays in mentions and merged messages.
    MentionsKeepRevoked,
}

impl Fault {
    pub(crate) fn is_on(self) -> bool {
        fault::is_on(match self {
            Self::LeftGroupComesBack => "left-group-comes-back",
            Self::DeletedMessageIsLast => "deleted-message-is-last",
            Self::ReturnIsNotLogged => "return-is-not-logged",
            Self::ReturnedMemberSeesNothing => "returned-member-sees-nothing",
            Self::HistoryIsUnread => "history-is-unread",
            Self::MentionsKeepRevoked => "mentions-keep-revoked",
        })
    }
}
