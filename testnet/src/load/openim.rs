//! One client of the OpenIM gateway, made for load: nothing is decoded that is not looked at.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use proto::Message as _;
use proto::envelope::{self, Request, Response};
use proto::sdkws::{MsgData, OfflinePushInfo};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::marker::Marker;
use super::peer::{Event, Session, To};
use super::text::Texts;
use crate::{Result, Wire};

/// Most bytes of an inflated frame.
const LIMIT: usize = 16 << 20;
/// Platform of every client: Android, so that the client has to keep the connection alive.
pub(crate) const PLATFORM: i32 = 2;

pub(crate) const SEND: i32 = 1003;
const PUSH: i32 = 2001;
const KICK: i32 = 2002;
pub(crate) const NEWEST_SEQ: i32 = 1001;
pub(crate) const PULL: i32 = 1002;
const SINGLE: i32 = 1;
const GROUP: i32 = 3;

/// Who logs in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user_id: String,
    pub(crate) token: String,
}

/// A logged-in connection.
pub(crate) struct Client {
    socket: WebSocketStream<TcpStream>,
    wire: Wire,
    user_id: String,
    asked: u64,
    events: VecDeque<Event>,
    answers: VecDeque<Response>,
}

/// `PushMessages` without what nobody looks at.
#[derive(Clone, PartialEq, prost::Message)]
struct Pushed {
    #[prost(message, repeated, tag = "1")]
    chats: Vec<PushedChat>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PushedChat {
    #[prost(message, optional, tag = "2")]
    page: Option<PushedPage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PushedPage {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<PushedMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PushedMessage {
    #[prost(string, tag = "4")]
    client_msg_id: String,
    #[prost(int64, tag = "14")]
    seq: i64,
}

/// `SendMsgResp` without what nobody looks at.
#[derive(Clone, PartialEq, prost::Message)]
struct Sent {
    #[prost(string, tag = "2")]
    client_msg_id: String,
}

impl Client {
    /// Logs in as the native SDK does; from the address `source`, if given.
    pub(crate) async fn connect(
        gateway: SocketAddr,
        login: &Login,
        wire: Wire,
        source: Option<Ipv4Addr>,
    ) -> Result<Self> {
        Self::connect_with(gateway, login, wire, source, None).await
    }

    /// As [`connect`](Self::connect), with so many bytes of the system's to receive into.
    pub(crate) async fn connect_with(
        gateway: SocketAddr,
        login: &Login,
        wire: Wire,
        source: Option<Ipv4Addr>,
        receive_buffer: Option<u32>,
    ) -> Result<Self> {
        let tcp = TcpSocket::new_v4()?;
        if let Some(bytes) = receive_buffer {
            tcp.set_recv_buffer_size(bytes)?;
        }
        if let Some(source) = source {
            tcp.bind((source, 0).into())?;
        }
        let stream = tcp.connect(gateway).await?;
        stream.set_nodelay(true)?;
        let Login { user_id, token } = login;
        let json = wire.encoding == envelope::Encoding::Json;
        let url = format!(
            "ws://{gateway}/?sendID={user_id}&token={token}&platformID={PLATFORM}\
             &operationID=login-{user_id}&isBackground=false&compression={}&sdkType={}",
            if wire.gzip { "gzip" } else { "" },
            if json { "js" } else { "go" },
        );
        let config =
            WebSocketConfig::default().read_buffer_size(4 * 1024).write_buffer_size(4 * 1024);
        let (socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(config))
            .await
            .with_context(|| format!("log in {user_id}"))?;
        Ok(Self {
            socket,
            wire,
            user_id: user_id.clone(),
            asked: 0,
            events: VecDeque::new(),
            answers: VecDeque::new(),
        })
    }

    /// Writes a request; returns what its answer will carry.
    pub(crate) async fn ask(&mut self, opcode: i32, data: Bytes) -> Result<String> {
        self.asked += 1;
        let (msg_incr, frame) = request(self.wire, &self.user_id, self.asked, opcode, data);
        self.socket.feed(frame).await?;
        Ok(msg_incr)
    }

    /// Sends a request and waits for its answer, which must be a success.
    pub(crate) async fn call<T: proto::Message + Default>(
        &mut self,
        opcode: i32,
        request: &impl proto::Message,
    ) -> Result<T> {
        let asked = self.ask(opcode, request.encode_to_vec().into()).await?;
        self.socket.flush().await?;
        let answer = loop {
            match self.answers.pop_front() {
                Some(answer) if answer.msg_incr == asked => break answer,
                Some(_) => {}
                None => self.read().await?,
            }
        };
        let Response { err_code, err_msg, data, .. } = answer;
        ensure!(err_code == 0, "{opcode} for {}: {err_code} {err_msg}", self.user_id);
        Ok(T::decode(data.unwrap_or_default())?)
    }

    /// Sends the heartbeat of the native SDK.
    pub(crate) async fn ping(&mut self) -> Result {
        Ok(self.socket.send(Message::Ping(Bytes::from_static(b"heartbeat"))).await?)
    }

    /// Reads one frame.
    async fn read(&mut self) -> Result {
        let frame = self.socket.next().await;
        let frame = frame.with_context(|| format!("{} was disconnected", self.user_id))??;
        self.take(frame)
    }

    fn take(&mut self, frame: Message) -> Result {
        let frame = match frame {
            Message::Binary(frame) => frame,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            other => bail!("{} got an unexpected frame: {other:?}", self.user_id),
        };
        let response =
            envelope::decode_response(&frame, self.wire.encoding, self.wire.gzip, LIMIT)?;
        match response.req_identifier {
            SEND if response.err_code != 0 => {
                let Response { err_code, err_msg, .. } = response;
                self.events.push_back(Event::Refused(format!("{err_code} {err_msg}")));
            }
            SEND => {
                let sent = Sent::decode(response.data.clone().unwrap_or_default())?;
                match Marker::from_id(&sent.client_msg_id) {
                    Some(marker) => self.events.push_back(Event::Acknowledged(marker)),
                    None => self.answers.push_back(response),
                }
            }
            PUSH => {
                let chats = Pushed::decode(response.data.unwrap_or_default())?.chats.into_iter();
                for message in chats.filter_map(|chat| chat.page).flat_map(|page| page.messages) {
                    if let Some(marker) = Marker::from_id(&message.client_msg_id) {
                        self.events.push_back(Event::Message { marker, seq: message.seq });
                    }
                }
            }
            KICK => bail!("{} was kicked", self.user_id),
            _ => self.answers.push_back(response),
        }
        Ok(())
    }
}

impl Session for Client {
    async fn feed(&mut self, to: &To, marker: Marker, content: &str) -> Result {
        let message = message(&self.user_id, to, marker, content);
        self.ask(SEND, message.encode_to_vec().into()).await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result {
        Ok(self.socket.flush().await?)
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.read().await?;
        }
    }

    fn ready(&mut self) -> Option<Result<Event>> {
        self.next().now_or_never()
    }
}

/// What the flooding clients tell.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) written: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// Connections that the node has ended.
    pub(crate) ended: AtomicU64,
}

/// A client that writes and reads side by side, as fast as it can.
pub(crate) struct Flooder {
    client: Client,
    to: To,
    texts: Texts,
    content: usize,
}

impl Flooder {
    /// Writes to the user `to`, contents of so many bytes.
    pub(crate) fn new(client: Client, to: String, content: usize) -> Self {
        Self { client, to: To::User(to), texts: Texts::new(4), content }
    }

    /// Writes whenever what all have written is less than is due; ends when the connection ends.
    pub(crate) async fn work(
        &mut self,
        told: &Told,
        pause: Duration,
        due: impl Fn(u64) -> bool,
    ) -> Result {
        let Client { socket, wire, user_id, .. } = &mut self.client;
        let (mut sink, mut stream) = socket.split();
        let write = async {
            for number in 0.. {
                while !due(told.written.load(Ordering::Relaxed)) {
                    tokio::time::sleep(pause).await;
                }
                let marker = Marker { sender: u32::MAX >> 4, number, due: 0 };
                let message = message(user_id, &self.to, marker, &self.texts.content(self.content));
                // Of all who flood, no two messages may have one ID.
                let message = MsgData { client_msg_id: format!("{user_id}-{number}"), ..message };
                let data = message.encode_to_vec().into();
                let (_, frame) = request(*wire, user_id, number.into(), SEND, data);
                told.written.fetch_add(1, Ordering::Relaxed);
                sink.send(frame).await?;
            }
            Ok(())
        };
        let read = async {
            while let Some(frame) = stream.next().await {
                let Message::Binary(frame) = frame? else { continue };
                let response = envelope::decode_response(&frame, wire.encoding, wire.gzip, LIMIT)?;
                if response.req_identifier == SEND {
                    let ok = response.err_code == 0;
                    let counter = if ok { &told.acknowledged } else { &told.refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
            bail!("disconnected")
        };
        tokio::select! {
            ended = write => ended,
            ended = read => ended,
        }
    }
}

/// A request's msgIncr and its frame.
fn request(wire: Wire, user_id: &str, asked: u64, opcode: i32, data: Bytes) -> (String, Message) {
    let request = Request {
        req_identifier: opcode,
        send_id: user_id.to_owned(),
        operation_id: format!("op{asked:017}"),
        msg_incr: format!("{user_id}_{asked:019}"),
        data,
        ..Request::default()
    };
    let frame = envelope::encode_request(&request, wire.encoding, wire.gzip);
    (request.msg_incr, Message::binary(frame))
}

/// A text as the native SDK sends it.
fn message(from: &str, to: &To, marker: Marker, content: &str) -> MsgData {
    let (recv_id, group_id, session_type) = match to {
        To::User(user_id) => (user_id.clone(), String::new(), SINGLE),
        To::Group(group_id) => (String::new(), group_id.clone(), GROUP),
    };
    MsgData {
        send_id: from.to_owned(),
        recv_id,
        group_id,
        client_msg_id: marker.to_id(),
        sender_platform_id: PLATFORM,
        sender_nickname: from.to_owned(),
        session_type,
        msg_from: 100,
        content_type: 101,
        content: content.as_bytes().to_vec().into(),
        create_time: 1_700_000_000_000,
        status: 1,
        offline_push_info: Some(OfflinePushInfo {
            title: "message".into(),
            ..OfflinePushInfo::default()
        }),
        ..MsgData::default()
    }
}

/// Address of a gateway given as `ws://HOST:PORT`.
pub(crate) async fn gateway_address(url: &str) -> Result<SocketAddr> {
    let rest = url.strip_prefix("ws://").context("the gateway must be ws://HOST:PORT")?;
    let host = rest.trim_end_matches('/');
    let found = tokio::net::lookup_host(host).await?.find(SocketAddr::is_ipv4);
    let address = found.with_context(|| format!("no IPv4 address for {host}"))?;
    ensure!(address.ip().is_loopback(), "load is for nodes on loopback, not for {host}");
    Ok(address)
}
