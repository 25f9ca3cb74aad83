//! Nodes of several organisations, each a program of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::free_port;
use crate::link::{self, Link};
use crate::{Process, Result};

/// The address that a node behind relays tells of itself: nobody can go around the relays.
pub(crate) const ELSEWHERE: (&str, &str) =
    ("ENTENTE_FEDERATION_ADDRESSES", "/ip4/127.0.0.1/udp/9/quic-v1");

/// An organisation and its node.
pub(crate) struct Organisation {
    pub(crate) domain: String,
    pub(crate) node: Process,
    pub(crate) peer_id: String,
    /// Where its node listens for others.
    pub(crate) address: SocketAddr,
}

/// Where a node runs.
pub(crate) struct Place {
    /// Address at which it serves clients.
    pub(crate) clients: IpAddr,
    /// Address and port at which it listens for other nodes.
    pub(crate) others: SocketAddr,
    /// Words before those of the program, which take it there.
    pub(crate) under: Vec<String>,
}

impl Organisation {
    /// Node number `index` on the loopback, which has a key and does not run yet.
    pub(crate) async fn prepare(
        server: &Path,
        index: usize,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let others = SocketAddr::new(loopback, free_port()?);
        let place = Place { clients: loopback, others, under: Vec::new() };
        Self::prepare_at(server, index, place, variables).await
    }

    /// The same at another place.
    pub(crate) async fn prepare_at(
        server: &Path,
        index: usize,
        place: Place,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let domain = format!("node{index}.example");
        let address = place.others;
        let mut builder = Process::builder(server)
            .host(place.clients)
            .under(place.under)
            .argument("--domain")
            .argument(&domain)
            .argument("--federation")
            .argument(&address.to_string());
        for (name, value) in variables {
            builder = builder.variable(name, value);
        }
        let node = builder.prepare()?;
        let key = federation(&node, &["key", "show"]).await?;
        let peer_id = key["peer_id"].as_str().context("no peer ID")?.to_owned();
        Ok(Self { domain, node, peer_id, address })
    }

    /// Trusts another one, at `port`.
    pub(crate) async fn pin(&self, other: &Self, port: u16) -> Result {
        self.pin_at(other, &multiaddr(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))).await
    }

    /// Trusts another one, at a multiaddr.
    pub(crate) async fn pin_at(&self, other: &Self, address: &str) -> Result {
        federation(&self.node, &["pin", &other.domain, &other.peer_id, address]).await?;
        Ok(())
    }

    /// Trusts another one, which is reached through a relay; returns what can go wrong on the way.
    pub(crate) async fn pin_through_relay(&self, other: &Self) -> Result<Arc<Link>> {
        let link = Arc::new(Link::default());
        let port = link::start(other.address, Arc::clone(&link)).await?;
        self.pin(other, port).await?;
        Ok(link)
    }
}

/// Where others reach a node that listens at an address.
pub(crate) fn multiaddr(at: SocketAddr) -> String {
    format!("/ip4/{}/udp/{}/quic-v1", at.ip(), at.port())
}

/// An ID as clients of other nodes see it.
pub(crate) fn elsewhere(id: &str, domain: &str) -> String {
    format!("{id}@{}", domain.replace('.', "_"))
}

/// Runs `entente federation …` on the data of a node.
pub(crate) async fn federation(node: &Process, words: &[&str]) -> Result<Value> {
    run(node, "federation", words).await
}

/// Runs a command of the program on the data of a node.
pub(crate) async fn run(node: &Process, name: &str, words: &[&str]) -> Result<Value> {
    let output = node.command(name).arg("--json").args(words).output().await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {words:?}: {error}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
