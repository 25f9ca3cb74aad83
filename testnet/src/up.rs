//! Several organisations on this machine: a node for each, users who are friends across them, and
//! links that can be cut.

mod control;
mod organisation;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Result;
use crate::link::{self, Faults, Link};
use crate::organisations::elsewhere;
use crate::rest::Client;
use organisation::Organisation;

pub use control::{Order, Where, order};

/// Names of the organisations and of their first users.
const NAMES: [(&str, &str); 8] = [
    ("alpha", "alice"),
    ("beta", "bob"),
    ("gamma", "carol"),
    ("delta", "dave"),
    ("epsilon", "erin"),
    ("zeta", "frank"),
    ("eta", "grace"),
    ("theta", "heidi"),
];

/// Time a message gets to cross.
const CROSSES: Duration = Duration::from_secs(30);
/// Time between two looks at the nodes.
const LOOK: Duration = Duration::from_secs(1);

/// Options of `testnet up`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Organisations, 2 to 8.
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Program of the nodes; built if it is not there.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
    /// First port; every organisation takes three of ten.
    #[arg(long, value_name = "PORT", default_value_t = 20_000)]
    port: u16,
    /// End after the first message has crossed.
    #[arg(long)]
    once: bool,
}

/// The running organisations.
struct Testnet {
    organisations: Vec<Organisation>,
    /// What is wrong with the link of each pair, the lower index first.
    links: Vec<((usize, usize), Arc<Link>)>,
}

/// Starts the organisations and looks after them until it is stopped.
pub fn run(options: &Options, place: &Where) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(up(options, &place.folder))?;
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "the program's own answer")]
async fn up(options: &Options, folder: &Path) -> Result {
    ensure!((2..=NAMES.len()).contains(&options.nodes), "2 to {} nodes", NAMES.len());
    let began = Instant::now();
    build(options).await?;
    let mut testnet = Testnet::start(options, folder).await?;
    let clients = testnet.people().await?;
    println!("{} organisations run after {:.1} s:", clients.len(), began.elapsed().as_secs_f64());
    for (organisation, client) in testnet.organisations.iter().zip(&clients) {
        println!();
        println!("  {}  ({})", organisation.domain(), organisation.data().display());
        println!("    REST API   {}", client.rest.api());
        println!("    WebSocket  {}", client.rest.ws());
        println!("    user       {}, friend of the others", client.user_id);
        println!("    token      {}", client.token);
    }
    println!();
    let [first, second, ..] = clients.as_slice() else { bail!("there are two at least") };
    let sent = Instant::now();
    let text = format!("Hello from {}", testnet.organisations[0].domain());
    testnet.cross(first, second, &text).await?;
    println!(
        "{}@{} wrote to {}@{}: {text:?} arrived after {} ms, {:.1} s after the start.",
        first.user_id,
        testnet.organisations[0].domain(),
        second.user_id,
        testnet.organisations[1].domain(),
        sent.elapsed().as_millis(),
        began.elapsed().as_secs_f64()
    );
    if !options.once {
        println!();
        let program = own_path();
        println!("Try, in another terminal, in this folder:");
        println!("  {program} partition alpha beta    cut the two off each other; heal joins them");
        println!("  {program} slow alpha beta --delay 200 --loss 5");
        println!("  {program} kill beta               end a node at once; start starts it again");
        println!("  {program} down                    end everything");
        println!();
        testnet.look_after(folder).await?;
    }
    testnet.down().await
}

/// How this program is called in the folder it was started in: nobody has it in the PATH.
fn own_path() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "testnet".into());
    let here = std::env::current_dir().unwrap_or_default();
    program.strip_prefix(here).unwrap_or(&program).display().to_string()
}

/// Builds the nodes' program if it is not there.
async fn build(options: &Options) -> Result {
    if options.server.exists() {
        return Ok(());
    }
    let built = Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "entente"])
        .status()
        .await
        .context("cannot run cargo")?;
    ensure!(built.success() && options.server.exists(), "there is no {}", options.server.display());
    Ok(())
}

