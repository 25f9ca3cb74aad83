//! How a node is reached that nobody can dial: through relays, and directly where the network
//! address translation between the nodes allows it.
//!
//! A node behind such a translation keeps a connection to relays and tells addresses that lead
//! through them. Two nodes that meet on a relay try to open a path of their own; once they have, the
//! one through the relay is given up. A table of peers finds addresses of a node whose key is known;
//! it never says who speaks for a domain.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, QueryId};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, autonat, dcutr, identify, relay};
use tokio::time::Instant;

use super::quic::{Behaviour, Dial};
use crate::{FederationError, PublicKey, peer_id};

/// Pause before a relay is asked again that has ended.
const RELAY_PAUSE: Duration = Duration::from_secs(5);
/// Longest wait for a connection with a relay before a path through it is tried.
const RELAY_WAIT: Duration = Duration::from_secs(3);
/// Longest search for the addresses of a peer.
const SEARCH: Duration = Duration::from_secs(5);
/// Longest life of a path through a relay; the nodes then take a new one.
const CIRCUIT_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Nodes that a relay serves, and paths through it.
const RESERVATIONS: usize = 128;
const CIRCUITS: usize = 256;
const CIRCUITS_PER_PEER: usize = 32;
/// Addresses that are kept of what a peer says of itself.
const ADDRESSES_PER_PEER: usize = 8;
/// Largest packet of the table of peers.
const TABLE_PACKET_BYTES: usize = 16 * 1_024;

const TABLE: StreamProtocol = StreamProtocol::new("/entente/1/kad");

/// How a node is reached besides where it listens.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Relays that pass on what comes for it, as multiaddrs with their peer IDs.
    pub relays: Vec<String>,
    /// Keys of the nodes for which it is a relay itself.
    pub relay_for: Vec<PublicKey>,
    /// Where others reach it, as multiaddrs; empty: where it listens.
    pub addresses: Vec<String>,
}

/// The parts of the endpoint that find a way to other nodes.
#[derive(NetworkBehaviour)]
pub(super) struct Ways {
    identify: identify::Behaviour,
    relayed: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
    upgrade: dcutr::Behaviour,
    reachable: autonat::v2::client::Behaviour,
    reaching: Toggle<autonat::v2::server::Behaviour>,
    table: kad::Behaviour<MemoryStore>,
}

impl Ways {
    pub(super) fn new(keypair: &Keypair, relayed: relay::client::Behaviour, reach: &Reach) -> Self {
        let own = keypair.public().to_peer_id();
        let identify = identify::Config::new("/entente/1".to_owned(), keypair.public())
            .with_agent_version("entente".to_owned())
            // Others are told where they reach it, which may be another place.
            .with_hide_listen_addrs(true);
        let mut table = kad::Config::new(TABLE);
        // It finds peers and keeps nothing for anybody.
        table.set_record_filtering(kad::StoreInserts::FilterBoth);
        table.set_query_timeout(SEARCH);
        table.set_max_packet_size(TABLE_PACKET_BYTES);
        table.set_periodic_bootstrap_interval(None);
        if let Some(few) = NonZeroUsize::new(2) {
            table.set_parallelism(few);
        }
        let mut table = kad::Behaviour::with_config(own, MemoryStore::new(own), table);
        table.set_mode(Some(kad::Mode::Server));
        Self {
            identify: identify::Behaviour::new(identify),
            relayed,
            relay: relay_for(own, &reach.relay_for).into(),
            upgrade: dcutr::Behaviour::new(own),
            reachable: autonat::v2::client::Behaviour::default(),
            // It dials where others say: only for those whom it serves anyway.
            reaching: (!reach.relay_for.is_empty())
                .then(autonat::v2::server::Behaviour::default)
                .into(),
            table,
        }
    }
}

/// The relay, if there is anybody for whom it is one.
fn relay_for(own: PeerId, keys: &[PublicKey]) -> Option<relay::Behaviour> {
    let served: HashSet<PeerId> =
        keys.iter().filter_map(|key| peer_id::to_libp2p(key).ok()).collect();
    if served.is_empty() {
        return None;
    }
    let only_served = move |peer: PeerId, _: &Multiaddr, _| served.contains(&peer);
    let config = relay::Config {
        max_reservations: RESERVATIONS,
        max_circuits: CIRCUITS,
        max_circuits_per_peer: CIRCUITS_PER_PEER,
        max_circuit_duration: CIRCUIT_LIFE,
        // No limit: the paths are long-lived streams of events.
        max_circuit_bytes: 0,
        reservation_rate_limiters: vec![Box::new(only_served)],
        ..relay::Config::default()
    };
    Some(relay::Behaviour::new(own, config))
}

