//! `health`: whether the node that serves a data folder answers its clients, and whether it has found
//! damage.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::text;
use crate::cli::Data;
use crate::control;
use crate::data_folder::DataFolder;
use crate::operation::{Operation, Told};
use crate::printer::Printer;

/// Time the node gets to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is said of the backups that the node makes by itself.
fn of_backups(backups: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(made), Some(reaches)) = (backups["made"].as_str(), backups["reaches"].as_str()) {
        let checked = match (backups["checked"].as_str(), backups["ok"].as_bool()) {
            (Some(at), Some(true)) => format!("restored on trial {at}: in order"),
            (Some(at), _) => format!("restored on trial {at}: not in order"),
            (None, _) => "not restored on trial yet".to_owned(),
        };
        lines.push(format!(
            "The newest backup is of {made} and reaches until {reaches}; {checked}."
        ));
    }
    if let Some(problem) = backups["problem"].as_str() {
        lines.push(format!("Backups: {problem}."));
    }
    lines
}

/// Asks the node where its API is, and the API for any answer.
pub(crate) fn run(data: &Data, printer: Printer) -> anyhow::Result<ExitCode> {
    let folder = DataFolder::new(&data.folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (api, damaged, files, stopped, backups) = runtime.block_on(async {
        let mut told = Told { progress: None, output: &mut std::io::sink() };
        let socket = folder.control_socket();
        let asked = control::ask(&socket, &Operation::Health, &mut told);
        let asked = tokio::time::timeout(PATIENCE, asked).await.context("the node is silent")?;
        let Some(answer) = asked? else {
            bail!("no node serves {}", folder.path().display());
        };
        let api = text(&answer, "api");
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        let (damaged, files) = (number("damaged"), number("damaged_files"));
        // It is the own node: who it is says the control socket, not its certificate.
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()?;
        let answered = client.get(&api).send().await;
        answered.with_context(|| format!("the REST API at {api} does not answer"))?;
        let stopped = answer["federation_stopped"].as_str().map(str::to_owned);
        anyhow::Ok((api, damaged, files, stopped, answer["backups"].clone()))
    })?;
    let result = json!({
        "healthy": true,
        "api": api,
        "damaged": damaged,
        "damaged_files": files,
        "federation_stopped": stopped,
        "backups": backups,
    });
    printer.print(&result, || {
        let mut lines = vec![format!("The REST API at {api} answers.")];
        if (damaged, files) != (0, 0) {
            lines.push(format!(
                "The disk has damaged {damaged} stored values and {files} uploaded files; \
                 `entente verify` names them."
            ));
        }
        lines.extend(stopped.iter().map(|why| format!("It deals with no other node: {why}.")));
        lines.extend(of_backups(&backups));
        lines.join("\n")
    })?;
    // What is not damaged is served: whoever restarts what is not healthy must not.
    Ok(ExitCode::SUCCESS)
}
