use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::Result;
use crate::node::SECRET;
use crate::rest::{Admin, Rest};

/// Time a node gets to become ready or to stop.
const DEADLINE: Duration = Duration::from_secs(30);

/// The variable with the secret.
const SECRET_VARIABLE: &str = "ENTENTE_AUTH_SECRET";

/// How a node is started as a program.
#[derive(Clone)]
pub struct ProcessBuilder {
    program: PathBuf,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    under: Vec<String>,
    host: IpAddr,
    log: bool,
}

impl ProcessBuilder {
    /// Takes the secret from the data folder, where it lies from the first start on.
    pub fn own_secret(mut self) -> Self {
        self.variables.retain(|(name, _)| name != SECRET_VARIABLE);
        self
    }

    /// Keeps what the node says instead of showing it.
    pub fn keep_log(mut self) -> Self {
        self.log = true;
        self
    }

    /// The address at which it serves clients, instead of the loopback.
    pub fn host(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// Runs the node under another program, such as a tracer; its words come before the node's.
    /// The program must become the node, so that signals reach it.
    pub fn under(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.under = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets an environment variable of the node.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds an argument to `entente serve`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts the node over a new data folder.
    pub async fn start(self) -> Result<Process> {
        let mut process = self.prepare()?;
        process.launch().await?;
        Ok(process)
    }

    /// A node that does not run yet; its data folder does not exist.
    pub fn prepare(self) -> Result<Process> {
        let folder = tempfile::tempdir()?;
        Ok(Process { builder: self, api: free_port()?, ws: free_port()?, folder, child: None })
    }
}

/// A node that runs as a program of its own. Killed when dropped.
pub struct Process {
    builder: ProcessBuilder,
    api: u16,
    ws: u16,
    folder: TempDir,
    child: Option<Child>,
}

impl Process {
    /// A node of the program at `program`.
    pub fn builder(program: impl Into<PathBuf>) -> ProcessBuilder {
        let variables =
            [(SECRET_VARIABLE, SECRET), ("ENTENTE_BACKUP_PASSPHRASE", "a passphrase of tests")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        ProcessBuilder {
            program: program.into(),
            variables,
            arguments: Vec::new(),
            under: Vec::new(),
            host: Ipv4Addr::LOCALHOST.into(),
            log: false,
        }
    }

    /// Starts the program over the same data folder and ports, and waits until it answers.
    pub async fn launch(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.spawn()?;
        loop {
            if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the node ended with {status}");
            }
            if self.rest().is_up().await && tcp_open(self.at(self.ws)).await {
                return Ok(started.elapsed());
            }
            if started.elapsed() > DEADLINE {
                bail!("the node did not become ready");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts the program and does not wait for it.
    pub fn spawn(&mut self) -> Result {
        if self.child.is_some() {
            bail!("the node runs already");
        }
        let mut command = self.command_under(&self.builder.under, "serve");
        command
            .args(["--api", &self.at(self.api).to_string()])
            .args(["--ws", &self.at(self.ws).to_string()])
            .args(&self.builder.arguments)
            .stdout(Stdio::null());
        if self.builder.log {
            command.stderr(File::options().create(true).append(true).open(self.log_file())?);
        }
        let child = command.spawn();
        let child =
            child.with_context(|| format!("cannot run {}", self.builder.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// A command of the program on this node's data folder.
    pub fn command(&self, name: &str) -> Command {
        self.command_under(&[], name)
    }

    fn command_under(&self, under: &[String], name: &str) -> Command {
        let program = self.builder.program.as_os_str();
        let mut words = under.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command
            .args(words)
            .arg(name)
            .arg("--data")
            .arg(self.data())
            .envs(self.builder.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Copies its data folder; the node must not run.
    pub fn copy_data(&self, to: &Path) -> Result {
        copy_folder(&self.data(), to)
    }

    /// Puts another folder in place of its data; the node must not run.
    pub fn put_data(&self, from: &Path) -> Result {
        std::fs::remove_dir_all(self.data())?;
        copy_folder(from, &self.data())
    }

    /// A node that does not run yet over a copy of this one's data, at other ports. The words in
    /// `instead` take the place of arguments.
    pub fn copied(&self, instead: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        copy_folder(&self.data(), &folder.path().join("data"))?;
        let mut builder = self.builder.clone();
        for argument in &mut builder.arguments {
            if let Some((_, new)) = instead.iter().find(|(old, _)| old == argument) {
                *argument = (*new).to_owned();
            }
        }
        Ok(Self { builder, api: free_port()?, ws: free_port()?, folder, child: None })
    }

    /// Keeps what it says in a file from the next start on.
    pub fn set_log(&mut self) {
        self.builder.log = true;
    }

    /// A folder beside the data, removed at the end.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// Its REST API.
    pub fn rest(&self) -> Rest {
        let (api, ws) = (self.at(self.api), self.at(self.ws));
        Rest::new(format!("http://{api}"), format!("ws://{ws}"))
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.builder.host, port)
    }

    /// Sets an environment variable from the next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.builder.variables.push((name.to_owned(), value.to_owned()));
    }

    /// An app admin, logged in.
    pub async fn admin(&self) -> Result<Admin> {
        Admin::log_in(self.rest(), "imAdmin", SECRET).await
    }

    fn log_file(&self) -> PathBuf {
        self.scratch().join("log")
    }

    /// What it has said, where that is [kept](ProcessBuilder::keep_log).
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.log_file())?).into_owned())
    }

    /// Forgets what it has said.
    pub(crate) fn forget_log(&self) -> Result {
        Ok(File::create(self.log_file()).map(drop)?)
    }

    /// The exit code of a node that has ended by itself; `None`: it runs, or was killed.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        if ended.is_some() {
            self.child = None;
        }
        Ok(ended.and_then(|status| status.code()))
    }

    /// Process ID, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Ends it at once, as a power cut would.
    pub async fn kill(&mut self) -> Result {
        let Some(mut child) = self.child.take() else { bail!("the node does not run") };
        child.kill().await?;
        Ok(())
    }

    /// Asks it to end and waits; returns its exit code.
    pub async fn stop(&mut self) -> Result<Option<i32>> {
        let Some(mut child) = self.child.take() else { bail!("the node does not run") };
        let Some(id) = child.id() else { bail!("the node has ended already") };
        let status = Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        anyhow::ensure!(status.success(), "cannot signal the node");
        let status = tokio::time::timeout(DEADLINE, child.wait()).await??;
        Ok(status.code())
    }
}

/// A port that nobody has, for TCP and UDP: below those that the system gives to connections, so that
/// it is still free when a node that was killed comes back.
pub fn free_port() -> Result<u16> {
    for _ in 0..1_000 {
        let port = rand::random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            return Ok(port);
        }
    }
    bail!("no port is free");
}

/// Copies a folder with its files; sockets are left out.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

async fn tcp_open(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}
