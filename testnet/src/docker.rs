//! Three organisations as containers: the image is built from a static program, each pair of nodes
//! has a network of its own, and it is tried whether friends and groups work between them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::organisations::elsewhere;
use crate::{Admin, Client, Rest, Result, SECRET, Wire, text_message};

/// Name of the image, as in compose.yaml.
const IMAGE: &str = "entente:testnet";
/// Name of the project, with which the names of its networks begin.
const PROJECT: &str = "entente";
/// The organisations.
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
/// Ports of their clients, as in compose.yaml: the API and the gateway of the first.
const API: usize = 12_000;
const WS: usize = 13_000;
/// Time for something to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the image and the containers are made from.
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");
const COMPOSE: &str = include_str!("../docker/compose.yaml");

/// Options of `testnet docker`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Starts dockerd if it does not run. Exit code 1: something does not work.")]
pub struct Options {
    /// Program to put into the image; it must be static.
    #[arg(
        long,
        value_name = "PROGRAM",
        default_value = "target/x86_64-unknown-linux-musl/release/entente"
    )]
    server: PathBuf,
    /// Leave the containers running.
    #[arg(long)]
    keep: bool,
}

/// Builds the image, starts the organisations and tries them.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let docker = Docker::start().await?;
        let began = Instant::now();
        docker.build(&options.server).await?;
        println!("{:>6.1} s  the image is built", began.elapsed().as_secs_f64());
        let tried = docker.try_it(began).await;
        if !options.keep {
            docker.compose(&["down", "--volumes", "--timeout", "10"]).await?;
        }
        if let Err(error) = tried {
            println!("FAILED: {error:#}");
            return Ok(false);
        }
        if options.keep {
            for (at, name) in NAMES.iter().enumerate() {
                println!("{name}: API http://127.0.0.1:{}, secret {SECRET}", API + at);
            }
        }
        Ok(true)
    })
}

/// Docker, and the folder with what it needs.
struct Docker {
    folder: tempfile::TempDir,
    /// `docker compose` or `docker-compose`.
    compose: Vec<&'static str>,
    /// The daemon, if it did not run.
    _daemon: Option<Child>,
}

impl Docker {
    async fn start() -> Result<Self> {
        let compose = compose().await?;
        let mut daemon = None;
        if !succeeds("docker", &["info"]).await {
            let log = std::fs::File::create(std::env::temp_dir().join("dockerd.log"))?;
            let started = Command::new("dockerd")
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .context("Docker does not run, and there is no dockerd to start")?;
            daemon = Some(started);
            within("dockerd starts", async || Ok(succeeds("docker", &["info"]).await)).await?;
        }
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("data"))?;
        std::fs::write(folder.path().join("Dockerfile"), DOCKERFILE)?;
        std::fs::write(folder.path().join("compose.yaml"), COMPOSE)?;
        Ok(Self { folder, compose, _daemon: daemon })
    }

    async fn build(&self, program: &Path) -> Result {
        let copied = std::fs::copy(program, self.folder.path().join("entente"));
        copied.with_context(|| format!("no static program {}", program.display()))?;
        said("docker", &["build", "--quiet", "--tag", IMAGE, &self.path("")]).await?;
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    async fn compose(&self, words: &[&str]) -> Result<String> {
        let file = self.path("compose.yaml");
        let [program, first @ ..] = self.compose.as_slice() else { bail!("no compose") };
        let mut all: Vec<&str> = first.to_vec();
        all.extend(["--project-name", PROJECT, "--file", &file]);
        all.extend(words);
        said(program, &all).await
    }

    /// Runs a command of the program on the data of an organisation.
    async fn command(&self, name: &str, words: &[&str]) -> Result<Value> {
        let mut all = vec!["run", "--rm", "-T", name];
        all.extend(words);
        all.push("--json");
        Ok(serde_json::from_str(&self.compose(&all).await?)?)
    }

    /// What a command of the program prints in the container of an organisation that runs.
    async fn inside(&self, name: &str, words: &[&str]) -> Result<String> {
        let node = self.container(name).await?;
        said("docker", &[&["exec", &node, "entente"], words].concat()).await
    }

    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    async fn try_it(&self, began: Instant) -> Result {
        let step = |what: &str| println!("{:>6.1} s  {what}", began.elapsed().as_secs_f64());
        let mut keys = Vec::new();
        for name in NAMES {
            let key = self.command(name, &["federation", "key", "show"]).await?;
            keys.push(key["peer_id"].as_str().context("no peer ID")?.to_owned());
        }
        for name in NAMES {
            for (other, key) in NAMES.iter().zip(&keys).filter(|(other, _)| **other != name) {
                let (domain, address) = (domain(other), address(other));
                let words = ["federation", "pin", &domain, key, &address];
                self.command(name, &words).await?;
            }
        }
        self.compose(&["up", "--detach"]).await?;
        let mut users = Vec::new();
        for at in 0..NAMES.len() {
            users.push(user(at).await?);
        }
        step("the nodes run");
        for name in NAMES {
            let users = self.inside(name, &["user", "list"]).await?;
            ensure!(users.lines().any(|line| line.starts_with("u\t")), "{name}: {users}");
            let node = self.container(name).await?;
            within("a node is healthy", async || {
                let words = ["inspect", "--format", "{{.State.Health.Status}} {{.Config.User}}"];
                let state = said("docker", &[&words[..], &[&node]].concat()).await?;
                Ok(state.trim() == "healthy 10001:10001")
            })
            .await?;
        }
        step("commands work in the containers, which are healthy and not root");
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            chat(&users, from, to).await?;
        }
        step("messages cross between all three");
        let group = make_group(&users).await?;
        let mut sent = Vec::new();
        for at in 0..NAMES.len() {
            sent.push(say(&users, at, &group).await?);
        }
        all_see(&users, &group, &sent).await?;
        step("a group of all three has the same messages everywhere");
        let (network, node) = (format!("{PROJECT}_alpha-beta"), self.container("beta").await?);
        said("docker", &["network", "disconnect", &network, &node]).await?;
        sent.push(say(&users, 0, &group).await?);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let words = ["network", "connect", "--alias", "beta", &network, &node];
        said("docker", &words).await?;
        all_see(&users, &group, &sent).await?;
        step("what was written while a network was cut has arrived");
        self.compose(&["restart", "gamma"]).await?;
        sent.push(say(&users, 1, &group).await?);
        all_see(&users, &group, &sent).await?;
        step("a node was restarted and has caught up");
        Ok(())
    }

    async fn container(&self, name: &str) -> Result<String> {
        Ok(self.compose(&["ps", "-q", name]).await?.trim().to_owned())
    }
}

