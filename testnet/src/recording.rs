//! Recorded exchanges, repeated: what was recorded is compared with what a node answers.
//!
//! Values that every run makes anew (IDs, versions, tokens) are learnt from each pair of answers
//! and put into the requests that follow. What is compared are codes, keys, JSON types, and null,
//! empty and absent; not texts for people and not times.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

mod decoded;
mod forged;
mod outcome;

pub use decoded::{decoded, encoded};
pub use forged::forged;
pub use outcome::Outcome;

/// Keys whose texts are made anew by every run.
const LEARNT: [&str; 9] = [
    "groupID",
    "versionID",
    "serverMsgID",
    "clientMsgID",
    "token",
    "uploadID",
    "url",
    "conversationID",
    "logID",
];

/// What is known of this run's values.
#[derive(Debug, Default)]
pub struct Learnt {
    texts: HashMap<String, String>,
    /// Recorded and present versions of each log, in the order in which they were seen.
    versions: HashMap<String, Vec<(u64, u64)>>,
}

impl Learnt {
    /// Says that a recorded text stands for another one in this run.
    pub fn text(&mut self, recorded: &str, now: &str) {
        if recorded != now && !recorded.is_empty() && !now.is_empty() {
            self.texts.insert(recorded.to_owned(), now.to_owned());
        }
    }

    /// Learns from a recorded answer and the one of this run.
    pub fn from_answers(&mut self, recorded: &Value, now: &Value) {
        match (recorded, now) {
            (Value::Object(recorded), Value::Object(now)) => {
                self.learn_version(recorded, now);
                for (key, was) in recorded {
                    let Some(is) = now.get(key) else { continue };
                    if let (Value::String(was), Value::String(is)) = (was, is)
                        && LEARNT.contains(&key.as_str())
                        && (!["groupID", "conversationID"].contains(&key.as_str())
                            || is_generated(was) && is_generated(is))
                    {
                        self.text(was, is);
                    }
                    self.from_answers(was, is);
                }
            }
            (Value::Array(recorded), Value::Array(now)) => {
                for (was, is) in recorded.iter().zip(now) {
                    self.from_answers(was, is);
                }
            }
            _ => {}
        }
    }

    fn learn_version(&mut self, recorded: &Map<String, Value>, now: &Map<String, Value>) {
        let version = |from: &Map<String, Value>| {
            Some((from.get("versionID")?.as_str()?.to_owned(), from.get("version")?.as_u64()?))
        };
        if let (Some((id, was)), Some((_, is))) = (version(recorded), version(now)) {
            self.versions.entry(id).or_default().push((was, is));
        }
    }

    /// A recorded value as it has to be in this run.
    pub fn apply(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.apply_text(text)),
            Value::Array(list) => list.iter().map(|value| self.apply(value)).collect(),
            Value::Object(object) => {
                let mut applied: Map<String, Value> = object
                    .iter()
                    .map(|(key, value)| (self.apply_text(key), self.apply(value)))
                    .collect();
                let id = object.get("versionID").and_then(Value::as_str);
                let version = object.get("version").and_then(Value::as_u64);
                if let Some((id, version)) = id.zip(version)
                    && let Some(now) = self.version(id, version)
                {
                    applied.insert("version".into(), now.into());
                }
                applied.into()
            }
            other => other.clone(),
        }
    }

    /// The present version for a recorded one; one not seen is as far from the nearest as it was.
    fn version(&self, id: &str, recorded: u64) -> Option<u64> {
        if recorded == 0 {
            // Nothing seen yet, in any run.
            return None;
        }
        let seen = self.versions.get(id)?;
        let (was, is) = seen.iter().min_by_key(|(was, _)| was.abs_diff(recorded))?;
        Some((is + recorded).saturating_sub(*was))
    }

    /// A recorded text as it has to be in this run.
    pub fn apply_text(&self, text: &str) -> String {
        if let Some(now) = self.texts.get(text) {
            return now.clone();
        }
        let mut applied = text.to_owned();
        for (was, now) in self.texts.iter().filter(|(was, _)| was.len() >= 6) {
            if applied.contains(was.as_str()) {
                applied = applied.replace(was.as_str(), now);
            }
        }
        applied
    }
}

