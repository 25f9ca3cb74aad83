//! What is put under load: a node of our own, one that runs already, or the raw relay.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::openim::gateway_address;
use super::options::Options;
use super::others::{Kind, Other};
use super::usage::{Condition, Usage, bytes_below, commits};
use crate::rest::{Admin, Rest};
use crate::verdict::must_exist;
use crate::{Process, Result};

enum Running {
    Node(Box<Process>),
    Relay(Child),
    Other(Box<Other>),
    Elsewhere { pid: Option<u32> },
}

/// Something that speaks the gateway's protocol.
pub(crate) struct Target {
    /// How reports call it.
    pub(crate) name: &'static str,
    pub(crate) gateway: SocketAddr,
    /// `None` for the relay, which has no users.
    pub(crate) admin: Option<Admin>,
    /// The sender of a message gets it pushed too.
    pub(crate) echoes: bool,
    running: Running,
}

impl Target {
    /// The node that the options name, started if need be.
    pub(crate) async fn node(options: &Options) -> Result<Self> {
        let Some((api, ws)) = options.api.as_ref().zip(options.ws.as_ref()) else {
            return Self::own_node(options).await;
        };
        let gateway = gateway_address(ws).await?;
        let rest = Rest::new(api.trim_end_matches('/').to_owned(), ws.clone());
        let admin = Admin::log_in(rest, &options.admin, &options.secret).await?;
        let running = Running::Elsewhere { pid: options.pid };
        Ok(Self { name: "node", gateway, admin: Some(admin), echoes: true, running })
    }

    async fn own_node(options: &Options) -> Result<Self> {
        must_exist(&options.server)?;
        let node = Process::builder(&options.server)
            .variable("ENTENTE_LOG_LEVEL", "warn")
            .variable("ENTENTE_WS_MAX_CONNECTIONS", "200000")
            .start()
            .await?;
        Self::of("entente", node).await
    }

    /// A node that runs already.
    pub(crate) async fn of(name: &'static str, node: Process) -> Result<Self> {
        let admin = node.admin().await?;
        let gateway = gateway_address(node.rest().ws()).await?;
        let running = Running::Node(Box::new(node));
        Ok(Self { name, gateway, admin: Some(admin), echoes: true, running })
    }

    /// Its process, if it is a node that was started here.
    pub(crate) fn process(&mut self) -> Result<&mut Process> {
        match &mut self.running {
            Running::Node(node) => Ok(node),
            _ => bail!("it was not started here"),
        }
    }

    /// The raw relay, in a process of its own.
    pub(crate) async fn raw() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("raw-relay")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("no output of the relay")?;
        let line = BufReader::new(out).lines().next_line().await?;
        let gateway = line.context("the relay did not start")?.parse()?;
        let running = Running::Relay(child);
        Ok(Self { name: "raw", gateway, admin: None, echoes: false, running })
    }

    /// Another kind of server.
    pub(crate) async fn other(kind: Kind) -> Result<Self> {
        let other = Other::start(kind).await?;
        let gateway = other.address;
        let running = Running::Other(Box::new(other));
        Ok(Self { name: kind.name(), gateway, admin: None, echoes: false, running })
    }

    /// The other kind of server that it is, if it is one.
    pub(crate) fn as_other(&self) -> Option<&Other> {
        match &self.running {
            Running::Other(other) => Some(other),
            _ => None,
        }
    }

    fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Node(node) => node.id(),
            Running::Relay(child) => child.id(),
            Running::Other(other) => other.id(),
            Running::Elsewhere { pid } => *pid,
        }
    }

    /// What it has used so far; `None` if its process is not known.
    pub(crate) fn usage(&self) -> Result<Option<Usage>> {
        let Some(mut usage) = self.pid().map(Usage::of).transpose()? else { return Ok(None) };
        if let Running::Node(node) = &self.running {
            usage.syncs = commits(&node.data())?;
        }
        Ok(Some(usage))
    }

    /// How it does; `None` if its process or its data is not known.
    pub(crate) fn condition(&self) -> Result<Option<Condition>> {
        self.pid().zip(self.data()).map(|(pid, data)| Condition::of(pid, &data)).transpose()
    }

    /// Its data folder, if it is known.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        match &self.running {
            Running::Node(node) => Some(node.data()),
            Running::Other(other) => Some(other.folder().to_owned()),
            Running::Relay(_) | Running::Elsewhere { .. } => None,
        }
    }

    /// Bytes in its data folder.
    pub(crate) fn stored(&self) -> Result<Option<u64>> {
        self.data().map(|folder| bytes_below(&folder)).transpose()
    }

    /// Ends it and starts it again over the same data; returns how long the start took.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        let Running::Node(node) = &mut self.running else {
            bail!("only a node that was started here can be restarted");
        };
        let code = node.stop().await?;
        ensure!(code == Some(0), "the node ended with {code:?}");
        node.launch().await
    }

    /// Kills it and starts it again over the same data; returns how long the start took.
    pub(crate) async fn kill_and_start(&mut self) -> Result<Duration> {
        let Running::Node(node) = &mut self.running else {
            bail!("only a node that was started here can be killed");
        };
        node.kill().await?;
        node.launch().await
    }

    /// Whether it was started here and can be restarted.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.running, Running::Node(_))
    }

    /// Ends it.
    pub(crate) async fn stop(self) -> Result {
        match self.running {
            Running::Node(mut node) => {
                let code = node.stop().await?;
                ensure!(code == Some(0), "the node ended with {code:?}");
            }
            Running::Relay(mut child) => child.kill().await?,
            Running::Other(other) => other.stop().await?,
            Running::Elsewhere { .. } => {}
        }
        Ok(())
    }
}