/// The relay through which an address leads, and where that is.
fn relay_on_the_way(address: &Multiaddr) -> Option<(PeerId, Multiaddr)> {
    let mut relay = None;
    let mut before = Multiaddr::empty();
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay.map(|relay| (relay, before)),
            _ => {}
        }
        before.push(part);
    }
    None
}

/// The relays of a node, and what is known of the connections that lead through them.
pub(super) struct Paths {
    relays: Vec<Multiaddr>,
    listeners: HashMap<libp2p::core::transport::ListenerId, Multiaddr>,
    again: Vec<(Instant, Multiaddr)>,
    relayed: HashMap<PeerId, Vec<ConnectionId>>,
    searches: HashMap<QueryId, PeerId>,
    /// Dials that wait for a connection with a relay.
    parked: Vec<(Instant, PeerId, Dial)>,
}

impl Paths {
    /// Checks the relays and the addresses.
    pub(super) fn new(reach: &Reach) -> Result<Self, FederationError> {
        let relays = reach.relays.iter().map(|relay| peer_id::through_relay(relay));
        Ok(Self {
            relays: relays.collect::<Result<_, _>>()?,
            listeners: HashMap::new(),
            again: Vec::new(),
            relayed: HashMap::new(),
            searches: HashMap::new(),
            parked: Vec::new(),
        })
    }

    /// Addresses that lead through the relays, as multiaddrs.
    pub(super) fn addresses(&self) -> impl Iterator<Item = String> {
        self.relays.iter().map(Multiaddr::to_string)
    }

    /// Begins: the relays are asked for a place.
    pub(super) fn begin(&mut self, swarm: &mut Swarm<Behaviour>, own: &[Multiaddr]) {
        for address in own {
            swarm.add_external_address(address.clone());
        }
        for relay in self.relays.clone() {
            self.ask(swarm, relay);
        }
    }

    fn ask(&mut self, swarm: &mut Swarm<Behaviour>, relay: Multiaddr) {
        match swarm.listen_on(relay.clone()) {
            Ok(listener) => drop(self.listeners.insert(listener, relay)),
            Err(error) => {
                tracing::warn!(%relay, %error, "the relay cannot be used");
                self.again.push((Instant::now() + RELAY_PAUSE, relay));
            }
        }
    }