/// How Compose is called.
async fn compose() -> Result<Vec<&'static str>> {
    for words in [vec!["docker", "compose"], vec!["docker-compose"]] {
        let mut all = words[1..].to_vec();
        all.push("version");
        if succeeds(words[0], &all).await {
            return Ok(words);
        }
    }
    bail!(
        "neither `docker compose` nor `docker-compose` is there; on Debian: \
         apt-get install docker.io docker-compose"
    )
}

fn domain(name: &str) -> String {
    format!("{name}.example")
}

/// Where a node is for those who share a network with it.
fn address(name: &str) -> String {
    format!("/dns/{name}/udp/10003/quic-v1")
}

async fn user(at: usize) -> Result<Client> {
    let rest =
        Rest::new(format!("http://127.0.0.1:{}", API + at), format!("ws://127.0.0.1:{}", WS + at));
    within("a node answers", async || Ok(rest.is_up().await)).await?;
    Admin::log_in(rest, "imAdmin", SECRET).await?.user("u").await
}

/// The ID of something of one organisation for clients of another.
fn form(id: &str, home: usize, at: usize) -> String {
    if home == at { id.to_owned() } else { elsewhere(id, &domain(NAMES[home])) }
}

async fn chat(users: &[Client], from: usize, to: usize) -> Result {
    let (receiver, sender) = (form("u", to, from), form("u", from, to));
    let mut socket = users[from].connect(Wire::GOB_GZIP).await?;
    // The other node may not be up yet.
    within("a message is taken", async || Ok(socket.send_text(&receiver, "across").await.is_ok()))
        .await?;
    let mut socket = users[to].connect(Wire::GOB_GZIP).await?;
    within("a message crosses", async || {
        Ok(socket.history(&sender).await?.iter().any(|message| message.send_id == sender))
    })
    .await
}

async fn make_group(users: &[Client]) -> Result<String> {
    let members: Vec<String> = (1..NAMES.len()).map(|at| form("u", at, 0)).collect();
    let body = json!({
        "ownerUserID": "u", "memberUserIDs": members,
        "groupInfo": { "groupName": "all", "groupType": 2 },
    });
    let made = users[0].call("/group/create_group", body).await?;
    let group = made["groupInfo"]["groupID"].as_str().context("no group")?.to_owned();
    for (at, user) in users.iter().enumerate() {
        let id = form(&group, 0, at);
        let body = json!({
            "fromUserID": "u", "pagination": { "pageNumber": 1, "showNumber": 10 },
        });
        within("a group is joined", async || {
            let joined = user.call("/group/get_joined_group_list", &body).await?;
            Ok(joined.to_string().contains(&id))
        })
        .await?;
    }
    Ok(group)
}

async fn say(users: &[Client], at: usize, group: &str) -> Result<String> {
    let mut message = text_message("u", "", "to all");
    message.client_msg_id = format!("{}-{}", NAMES[at], message.client_msg_id);
    message.group_id = form(group, 0, at);
    message.session_type = 3;
    users[at].connect(Wire::GOB_GZIP).await?.send(&message).await?;
    Ok(message.client_msg_id)
}

/// Waits until all have the same messages of the group with the same seqs, and each that was sent.
async fn all_see(users: &[Client], group: &str, sent: &[String]) -> Result {
    within("all see the same", async || {
        let mut seen = Vec::new();
        for (at, user) in users.iter().enumerate() {
            let id = format!("sg_{}", form(group, 0, at));
            let mut socket = user.connect(Wire::GOB_GZIP).await?;
            let messages = socket.history_from(&id, 1).await?.into_iter();
            seen.push(messages.map(|m| (m.seq, m.client_msg_id)).collect::<Vec<_>>());
        }
        let all = sent.iter().all(|id| seen[0].iter().filter(|(_, seen)| seen == id).count() == 1);
        Ok(all && seen.iter().all(|other| *other == seen[0]))
    })
    .await
}

async fn within(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    let began = Instant::now();
    while !is_so().await? {
        ensure!(began.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn succeeds(program: &str, words: &[&str]) -> bool {
    Command::new(program).args(words).output().await.is_ok_and(|output| output.status.success())
}

/// What a command prints; an error is what it complains about.
async fn said(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(words)
        .env("SECRET", SECRET)
        .output()
        .await
        .with_context(|| format!("cannot run {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {error}", words.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}
