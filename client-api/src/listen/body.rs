//! The bodies of requests and answers, as the connection wants them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Response;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};

use super::watch::Watch;

/// What is read of a refused request before its answer, so that the connection can be kept.
const UNREAD_BYTES: usize = 256 * 1024;
/// How long that may take.
const UNREAD_DEADLINE: Duration = Duration::from_secs(1);

/// The body of a request. If it is dropped before its end, the connection reads on.
pub struct RequestBody {
    incoming: Option<Incoming>,
    unread: Unread,
}

/// Where the rest of a body goes that nobody wants.
#[derive(Clone, Default)]
pub(super) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    /// A body whose rest comes here.
    pub(super) fn of(&self, incoming: Incoming) -> RequestBody {
        RequestBody { incoming: Some(incoming), unread: self.clone() }
    }

    /// Whether nothing of the body is left, or so little that it was read now. `wanted`: the client
    /// does not wait to be told that the body is wanted.
    pub(super) async fn is_read(&self, wanted: bool) -> bool {
        let rest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut rest) = rest else { return true };
        let read = async {
            let mut room = UNREAD_BYTES;
            loop {
                match std::future::poll_fn(|context| Pin::new(&mut rest).poll_frame(context)).await
                {
                    None => return true,
                    Some(Err(_)) => return false,
                    Some(Ok(frame)) => {
                        let bytes = frame.data_ref().map_or(0, Bytes::len);
                        let Some(left) = room.checked_sub(bytes) else { return false };
                        room = left;
                    }
                }
            }
        };
        wanted && tokio::time::timeout(UNREAD_DEADLINE, read).await.unwrap_or(false)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = self.incoming.as_mut() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.incoming = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take().filter(|body| !body.is_end_stream()) {
            *self.unread.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(incoming);
        }
    }
}

/// The body of an answer; tells the watch when all of it is handed over.
struct AnswerBody {
    body: Body,
    watch: Arc<Watch>,
}

/// The same answer, watched.
pub(super) fn watched(answer: Response<Body>, watch: Arc<Watch>) -> Response<Body> {
    answer.map(|body| Body::new(AnswerBody { body, watch }))
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.watch.answered();
    }
}
