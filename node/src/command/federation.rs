//! `federation …`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use federation::identity::Identity;
use federation::peer_id;
use serde_json::{Value, json};
use services::Environment;

use super::backup::STANDARD;
use super::{list, rows, run, run_at, text};
use crate::cli::{
    Data, FederationCommand, GroupCommand, KeyCommand, LocalOnlyCommand, LocalOnlyWhich,
    ProofCommand, QuarantineCommand,
};
use crate::config::Checks;
use crate::damage::Damage;
use crate::data_folder::DataFolder;
use crate::operation::Operation;
use crate::printer::Printer;
use crate::proof;

/// How long a key holds after it was rotated, in milliseconds.
const OLD_KEY_HOLDS_MS: i64 = 30 * 24 * 3_600_000;

/// The keys of the node; made if it never had any.
fn keys(folder: &DataFolder, data: &Data, printer: Printer) -> anyhow::Result<Identity> {
    if let Some(identity) = folder.identity_if_there()? {
        return Ok(identity);
    }
    folder.prepare()?;
    if folder.store().exists() {
        let operation = Operation::HasFederated;
        let answer = run_at(folder, data, &operation, printer, std::io::sink())?;
        if let Some(domain) = answer["domain"].as_str() {
            let (file, domain) = (folder.identity_file(), domain.to_owned());
            return Err(Damage::IdentityMissing { file, domain }.into());
        }
    }
    folder.identity()
}

