//! The life of one connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::OperationId;
use proto::envelope::{self, Encoding, Request, Response};
use proto::sdkws::MsgData;
use services::hub::{Connection, Outgoing, Registered};
use services::message::MAX_PULLED_BYTES;
use services::{Caller, Services};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;

use super::Wire;
use super::handshake::Handshake;
use super::heartbeat::{self, Heartbeat};
use super::opcode::{self, id};
use super::pace::Pace;
use super::turns::{Turn, Turns};
use crate::error_code::ApiError;

/// A connection that says nothing for so long is dead.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Time between pings; clients that send nothing of their own live on them.
const PING_EVERY: Duration = Duration::from_secs(27);
/// A client that takes nothing for so long is dead.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Sends of one connection under way at the same time.
const MAX_SENDS: usize = 64;
/// Pause between the answer to a send and the push of the same message to the sender's JS SDK, which
/// only knows its own message again once it has seen the answer; frames that arrive together are
/// handled side by side there.
const AFTER_ANSWER: Duration = Duration::from_millis(10);
/// Frames written before the socket is flushed.
const WRITE_BATCH: usize = 64;
/// Longest frame that the native SDK reads. Its connection would end at a longer one, and again at
/// each attempt to fetch the same messages.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Bytes of messages in an answer that was too large with all of them, until it is not: packed they take
/// less, with what is around them more.
const PULL_TRIES: [usize; 3] = [3 << 19, 3 << 18, 0];
/// Most bytes of a frame once inflated.
const MAX_INFLATED_BYTES: usize = 1024 * 1024;

/// A send under way; ends with the answer to write if it was refused.
type Send = Pin<Box<dyn Future<Output = Option<Bytes>> + std::marker::Send>>;

/// A send that waits for its turn.
type Waiting = Pin<Box<dyn Future<Output = (Turn, Caller, Request)> + std::marker::Send>>;

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// Nothing more is said.
    Drop,
    /// A closing handshake is begun.
    Close(CloseCode),
}

