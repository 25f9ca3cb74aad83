//! Links within one process, which can be cut.

use std::collections::{HashMap, HashSet};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Incoming, Lane, Link, Transport};
use crate::PublicKey;

/// Bytes that may be on the way in one direction of a link.
const ON_THE_WAY: usize = 256 * 1024;

/// All simulated nodes of a test, and which of them can reach each other.
#[derive(Clone, Default)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<PublicKey, mpsc::Sender<Incoming>>,
    cut: HashSet<(PublicKey, PublicKey)>,
    links: HashMap<(PublicKey, PublicKey), Vec<CancellationToken>>,
}

fn pair(a: PublicKey, b: PublicKey) -> (PublicKey, PublicKey) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Network {
    /// Puts a node into the network, in place of one with the same key.
    pub fn join(&self, key: PublicKey, incoming: mpsc::Sender<Incoming>) -> Endpoint {
        self.leave(&key);
        self.state.lock().nodes.insert(key, incoming);
        Endpoint { network: self.clone(), key }
    }

    /// A node beside the one with the same key, which others do not reach.
    pub fn join_beside(&self, key: PublicKey) -> Endpoint {
        Endpoint { network: self.clone(), key }
    }

    /// Takes a node out, and all its links down.
    pub fn leave(&self, key: &PublicKey) {
        let mut state = self.state.lock();
        state.nodes.remove(key);
        for (ends, links) in &mut state.links {
            if ends.0 == *key || ends.1 == *key {
                links.drain(..).for_each(|link| link.cancel());
            }
        }
    }

    /// Cuts or restores what connects two nodes.
    pub fn set_cut(&self, a: PublicKey, b: PublicKey, cut: bool) {
        let mut state = self.state.lock();
        let ends = pair(a, b);
        if cut {
            state.cut.insert(ends);
            self::down(&mut state, ends);
        } else {
            state.cut.remove(&ends);
        }
    }

    /// Takes the links between two nodes down; new ones can be opened at once.
    pub fn reset(&self, a: PublicKey, b: PublicKey) {
        down(&mut self.state.lock(), pair(a, b));
    }
}

fn down(state: &mut State, ends: (PublicKey, PublicKey)) {
    if let Some(links) = state.links.get_mut(&ends) {
        links.drain(..).for_each(|link| link.cancel());
    }
}

/// One node's place in the network.
pub struct Endpoint {
    network: Network,
    key: PublicKey,
}

impl Transport for Endpoint {
    fn open(
        &self,
        peer: PublicKey,
        _addresses: Vec<String>,
        lane: Lane,
    ) -> BoxFuture<'_, io::Result<Box<dyn Link>>> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let mut state = self.network.state.lock();
            let ends = pair(self.key, peer);
            if state.cut.contains(&ends) || !state.nodes.contains_key(&self.key) {
                return Err(refused());
            }
            let Some(node) = state.nodes.get(&peer).cloned() else { return Err(refused()) };
            let (near, far) = tokio::io::duplex(ON_THE_WAY);
            let cut = CancellationToken::new();
            let link = Box::new(Cuttable::new(far, &cut));
            node.try_send(Incoming { peer: self.key, lane, link }).map_err(|_| refused())?;
            let links = state.links.entry(ends).or_default();
            links.retain(|link| !link.is_cancelled());
            links.push(cut.clone());
            Ok(Box::new(Cuttable::new(near, &cut)) as Box<dyn Link>)
        })
    }
}

/// A link that fails once it is cut.
struct Cuttable {
    stream: DuplexStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    fn new(stream: DuplexStream, cut: &CancellationToken) -> Self {
        Self { stream, cut: Box::pin(cut.clone().cancelled_owned()) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
