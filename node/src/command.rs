//! Commands other than `serve`: what they do and print.

pub(crate) mod backup;
pub(crate) mod federation;
pub(crate) mod health;
mod list;
pub(crate) mod passphrase;
pub(crate) mod repair;
pub(crate) mod restore;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use services::{Environment, Services};

use crate::cli::{ConfigCommand, Data, UserCommand};
use crate::config::{self, Checks, Config};
use crate::control;
use crate::damage;
use crate::data_folder::DataFolder;
use crate::identity;
use crate::lock;
use crate::operation::{Configured, Node, Operation, Told};
use crate::printer::Printer;
use crate::progress::{self, Done};
use crate::serve::{Access, open_store, settings};
use list::list;

/// `init`.
pub(crate) fn init(data: &Data, printer: Printer) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    let first = folder.prepare()?;
    let (config, secret) = (folder.config_file(), folder.secret_file());
    let result = json!({
        "created": first,
        "data": folder.path(),
        "config": config,
        "secret": secret,
    });
    printer.print(&result, || {
        let made = if first { "Made" } else { "Was there already:" };
        format!(
            "{made} {}\n  Config  {}\n  Secret  {}\nNext: entente serve --data {}",
            folder.path().display(),
            config.display(),
            secret.display(),
            folder.path().display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `config …`.
pub(crate) fn config(
    data: &Data,
    command: &ConfigCommand,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Example => {
            let example = config::example()?;
            printer.print(&json!({ "example": example }), || example.trim_end().to_owned())?;
        }
        ConfigCommand::Check => {
            let folder = DataFolder::new(&data.folder);
            let mut config = folder.config(data.config.as_deref(), &[], Checks::All)?;
            config.auth.secret = String::new();
            let text = toml::to_string(&config)?;
            printer.print(&serde_json::to_value(&config)?, || text.trim_end().to_owned())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `user …`.
pub(crate) fn user(
    data: &Data,
    command: UserCommand,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::Add { id, nickname, face } => {
            let nickname = nickname.unwrap_or_else(|| id.clone());
            let result = run(data, &Operation::UserAdd { id, nickname, face }, printer)?;
            printer.print(&result, || format!("Registered {}.", text(&result, "userID")))?;
        }
        UserCommand::List(page) => {
            let line =
                |user: &Value| format!("{}\t{}", text(user, "userID"), text(user, "nickname"));
            list(data, page, printer, "users", |part| Operation::UserList { part }, line)?;
        }
        UserCommand::Token { id, platform } => {
            let result = run(data, &Operation::UserToken { id, platform }, printer)?;
            printer.print(&result, || text(&result, "token"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// `verify`.
pub(crate) fn verify(data: &Data, printer: Printer) -> anyhow::Result<ExitCode> {
    let result = run(data, &Operation::Verify, printer)?;
    let findings = rows(&result, "findings");
    printer.print(&result, || {
        let line = |f| format!("{} {}: {}", text(f, "table"), text(f, "key"), text(f, "problem"));
        let mut lines: Vec<String> = findings.iter().map(line).collect();
        let entries = &result["entries"];
        lines.push(match (findings.len(), result["omitted"].as_u64().unwrap_or_default()) {
            (0, _) => format!("{entries} entries, all in order."),
            (shown, 0) => format!("{entries} entries, {shown} things are wrong."),
            (shown, more) => {
                format!("{entries} entries, {shown} things are wrong, and {more} more.")
            }
        });
        lines.join("\n")
    })?;
    let clean = result["clean"].as_bool() == Some(true);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(damage::EXIT_CODE) })
}

/// Runs an operation: in the node that serves the data folder, or else here.
fn run(data: &Data, operation: &Operation, printer: Printer) -> anyhow::Result<Value> {
    run_into(data, operation, printer, std::io::sink())
}

/// As [`run`]; what the operation writes goes to `output`.
fn run_into(
    data: &Data,
    operation: &Operation,
    printer: Printer,
    output: impl Write + Send,
) -> anyhow::Result<Value> {
    let folder = DataFolder::new(&data.folder);
    folder.must_be_there()?;
    run_at(&folder, data, operation, printer, output)
}

/// As [`run_into`], where the data may still have to be made.
fn run_at(
    folder: &DataFolder,
    data: &Data,
    operation: &Operation,
    printer: Printer,
    mut output: impl Write + Send,
) -> anyhow::Result<Value> {
    let bar = progress::bar(printer, "entries");
    let mut progress = |done| progress::show(&bar, done);
    let progress: &mut (dyn FnMut(Done) + Send) = &mut progress;
    let mut told = Told { progress: (!bar.is_hidden()).then_some(progress), output: &mut output };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let socket = folder.control_socket();
    let mut answer = None;
    // A node that starts has the data before it takes questions.
    let opened = lock::patiently(|| {
        answer = runtime.block_on(control::ask(&socket, operation, &mut told))?;
        if answer.is_some() {
            return Ok(None);
        }
        let config: Config = folder.config(data.config.as_deref(), &[], Checks::Values)?;
        // What was never made is made now, as for every command.
        let looks = operation.only_looks() && folder.store().exists();
        let access = if looks { Access::Look } else { Access::Change };
        Ok(Some((open_store(folder, &config, access)?, config)))
    })?;
    let Some((store, config)) = opened else {
        bar.finish_and_clear();
        return answer.context("the node has not answered");
    };
    if operation.is_in_its_name() {
        identity::check(folder, &config, &store)?;
    }
    let result = runtime.block_on(async {
        let settings = settings(folder, &config, config.federation.domain()?);
        let services = Services::new(store.clone(), settings, Environment::system());
        let ca = config.federation.ca.clone();
        let configured = Configured::new(folder, data, &config)?;
        let node = Node { services, federation: None, ca, api: None, configured, backups: None };
        operation.clone().run(&node, told).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    store.close();
    bar.finish_and_clear();
    result
}

/// `version`.
pub(crate) fn version(printer: Printer) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    printer.print(&json!({ "version": version, "schema": store::schema::VERSION }), || {
        format!("entente {version}")
    })?;
    Ok(ExitCode::SUCCESS)
}
