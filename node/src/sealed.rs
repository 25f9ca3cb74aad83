//! The secrets in a backup, encrypted under a passphrase.
//!
//! | bytes | content |
//! | --- | --- |
//! | 1 | version of this form |
//! | 4 + 4 + 4 | memory in KiB, passes and lanes of Argon2id |
//! | 16 | its salt |
//! | 24 | nonce of XChaCha20-Poly1305 |
//! | rest | the secrets as JSON, encrypted, and the tag; what is before them is authenticated, too |
//!
//! Numbers are big-endian.

use anyhow::{Context as _, bail};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

/// The form that this program writes.
const FORM: u8 = 1;
/// What guessing a passphrase costs: the second choice of RFC 9106, on one lane.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// Most that a backup of somebody else may cost.
const MAX_MEMORY_KIB: u32 = 1 << 20;
const MAX_PASSES: u32 = 64;
const MAX_LANES: u32 = 64;

const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + 3 * 4 + SALT_BYTES + NONCE_BYTES;

/// What of a node must stay secret, as texts of files.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secrets {
    /// Key of all tokens.
    pub(crate) secret: Option<String>,
    /// The keys of the node.
    pub(crate) identity: Option<String>,
    /// The configuration, which may hold secrets.
    pub(crate) config: Option<String>,
}

impl Secrets {
    /// Encrypts them.
    pub(crate) fn seal(&self, passphrase: &str) -> anyhow::Result<Vec<u8>> {
        let mut sealed = vec![FORM];
        for cost in [MEMORY_KIB, PASSES, LANES] {
            sealed.extend(cost.to_be_bytes());
        }
        let (salt, nonce) =
            (rand::random::<[u8; SALT_BYTES]>(), rand::random::<[u8; NONCE_BYTES]>());
        sealed.extend(salt);
        sealed.extend(nonce);
        let cipher = cipher(passphrase, (MEMORY_KIB, PASSES, LANES), &salt)?;
        let text = serde_json::to_vec(self)?;
        let payload = Payload { msg: &text, aad: &sealed };
        let encrypted = cipher.encrypt(XNonce::from_slice(&nonce), payload);
        let Ok(encrypted) = encrypted else { bail!("the secrets cannot be encrypted") };
        sealed.extend(encrypted);
        Ok(sealed)
    }

    /// Decrypts them.
    pub(crate) fn open(sealed: &[u8], passphrase: &str) -> anyhow::Result<Self> {
        const CUT: &str = "the secrets in the backup are cut off";
        let (head, encrypted) = sealed.split_at_checked(HEAD_BYTES).context(CUT)?;
        let (form, rest) = head.split_first().context(CUT)?;
        if *form != FORM {
            bail!("the secrets in the backup are of form {form}, and this program knows {FORM}");
        }
        let mut rest = rest;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<4>().context(CUT)?;
            rest = after;
            anyhow::Ok(u32::from_be_bytes(*number))
        };
        let cost = (number()?, number()?, number()?);
        if cost.0 > MAX_MEMORY_KIB || cost.1 > MAX_PASSES || cost.2 > MAX_LANES {
            bail!("the secrets in the backup would cost too much to decrypt");
        }
        let (salt, nonce) = rest.split_at_checked(SALT_BYTES).context(CUT)?;
        let payload = Payload { msg: encrypted, aad: head };
        let text = cipher(passphrase, cost, salt)?.decrypt(XNonce::from_slice(nonce), payload);
        let Ok(text) = text else {
            bail!("the passphrase is not the one of the backup, or its secrets are damaged")
        };
        serde_json::from_slice(&text).context("the secrets in the backup")
    }
}

fn cipher(
    passphrase: &str,
    (memory, passes, lanes): (u32, u32, u32),
    salt: &[u8],
) -> anyhow::Result<XChaCha20Poly1305> {
    let mut key = [0; 32];
    let derived = Params::new(memory, passes, lanes, Some(key.len())).and_then(|params| {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(passphrase.as_bytes(), salt, &mut key)
    });
    if let Err(error) = derived {
        bail!("no key can be made of the passphrase: {error}");
    }
    Ok(XChaCha20Poly1305::new(&key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens_what_is_as_it_was_written() {
        let secrets = Secrets { secret: Some("openIM123".into()), ..Secrets::default() };
        let sealed = secrets.seal("a long passphrase").expect("seals");
        assert!(!sealed.windows(6).any(|part| part == b"openIM"));
        assert!(Secrets::open(&sealed, "a long passphrase").expect("opens") == secrets);
        let refused = |sealed: &[u8], passphrase: &str| {
            Secrets::open(sealed, passphrase).err().expect("it does not open").to_string()
        };
        assert!(refused(&sealed, "a long passphrasE").contains("the passphrase is not"));
        // A cost that is none is refused before it is paid.
        for at in [0, 1, 5, 9, 13, 29, HEAD_BYTES, sealed.len() - 1] {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x80;
            assert!(!refused(&damaged, "a long passphrase").is_empty(), "byte {at}");
        }
        for length in [0, 1, HEAD_BYTES - 1, HEAD_BYTES, sealed.len() - 1] {
            assert!(!refused(&sealed[..length], "a long passphrase").is_empty(), "{length} bytes");
        }
    }
}
