//! Accepting connections: limits, deadlines, TLS, graceful end.

mod body;
mod watch;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client_address::Proxies;
use crate::guesses::Guesses;
use crate::refusal::cut;
use crate::tls::Tls;
pub use body::RequestBody;
use body::{Unread, watched};
use watch::{Room, Watch, Watched};

/// How long a peer may take for TLS, for the head of a request, and before its first one.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Largest head of a request. The operation ID in it grows with the pushes that an SDK handles
/// together; its own queue holds a thousand, each of which names 64 bytes.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// What one port accepts.
#[derive(Clone)]
pub struct Listen {
    /// TLS, if the port speaks it.
    pub tls: Option<Tls>,
    /// Connections at the same time; more wait in the backlog.
    pub max_connections: usize,
    /// How long a connection may stay idle between requests, while there is room for others.
    pub idle: Duration,
    /// Proxies that are believed who their clients are.
    pub proxies: Proxies,
    /// What is known of wrong secrets and tokens; ports that share it, count them together.
    pub guesses: Guesses,
    /// Ends accepting, and open connections once they are idle.
    pub stop: CancellationToken,
}

/// Serves HTTP/1.1 on `listener` until `listen.stop`; returns when the last connection has ended.
pub async fn serve<S>(listener: TcpListener, listen: Listen, service: S)
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let free = Arc::new(Semaphore::new(listen.max_connections));
    let room = Room { free: Arc::clone(&free), most: listen.max_connections };
    let connections = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = listen.stop.cancelled() => break,
            permit = Arc::clone(&free).acquire_owned() => permit,
        };
        let accepted = tokio::select! {
            () = listen.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let (listen, service) = (listen.clone(), service.clone());
        let watch = Watch::new(listen.idle, room.clone(), listen.stop.clone());
        let (proxies, over_tls) = (listen.proxies.clone(), listen.tls.is_some());
        let guesses = listen.guesses.clone();
        let watching = Arc::clone(&watch);
        let answering = service_fn(move |mut request: Request<Incoming>| {
            proxies.note(&mut request, peer, over_tls);
            request.extensions_mut().insert(guesses.clone());
            answer(&service, request, Arc::clone(&watching))
        });
        connections.spawn(async move {
            let _permit = permit;
            match &listen.tls {
                None => one(socket, answering, &watch, &listen.stop).await,
                Some(tls) => {
                    let handshake =
                        tokio::time::timeout(HANDSHAKE_DEADLINE, tls.acceptor().accept(socket));
                    let Some(handshake) = listen.stop.run_until_cancelled(handshake).await else {
                        return;
                    };
                    match handshake {
                        Ok(Ok(stream)) => one(stream, answering, &watch, &listen.stop).await,
                        // Who only looks whether the port is open hangs up at once.
                        Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => {}
                        Ok(Err(error)) => no_tls(peer, &error.to_string()),
                        Err(_) => no_tls(peer, "it took too long"),
                    }
                }
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

fn no_tls(peer: SocketAddr, reason: &str) {
    let address = peer.ip().to_canonical().to_string();
    let operation = "TLS handshake";
    tracing::warn!(target: "refused", kind = "refused handshake", address, operation, reason = cut(reason));
}

/// Answers one request; what the service did not read of its body is read here, or never.
fn answer<S>(
    service: &S,
    request: Request<Incoming>,
    watch: Arc<Watch>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    watch.busy();
    // Such a client sends its body only if somebody reads it.
    let wanted = !request.headers().contains_key(header::EXPECT);
    let unread = Unread::default();
    let answer = service.call(request.map(|incoming| unread.of(incoming)));
    async move {
        let mut answer = answer.await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        if !unread.is_read(wanted).await {
            watch.leaves_unread();
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(watched(answer, watch))
    }
}

async fn one<I, S>(io: I, service: S, watch: &Arc<Watch>, stop: &CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send,
{
    let connection = http1::Builder::new()
        // The watch sees to it; hyper would count the time between requests.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(Watched::new(io, Arc::clone(watch))), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = async {
        tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let outcome = tokio::select! {
        outcome = served => outcome,
        () = watch.over() => return,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection failed");
    }
}
