//! The folder that is damaged: a node that has worked for a while, with another organisation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::folder;
use super::look::{self, Opened};
use super::sight::Sight;
use crate::organisations::{ELSEWHERE, elsewhere, federation, multiaddr};
use crate::random::Random;
use crate::{Client, Process, Result, SECRET, Wire, free_port, text_message, upload};

/// Users of the node.
const USERS: usize = 16;
/// Groups, and members of each.
const GROUPS: usize = 4;
const MEMBERS: usize = 6;
/// Files that users have uploaded.
const UPLOADS: usize = 4;
/// Platform of the users.
const PLATFORM: i32 = 2;
/// Domains of the node and of the other one.
const DOMAIN: &str = "node0.example";
const OTHER: &str = "node1.example";
/// Time that messages get to arrive elsewhere.
const SETTLES: Duration = Duration::from_secs(60);
/// Time under load before the kill.
const LOAD: Duration = Duration::from_millis(1_500);

/// A folder as it lies on disk, and what is in it.
pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) folder: PathBuf,
    /// The folder some time ago.
    pub(super) older: PathBuf,
    /// File with all entries.
    pub(super) facts: PathBuf,
    pub(super) entries: usize,
    /// What clients see.
    pub(super) sight: Sight,
}

/// Everything that rounds need.
pub(super) struct Built {
    pub(super) states: Vec<State>,
    /// A backup of the first state, and what its clients are.
    pub(super) backup: PathBuf,
    /// A folder as it was before there were journals.
    pub(super) before_journals: PathBuf,
    /// The folder of the other node, as it was when the first was killed, and where it listens.
    other: (PathBuf, String),
    pub(super) people: People,
    _work: TempDir,
}

/// The users of the node.
#[derive(Clone)]
pub(super) struct People {
    pub(super) clients: Vec<Client>,
    groups: Vec<String>,
    /// A user of the other organisation.
    stranger: String,
    /// Links to what was uploaded.
    pub(super) uploads: Vec<String>,
}

impl Built {
    /// Lets a node work, stops it and kills it.
    pub(super) async fn make(server: &Path, messages: usize, random: &mut Random) -> Result<Self> {
        let work = tempfile::tempdir()?;
        let at = |name: &str| work.path().join(name);
        let (mut node, mut other) = (new(server, DOMAIN)?, new(server, OTHER)?);
        meet(&node, &other).await?;
        node.process.launch().await?;
        other.process.launch().await?;
        let people = People::come(&node.process, &other.process).await?;
        people.write(&node.process, messages / 2, random.next()).await?;
        until_sent(&node.process).await?;
        node.process.stop().await?;
        folder::copy(&node.process.data(), &at("first"))?;

        node.process.launch().await?;
        people.write(&node.process, messages - messages / 2, random.next()).await?;
        until_sent(&node.process).await?;
        node.process.stop().await?;
        folder::copy(&node.process.data(), &at("closed"))?;
        let backup = at("backup");
        let mut command = node.process.command("backup");
        let done = command.arg(&backup).output().await?;
        ensure!(done.status.success(), "backup: {}", String::from_utf8_lossy(&done.stderr));

        node.process.launch().await?;
        let load = people.load(&node.process, random.next());
        tokio::time::sleep(LOAD).await;
        node.process.kill().await?;
        drop(load);
        folder::copy(&node.process.data(), &at("killed"))?;
        other.process.stop().await?;
        folder::copy(&other.process.data(), &at("other"))?;

        let mut states = Vec::new();
        for (name, state, older) in
            [("stopped", at("closed"), at("first")), ("killed", at("killed"), at("closed"))]
        {
            states.push(State::of(server, name, state, older, &people).await?);
        }
        let before_journals = at("before-journals");
        super::sound::unpack(&before_journals)?;
        let other = (at("other"), other.listen);
        Ok(Self { states, backup, before_journals, other, people, _work: work })
    }

    /// The other node, on a copy of its folder; it does not run yet. There can be one at a time.
    pub(super) fn other(&self, server: &Path) -> Result<Process> {
        let (folder, listen) = &self.other;
        let node = prepare(server, OTHER, listen)?;
        folder::copy(folder, &node.data())?;
        Ok(node)
    }
}

