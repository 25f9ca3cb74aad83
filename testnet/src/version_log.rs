//! How SDKs keep copies of lists: by the version logs.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::Result;

/// The state of a list that there is a copy of.
#[derive(Debug, Default)]
pub(crate) struct Version {
    number: u64,
    id: String,
}

/// What has changed in a list.
pub(crate) struct Changes<'a> {
    /// IDs of what is gone.
    pub(crate) gone: Vec<&'a str>,
    /// What is new, or not as it was.
    pub(crate) rows: Vec<&'a Value>,
}

impl Version {
    /// Adds to a request what there is a copy of.
    pub(crate) fn since(&self, mut request: Value) -> Value {
        request["version"] = json!(self.number);
        request["versionID"] = json!(self.id);
        request
    }

    /// Goes on to the state that an answer tells of; returns what has changed until then. `None`: the
    /// whole list has to be fetched.
    pub(crate) fn step<'a>(&mut self, answer: &'a Value) -> Result<Option<Changes<'a>>> {
        self.number = answer["version"].as_u64().context("no version")?;
        self.id = answer["versionID"].as_str().context("no versionID")?.to_owned();
        if answer["full"] == true {
            return Ok(None);
        }
        let list = |name: &str| answer[name].as_array().into_iter().flatten();
        Ok(Some(Changes {
            gone: list("delete").filter_map(Value::as_str).collect(),
            rows: list("insert").chain(list("update")).collect(),
        }))
    }
}
