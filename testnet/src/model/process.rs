//! A real process with real connections.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::sdkws::MsgData;
use serde_json::{Value, json};

use super::device::{Device, PLATFORMS, REST_PLATFORM, User};
use super::world::{Arrival, Question, World};
use crate::socket::text_message;
use crate::{Admin, Client, Process, Push, Result, Socket, Wire};

/// Longer than anything is held back.
const HELD_BACK: Duration = Duration::from_millis(120);
/// Who marks the end of what has to arrive.
const FENCE: &str = "fence";
const TYPING: i32 = 113;
const SEND: i32 = 1003;

pub(super) struct Real {
    node: Process,
    admin: Admin,
    fence: Option<Socket>,
    /// Each user for the REST API.
    users: Vec<Client>,
    /// Newest login of each device, and the one before.
    logins: HashMap<Device, (Client, Option<Client>)>,
    connected: HashMap<Device, Socket>,
    /// Connections that stay while users look at what they have.
    readers: HashMap<User, Socket>,
    /// Replaced by a newer login, with what they have still to say.
    leaving: Vec<(Device, Socket)>,
    /// Something may be held back.
    slow: bool,
}

impl Real {
    pub(super) async fn start(server: &Path, hides_history: bool) -> Result<Self> {
        let history = if hides_history { "false" } else { "true" };
        let node = Process::builder(server)
            .variable("ENTENTE_LOG_LEVEL", "error")
            .variable("ENTENTE_CHAT_HISTORY_FOR_NEW_MEMBERS", history)
            .start()
            .await?;
        let admin = node.admin().await?;
        let names: Vec<String> = User::all().map(User::id).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).chain([FENCE]).collect();
        admin.register(&all).await?;
        let mut users = Vec::new();
        for name in &names {
            users.push(admin.client(name, REST_PLATFORM).await?);
        }
        let mut real = Self {
            node,
            admin,
            fence: None,
            users,
            logins: HashMap::new(),
            connected: HashMap::new(),
            readers: HashMap::new(),
            leaving: Vec::new(),
            slow: false,
        };
        real.fence().await?;
        Ok(real)
    }

    async fn fence(&mut self) -> Result {
        let client = self.admin.client(FENCE, 5).await?;
        self.fence = Some(client.connect(Wire::GOB_GZIP).await?);
        Ok(())
    }
}

/// As the SDK of the platform.
fn wire(device: Device) -> Wire {
    if device.platform == PLATFORMS[0] { Wire::GOB_GZIP } else { Wire::JSON }
}

impl World for Real {
    const PAUSED: bool = false;

    fn pass(&mut self, _ms: i64) {}

    async fn call(&mut self, user: User, path: &str, body: Value) -> Result<(i64, Value)> {
        self.slow |= path.ends_with("_black");
        let answer = self.users.get(user.0).context("no such user")?.post(path, body).await?;
        Ok((answer.code, answer.body[if answer.code == 0 { "data" } else { "errDlt" }].clone()))
    }

    async fn log_in(&mut self, device: Device) -> Result<bool> {
        let client = self.admin.client(&device.user.id(), device.platform).await?;
        if self.logins.get(&device).is_some_and(|(known, _)| known.token == client.token) {
            if self.connected.contains_key(&device) {
                self.cut(device).await?;
            }
            ensure!(self.connect(device).await?, "a known token is refused");
            return Ok(false);
        }
        let socket = client.connect(wire(device)).await?;
        let before = self.logins.remove(&device).map(|(client, _)| client);
        self.logins.insert(device, (client, before));
        if let Some(old) = self.connected.insert(device, socket) {
            self.leaving.push((device, old));
        }
        Ok(true)
    }

    async fn connect(&mut self, device: Device) -> Result<bool> {
        let Some((client, _)) = self.logins.get(&device) else { return Ok(false) };
        let Ok(socket) = client.connect(wire(device)).await else { return Ok(false) };
        self.connected.insert(device, socket);
        Ok(true)
    }

    async fn connect_stale(&mut self, device: Device) -> Result<Option<bool>> {
        let stale = self.logins.get(&device).and_then(|(_, stale)| stale.as_ref());
        let Some(client) = stale else { return Ok(None) };
        Ok(Some(client.connect(wire(device)).await.is_ok()))
    }

