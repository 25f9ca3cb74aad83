//! Links to other nodes.
//!
//! Everything above this seam works the same over QUIC and over simulated links.

mod lanes;
mod quic;
mod reach;
pub mod simulated;

use std::io;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::PublicKey;

pub use quic::{Endpoint, Limits, Quic};
pub use reach::Reach;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Events of the node that opened it, and their acknowledgements.
    Events,
    /// One request and its answer.
    Control,
    /// One request for content and its bytes.
    Media,
}

impl Lane {
    pub(crate) const ALL: [Self; 3] = [Self::Events, Self::Control, Self::Media];

    /// Name of the protocol.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Events => "/entente/1/events",
            Self::Control => "/entente/1/control",
            Self::Media => "/entente/1/media",
        }
    }
}

/// Bytes in order, both ways.
pub trait Link: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Link for T {}

/// A link that another node opened.
pub struct Incoming {
    /// Key of that node, proven by the transport.
    pub peer: PublicKey,
    /// What it is for.
    pub lane: Lane,
    /// The link.
    pub link: Box<dyn Link>,
}

/// Opens links.
pub trait Transport: Send + Sync {
    /// Opens a link to the node with the key `peer`, and no other, at one of `addresses`.
    fn open(
        &self,
        peer: PublicKey,
        addresses: Vec<String>,
        lane: Lane,
    ) -> BoxFuture<'_, io::Result<Box<dyn Link>>>;
}
