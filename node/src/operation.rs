//! Operations on the data of a node, whether it serves or not.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use federation::{Domain, Federation, peer_id, trust};
use prost::Message as _;
use proto::auth::GetUserTokenReq;
use proto::federation::EventKind;
use proto::sdkws::UserInfo;
use proto::user::UserRegisterReq;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::federation::{LocalOnly, SetGroupSuccessorReq};
use services::{Caller, Environment, Services};
use store::verify::Finding;
use store::{Store, schema};

use crate::backup::{self, Content, Sources};
use crate::backups::Backups;
use crate::cli::Data;
use crate::config::Config;
use crate::data_folder::DataFolder;
use crate::progress::Done;
use crate::{check, damage, fetch, identity, known_secret, proof};

/// An operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// Registers a user.
    UserAdd { id: String, nickname: String, face: String },
    /// Lists users.
    UserList { part: Part },
    /// Issues a token.
    UserToken { id: String, platform: i32 },
    /// Checks all data.
    Verify,
    /// Tells what a backup needs to know of the node; the secret is among it.
    BackupSources,
    /// Writes a backup to the output.
    Backup { content: Content },
    /// Makes one of those that the node makes by itself.
    BackupNow,
    /// Tells where the node that serves has its API.
    Health,
    /// Tells what the node has done since it started.
    Counters,
    /// Tells whether the node has federated.
    HasFederated,
    /// Trusts a key for a domain; no peer ID: takes the pin away.
    FederationPin { domain: String, peer_id: Option<String>, addresses: Vec<String> },
    /// Lists the other nodes.
    FederationPeers { part: Part },
    /// Looks at everything on the way to another node.
    FederationCheck { domain: String },
    /// Lists the events that wait for another node.
    FederationQueue { domain: String, part: Part },
    /// Lists the events of other nodes that were put aside.
    QuarantineList { part: Part },
    /// Applies those of a node again.
    QuarantineRetry { domain: String },
    /// Forgets those of a node.
    QuarantineDrop { domain: String },
    /// Lists the proofs that the home of a group has shown two histories.
    ProofList { part: Part },
    /// One of them, encoded.
    ProofShow { group: String },
    /// Forgets one.
    ProofDrop { group: String },
    /// Where a group has its home, and who may become it.
    GroupShow { group: String },
    /// Says which node may take a group over; no domain: none.
    GroupSuccessor { group: String, domain: Option<String> },
    /// Lists the users and groups that have nothing to do with other nodes.
    LocalOnlyList { part: Part },
    /// Says of one whether it has.
    LocalOnlySet { group: bool, id: String, on: bool },
    /// Makes another node the home of a group of this one.
    GroupMove { group: String, domain: String },
    /// Makes this node the home of a group whose home is lost.
    GroupTakeOver { group: String, without: Vec<String> },
}

/// A part of a list.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Entries before it.
    pub(crate) skip: usize,
    /// Entries in it, at most.
    pub(crate) limit: usize,
}

impl Part {
    /// The entries in it, as JSON, and how many there are in all.
    fn of<T, E>(
        self,
        entries: impl Iterator<Item = Result<T, E>>,
        shown: impl Fn(T) -> Value,
    ) -> Result<(Vec<Value>, usize), E> {
        let (mut part, mut total) = (Vec::new(), 0);
        for entry in entries {
            let entry = entry?;
            if total >= self.skip && part.len() < self.limit {
                part.push(shown(entry));
            }
            total += 1;
        }
        Ok((part, total))
    }
}

/// What operations work on: the rules, and the federation where the node serves and has a domain.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) services: Services,
    pub(crate) federation: Option<Federation>,
    /// Authorities for the HTTPS of other domains, in PEM; empty: the system's.
    pub(crate) ca: PathBuf,
    /// Where the node reaches its own API, if it serves.
    pub(crate) api: Option<String>,
    /// Where its configuration is.
    pub(crate) configured: Configured,
    /// The backups that it makes by itself, if it serves and makes any.
    pub(crate) backups: Option<Backups>,
}

/// Where a configuration in force comes from, and what it names.
#[derive(Clone)]
pub(crate) struct Configured {
    /// The file.
    file: PathBuf,
    /// Files that it names.
    names: Vec<String>,
    /// What it says, and of which folder.
    config: Config,
    folder: DataFolder,
}

