//! The node document: which keys speak for a domain, and where its node is.

use prost::Message as _;
use proto::federation::{NodeDocument, SignedDocument};

use crate::identity::Identity;
use crate::signed::{Use, verify};
use crate::{Domain, FederationError, PublicKey};

/// Largest document in bytes, signatures included.
pub const MAX_BYTES: usize = 16 * 1024;
/// Most keys that a document may name.
const MAX_KEYS: usize = 16;
/// Most addresses that a document may name.
const MAX_ADDRESSES: usize = 16;

/// A document whose signatures hold.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub document: NodeDocument,
    /// Keys that signed it.
    pub signers: Vec<PublicKey>,
    /// As it came.
    pub signed: SignedDocument,
}

/// Signs a document with all keys of this node that are not revoked.
pub fn sign(identity: &Identity, document: &NodeDocument) -> SignedDocument {
    let document = document.encode_to_vec();
    let signatures = identity.sign_with_all(Use::Document, &document);
    SignedDocument { document: document.into(), signatures }
}

/// Checks a document on its own: its shape, its domain, and that every signature holds.
///
/// It must be signed by a key that it names itself and does not revoke. Whether such a key is to be
/// believed is another question.
pub fn check(signed: &SignedDocument, domain: &Domain) -> Result<Verified, FederationError> {
    let bad = |reason: &str| FederationError::Document {
        domain: domain.clone(),
        reason: reason.to_owned(),
    };
    if signed.encoded_len() > MAX_BYTES {
        return Err(bad("it is too large"));
    }
    if signed.signatures.len() > MAX_KEYS {
        return Err(bad("it has too many signatures"));
    }
    let verified = signed.signatures.iter().map(|s| verify(Use::Document, &signed.document, s));
    let Some(signers) = verified.collect::<Option<Vec<PublicKey>>>() else {
        return Err(bad("a signature does not verify"));
    };
    let document =
        NodeDocument::decode(signed.document.clone()).map_err(|_| bad("it is not a document"))?;
    if document.domain != domain.as_str() {
        return Err(bad("it is for another domain"));
    }
    if document.keys.len() > MAX_KEYS || document.addresses.len() > MAX_ADDRESSES {
        return Err(bad("it names too many keys or addresses"));
    }
    if document.keys.iter().any(|key| key.public_key.len() != 32) {
        return Err(bad("a key has a wrong length"));
    }
    let named = document.keys.iter().filter(|key| key.revoked_ms == 0);
    let mut named = named.map(|key| key.public_key.as_ref());
    if !named.any(|key| signers.iter().any(|signer| signer == key)) {
        return Err(bad("no key that it names has signed it"));
    }
    Ok(Verified { document, signers, signed: signed.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(identity: &Identity, domain: &str) -> NodeDocument {
        NodeDocument {
            domain: domain.to_owned(),
            sequence: 1,
            keys: identity.keys(),
            ..NodeDocument::default()
        }
    }

    #[test]
    fn only_its_own_keys_make_a_document_hold() {
        let domain: Domain = "beta.example".parse().expect("a domain");
        let identity = Identity::new([1; 32], 0);
        let good = sign(&identity, &document(&identity, "beta.example"));
        assert!(check(&good, &domain).is_ok());

        let stranger = Identity::new([2; 32], 0);
        let foreign = sign(&stranger, &document(&identity, "beta.example"));
        assert!(check(&foreign, &domain).is_err());
        let elsewhere = sign(&identity, &document(&identity, "gamma.example"));
        assert!(check(&elsewhere, &domain).is_err());
        let mut changed = good.clone();
        changed.document = document(&identity, "beta.exampl").encode_to_vec().into();
        assert!(check(&changed, &domain).is_err());
        assert!(check(&SignedDocument::default(), &domain).is_err());
    }
}
