//! Commands other than `serve`: what they do and print.

pub(crate) mod federation;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use services::{Environment, Services};
use store::backup::{self, NewEpoch};

use crate::cli::{ConfigCommand, Data, UserCommand};
use crate::config::{self, Config};
use crate::control;
use crate::data_folder::DataFolder;
use crate::operation::{Node, Operation};
use crate::serve::{open_store, settings};

/// Exit code of `verify` when something is damaged.
const DAMAGED: u8 = 3;

/// Prints results: for people, or as JSON.
#[derive(Clone, Copy)]
pub(crate) struct Printer {
    /// One JSON object instead of text.
    pub(crate) json: bool,
}

impl Printer {
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    fn print(self, result: &Value, text: impl FnOnce() -> String) {
        if self.json {
            println!("{result}");
        } else {
            println!("{}", text());
        }
    }
}

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
    });
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
            printer.print(&json!({ "example": example }), || example.trim_end().to_owned());
        }
        ConfigCommand::Check => {
            let mut config = DataFolder::new(&data.folder).config(data.config.as_deref())?;
            config.auth.secret = String::new();
            let text = toml::to_string(&config)?;
            printer.print(&serde_json::to_value(&config)?, || text.trim_end().to_owned());
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
    let operation = match command {
        UserCommand::Add { id, nickname, face } => {
            let nickname = nickname.unwrap_or_else(|| id.clone());
            Operation::UserAdd { id, nickname, face }
        }
        UserCommand::List { limit, skip } => Operation::UserList { skip, limit },
        UserCommand::Token { id, platform } => Operation::UserToken { id, platform },
    };
    let result = run(data, &operation, printer)?;
    printer.print(&result, || match operation {
        Operation::UserList { .. } => {
            let users = rows(&result, "users");
            let line = |user: &Value| {
                let text = |key: &str| user[key].as_str().unwrap_or_default().to_owned();
                format!("{}\t{}", text("userID"), text("nickname"))
            };
            users.iter().map(line).collect::<Vec<_>>().join("\n")
        }
        Operation::UserToken { .. } => result["token"].as_str().unwrap_or_default().to_owned(),
        _ => format!("Registered {}.", result["userID"].as_str().unwrap_or_default()),
    });
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
        let text =
            |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
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
    });
    let clean = result["clean"].as_bool() == Some(true);
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

/// `backup FILE`.
pub(crate) fn backup(data: &Data, file: &Path, printer: Printer) -> anyhow::Result<ExitCode> {
    let file = std::path::absolute(file)?;
    let result = run(data, &Operation::Backup { file: file.clone() }, printer)?;
    printer
        .print(&result, || format!("Wrote {} entries to {}.", result["entries"], file.display()));
    Ok(ExitCode::SUCCESS)
}

/// `restore FILE`.
pub(crate) fn restore(
    data: &Data,
    file: &Path,
    lost: u32,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    folder.prepare()?;
    let config = folder.config(data.config.as_deref())?;
    let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let bar = bar(printer);
    let cache = config.store.cache_mib << 20;
    let progress = |count| bar.set_position(count);
    let restored = backup::restore(
        BufReader::new(input),
        &folder.store(),
        cache,
        NewEpoch { salt: rand::random(), skip: lost },
        progress,
    )?;
    bar.finish_and_clear();
    let result = json!({ "data": folder.path(), "entries": restored.records });
    printer.print(&result, || {
        format!("Restored {} entries into {}.", restored.records, folder.path().display())
    });
    Ok(ExitCode::SUCCESS)
}

/// Runs an operation: in the node that serves the data folder, or else here.
fn run(data: &Data, operation: &Operation, printer: Printer) -> anyhow::Result<Value> {
    let folder = DataFolder::new(&data.folder);
    if !folder.store().exists() {
        bail!("{} holds no data; `entente serve` makes it", folder.path().display());
    }
    run_at(&folder, data, operation, printer)
}

/// As [`run`], where the data may still have to be made.
fn run_at(
    folder: &DataFolder,
    data: &Data,
    operation: &Operation,
    printer: Printer,
) -> anyhow::Result<Value> {
    let bar = bar(printer);
    let mut progress = |count| bar.set_position(count);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let socket = folder.control_socket();
    let asked = control::ask(&socket, operation, &mut progress);
    if let Some(result) = runtime.block_on(asked)? {
        bar.finish_and_clear();
        return Ok(result);
    }
    let config: Config = folder.config(data.config.as_deref())?;
    let store = open_store(folder, &config)
        .context("no node answers on the control socket, and the data cannot be opened")?;
    let result = runtime.block_on(async {
        let settings = settings(folder, &config, config.federation.domain()?);
        let services = Services::new(store.clone(), settings, Environment::system());
        let ca = config.federation.ca.clone();
        let node = Node { services, federation: None, ca };
        operation.clone().run(&node, &mut progress).await
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    store.close();
    bar.finish_and_clear();
    result
}

/// A counter on a terminal; nothing where nobody looks.
pub(crate) fn bar(printer: Printer) -> ProgressBar {
    if printer.json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} entries, {per_sec}, {elapsed}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `version`.
pub(crate) fn version(printer: Printer) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    printer.print(&json!({ "version": version, "schema": store::schema::VERSION }), || {
        format!("entente {version}")
    });
    ExitCode::SUCCESS
}