impl Testnet {
    async fn start(options: &Options, folder: &Path) -> Result<Self> {
        let mut organisations = Vec::new();
        for (index, (name, user)) in NAMES.iter().take(options.nodes).enumerate() {
            let port = options.port + 10 * u16::try_from(index)?;
            let organisation =
                Organisation::prepare(&options.server, folder, name, user, port).await?;
            organisations.push(organisation);
        }
        let mut testnet = Self { organisations, links: Vec::new() };
        for a in 0..options.nodes {
            for b in a + 1..options.nodes {
                let link = Arc::new(Link::default());
                testnet.join(a, b, &link).await?;
                testnet.join(b, a, &link).await?;
                testnet.links.push(((a, b), link));
            }
        }
        for organisation in &mut testnet.organisations {
            organisation.launch().await?;
        }
        Ok(testnet)
    }

    /// Lets `from` reach `to`, through a relay of its own.
    async fn join(&self, from: usize, to: usize, link: &Arc<Link>) -> Result {
        let (from, to) = (&self.organisations[from], &self.organisations[to]);
        let port = link::start(to.federation_address(), Arc::clone(link)).await?;
        from.pin(to, port).await
    }

    /// Registers the first user of each organisation; all become friends of all.
    async fn people(&self) -> Result<Vec<Client>> {
        let mut clients = Vec::new();
        for organisation in &self.organisations {
            clients.push(organisation.user().await?);
        }
        for (a, from) in clients.iter().enumerate() {
            for (b, to) in clients.iter().enumerate().skip(a + 1) {
                self.befriend((a, from), (b, to)).await?;
            }
        }
        Ok(clients)
    }

    async fn befriend(&self, from: (usize, &Client), to: (usize, &Client)) -> Result {
        let (there, here) = (self.client_form(from, to.0), self.client_form(to, from.0));
        let friends = json!({ "userID1": from.1.user_id, "userID2": here });
        if from.1.call("/friend/is_friend", &friends).await?["inUser1Friends"] == true {
            return Ok(());
        }
        let ask = json!({
            "fromUserID": from.1.user_id,
            "toUserID": format!("{}@{}", to.1.user_id, self.organisations[to.0].domain()),
            "reqMsg": "Let us talk",
        });
        from.1.call("/friend/add_friend", ask).await?;
        let accept = json!({
            "fromUserID": there,
            "toUserID": to.1.user_id,
            "handleResult": 1,
            "handleMsg": "",
        });
        within("a friend request arrives", async || {
            let answer = to.1.post("/friend/add_friend_response", &accept).await?;
            Ok(answer.code == 0)
        })
        .await?;
        within("the answer arrives", async || {
            Ok(from.1.call("/friend/is_friend", &friends).await?["inUser1Friends"] == true)
        })
        .await
    }

    /// How a user appears to clients of another organisation.
    fn client_form(&self, (home, client): (usize, &Client), at: usize) -> String {
        if home == at {
            return client.user_id.clone();
        }
        elsewhere(&client.user_id, self.organisations[home].domain())
    }

    /// Sends a message from the first organisation to the second and waits until it is there.
    async fn cross(&self, from: &Client, to: &Client, text: &str) -> Result {
        let (sender, receiver) = (self.client_form((0, from), 1), self.client_form((1, to), 0));
        let message = json!({
            "sendID": from.user_id,
            "recvID": receiver,
            "senderPlatformID": from.platform_id,
            "content": { "content": text },
            "contentType": 101,
            "sessionType": 1,
        });
        let admin = self.organisations[0].admin().await?;
        let sent = admin.client.call("/msg/send_msg", message).await?;
        let id = sent["serverMsgID"].as_str().context("no serverMsgID")?.to_owned();
        let mut pair = [sender, to.user_id.clone()];
        pair.sort();
        let pull = json!({
            "userID": to.user_id,
            "seqRanges": [{
                "conversationID": format!("si_{}", pair.join("_")),
                "begin": 1,
                "end": 1_000_000,
                "num": 100,
            }],
            "order": 1,
        });
        within("a message crosses", async || {
            let pulled = to.call("/msg/pull_msg_by_seq", &pull).await?;
            Ok(pulled.to_string().contains(&id))
        })
        .await
    }

