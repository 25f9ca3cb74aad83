//! Whether a node keeps to docs/federation: cases that a peer tries on it, each with the section it
//! is from.

mod batch;
mod chat;
mod friend;
mod group_home;
mod group_member;
mod hello;
mod media;
mod peer;
mod request;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use federation::Domain;
use serde_json::json;

use crate::organisations::{Organisation, federation, multiaddr};
use crate::verdict::must_exist;
use crate::{Admin, Client, Result};
use peer::{OWN, Peer};

/// Time that the node gets for everything that follows from one case.
const PATIENCE: Duration = Duration::from_secs(30);

/// Options of `testnet conformance`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Without --target a node of this build is started and tried. A target must \
                        have pinned conformance.example with the peer ID that the command prints \
                        first, have a user, and a group of which p@conformance.example is a \
                        member. Exit code 1: a case failed."
)]
pub struct Options {
    /// Where the node listens, such as /ip4/192.0.2.1/udp/10003/quic-v1.
    #[arg(long, value_name = "MULTIADDR", requires_all = ["domain", "peer_id"])]
    target: Option<String>,
    /// Its domain.
    #[arg(long)]
    domain: Option<String>,
    /// Its peer ID.
    #[arg(long)]
    peer_id: Option<String>,
    /// A user of it.
    #[arg(long, value_name = "ID", default_value = "alice")]
    user: String,
    /// A group of it with p@conformance.example in it; without it, cases with groups are left out.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Seed of the key of conformance.example, 64 hex digits.
    #[arg(long, value_name = "HEX", default_value = "")]
    key: String,
    /// Only cases with this in their name or section.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Program to start if there is no target.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
}

/// The node that is tried.
struct Target {
    domain: String,
    peer_id: String,
    address: String,
    /// Qualified IDs of its user, and of its group with a member of the peer.
    user: String,
    group: Option<String>,
    /// Set if the node was started for this: what is behind the protocol can be looked at.
    inside: Option<Inside>,
}

struct Inside {
    organisation: Organisation,
    client: Client,
}

/// What a case found wrong; nothing: it passed.
type Found = Result<()>;
/// A case at work.
type Running<'a> = std::pin::Pin<Box<dyn Future<Output = Found> + 'a>>;

/// One case.
struct Case {
    /// Section of docs/federation/README.md that says so.
    section: &'static str,
    name: String,
    run: Box<dyn for<'a> Fn(&'a mut Peer) -> Running<'a>>,
}

impl Case {
    fn new(
        section: &'static str,
        name: impl Into<String>,
        run: impl for<'a> Fn(&'a mut Peer) -> Running<'a> + 'static,
    ) -> Self {
        Self { section, name: name.into(), run: Box::new(run) }
    }
}

/// Everything that is tried, in the order of the sections.
fn cases(target: &Target) -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(hello::cases());
    cases.extend(batch::cases());
    cases.extend(request::cases());
    cases.extend(friend::cases());
    cases.extend(chat::cases());
    cases.extend(group_member::cases());
    if target.group.is_some() {
        cases.extend(group_home::cases());
    }
    cases.extend(media::cases());
    cases
}

/// How a node did.
#[derive(Debug, Default, Clone)]
pub struct Verdict {
    /// Cases that passed.
    pub passed: usize,
    /// Section, name and what was wrong.
    pub failed: Vec<(String, String, String)>,
}

/// Tries a node and prints how it does.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut peer = Peer::start(&options.key).await?;
        println!("{OWN} has the peer ID {}", peer.peer_id()?);
        let target = match &options.target {
            Some(address) => given(options, address)?,
            None => started(options, &peer).await?,
        };
        let verdict = try_all(&mut peer, target, &options.only, |case, found| {
            let outcome = match found {
                Ok(()) => "ok".to_owned(),
                Err(error) => format!("FAILED: {error:#}"),
            };
            println!("§{:<3} {:<66} {outcome}", case.section, case.name);
        })
        .await?;
        println!("{} cases passed, {} failed", verdict.passed, verdict.failed.len());
        Ok(verdict.failed.is_empty())
    })
}

/// Tries a node of the program at `server`.
pub async fn of_program(server: PathBuf) -> Result<Verdict> {
    let options = Options {
        target: None,
        domain: None,
        peer_id: None,
        user: "alice".into(),
        group: None,
        key: String::new(),
        only: String::new(),
        server,
    };
    let mut peer = Peer::start("").await?;
    let target = started(&options, &peer).await?;
    try_all(&mut peer, target, "", |_, _| {}).await
}

async fn try_all(
    peer: &mut Peer,
    target: Target,
    only: &str,
    mut tell: impl FnMut(&Case, &Found),
) -> Result<Verdict> {
    let all = cases(&target);
    peer.aim(target)?;
    let mut verdict = Verdict::default();
    for case in all.iter().filter(|case| case.name.contains(only) || case.section == only) {
        let found = tokio::time::timeout(PATIENCE, (case.run)(peer)).await;
        let found = found.unwrap_or_else(|_| bail!("nothing within {PATIENCE:?}"));
        tell(case, &found);
        match found {
            Ok(()) => verdict.passed += 1,
            Err(error) => verdict.failed.push((
                case.section.to_owned(),
                case.name.clone(),
                format!("{error:#}"),
            )),
        }
    }
    Ok(verdict)
}

fn given(options: &Options, address: &str) -> Result<Target> {
    let domain: Domain = options.domain.as_deref().context("no domain")?.parse()?;
    Ok(Target {
        domain: domain.to_string(),
        peer_id: options.peer_id.clone().context("no peer ID")?,
        address: address.to_owned(),
        user: format!("{}@{domain}", options.user),
        group: options.group.as_ref().map(|group| format!("{group}@{domain}")),
        inside: None,
    })
}

async fn started(options: &Options, peer: &Peer) -> Result<Target> {
    must_exist(&options.server)?;
    let variables = [("ENTENTE_LOG_LEVEL", "error")];
    let mut organisation = Organisation::prepare(&options.server, 0, &variables).await?;
    let (id, at) = (peer.peer_id()?, peer.address()?);
    federation(&organisation.node, &["pin", OWN, &id, &at]).await?;
    organisation.node.launch().await?;
    let admin: Admin = organisation.node.admin().await?;
    let client = admin.user(&options.user).await?;
    let made = client
        .call(
            "/group/create_group",
            json!({
                "ownerUserID": options.user,
                "memberUserIDs": [format!("p@{OWN}")],
                "groupInfo": { "groupName": "conformance", "groupType": 2 },
            }),
        )
        .await?;
    let group = made["groupInfo"]["groupID"].as_str().context("no group")?;
    let domain = organisation.domain.clone();
    Ok(Target {
        peer_id: organisation.peer_id.clone(),
        address: multiaddr(organisation.address),
        user: format!("{}@{domain}", options.user),
        group: Some(format!("{group}@{domain}")),
        domain,
        inside: Some(Inside { organisation, client }),
    })
}