pub(super) struct Session<S> {
    services: Services,
    caller: Caller,
    wire: Wire,
    wants_result: bool,
    connection: Arc<Connection>,
    closed: CancellationToken,
    socket: WebSocketStream<S>,
    sends: FuturesUnordered<Send>,
    turns: Arc<Turns>,
    /// While this waits nothing is read.
    waiting: Option<Waiting>,
    pace: Pace,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(
        services: Services,
        handshake: Handshake,
        registered: Registered,
        socket: WebSocketStream<S>,
        turns: Arc<Turns>,
    ) -> Self {
        let caller = Caller {
            user_id: handshake.user_id,
            platform_id: handshake.platform_id,
            operation_id: handshake.operation_id,
            is_admin: handshake.is_admin,
        };
        Self {
            services,
            caller,
            wire: handshake.wire,
            wants_result: handshake.wants_result,
            connection: registered.connection,
            closed: registered.closed,
            socket,
            sends: FuturesUnordered::new(),
            turns,
            waiting: None,
            pace: Pace::new(Instant::now()),
        }
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        tracing::debug!(
            user_id = self.caller.user_id,
            platform_id = self.caller.platform_id,
            operation_id = &*self.caller.operation_id,
            "connected"
        );
        let end = match self.greet().await {
            Ok(()) => self.serve(stop).await,
            Err(end) => end,
        };
        tracing::debug!(user_id = self.caller.user_id, ?end, "disconnected");
        if let End::Close(code) = end {
            let frame = CloseFrame { code, reason: "".into() };
            let close = async {
                let _ = self.socket.close(Some(frame)).await;
                while let Some(Ok(_)) = self.socket.next().await {}
            };
            let _ = tokio::time::timeout(Duration::from_secs(1), close).await;
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        if !self.wants_result {
            return Ok(());
        }
        let greeting = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;
        self.write([Message::text(greeting)]).await
    }

    async fn serve(&mut self, stop: &CancellationToken) -> End {
        let mut heard = Instant::now();
        let mut ping_at = heard + PING_EVERY;
        let timer = tokio::time::sleep_until(ping_at);
        let mut timer = std::pin::pin!(timer);
        loop {
            let outcome = tokio::select! {
                biased;
                () = self.closed.cancelled() => Err(End::Drop),
                () = stop.cancelled() => Err(self.finish().await),
                batch = self.connection.outgoing(WRITE_BATCH) => self.write_batch(batch).await,
                Some(refused) = self.sends.next(), if !self.sends.is_empty() => {
                    match refused {
                        Some(frame) => self.write([Message::binary(frame)]).await,
                        None => Ok(()),
                    }
                }
                (turn, caller, request) = comes(&mut self.waiting), if self.waiting.is_some() => {
                    self.waiting = None;
                    self.start_send(caller, request, Some(turn)).await
                }
                frame = self.socket.next(),
                    if self.waiting.is_none() && self.sends.len() < MAX_SENDS =>
                {
                    heard = Instant::now();
                    match frame {
                        Some(frame) => self.read(frame).await,
                        None => Err(End::Drop),
                    }
                }
                () = timer.as_mut() => {
                    let now = Instant::now();
                    if now >= heard + READ_DEADLINE && self.is_idle() {
                        Err(End::Drop)
                    } else if now >= ping_at {
                        ping_at = now + PING_EVERY;
                        self.write([Message::Ping(Bytes::new())]).await
                    } else {
                        Ok(())
                    }
                    .inspect(|()| {
                        let deadline = (heard + READ_DEADLINE).max(now + Duration::from_secs(1));
                        timer.as_mut().reset(ping_at.min(deadline));
                    })
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// No request of the client is under way.
    fn is_idle(&self) -> bool {
        self.sends.is_empty() && self.waiting.is_none()
    }

    /// Answers what is under way before the node stops.
    async fn finish(&mut self) -> End {
        let ended = async {
            while let Some(refused) = self.sends.next().await {
                if let Some(frame) = refused {
                    self.write([Message::binary(frame)]).await?;
                }
            }
            self.write_batch(self.connection.outgoing_now()).await
        };
        match tokio::time::timeout(WRITE_DEADLINE, ended).await {
            Ok(Ok(())) => End::Close(CloseCode::Away),
            _ => End::Drop,
        }
    }

    async fn read(&mut self, frame: Result<Message, tungstenite::Error>) -> Result<(), End> {
        match frame {
            Ok(Message::Binary(frame)) => self.request(frame).await,
            Ok(Message::Text(text)) => match heartbeat::read(&text) {
                Heartbeat::Reply(pong) => self.write([Message::text(pong)]).await,
                Heartbeat::Ignore => Ok(()),
                Heartbeat::Invalid => Err(End::Drop),
            },
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            // The answer to a close frame is written while the end of the stream is awaited.
            Ok(Message::Close(_)) => {
                let _ = tokio::time::timeout(WRITE_DEADLINE, self.socket.next()).await;
                Err(End::Drop)
            }
            Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                Err(End::Close(CloseCode::Size))
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read");
                Err(End::Drop)
            }
        }
    }

    async fn request(&mut self, frame: Bytes) -> Result<(), End> {
        let Wire { encoding, gzip } = self.wire;
        let request = envelope::decode_request(&frame, encoding, gzip, MAX_INFLATED_BYTES)
            .map_err(|error| {
                tracing::debug!(%error, user_id = self.caller.user_id, "cannot decode a frame");
                End::Drop
            })?;
        if request.send_id != self.caller.user_id
            || !opcode::OPCODES.contains(&request.req_identifier)
        {
            tracing::debug!(user_id = self.caller.user_id, "a frame breaks the protocol");
            return Err(End::Drop);
        }
        let caller =
            Caller { operation_id: OperationId::new(&request.operation_id), ..self.caller.clone() };
        if request.req_identifier == id::SEND_MESSAGE {
            let now = Instant::now();
            if !self.pace.hurries(now) {
                self.turns.calm(now);
                return self.start_send(caller, request, None).await;
            }
            return match self.turns.try_take(now) {
                Some(turn) => self.start_send(caller, request, Some(turn)).await,
                None => {
                    let turns = Arc::clone(&self.turns);
                    self.waiting =
                        Some(Box::pin(async move { (turns.take(now).await, caller, request) }));
                    Ok(())
                }
            };
        }
        // What was sent before counts for what is asked now.
        while let Some(refused) = self.sends.next().await {
            if let Some(frame) = refused {
                self.write([Message::binary(frame)]).await?;
            }
        }
        let logout = request.req_identifier == id::LOGOUT;
        let mut tries = PULL_TRIES.into_iter();
        let mut bytes = MAX_PULLED_BYTES;
        let frame = loop {
            // On the heap: a connection that asks nothing does not hold room for it.
            let run = opcode::run(&self.services, &self.connection, &caller, &request, bytes);
            let answer = Box::pin(run).await;
            let frame = answer_frame(self.wire, &request, answer);
            let fits = frame.len() <= MAX_ANSWER_BYTES || encoding != Encoding::Gob;
            if fits || !opcode::pulls(request.req_identifier) {
                break frame;
            }
            let Some(fewer) = tries.next() else { break frame };
            bytes = fewer;
        };
        self.write([Message::binary(frame)]).await?;
        if logout { Err(End::Drop) } else { Ok(()) }
    }

    /// Starts a send; several may wait for the disk together, in the order they came. The turn, if
    /// it took one, ends when it is answered, so that no more than the turns wait to be answered.
    async fn start_send(
        &mut self,
        caller: Caller,
        request: Request,
        turn: Option<Turn>,
    ) -> Result<(), End> {
        let message: MsgData = match opcode::decode(&request) {
            Ok(message) => message,
            Err(error) => {
                let frame = answer_frame(self.wire, &request, Err(error));
                return self.write([Message::binary(frame)]).await;
            }
        };
        let (services, connection) = (self.services.clone(), Arc::clone(&self.connection));
        let (wire, asked) = (self.wire, request.clone());
        let mut send: Send = Box::pin(async move {
            let reply = Box::new(move |response| {
                let frame = answer_frame(wire, &asked, Ok(opcode::encode(&response)));
                connection.enqueue(Outgoing::Frame(frame));
                drop(turn);
            });
            let sent = services.send_message(&caller, message, Some(reply)).await;
            sent.err().map(|error| answer_frame(wire, &request, Err(error.into())))
        });
        // The first poll puts it in its place of the queue.
        match futures_util::poll!(&mut send) {
            std::task::Poll::Ready(None) => Ok(()),
            std::task::Poll::Ready(Some(frame)) => self.write([Message::binary(frame)]).await,
            std::task::Poll::Pending => {
                self.sends.push(send);
                Ok(())
            }
        }
    }

    async fn write_batch(&mut self, mut batch: VecDeque<Outgoing>) -> Result<(), End> {
        let mut kicked = false;
        let wire = self.wire;
        if wire.encoding == envelope::Encoding::Json {
            self.write_answers(&mut batch).await?;
        }
        let frames = batch.into_iter().map(|outgoing| match outgoing {
            Outgoing::Push(push) => push.frame(kind(wire), |push| {
                let response = Response {
                    req_identifier: id::PUSH,
                    operation_id: push.operation_id.to_string(),
                    data: Some(push.data.clone()),
                    ..Response::default()
                };
                envelope::encode_response(&response, wire.encoding, wire.gzip)
            }),
            Outgoing::Status(tips) => push_frame(wire, id::ONLINE_STATUS, Some(tips)),
            Outgoing::Frame(frame) => frame,
            Outgoing::Kick => {
                kicked = true;
                push_frame(wire, id::KICK, None)
            }
        });
        let frames: Vec<Message> = frames.map(Message::binary).collect();
        self.write(frames).await?;
        if kicked { Err(End::Drop) } else { Ok(()) }
    }

    /// Writes the answers in a batch ahead of its pushes, for the JS SDK.
    async fn write_answers(&mut self, batch: &mut VecDeque<Outgoing>) -> Result<(), End> {
        let mut answers = Vec::new();
        batch.retain(|outgoing| match outgoing {
            Outgoing::Frame(frame) => {
                answers.push(Message::binary(frame.clone()));
                false
            }
            _ => true,
        });
        if answers.is_empty() {
            return Ok(());
        }
        self.write(answers).await?;
        tokio::time::sleep(AFTER_ANSWER).await;
        Ok(())
    }

    async fn write(&mut self, frames: impl IntoIterator<Item = Message>) -> Result<(), End> {
        let written = async {
            for frame in frames {
                self.socket.feed(frame).await?;
            }
            self.socket.flush().await
        };
        // Closed from elsewhere, most likely because its queue is full: it is not waited for.
        match self.closed.run_until_cancelled(tokio::time::timeout(WRITE_DEADLINE, written)).await {
            Some(Ok(Ok(()))) => Ok(()),
            _ => Err(End::Drop),
        }
    }
}

/// The turn that is waited for.
async fn comes(waiting: &mut Option<Waiting>) -> (Turn, Caller, Request) {
    match waiting {
        Some(waiting) => waiting.await,
        None => std::future::pending().await,
    }
}

/// Sends one text frame and lets the connection go.
pub(super) async fn say_last<S>(socket: &mut WebSocketStream<S>, text: String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = tokio::time::timeout(WRITE_DEADLINE, socket.send(Message::text(text))).await;
}

fn kind(wire: Wire) -> usize {
    usize::from(wire.encoding == envelope::Encoding::Json) * 2 + usize::from(wire.gzip)
}

fn push_frame(wire: Wire, req_identifier: i32, data: Option<Bytes>) -> Bytes {
    let response = Response { req_identifier, data, ..Response::default() };
    envelope::encode_response(&response, wire.encoding, wire.gzip)
}

fn answer_frame(wire: Wire, request: &Request, answer: opcode::Answer) -> Bytes {
    let mut response = Response {
        req_identifier: request.req_identifier,
        msg_incr: request.msg_incr.clone(),
        operation_id: request.operation_id.clone(),
        ..Response::default()
    };
    match answer {
        Ok(data) => response.data = data,
        Err(ApiError { code, name, detail, .. }) => {
            tracing::debug!(
                opcode = request.req_identifier,
                operation_id = &*OperationId::new(&request.operation_id),
                code,
                detail,
                "refused"
            );
            response.err_code = code;
            response.err_msg = name;
        }
    }
    envelope::encode_response(&response, wire.encoding, wire.gzip)
}
