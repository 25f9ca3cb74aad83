//! What goes into a backup of a node, whoever asks for it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use services::Environment;
use store::View;
use store::backup::{BackupError, Beside, Summary};

use crate::config;
use crate::data_folder::DataFolder;
use crate::objects;
use crate::sealed::Secrets;

/// What ends the name of a backup.
pub(crate) const SUFFIX: &str = ".backup";

/// What a backup needs to know of a node; the secret is among it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sources {
    /// Empty: it does not federate.
    pub(crate) domain: String,
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Files that it names.
    pub(crate) files: Vec<String>,
    pub(crate) secret: String,
    /// It has federated, and so must have keys.
    pub(crate) federated: bool,
}

/// What a backup says of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Note {
    /// Version of the program.
    pub(crate) program: String,
    /// The moment of which it is, Unix milliseconds.
    pub(crate) made_ms: i64,
    pub(crate) domain: String,
    /// What is not in it.
    pub(crate) left_out: Vec<String>,
    /// The node has made it by itself, and removes it.
    pub(crate) scheduled: bool,
}

/// What goes into a backup beside the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) note: Note,
    /// The secrets, encrypted; empty: none.
    #[serde(with = "hex")]
    pub(crate) sealed: Vec<u8>,
    /// The configuration, where it goes as it is.
    pub(crate) config: Option<String>,
    /// Uploaded files go with it.
    pub(crate) objects: bool,
}

/// A new name of a backup in a folder: after the domain and the time.
pub(crate) fn named(folder: &Path, domain: &str) -> anyhow::Result<PathBuf> {
    let now = jiff::Timestamp::from_millisecond(Environment::system().clock.now_ms())?;
    let now = now.strftime("%Y%m%dT%H%M%SZ");
    let domain = if domain.is_empty() { String::new() } else { format!("{domain}-") };
    Ok(folder.join(format!("entente-{domain}{now}{SUFFIX}")))
}

/// Gathers what goes into a backup; without a passphrase, secrets do not.
pub(crate) fn gather(
    folder: &DataFolder,
    sources: &Sources,
    passphrase: Option<&str>,
    with_objects: bool,
) -> anyhow::Result<Content> {
    let mut left_out = Vec::new();
    let named = &sources.config;
    let config = match std::fs::read_to_string(named) {
        Ok(config) => Some(config),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", named.display()));
        }
    };
    let identity_file = folder.identity_file();
    let identity = match folder.identity_if_there() {
        Ok(Some(_)) => Some(std::fs::read_to_string(&identity_file)?),
        Ok(None) if !sources.federated => None,
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
    if let Some(passphrase) = passphrase {
        let secret = Some(sources.secret.clone()).filter(|secret| !secret.is_empty());
        sealed = Secrets { secret, identity, config }.seal(passphrase)?;
    } else {
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
    }
    for file in &sources.files {
        left_out.push(format!("{file}: the configuration names it"));
    }
    if !with_objects {
        left_out.push(format!("uploaded files: copy {}", folder.objects().display()));
    }
    let note = Note {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_ms: 0,
        domain: sources.domain.clone(),
        left_out,
        scheduled: false,
    };
    Ok(Content { note, sealed, config: plain, objects: with_objects })
}

/// Writes a backup of the state that `view` shows, which must just have been taken.
pub(crate) fn write(
    view: View<'_>,
    mut content: Content,
    objects: PathBuf,
    out: impl Write,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    // Whatever is in the view was written before.
    content.note.made_ms = Environment::system().clock.now_ms();
    let note = serde_json::to_vec(&content.note).map_err(io::Error::from)?;
    let beside = Beside {
        note: &note,
        sealed: &content.sealed,
        files: &mut objects::for_backup(content.config, content.objects.then_some(objects)),
    };
    store::backup::write_with(view, beside, out, progress)
}
