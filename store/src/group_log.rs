//! The chain of a group's log.

use sha2::{Digest as _, Sha256};

/// The hash of an entry, which the entry behind it names.
pub fn entry_hash(header: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(b"entente/1/entry\0");
    hash.update(header);
    hash.finalize().to_vec()
}