impl Configured {
    /// Of a data folder.
    pub(crate) fn new(folder: &DataFolder, data: &Data, config: &Config) -> anyhow::Result<Self> {
        let file = data.config.clone().unwrap_or_else(|| folder.config_file());
        let (names, config, folder) = (config.files(), config.clone(), folder.clone());
        Ok(Self { file: std::path::absolute(file)?, names, config, folder })
    }

    /// What it says.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What a backup needs to know of the node.
    pub(crate) fn sources(&self, store: &Store) -> anyhow::Result<Sources> {
        let last = identity::federated_as(&store.view())?;
        let domain = self.config.federation.domain()?;
        Ok(Sources {
            domain: domain.map(|domain| domain.to_string()).unwrap_or_default(),
            config: self.file.clone(),
            files: self.names.clone(),
            secret: self.config.auth.secret.clone(),
            federated: last.is_some(),
        })
    }

    /// What is wrong with the keys and the secret.
    fn check(&self, store: &Store) -> anyhow::Result<Vec<Finding>> {
        let Self { config, folder, .. } = self;
        let mut found = Vec::new();
        let mut add = |file: PathBuf, problem: String| {
            let key = file.display().to_string();
            found.push(Finding { table: "file", key, problem });
        };
        match identity::check(folder, config, store) {
            Err(error) if damage::is_damage(&error) => {
                add(folder.identity_file(), error.to_string());
            }
            checked => checked?,
        }
        if known_secret::is_another(&store.view(), &config.auth.secret)? {
            add(folder.secret_file(), known_secret::ANOTHER.to_owned());
        }
        Ok(found)
    }
}

/// A kind of event in words.
fn kind_name(kind: u32) -> String {
    match EventKind::try_from(kind.cast_signed()) {
        Ok(kind) => {
            let name = kind.as_str_name();
            name.strip_prefix("EVENT_").unwrap_or(name).to_lowercase()
        }
        Err(_) => format!("unknown ({kind})"),
    }
}

/// What hears of an operation while it runs.
pub(crate) struct Told<'a> {
    /// Hears how much is done, if anybody wants to.
    pub(crate) progress: Option<&'a mut (dyn FnMut(Done) + Send)>,
    /// Gets what the operation writes.
    pub(crate) output: &'a mut (dyn Write + Send),
}

/// What hears how many entries of a store are done; it counts them all only for somebody who wants to
/// hear of it.
fn entries(
    store: &Store,
    mut progress: Option<&mut (dyn FnMut(Done) + Send)>,
) -> anyhow::Result<impl FnMut(u64)> {
    let total = if progress.is_some() { store.count()? } else { 0 };
    Ok(move |done| {
        if let Some(progress) = &mut progress {
            // Of what was not counted, some may come, too.
            progress((done, if total == 0 { 0 } else { total.max(done) }));
        }
    })
}

impl Operation {
    /// Whether it says or changes something as the node that others know, which takes its keys.
    pub(crate) fn is_in_its_name(&self) -> bool {
        !matches!(
            self,
            Self::Verify
                | Self::BackupSources
                | Self::Backup { .. }
                | Self::BackupNow
                | Self::HasFederated
        )
    }

    /// Whether it changes nothing, whatever it finds.
    pub(crate) fn only_looks(&self) -> bool {
        matches!(self, Self::Verify | Self::Backup { .. } | Self::BackupSources | Self::BackupNow)
    }

