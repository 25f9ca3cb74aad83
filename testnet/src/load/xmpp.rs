//! A small XMPP client, to put the same work on other servers: plain TCP, SASL PLAIN, stream
//! management for acknowledgements.

use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::events::Event as Xml;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::marker::Marker;
use super::peer::{Event, Session, To};
use crate::Result;

/// Domain of the servers.
pub(crate) const DOMAIN: &str = "localhost";
const PASSWORD: &str = "secret";

/// A stanza, as far as anybody looks at it.
#[derive(Debug, Default)]
struct Stanza {
    name: String,
    id: String,
    kind: String,
    /// `h` of an acknowledgement.
    handled: Option<u64>,
}

/// A logged-in connection.
pub(crate) struct Client {
    write: OwnedWriteHalf,
    buffer: Vec<u8>,
    stanzas: mpsc::UnboundedReceiver<Result<Stanza>>,
    reading: tokio::task::JoinHandle<()>,
    /// Written and not yet acknowledged.
    waiting: VecDeque<Marker>,
    handled: u64,
    /// Stanzas that the server counts, since stream management began.
    received: u64,
    events: VecDeque<Event>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Client {
    /// Registers an account.
    pub(crate) async fn register(server: SocketAddr, user: &str) -> Result {
        let mut client = Self::open(server).await?;
        let ask = format!(
            "<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>{user}</username>\
             <password>{PASSWORD}</password></query></iq>"
        );
        client.say(&ask).await?;
        let answer = client.until(&["iq"]).await?;
        ensure!(answer.kind == "result", "registering {user}: {answer:?}");
        Ok(())
    }

    /// Logs an account in, with stream management.
    pub(crate) async fn connect(server: SocketAddr, user: &str) -> Result<Self> {
        let mut client = Self::open(server).await?;
        let plain = STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        );
        client.say(&auth).await?;
        let answer = client.until(&["success", "failure"]).await?;
        ensure!(answer.name == "success", "logging in {user}: {answer:?}");
        // After that the stream begins anew, with a parser of its own.
        client.restart().await?;
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>load</resource></bind></iq>";
        client.say(bind).await?;
        let answer = client.until(&["iq"]).await?;
        ensure!(answer.kind == "result", "binding {user}: {answer:?}");
        client.say("<enable xmlns='urn:xmpp:sm:3'/>").await?;
        let answer = client.until(&["enabled", "failed"]).await?;
        ensure!(answer.name == "enabled", "stream management: {answer:?}");
        client.say("<presence/>").await?;
        Ok(client)
    }

    async fn open(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let (tell, stanzas) = mpsc::unbounded_channel();
        let reading = tokio::spawn(read_all(read, tell));
        let mut client = Self {
            write,
            buffer: Vec::new(),
            stanzas,
            reading,
            waiting: VecDeque::new(),
            handled: 0,
            received: 0,
            events: VecDeque::new(),
        };
        client.restart().await?;
        Ok(client)
    }

    async fn restart(&mut self) -> Result {
        let open = format!(
            "<?xml version='1.0'?><stream:stream to='{DOMAIN}' version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        self.say(&open).await?;
        self.until(&["stream:features"]).await?;
        Ok(())
    }

    async fn say(&mut self, text: &str) -> Result {
        Ok(self.write.write_all(text.as_bytes()).await?)
    }

    async fn stanza(&mut self) -> Result<Stanza> {
        self.stanzas.recv().await.context("disconnected")?
    }

    async fn until(&mut self, names: &[&str]) -> Result<Stanza> {
        loop {
            let stanza = self.stanza().await?;
            if names.contains(&stanza.name.as_str()) {
                return Ok(stanza);
            }
        }
    }

    fn take(&mut self, stanza: Stanza) {
        self.received += u64::from(["message", "presence", "iq"].contains(&&*stanza.name));
        match stanza.name.as_str() {
            "message" if stanza.kind == "error" => {
                self.events.push_back(Event::Refused(stanza.id));
            }
            "message" => {
                if let Some(marker) = Marker::from_id(&stanza.id) {
                    self.events.push_back(Event::Message { marker, seq: 0 });
                }
            }
            "a" => {
                let handled = stanza.handled.unwrap_or(0);
                while self.handled < handled {
                    self.handled += 1;
                    self.events.extend(self.waiting.pop_front().map(Event::Acknowledged));
                }
            }
            _ => {}
        }
    }
}

impl Session for Client {
    async fn feed(&mut self, to: &To, marker: Marker, content: &str) -> Result {
        let To::User(user) = to else { bail!("no groups") };
        // The first stanza that the server counted was the presence.
        if self.waiting.is_empty() && self.handled == 0 {
            self.handled = 1;
        }
        let body = content.replace('&', "&amp;").replace('<', "&lt;");
        let id = marker.to_id();
        let stanza = format!(
            "<message to='{user}@{DOMAIN}' type='chat' id='{id}'><body>{body}</body></message>\
             <r xmlns='urn:xmpp:sm:3'/>"
        );
        self.buffer.extend_from_slice(stanza.as_bytes());
        self.waiting.push_back(marker);
        Ok(())
    }

    async fn flush(&mut self) -> Result {
        self.write.write_all(&self.buffer).await?;
        self.buffer.clear();
        Ok(())
    }

    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let stanza = self.stanza().await?;
            if stanza.name == "r" {
                let answer = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.received);
                self.say(&answer).await?;
            }
            self.take(stanza);
        }
    }

    fn ready(&mut self) -> Option<Result<Event>> {
        while self.events.is_empty() {
            match self.stanzas.try_recv() {
                Ok(Ok(stanza)) => self.take(stanza),
                Ok(Err(error)) => return Some(Err(error)),
                Err(_) => return None,
            }
        }
        self.events.pop_front().map(Ok)
    }
}

/// Reads stanzas until the stream ends.
async fn read_all(read: OwnedReadHalf, tell: mpsc::UnboundedSender<Result<Stanza>>) {
    let mut reader = Reader::from_reader(BufReader::new(read));
    reader.config_mut().check_end_names = false;
    let (mut buffer, mut depth) = (Vec::new(), 0_usize);
    let mut stanza = Stanza::default();
    loop {
        buffer.clear();
        let event = match reader.read_event_into_async(&mut buffer).await {
            Ok(event) => event,
            Err(error) => {
                let _ = tell.send(Err(error.into()));
                return;
            }
        };
        let done = match event {
            // A stream that begins, the first time or after the login.
            Xml::Start(start) if start.name().as_ref() == "stream:stream" => {
                depth = 1;
                false
            }
            Xml::Start(start) => {
                depth += 1;
                if depth == 2 {
                    stanza = stanza_of(&start);
                }
                false
            }
            Xml::Empty(start) if depth == 1 => {
                stanza = stanza_of(&start);
                true
            }
            Xml::End(_) => {
                depth = depth.saturating_sub(1);
                depth == 1
            }
            Xml::Eof => return,
            _ => false,
        };
        if done && tell.send(Ok(std::mem::take(&mut stanza))).is_err() {
            return;
        }
    }
}

fn stanza_of(start: &quick_xml::events::BytesStart<'_>) -> Stanza {
    let mut stanza = Stanza { name: start.name().as_ref().to_owned(), ..Stanza::default() };
    for attribute in start.attributes().flatten() {
        let value = attribute.value.into_owned();
        match attribute.key.as_ref() {
            "id" => stanza.id = value,
            "type" => stanza.kind = value,
            "h" => stanza.handled = value.parse().ok(),
            _ => {}
        }
    }
    stanza
}
