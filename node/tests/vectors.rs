//! The test vectors of the federation protocol: `docs/federation/vectors.json` is what this program
//! makes. `testnet/vectors/run` reads them from the outside.
//!
//! `UPDATE_DOCS=1` writes them anew.

use federation::identity::Identity;
use federation::signed::{Use, verify};
use federation::{document, peer_id};
use prost::Message as _;
use proto::federation::*;
use proto::qualified::{Domain, localise};
use serde_json::{Value, json};
use services::federation::proof;
use sha2::{Digest as _, Sha256};
use store::group_log::entry_hash;
use testnet::Result;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/federation/vectors.json");
const GROUP: &str = "7@alpha.example";
const SEEDS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

fn keys() -> Result<Vec<Value>> {
    let keys = SEEDS.iter().map(|seed| {
        let key = Identity::new(*seed, 0).public_key();
        let peer_id = peer_id::to_text(&key)?;
        Ok(json!({ "seed": hex::encode(seed), "public": hex::encode(key), "peer_id": peer_id }))
    });
    keys.collect()
}

fn node_document(identity: &Identity) -> NodeDocument {
    NodeDocument {
        domain: "alpha.example".into(),
        sequence: 3,
        time_ms: 1_700_000_000_000,
        keys: identity.keys(),
        addresses: vec!["/ip4/192.0.2.1/udp/10003/quic-v1".into()],
        versions: vec![1],
        policy: Policy::AllowList.into(),
    }
}

fn batch() -> BatchPayload {
    let listed = FriendListed {
        owner: "alice@alpha.example".into(),
        friend: "bob@beta.example".into(),
        listed: true,
    };
    BatchPayload {
        origin: "alpha.example".into(),
        audience: "beta.example".into(),
        epoch: 77,
        first_seq: 5,
        time_ms: 1_700_000_000_000,
        events: vec![Event {
            kind: EventKind::EventFriendListed as u32,
            body: listed.encode_to_vec().into(),
            time_ms: 1_700_000_000_000,
        }],
        mark: None,
    }
}

fn signature(
    what: &str,
    use_: Use,
    identity: (&Identity, &[u8; 32]),
    bytes: &[u8],
    change: impl Fn(&mut Signature, &mut Use, &mut Vec<u8>),
) -> Value {
    let (identity, seed) = identity;
    let mut signature = identity.sign(use_, bytes);
    let (mut use_, mut bytes) = (use_, bytes.to_vec());
    change(&mut signature, &mut use_, &mut bytes);
    let name = match use_ {
        Use::Document => "document",
        Use::Batch => "batch",
        Use::Message => "message",
        Use::Head => "head",
        Use::Mandate => "mandate",
    };
    json!({
        "what": what,
        "use": name,
        "key": hex::encode(&signature.key),
        "seed": hex::encode(seed),
        "bytes": hex::encode(&bytes),
        "signature": hex::encode(&signature.signature),
        "holds": verify(use_, &bytes, &signature).is_some(),
    })
}

/// A log of three entries: bytes of the headers, contents of their messages.
fn log(text: &str) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut entries = Vec::new();
    let mut previous = Vec::new();
    for seq in 1..=3 {
        let (mut messages, mut contents) = (Vec::new(), Vec::new());
        if seq > 1 {
            let content = proto::sdkws::MsgData {
                send_id: "alice@alpha.example".into(),
                group_id: GROUP.into(),
                client_msg_id: format!("client-{seq}"),
                server_msg_id: format!("server-{seq}"),
                session_type: 3,
                content_type: 101,
                content: json!({ "content": format!("{text} {seq}") }).to_string().into(),
                status: 2,
                ..Default::default()
            };
            let content = content.encode_to_vec();
            messages.push(GroupMessage {
                seq: seq - 1,
                send_time_ms: 1_700_000_000_000 + seq,
                digest: Sha256::digest(&content).to_vec().into(),
                ..GroupMessage::default()
            });
            contents.push(content);
        }
        let header = EntryHeader {
            group: GROUP.into(),
            epoch: 1,
            seq: seq.cast_unsigned(),
            previous: previous.clone().into(),
            time_ms: 1_700_000_000_000 + seq,
            messages,
            ..EntryHeader::default()
        };
        let header = header.encode_to_vec();
        previous = entry_hash(&header);
        entries.push((header, contents));
    }
    entries
}