impl State {
    async fn of(
        server: &Path,
        name: &'static str,
        folder: PathBuf,
        older: PathBuf,
        people: &People,
    ) -> Result<Self> {
        let copy = tempfile::tempdir()?;
        folder::copy(&folder.join("store"), copy.path())?;
        let held = match look::at(copy.path(), None).await? {
            Opened::Holds(held) => held,
            other => bail!("the {name} folder does not open: {other:?}"),
        };
        let facts = folder.with_extension("facts");
        std::fs::write(&facts, serde_json::to_vec(&held)?)?;
        let mut node = node_at(server, &folder)?;
        node.launch().await?;
        let sight = Sight::of(&node, people).await?;
        node.stop().await?;
        Ok(Self { name, folder, older, facts, entries: held.len(), sight })
    }
}

/// A node and where it listens for others.
struct Made {
    process: Process,
    listen: String,
    address: String,
}

/// A node that does not run yet.
fn new(server: &Path, domain: &str) -> Result<Made> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let process = prepare(server, domain, &listen)?;
    std::fs::create_dir_all(process.data())?;
    std::fs::write(process.data().join("secret"), SECRET)?;
    let address = multiaddr(listen.parse()?);
    Ok(Made { process, listen, address })
}

fn prepare(server: &Path, domain: &str, listen: &str) -> Result<Process> {
    let builder = Process::builder(server).own_secret().keep_log();
    let builder = builder.variable("ENTENTE_LOG_LEVEL", "warn").variable(ELSEWHERE.0, ELSEWHERE.1);
    let words = ["--domain", domain, "--federation", listen];
    words.iter().fold(builder, |builder, word| builder.argument(word)).prepare()
}

/// A node on a copy of a folder, which does not run yet.
pub(super) fn node_at(server: &Path, from: &Path) -> Result<Process> {
    let node = prepare(server, DOMAIN, &format!("127.0.0.1:{}", free_port()?))?;
    folder::copy(from, &node.data())?;
    Ok(node)
}

/// A node without a folder, which does not run yet.
pub(super) fn fresh(server: &Path) -> Result<Process> {
    prepare(server, DOMAIN, &format!("127.0.0.1:{}", free_port()?))
}

/// Makes two nodes trust each other.
async fn meet(one: &Made, other: &Made) -> Result {
    for (at, to, domain) in [(one, other, OTHER), (other, one, DOMAIN)] {
        let key = federation(&to.process, &["key", "show"]).await?;
        let peer_id = key["peer_id"].as_str().context("no peer ID")?;
        federation(&at.process, &["pin", domain, peer_id, &to.address]).await?;
    }
    Ok(())
}

