//! Proofs that the home of a group has shown two histories of it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use federation::signed::{Use, verify};
use federation::{Domain, PublicKey, document, peer_id};
use prost::Message as _;
use proto::federation::EquivocationProof;
use serde_json::{Value, json};
use services::federation::proof::{Proven, check};

/// In place of a file: standard input.
const STANDARD: &str = "-";
/// Largest proof in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a stored proof says.
pub(crate) fn describe(group: &str, proof: &EquivocationProof) -> Value {
    match check(proof, |head, signature| verify(Use::Head, head, signature).is_some()) {
        Ok(proven) => json!({
            "group": group,
            "epoch": proven.epoch,
            "first_seq": proven.first_seq,
            "second_seq": proven.second_seq,
        }),
        Err(problem) => json!({ "group": group, "problem": problem }),
    }
}

/// Checks the proof in a file: that two heads exclude each other, and that both are signed by keys
/// of the home: by the one named, else by keys of the node document that the proof brings.
pub(crate) fn check_file(file: &Path, peer: Option<&str>) -> anyhow::Result<Value> {
    let mut bytes = Vec::new();
    let opened: Box<dyn std::io::Read> = if file.as_os_str() == STANDARD {
        Box::new(std::io::stdin())
    } else {
        let opened = std::fs::File::open(file);
        Box::new(opened.with_context(|| format!("cannot read {}", file.display()))?)
    };
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("it is no proof: too large");
    }
    let proof = EquivocationProof::decode(bytes.as_slice()).context("it is no proof")?;
    let proven = check(&proof, |head, signature| verify(Use::Head, head, signature).is_some());
    let proven = proven.map_err(|problem| anyhow::anyhow!("it proves nothing: {problem}"))?;
    let Proven { group, epoch, first_seq, second_seq, keys } = proven;
    let home: Domain = group.rsplit_once('@').map_or("", |(_, domain)| domain).parse()?;
    let accepted: Vec<Vec<u8>> = match peer {
        Some(text) => vec![peer_id::parse(text)?.to_vec()],
        None => {
            let signed = proof.document.unwrap_or_default();
            let document = document::check(&signed, &home)?.document;
            document.keys.iter().map(|key| key.public_key.to_vec()).collect()
        }
    };
    if let Some(other) = keys.iter().find(|key| !accepted.contains(key)) {
        bail!("it proves nothing: {} is not a key of {home}", hex::encode(other));
    }
    let key = |key: &Vec<u8>| -> anyhow::Result<String> {
        Ok(peer_id::to_text(&PublicKey::try_from(key.as_slice())?)?)
    };
    Ok(json!({
        "group": group,
        "home": home.as_str(),
        "epoch": epoch,
        "first_seq": first_seq,
        "second_seq": second_seq,
        "peer_ids": keys.iter().map(key).collect::<anyhow::Result<Vec<_>>>()?,
    }))
}
