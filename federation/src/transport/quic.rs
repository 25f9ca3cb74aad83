//! Links over QUIC, by libp2p.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, noise, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lanes::{Lanes, Opened};
use super::reach::{Paths, Reach, Ways};
use super::{Incoming, Lane, Link, Transport};
use crate::identity::Identity;
use crate::peer_id;
use crate::{FederationError, PublicKey};

/// Time for a connection to be made.
const DIAL: Duration = Duration::from_secs(10);
/// Time after which a connection without streams is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Dials that may wait for the swarm.
const COMMANDS: usize = 256;

/// How much other nodes may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that others opened.
    pub incoming: u32,
    /// Streams that one connection may have open.
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { incoming: 1_024, streams: 256 }
    }
}

/// Connections with one peer: both nodes may dial in the same moment.
const PER_PEER: u32 = 4;
/// Handshakes that others have begun.
const PENDING: u32 = 128;
/// Unread bytes of one stream.
const STREAM_BYTES: u32 = 2 << 20;
/// Unread bytes of one connection.
const CONNECTION_BYTES: u32 = 4 << 20;

/// Where a node listens, and how it is reached.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// UDP address and port.
    pub listen: SocketAddr,
    /// How much other nodes may take.
    pub limits: Limits,
    /// How it is reached besides.
    pub reach: Reach,
}

impl Endpoint {
    /// One with defaults.
    pub fn on(listen: SocketAddr) -> Self {
        Self { listen, limits: Limits::default(), reach: Reach::default() }
    }
}

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    lanes: Lanes,
    per_peer: connection_limits::Behaviour,
    /// Nodes to which this one has ever opened a link find room in any crowd.
    total: connection_limits::Behaviour,
    pub(super) ways: Ways,
}

/// A link to open, on a connection that may have to be made first.
pub(super) struct Dial {
    peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    lane: Lane,
    opened: Opened,
}

/// The QUIC endpoint of this node.
pub struct Quic {
    dials: mpsc::Sender<Dial>,
    addresses: Vec<String>,
}

impl Quic {
    /// Listens with the key of `identity`; links that others open go to `incoming`.
    ///
    /// The endpoint runs until `stop`.
    pub async fn start(
        identity: &Identity,
        endpoint: Endpoint,
        incoming: mpsc::Sender<Incoming>,
        stop: CancellationToken,
    ) -> Result<Self, FederationError> {
        let Endpoint { listen, limits, reach } = endpoint;
        let mut paths = Paths::new(&reach)?;
        let mut swarm = swarm(identity, limits, &reach, incoming)?;
        let address =
            Multiaddr::from(listen.ip()).with(Protocol::Udp(listen.port())).with(Protocol::QuicV1);
        let refused =
            |reason: String| FederationError::Address { address: listen.to_string(), reason };
        swarm.listen_on(address).map_err(|error| match error {
            // Says nothing of its own.
            TransportError::Other(error) => error.into(),
            error => refused(error.to_string()),
        })?;
        let first = tokio::time::timeout(DIAL, async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
                    SwarmEvent::ListenerClosed { reason: Err(error), .. }
                    | SwarmEvent::ListenerError { error, .. } => return Err(error),
                    _ => {}
                }
            }
        });
        let first = first.await.map_err(|_| FederationError::Timeout)??;
        let own: Vec<Multiaddr> = match reach.addresses.as_slice() {
            [] => vec![first.clone()],
            given => given.iter().filter_map(|address| address.parse().ok()).collect(),
        };
        paths.begin(&mut swarm, &own);
        let mut addresses: Vec<String> = own.iter().map(Multiaddr::to_string).collect();
        addresses.extend(paths.addresses());
        let (dials, waiting) = mpsc::channel(COMMANDS);
        tokio::spawn(run(swarm, paths, waiting, stop));
        Ok(Self { dials, addresses })
    }

    /// Where others reach it, as multiaddrs: also through relays.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

impl Transport for Quic {
    fn open(
        &self,
        peer: PublicKey,
        addresses: Vec<String>,
        lane: Lane,
    ) -> BoxFuture<'_, io::Result<Box<dyn Link>>> {
        Box::pin(async move {
            let peer = peer_id::to_libp2p(&peer).map_err(io::Error::other)?;
            let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
            let (opened, link) = oneshot::channel();
            let closed = || io::Error::other("the transport has stopped");
            let dial = Dial { peer, addresses, lane, opened };
            self.dials.send(dial).await.map_err(|_| closed())?;
            match tokio::time::timeout(DIAL, link).await {
                Ok(link) => link.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

fn swarm(
    identity: &Identity,
    limits: Limits,
    reach: &Reach,
    incoming: mpsc::Sender<Incoming>,
) -> Result<Swarm<Behaviour>, FederationError> {
    let keypair = Keypair::ed25519_from_bytes(identity.seed())
        .map_err(|error| FederationError::KeyFile(error.to_string()))?;
    let streams = limits.streams;
    let per_peer = ConnectionLimits::default().with_max_established_per_peer(Some(PER_PEER));
    let total = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING))
        .with_max_established_incoming(Some(limits.incoming));
    let built = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_quic_config(move |mut config| {
            config.max_concurrent_stream_limit = streams;
            config.max_stream_data = STREAM_BYTES;
            config.max_connection_data = CONNECTION_BYTES;
            config
        })
        .with_dns()
        .map_err(|error| FederationError::Protocol(error.to_string()))?
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .map_err(|error| FederationError::KeyFile(error.to_string()))?
        .with_behaviour(|keypair, relayed| Behaviour {
            lanes: Lanes::new(incoming),
            per_peer: connection_limits::Behaviour::new(per_peer),
            total: connection_limits::Behaviour::new(total),
            ways: Ways::new(keypair, relayed, reach),
        })
        .map_err(|error| FederationError::KeyFile(error.to_string()))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE));
    Ok(built.build())
}

