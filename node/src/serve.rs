//! Running the node.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ::federation::{Domain, Federation, Halt};
use anyhow::Context as _;
use client_api::{Certificate, Gateway, GatewayLimits, RestOptions, Tls};
use hyper_util::service::TowerToHyperService;
use services::hub::QueueLimits;
use services::{Environment, Services, Settings};
use store::engine::{DiskEngine, DiskOptions};
use store::{Store, StoreError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::announce::announce;
use crate::backups::{Backups, Running};
use crate::cli::{Data, Listen, Serve};
use crate::config::{Checks, Config};
use crate::control;
use crate::damage;
use crate::data_folder::DataFolder;
use crate::descriptors::{self, Connections};
use crate::federation;
use crate::logging::Logging;
use crate::operation::{Configured, Node};
use crate::printer::Printer;
use crate::reading;
use crate::reload::{self, Reload};
use crate::{identity, known_secret, lock};

/// Time a stopping node gives to what is under way.
const DRAIN: Duration = Duration::from_secs(20);
/// Time between two looks at what has become old.
const TIDY_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a connection to the gateway that did not become a session may stay.
const HANDSHAKE_IDLE: Duration = Duration::from_secs(10);
/// What a start writes must fit so often before a node that only reads starts again.
const AGAIN_TIMES: u64 = 2;
/// Time between two looks whether there is room again.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(2);
/// Messages of one conversation among which a repeat is recognised.
const DEDUPE_MESSAGES: usize = 1_000;

/// Runs the node until it is told to stop.
pub(crate) fn run(data: &Data, given: &Serve, printer: Printer) -> anyhow::Result<ExitCode> {
    let listen = &given.listen;
    let folder = DataFolder::new(&data.folder);
    let read = || folder.config(data.config.as_deref(), &listen.given(), Checks::All);
    // Nothing is made for a configuration that is wrong.
    let mut config = read()?;
    let first = folder.prepare()?;
    if first {
        // It has made the secret.
        config = read()?;
    }
    let logging = Logging::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Opening a large database takes a while, and a hangup must not end the node meanwhile.
    let hangups = runtime.block_on(async { reload::hangups() })?;
    let files = descriptors::raise_limit();
    let connections =
        Connections::within(files, config.api.max_connections, config.ws.max_connections);
    if connections.ws < config.ws.max_connections {
        tracing::info!(clients = connections.ws, "the limit of open files allows so many");
    }
    for (path, still) in folder.close_to_others() {
        let path = path.display();
        if still {
            tracing::warn!(%path, "everybody on this machine can read it, and that cannot be changed");
        } else {
            tracing::warn!(%path, "everybody on this machine could read it; no longer");
        }
    }
    if !given.new_identity {
        // Before anything is changed for a start that comes to nothing.
        folder.identity_if_there()?;
    }
    // A command may be looking at the data just now, above all where a node starts anew.
    let store = lock::patiently(|| open_store(&folder, &config, Access::Change))?;
    if given.new_identity {
        store.must_have_room(0)?;
        identity::renew(&folder, &mut config, &store)?;
    }
    identity::check(&folder, &config, &store)?;
    match known_secret::note(&store, &config.auth.secret) {
        // It serves reads, and says the same at the next start.
        Ok(()) | Err(StoreError::DiskFull { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let configured = Configured::new(&folder, data, &config)?;
    let running = Running::start(&folder, configured.clone(), &store)?;
    let backups = running.as_ref().map(Running::handle);
    let start = Start {
        folder,
        configured,
        backups,
        data,
        listen,
        config,
        connections,
        logging,
        hangups,
        first,
        printer,
    };
    let outcome = runtime.block_on(serve(start, store.clone()));
    runtime.shutdown_timeout(Duration::from_secs(1));
    store.close();
    if let Some(running) = running {
        running.finish();
    }
    match outcome? {
        End::Stopped => Ok(ExitCode::SUCCESS),
        End::NewEpoch => Err(start_again().context(
            "the data went back in time and has a new epoch, which counts from the next start on; \
             the program cannot start itself again",
        )),
        End::RoomAgain => Err(start_again().context(
            "there is room again, and the data can be changed from the next start on; the program \
             cannot start itself again",
        )),
    }
}

/// How serving ended.
enum End {
    Stopped,
    /// The data has a new epoch, which counts when it is opened again.
    NewEpoch,
    /// The data could only be read for want of space, and there is space now.
    RoomAgain,
}

/// Becomes this program again, under the same process ID; returns why it cannot.
fn start_again() -> anyhow::Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "entente".into());
    // That is done once.
    let arguments = arguments.filter(|argument| argument != "--new-identity");
    Command::new("/proc/self/exe").arg0(name).args(arguments).exec().into()
}

/// Waits until the data has a new epoch; for ever if this node does not federate or stops to.
async fn has_new_epoch(federation: Option<&Federation>) {
    if let Some(federation) = federation
        && let Halt::NewEpoch { .. } = federation.halted().await
    {
        return;
    }
    std::future::pending().await
}

/// Waits until there is room to change what is in a folder.
async fn has_room_again(store: &Path, options: &store::Options) {
    while !has_room(store, options, AGAIN_TIMES) {
        tokio::time::sleep(LOOK_FOR_ROOM).await;
    }
}

/// Whether there is room to open data to be changed, and so many times that of a start.
fn has_room(store: &Path, options: &store::Options, times: u64) -> bool {
    let available = DiskEngine::available_in(store);
    let needed = options.least_bytes() + times * DiskEngine::bytes_to_open(store);
    available.is_none_or(|available| available >= needed)
}

/// What a node starts with.
struct Start<'a> {
    folder: DataFolder,
    configured: Configured,
    backups: Option<Backups>,
    data: &'a Data,
    listen: &'a Listen,
    config: Config,
    connections: Connections,
    logging: Logging,
    hangups: Signal,
    /// The data folder was just made.
    first: bool,
    printer: Printer,
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be changed; if there is too little space for that, to be looked at.
    Change,
    /// To be looked at: nothing in the folder changes.
    Look,
}

/// Opens the database of a data folder.
pub(crate) fn open_store(
    folder: &DataFolder,
    config: &Config,
    access: Access,
) -> anyhow::Result<Store> {
    let path = folder.store();
    folder.must_be_whole()?;
    let fails = |error| damage::of_store(folder.path(), &path, error);
    let cache_bytes = config.store.cache.bytes();
    let options = options(config);
    // Where nothing is stored there is nothing to read, either.
    let access = if path.join("db").exists() && !has_room(&path, &options, 1) {
        Access::Look
    } else {
        access
    };
    let engine = match access {
        Access::Change => {
            let checkpoint_bytes = config.store.checkpoint.len();
            DiskEngine::open_with(&path, DiskOptions { cache_bytes, checkpoint_bytes })
        }
        Access::Look => DiskEngine::open_read_only(&path, cache_bytes),
    };
    let engine = engine.map_err(fails)?;
    Store::open(Box::new(engine), options).map_err(fails)
}

/// How the store of a configuration works.
fn options(config: &Config) -> store::Options {
    store::Options {
        salt: rand::random(),
        dedupe_window_ms: config.chat.dedupe.ms(),
        dedupe_messages: DEDUPE_MESSAGES,
        reserve_bytes: config.store.reserve.bytes(),
        inline: false,
    }
}

/// The chat settings of a configuration.
pub(crate) fn settings(folder: &DataFolder, config: &Config, domain: Option<Domain>) -> Settings {
    Settings {
        domain,
        secret: config.auth.secret.clone(),
        admin_users: config.auth.admin_users.clone(),
        admin_nicknames: config.auth.admin_nicknames.clone(),
        token_expire: config.auth.token_expire.duration(),
        multi_login_policy: config.auth.multi_login_policy,
        max_tokens_per_platform: config.auth.max_tokens_per_platform,
        friend_verify: config.chat.friend_verify,
        open_directory: config.chat.open_directory,
        consent: config.federation.consent,
        expire: config.federation.expire.duration(),
        history_for_new_members: config.chat.history_for_new_members,
        message_max_bytes: config.chat.message_max.len(),
        retain: config.chat.retain.duration(),
        public_url: config.api.public_url.clone(),
        assumed_url: String::new(),
        object_folder: folder.objects(),
        object_max_bytes: config.object.max.bytes(),
        media_cache_bytes: config.federation.media_cache.bytes(),
        object_url_expire: config.object.url_expire.duration(),
        notifications: config.notifications(),
    }
}

/// Where clients reach the API, as far as can be told: at its address, or if that is every address
/// of the machine, under the domain of the node.
fn assumed_url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.api.tls_certificate.as_os_str().is_empty() { "http" } else { "https" };
    match &config.federation.domain {
        domain if address.ip().is_unspecified() && !domain.is_empty() => {
            format!("{scheme}://{domain}:{}", address.port())
        }
        _ => format!("{scheme}://{address}"),
    }
}

