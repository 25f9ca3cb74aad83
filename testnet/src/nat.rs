//! Nodes behind address translation: two organisations that nobody can dial meet through a relay,
//! and on a path of their own where the translation allows it.
//!
//! ```text
//!  node1 ── router1 ──┐            ┌── router2 ── node2
//!  10.0.0.2   translates ── wan ── translates   10.0.0.2
//!                          │
//!                        node0, the relay
//! ```
//!
//! Both nodes have the same private address, as it happens in offices. What comes to a router and
//! was not asked for is dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use proto::sdkws::MsgData;
use serde_json::json;

use crate::network::Network;
use crate::organisations::{Organisation, Place, elsewhere, federation};
use crate::verdict::must_exist;
use crate::{Client, Result, Wire};

/// Port of the nodes for each other.
const PORT: u16 = 10_003;
/// Address of the relay.
const RELAY: &str = "192.0.2.2";
/// Address of both nodes behind their routers.
const INNER: &str = "10.0.0.2";
/// Addresses of the routers on their outer side.
const ROUTERS: [&str; 2] = ["198.51.100.2", "203.0.113.2"];
/// Time for a path to be found or to be given up.
const FINDS: Duration = Duration::from_secs(60);
/// Messages each way over a path that is looked at.
const MESSAGES: usize = 50;
/// Packets that this many messages need at least.
const PACKETS: u64 = MESSAGES as u64 / 2;

/// Options of `testnet nat`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Needs root, iproute2 and nftables. Exit code 1: the nodes did not meet.")]
pub struct Options {
    /// Program to run.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
}

/// How the routers choose the port under which a node is seen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Translation {
    /// The same for all whom it talks to: a path of their own can be found.
    Steady,
    /// Another for each: there is none.
    Random,
}

/// Lets nodes meet behind both kinds of translation.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    must_exist(&options.server)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for translation in [Translation::Steady, Translation::Random] {
        println!("{translation:?} ports");
        if let Err(error) = runtime.block_on(meet(&options.server, translation)) {
            println!("FAILED: {error:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Nodes that run, and the network under them.
struct World {
    // Before the network: it goes when its hosts are empty.
    relay: Organisation,
    nodes: [Organisation; 2],
    users: [Client; 2],
    /// Messages each way so far.
    sent: usize,
    network: Network,
}

async fn meet(server: &Path, translation: Translation) -> Result {
    let network = lay(translation)?;
    let mut world = World::start(server, network).await?;
    world.until_met().await?;
    world.cross(1, "first message through the relay").await?;
    match translation {
        Translation::Steady => {
            world.until_direct().await?;
            let before = world.direct()?;
            world.cross(MESSAGES, "on a path of their own").await?;
            let packets = world.direct()? - before;
            ensure!(packets >= PACKETS, "only {packets} packets took the path of their own");
            world.cut_direct()?;
            world.cross(MESSAGES, "back through the relay after that path was cut").await?;
        }
        Translation::Random => {
            world.cross(MESSAGES, "through the relay").await?;
            world.relay.node.kill().await?;
            world.send(MESSAGES).await?;
            world.relay.node.launch().await?;
            world.cross(MESSAGES, "after the relay was away").await?;
            ensure!(world.direct()? == 0, "there was a path of their own");
        }
    }
    Ok(())
}

/// Lays the cables.
fn lay(translation: Translation) -> Result<Network> {
    let mut network = Network::new();
    for host in ["wan", "node0", "node1", "node2", "router1", "router2"] {
        network.add(host)?;
    }
    network.cable(("wan", "relay", "192.0.2.1/30"), ("node0", "wan", &format!("{RELAY}/30")))?;
    network.ip("node0", "route add default via 192.0.2.1")?;
    let gateways = ["198.51.100.1", "203.0.113.1"];
    for (at, (outer, gateway)) in ROUTERS.into_iter().zip(gateways).enumerate() {
        let (router, node) = (format!("router{}", at + 1), format!("node{}", at + 1));
        let (outside, up) = (format!("{outer}/30"), format!("{gateway}/30"));
        network.cable(("wan", &router, &up), (&router, "wan", &outside))?;
        network.cable((&router, "lan", "10.0.0.1/24"), (&node, "lan", "10.0.0.2/24"))?;
        network.ip(&router, &format!("route add default via {gateway}"))?;
        network.ip(&node, "route add default via 10.0.0.1")?;
        let random = if translation == Translation::Random { "fully-random" } else { "" };
        let other = ROUTERS[1 - at];
        network.filter(
            &router,
            &format!(
                "table ip way {{
                    counter direct {{ }}
                    chain translate {{
                        type nat hook postrouting priority srcnat;
                        oifname wan masquerade {random}
                    }}
                    chain input {{
                        type filter hook input priority filter;
                        iifname wan ct state new drop
                    }}
                    chain forward {{
                        type filter hook forward priority filter;
                        iifname wan ct state new drop
                        iifname wan ip saddr {other} counter name direct
                    }}
                }}"
            ),
        )?;
    }
    for node in 0..3 {
        let there = format!("{}/30", driven(node));
        let here = there.replace(".2/30", ".1/30");
        network.cable_from_here(&format!("node{node}"), &here, &there)?;
    }
    Ok(network)
}