fn signed_head(identity: &Identity, seq: u64, header: &[u8]) -> SignedHead {
    let head = GroupHead { group: GROUP.into(), epoch: 1, seq, hash: entry_hash(header).into() };
    let head = head.encode_to_vec();
    let signature = Some(identity.sign(Use::Head, &head));
    SignedHead { head: head.into(), signature }
}

fn proofs(identity: &Identity) -> Vec<Value> {
    let (one, other) = (log("buy"), log("sell"));
    let document = Some(document::sign(identity, &node_document(identity)));
    let proof = |first: (u64, &[u8]), headers: &[&(Vec<u8>, Vec<Vec<u8>>)]| EquivocationProof {
        document: document.clone(),
        first: Some(signed_head(identity, first.0, first.1)),
        second: Some(signed_head(identity, 3, &other[2].0)),
        headers: headers.iter().map(|entry| entry.0.clone().into()).collect(),
    };
    let mut unsigned = proof((3, &one[2].0), &[]);
    unsigned.first = unsigned.first.map(|head| SignedHead {
        signature: Some(Identity::new(SEEDS[1], 0).sign(Use::Batch, &head.head)),
        ..head
    });
    let cases = [
        ("two heads of one seq", proof((3, &one[2].0), &[])),
        ("a head and a longer history without it", proof((2, &one[1].0), &[&other[2]])),
        ("heads of one history", proof((2, &other[1].0), &[&other[2]])),
        ("an entry is missing", proof((2, &one[1].0), &[])),
        ("an entry of the other history", proof((2, &one[1].0), &[&one[2]])),
        ("a signature for another use", unsigned),
    ];
    let described = cases.into_iter().map(|(what, proof)| {
        let checked = proof::check(&proof, |head, by| verify(Use::Head, head, by).is_some());
        let encoded = hex::encode(proof.encode_to_vec());
        json!({ "what": what, "bytes": encoded, "proves": checked.is_ok() })
    });
    described.collect()
}

fn names() -> Result<Vec<Value>> {
    let own: Domain = "here.example".parse()?;
    let ids = [
        "bob@beta.example",
        "b_o_b@beta-1.example",
        "1234567@xn--bcher-kva.example",
        "bob",
        "bob@",
        "@beta.example",
        "bob@Beta.example",
        "bob@beta_example",
        "bob@beta..example",
        "bob@-beta.example",
        "bob@192.0.2.1",
        "b.b@beta.example",
        "b b@beta.example",
        "bob@beta.example@gamma.example",
    ];
    Ok(ids.iter().map(|id| json!({ "qualified": id, "client": localise(id, &own).ok() })).collect())
}

fn mandate() -> Mandate {
    Mandate {
        group: GROUP.into(),
        home: "alpha.example".into(),
        to: "beta.example".into(),
        moves: false,
        epoch: 1,
        seq: 4,
        time_ms: 1_700_000_000_000,
    }
}