/// Whether a group ID (or the conversation ID of one) was made by the server.
fn is_generated(id: &str) -> bool {
    let group_id = id.trim_start_matches("sg_");
    group_id.len() >= 6 && group_id.bytes().all(|byte| byte.is_ascii_digit())
}

/// Where two answers differ, as sentences; nothing if they agree.
pub fn differences(recorded: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", recorded, now, &mut found);
    found
}

fn compare(path: &str, recorded: &Value, now: &Value, found: &mut Vec<String>) {
    match (recorded, now) {
        (Value::Object(recorded), Value::Object(now)) => {
            for (key, was) in recorded {
                match now.get(key) {
                    Some(is) => compare(&format!("{path}.{key}"), was, is, found),
                    None => found.push(format!("{path}.{key} is missing")),
                }
            }
            for key in now.keys().filter(|key| !recorded.contains_key(*key)) {
                found.push(format!("{path}.{key} is too much"));
            }
        }
        (Value::Array(recorded), Value::Array(now)) => {
            if recorded.len() != now.len() {
                found.push(format!("{path} has {} elements, not {}", now.len(), recorded.len()));
            }
            let order = by_id(recorded, now);
            for (at, was) in recorded.iter().enumerate() {
                let is = order.as_ref().map_or(now.get(at), |order| now.get(order[at]));
                if let Some(is) = is {
                    compare(&format!("{path}[{at}]"), was, is, found);
                }
            }
        }
        (Value::String(was), Value::String(is)) => {
            let for_people = path.ends_with(".errDlt") || path.ends_with(".errMsg");
            if was.is_empty() != is.is_empty() && !for_people {
                found.push(format!("{path} is {is:?}, not {was:?}"));
            }
        }
        (Value::Number(was), Value::Number(is)) => {
            let exact = path == ".errCode";
            let zero = |number: &serde_json::Number| number.as_i64() == Some(0);
            if zero(was) != zero(is) || (exact && was != is) {
                found.push(format!("{path} is {is}, not {was}"));
            }
        }
        (was, is) if was == is => {}
        (was, is) => found.push(format!("{path} is {is}, not {was}")),
    }
}

/// Where in `now` the elements of `recorded` are, if both list the same IDs, each once.
///
/// The order of most lists is not fixed; tests of the subjects check it where it is.
fn by_id(recorded: &[Value], now: &[Value]) -> Option<Vec<usize>> {
    let id = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        value if value.get("conversation").is_some() => {
            let id = value["conversation"].get("conversationID");
            id.and_then(Value::as_str).map(str::to_owned)
        }
        value => ["uuid", "userID", "conversationID", "groupID"]
            .iter()
            .find_map(|key| value.get(key).and_then(Value::as_str))
            .map(str::to_owned),
    };
    let now: Option<Vec<String>> = now.iter().map(id).collect();
    let now = now?;
    if now.iter().collect::<HashSet<_>>().len() < now.len() {
        return None;
    }
    recorded
        .iter()
        .map(|value| {
            let wanted = id(value)?;
            now.iter().position(|id| *id == wanted)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named() {
        let was = json!({"errCode": 0, "data": {"a": null, "b": "x", "c": 7, "d": [1]}});
        assert!(differences(&was, &was).is_empty());
        let is = json!({"errCode": 1, "data": {"a": [], "b": "", "c": 8, "e": 1}});
        assert_eq!(
            differences(&was, &is),
            [
                ".data.a is [], not null",
                ".data.b is \"\", not \"x\"",
                ".data.d is missing",
                ".data.e is too much",
                ".errCode is 1, not 0"
            ]
        );
    }

    #[test]
    fn values_of_this_run_replace_recorded_ones() {
        let mut learnt = Learnt::default();
        learnt.from_answers(
            &json!({"groupID": "123456", "versionID": "aa", "version": 3}),
            &json!({"groupID": "654321", "versionID": "bb", "version": 4}),
        );
        let request = json!({"id": "sg_123456", "versionID": "aa", "version": 3});
        assert_eq!(
            learnt.apply(&request),
            json!({"id": "sg_654321", "versionID": "bb", "version": 4})
        );
    }
}
