//! Links as streams of connections, each of a protocol that names its lane.
//!
//! Any number may be opened at the same time, and one that the other side opens is handed over
//! even when many come at once.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::{Incoming, Lane, Link};
use crate::{PublicKey, peer_id};

/// Who waits for a link.
pub(super) type Opened = oneshot::Sender<io::Result<Box<dyn Link>>>;

/// A link to open.
pub(super) struct Open {
    lane: Lane,
    opened: Opened,
}

impl fmt::Debug for Open {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Open").field(&self.lane).finish()
    }
}

/// The links on all connections.
pub(super) struct Lanes {
    incoming: mpsc::Sender<Incoming>,
    /// Connections with each peer, the oldest first.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    opening: VecDeque<(PeerId, ConnectionId, Open)>,
}

impl Lanes {
    /// Links that others open go to `incoming`.
    pub(super) fn new(incoming: mpsc::Sender<Incoming>) -> Self {
        Self { incoming, connections: HashMap::new(), opening: VecDeque::new() }
    }

    /// Opens a link to a peer with which there is a connection, on the newest.
    pub(super) fn open(&mut self, peer: PeerId, lane: Lane, opened: Opened) {
        let newest = self.connections.get(&peer).and_then(|known| known.last());
        match newest {
            Some(connection) => self.opening.push_back((peer, *connection, Open { lane, opened })),
            None => {
                let _ = opened.send(Err(io::ErrorKind::NotConnected.into()));
            }
        }
    }

    fn on_connection(&self, peer: PeerId) -> OnConnection {
        OnConnection {
            peer: peer_id::from_libp2p(&peer),
            incoming: self.incoming.clone(),
            opening: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = OnConnection;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.on_connection(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.on_connection(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                ..
            }) => self.connections.entry(peer_id).or_default().push(connection_id),
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(known) = self.connections.get_mut(&peer_id) {
                    known.retain(|known| *known != connection_id);
                    if known.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // Whoever puts something here polls afterwards.
        let Some((peer_id, connection, event)) = self.opening.pop_front() else {
            return Poll::Pending;
        };
        let handler = NotifyHandler::One(connection);
        Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event })
    }
}

/// The links on one connection.
pub(super) struct OnConnection {
    /// `None`: its key is of another kind than nodes have.
    peer: Option<PublicKey>,
    incoming: mpsc::Sender<Incoming>,
    opening: VecDeque<Open>,
}

impl ConnectionHandler for OnConnection {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(Lane::ALL.to_vec()), ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Opened, Infallible>> {
        let Some(Open { lane, opened }) = self.opening.pop_front() else { return Poll::Pending };
        let protocol = SubstreamProtocol::new(Protocols(vec![lane]), opened);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opening.push_back(open);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Protocols, Protocols, (), Opened>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, lane),
                ..
            }) => {
                let Some(peer) = self.peer else { return };
                let link = Box::new(stream.compat());
                if self.incoming.try_send(Incoming { peer, lane, link }).is_err() {
                    tracing::debug!(?lane, "a link came while too many wait");
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: opened,
            }) => {
                let _ = opened.send(Ok(Box::new(stream.compat())));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: opened, error }) => {
                let error = match error {
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    StreamUpgradeError::NegotiationFailed => {
                        io::Error::new(io::ErrorKind::Unsupported, "it is no Entente node")
                    }
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = opened.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Lanes that a stream may be of.
pub(super) struct Protocols(Vec<Lane>);

impl UpgradeInfo for Protocols {
    type Info = Lane;
    type InfoIter = std::vec::IntoIter<Lane>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Stream, Lane);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, lane: Lane) -> Self::Future {
        ready(Ok((stream, lane)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Stream, Lane);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, lane: Lane) -> Self::Future {
        ready(Ok((stream, lane)))
    }
}

impl AsRef<str> for Lane {
    fn as_ref(&self) -> &str {
        self.protocol()
    }
}
