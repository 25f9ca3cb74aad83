//! Other servers under the same work: ejabberd and Prosody from Debian, with message archiving on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::chat::HANDSHAKES;
use super::report::Report;
use super::xmpp::{Client, DOMAIN};
use crate::Result;
use crate::free_port;

/// Time a server gets to start.
const STARTS: Duration = Duration::from_secs(60);
/// Where Debian puts the libraries of Erlang programs.
const ERLANG_LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Servers that can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ejabberd,
    Prosody,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Ejabberd, Self::Prosody];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberd",
            Self::Prosody => "prosody",
        }
    }

    /// A program that is there if the server is installed.
    fn program(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberdctl",
            Self::Prosody => "prosody",
        }
    }

    pub(crate) fn is_installed(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(self.program()).exists())
            || Path::new("/usr/sbin").join(self.program()).exists()
    }

    /// What a run without the server says.
    pub(crate) fn missing(self, scenario: &str) -> Report {
        Report {
            scenario: scenario.to_owned(),
            target: self.name().to_owned(),
            notes: vec![format!("missing: apt-get install {}", self.name())],
            ..Report::default()
        }
    }
}

/// A server that runs over a new folder.
pub(crate) struct Other {
    pub(crate) address: SocketAddr,
    folder: TempDir,
    child: Child,
}

impl Other {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = match kind {
            Kind::Ejabberd => ejabberd(folder.path(), port)?,
            Kind::Prosody => prosody(folder.path(), port)?,
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.path().join("out"))?)
            .stderr(std::fs::File::create(folder.path().join("err"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", kind.name()))?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let mut other = Self { address, folder, child };
        let began = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            if other.child.try_wait()?.is_some() || began.elapsed() > STARTS {
                let read = |name| std::fs::read_to_string(other.folder.path().join(name));
                bail!("{} did not start: {}{}", kind.name(), read("out")?, read("err")?);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(other)
    }

    /// ID of its process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Registers users and logs them in.
    pub(crate) async fn clients(&self, users: &[String]) -> Result<Vec<Client>> {
        let address = self.address;
        stream::iter(users)
            .map(|user| Client::register(address, user))
            .buffered(HANDSHAKES)
            .try_collect::<Vec<()>>()
            .await?;
        stream::iter(users)
            .map(|user| Client::connect(address, user))
            .buffered(HANDSHAKES)
            .try_collect()
            .await
    }

    pub(crate) async fn stop(mut self) -> Result {
        Ok(self.child.kill().await?)
    }
}

fn ejabberd(folder: &Path, port: u16) -> Result<Command> {
    let config = format!(
        "loglevel: error\n\
         hosts: [{DOMAIN}]\n\
         listen:\n  - port: {port}\n    ip: 127.0.0.1\n    module: ejabberd_c2s\n    \
         max_stanza_size: 262144\n    starttls: false\n    backlog: 4096\n\
         auth_method: internal\n\
         registration_timeout: infinity\n\
         access_rules:\n  any:\n    allow: all\n\
         modules:\n  \
         mod_mam:\n    default: always\n  \
         mod_stream_mgmt: {{}}\n  \
         mod_offline: {{}}\n  \
         mod_roster: {{}}\n  \
         mod_register:\n    ip_access: any\n    access: any\n    welcome_message: {{}}\n"
    );
    let file = folder.join("ejabberd.yml");
    std::fs::write(&file, config)?;
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    let mut command = Command::new("erl");
    command
        .args(["-noinput", "+K", "true", "+P", "250000", "-mnesia", "dir"])
        .arg(format!("\"{}\"", data.display()))
        .args(["-s", "ejabberd"])
        .env("ERL_LIBS", ERLANG_LIBRARIES)
        .env("EJABBERD_CONFIG_PATH", file)
        .env("EJABBERD_LOG_PATH", folder.join("ejabberd.log"))
        .env("HOME", folder);
    Ok(command)
}

fn prosody(folder: &Path, port: u16) -> Result<Command> {
    let data = folder.join("data");
    std::fs::create_dir_all(&data)?;
    let config = format!(
        "run_as_root = true\n\
         data_path = \"{}\"\n\
         pidfile = \"{}\"\n\
         interfaces = {{ \"127.0.0.1\" }}\n\
         c2s_ports = {{ {port} }}\n\
         s2s_ports = {{}}\n\
         modules_enabled = {{ \"saslauth\", \"roster\", \"register\", \"mam\", \"smacks\", \
         \"offline\" }}\n\
         modules_disabled = {{ \"s2s\", \"tls\" }}\n\
         c2s_require_encryption = false\n\
         allow_unencrypted_plain_auth = true\n\
         allow_registration = true\n\
         default_archive_policy = true\n\
         archive_expires_after = \"never\"\n\
         storage = \"internal\"\n\
         log = {{ error = \"{}\" }}\n\
         VirtualHost \"{DOMAIN}\"\n",
        data.display(),
        folder.join("prosody.pid").display(),
        folder.join("prosody.log").display(),
    );
    let file = folder.join("prosody.cfg.lua");
    std::fs::write(&file, config)?;
    let mut command = Command::new("prosody");
    command.arg("--config").arg(file).arg("-F");
    Ok(command)
}