    /// Runs the operation and returns its result.
    pub(crate) async fn run(self, node: &Node, told: Told<'_>) -> anyhow::Result<Value> {
        let services = &node.services;
        let Some(admin) = services.settings().admin_users.first() else {
            bail!("no app admin is configured");
        };
        let caller = Caller::node(admin);
        match self {
            Self::UserAdd { id, nickname, face } => {
                let user = UserInfo {
                    user_id: id.clone(),
                    nickname: nickname.clone(),
                    face_url: face,
                    ..UserInfo::default()
                };
                services.user_register(&caller, UserRegisterReq { users: vec![user] }).await?;
                Ok(json!({ "userID": id, "nickname": nickname }))
            }
            Self::UserList { part } => {
                let view = services.store().view();
                let mut users = Vec::new();
                let order = schema::USER_ORDER.scan(&view, ());
                for row in order.skip(part.skip).take(part.limit) {
                    let ((_, id), _) = row?;
                    if let Some(user) = schema::USERS.get(&view, &id)? {
                        users.push(json!({
                            "userID": user.user_id,
                            "nickname": user.nickname,
                            "createTime": user.create_time,
                        }));
                    }
                }
                let total = schema::COUNTERS.get(&view, schema::counter::USERS)?;
                Ok(json!({ "users": users, "total": total.unwrap_or_default().value }))
            }
            Self::UserToken { id, platform } => {
                let request = GetUserTokenReq { user_id: id, platform_id: platform };
                let issued = services.get_user_token(&caller, request).await?;
                Ok(json!({
                    "token": issued.token,
                    "expireTimeSeconds": issued.expire_time_seconds,
                }))
            }
            Self::HasFederated => {
                let last = identity::federated_as(&services.store().view())?;
                Ok(json!({ "domain": last.map(|last| last.domain) }))
            }
            Self::Health => {
                let halt = node.federation.as_ref().and_then(Federation::halt);
                Ok(json!({
                    "api": node.api,
                    "damaged": services.store().damaged(),
                    "damaged_files": services.damaged_content(),
                    "federation_stopped": halt.map(|halt| halt.to_string()),
                    "backups": node.backups.as_ref().map(Backups::status),
                }))
            }
            Self::Counters => Ok(json!({
                "commits": services.store().commits(),
                "connections": services.hub().len(),
                "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            })),
            Self::FederationPin { domain, peer_id, addresses } => {
                let domain: Domain = domain.parse()?;
                let keys = peer_id.iter().map(|text| peer_id::parse(text));
                let keys = keys.collect::<Result<_, _>>()?;
                trust::pin(services.store(), &domain, keys, addresses.clone()).await?;
                if let Some(federation) = &node.federation {
                    federation.refresh(&domain);
                }
                Ok(json!({
                    "domain": domain.as_str(),
                    "peer_id": peer_id,
                    "addresses": addresses,
                }))
            }
            Self::FederationPeers { part } => {
                let peers = match &node.federation {
                    Some(federation) => federation.peers()?,
                    None => {
                        let now_ms = Environment::system().clock.now_ms();
                        let own = services.settings().domain.as_ref();
                        federation::stored_peers(services.store(), own, now_ms)?
                    }
                };
                let total = peers.len();
                let peers: Vec<_> = peers.into_iter().skip(part.skip).take(part.limit).collect();
                Ok(json!({ "peers": peers, "total": total }))
            }
            Self::FederationCheck { domain } => {
                let now_ms = Environment::system().clock.now_ms();
                let fetch = fetch::https(&node.ca)?;
                let found = check::check(node, &domain.parse()?, &fetch, now_ms).await?;
                Ok(json!({ "domain": domain, "findings": found }))
            }
            Self::FederationQueue { domain, part } => {
                let view = services.store().view();
                let mut events = Vec::new();
                let queued = store::outbox::queued(&view, &domain, 0);
                for row in queued.skip(part.skip).take(part.limit) {
                    let (seq, event) = row?;
                    events.push(json!({
                        "seq": seq,
                        "kind": kind_name(event.kind),
                        "time": event.time,
                    }));
                }
                let head = store::outbox::head(&view, &domain)?;
                Ok(json!({ "total": head.last - head.acknowledged, "events": events }))
            }
            Self::QuarantineList { part } => {
                let view = services.store().view();
                let aside = schema::QUARANTINE.scan(&view, ());
                let (events, total) = part.of(aside, |((domain, epoch, seq), event)| {
                    json!({
                        "domain": domain,
                        "epoch": epoch,
                        "seq": seq,
                        "kind": kind_name(event.kind),
                        "received": event.received,
                        "reason": event.reason,
                    })
                })?;
                Ok(json!({ "events": events, "total": total }))
            }
            Self::QuarantineRetry { domain } => {
                let (done, left) = services.retry_quarantined(&domain.parse()?).await?;
                Ok(json!({ "done": done, "left": left }))
            }
            Self::QuarantineDrop { domain } => {
                let dropped = services.drop_quarantined(&domain.parse()?).await?;
                Ok(json!({ "dropped": dropped }))
            }
            Self::ProofList { part } => {
                let view = services.store().view();
                let (proofs, total) = part
                    .of(schema::PROOFS.scan(&view, ()), |(group, proof)| {
                        proof::describe(&group, &proof)
                    })?;
                Ok(json!({ "proofs": proofs, "total": total }))
            }
            Self::ProofShow { group } => {
                let proof = schema::PROOFS.get(&services.store().view(), &group)?;
                let Some(proof) = proof else { bail!("there is no proof about {group}") };
                Ok(json!({ "proof": hex::encode(proof.encode_to_vec()) }))
            }
            Self::ProofDrop { group } => {
                Ok(json!({ "dropped": services.drop_proof(&group).await? }))
            }
            Self::GroupShow { group } => {
                let (successor, home) = services.succession(&group)?;
                let own = services.settings().domain.clone();
                let name = |domain: Option<Domain>| domain.map(|domain| domain.to_string());
                Ok(json!({
                    "group": group,
                    "home": name(home.or(own)),
                    "successor": name(successor),
                }))
            }
            Self::GroupSuccessor { group, domain } => {
                let named = domain.clone().unwrap_or_default();
                let request = SetGroupSuccessorReq { group_id: group.clone(), domain: named };
                services.set_group_successor(&caller, request).await?;
                Ok(json!({ "group": group, "successor": domain }))
            }
            Self::LocalOnlyList { part } => {
                let listed = services.local_only()?.into_iter().map(anyhow::Ok);
                let (listed, total) =
                    part.of(listed, |(kind, id)| json!({ "kind": kind, "id": id }))?;
                Ok(json!({ "local_only": listed, "total": total }))
            }
            Self::LocalOnlySet { group, id, on } => {
                let what = if group { LocalOnly::Group } else { LocalOnly::User };
                services.set_local_only(&caller, what, &id, on).await?;
                Ok(json!({ "kind": what.name(), "id": id, "local_only": on }))
            }
            Self::GroupMove { group, domain } => {
                services.move_group(&caller, &group, domain.parse()?).await?;
                Ok(json!({ "group": group, "home": domain }))
            }
            Self::GroupTakeOver { group, without } => {
                let without = without.iter().map(|domain| domain.parse());
                let without = without.collect::<Result<Vec<_>, _>>()?;
                let taken = services.take_over_group(&caller, &group, &without).await?;
                let asked: Vec<String> = taken.asked.iter().map(Domain::to_string).collect();
                Ok(json!({
                    "group": group,
                    "epoch": taken.epoch,
                    "asked": asked,
                    "gathered": taken.gathered,
                }))
            }
            Self::Verify => tokio::task::block_in_place(|| {
                let progress = entries(services.store(), told.progress)?;
                let report = store::verify::verify(&services.store().strict_view(), progress)?;
                let files = services.check_content(&mut |_| true)?;
                let files = files.into_iter().map(|found| Finding {
                    table: schema::OBJECTS.name(),
                    key: found.name,
                    problem: found.problem,
                });
                let mut findings = report.findings;
                findings.extend(files);
                findings.extend(node.configured.check(services.store())?);
                Ok(json!({
                    "clean": findings.is_empty(),
                    "entries": report.records,
                    "findings": findings,
                    "omitted": report.omitted,
                }))
            }),
            Self::BackupSources => {
                Ok(serde_json::to_value(node.configured.sources(services.store())?)?)
            }
            Self::Backup { content } => tokio::task::block_in_place(|| {
                let progress = entries(services.store(), told.progress)?;
                let objects = services.settings().object_folder.clone();
                let view = services.store().strict_view();
                let written = backup::write(view, content, objects, told.output, progress)?;
                Ok(json!({ "entries": written.records, "files": written.files }))
            }),
            Self::BackupNow => {
                let Some(backups) = &node.backups else {
                    bail!(
                        "no node serves this folder that makes backups by itself: `folder` in \
                         [backup] names where. `entente backup FILE` makes one"
                    );
                };
                let file = tokio::task::block_in_place(|| backups.now())?;
                Ok(json!({ "file": file }))
            }
        }
    }
}
