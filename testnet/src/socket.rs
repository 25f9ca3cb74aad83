use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use proto::Message as _;
use proto::envelope::{self, Encoding, Request, Response};
use proto::msg::SendMsgResp;
use proto::sdkws::{
    MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp, PushMessages, SeqRange,
    SubUserOnlineStatusTips,
};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::Result;
use crate::node::unique;
use crate::rest::Client;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);
const LIMIT: usize = 8 << 20;

const PULL: i32 = 1002;
const SEND: i32 = 1003;
const PUSH: i32 = 2001;
const KICK: i32 = 2002;
const STATUS: i32 = 2005;

/// Messages pulled at once.
const PAGE: i64 = 500;

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// Encoding of the envelope.
    pub encoding: Encoding,
    /// Whether frames are compressed.
    pub gzip: bool,
}

impl Wire {
    /// As the JS SDK.
    pub const JSON: Self = Self { encoding: Encoding::Json, gzip: false };
    /// As the native and WASM SDKs.
    pub const GOB_GZIP: Self = Self { encoding: Encoding::Gob, gzip: true };
}

/// Something the node sent on its own account.
#[derive(Debug, Clone, PartialEq)]
pub enum Push {
    /// A message in a conversation.
    Message {
        /// ID of the conversation; starts with `n_` for notifications.
        conversation_id: String,
        /// The message.
        message: Box<MsgData>,
        /// Operation ID of what caused it.
        operation_id: String,
    },
    /// Online status of a watched user.
    Status(SubUserOnlineStatusTips),
    /// The login was ended.
    Kicked,
}

/// A logged-in connection.
pub struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    wire: Wire,
    user_id: String,
    pushes: VecDeque<Push>,
}

impl Socket {
    pub(crate) async fn connect(client: &Client, wire: Wire) -> Result<Self> {
        let url = format!(
            "{}/?sendID={}&token={}&platformID={}&operationID=connect-{}&isBackground=false\
             &isMsgResp=true&compression={}&sdkType={}",
            client.rest.ws(),
            client.user_id,
            client.token,
            client.platform_id,
            unique(),
            if wire.gzip { "gzip" } else { "" },
            if wire.encoding == Encoding::Json { "js" } else { "go" },
        );
        let (inner, _) = connect_async(url).await?;
        let mut socket =
            Self { inner, wire, user_id: client.user_id.clone(), pushes: VecDeque::new() };
        let Message::Text(first) = socket.next_raw().await? else {
            bail!("the first frame is no text");
        };
        let result: serde_json::Value = serde_json::from_str(&first)?;
        ensure!(result["errCode"] == 0, "log in: {first}");
        Ok(socket)
    }

    /// Sends a request without waiting for its answer; returns its msgIncr.
    pub async fn ask(&mut self, opcode: i32, data: impl Into<Bytes>) -> Result<String> {
        self.ask_as(&format!("op-{}", unique()), opcode, data).await
    }

    /// As [`ask`](Self::ask), under an operation ID of the caller's.
    pub async fn ask_as(
        &mut self,
        operation_id: &str,
        opcode: i32,
        data: impl Into<Bytes>,
    ) -> Result<String> {
        let request = Request {
            req_identifier: opcode,
            send_id: self.user_id.clone(),
            operation_id: operation_id.to_owned(),
            msg_incr: format!("incr-{}", unique()),
            data: data.into(),
            ..Request::default()
        };
        let frame = envelope::encode_request(&request, self.wire.encoding, self.wire.gzip);
        self.inner.send(Message::binary(frame)).await?;
        Ok(request.msg_incr)
    }

    /// Sends a request and waits for its answer; pushes that come meanwhile are kept.
    pub async fn exchange(&mut self, opcode: i32, data: impl Into<Bytes>) -> Result<Response> {
        let msg_incr = self.ask(opcode, data).await?;
        self.answer(&msg_incr).await
    }

