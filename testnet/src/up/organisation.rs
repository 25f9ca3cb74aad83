//! One organisation: its node, as a program of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::peers_of;
use crate::Result;
use crate::organisations::ELSEWHERE;
use crate::rest::{Admin, Client, Rest};

/// Time a node gets to become ready or to stop.
const DEADLINE: Duration = Duration::from_secs(30);
/// Platform of the users.
const WEB: i32 = 5;

pub(super) struct Organisation {
    program: PathBuf,
    name: &'static str,
    user: &'static str,
    domain: String,
    data: PathBuf,
    port: u16,
    peer_id: String,
    child: Option<Child>,
}

impl Organisation {
    /// An organisation whose node has a key and does not run yet.
    pub(super) async fn prepare(
        program: &Path,
        folder: &Path,
        name: &'static str,
        user: &'static str,
        port: u16,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let mut organisation = Self {
            program: program.to_owned(),
            name,
            user,
            domain: format!("{name}.example"),
            data: folder.join(name),
            port,
            peer_id: String::new(),
            child: None,
        };
        let key = organisation.command(&["federation", "key", "show"]).await?;
        organisation.peer_id = key["peer_id"].as_str().context("no peer ID")?.to_owned();
        Ok(organisation)
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn federation_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port + 3).into()
    }

    fn rest(&self) -> Rest {
        let (api, ws) = (self.port + 2, self.port + 1);
        Rest::new(format!("http://127.0.0.1:{api}"), format!("ws://127.0.0.1:{ws}"))
    }

    /// Runs a command on the data folder and returns what it says.
    async fn command(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(&self.program)
            .args(words)
            .arg("--json")
            .arg("--data")
            .arg(&self.data)
            .stdin(Stdio::null())
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{words:?}: {error}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Trusts another organisation, which is reached through a relay on `port`.
    pub(super) async fn pin(&self, other: &Self, port: u16) -> Result {
        let address = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
        self.command(&["federation", "pin", &other.domain, &other.peer_id, &address]).await?;
        Ok(())
    }

    pub(super) async fn peers(&self) -> Result<Vec<Value>> {
        if self.child.is_none() {
            return Ok(Vec::new());
        }
        Ok(peers_of(&self.command(&["federation", "peers"]).await?))
    }

    /// Starts the node and waits until it answers.
    pub(super) async fn launch(&mut self) -> Result {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = File::create(self.data.with_extension("log"))?;
        let child = Command::new(&self.program)
            .arg("serve")
            .args(["--data".as_ref(), self.data.as_os_str()])
            .args(["--api", &format!("127.0.0.1:{}", self.port + 2)])
            .args(["--ws", &format!("127.0.0.1:{}", self.port + 1)])
            .args(["--domain", &self.domain])
            .args(["--federation", &self.federation_address().to_string()])
            .env(ELSEWHERE.0, ELSEWHERE.1)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let child = self.child.insert(child);
        let began = Instant::now();
        let rest = Rest::new(format!("http://127.0.0.1:{}", self.port + 2), String::new());
        while !rest.is_up().await {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}; see {}.log", self.name, self.data.display());
            }
            ensure!(began.elapsed() < DEADLINE, "{} did not become ready", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Ends the node at once.
    pub(super) async fn kill(&mut self) -> Result {
        let Some(mut child) = self.child.take() else { bail!("{} does not run", self.name) };
        Ok(child.kill().await?)
    }

    /// Asks the node to end and waits, if it runs.
    pub(super) async fn stop(&mut self) -> Result {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(id) = child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        }
        tokio::time::timeout(DEADLINE, child.wait()).await??;
        Ok(())
    }

    pub(super) async fn admin(&self) -> Result<Admin> {
        let secret = std::fs::read_to_string(self.data.join("secret"))?;
        Admin::log_in(self.rest(), "imAdmin", secret.trim()).await
    }

    /// The first user, registered if need be.
    pub(super) async fn user(&self) -> Result<Client> {
        let admin = self.admin().await?;
        let known = serde_json::json!({ "checkUserIDs": [self.user] });
        let checked = admin.client.call("/user/account_check", known).await?;
        if checked["results"][0]["accountStatus"] != 1 {
            admin.register(&[self.user]).await?;
        }
        admin.client(self.user, WEB).await
    }

    /// How the node fares, in a line.
    pub(super) fn row(&self) -> String {
        let Some(id) = self.child.as_ref().and_then(Child::id) else {
            return format!("{:<20} stopped", self.domain);
        };
        let memory = std::fs::read_to_string(format!("/proc/{id}/statm")).unwrap_or_default();
        let pages: u64 =
            memory.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        format!("{:<20} runs, {} MiB", self.domain, pages * 4 / 1_024)
    }
}
