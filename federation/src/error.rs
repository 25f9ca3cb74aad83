use std::io;

use proto::federation::{Bye, ByeCode, Pong};
use proto::qualified::BadId;
use store::StoreError;

use crate::Domain;

/// Why something between nodes did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationError {
    /// Not an identity file.
    #[error("the key file cannot be used: {0}")]
    KeyFile(String),
    /// Not a peer ID of an ed25519 key.
    #[error("{0:?} is not the peer ID of an ed25519 key")]
    PeerId(String),
    /// Not an address that the transport can reach.
    #[error("{address:?} is not an address of a node: {reason}")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a domain, or not an ID.
    #[error(transparent)]
    Id(#[from] BadId),
    /// A node document that does not hold.
    #[error("the node document of {domain} does not hold: {reason}")]
    Document {
        /// The domain it should speak for.
        domain: Domain,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing says which key speaks for the domain.
    #[error("no key of {0} is known: pin one, or let it serve its node document")]
    Unknown(Domain),
    /// The key of the connection does not speak for the domain.
    #[error("this key does not speak for {0}")]
    Identity(Domain),
    /// Nobody says where the node is.
    #[error("no address of {0} is known")]
    NoAddress(Domain),
    /// One of the two nodes does not deal with the other.
    #[error("{0}")]
    Policy(String),
    /// One side hung up and said why.
    #[error("the stream ended ({code:?}): {reason}")]
    Bye {
        /// Its code.
        code: ByeCode,
        /// Its words.
        reason: String,
    },
    /// What came is not what the protocol allows.
    #[error("the other node broke the protocol: {0}")]
    Protocol(String),
    /// The link failed.
    #[error("the link failed: {0}")]
    Link(#[from] io::Error),
    /// The other node did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Another instance of the node lives: this is what it has answered.
    #[error("another instance of the node is there, and answers")]
    Doubled(Pong),
    /// In a new epoch, what must come first cannot be done yet.
    #[error("what was lost is not here yet: {0}")]
    NotReady(String),
    /// This node deals with no other one now.
    #[error("this node deals with no other one now")]
    Halted,
    /// The rules of this node cannot deal with it now.
    #[error("{0}")]
    Rules(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FederationError {
    /// What to tell the other side before hanging up; `None` where it is gone or to blame no more.
    pub(crate) fn bye(&self) -> Option<Bye> {
        let code = match self {
            Self::Document { .. } | Self::Unknown(_) | Self::Identity(_) => ByeCode::ByeIdentity,
            Self::Policy(_) => ByeCode::ByePolicy,
            Self::Protocol(_) | Self::Id(_) => ByeCode::ByeMalformed,
            Self::Bye { code, reason } => {
                return Some(Bye { code: (*code).into(), reason: reason.clone(), alive: None });
            }
            Self::Rules(_) | Self::Store(_) => {
                let reason = "the node cannot store events now".to_owned();
                return Some(Bye { code: ByeCode::ByeInternal.into(), reason, alive: None });
            }
            Self::Doubled(alive) => {
                let (code, reason) = (ByeCode::ByeDoubled.into(), self.to_string());
                return Some(Bye { code, reason, alive: Some(*alive) });
            }
            Self::Halted => ByeCode::ByeInternal,
            _ => return None,
        };
        Some(Bye { code: code.into(), reason: self.to_string(), alive: None })
    }

    /// What this costs the one whose link it ends: 0 where nobody is to blame.
    pub(crate) fn fault(&self) -> u32 {
        match self {
            Self::Document { .. }
            | Self::Unknown(_)
            | Self::Identity(_)
            | Self::Protocol(_)
            | Self::Id(_) => 1,
            Self::Bye { code, .. } => match code {
                ByeCode::ByeUnspecified
                | ByeCode::ByeBusy
                | ByeCode::ByeInternal
                | ByeCode::ByeDoubled => 0,
                _ => 1,
            },
            // A frame that is too large: most of it has come all the same.
            Self::Link(error) if error.kind() == io::ErrorKind::InvalidData => 5,
            _ => 0,
        }
    }
}

impl From<Bye> for FederationError {
    fn from(bye: Bye) -> Self {
        let reason = bye.reason.chars().filter(|c| !c.is_control()).take(200).collect();
        Self::Bye { code: bye.code(), reason }
    }
}

/// Why a request to another node has no answer.
#[derive(Debug, thiserror::Error)]
#[error("{domain} cannot be asked: {reason}")]
pub struct AskError {
    /// The other node.
    pub domain: Domain,
    /// Why not.
    pub reason: String,
}
