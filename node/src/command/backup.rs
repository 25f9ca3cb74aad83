//! `backup`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use services::Environment;
use store::backup::NewFile;

use super::passphrase::{self, Which};
use super::{rows, run, run_into, text};
use crate::cli::{BackupOptions, Data};
use crate::config;
use crate::data_folder::DataFolder;
use crate::operation::Operation;
use crate::printer::Printer;
use crate::sealed::Secrets;

/// In place of a file: standard output, or standard input.
pub(super) const STANDARD: &str = "-";

/// What can be done without a passphrase.
const INSTEAD: &str = "With --without-secrets the secret and the keys of the node are left out";

/// `backup [FILE]`.
pub(crate) fn run_one(
    data: &Data,
    options: &BackupOptions,
    printer: Printer,
) -> anyhow::Result<ExitCode> {
    let to_standard = options.file.as_ref().is_some_and(|file| file.as_os_str() == STANDARD);
    if to_standard && io::stdout().is_terminal() {
        bail!("a backup is nothing for a terminal: lead it into a file or a program");
    }
    let sources = run(data, &Operation::BackupSources, printer)?;
    let new = if to_standard {
        None
    } else {
        let path = named(options.file.as_deref(), &text(&sources, "domain"))?;
        let made = NewFile::create(&path, options.force).map_err(|error| {
            let again = error.kind() == io::ErrorKind::AlreadyExists;
            let hint = if again { "; --force replaces it" } else { "" };
            anyhow::anyhow!("cannot write {}: {error}{hint}", path.display())
        });
        Some((made?, path))
    };
    let Content { operation, left_out, encrypted } = content(data, options, &sources)?;
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
    let now = jiff::Timestamp::from_millisecond(Environment::system().clock.now_ms())?;
    let now = now.strftime("%Y%m%dT%H%M%SZ");
    let domain = if domain.is_empty() { String::new() } else { format!("{domain}-") };
    Ok(path.join(format!("entente-{domain}{now}.backup")))
}

/// What goes into a backup.
struct Content {
    operation: Operation,
    left_out: Vec<String>,
    encrypted: bool,
}

fn content(data: &Data, options: &BackupOptions, sources: &Value) -> anyhow::Result<Content> {
    let folder = DataFolder::new(&data.folder);
    let mut left_out = Vec::new();
    let named = PathBuf::from(text(sources, "config"));
    let config = match std::fs::read_to_string(&named) {
        Ok(config) => Some(config),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", named.display()));
        }
    };
    let identity_file = folder.identity_file();
    let identity = match folder.identity_if_there() {
        Ok(Some(_)) => Some(std::fs::read_to_string(&identity_file)?),
        Ok(None) if sources["federated"] == false => None,
        Ok(None) => {
            left_out.push(format!("{}: it is missing", identity_file.display()));
            None
        }
        Err(error) => {
            left_out.push(format!("{error:#}"));
            None
        }
    };
    let (mut sealed, mut plain) = (Vec::new(), None);
    if options.without_secrets {
        left_out.push("the secret: without it every token that was issued is refused".into());
        if identity.is_some() {
            let what = "the keys of the node, without which it is somebody else to other nodes: keep a \
                        copy of";
            left_out.push(format!("{what} {}", identity_file.display()));
        }
        plain = match config {
            Some(text) if config::holds_secret(&text) => {
                left_out.push(format!("{}: a secret is in it", named.display()));
                None
            }
            config => config,
        };
    } else {
        let file = options.passphrase_file.as_deref();
        let passphrase = passphrase::get(file, Which::New, INSTEAD)?;
        let secret = Some(text(sources, "secret")).filter(|secret| !secret.is_empty());
        sealed = Secrets { secret, identity, config }.seal(&passphrase)?;
    }
    for file in rows(sources, "files").iter().filter_map(Value::as_str) {
        left_out.push(format!("{file}: the configuration names it"));
    }
    if options.without_objects {
        left_out.push(format!("uploaded files: copy {}", folder.objects().display()));
    }
    let note = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "made_ms": Environment::system().clock.now_ms(),
        "domain": text(sources, "domain"),
        "left_out": left_out,
    });
    let encrypted = !sealed.is_empty();
    let operation = Operation::Backup {
        note: note.to_string(),
        sealed: hex::encode(sealed),
        config: plain,
        objects: !options.without_objects,
    };
    Ok(Content { operation, left_out, encrypted })
}
