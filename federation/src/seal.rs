//! What only this node can make: marks and receipts that others keep for it, and its answer when it is
//! asked whether it lives.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use proto::federation::{Mark, Pong};

use crate::Domain;
use crate::identity::Identity;

/// What a seal is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seal {
    /// A place in the stream to another node.
    Mark,
    /// How far the stream of another node was made durable.
    Receipt,
}

fn covered(name: &str, other: &Domain, numbers: [u64; 3]) -> Vec<u8> {
    let numbers = numbers.map(u64::to_be_bytes).concat();
    [b"entente/1/", name.as_bytes(), b"\0", other.as_str().as_bytes(), b"\0", &numbers].concat()
}

impl Seal {
    fn covered(self, other: &Domain, mark: &Mark) -> Vec<u8> {
        let name = match self {
            Self::Mark => "mark",
            Self::Receipt => "receipt",
        };
        covered(name, other, [mark.epoch, mark.seq, mark.value])
    }

    /// A mark for another node.
    pub(crate) fn make(
        self,
        identity: &Identity,
        other: &Domain,
        (epoch, seq): (u64, u64),
        value: u64,
    ) -> Mark {
        let mark = Mark { epoch, seq, value, proof: 0 };
        Mark { proof: identity.seal(&self.covered(other, &mark)), ..mark }
    }

    /// Whether this node has made it for the other node that shows it.
    pub(crate) fn holds(self, identity: &Identity, other: &Domain, mark: &Mark) -> bool {
        identity.has_sealed(&self.covered(other, mark), mark.proof)
    }
}

/// Says to the node of `asker` that `instance` lives, while there is `other`.
pub(crate) fn alive(identity: &Identity, asker: &Domain, instance: u64, other: u64) -> Pong {
    let proof = identity.seal(&covered("alive", asker, [instance, other, 0]));
    Pong { instance, other, proof }
}

/// Whether another instance of this node has said to the node of `asker` that it lives, since
/// `instance` is there.
pub(crate) fn is_other_alive(
    identity: &Identity,
    asker: &Domain,
    instance: u64,
    pong: &Pong,
) -> bool {
    let covered = covered("alive", asker, [pong.instance, pong.other, 0]);
    pong.other == instance && pong.instance != instance && identity.has_sealed(&covered, pong.proof)
}

impl Identity {
    /// What only whoever has the key in use can make of `bytes`.
    fn seal(&self, bytes: &[u8]) -> u64 {
        seal(&self.seed(), bytes)
    }

    /// Whether one of the keys that are not revoked has sealed `bytes`.
    fn has_sealed(&self, bytes: &[u8], proof: u64) -> bool {
        self.seeds().any(|seed| seal(&seed, bytes) == proof)
    }
}

fn seal(seed: &[u8; 32], bytes: &[u8]) -> u64 {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(seed) else { return 0 };
    mac.update(bytes);
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = mac.finalize().into_bytes().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_seals_hold_and_only_for_what_they_were_made() {
        let (mut own, other) = (Identity::new([1; 32], 0), Identity::new([2; 32], 0));
        let (beta, gamma): (Domain, Domain) =
            ("beta.example".parse().unwrap(), "gamma.example".parse().unwrap());
        let mark = Seal::Mark.make(&own, &beta, (7, 3), 9);
        assert!(Seal::Mark.holds(&own, &beta, &mark));
        assert!(!Seal::Receipt.holds(&own, &beta, &mark));
        assert!(!Seal::Mark.holds(&own, &gamma, &mark));
        assert!(!Seal::Mark.holds(&other, &beta, &mark));
        assert!(!Seal::Mark.holds(&own, &beta, &Mark { seq: 4, ..mark }));
        assert!(!Seal::Mark.holds(&own, &beta, &Mark { epoch: 8, ..mark }));
        own.rotate([3; 32], 1, 2);
        assert!(Seal::Mark.holds(&own, &beta, &mark), "a key that was rotated still counts");

        let pong = alive(&own, &beta, 5, 6);
        assert!(is_other_alive(&own, &beta, 6, &pong));
        assert!(!is_other_alive(&own, &beta, 7, &pong), "an answer from before this start");
        assert!(!is_other_alive(&own, &gamma, 6, &pong));
        assert!(!is_other_alive(&own, &beta, 6, &alive(&other, &beta, 5, 6)));
        assert!(!is_other_alive(&own, &beta, 6, &alive(&own, &beta, 6, 6)), "its own answer");
    }
}
