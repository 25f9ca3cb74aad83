//! `entente federation check DOMAIN`: what keeps this node from reaching another one.

use std::net::SocketAddr;
use std::time::Duration;

use federation::probe::{self, Answer};
use federation::trust::Fetch;
use federation::{Domain, PublicKey, document, peer_id};
use proto::federation::{Greeting, NodeDocument, request};
use serde::Serialize;
use store::schema;

use crate::operation::Node;

/// How far the clock of another node may be off before it is mentioned.
const CLOCK_OFF: Duration = Duration::from_secs(300);

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    what: &'static str,
    /// It is as it should be.
    good: bool,
    /// Nothing can work without it.
    needed: bool,
    /// What was found, in words.
    found: String,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn note(&mut self, what: &'static str, good: bool, found: impl Into<String>) {
        self.0.push(Finding { what, good, needed: true, found: found.into() });
    }

    /// Something is missing; `needed`: and must not.
    fn miss(&mut self, what: &'static str, needed: bool, found: impl Into<String>) {
        self.0.push(Finding { what, good: false, needed, found: found.into() });
    }
}

/// Looks at everything on the way to the node of `domain`, in order.
pub(crate) async fn check(
    node: &Node,
    domain: &Domain,
    fetch: &Fetch,
    now_ms: i64,
) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Findings::default();
    let peer = schema::PEERS.get(&node.services.store().view(), domain.as_str())?;
    let peer = peer.unwrap_or_default();
    let pinned: Vec<PublicKey> =
        peer.pinned_keys.iter().filter_map(|key| key.as_slice().try_into().ok()).collect();
    match pinned.last() {
        Some(key) => findings.note("pin", true, format!("pinned: {}", peer_id::to_text(key)?)),
        None => findings.miss("pin", false, "no key is pinned; the node document decides"),
    }
    match tokio::net::lookup_host((domain.as_str(), 443)).await {
        Ok(addresses) => {
            let addresses: Vec<String> = addresses.map(|a| a.ip().to_string()).collect();
            findings.note("DNS", !addresses.is_empty(), addresses.join(", "));
        }
        // The node document comes from there; who has pinned a key does without.
        Err(error) => {
            findings.miss("DNS", pinned.is_empty(), format!("{domain} has no address: {error}"));
        }
    }
    let served = fetched(domain, fetch, now_ms, &pinned, &mut findings).await;
    let believed = served.or_else(|| {
        let signed = <proto::federation::SignedDocument as prost::Message>::decode(peer.document);
        Some(document::check(&signed.ok()?, domain).ok()?.document)
    });
    let mut addresses = peer.pinned_addresses;
    addresses.extend(believed.into_iter().flat_map(|document| document.addresses));
    addresses.dedup();
    if addresses.is_empty() {
        findings.note("address", false, "nobody says where the node is: pin it with an address");
    }
    for address in addresses {
        udp(&address, &mut findings).await;
    }
    match &node.federation {
        None => findings.note("link", false, "this node does not serve: start it and check again"),
        Some(federation) => {
            let greeting = request::Body::Greeting(Greeting {});
            match federation.ask(domain, greeting).await {
                Ok(_) => findings.note("link", true, "the two nodes talk to each other"),
                Err(error) => findings.note("link", false, error.reason),
            }
        }
    }
    Ok(findings.0)
}

/// Fetches the document that the domain serves.
async fn fetched(
    domain: &Domain,
    fetch: &Fetch,
    now_ms: i64,
    pinned: &[PublicKey],
    findings: &mut Findings,
) -> Option<NodeDocument> {
    let signed = match fetch(domain.clone()).await {
        Ok(signed) => signed,
        Err(error) => {
            findings.miss("document", pinned.is_empty(), error.to_string());
            return None;
        }
    };
    let verified = match document::check(&signed, domain) {
        Ok(verified) => verified,
        Err(error) => {
            findings.note("document", false, error.to_string());
            return None;
        }
    };
    let document = verified.document;
    let count = document.keys.len();
    findings.note("document", true, format!("served over HTTPS, signed, {count} keys"));
    let ahead = document.time_ms.saturating_sub(now_ms);
    if ahead > i64::try_from(CLOCK_OFF.as_millis()).unwrap_or(i64::MAX) {
        let found =
            format!("the document is from the future: one clock is off by {} s", ahead / 1_000);
        findings.note("clock", false, found);
    }
    if !pinned.is_empty() {
        let named = |key: &PublicKey| document.keys.iter().any(|k| k.public_key.as_ref() == key);
        let found = if pinned.iter().any(named) {
            (true, "the pinned key is in the document")
        } else {
            (false, "the document names other keys than the pinned one: ask its operator, pin anew")
        };
        findings.note("key", found.0, found.1);
    }
    let versions = format!("speaks {:?}, this node {}", document.versions, federation::VERSION);
    findings.note("version", document.versions.contains(&federation::VERSION), versions);
    Some(document)
}

/// Sees whether anybody answers at a multiaddr.
async fn udp(address: &str, findings: &mut Findings) {
    let Some((host, port)) = probe::host_and_port(address) else {
        findings.note("UDP", false, format!("{address} is no address of QUIC over UDP"));
        return;
    };
    let resolved: Vec<SocketAddr> = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(resolved) => resolved.collect(),
        Err(error) => {
            findings.note("UDP", false, format!("{address}: {error}"));
            return;
        }
    };
    for at in resolved {
        let (good, found) = match probe::quic(at).await {
            Ok(Answer::Quic) => (true, "somebody answers QUIC".to_owned()),
            Ok(Answer::Nothing) => {
                (false, "no answer: nothing listens there, or UDP does not pass".to_owned())
            }
            Ok(Answer::Unreachable(reason)) => (false, reason),
            Err(error) => (false, error.to_string()),
        };
        findings.note("UDP", good, format!("{at}: {found}"));
    }
}
