//! The WebSocket gateway: one connection per device, requests in, answers and pushes out.

mod handshake;
mod heartbeat;
mod opcode;
mod pace;
mod session;
mod turns;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::service::Service;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use proto::envelope::Encoding;
use services::Services;
use services::hub::{QueueLimits, Registered};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error_code::ApiError;
use crate::guesses::judged;
use crate::listen::RequestBody;
use crate::refusal::refusal;
use handshake::{Failure, Handshake};
use session::Session;
use turns::Turns;

/// Bytes a connection keeps for what it reads, and as many for what it writes; larger frames grow
/// the buffers as they pass.
const BUFFER_BYTES: usize = 2 * 1024;

/// Numbers of the requests that clients may send.
pub fn opcodes() -> &'static [i32] {
    &opcode::OPCODES
}

/// What one gateway accepts.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections logged in at the same time.
    pub max_connections: usize,
    /// Largest frame of a client, in bytes as received.
    pub max_frame_bytes: usize,
    /// What may wait for clients before their connections are closed.
    pub queue: QueueLimits,
    /// Sends under way at the same time, of all clients together who send more than 50 a second.
    /// More are not read: those clients wait for each other, and the others not for them. While
    /// there are others, an eighth of it.
    pub max_sends: usize,
}

/// How a client wants its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wire {
    encoding: Encoding,
    gzip: bool,
}

/// The gateway; a hyper service for one port.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    services: Services,
    limits: Limits,
    stop: CancellationToken,
    sessions: TaskTracker,
    /// Turns to send, of those in a hurry.
    turns: Arc<Turns>,
}

/// What a client asks of the gateway that is not connected yet.
const HANDSHAKE: &str = "WebSocket handshake";

impl Gateway {
    /// A gateway that ends its connections when `stop` is cancelled.
    pub fn new(services: Services, limits: Limits, stop: CancellationToken) -> Self {
        let sessions = TaskTracker::new();
        let turns = Arc::new(Turns::new(limits.max_sends));
        Self { shared: Arc::new(Shared { services, limits, stop, sessions, turns }) }
    }

    /// Waits until every connection has ended; call it after `stop` was cancelled.
    pub async fn ended(&self) {
        self.shared.sessions.close();
        self.shared.sessions.wait().await;
    }

    async fn answer(self, mut request: Request<RequestBody>) -> Response<Body> {
        let (handshake, registered) = match self.admit(&request).await {
            Ok(admitted) => admitted,
            Err(Failure { error, after_upgrade }) => {
                // Tokens are told of where they are judged.
                if !error.is_of_token() {
                    let reason = format!("{} {}", error.name, error.detail);
                    refusal("refused handshake", request.extensions(), HANDSHAKE, reason.trim());
                }
                return match accept_key(&request) {
                    Some(key) if after_upgrade => {
                        let upgrade = hyper::upgrade::on(&mut request);
                        self.shared.sessions.spawn(self.clone().say_and_drop(upgrade, error));
                        switching_protocols(&key)
                    }
                    _ => refused(&error),
                };
            }
        };
        // Registered above, before the client can know that it is connected: nothing pushed from
        // now on is missed.
        let Some((key, registered)) = accept_key(&request).zip(registered) else {
            return text(StatusCode::BAD_REQUEST, "text/plain", "Bad Request\n".into());
        };
        let upgrade = hyper::upgrade::on(&mut request);
        self.shared.sessions.spawn(self.clone().run(upgrade, handshake, registered));
        switching_protocols(&key)
    }

    /// Checks a handshake and brings its user online; not online if it is no WebSocket handshake.
    async fn admit(
        &self,
        request: &Request<RequestBody>,
    ) -> Result<(Handshake, Option<Registered>), Failure> {
        let Shared { services, limits, .. } = &*self.shared;
        if services.hub().len() >= limits.max_connections {
            return Err(ApiError::too_many_connections().into());
        }
        let handshake = handshake::parse(request.uri().query().unwrap_or_default(), || {
            let header = request.headers().get("compression");
            header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        })?;
        let after_upgrade = handshake.wants_result;
        let refused = |error: ApiError| Failure { error, after_upgrade };
        let caller = services.check_login(
            &handshake.token,
            &handshake.user_id,
            handshake.platform_id,
            &handshake.operation_id,
        );
        let caller =
            judged(caller, services, &handshake.token, request.extensions(), HANDSHAKE).await;
        let caller = caller.map_err(refused)?;
        if accept_key(request).is_none() {
            return Ok((handshake, None));
        }
        let registered = services.connect(&caller, &handshake.token, limits.queue).await;
        let registered = registered.map_err(|error| refused(error.into()))?;
        Ok((handshake.with_caller(caller), Some(registered)))
    }

    async fn run(self, upgrade: OnUpgrade, handshake: Handshake, registered: Registered) {
        let connection = Arc::clone(&registered.connection);
        match upgrade.await {
            Ok(upgraded) => {
                let socket = self.websocket(TokioIo::new(upgraded)).await;
                let services = self.shared.services.clone();
                let turns = Arc::clone(&self.shared.turns);
                let session = Session::new(services, handshake, registered, socket, turns);
                session.run(&self.shared.stop).await;
            }
            Err(error) => tracing::debug!(%error, "upgrade failed"),
        }
        self.shared.services.disconnect(&connection);
    }

    /// Browsers cannot read the body of a failed upgrade: they get it as the first frame.
    async fn say_and_drop(self, upgrade: OnUpgrade, error: ApiError) {
        if let Ok(upgraded) = upgrade.await {
            let mut socket = self.websocket(TokioIo::new(upgraded)).await;
            session::say_last(&mut socket, error.to_json()).await;
        }
    }

    async fn websocket<S>(&self, stream: S) -> WebSocketStream<S>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let limit = self.shared.limits.max_frame_bytes;
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
    }
}

impl Service<Request<RequestBody>> for Gateway {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<RequestBody>) -> Self::Future {
        let gateway = self.clone();
        Box::pin(async move { Ok(gateway.answer(request).await) })
    }
}

/// The answer to the key of a WebSocket handshake; `None` if the request is none.
fn accept_key(request: &Request<RequestBody>) -> Option<String> {
    let has = |name: header::HeaderName, wanted: &str| {
        request.headers().get_all(name).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted))
        })
    };
    if request.method() != hyper::Method::GET
        || !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, "websocket")
        || !has(header::SEC_WEBSOCKET_VERSION, "13")
    {
        return None;
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY)?;
    Some(derive_accept_key(key.as_bytes()))
}

fn switching_protocols(key: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(key) = HeaderValue::from_str(key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    response
}

/// Status 200 on purpose: native clients read only the body, and at most 1 KiB of it.
fn refused(error: &ApiError) -> Response<Body> {
    text(StatusCode::OK, "application/json; charset=utf-8", error.to_json())
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