    /// Waits for the answer to a request that was asked; pushes that come meanwhile are kept.
    pub async fn answer(&mut self, msg_incr: &str) -> Result<Response> {
        loop {
            let response = self.next_response().await?;
            if response.msg_incr == msg_incr {
                return Ok(response);
            }
            self.keep(response)?;
        }
    }

    /// As [`exchange`](Self::exchange), for a request that must succeed.
    pub async fn call<T: proto::Message + Default>(
        &mut self,
        opcode: i32,
        request: &impl proto::Message,
    ) -> Result<T> {
        let response = self.exchange(opcode, request.encode_to_vec()).await?;
        ensure!(response.err_code == 0, "{opcode}: {} {}", response.err_code, response.err_msg);
        Ok(T::decode(response.data.unwrap_or_default())?)
    }

    /// Sends a message and waits until it is acknowledged.
    pub async fn send(&mut self, message: &MsgData) -> Result<SendMsgResp> {
        self.call(SEND, message).await
    }

    /// Sends a text to a user and waits until it is acknowledged.
    pub async fn send_text(&mut self, to: &str, text: &str) -> Result<SendMsgResp> {
        let message = text_message(&self.user_id, to, text);
        self.send(&message).await
    }

    /// Every stored message of the chat with `other`, from seq 1 on.
    pub async fn history(&mut self, other: &str) -> Result<Vec<MsgData>> {
        let mut pair = [other, &self.user_id];
        pair.sort_unstable();
        let id = format!("si_{}_{}", pair[0], pair[1]);
        self.history_from(&id, 1).await
    }

    /// Every stored message of a conversation from a seq on.
    pub async fn history_from(&mut self, id: &str, first: i64) -> Result<Vec<MsgData>> {
        self.history_by(id, first, PAGE).await
    }

    /// The same, so many at once: an answer holds a mebibyte.
    pub(crate) async fn history_by(
        &mut self,
        id: &str,
        first: i64,
        page: i64,
    ) -> Result<Vec<MsgData>> {
        let mut all = Vec::new();
        loop {
            let begin = first + all.len() as i64;
            let request = PullMessageBySeqsReq {
                user_id: self.user_id.clone(),
                seq_ranges: vec![SeqRange {
                    conversation_id: id.to_owned(),
                    begin,
                    end: begin + page - 1,
                    num: page,
                }],
                order: 0,
            };
            let mut pulled: PullMessageBySeqsResp = self.call(PULL, &request).await?;
            match pulled.msgs.remove(id) {
                Some(page) if !page.msgs.is_empty() => all.extend(page.msgs),
                _ => return Ok(all),
            }
        }
    }

    /// Everything that the user may see of a conversation, pulled at once.
    pub async fn window_of(&mut self, id: &str) -> Result<Vec<MsgData>> {
        let whole = i64::from(i32::MAX);
        let request = PullMessageBySeqsReq {
            user_id: self.user_id.clone(),
            seq_ranges: vec![SeqRange {
                conversation_id: id.to_owned(),
                begin: 1,
                end: whole,
                num: whole,
            }],
            order: 0,
        };
        let mut pulled: PullMessageBySeqsResp = self.call(PULL, &request).await?;
        Ok(pulled.msgs.remove(id).map(|pulled| pulled.msgs).unwrap_or_default())
    }

    /// Reads one frame, however long it takes to come, and keeps what it pushes. Nothing is lost if
    /// the future is dropped.
    pub async fn fill(&mut self) -> Result {
        let frame = self.frame().await?;
        let response = self.response(frame)?;
        self.keep(response)
    }

    /// What was pushed and is kept, oldest first.
    pub fn kept(&mut self) -> Vec<Push> {
        self.pushes.drain(..).collect()
    }

