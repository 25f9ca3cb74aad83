//! What agreed with the recordings and what did not.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;

use crate::Result;

/// Counts agreeing lines and keeps the others with what is different.
#[derive(Debug, Default)]
pub struct Outcome {
    agreed: usize,
    /// File and line of what was answered otherwise, and how.
    differing: BTreeMap<String, String>,
}

impl Outcome {
    /// Adds line number `line` of `file`, counted from 1, with its differences.
    pub fn add(&mut self, file: &str, line: usize, what: &str, found: &[String]) {
        if found.is_empty() {
            self.agreed += 1;
        } else {
            self.differing
                .insert(format!("{file}:{line}"), format!("{what}: {}", found.join("; ")));
        }
    }

    /// How many lines agreed, and how many there were.
    pub fn counts(&self) -> (usize, usize) {
        (self.agreed, self.agreed + self.differing.len())
    }

    /// Fails unless exactly the lines differ that `listed` gives reasons for, a JSON object from
    /// place to reason.
    pub fn judge(&self, listed: &Path, files: &[&str]) -> Result {
        let listed: BTreeMap<String, String> =
            serde_json::from_str(&std::fs::read_to_string(listed)?)?;
        let mut wrong = Vec::new();
        for (place, what) in &self.differing {
            if !listed.contains_key(place) {
                wrong.push(format!("{place} {what}"));
            }
        }
        for place in listed.keys() {
            let ours = files.iter().any(|file| place.starts_with(&format!("{file}:")));
            if ours && !self.differing.contains_key(place) {
                wrong.push(format!("{place} agrees but is listed as different"));
            }
        }
        ensure!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_fails() -> Result {
        let folder = tempfile::tempdir()?;
        let listed = folder.path().join("listed.json");
        std::fs::write(&listed, r#"{"a.jsonl:1": "known", "b.jsonl:9": "of another file"}"#)?;
        let mut outcome = Outcome::default();
        for line in 2..9 {
            outcome.add("a.jsonl", line, "call", &[]);
        }
        assert!(outcome.judge(&listed, &["a.jsonl"]).is_err(), "line 1 has to differ");
        outcome.add("a.jsonl", 1, "call", &["x".into()]);
        outcome.judge(&listed, &["a.jsonl"])?;
        outcome.add("a.jsonl", 9, "call", &["y".into()]);
        assert!(outcome.judge(&listed, &["a.jsonl"]).is_err(), "line 9 is not listed");
        Ok(())
    }
}
