//! Messages on a link: four bytes of length, big-endian, then the message.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::FederationError;
use crate::transport::Link;

/// Largest message on the events lane.
pub(crate) const MAX_EVENTS_FRAME: usize = 1 << 20;
/// Largest message on the control lane.
pub(crate) const MAX_CONTROL_FRAME: usize = 256 * 1024;

/// A link that carries messages.
pub(crate) type Frames = Framed<Box<dyn Link>, LengthDelimitedCodec>;

pub(crate) fn frames(link: Box<dyn Link>, max_bytes: usize) -> Frames {
    LengthDelimitedCodec::builder().max_frame_length(max_bytes).new_framed(link)
}

pub(crate) fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(crate) fn decode<M: Message + Default>(frame: Bytes) -> Result<M, FederationError> {
    M::decode(frame).map_err(|_| FederationError::Protocol("a frame does not decode".into()))
}

pub(crate) async fn send(
    frames: &mut Frames,
    message: &impl Message,
) -> Result<(), FederationError> {
    Ok(frames.send(encode(message)).await?)
}

/// The next message; an error if none comes within `patience`.
pub(crate) async fn receive<M: Message + Default>(
    frames: &mut Frames,
    patience: Duration,
) -> Result<M, FederationError> {
    let next = tokio::time::timeout(patience, frames.next());
    match next.await.map_err(|_| FederationError::Timeout)? {
        Some(frame) => decode(frame?.freeze()),
        None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    }
}