/// Drives the connections.
async fn run(
    swarm: Swarm<Behaviour>,
    mut paths: Paths,
    mut dials: mpsc::Receiver<Dial>,
    stop: CancellationToken,
) {
    let mut dialler = Dialler { swarm, waiting: HashMap::new() };
    loop {
        let due = paths.next();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                paths.ask_again(&mut dialler.swarm);
                for dial in paths.unpark(None) {
                    dialler.dial(&mut paths, dial);
                }
            }
            Some(dial) = dials.recv() => {
                if let Some(dial) = paths.park(&mut dialler.swarm, dial) {
                    dialler.dial(&mut paths, dial);
                }
            }
            event = dialler.swarm.select_next_some() => dialler.follow(&mut paths, event),
        }
    }
}

/// The connections, and who waits for them.
struct Dialler {
    swarm: Swarm<Behaviour>,
    waiting: HashMap<PeerId, Waiting>,
}

/// Those who wait for a connection with one peer.
#[derive(Default)]
struct Waiting {
    links: Vec<(Lane, Opened)>,
    /// Where it is looked for.
    addresses: Vec<Multiaddr>,
    /// Whether other nodes were asked for its addresses.
    searched: bool,
}

impl Dialler {
    fn dial(&mut self, paths: &mut Paths, Dial { peer, addresses, lane, opened }: Dial) {
        self.swarm.behaviour_mut().total.bypass_peer_id(&peer);
        if self.swarm.is_connected(&peer) {
            self.swarm.behaviour_mut().lanes.open(peer, lane, opened);
            return;
        }
        let waiting = self.waiting.entry(peer).or_default();
        waiting.links.retain(|(_, opened)| !opened.is_closed());
        waiting.links.push((lane, opened));
        waiting.addresses.clone_from(&addresses);
        let options = DialOpts::peer_id(peer)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            .build();
        match self.swarm.dial(options) {
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => self.failed(paths, peer, &error),
        }
    }

    fn follow(&mut self, paths: &mut Paths, event: SwarmEvent<BehaviourEvent>) {
        if let Some(peer) = paths.follow(&mut self.swarm, &event) {
            self.settle(&peer, Some("nobody knows where it is"));
        }
        let (peer, error) = match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => (peer_id, None),
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                (peer, Some(error))
            }
            _ => return,
        };
        for dial in paths.unpark(Some(peer)) {
            self.dial(paths, dial);
        }
        match error {
            None => self.settle(&peer, None),
            Some(error) => self.failed(paths, peer, &error),
        }
    }

    /// A dial has failed: tries what is left, or gives up.
    fn failed(&mut self, paths: &mut Paths, peer: PeerId, error: &DialError) {
        let Some(waiting) = self.waiting.get_mut(&peer) else { return };
        // The first address that answers decides, and this one is somebody else's: a private address
        // leads to another machine in each network.
        if let DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } = error {
            let before = waiting.addresses.len();
            waiting.addresses.retain(|known| !is_same_place(known, address));
            if waiting.addresses.len() < before && !waiting.addresses.is_empty() {
                let options = DialOpts::peer_id(peer).addresses(waiting.addresses.clone()).build();
                if self.swarm.dial(options).is_ok() {
                    return;
                }
            }
        }
        // Once: what is found may not help either.
        let searched = std::mem::replace(&mut waiting.searched, true);
        if searched || !paths.search(&mut self.swarm, peer) {
            self.settle(&peer, Some(&error.to_string()));
        }
    }

    /// Opens the links that wait for a connection, or says why there is none.
    fn settle(&mut self, peer: &PeerId, failure: Option<&str>) {
        for (lane, opened) in self.waiting.remove(peer).unwrap_or_default().links {
            match failure {
                None => self.swarm.behaviour_mut().lanes.open(*peer, lane, opened),
                Some(reason) => {
                    let reason = reason.to_owned();
                    let _ = opened.send(Err(io::Error::new(io::ErrorKind::NotConnected, reason)));
                }
            }
        }
    }
}

/// Whether two addresses differ at most in a peer ID at the end.
fn is_same_place(one: &Multiaddr, other: &Multiaddr) -> bool {
    let place = |address: &Multiaddr| {
        let mut place = address.clone();
        if matches!(place.iter().last(), Some(Protocol::P2p(_))) {
            place.pop();
        }
        place
    };
    place(one) == place(other)
}
