//! Peer IDs and addresses in the forms that libp2p has for them.

use libp2p::identity::{PublicKey as AnyKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::{FederationError, PublicKey};

/// The peer ID of a key: the key itself, in a multihash, in base 58.
pub fn to_text(key: &PublicKey) -> Result<String, FederationError> {
    Ok(to_libp2p(key)?.to_string())
}

/// The key that a peer ID stands for.
pub fn parse(text: &str) -> Result<PublicKey, FederationError> {
    let bad = || FederationError::PeerId(text.to_owned());
    from_libp2p(&text.parse().map_err(|_| bad())?).ok_or_else(bad)
}

pub(crate) fn to_libp2p(key: &PublicKey) -> Result<PeerId, FederationError> {
    let key = ed25519::PublicKey::try_from_bytes(key)
        .map_err(|_| FederationError::PeerId(hex::encode(key)))?;
    Ok(PeerId::from_public_key(&AnyKey::from(key)))
}

pub(crate) fn from_libp2p(peer: &PeerId) -> Option<PublicKey> {
    // An ed25519 peer ID is an identity multihash (code 0) of the key in protobuf.
    let hash = peer.as_ref();
    if hash.code() != 0 {
        return None;
    }
    let key = AnyKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(key.try_into_ed25519().ok()?.to_bytes())
}

/// Checks an address at which a node may be reached, such as `/dns4/im.example/udp/4433/quic-v1`;
/// a trailing `/p2p/…` is taken off.
pub fn check_address(text: &str) -> Result<String, FederationError> {
    let bad = |reason: &str| FederationError::Address {
        address: text.to_owned(),
        reason: reason.to_owned(),
    };
    let mut address: Multiaddr = text.parse().map_err(|_| bad("not a multiaddr"))?;
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    if !address.iter().any(|part| matches!(part, Protocol::QuicV1)) {
        return Err(bad("it must end in /udp/PORT/quic-v1"));
    }
    Ok(address.to_string())
}

/// Checks the address of a relay, which ends with its peer ID; returns the path through it.
pub(crate) fn through_relay(text: &str) -> Result<Multiaddr, FederationError> {
    let refused = |reason: &str| FederationError::Address {
        address: text.to_owned(),
        reason: reason.to_owned(),
    };
    let address: Multiaddr = text.parse().map_err(|_| refused("it is no multiaddr"))?;
    match address.iter().last() {
        Some(Protocol::P2p(_)) => Ok(address.with(Protocol::P2pCircuit)),
        _ => Err(refused("it does not end with the peer ID of the relay")),
    }
}

/// Checks the address of a relay, such as `/ip4/192.0.2.1/udp/10003/quic-v1/p2p/12D3…`.
pub fn check_relay(text: &str) -> Result<(), FederationError> {
    through_relay(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_peer_id_is_its_key() {
        let key = Identity::new([3; 32], 0).public_key();
        let text = to_text(&key).expect("a peer ID");
        assert!(text.starts_with("12D3KooW"), "{text}");
        assert_eq!(parse(&text).expect("a key"), key);
        assert!(parse("12D3KooW").is_err());
    }

    #[test]
    fn addresses_are_checked() {
        let good = "/ip4/127.0.0.1/udp/4433/quic-v1";
        assert_eq!(check_address(good).expect("an address"), good);
        let key = Identity::new([3; 32], 0).public_key();
        let with_peer = format!("{good}/p2p/{}", to_text(&key).expect("a peer ID"));
        assert_eq!(check_address(&with_peer).expect("an address"), good);
        assert!(check_address("/ip4/127.0.0.1/tcp/4433").is_err());
        assert!(check_address("127.0.0.1:4433").is_err());
    }
}