async fn serve(start: Start<'_>, store: Store) -> anyhow::Result<End> {
    let Start {
        folder,
        configured,
        backups,
        data,
        listen: given,
        config,
        connections,
        logging,
        hangups,
        first,
        printer,
    } = start;
    let (folder, config) = (&folder, &config);
    let asked_to_stop = asked_to_stop()?;
    let environment = Environment::system();
    let domain = config.federation.domain()?;
    let api = listen("api.listen", &config.api.listen).await?;
    let ws = listen("ws.listen", &config.ws.listen).await?;
    let (api_address, ws_address) = (api.local_addr()?, ws.local_addr()?);
    let assumed_url = assumed_url(config, api_address);
    let settings = Settings { assumed_url, ..settings(folder, config, domain) };
    let only_reads = store.only_reads();
    let services = Services::new(store, settings, environment.clone());
    let stop = CancellationToken::new();
    let federation = if only_reads {
        tracing::error!(
            folder = %folder.path().display(),
            "the disk is full: nothing can be changed, not even deleted, until there is space"
        );
        None
    } else {
        services.seed_admins().await?;
        services.resume().await?;
        federation::start(folder, config, &services, &environment, &stop).await?
    };
    let guesses = client_api::Guesses::default();
    let proxies = client_api::Proxies::at(&config.api.trusted_proxies)?;
    let api_tls = tls(&config.api.tls_certificate, &config.api.tls_key)?;
    let ws_tls = tls(&config.ws.tls_certificate, &config.ws.tls_key)?;
    let port = |tls: &Option<Tls>, max_connections, idle| client_api::Listen {
        tls: tls.clone(),
        max_connections,
        idle,
        proxies: proxies.clone(),
        guesses: guesses.clone(),
        stop: stop.clone(),
    };
    let rest = client_api::router(
        services.clone(),
        &RestOptions {
            gzip: config.api.gzip,
            node_document: federation.as_ref().map(|federation| federation.document().into()),
        },
    );
    let idle = config.api.idle.duration();
    let rest = client_api::serve(
        api,
        port(&api_tls, connections.api, idle),
        TowerToHyperService::new(rest),
    );
    let limits = GatewayLimits {
        max_connections: connections.ws,
        max_frame_bytes: config.ws.max_frame.len(),
        queue: QueueLimits {
            frames: config.ws.queue_frames,
            bytes: config.ws.queue.len(),
            all_bytes: config.ws.queue_all.len(),
        },
        max_sends: config.ws.max_sends,
    };
    let gateway = Gateway::new(services.clone(), limits, stop.clone());
    // Half-open handshakes get room of their own beside those who are logged in.
    let room = connections.ws.saturating_add(connections.handshakes);
    let sockets = client_api::serve(ws, port(&ws_tls, room, HANDSHAKE_IDLE), gateway.clone());
    // Before anybody can see that the node serves: commands find it from then on.
    let socket = folder.control_socket();
    let commands = control::listen(&socket);
    let running = tokio::spawn(async move { tokio::join!(rest, sockets) });
    if !only_reads {
        tokio::spawn(tidy(services.clone(), stop.clone()));
    }
    tokio::spawn(reading::read_all(services.clone(), stop.clone()));
    let control = tokio::spawn({
        let ca = config.federation.ca.clone();
        let api = Some(own_url(config, api_address));
        let node = Node { services, federation: federation.clone(), ca, api, configured, backups };
        let stop = stop.clone();
        async move {
            let served = match commands {
                Ok(commands) => control::serve(commands, &socket, node, stop).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::warn!(error = format!("{error:#}"), "no control socket");
            }
        }
    });
    tokio::spawn(logging.refusals.clone().sum_up(stop.clone()));
    let reload = Reload {
        folder: folder.clone(),
        data: data.clone(),
        listen: given.clone(),
        logging,
        started: config.clone(),
        api: api_tls,
        ws: ws_tls,
    };
    tokio::spawn(reload.run(hangups, stop.clone()));
    let addresses = (api_address, ws_address);
    if let Err(error) = announce(folder, config, addresses, federation.as_ref(), first, printer) {
        tracing::warn!(error = format!("{error:#}"), "nobody is told that the node serves");
    }
    let (place, options) = (folder.store(), options(config));
    let end = tokio::select! {
        asked = asked_to_stop => {
            asked?;
            tracing::info!("stopping");
            End::Stopped
        }
        () = has_new_epoch(federation.as_ref()) => {
            tracing::warn!("starting again with a new epoch");
            End::NewEpoch
        }
        () = has_room_again(&place, &options), if only_reads => {
            tracing::warn!("starting again: there is room");
            End::RoomAgain
        }
    };
    stop.cancel();
    let drained = async {
        let _ = running.await;
        gateway.ended().await;
        let _ = control.await;
    };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(end)
}