    /// Shows how the organisations fare and does what other terminals order.
    async fn look_after(&mut self, folder: &Path) -> Result {
        let mut orders = control::listen(folder)?;
        let mut table = Table::default();
        let mut tick = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = tick.tick() => table.show(&self.rows().await),
                _ = tokio::signal::ctrl_c() => return Ok(()),
                Some((order, answer)) = orders.recv() => {
                    let last = matches!(order, Order::Down);
                    let done = self.obey(order).await;
                    let _ = answer.send(done.map_err(|error| format!("{error:#}")));
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result {
        match order {
            Order::Partition { a, b } => self.link(&a, &b)?.set_cut(true),
            Order::Heal { a, b } => self.link(&a, &b)?.heal(),
            Order::Slow { a, b, delay, jitter, loss, duplicate, rate } => {
                self.link(&a, &b)?.set(Faults {
                    cut: false,
                    delay_ms: delay,
                    jitter_ms: jitter,
                    loss_percent: loss,
                    duplicate_percent: duplicate,
                    kilobytes: rate,
                });
            }
            Order::Kill { name } => {
                let index = self.index(&name)?;
                self.organisations[index].kill().await?;
            }
            Order::Start { name } => {
                let index = self.index(&name)?;
                self.organisations[index].launch().await?;
            }
            Order::Down => {}
        }
        Ok(())
    }

    fn index(&self, name: &str) -> Result<usize> {
        let known = self.organisations.iter().position(|known| known.name() == name);
        known.with_context(|| format!("there is no organisation {name}"))
    }

    fn link(&self, a: &str, b: &str) -> Result<&Link> {
        let (a, b) = (self.index(a)?, self.index(b)?);
        let pair = (a.min(b), a.max(b));
        let found = self.links.iter().find(|(link, _)| *link == pair);
        Ok(&found.context("an organisation has no link to itself")?.1)
    }

    /// One line per node and per link.
    async fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for (index, organisation) in self.organisations.iter().enumerate() {
            rows.push(organisation.row());
            for peer in organisation.peers().await.unwrap_or_default() {
                let text = |key: &str| peer[key].as_str().unwrap_or_default().to_owned();
                let other = text("domain");
                let link = self.links.iter().find(|((a, b), _)| {
                    let others = [*a, *b].map(|i| self.organisations[i].domain());
                    (*a == index || *b == index) && others.contains(&other.as_str())
                });
                let faults = link.map_or(String::new(), |(_, link)| link.text());
                rows.push(format!(
                    "    -> {other:<16} {:<10} {:>8} queued {:>9} delivered  {faults}",
                    text("state"),
                    peer["queued"],
                    peer["delivered"],
                ));
            }
        }
        rows
    }

    async fn down(&mut self) -> Result {
        for organisation in &mut self.organisations {
            organisation.stop().await?;
        }
        Ok(())
    }
}

/// Lines on a terminal that are written over again and again.
#[derive(Default)]
struct Table {
    lines: usize,
}

impl Table {
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    fn show(&mut self, rows: &[String]) {
        if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return;
        }
        if self.lines > 0 {
            print!("\x1b[{}A", self.lines);
        }
        for row in rows {
            println!("\x1b[2K{row}");
        }
        self.lines = rows.len();
    }
}

/// Waits until something is so.
async fn within(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > CROSSES {
            bail!("{what}: not within {} s", CROSSES.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// The list of peers in an answer of `federation peers`.
fn peers_of(answer: &Value) -> Vec<Value> {
    answer["peers"].as_array().cloned().unwrap_or_default()
}