/// `federation group …`.
fn run_group(data: &Data, command: GroupCommand, printer: Printer) -> anyhow::Result<ExitCode> {
    let domain = |result: &Value, name: &str| match &result[name] {
        Value::String(domain) => domain.clone(),
        _ => "none".to_owned(),
    };
    match command {
        GroupCommand::Show { group } => {
            let result = run(data, &Operation::GroupShow { group }, printer)?;
            printer.print(&result, || {
                format!(
                    "home\t{}\nsuccessor\t{}",
                    domain(&result, "home"),
                    domain(&result, "successor")
                )
            })?;
        }
        GroupCommand::Successor { group, domain: named } => {
            let operation = Operation::GroupSuccessor { group, domain: named };
            let result = run(data, &operation, printer)?;
            printer.print(&result, || format!("Successor: {}.", domain(&result, "successor")))?;
        }
        GroupCommand::Move { group, domain: to } => {
            let result = run(data, &Operation::GroupMove { group, domain: to }, printer)?;
            printer.print(&result, || format!("The home is {} now.", domain(&result, "home")))?;
        }
        GroupCommand::TakeOver { group, without } => {
            let result = run(data, &Operation::GroupTakeOver { group, without }, printer)?;
            printer.print(&result, || {
                let asked = rows(&result, "asked").len();
                let (epoch, gathered) = (&result["epoch"], &result["gathered"]);
                format!(
                    "This node is the home now (epoch {epoch}). Asked {asked} nodes; {gathered} \
                     entries came from them."
                )
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `federation local-only …`.
fn run_local_only(data: &Data, command: LocalOnlyCommand, printer: Printer) -> anyhow::Result<()> {
    let (LocalOnlyWhich { id, group }, on) = match command {
        LocalOnlyCommand::List(page) => {
            let line = |row: &Value| format!("{}\t{}", text(row, "kind"), text(row, "id"));
            let operation = |part| Operation::LocalOnlyList { part };
            return list(data, page, printer, "local_only", operation, line);
        }
        LocalOnlyCommand::Add(which) => (which, true),
        LocalOnlyCommand::Remove(which) => (which, false),
    };
    let result = run(data, &Operation::LocalOnlySet { group, id, on }, printer)?;
    printer.print(&result, || {
        let how = if on { "stays on this node" } else { "federates" };
        format!("{} {how}.", text(&result, "id"))
    })?;
    Ok(())
}

/// Runs one of them.
pub(crate) fn run_one(
    data: &Data,
    command: FederationCommand,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    match command {
        FederationCommand::Key(KeyCommand::Show) => {
            let key = keys(&folder, data, printer)?.public_key();
            let peer_id = peer_id::to_text(&key)?;
            let result = json!({ "peer_id": peer_id, "file": folder.identity_file() });
            printer.print(&result, || peer_id.clone())?;
        }
        FederationCommand::Key(KeyCommand::Rotate) => {
            let mut identity = keys(&folder, data, printer)?;
            let now = Environment::system().clock.now_ms();
            identity.rotate(rand::random(), now, now + OLD_KEY_HOLDS_MS);
            folder.replace_identity(&identity)?;
            let peer_id = peer_id::to_text(&identity.public_key())?;
            printer.print(&json!({ "peer_id": peer_id }), || {
                format!("{peer_id}\nIt is in use from the next start on.")
            })?;
        }
        FederationCommand::Key(KeyCommand::Revoke { peer_id }) => {
            let mut identity = keys(&folder, data, printer)?;
            let now = Environment::system().clock.now_ms();
            identity.revoke(&peer_id::parse(&peer_id)?, now)?;
            folder.replace_identity(&identity)?;
            printer.print(&json!({ "revoked": peer_id }), || {
                "Revoked. Others learn it when the node has started again.".to_owned()
            })?;
        }
        FederationCommand::Queue { domain, page } => {
            let line = |event: &Value| format!("{}\t{}", event["seq"], text(event, "kind"));
            let operation = |part| Operation::FederationQueue { domain: domain.clone(), part };
            list(data, page, printer, "events", operation, line)?;
        }
        FederationCommand::Quarantine(QuarantineCommand::List(page)) => {
            let line = |event: &Value| {
                let (domain, kind) = (text(event, "domain"), text(event, "kind"));
                format!("{domain}\t{}\t{kind}\t{}", event["seq"], text(event, "reason"))
            };
            list(data, page, printer, "events", |part| Operation::QuarantineList { part }, line)?;
        }
        FederationCommand::Quarantine(QuarantineCommand::Retry { domain }) => {
            let result = run(data, &Operation::QuarantineRetry { domain }, printer)?;
            printer
                .print(&result, || format!("{} done, {} left", result["done"], result["left"]))?;
        }
        FederationCommand::Quarantine(QuarantineCommand::Drop { domain }) => {
            let result = run(data, &Operation::QuarantineDrop { domain }, printer)?;
            printer.print(&result, || format!("Dropped {}.", result["dropped"]))?;
        }
        FederationCommand::LocalOnly(command) => run_local_only(data, command, printer)?,
        FederationCommand::Group(command) => return run_group(data, command, printer),
        FederationCommand::Proof(ProofCommand::List(page)) => {
            let line = |proof: &Value| {
                let (first, second) = (&proof["first_seq"], &proof["second_seq"]);
                format!("{}\tepoch {}\t{first} / {second}", text(proof, "group"), proof["epoch"])
            };
            list(data, page, printer, "proofs", |part| Operation::ProofList { part }, line)?;
        }
        FederationCommand::Proof(ProofCommand::Export { group, file }) => {
            let result = run(data, &Operation::ProofShow { group }, printer)?;
            let bytes = hex::decode(text(&result, "proof"))?;
            if file.as_os_str() == STANDARD {
                let mut out = std::io::stdout().lock();
                let written = out.write_all(&bytes).and_then(|()| out.flush());
                written.context("cannot write to standard output")?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut new = File::create_new(&file)
                .with_context(|| format!("cannot create {}", file.display()))?;
            new.write_all(&bytes)?;
            let result = json!({ "file": file, "bytes": bytes.len() });
            printer.print(&result, || format!("Wrote {}.", file.display()))?;
        }
        FederationCommand::Proof(ProofCommand::Drop { group }) => {
            let result = run(data, &Operation::ProofDrop { group }, printer)?;
            printer.print(&result, || format!("Dropped {}.", result["dropped"]))?;
        }
        FederationCommand::CheckProof { file, peer_id } => {
            let result = proof::check_file(&file, peer_id.as_deref())?;
            printer.print(&result, || {
                let (home, group) = (text(&result, "home"), text(&result, "group"));
                let keys = rows(&result, "peer_ids").iter().filter_map(Value::as_str);
                let keys = keys.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
                format!(
                    "The holder of {} has signed two histories of {group}: one up to entry {}, one \
                     up to entry {} of epoch {}. If that is the key of {home}, its node has lied.",
                    keys.join(", "),
                    result["first_seq"],
                    result["second_seq"],
                    result["epoch"],
                )
            })?;
        }
        FederationCommand::Pin { domain, peer_id, addresses } => {
            folder.prepare()?;
            let peer_id = Some(peer_id);
            let operation = Operation::FederationPin { domain, peer_id, addresses };
            let result = run_at(&folder, data, &operation, printer, std::io::sink())?;
            printer.print(&result, || format!("Pinned {}.", text(&result, "domain")))?;
        }
        FederationCommand::Unpin { domain } => {
            let operation =
                Operation::FederationPin { domain, peer_id: None, addresses: Vec::new() };
            let result = run(data, &operation, printer)?;
            printer.print(&result, || format!("Unpinned {}.", text(&result, "domain")))?;
        }
        FederationCommand::Check { domain } => {
            let result = run(data, &Operation::FederationCheck { domain }, printer)?;
            let findings = rows(&result, "findings");
            printer.print(&result, || {
                let line = |finding: &Value| {
                    let good = match (&finding["good"], &finding["needed"]) {
                        (Value::Bool(true), _) => "good",
                        (_, Value::Bool(false)) => "none",
                        _ => "BAD",
                    };
                    format!("{good}\t{}\t{}", text(finding, "what"), text(finding, "found"))
                };
                findings.iter().map(line).collect::<Vec<_>>().join("\n")
            })?;
            let bad = |finding: &Value| finding["good"] != true && finding["needed"] != false;
            if findings.iter().any(bad) {
                return Ok(ExitCode::FAILURE);
            }
        }
        FederationCommand::Policy => {
            let section = folder.config(data.config.as_deref(), &[], Checks::Values)?.federation;
            let budget = section.budget();
            let result = json!({
                "policy": section.policy,
                "allow": section.allow,
                "deny": section.deny,
                "allow_incoming": section.allow_incoming,
                "deny_incoming": section.deny_incoming,
                "allow_outgoing": section.allow_outgoing,
                "deny_outgoing": section.deny_outgoing,
                "consent": section.consent,
                "trust_first_use": section.trust_first_use,
                "events_per_second": budget.events,
                "event_bytes_per_second": budget.bytes,
                "requests_per_second": budget.requests,
                "events_per_second_each": budget.events_each,
                "event_bytes_per_second_each": budget.bytes_each,
            });
            printer.print(&result, || {
                let lines = result.as_object().into_iter().flatten();
                lines.map(|(name, value)| format!("{name}\t{value}")).collect::<Vec<_>>().join("\n")
            })?;
        }
        FederationCommand::Peers(page) => {
            let line = |peer: &Value| {
                let (domain, state) = (text(peer, "domain"), text(peer, "state"));
                let (queued, delivered) = (&peer["queued"], &peer["delivered"]);
                let mut error = text(peer, "last_error");
                if peer["doubled"] == true {
                    error = format!("it runs twice: one instance is refused. {error}");
                }
                format!("{domain}\t{state}\t{queued} queued\t{delivered} delivered\t{error}")
            };
            list(data, page, printer, "peers", |part| Operation::FederationPeers { part }, line)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
