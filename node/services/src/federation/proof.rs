//! Proofs that the home of a group has shown two histories: checking one needs nothing but the
//! proof and the keys of the home.

use prost::Message as _;
use proto::federation::{EntryHeader, EquivocationProof, GroupHead, Signature, SignedHead};
use store::group_log::entry_hash;

/// What a proof shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Qualified ID of the group.
    pub group: String,
    /// Epoch of the log.
    pub epoch: u64,
    /// Entry up to which one head reaches.
    pub first_seq: u64,
    /// Entry up to which the other one reaches.
    pub second_seq: u64,
    /// Keys that made the signatures.
    pub keys: [Vec<u8>; 2],
}

/// Checks a proof; an error says why it proves nothing.
///
/// `verify` tells whether a signature over a head holds. Whether the keys speak for the home is left
/// to the caller.
pub fn check(
    proof: &EquivocationProof,
    verify: impl Fn(&[u8], &Signature) -> bool,
) -> Result<Proven, &'static str> {
    let read = |signed: &Option<SignedHead>| {
        let signed = signed.clone().unwrap_or_default();
        let signature = signed.signature.unwrap_or_default();
        if !verify(&signed.head, &signature) {
            return Err("a signature does not hold");
        }
        let head = GroupHead::decode(signed.head).map_err(|_| "a head does not decode")?;
        Ok((head, signature.key.to_vec()))
    };
    let (first, first_key) = read(&proof.first)?;
    let (second, second_key) = read(&proof.second)?;
    if (&first.group, first.epoch) != (&second.group, second.epoch) {
        return Err("the heads are of two logs");
    }
    if second.seq.checked_sub(first.seq) != Some(proof.headers.len() as u64) {
        return Err("the entries between the heads are not those that are needed");
    }
    let mut hash = second.hash.clone();
    for header in proof.headers.iter().rev() {
        if entry_hash(header) != hash {
            return Err("the entries do not lead up to the second head");
        }
        hash =
            EntryHeader::decode(header.clone()).map_err(|_| "an entry does not decode")?.previous;
    }
    if hash == first.hash {
        return Err("the heads agree: they are of one history");
    }
    Ok(Proven {
        group: first.group,
        epoch: first.epoch,
        first_seq: first.seq,
        second_seq: second.seq,
        keys: [first_key, second_key],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u64, previous: &[u8], time_ms: i64) -> Vec<u8> {
        let previous = previous.to_vec().into();
        let group = "1@alpha.example".to_owned();
        EntryHeader { group, epoch: 1, seq, previous, time_ms, ..EntryHeader::default() }
            .encode_to_vec()
    }

    fn signed(seq: u64, hash: &[u8]) -> Option<SignedHead> {
        let group = "1@alpha.example".to_owned();
        let head = GroupHead { group, epoch: 1, seq, hash: hash.to_vec().into() };
        let head: bytes::Bytes = head.encode_to_vec().into();
        let signature = Signature { key: b"k".as_slice().into(), signature: head.clone() };
        Some(SignedHead { head, signature: Some(signature) })
    }

    fn check(proof: &EquivocationProof) -> Result<Proven, &'static str> {
        super::check(proof, |head, signature| signature.signature == head)
    }

    #[test]
    fn two_heads_prove_something_only_if_they_exclude_each_other() {
        let first = header(1, b"", 1);
        let second = header(2, &entry_hash(&first), 2);
        let other = header(1, b"", 7);
        let proof = |first: Option<SignedHead>, headers: Vec<Vec<u8>>| EquivocationProof {
            first,
            second: signed(2, &entry_hash(&second)),
            headers: headers.into_iter().map(Into::into).collect(),
            document: None,
        };
        let proven = check(&proof(signed(1, &entry_hash(&other)), vec![second.clone()]));
        assert_eq!(proven.map(|p| (p.first_seq, p.second_seq)), Ok((1, 2)));
        assert!(check(&proof(signed(2, &entry_hash(&other)), Vec::new())).is_ok());

        let same = proof(signed(1, &entry_hash(&first)), vec![second.clone()]);
        assert_eq!(check(&same), Err("the heads agree: they are of one history"));
        let gap = proof(signed(1, &entry_hash(&other)), Vec::new());
        assert!(check(&gap).is_err());
        let wrong = proof(signed(1, &entry_hash(&other)), vec![first.clone()]);
        assert!(check(&wrong).is_err());
        let mut unsigned = proof(signed(2, &entry_hash(&other)), Vec::new());
        unsigned.first = unsigned.first.map(|head| SignedHead { signature: None, ..head });
        assert_eq!(check(&unsigned), Err("a signature does not hold"));
    }
}