/// Where the node reaches its own API.
fn own_url(config: &Config, mut address: SocketAddr) -> String {
    let scheme = if config.api.tls_certificate.as_os_str().is_empty() { "http" } else { "https" };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{address}/")
}

/// TLS with a certificate, if one is named.
fn tls(certificate: &Path, key: &Path) -> anyhow::Result<Option<Tls>> {
    if certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(Tls::new(Certificate::read(certificate, key)?)))
}

/// Removes what has become old or is left behind, at the start and then now and again.
async fn tidy(services: Services, stop: CancellationToken) {
    loop {
        if let Err(error) = services.tidy_messages().await {
            tracing::warn!(%error, "old messages were not removed");
        }
        if let Err(error) = services.remove_object_garbage().await {
            tracing::warn!(%error, "what uploads left behind was not removed");
        }
        if stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_none() {
            return;
        }
    }
}

/// Connections that wait to be accepted; the system may allow fewer. All clients come back in the
/// same moment after a restart, and those who find no room try again only seconds later.
const BACKLOG: u32 = 65_535;

async fn listen(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    let listen = async {
        let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in tokio::net::lookup_host(address).await? {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    listen.await.with_context(|| format!("cannot listen on {key} = {address}"))
}

/// Waits until the node is asked to stop; from the call on it is not ended by that.
fn asked_to_stop() -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + use<>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