    /// When something is due: a relay should be asked again, or a dial has waited long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        let parked = self.parked.iter().map(|(until, ..)| *until);
        self.again.iter().map(|(at, _)| *at).chain(parked).min()
    }

    /// Returns the dial if it can begin. One that leads through a relay waits until there is a
    /// connection with the relay: libp2p gives it up when somebody else is just making that.
    pub(super) fn park(&mut self, swarm: &mut Swarm<Behaviour>, dial: Dial) -> Option<Dial> {
        let Some((relay, address)) = dial.addresses.iter().find_map(relay_on_the_way) else {
            return Some(dial);
        };
        if swarm.is_connected(&relay) {
            return Some(dial);
        }
        match swarm.dial(DialOpts::peer_id(relay).addresses(vec![address]).build()) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {
                self.parked.push((Instant::now() + RELAY_WAIT, relay, dial));
                None
            }
            Err(_) => Some(dial),
        }
    }

    /// Dials that have waited for a relay which is connected now, or cannot be, or for too long.
    pub(super) fn unpark(&mut self, settled: Option<PeerId>) -> Vec<Dial> {
        let now = Instant::now();
        let ready = |(until, relay, _): &mut (Instant, PeerId, Dial)| {
            *until <= now || Some(*relay) == settled
        };
        self.parked.extract_if(.., ready).map(|(.., dial)| dial).collect()
    }

    /// Asks the relays again that have ended.
    pub(super) fn ask_again(&mut self, swarm: &mut Swarm<Behaviour>) {
        let now = Instant::now();
        let (due, later) = self.again.drain(..).partition(|(at, _)| *at <= now);
        self.again = later;
        let due: Vec<(Instant, Multiaddr)> = due;
        for (_, relay) in due {
            self.ask(swarm, relay);
        }
    }

    /// Looks for addresses of a peer that could not be reached; false: there is nobody to ask.
    pub(super) fn search(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId) -> bool {
        if self.searches.values().any(|searched| *searched == peer) {
            return true;
        }
        if swarm.connected_peers().next().is_none() {
            return false;
        }
        let query = swarm.behaviour_mut().ways.table.get_closest_peers(peer);
        self.searches.insert(query, peer);
        true
    }

    /// Follows what happens; returns a peer whose search has ended without a way to it.
    pub(super) fn follow(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        event: &SwarmEvent<super::quic::BehaviourEvent>,
    ) -> Option<PeerId> {
        use super::quic::BehaviourEvent;
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                if endpoint.is_relayed() {
                    self.relayed.entry(*peer_id).or_default().push(*connection_id);
                } else {
                    // The streams on them end, and begin again on the path of their own.
                    for relayed in self.relayed.remove(peer_id).unwrap_or_default() {
                        swarm.close_connection(relayed);
                    }
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                if let Some(relayed) = self.relayed.get_mut(peer_id) {
                    relayed.retain(|known| known != connection_id);
                    if relayed.is_empty() {
                        self.relayed.remove(peer_id);
                    }
                }
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(relay) = self.listeners.remove(listener_id) {
                    tracing::info!(%relay, ?reason, "the relay has ended; it is asked again");
                    self.again.push((Instant::now() + RELAY_PAUSE, relay));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ways(event)) => {
                return self.hear(swarm, event);
            }
            _ => {}
        }
        None
    }

    fn hear(&mut self, swarm: &mut Swarm<Behaviour>, event: &WaysEvent) -> Option<PeerId> {
        match event {
            WaysEvent::Identify(identify::Event::Received { peer_id, info, .. })
                if info.protocols.contains(&TABLE) =>
            {
                let table = &mut swarm.behaviour_mut().ways.table;
                for address in info.listen_addrs.iter().take(ADDRESSES_PER_PEER) {
                    table.add_address(peer_id, address.clone());
                }
            }
            WaysEvent::Relayed(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                renewal,
                ..
            }) if !renewal => tracing::info!(relay = %relay_peer_id, "reached through a relay"),
            WaysEvent::Upgrade(dcutr::Event { remote_peer_id, result }) => match result {
                Ok(_) => tracing::info!(peer = %remote_peer_id, "a path of our own"),
                Err(error) => tracing::info!(peer = %remote_peer_id, %error, "only by the relay"),
            },
            WaysEvent::Reachable(autonat::v2::client::Event { tested_addr, result, .. }) => {
                match result {
                    Ok(()) => tracing::info!(address = %tested_addr, "others reach this node here"),
                    Err(error) => {
                        tracing::info!(address = %tested_addr, %error, "nobody reaches it here");
                    }
                }
            }
            WaysEvent::Table(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                return self.found(swarm, *id, result, step.last);
            }
            _ => {}
        }
        None
    }

    fn found(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        query: QueryId,
        result: &kad::QueryResult,
        last: bool,
    ) -> Option<PeerId> {
        let peer = *self.searches.get(&query)?;
        let peers = match result {
            kad::QueryResult::GetClosestPeers(Ok(found)) => &found.peers,
            kad::QueryResult::GetClosestPeers(Err(kad::GetClosestPeersError::Timeout {
                peers,
                ..
            })) => peers,
            _ => return None,
        };
        let addresses: Vec<Multiaddr> = peers
            .iter()
            .filter(|found| found.peer_id == peer)
            .flat_map(|found| found.addrs.iter().take(ADDRESSES_PER_PEER).cloned())
            .collect();
        if !last && addresses.is_empty() {
            return None;
        }
        self.searches.remove(&query);
        let options = DialOpts::peer_id(peer)
            .addresses(addresses.clone())
            .condition(PeerCondition::DisconnectedAndNotDialing);
        if addresses.is_empty() || swarm.dial(options.build()).is_err() {
            return Some(peer);
        }
        None
    }
}
