//! Several nodes under load that are killed, with links that lose, delay and cut.

pub mod copies;
pub mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use proto::sdkws::MsgData;
use serde_json::json;
use tokio::task::JoinSet;

use super::Report;
use crate::link::Link;
use crate::organisations::{ELSEWHERE, Organisation, elsewhere, federation};
use crate::random::Random;
use crate::{Client, Process, Result, Wire, text_message};

/// Users of each node.
const USERS: usize = 2;
/// Longest time under load before a kill, in milliseconds.
const LOAD_MS: usize = 600;
/// Rounds between two looks at everything.
const CHECK_EVERY: usize = 10;
/// Time that everything gets to arrive when all is whole again.
const SETTLES: Duration = Duration::from_secs(120);
/// Platform of the users.
const PLATFORM: i32 = 2;

/// One user.
struct User {
    node: usize,
    id: String,
    client: Client,
    /// To whom it writes: a user of the next node.
    peer: usize,
    /// A message without an answer; it is sent again, as an SDK does.
    unanswered: Mutex<Option<MsgData>>,
    /// clientMsgIDs that were acknowledged: to the peer, to the group.
    acknowledged: Mutex<[Vec<String>; 2]>,
}

struct World {
    nodes: Vec<Process>,
    domains: Vec<String>,
    links: Vec<Arc<Link>>,
    users: Vec<Arc<User>>,
    /// The group of all, whose home is the first node.
    group: String,
}