    async fn cut(&mut self, device: Device) -> Result {
        self.connected.remove(&device).context("not connected")?.cut();
        Ok(())
    }

    async fn force_logout(&mut self, device: Device) -> Result {
        let body = json!({ "userID": device.user.id(), "platformID": device.platform });
        self.admin.client.call("/auth/force_logout", body).await?;
        Ok(())
    }

    async fn send(&mut self, messages: Vec<(Device, MsgData)>) -> Result<Vec<i64>> {
        // All are under way before the first answer is awaited.
        let mut asked = Vec::new();
        for (device, message) in messages {
            let socket = self.connected.get_mut(&device).context("not connected")?;
            let data = prost::Message::encode_to_vec(&message);
            asked.push((device, socket.ask(SEND, data).await?));
        }
        let mut codes = Vec::new();
        for (device, msg_incr) in asked {
            let socket = self.connected.get_mut(&device).context("not connected")?;
            codes.push(i64::from(socket.answer(&msg_incr).await?.err_code));
        }
        Ok(codes)
    }

    async fn ask<Q: Question>(&mut self, user: User, question: &Q) -> Result<Q::Answer> {
        if !self.readers.contains_key(&user) {
            let client = self.users.get(user.0).context("no such user")?;
            self.readers.insert(user, client.connect(Wire::GOB_GZIP).await?);
        }
        let reader = self.readers.get_mut(&user).context("no reader")?;
        reader.call(Q::NUMBER, question).await
    }

    async fn admin(&mut self, path: &str, body: Value) -> Result<Value> {
        self.admin.client.call(path, body).await
    }

    async fn settle(&mut self) -> Result<Vec<(Device, Vec<Arrival>)>> {
        self.readers.clear();
        if std::mem::take(&mut self.slow) {
            tokio::time::sleep(HELD_BACK).await;
        }
        let mut users: Vec<User> = self.connected.keys().map(|device| device.user).collect();
        users.sort_unstable();
        users.dedup();
        let fence = self.fence.as_mut().context("no fence")?;
        for user in users {
            let mut message = text_message(FENCE, &user.id(), "");
            message.content_type = TYPING;
            fence.send(&message).await?;
        }
        let mut arrivals = Vec::new();
        for (device, mut socket) in self.leaving.drain(..) {
            let taken = until_fence(&mut socket).await?;
            let last = taken.last();
            ensure!(matches!(last, Some(Arrival::Kicked)), "{device} was replaced and not kicked");
            arrivals.push((device, taken));
        }
        let mut kicked = Vec::new();
        for (device, socket) in &mut self.connected {
            let taken = until_fence(socket).await.with_context(|| device.to_string())?;
            if matches!(taken.last(), Some(Arrival::Kicked)) {
                kicked.push(*device);
            }
            arrivals.push((*device, taken));
        }
        for device in kicked {
            self.connected.remove(&device);
        }
        Ok(arrivals)
    }

    async fn restart(&mut self) -> Result {
        self.readers.clear();
        self.connected.clear();
        self.leaving.clear();
        self.fence = None;
        self.node.stop().await?;
        self.node.launch().await?;
        self.fence().await
    }

    async fn end(mut self) -> Result {
        self.readers.clear();
        self.connected.clear();
        self.fence = None;
        self.node.stop().await?;
        let verified = self.node.command("verify").output().await?;
        let text = String::from_utf8_lossy(&verified.stdout);
        ensure!(verified.status.success(), "verify: {text}");
        Ok(())
    }
}

/// What comes to a device before the fence, or before it is kicked.
async fn until_fence(socket: &mut Socket) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    loop {
        match socket.next_push().await? {
            Push::Message { message, .. } if message.send_id == FENCE => return Ok(arrivals),
            Push::Message { conversation_id, message, .. } => {
                arrivals.push(Arrival::Message(conversation_id, message));
            }
            Push::Kicked => {
                arrivals.push(Arrival::Kicked);
                return Ok(arrivals);
            }
            Push::Status(_) => {}
        }
    }
}
