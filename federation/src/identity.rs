//! The keys of this node.

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use proto::federation::{NodeKey, Signature};
use serde::{Deserialize, Serialize};

use crate::signed::Use;
use crate::{Domain, FederationError, PublicKey};

/// The keys of a node, oldest first. The last one that is not revoked signs.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    keys: Vec<OwnKey>,
    /// The domain for which they speak, once they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
}

/// One key with its secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnKey {
    #[serde(with = "hex::serde")]
    seed: [u8; 32],
    /// Unix milliseconds from which it holds.
    from_ms: i64,
    /// Unix milliseconds until which it holds; 0: no end.
    until_ms: i64,
    /// Unix milliseconds at which it was revoked; 0: it was not.
    revoked_ms: i64,
}

impl OwnKey {
    fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&self.seed)
    }

    fn public(&self) -> PublicKey {
        self.signing().verifying_key().to_bytes()
    }
}

impl Identity {
    /// A new identity whose first key follows from `seed`.
    pub fn new(seed: [u8; 32], now_ms: i64) -> Self {
        let key = OwnKey { seed, from_ms: now_ms, until_ms: 0, revoked_ms: 0 };
        Self { keys: vec![key], domain: None }
    }

    /// The domain for which the keys have spoken; `None` if they have not yet.
    pub fn domain(&self) -> Option<Domain> {
        self.domain.as_ref()?.parse().ok()
    }

    /// Says for which domain the keys speak from now on.
    pub fn speak_for(&mut self, domain: &Domain) {
        self.domain = Some(domain.to_string());
    }

    /// Reads the text of an identity file.
    pub fn read(text: &str) -> Result<Self, FederationError> {
        let identity: Self =
            serde_json::from_str(text).map_err(|e| FederationError::KeyFile(e.to_string()))?;
        if identity.keys.iter().all(|key| key.revoked_ms != 0) {
            return Err(FederationError::KeyFile("there is no key that is not revoked".into()));
        }
        if let Some(domain) = &identity.domain {
            domain.parse::<Domain>()?;
        }
        Ok(identity)
    }

    /// The text of an identity file.
    pub fn write(&self) -> Result<String, FederationError> {
        serde_json::to_string_pretty(self).map_err(|e| FederationError::KeyFile(e.to_string()))
    }

    fn current(&self) -> Option<&OwnKey> {
        self.keys.iter().rev().find(|key| key.revoked_ms == 0)
    }

    /// Seed of the key that is in use.
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.current().map_or([0; 32], |key| key.seed)
    }

    /// Seeds of the keys that are not revoked.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = [u8; 32]> + '_ {
        self.keys.iter().filter(|key| key.revoked_ms == 0).map(|key| key.seed)
    }

    /// The key that is in use.
    pub fn public_key(&self) -> PublicKey {
        self.current().map_or([0; 32], OwnKey::public)
    }

    /// All keys, as the node document names them.
    pub fn keys(&self) -> Vec<NodeKey> {
        let named = self.keys.iter().map(|key| NodeKey {
            public_key: key.public().to_vec().into(),
            from_ms: key.from_ms,
            until_ms: key.until_ms,
            revoked_ms: key.revoked_ms,
        });
        named.collect()
    }

    /// Adds a key that signs from now on; the one before it holds until `until_ms`, so that other
    /// nodes have time to learn the new one.
    pub fn rotate(&mut self, seed: [u8; 32], now_ms: i64, until_ms: i64) {
        for key in &mut self.keys {
            if key.until_ms == 0 {
                key.until_ms = until_ms;
            }
        }
        self.keys.push(OwnKey { seed, from_ms: now_ms, until_ms: 0, revoked_ms: 0 });
    }

    /// Revokes a key; the one in use only when there is another.
    pub fn revoke(&mut self, public: &PublicKey, now_ms: i64) -> Result<(), FederationError> {
        let others = self.keys.iter().any(|key| key.revoked_ms == 0 && key.public() != *public);
        if !others {
            let reason = "it is the only key: rotate first".to_owned();
            return Err(FederationError::KeyFile(reason));
        }
        match self.keys.iter_mut().find(|key| key.public() == *public) {
            Some(key) => {
                key.revoked_ms = now_ms;
                Ok(())
            }
            None => Err(FederationError::KeyFile("this node has no such key".into())),
        }
    }

    /// Signs with the key in use.
    pub fn sign(&self, purpose: Use, bytes: &[u8]) -> Signature {
        self.current().map(|key| sign(&key.signing(), purpose, bytes)).unwrap_or_default()
    }

    /// Signs with every key that is not revoked, oldest first.
    pub(crate) fn sign_with_all(&self, purpose: Use, bytes: &[u8]) -> Vec<Signature> {
        let sound = self.keys.iter().filter(|key| key.revoked_ms == 0);
        sound.map(|key| sign(&key.signing(), purpose, bytes)).collect()
    }
}

fn sign(key: &SigningKey, purpose: Use, bytes: &[u8]) -> Signature {
    Signature {
        key: key.verifying_key().to_bytes().to_vec().into(),
        signature: key.sign(&purpose.covered(bytes)).to_bytes().to_vec().into(),
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signed::verify;

    #[test]
    fn a_signature_is_for_one_use_and_one_text() {
        let identity = Identity::new([7; 32], 1);
        let signature = identity.sign(Use::Batch, b"text");
        assert_eq!(verify(Use::Batch, b"text", &signature), Some(identity.public_key()));
        assert_eq!(verify(Use::Document, b"text", &signature), None);
        assert_eq!(verify(Use::Batch, b"Text", &signature), None);
        let forged = Signature { key: vec![1; 32].into(), ..signature };
        assert_eq!(verify(Use::Batch, b"text", &forged), None);
    }

    #[test]
    fn the_file_keeps_everything_and_debug_no_secret() {
        let mut identity = Identity::new([7; 32], 1);
        identity.rotate([8; 32], 2, 3);
        for domain in [None, Some("alpha.example".parse().expect("a domain"))] {
            domain.iter().for_each(|domain| identity.speak_for(domain));
            let text = identity.write().expect("a text");
            let read = Identity::read(&text).expect("an identity");
            assert_eq!(read.keys(), identity.keys());
            assert_eq!(read.domain(), domain);
        }
        assert!(!format!("{identity:?}").contains('7'));
    }

    #[test]
    fn the_last_sound_key_signs() {
        let mut identity = Identity::new([7; 32], 1);
        let first = identity.public_key();
        assert!(identity.revoke(&first, 2).is_err());
        identity.rotate([8; 32], 3, 10);
        assert_ne!(identity.public_key(), first);
        identity.revoke(&first, 4).expect("revoked");
        assert_eq!(identity.keys()[0].revoked_ms, 4);
        assert_eq!(identity.sign_with_all(Use::Document, b"").len(), 1);
    }
}
