//! The services over the memory engine, in paused time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use client_api::RestOptions;
use futures_util::future::join_all;
use prost::Message as _;
use proto::sdkws::{MsgData, PushMessages};
use serde_json::{Value, json};
use services::environment::{Clock, Environment, Random as Randomness};
use services::hub::{Outgoing, Registered};
use services::{Caller, Services, Settings};
use store::Store;
use store::engine::MemoryEngine;
use tower::ServiceExt as _;

use super::device::{Device, REST_PLATFORM, User};
use super::world::{Arrival, Question, World};
use crate::node::QUEUE;
use crate::random::Seeded;
use crate::{Result, SECRET};

/// Longer than anything is held back.
const SETTLES: Duration = Duration::from_millis(200);
/// When it begins, in Unix milliseconds.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// Larger than any answer.
const MOST_BYTES: usize = 1 << 20;

struct Time(AtomicI64);

impl Clock for Time {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Memory {
    store: Store,
    time: Arc<Time>,
    random: Arc<Seeded>,
    settings: Settings,
    node: Running,
    /// Token of each user for the REST API.
    tokens: Vec<String>,
    /// Newest token of each device, and the one before.
    device_tokens: HashMap<Device, (String, Option<String>)>,
    connected: HashMap<Device, Registered>,
    /// Replaced by a newer login, with what they have still to say.
    leaving: Vec<(Device, Registered)>,
}

/// What a restart replaces.
struct Running {
    services: Services,
    router: Router,
}

impl Running {
    async fn start(
        store: &Store,
        time: &Arc<Time>,
        random: &Arc<Seeded>,
        settings: &Settings,
    ) -> Result<Self> {
        let environment = Environment {
            clock: Arc::clone(time) as Arc<dyn Clock>,
            random: Arc::clone(random) as Arc<dyn Randomness>,
        };
        let services = Services::new(store.clone(), settings.clone(), environment);
        services.seed_admins().await?;
        services.resume().await?;
        let router =
            client_api::router(services.clone(), &RestOptions { gzip: false, node_document: None });
        Ok(Self { services, router })
    }
}

impl Memory {
    pub(super) async fn start(seed: u64, hides_history: bool) -> Result<Self> {
        let options = store::Options { reserve_bytes: 0, ..store::Options::default() };
        let store = Store::open(Box::new(MemoryEngine::default()), options)?;
        let time = Arc::new(Time(AtomicI64::new(BEGIN_MS)));
        let random = Arc::new(Seeded::new(!seed));
        let settings = Settings {
            secret: SECRET.into(),
            history_for_new_members: !hides_history,
            ..Settings::default()
        };
        let node = Running::start(&store, &time, &random, &settings).await?;
        let mut world = Self {
            store,
            time,
            random,
            settings,
            node,
            tokens: Vec::new(),
            device_tokens: HashMap::new(),
            connected: HashMap::new(),
            leaving: Vec::new(),
        };
        let admin = world.node.services.issue_token("imAdmin", 10).await?;
        let users: Vec<Value> =
            User::all().map(|user| json!({ "userID": user.id(), "nickname": user.id() })).collect();
        let body = json!({ "users": users });
        let (code, data) = world.post("/user/user_register", &admin, &body).await?;
        ensure!(code == 0, "registering: {code} {data}");
        for user in User::all() {
            let token = world.node.services.issue_token(&user.id(), REST_PLATFORM).await?;
            world.tokens.push(token);
        }
        Ok(world)
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> Result<(i64, Value)> {
        let request = Request::post(path)
            .header("token", token)
            .header("operationID", "model")
            .body(Body::from(body.to_string()))?;
        let response = self.node.router.clone().oneshot(request).await?;
        let bytes = to_bytes(response.into_body(), MOST_BYTES).await?;
        let answer: Value = serde_json::from_slice(&bytes)
            .with_context(|| String::from_utf8_lossy(&bytes).into_owned())?;
        let code = answer["errCode"].as_i64().context("no code")?;
        Ok((code, if code == 0 { answer["data"].clone() } else { answer["errDlt"].clone() }))
    }

    async fn register(&mut self, device: Device, token: &str) -> Result<Option<Registered>> {
        let services = &self.node.services;
        let id = device.user.id();
        let Ok(caller) = services.check_login(token, &id, device.platform, &"model".into()) else {
            return Ok(None);
        };
        Ok(Some(services.connect(&caller, token, QUEUE).await?))
    }

    fn caller(device: Device) -> Caller {
        Caller {
            user_id: device.user.id(),
            platform_id: device.platform,
            operation_id: "model".into(),
            is_admin: false,
        }
    }

    fn reader(user: User) -> Caller {
        Self::caller(Device { user, platform: REST_PLATFORM })
    }
}

impl World for Memory {
    const PAUSED: bool = true;

