//! Signatures: what exactly one covers.
//!
//! A signature covers `entente/1/`, the name of its use, a zero byte, and then the bytes. One made
//! for one use never verifies for another.

use ed25519_dalek::{Signature as Ed25519, VerifyingKey};
use proto::federation::Signature;

use crate::PublicKey;

/// What a signature is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A node document.
    Document,
    /// A batch of events.
    Batch,
    /// A message of a user in a group of another node.
    Message,
    /// How far the log of a group has come.
    Head,
    /// Who may become the home of a group.
    Mandate,
}

impl Use {
    fn name(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Batch => "batch",
            Self::Message => "message",
            Self::Head => "head",
            Self::Mandate => "mandate",
        }
    }

    /// The bytes that are signed.
    pub fn covered(self, bytes: &[u8]) -> Vec<u8> {
        [b"entente/1/", self.name().as_bytes(), b"\0", bytes].concat()
    }
}

/// Whether `signature` over `bytes` was made with the key it names; returns that key.
pub fn verify(purpose: Use, bytes: &[u8], signature: &Signature) -> Option<PublicKey> {
    let public: PublicKey = signature.key.as_ref().try_into().ok()?;
    let key = VerifyingKey::from_bytes(&public).ok()?;
    let signature = Ed25519::from_slice(&signature.signature).ok()?;
    key.verify_strict(&purpose.covered(bytes), &signature).ok()?;
    Some(public)
}