/// Kills nodes `rounds` times and checks that they agree in the end; an error says what was lost.
pub async fn rounds(
    server: &Path,
    nodes: usize,
    rounds: usize,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<Report> {
    let mut random = Random::new(seed);
    let mut world = World::start(server, nodes).await?;
    let mut report = Report::default();
    for round in 0..rounds {
        world.round(&mut random, &mut report).await.with_context(|| format!("round {round}"))?;
        if (round + 1) % CHECK_EVERY == 0 || round + 1 == rounds {
            let checked = world.check(&mut report).await;
            checked.with_context(|| format!("after round {round}, seed {seed}"))?;
        }
        progress(round);
    }
    world.end().await?;
    Ok(report)
}

impl World {
    async fn start(server: &Path, count: usize) -> Result<Self> {
        let mut organisations = Vec::new();
        for index in 0..count {
            let variables = [("ENTENTE_LOG_LEVEL", "error"), ELSEWHERE];
            organisations.push(Organisation::prepare(server, index, &variables).await?);
        }
        let mut links = Vec::new();
        for one in &organisations {
            for other in organisations.iter().filter(|other| other.domain != one.domain) {
                links.push(one.pin_through_relay(other).await?);
            }
        }
        let (mut nodes, mut domains) = (Vec::new(), Vec::new());
        for mut organisation in organisations {
            organisation.node.launch().await?;
            nodes.push(organisation.node);
            domains.push(organisation.domain);
        }
        let mut users = Vec::new();
        for index in 0..count * USERS {
            let (node, id) = (index / USERS, format!("u{index}"));
            let admin = nodes[node].admin().await?;
            admin.register(&[&id]).await?;
            let client = admin.client(&id, PLATFORM).await?;
            users.push(Arc::new(User {
                node,
                id,
                client,
                peer: (index + USERS) % (count * USERS),
                unanswered: Mutex::default(),
                acknowledged: Mutex::default(),
            }));
        }
        let mut world = Self { nodes, domains, links, users, group: String::new() };
        world.make_group().await?;
        Ok(world)
    }

    /// The ID of a user, or of another thing of a node, as clients of `at` see it.
    fn form(&self, id: &str, home: usize, at: usize) -> String {
        if home == at {
            return id.to_owned();
        }
        elsewhere(id, &self.domains[home])
    }

    async fn make_group(&mut self) -> Result {
        let members: Vec<String> =
            self.users.iter().skip(1).map(|user| self.form(&user.id, user.node, 0)).collect();
        let body = json!({
            "ownerUserID": self.users[0].id, "memberUserIDs": members,
            "groupInfo": { "groupName": "all", "groupType": 2 },
        });
        let made = self.users[0].client.call("/group/create_group", body).await?;
        self.group = made["groupInfo"]["groupID"].as_str().context("no group")?.to_owned();
        for user in &self.users {
            let id = self.form(&self.group, 0, user.node);
            let body = json!({
                "fromUserID": user.id, "pagination": { "pageNumber": 1, "showNumber": 10 },
            });
            until("a group is joined", async || {
                let joined = user.client.call("/group/get_joined_group_list", &body).await?;
                Ok(joined.to_string().contains(&id))
            })
            .await?;
        }
        Ok(())
    }

    /// Lets everybody write, disturbs the links, and kills a node.
    async fn round(&mut self, random: &mut Random, report: &mut Report) -> Result {
        for link in &self.links {
            link.disturb(random);
        }
        let mut load = JoinSet::new();
        self.begin_writing(&mut load, |_| true);
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        let victim = random.below(self.nodes.len());
        self.nodes[victim].kill().await?;
        report.kills += 1;
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        load.shutdown().await;
        super::verify(&self.nodes[victim]).await?;
        self.nodes[victim].launch().await?;
        Ok(())
    }

    /// Lets users write until `load` ends or their connections do.
    fn begin_writing(&self, load: &mut JoinSet<()>, who: impl Fn(&User) -> bool) {
        for user in self.users.iter().filter(|user| who(user)) {
            let peer = &self.users[user.peer];
            let to = self.form(&peer.id, peer.node, user.node);
            let group = self.form(&self.group, 0, user.node);
            load.spawn(send(Arc::clone(user), to, group));
        }
    }

    fn heal_links(&self) {
        for link in &self.links {
            link.heal();
        }
    }

    /// Stops all nodes and checks their data.
    async fn end(mut self) -> Result {
        for node in &mut self.nodes {
            node.stop().await?;
            super::verify(node).await?;
        }
        Ok(())
    }

    /// Heals all links and waits until everything that was queued has arrived.
    async fn settle(&self) -> Result {
        self.heal_links();
        for (node, domain) in self.nodes.iter().zip(&self.domains) {
            let began = Instant::now();
            loop {
                let peers = federation(node, &["peers"]).await?;
                let peers = peers["peers"].as_array().cloned().unwrap_or_default();
                for peer in &peers {
                    ensure!(peer["quarantined"] == 0, "{domain} put events aside: {peer}");
                }
                if peers.iter().all(|peer| peer["queued"] == 0) {
                    break;
                }
                ensure!(began.elapsed() < SETTLES, "{domain}: events are stuck: {peers:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    async fn check(&self, report: &mut Report) -> Result {
        self.settle().await?;
        self.check_pairs(report).await?;
        self.check_group(report).await
    }

    /// Looks at all chats of two.
    async fn check_pairs(&self, report: &mut Report) -> Result {
        self.check_pairs_in(true, report).await
    }

    /// The same; without `order` only that nothing is missing or there twice.
    async fn check_pairs_in(&self, order: bool, report: &mut Report) -> Result {
        for user in &self.users {
            let peer = &self.users[user.peer];
            let acknowledged = user.acknowledged.lock()[0].clone();
            report.messages += acknowledged.len();
            let mut orders = Vec::new();
            for (at, other) in [(user, peer), (peer, user)] {
                let other = self.form(&other.id, other.node, at.node);
                let mut socket = at.client.connect(Wire::GOB_GZIP).await?;
                let seen = socket.history(&other).await?;
                let author = self.form(&user.id, user.node, at.node);
                let of_user = seen.iter().filter(|message| message.send_id == author);
                let ids: Vec<String> =
                    of_user.map(|message| message.client_msg_id.clone()).collect();
                let what = format!("{} to {}, seen by {}", user.id, peer.id, at.id);
                if order {
                    check_ids(&ids, &acknowledged, &what)?;
                    orders.push(ids);
                } else {
                    check_there(&ids, &acknowledged, &what)?;
                }
            }
            let same = orders.windows(2).all(|pair| pair[0] == pair[1]);
            ensure!(same, "{} and {} see another order", user.id, peer.id);
        }
        Ok(())
    }

    async fn check_group(&self, report: &mut Report) -> Result {
        let mut expected: Option<Vec<String>> = None;
        for user in &self.users {
            let id = format!("sg_{}", self.form(&self.group, 0, user.node));
            let mut socket = user.client.connect(Wire::GOB_GZIP).await?;
            let seen = socket.history_from(&id, 1).await?;
            ensure!(
                seen.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq),
                "seqs of the group have gaps at {}",
                user.id
            );
            let ids: Vec<String> = seen.into_iter().map(|message| message.client_msg_id).collect();
            match &expected {
                None => expected = Some(ids),
                Some(expected) => ensure!(
                    *expected == ids,
                    "{} sees {} messages of the group, others {}",
                    user.id,
                    ids.len(),
                    expected.len()
                ),
            }
        }
        let all = expected.unwrap_or_default();
        for user in &self.users {
            let acknowledged = user.acknowledged.lock()[1].clone();
            report.messages += acknowledged.len();
            let own = format!("{}-", user.id);
            let ids: Vec<String> = all.iter().filter(|id| id.starts_with(&own)).cloned().collect();
            check_ids(&ids, &acknowledged, &format!("{} to the group", user.id))?;
        }
        Ok(())
    }
}

/// What was acknowledged is there, and nothing twice.
fn check_there(there: &[String], acknowledged: &[String], what: &str) -> Result {
    let distinct: BTreeSet<&String> = there.iter().collect();
    ensure!(distinct.len() == there.len(), "{what}: a message is there twice");
    for id in acknowledged {
        ensure!(distinct.contains(id), "{what}: {id} was acknowledged and is lost");
    }
    Ok(())
}

/// The same, and all is in the order of writing.
fn check_ids(there: &[String], acknowledged: &[String], what: &str) -> Result {
    check_there(there, acknowledged, what)?;
    let places: BTreeMap<&String, usize> =
        there.iter().enumerate().map(|(at, id)| (id, at)).collect();
    let places: Vec<usize> = acknowledged.iter().filter_map(|id| places.get(id).copied()).collect();
    ensure!(places.is_sorted(), "{what}: messages are out of order");
    Ok(())
}

/// Writes to the peer and to the group in turn until the connection breaks.
async fn send(user: Arc<User>, to: String, group: String) {
    let Ok(mut socket) = user.client.connect(Wire::GOB_GZIP).await else { return };
    let mut turn = 0_u32;
    loop {
        let waiting = user.unanswered.lock().take();
        let message = waiting.unwrap_or_else(|| {
            turn += 1;
            let mut message = text_message(&user.id, &to, "survives");
            message.client_msg_id = format!("{}-{}", user.id, message.client_msg_id);
            if turn.is_multiple_of(2) {
                message.recv_id.clear();
                message.group_id.clone_from(&group);
                message.session_type = 3;
            }
            message
        });
        *user.unanswered.lock() = Some(message.clone());
        match socket.send(&message).await {
            Ok(_) => {}
            // The connection is gone, or the node says no for now: once more, later.
            Err(_) => return,
        }
        *user.unanswered.lock() = None;
        let which = usize::from(message.session_type == 3);
        user.acknowledged.lock()[which].push(message.client_msg_id);
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    let began = Instant::now();
    while !is_so().await? {
        ensure!(began.elapsed() < SETTLES, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
