//! What the program says: results on standard output, everything else on standard error.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::config::Problems;
use crate::damage;

/// Exit code of wrong usage, of which a wrong configuration is a case.
const WRONG_USAGE: u8 = 2;

/// Prints results: for people, or as JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// One JSON object instead of text.
    pub(crate) json: bool,
}

impl Printer {
    /// Prints a result; for people what `text` makes of it, if that is anything.
    pub(crate) fn print(self, result: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = if self.json { result.to_string() } else { text() };
        if text.is_empty() {
            return Ok(());
        }
        say(text)
    }

    /// Tells people about a result without being a part of it.
    pub(crate) fn hint(self, text: &str) {
        if !self.json {
            complain(text);
        }
    }

    /// Tells of a result beside what was written to standard output.
    pub(crate) fn beside(self, result: &Value, text: &str) {
        complain(if self.json { result.to_string() } else { text.to_owned() });
    }

    /// Says why nothing came of it; returns with which code the program ends.
    pub(crate) fn failed(self, error: &anyhow::Error) -> ExitCode {
        let problems = error.downcast_ref::<Problems>();
        if self.json {
            let other = || json!({ "error": format!("{error:#}") });
            complain(problems.map_or_else(other, Problems::json));
        } else {
            complain(format!("entente: {error:#}"));
        }
        match problems {
            Some(_) => ExitCode::from(WRONG_USAGE),
            None if damage::is_damage(error) => ExitCode::from(damage::EXIT_CODE),
            None => ExitCode::FAILURE,
        }
    }

    /// Says that the words of the command line are wrong, or what they ask for by themselves: the
    /// help.
    pub(crate) fn usage(self, error: &clap::Error) -> ExitCode {
        if self.json && error.use_stderr() {
            complain(json!({ "error": error.render().to_string().trim_end() }));
        } else {
            // Who does not listen is not told.
            let _ = error.print();
        }
        if error.use_stderr() { ExitCode::from(WRONG_USAGE) } else { ExitCode::SUCCESS }
    }
}

/// Writes to standard output. Who has heard enough and has closed it misses nothing.
fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// Writes to standard error, if anybody listens.
fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