fn vectors() -> Result<Value> {
    let [first, second] = SEEDS.map(|seed| Identity::new(seed, 1_600_000_000_000));
    let one = (&first, &SEEDS[0]);
    let (document, batch) = (node_document(&first).encode_to_vec(), batch().encode_to_vec());
    let unchanged = |_: &mut Signature, _: &mut Use, _: &mut Vec<u8>| {};
    let log = log("hello");
    let content = &log[1].1[0];
    let head = signed_head(&first, 1, &log[0].0).head;
    let signatures = vec![
        signature("a node document", Use::Document, one, &document, unchanged),
        signature("a batch", Use::Batch, one, &batch, unchanged),
        signature("a message of a group", Use::Message, one, content, unchanged),
        signature("a head", Use::Head, one, &head, unchanged),
        signature("a mandate", Use::Mandate, one, &mandate().encode_to_vec(), unchanged),
        signature("a batch as a document", Use::Batch, one, &batch, |_, use_, _| {
            *use_ = Use::Document;
        }),
        signature("a changed byte", Use::Batch, one, &batch, |_, _, bytes| bytes[0] ^= 1),
        signature("another key", Use::Batch, one, &batch, |signature, _, _| {
            signature.key = second.public_key().to_vec().into();
        }),
        signature("cut short", Use::Batch, one, &batch, |signature, _, _| {
            signature.signature = signature.signature.slice(..63);
        }),
    ];
    let key = hex::encode(first.public_key());
    let messages = vec![
        json!({
            "type": "NodeDocument",
            "bytes": hex::encode(&document),
            "says": {
                "domain": "alpha.example",
                "sequence": 3,
                "timeMs": 1_700_000_000_000_i64,
                "keys": [{ "publicKey": key, "fromMs": 1_600_000_000_000_i64 }],
                "addresses": ["/ip4/192.0.2.1/udp/10003/quic-v1"],
                "versions": [1],
                "policy": 1,
            },
        }),
        json!({
            "type": "BatchPayload",
            "bytes": hex::encode(&batch),
            "says": {
                "origin": "alpha.example",
                "audience": "beta.example",
                "epoch": 77,
                "firstSeq": 5,
                "timeMs": 1_700_000_000_000_i64,
                "events": [{
                    "kind": 4,
                    "body": hex::encode(&BatchPayload::decode(batch.as_slice())?.events[0].body),
                    "timeMs": 1_700_000_000_000_i64,
                }],
            },
        }),
        json!({
            "type": "GroupHead",
            "bytes": hex::encode(&head),
            "says": {
                "group": GROUP, "epoch": 1, "seq": 1, "hash": hex::encode(entry_hash(&log[0].0)),
            },
        }),
        json!({
            "type": "Mandate",
            "bytes": hex::encode(mandate().encode_to_vec()),
            "says": {
                "group": GROUP, "home": "alpha.example", "to": "beta.example", "epoch": 1, "seq": 4,
                "timeMs": 1_700_000_000_000_i64,
            },
        }),
    ];
    let entries = log.iter().map(|(header, contents)| {
        let digests = contents.iter().map(|content| hex::encode(Sha256::digest(content)));
        json!({
            "header": hex::encode(header),
            "hash": hex::encode(entry_hash(header)),
            "contents": contents.iter().map(hex::encode).collect::<Vec<_>>(),
            "digests": digests.collect::<Vec<_>>(),
        })
    });
    let hash = "ab".repeat(32);
    let links: Vec<Value> = ["https://chat.example/api", "http://127.0.0.1:10002"]
        .iter()
        .map(|base| {
            let address = format!("alpha.example/{hash}/alice/picture 1.png");
            json!({
                "link": format!("{base}/object/@{address}"), "url": format!("entente://{address}"),
            })
        })
        .collect();
    Ok(json!({
        "about": "Test vectors of the federation protocol, version 1. Bytes are in hex.",
        "keys": keys()?,
        "signatures": signatures,
        "messages": messages,
        "log": entries.collect::<Vec<_>>(),
        "proofs": proofs(&first),
        "names": names()?,
        "links": links,
    }))
}

#[test]
fn the_vectors_are_what_this_program_makes() -> Result {
    let vectors = vectors()?;
    let hold: Vec<bool> = vectors["signatures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|vector| vector["holds"].as_bool())
        .collect();
    assert_eq!(hold, [true, true, true, true, true, false, false, false, false]);
    let prove: Vec<bool> = vectors["proofs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|vector| vector["proves"].as_bool())
        .collect();
    assert_eq!(prove, [true, true, false, false, false, false]);
    let text = serde_json::to_string_pretty(&vectors)? + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(FILE, &text)?;
    }
    let written = std::fs::read_to_string(FILE)?;
    assert!(written == text, "docs/federation/vectors.json is out of date: set UPDATE_DOCS=1");
    Ok(())
}
