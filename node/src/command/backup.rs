//! `backup`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use store::backup::NewFile;

use super::passphrase::{self, Which};
use super::{run, run_into, text};
use crate::backup::{self, Sources};
use crate::backups::list::{self, Listed};
use crate::cli::{BackupCommand, BackupOptions, Data};
use crate::config::Checks;
use crate::data_folder::DataFolder;
use crate::operation::Operation;
use crate::printer::Printer;

/// In place of a file: standard output, or standard input.
pub(super) const STANDARD: &str = "-";

/// What can be done without a passphrase.
const INSTEAD: &str = "With --without-secrets the secret and the keys of the node are left out";

/// `backup …`.
pub(crate) fn run_one(
    data: &Data,
    options: &BackupOptions,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    match &options.command {
        None => write(data, options, printer),
        Some(BackupCommand::List { within }) => list(data, within.as_deref(), printer),
        Some(BackupCommand::Now) => now(data, printer),
    }
}

/// `backup [FILE]`.
fn write(data: &Data, options: &BackupOptions, printer: Printer) -> anyhow::Result<ExitCode> {
    let to_standard = options.file.as_ref().is_some_and(|file| file.as_os_str() == STANDARD);
    if to_standard && io::stdout().is_terminal() {
        bail!("a backup is nothing for a terminal: lead it into a file or a program");
    }
    let sources = run(data, &Operation::BackupSources, printer)?;
    let sources: Sources = serde_json::from_value(sources)?;
    let new = if to_standard {
        None
    } else {
        let path = named(options.file.as_deref(), &sources.domain)?;
        let made = NewFile::create(&path, options.force).map_err(|error| {
            let again = error.kind() == io::ErrorKind::AlreadyExists;
            let hint = if again { "; --force replaces it" } else { "" };
            anyhow::anyhow!("cannot write {}: {error}{hint}", path.display())
        });
        Some((made?, path))
    };
    let passphrase = if options.without_secrets {
        None
    } else {
        Some(passphrase::get(options.passphrase_file.as_deref(), Which::New, INSTEAD)?)
    };
    let folder = DataFolder::new(&data.folder);
    let content =
        backup::gather(&folder, &sources, passphrase.as_deref(), !options.without_objects)?;
    let (left_out, encrypted) = (content.note.left_out.clone(), !content.sealed.is_empty());
    let operation = Operation::Backup { content };
    let (mut result, path) = match new {
        None => (run_into(data, &operation, printer, io::stdout())?, None),
        Some((mut file, path)) => {
            let result = run_into(data, &operation, printer, &mut file)?;
            file.keep().with_context(|| format!("cannot write {}", path.display()))?;
            (result, Some(path))
        }
    };
    result["file"] = json!(path);
    result["encrypted_secrets"] = json!(encrypted);
    result["left_out"] = json!(left_out);
    let words = || {
        let to = path.as_ref().map(|path| format!(" to {}", path.display()));
        let (entries, files) = (&result["entries"], &result["files"]);
        let mut lines =
            vec![format!("Wrote {entries} entries, {files} files{}.", to.unwrap_or_default())];
        if encrypted {
            lines.push(
                "The secrets in it are encrypted; nobody can restore them without the passphrase."
                    .into(),
            );
        }
        lines.extend(left_out.iter().map(|what| format!("Left out: {what}")));
        lines.join("\n")
    };
    if to_standard {
        printer.beside(&result, &words());
    } else {
        printer.print(&result, words)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file to write: the one that is named, or one named after the domain and the time in the
/// folder that is named, or here.
fn named(given: Option<&Path>, domain: &str) -> anyhow::Result<PathBuf> {
    let given = given.unwrap_or(Path::new("."));
    let path = std::path::absolute(given)?;
    if !path.is_dir() {
        if given.as_os_str().as_encoded_bytes().ends_with(b"/") {
            bail!("there is no folder {}", given.display());
        }
        return Ok(path);
    }
    backup::named(&path, domain)
}

/// `backup now`.
fn now(data: &Data, printer: Printer) -> anyhow::Result<ExitCode> {
    let result = run(data, &Operation::BackupNow, printer)?;
    printer.print(&result, || format!("Made {}.", text(&result, "file")))?;
    Ok(ExitCode::SUCCESS)
}

/// `backup list [FOLDER]`.
fn list(data: &Data, given: Option<&Path>, printer: Printer) -> anyhow::Result<ExitCode> {
    let folder = match given {
        Some(folder) => folder.to_owned(),
        None => {
            let folder = DataFolder::new(&data.folder);
            folder.must_be_there()?;
            let config = folder.config(data.config.as_deref(), &[], Checks::Values)?;
            config.backup.folder
        }
    };
    if folder.as_os_str().is_empty() {
        bail!("the node makes no backups by itself: `folder` in [backup] is empty. Name a folder");
    }
    let listed = list::of(&folder)?;
    let rows: Vec<Value> = listed.iter().map(Listed::json).collect();
    printer.print(&json!({ "folder": folder, "backups": rows }), || {
        listed.iter().map(Listed::line).collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