impl World {
    async fn start(server: &Path, network: Network) -> Result<Self> {
        let mut organisations = Vec::new();
        for (node, inner) in [RELAY, INNER, INNER].into_iter().enumerate() {
            let place = Place {
                clients: driven(node).parse()?,
                others: SocketAddr::new(inner.parse()?, PORT),
                under: network.under(&format!("node{node}")),
            };
            let log = ("ENTENTE_LOG_LEVEL", "error");
            organisations.push(Organisation::prepare_at(server, node, place, &[log]).await?);
        }
        let [mut relay, one, other] =
            <[Organisation; 3]>::try_from(organisations).map_err(|_| anyhow!("not three"))?;
        let served = format!("{},{}", one.peer_id, other.peer_id);
        relay.node.set_variable("ENTENTE_FEDERATION_RELAY_FOR", &served);
        relay.node.launch().await?;
        let through = format!("/ip4/{RELAY}/udp/{PORT}/quic-v1/p2p/{}", relay.peer_id);
        let circuit = format!("{through}/p2p-circuit");
        let (mut nodes, mut users) = ([one, other], Vec::new());
        for at in 0..2 {
            nodes[at].pin_at(&nodes[1 - at], &circuit).await?;
            nodes[at].node.set_variable("ENTENTE_FEDERATION_RELAYS", &through);
            nodes[at].node.launch().await?;
            users.push(nodes[at].node.admin().await?.user("u").await?);
        }
        let users = <[Client; 2]>::try_from(users).map_err(|_| anyhow!("not two"))?;
        Ok(Self { relay, nodes, users, sent: 0, network })
    }

    /// Waits until the users know each other.
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    async fn until_met(&self) -> Result {
        let began = Instant::now();
        for at in 0..2 {
            let body = json!({ "userIDs": [self.peer(at)] });
            loop {
                let known = self.users[at].call("/user/get_users_info", &body).await?;
                if known["usersInfo"].as_array().is_some_and(|users| !users.is_empty()) {
                    break;
                }
                ensure!(began.elapsed() < FINDS, "node{} does not reach the other", at + 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        println!("  {:>6.2} s  until they had met", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Sends so many messages each way.
    async fn send(&mut self, messages: usize) -> Result {
        for at in 0..2 {
            let mut socket = self.users[at].connect(Wire::GOB_GZIP).await?;
            for message in 0..messages {
                socket.send_text(&self.peer(at), &format!("{}", self.sent + message)).await?;
            }
        }
        self.sent += messages;
        Ok(())
    }

    /// Sends so many messages each way and waits until all are there, once and in order.
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    async fn cross(&mut self, messages: usize, what: &str) -> Result {
        let began = Instant::now();
        self.send(messages).await?;
        let expected: Vec<String> = (0..self.sent).map(|number| number.to_string()).collect();
        for at in 0..2 {
            let peer = self.peer(at);
            loop {
                let mut socket = self.users[at].connect(Wire::GOB_GZIP).await?;
                let history = socket.history(&peer).await?;
                let of_peer = history.iter().filter(|message| message.send_id == peer);
                let seen = of_peer.map(text).collect::<Result<Vec<String>>>()?;
                if seen == expected {
                    break;
                }
                ensure!(expected.starts_with(&seen), "node{} has {seen:?}", at + 1);
                if began.elapsed() > FINDS {
                    for node in &self.nodes {
                        println!("{}", federation(&node.node, &["peers"]).await?);
                    }
                    bail!("{what}: node{} has {} of {}", at + 1, seen.len(), expected.len());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        println!("  {:>6.2} s  {} each way, {what}", began.elapsed().as_secs_f64(), messages);
        Ok(())
    }

    /// The user whom the user of node `at` writes to.
    fn peer(&self, at: usize) -> String {
        elsewhere("u", &self.nodes[1 - at].domain)
    }

    /// Packets that came to the routers from each other and were let in.
    fn direct(&self) -> Result<u64> {
        Ok(self.network.counted("router1", "direct")?
            + self.network.counted("router2", "direct")?)
    }

    /// Waits until the nodes have found a path of their own.
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    async fn until_direct(&self) -> Result {
        let began = Instant::now();
        while self.direct()? == 0 {
            ensure!(began.elapsed() < FINDS, "no path of their own was found");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "  {:>6.2} s  until they had found a path of their own",
            began.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Lets nothing go from router to router any more.
    fn cut_direct(&self) -> Result {
        for (at, other) in [ROUTERS[1], ROUTERS[0]].into_iter().enumerate() {
            for side in ["saddr", "daddr"] {
                let rule = format!("insert rule ip way forward ip {side} {other} drop");
                self.network.filter(&format!("router{}", at + 1), &rule)?;
            }
        }
        Ok(())
    }
}

/// The address by which a node is driven from this machine.
fn driven(node: usize) -> String {
    // Several of these tests may run at the same time.
    format!("10.{}.{node}.2", 64 + std::process::id() % 128)
}

fn text(message: &MsgData) -> Result<String> {
    let content: serde_json::Value = serde_json::from_slice(&message.content)?;
    Ok(content["content"].as_str().context("no text")?.to_owned())
}
