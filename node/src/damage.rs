//! Data that is damaged or not complete, in words that say what to do.

use std::path::{Path, PathBuf};

use store::StoreError;
use store::backup::BackupError;

/// Exit code when data is damaged or not complete.
pub(crate) const EXIT_CODE: u8 = 3;

/// What is wrong with a data folder. Nothing is served and nothing is changed until it is put right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    /// The database cannot be read.
    #[error(
        "the database in {} is damaged: {reason}. Nothing was changed. Keep a copy of the folder. \
         `entente repair --data {}` makes a whole database from what is left and says what is not; or \
         move {} out of the way and restore the newest backup: entente restore --data {} FILE",
        store.display(), data.display(), store.display(), data.display()
    )]
    Store {
        /// The data folder.
        data: PathBuf,
        /// The folder of the database.
        store: PathBuf,
        /// What cannot be read.
        reason: String,
    },
    /// A restore was cut short.
    #[error(
        "a restore into {} was cut short: {} is what is left of it. Run `entente restore` again; it \
         begins anew by itself. To go on without what it would have brought, remove {}",
        data.display(), left.display(), left.display()
    )]
    HalfRestored {
        /// The data folder.
        data: PathBuf,
        /// What the restore has left.
        left: PathBuf,
    },
    /// The keys are gone.
    #[error(
        "{} is missing, and this node has federated{}: without its keys it is somebody else to other \
         nodes. Put the file back from a copy or a backup. {NEW_IDENTITY}",
        file.display(), under(domain)
    )]
    IdentityMissing {
        /// The file.
        file: PathBuf,
        /// The domain, where it is known.
        domain: String,
    },
    /// The keys cannot be read.
    #[error(
        "{} is damaged ({reason}). Put the file back from a copy or a backup. {NEW_IDENTITY}",
        file.display()
    )]
    IdentityDamaged {
        /// The file.
        file: PathBuf,
        /// What cannot be read.
        reason: String,
    },
    /// The keys are those of another node.
    #[error(
        "{} is not the one of this node: {other}. Put the right file back from a copy or a backup. \
         {NEW_IDENTITY}",
        file.display()
    )]
    IdentityOfAnother {
        /// The file.
        file: PathBuf,
        /// In what it differs.
        other: String,
    },
    /// What the node that serves says of its data.
    #[error("{0}")]
    Told(String),
}

/// What to do when keys are lost.
const NEW_IDENTITY: &str = "If it is lost for good, `entente serve --new-identity` makes new keys, once: \
     nodes that have pinned the old key refuse this one until they pin the new key, and the others \
     until they have read the new document at https://DOMAIN/.well-known/entente";

fn under(domain: &str) -> String {
    if domain.is_empty() { String::new() } else { format!(" as {domain}") }
}

/// What comes of opening a database that does not open.
pub(crate) fn of_store(data: &Path, store: &Path, error: StoreError) -> anyhow::Error {
    let reason = match &error {
        StoreError::Engine(text) => plain(text),
        StoreError::DamagedFile { file, reason } => format!("{}: {reason}", file.display()),
        StoreError::Damaged { .. } | StoreError::DamagedValue { .. } => error.to_string(),
        StoreError::Folder { folder, source } => {
            let (at, why) = (folder.display(), in_words(source));
            return anyhow::anyhow!("cannot open the database: {at}: {why}");
        }
        _ => return anyhow::Error::new(error).context("cannot open the database"),
    };
    let (data, store) = (data.to_owned(), store.to_owned());
    Damage::Store { data, store, reason }.into()
}

/// An error of the system without its number.
pub(crate) fn in_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// What the engine says, without what only its makers understand.
fn plain(text: &str) -> String {
    if text.starts_with("Read corrupted data") || text.contains("backtrace") {
        return "a file of it is not as it was written".to_owned();
    }
    text.to_owned()
}

/// Whether an error is about damage.
pub(crate) fn is_damage(error: &anyhow::Error) -> bool {
    let of_store = |error: &StoreError| {
        matches!(
            error,
            StoreError::Damaged { .. }
                | StoreError::DamagedFile { .. }
                | StoreError::DamagedValue { .. }
        )
    };
    error.chain().any(|cause| {
        let in_backup = matches!(cause.downcast_ref(), Some(BackupError::Store(e)) if of_store(e));
        cause.is::<Damage>() || in_backup || cause.downcast_ref().is_some_and(of_store)
    })
}
