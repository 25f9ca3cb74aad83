//! The practical limit: a relay of the gateway's own stack with no rules and no store.
//!
//! It speaks the gateway's protocol: a message is acknowledged to its sender and pushed to its
//! receiver, if connected. Whoever asks is logged in, nothing is checked or kept.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use client_api::{Guesses, Listen, Proxies, RequestBody};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use proto::Message as _;
use proto::envelope::{self, Encoding};
use proto::msg::SendMsgResp;
use proto::sdkws::{MsgData, PullMsgs, PushMessages};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::openim::SEND;
use crate::{Result, Wire};

const PUSH: i32 = 2001;
/// Most bytes of an inflated frame.
const LIMIT: usize = 1 << 20;
/// Frames that may wait for a connection.
const QUEUE: usize = 1_024;
/// Frames written before the socket is flushed.
const WRITE_BATCH: usize = 64;

#[derive(Default)]
struct Relay {
    users: RwLock<HashMap<String, (Wire, mpsc::Sender<Bytes>)>>,
    sent: AtomicU64,
}

/// Serves on a free port of loopback, which it prints, until it is killed.
#[expect(clippy::print_stdout, reason = "its caller reads the address")]
pub(crate) async fn serve() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let relay = Arc::new(Relay::default());
    let listen = Listen {
        tls: None,
        max_connections: 200_000,
        idle: Duration::from_secs(10),
        proxies: Proxies::default(),
        guesses: Guesses::default(),
        stop: CancellationToken::new(),
    };
    let service = service_fn(move |request| {
        let relay = Arc::clone(&relay);
        async move { Ok::<_, Infallible>(relay.answer(request)) }
    });
    client_api::serve(listener, listen, service).await;
    Ok(())
}

impl Relay {
    fn answer(self: Arc<Self>, mut request: Request<RequestBody>) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        };
        let accept = derive_accept_key(key.as_bytes());
        let query: HashMap<&str, &str> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let user_id = query.get("sendID").copied().unwrap_or_default().to_owned();
        let wire = Wire {
            encoding: match query.get("sdkType") {
                Some(&"js") => Encoding::Json,
                _ => Encoding::Gob,
            },
            gzip: query.get("compression") == Some(&"gzip"),
        };
        let (queue, outgoing) = mpsc::channel(QUEUE);
        self.users.write().insert(user_id, (wire, queue));
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let config =
                WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(4 * 1024);
            if let Ok(upgraded) = upgrade.await {
                let stream = TokioIo::new(upgraded);
                let socket =
                    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
                // The client sees that the connection ends; there is nobody else to tell.
                let _ = self.relay(socket, wire, outgoing).await;
            }
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = header::HeaderValue::from_str(&accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }

    async fn relay<S>(
        &self,
        mut socket: WebSocketStream<S>,
        wire: Wire,
        mut outgoing: mpsc::Receiver<Bytes>,
    ) -> Result
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = outgoing.recv_many(&mut batch, WRITE_BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for frame in batch.drain(..) {
                        socket.feed(Message::binary(frame)).await?;
                    }
                    socket.flush().await?;
                }
                frame = socket.next() => {
                    if let Message::Binary(frame) = frame.context("closed")?? {
                        let answer = self.pass_on(&frame, wire)?;
                        socket.send(Message::binary(answer)).await?;
                    }
                }
            }
        }
    }

    /// Pushes the message in a frame to its receiver; returns the answer to its sender.
    fn pass_on(&self, frame: &[u8], wire: Wire) -> Result<Bytes> {
        let request = envelope::decode_request(frame, wire.encoding, wire.gzip, LIMIT)?;
        anyhow::ensure!(request.req_identifier == SEND, "only messages are relayed");
        let mut message = MsgData::decode(request.data)?;
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        message.server_msg_id = format!("{number:032x}");
        let answer = SendMsgResp {
            server_msg_id: message.server_msg_id.clone(),
            client_msg_id: message.client_msg_id.clone(),
            ..SendMsgResp::default()
        };
        let receiver = self.users.read().get(&message.recv_id).cloned();
        if let Some((wire, queue)) = receiver {
            let conversation = format!("si_{}_{}", message.send_id, message.recv_id);
            let page = PullMsgs { msgs: vec![message], ..PullMsgs::default() };
            let push =
                PushMessages { msgs: [(conversation, page)].into(), ..PushMessages::default() };
            let push = envelope::Response {
                req_identifier: PUSH,
                operation_id: request.operation_id.clone(),
                data: Some(push.encode_to_vec().into()),
                ..envelope::Response::default()
            };
            // Nothing is kept for a receiver that cannot keep up: the run counts it as lost.
            let _ = queue.try_send(envelope::encode_response(&push, wire.encoding, wire.gzip));
        }
        let answer = envelope::Response {
            req_identifier: SEND,
            msg_incr: request.msg_incr,
            operation_id: request.operation_id,
            data: Some(answer.encode_to_vec().into()),
            ..envelope::Response::default()
        };
        Ok(envelope::encode_response(&answer, wire.encoding, wire.gzip))
    }
}
