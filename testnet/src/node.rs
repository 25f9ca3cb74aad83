use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use client_api::{Gateway, GatewayLimits, Guesses, Listen, Proxies, RestOptions};
use entente::bridge;
use federation::identity::Identity;
use federation::policy::Policies;
use federation::transport::{Endpoint, Quic};
use federation::{Budget, Domain, Federation, PublicKey, Timing, trust};
use hyper_util::service::TowerToHyperService;
use services::environment::{Clock, Environment};
use services::hub::QueueLimits;
use services::{Services, Settings};
use store::Store;
use store::engine::{Engine, MemoryEngine};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::rest::{Admin, Rest};

/// Secret of every node that a test starts.
pub const SECRET: &str = "openIM123";

/// What may wait for clients of such nodes.
pub(crate) const QUEUE: QueueLimits =
    QueueLimits { frames: 1_024, bytes: 2 << 20, all_bytes: 256 << 20 };

/// What a node in this process is started with.
pub struct NodeBuilder {
    settings: Settings,
    limits: GatewayLimits,
    engine: Box<dyn Engine>,
    reserve_bytes: u64,
    start_ms: Option<i64>,
    domain: Option<Domain>,
    policies: Policies,
    budget: Budget,
}

/// The real time, moved by hand.
#[derive(Default)]
pub struct TestClock {
    ahead_ms: AtomicI64,
}

impl TestClock {
    /// Moves the time forward, or back if `ms` is negative.
    pub fn advance(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        Environment::system().clock.now_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
}

impl NodeBuilder {
    /// Changes settings of the rules.
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Changes limits of the gateway.
    pub fn limits(mut self, change: impl FnOnce(&mut GatewayLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Keeps the data in another engine.
    pub fn engine(mut self, engine: Box<dyn Engine>) -> Self {
        self.engine = engine;
        self
    }

    /// Bytes of disk below which the store refuses changes.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = bytes;
        self
    }

    /// Time at which the node starts, in Unix milliseconds, instead of the real one.
    pub fn time(mut self, start_ms: i64) -> Self {
        self.start_ms = Some(start_ms);
        self
    }

    /// Federates under a domain, over QUIC on a free port of loopback.
    pub fn domain(mut self, domain: Domain) -> Self {
        self.domain = Some(domain);
        self
    }

    /// With whom it deals, and what others may cost.
    pub fn terms(mut self, policies: Policies, budget: Budget) -> Self {
        self.policies = policies;
        self.budget = budget;
        self
    }

    /// Starts the node on free ports of loopback.
    pub async fn start(self) -> Result<Node> {
        let folder = tempfile::tempdir()?;
        let options = store::Options {
            salt: [7; 16],
            dedupe_window_ms: 24 * 3_600_000,
            dedupe_messages: 1_000,
            reserve_bytes: self.reserve_bytes,
            inline: false,
        };
        let store = Store::open(self.engine, options)?;
        let clock = Arc::new(TestClock::default());
        if let Some(start_ms) = self.start_ms {
            clock.advance(start_ms - clock.now_ms());
        }
        let environment = Environment {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Environment::system().random,
        };
        let api = TcpListener::bind("127.0.0.1:0").await?;
        let ws = TcpListener::bind("127.0.0.1:0").await?;
        let addresses = (api.local_addr()?, ws.local_addr()?);
        let settings = Settings {
            object_folder: folder.path().join("objects"),
            assumed_url: format!("http://{}", addresses.0),
            domain: self.domain.clone(),
            ..self.settings
        };
        std::fs::create_dir_all(&settings.object_folder)?;
        let services = Services::new(store, settings, environment);
        services.seed_admins().await?;
        services.resume().await?;
        let stop = CancellationToken::new();
        let federation = match self.domain {
            Some(domain) => {
                let terms = (self.policies, self.budget);
                Some(federate(domain, terms, &services, &clock, &stop).await?)
            }
            None => None,
        };
        let listen = Listen {
            tls: None,
            max_connections: 10_000,
            idle: Duration::from_secs(75),
            proxies: Proxies::at(&["127.0.0.1"])?,
            // Tests are wrong on purpose, all from one address.
            guesses: Guesses::after(u32::MAX),
            stop: stop.clone(),
        };
        let router =
            client_api::router(services.clone(), &RestOptions { gzip: true, node_document: None });
        let gateway = Gateway::new(services.clone(), self.limits, stop.clone());
        let rest = client_api::serve(api, listen.clone(), TowerToHyperService::new(router));
        let sockets = client_api::serve(ws, listen, gateway.clone());
        let running = tokio::spawn(async move {
            tokio::join!(rest, sockets);
            gateway.ended().await;
        });
        Ok(Node {
            api: addresses.0,
            ws: addresses.1,
            services,
            clock,
            federation,
            stop,
            running,
            folder,
        })
    }
}

/// Starts to federate over QUIC on loopback.
async fn federate(
    domain: Domain,
    (policies, budget): (Policies, Budget),
    services: &Services,
    clock: &Arc<TestClock>,
    stop: &CancellationToken,
) -> Result<Federated> {
    let identity = Identity::new(rand::random(), clock.now_ms());
    let key = identity.public_key();
    let (links, incoming) = mpsc::channel(256);
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let quic = Quic::start(&identity, Endpoint::on(listen), links, stop.clone()).await?;
    let settings = federation::Settings {
        domain,
        addresses: quic.addresses().to_vec(),
        policies,
        first_use: false,
        budget,
        timing: Timing::default(),
    };
    let (clock, links) = (Arc::clone(clock) as _, (Arc::new(quic) as _, incoming));
    let federation =
        bridge::federate(services, clock, settings, identity, None, links, stop.clone()).await?;
    Ok(Federated { federation, key })
}

/// The federation of a node, and its key.
struct Federated {
    federation: Federation,
    key: PublicKey,
}

/// Nodes under these domains, each of which trusts the others.
pub async fn federated<const N: usize>(domains: [&str; N]) -> Result<[Node; N]> {
    federated_with(domains, |_| {}).await
}

/// The same with settings of all of them.
pub async fn federated_with<const N: usize>(
    domains: [&str; N],
    change: impl Fn(&mut Settings),
) -> Result<[Node; N]> {
    let mut nodes = Vec::new();
    for domain in domains {
        let builder = Node::builder().domain(domain.parse()?).settings(&change);
        nodes.push(builder.start().await?);
    }
    for node in &nodes {
        for other in &nodes {
            node.trust(other).await?;
        }
    }
    nodes.try_into().map_err(|_| anyhow::anyhow!("a node is missing"))
}

/// A node in this process.
pub struct Node {
    api: SocketAddr,
    ws: SocketAddr,
    /// Its services, to look behind the API.
    pub services: Services,
    /// Its clock.
    pub clock: Arc<TestClock>,
    federation: Option<Federated>,
    stop: CancellationToken,
    running: JoinHandle<()>,
    folder: TempDir,
}

impl Node {
    /// A node with default settings.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A node to be configured.
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            settings: Settings { secret: SECRET.into(), ..Settings::default() },
            limits: GatewayLimits {
                max_connections: 10_000,
                max_frame_bytes: 128 * 1024,
                queue: QUEUE,
                max_sends: 512,
            },
            engine: Box::new(MemoryEngine::default()),
            reserve_bytes: 0,
            start_ms: None,
            domain: None,
            policies: Policies::default(),
            budget: Budget::default(),
        }
    }