/// Waits until nothing is queued for the other node.
pub(super) async fn until_sent(node: &Process) -> Result {
    let began = std::time::Instant::now();
    loop {
        let peers = federation(node, &["peers"]).await?;
        let peers = peers["peers"].as_array().context("no peers")?;
        if peers.iter().all(|peer| peer["queued"] == 0) {
            return Ok(());
        }
        ensure!(began.elapsed() < SETTLES, "messages are stuck: {peers:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl People {
    async fn come(node: &Process, other: &Process) -> Result<Self> {
        let there = other.admin().await?;
        there.register(&["eve"]).await?;
        let stranger = elsewhere("eve", OTHER);
        let admin = node.admin().await?;
        let ids: Vec<String> = (0..USERS).map(|at| format!("u{at}")).collect();
        admin.register(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let mut clients = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let client = admin.client(id, PLATFORM).await?;
            // Too long for the index itself.
            let long = json!({ "userInfo": { "userID": id, "ex": "x".repeat(500 + 100 * at) } });
            client.call("/user/update_user_info_ex", long).await?;
            let friends: Vec<&String> = (1..4).map(|step| &ids[(at + step) % USERS]).collect();
            let body = json!({ "ownerUserID": id, "friendUserIDs": friends });
            admin.client.call("/friend/import_friend", body).await?;
            clients.push(client);
        }
        let mut groups = Vec::new();
        for at in 0..GROUPS {
            let mut members: Vec<String> =
                (1..MEMBERS).map(|step| ids[(at * 3 + step) % USERS].clone()).collect();
            if at == 0 {
                members.push(stranger.clone());
            }
            let body = json!({
                "ownerUserID": ids[at * 3 % USERS], "memberUserIDs": members,
                "groupInfo": { "groupName": format!("g{at}"), "groupType": 2,
                    "introduction": "about ".repeat(200) },
            });
            let made = clients[at * 3 % USERS].call("/group/create_group", body).await?;
            groups.push(made["groupInfo"]["groupID"].as_str().context("no group")?.to_owned());
        }
        let mut uploads = Vec::new();
        for (at, client) in clients.iter().take(UPLOADS).enumerate() {
            let content: Vec<u8> =
                (0..2_000 * (1 + 10 * at)).map(|byte| (byte * 7 + at) as u8).collect();
            let name = format!("{}/file{at}", client.user_id);
            uploads.push(upload::upload(client, &name, "application/pdf", &content).await?);
        }
        Ok(Self { clients, groups, stranger, uploads })
    }

    /// The same people at another process.
    pub(super) fn at(&self, node: &Process) -> Vec<Client> {
        self.clients.iter().map(|client| Client { rest: node.rest(), ..client.clone() }).collect()
    }

    /// To whom a user writes its n-th message.
    fn target(&self, user: usize, turn: usize) -> Target {
        match turn % 8 {
            7 => Target::User(self.stranger.clone()),
            5 | 6 => {
                let group =
                    (0..GROUPS).find(|group| (user + USERS - group * 3 % USERS) % USERS < MEMBERS);
                let to = |group: usize| Target::Group(self.groups[group].clone());
                group.map_or_else(|| Target::User(format!("u{}", (user + 1) % USERS)), to)
            }
            turn => Target::User(format!("u{}", (user + 1 + turn % 3) % USERS)),
        }
    }

    /// Somebody writes to the user of the other organisation. A node whose data went back in time may
    /// be starting anew just then.
    pub(super) async fn write_elsewhere(&self, node: &Process) -> Result {
        let client = self.at(node).into_iter().next().context("nobody is there")?;
        let message = text_message(&client.user_id, &self.stranger, "again");
        let began = std::time::Instant::now();
        let send = async || client.connect(Wire::GOB_GZIP).await?.send(&message).await;
        while let Err(error) = send().await {
            ensure!(began.elapsed() < SETTLES, "nothing can be sent: {error:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Everybody writes at the same time.
    async fn write(&self, node: &Process, messages: usize, seed: u64) -> Result {
        let mut senders = self.senders(node, messages / USERS + 1, seed);
        while let Some(done) = senders.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Everybody writes until the node goes away, or this is dropped.
    pub(super) fn load(&self, node: &Process, seed: u64) -> JoinSet<Result> {
        self.senders(node, usize::MAX, seed)
    }

    fn senders(&self, node: &Process, each: usize, seed: u64) -> JoinSet<Result> {
        let mut senders = JoinSet::new();
        for (user, client) in self.at(node).into_iter().enumerate() {
            let (people, mut random) = (self.clone(), Random::new(seed ^ user as u64));
            senders.spawn(async move {
                let mut socket = client.connect(Wire::GOB_GZIP).await?;
                for turn in 0..each {
                    let text = "word ".repeat(1 + random.below(40));
                    let mut message = match people.target(user, turn) {
                        Target::User(to) => text_message(&client.user_id, &to, &text),
                        Target::Group(to) => {
                            let mut message = text_message(&client.user_id, "", &text);
                            message.group_id = to;
                            message.session_type = 3;
                            message
                        }
                    };
                    message.create_time = turn as i64;
                    socket.send(&message).await?;
                    socket.kept();
                }
                Ok(())
            });
        }
        senders
    }
}

enum Target {
    User(String),
    Group(String),
}
