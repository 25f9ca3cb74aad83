//! Operation IDs.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Longest operation ID that is kept, in bytes.
const MAX_BYTES: usize = 64;
/// Bytes of the digest that stands for the rest of a longer one; two hexadecimal digits each.
const DIGEST_BYTES: usize = 8;

/// What a client calls a request, as the node keeps it: in its log and in the pushes that follow.
///
/// At most 64 bytes. The native SDK handles pushes that came together under one operation ID made of
/// all of theirs, and uses it for the requests that it makes then; carried on in full it would grow
/// from client to client. Of a longer one the beginning is kept, and a digest, so that different
/// ones stay different.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OperationId(Arc<str>);

impl OperationId {
    /// Keeps the operation ID of a request.
    pub fn new(text: &str) -> Self {
        if text.len() <= MAX_BYTES {
            return Self(text.into());
        }
        let head = text.floor_char_boundary(MAX_BYTES - 2 * DIGEST_BYTES - 1);
        let head = text.get(..head).unwrap_or_default();
        let digest = Sha256::digest(text);
        let digest = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}"));
        Self(format!("{head}~{}", digest.collect::<String>()).into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for OperationId {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl Deref for OperationId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_ones_stay_as_they_are() {
        for text in ["", "op-1", &"x".repeat(MAX_BYTES)] {
            assert_eq!(OperationId::new(text).as_str(), text);
        }
    }

    #[test]
    fn long_ones_are_cut_and_stay_different() {
        let long = format!("Batch_{}", vec!["1764451234567890123"; 60].join("$"));
        let cut = OperationId::new(&long);
        assert_eq!(cut.len(), MAX_BYTES);
        assert!(cut.starts_with("Batch_1764451234567890123$"), "{cut}");
        assert_ne!(cut, OperationId::new(&format!("{long}$1")));
        assert_eq!(cut, OperationId::new(&long));
        assert_eq!(OperationId::new(&cut), cut, "cut once is cut for good");
        assert!(OperationId::new(&"用户".repeat(60)).len() <= MAX_BYTES);
    }
}