    /// Its REST API.
    pub fn rest(&self) -> Rest {
        Rest::new(format!("http://{}", self.api), format!("ws://{}", self.ws))
    }

    /// An app admin, logged in.
    pub async fn admin(&self) -> Result<Admin> {
        Admin::log_in(self.rest(), "imAdmin", SECRET).await
    }

    /// Its federation.
    pub fn federation(&self) -> Option<&Federation> {
        self.federation.as_ref().map(|federated| &federated.federation)
    }

    /// The key under which other nodes know it.
    pub fn key(&self) -> Option<PublicKey> {
        self.federation.as_ref().map(|federated| federated.key)
    }

    /// Pins another node's key and address.
    pub async fn trust(&self, other: &Self) -> Result {
        let (Some(own), Some(other)) = (&self.federation, &other.federation) else {
            anyhow::bail!("both nodes must federate");
        };
        let domain = other.federation.domain();
        if own.federation.domain() == domain {
            return Ok(());
        }
        let addresses = other.federation.addresses().to_vec();
        trust::pin(self.services.store(), domain, vec![other.key], addresses).await?;
        own.federation.refresh(domain);
        Ok(())
    }

    /// Its temporary folder.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Stops it and waits until all connections have ended.
    pub async fn stop(self) -> Result {
        self.stop.cancel();
        self.running.await?;
        Ok(())
    }
}

/// A number that no other call in this process gets; for operation IDs and message IDs.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
