//! What is wrong with a configuration.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::origin::Origin;

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Problem {
    /// The key, as `section.key`, or what else is wrong: a variable, a section, a file.
    key: String,
    /// The value as it was given; `None` if there is none, or if it is a secret.
    value: Option<String>,
    /// What is wrong, and what would be right.
    problem: String,
    /// Where it was given.
    from: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn note(
        &mut self,
        key: impl Into<String>,
        value: Option<&toml::Value>,
        problem: impl Into<String>,
        origin: &Origin,
    ) {
        self.0.push(Problem {
            key: key.into(),
            value: value.map(ToString::to_string),
            problem: problem.into(),
            from: origin.to_string(),
        });
    }

    pub(super) fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// As JSON, for programs.
    pub(crate) fn json(&self) -> Value {
        json!({ "error": self.heading(), "problems": self.0 })
    }

    fn heading(&self) -> String {
        match self.0.len() {
            1 => "the configuration has a problem".into(),
            count => format!("the configuration has {count} problems"),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.heading())?;
        for Problem { key, value, problem, from } in &self.0 {
            write!(f, "\n  {key}")?;
            if let Some(value) = value {
                write!(f, " = {value}")?;
            }
            write!(f, ": {problem} ({from})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