    /// The next push.
    pub async fn next_push(&mut self) -> Result<Push> {
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return Ok(push);
            }
            let response = self.next_response().await?;
            self.keep(response)?;
        }
    }

    /// The next pushed message of a chat, skipping notifications and status.
    pub async fn next_message(&mut self) -> Result<MsgData> {
        loop {
            if let Push::Message { conversation_id, message, .. } = self.next_push().await?
                && !conversation_id.starts_with("n_")
            {
                return Ok(*message);
            }
        }
    }

    /// The next notification of a content type, skipping everything else.
    pub async fn next_notification(&mut self, content_type: i32) -> Result<MsgData> {
        loop {
            if let Push::Message { conversation_id, message, .. } = self.next_push().await?
                && conversation_id.starts_with("n_")
                && message.content_type == content_type
            {
                return Ok(*message);
            }
        }
    }

    /// Everything pushed until `quiet` passes without a frame.
    pub async fn pushes_until_quiet(&mut self, quiet: Duration) -> Result<Vec<Push>> {
        let mut pushes = Vec::new();
        while let Ok(push) = tokio::time::timeout(quiet, self.next_push()).await {
            pushes.push(push?);
        }
        Ok(pushes)
    }

    /// Sends a frame as it is.
    pub async fn raw(&mut self, frame: Message) -> Result {
        Ok(self.inner.send(frame).await?)
    }

    /// The next frame as it is, pings and pongs left out.
    pub async fn next_raw(&mut self) -> Result<Message> {
        tokio::time::timeout(PATIENCE, self.frame()).await.context("nothing came")?
    }

    async fn frame(&mut self) -> Result<Message> {
        loop {
            let frame = self.inner.next().await.context("the connection was closed")??;
            if !matches!(frame, Message::Ping(_) | Message::Pong(_)) {
                return Ok(frame);
            }
        }
    }

    /// Whether the node ends the connection before `within` has passed.
    pub async fn ends(&mut self, within: Duration) -> bool {
        let ended = async {
            loop {
                match self.inner.next().await {
                    None | Some(Err(_) | Ok(Message::Close(_))) => break,
                    Some(Ok(_)) => {}
                }
            }
        };
        tokio::time::timeout(within, ended).await.is_ok()
    }

    /// Drops the TCP connection without a word.
    pub fn cut(self) {
        drop(self);
    }

    async fn next_response(&mut self) -> Result<Response> {
        let frame = self.next_raw().await?;
        self.response(frame)
    }

    fn response(&self, frame: Message) -> Result<Response> {
        match frame {
            Message::Binary(frame) => {
                Ok(envelope::decode_response(&frame, self.wire.encoding, self.wire.gzip, LIMIT)?)
            }
            other => bail!("unexpected frame {other:?}"),
        }
    }

    fn keep(&mut self, response: Response) -> Result {
        let data = response.data.clone().unwrap_or_default();
        match response.req_identifier {
            PUSH => {
                let pushed = PushMessages::decode(data)?;
                for (conversation_id, messages) in
                    pushed.msgs.into_iter().chain(pushed.notification_msgs)
                {
                    for message in messages.msgs {
                        self.pushes.push_back(Push::Message {
                            conversation_id: conversation_id.clone(),
                            message: Box::new(message),
                            operation_id: response.operation_id.clone(),
                        });
                    }
                }
            }
            STATUS => self.pushes.push_back(Push::Status(SubUserOnlineStatusTips::decode(data)?)),
            KICK => self.pushes.push_back(Push::Kicked),
            _ => bail!("unexpected answer {response:?}"),
        }
        Ok(())
    }
}

/// A text from one user to another, as the SDKs build it.
pub fn text_message(from: &str, to: &str, text: &str) -> MsgData {
    MsgData {
        send_id: from.into(),
        recv_id: to.into(),
        client_msg_id: format!("{:032x}", unique()),
        session_type: 1,
        msg_from: 100,
        content_type: 101,
        content: json!({ "content": text }).to_string().into(),
        create_time: 1,
        status: 1,
        ..MsgData::default()
    }
}

/// The content of a message that is JSON in a text in JSON, and so on: 12 texts, each within 115 lists,
/// in less than 30 KB.
pub fn texts_in_texts() -> String {
    let mut deep = json!({ "quoteMessage": 1 }).to_string();
    for _ in 0..12 {
        let text = json!({ "content": deep });
        deep = format!("{}{text}{}", "[".repeat(115), "]".repeat(115));
    }
    deep
}
