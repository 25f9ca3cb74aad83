//! The passphrase of the secrets in a backup: from a file, from the environment, or asked for; never
//! from the command line, which others can see.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use console::Term;

/// The variable that holds it.
pub(crate) const VARIABLE: &str = "ENTENTE_BACKUP_PASSPHRASE";
/// Fewer bytes are guessed too soon.
const MIN_BYTES: usize = 8;

/// Which passphrase is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// A new one, typed twice.
    New,
    /// The one of a backup.
    Old,
}

/// The passphrase; `instead` says what else can be done without one.
pub(super) fn get(file: Option<&Path>, which: Which, instead: &str) -> anyhow::Result<String> {
    let given = match file {
        Some(file) => return in_file(file),
        None => match std::env::var(VARIABLE) {
            Ok(text) => Some(text),
            Err(std::env::VarError::NotPresent) => None,
            Err(error) => return Err(error).context(VARIABLE),
        },
    };
    let passphrase = match given {
        Some(passphrase) => return long_enough(passphrase, VARIABLE),
        None if io::stdin().is_terminal() && io::stderr().is_terminal() => ask(which)?,
        None => bail!(
            "a passphrase for the secrets is needed: --passphrase-file FILE, or {VARIABLE}. {instead}"
        ),
    };
    if passphrase.len() < MIN_BYTES {
        bail!("the passphrase has fewer than {MIN_BYTES} bytes");
    }
    Ok(passphrase)
}

/// The passphrase in a file: its first line.
pub(crate) fn in_file(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let line = text.lines().next().unwrap_or_default();
    long_enough(line.to_owned(), &file.display().to_string())
}

fn long_enough(passphrase: String, from: &str) -> anyhow::Result<String> {
    if passphrase.len() < MIN_BYTES {
        bail!("the passphrase in {from} has fewer than {MIN_BYTES} bytes");
    }
    Ok(passphrase)
}

fn ask(which: Which) -> anyhow::Result<String> {
    let terminal = Term::stderr();
    let line = |question: &str| {
        terminal.write_str(question)?;
        terminal.read_secure_line()
    };
    let first = line("Passphrase for the secrets in the backup: ")?;
    if which == Which::New && line("Again: ")? != first {
        bail!("the two are not the same");
    }
    Ok(first)
}