    fn pass(&mut self, ms: i64) {
        self.time.0.fetch_add(ms, Ordering::Relaxed);
    }

    async fn call(&mut self, user: User, path: &str, body: Value) -> Result<(i64, Value)> {
        let token = self.tokens.get(user.0).context("no token")?;
        self.post(path, token, &body).await
    }

    async fn log_in(&mut self, device: Device) -> Result<bool> {
        let token = self.node.services.issue_token(&device.user.id(), device.platform).await?;
        if self.device_tokens.get(&device).is_some_and(|(known, _)| *known == token) {
            if self.connected.contains_key(&device) {
                self.cut(device).await?;
            }
            ensure!(self.connect(device).await?, "a known token is refused");
            return Ok(false);
        }
        let before = self.device_tokens.remove(&device).map(|(token, _)| token);
        let registered = self.register(device, &token).await?.context("a new token is refused")?;
        self.device_tokens.insert(device, (token, before));
        if let Some(old) = self.connected.insert(device, registered) {
            self.leaving.push((device, old));
        }
        Ok(true)
    }

    async fn connect(&mut self, device: Device) -> Result<bool> {
        let Some((token, _)) = self.device_tokens.get(&device).cloned() else { return Ok(false) };
        let Some(registered) = self.register(device, &token).await? else { return Ok(false) };
        self.connected.insert(device, registered);
        Ok(true)
    }

    async fn connect_stale(&mut self, device: Device) -> Result<Option<bool>> {
        let stale = self.device_tokens.get(&device).and_then(|(_, stale)| stale.clone());
        let Some(token) = stale else { return Ok(None) };
        Ok(Some(self.register(device, &token).await?.is_some()))
    }

    async fn cut(&mut self, device: Device) -> Result {
        let registered = self.connected.remove(&device).context("not connected")?;
        self.node.services.disconnect(&registered.connection);
        Ok(())
    }

    async fn force_logout(&mut self, device: Device) -> Result {
        let body = json!({ "userID": device.user.id(), "platformID": device.platform });
        self.admin("/auth/force_logout", body).await?;
        Ok(())
    }

    async fn send(&mut self, messages: Vec<(Device, MsgData)>) -> Result<Vec<i64>> {
        let services = &self.node.services;
        let sends = messages.into_iter().map(|(device, message)| async move {
            match services.send_message(&Self::caller(device), message, None).await {
                Ok(_) => 0,
                Err(error) => i64::from(error.code()),
            }
        });
        Ok(join_all(sends).await)
    }

    async fn ask<Q: Question>(&mut self, user: User, question: &Q) -> Result<Q::Answer> {
        Ok(question.ask(&self.node.services, &Self::reader(user))?)
    }

    async fn admin(&mut self, path: &str, body: Value) -> Result<Value> {
        let admin = self.node.services.issue_token("imAdmin", 10).await?;
        let (code, data) = self.post(path, &admin, &body).await?;
        ensure!(code == 0, "{path}: {code} {data}");
        Ok(data)
    }

    async fn settle(&mut self) -> Result<Vec<(Device, Vec<Arrival>)>> {
        // Everything that is ready runs before paused time passes.
        tokio::time::sleep(SETTLES).await;
        let mut arrivals = Vec::new();
        let leaving = self.leaving.drain(..);
        for (device, registered) in leaving {
            arrivals.push((device, taken(&registered)?));
        }
        let mut kicked = Vec::new();
        for (device, registered) in &self.connected {
            let taken = taken(registered)?;
            if taken.iter().any(|arrival| matches!(arrival, Arrival::Kicked)) {
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
        self.connected.clear();
        self.node = Running::start(&self.store, &self.time, &self.random, &self.settings).await?;
        Ok(())
    }

    async fn end(self) -> Result {
        let report = store::verify::verify(&self.store.view(), |_| {})?;
        ensure!(report.is_clean(), "verify: {report:?}");
        Ok(())
    }
}

/// What waits for a connection.
fn taken(registered: &Registered) -> Result<Vec<Arrival>> {
    ensure!(!registered.closed.is_cancelled(), "a connection was closed");
    let mut arrivals = Vec::new();
    for outgoing in registered.connection.outgoing_now() {
        match outgoing {
            Outgoing::Push(push) => {
                let pushed = PushMessages::decode(push.data.clone())?;
                for (id, messages) in pushed.msgs.into_iter().chain(pushed.notification_msgs) {
                    let messages = messages.msgs.into_iter();
                    arrivals.extend(messages.map(|m| Arrival::Message(id.clone(), Box::new(m))));
                }
            }
            Outgoing::Kick => arrivals.push(Arrival::Kicked),
            Outgoing::Status(_) | Outgoing::Frame(_) => {}
        }
    }
    Ok(arrivals)
}
