//! Checks everything that the store and the services promise about the data.
//!
//! One pass over the keyspace in key order. Each pair is decoded; what must agree with it in
//! another table is looked up. Nothing is changed, and apart from the numbers of the conversations
//! the memory needed does not grow with the data.

mod conversations;
mod federation;
mod groups;
mod version_logs;

use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use proto::qualified::is_remote;
use serde::Serialize;

use crate::engine::Direction;
use crate::key::KeyCodec;
use crate::layered::Read;
use crate::table::Table;
use crate::{StoreError, View, schema};

/// Findings that a report spells out.
const MOST_FINDINGS: usize = 1_000;
/// Records between two reports of progress.
const PROGRESS_EVERY: u64 = 1_000;
/// Longest text of a key in a finding.
const MOST_KEY_CHARS: usize = 200;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Table of the record.
    pub table: &'static str,
    /// Key of the record.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.table, self.key, self.problem)
    }
}

/// Outcome of a check.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records checked.
    pub records: u64,
    /// The first things found wrong, in key order.
    pub findings: Vec<Finding>,
    /// Further ones, only counted.
    pub omitted: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, table: &'static str, key: impl fmt::Debug, problem: impl Into<String>) {
        if self.findings.len() < MOST_FINDINGS {
            let key = format!("{key:?}").chars().take(MOST_KEY_CHARS).collect();
            self.findings.push(Finding { table, key, problem: problem.into() });
        } else {
            self.omitted += 1;
        }
    }
}

/// Checks the whole keyspace; `progress` hears the number of records checked so far.
///
/// Damage is reported, an engine that cannot be read is an error.
pub fn verify(view: &View<'_>, mut progress: impl FnMut(u64)) -> Result<Report, StoreError> {
    let mut check = Check { view, report: Report::default(), totals: Totals::default() };
    let mut conversations = conversations::Conversations::default();
    let mut logs = version_logs::VersionLogs::default();
    let mut from = Bound::Unbounded;
    // Behind a damaged value the scan begins anew.
    while let Some(damaged) =
        check.pairs_from(from, &mut conversations, &mut logs, &mut progress)?
    {
        from = Bound::Excluded(damaged);
    }
    let highest_number = conversations.finish(&mut check);
    check.totals(highest_number)?;
    progress(check.report.records);
    Ok(check.report)
}

/// Rows counted on the way.
#[derive(Default)]
struct Totals {
    users: i64,
    users_in_order: i64,
    groups: i64,
    groups_in_order: i64,
}

struct Check<'c, 'v> {
    view: &'c View<'v>,
    report: Report,
    totals: Totals,
}

impl Check<'_, '_> {
    /// Checks every pair up to the end, or up to a value that cannot be read; returns its key.
    fn pairs_from(
        &mut self,
        from: Bound<Vec<u8>>,
        conversations: &mut conversations::Conversations,
        logs: &mut version_logs::VersionLogs,
        progress: &mut impl FnMut(u64),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let view = self.view;
        for pair in view.scan((from, Bound::Unbounded), Direction::Ascending) {
            self.report.records += 1;
            if self.report.records.is_multiple_of(PROGRESS_EVERY) {
                progress(self.report.records);
            }
            let (key, value) = match pair {
                Err(StoreError::DamagedValue { key, reason }) => {
                    self.unreadable(&key, reason);
                    conversations.damaged(self, &key);
                    return Ok(Some(key));
                }
                pair => pair?,
            };
            if let Err(error) = schema::check(&key, value.clone()) {
                self.undecodable(&key, error);
                // It still takes its place in the order of the messages.
                conversations.damaged(self, &key);
                continue;
            }
            self.accounts(&key, &value)?;
            self.groups(&key, &value)?;
            self.objects(&key, &value)?;
            self.federation(&key, &value)?;
            conversations.pair(self, &key, &value)?;
            logs.pair(self, &key, &value)?;
        }
        Ok(None)
    }

    fn add<K: KeyCodec, V: prost::Message + Default>(
        &mut self,
        table: &Table<K, V>,
        key: &K::Owned,
        problem: impl Into<String>,
    ) {
        self.report.add(table.name(), key, problem);
    }

    fn undecodable(&mut self, key: &[u8], error: StoreError) {
        let problem = match error {
            StoreError::Damaged { reason, .. } => reason,
            other => other.to_string(),
        };
        self.unreadable(key, problem);
    }

    fn unreadable(&mut self, key: &[u8], problem: String) {
        self.report.add(schema::table_name(key), Bytes::copy_from_slice(key), problem);
    }

    /// The record that another one must agree with; a damaged one is reported in its own place.
    fn other<K: KeyCodec, V: prost::Message + Default>(
        &self,
        table: &Table<K, V>,
        key: K::Ref<'_>,
    ) -> Result<Option<V>, StoreError> {
        match table.get(self.view, key) {
            Err(error) if error.is_damage() => Ok(None),
            other => other,
        }
    }

    fn accounts(&mut self, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
        use schema::{
            FRIEND_REQUESTS, FRIEND_REQUESTS_SENT, META, REMOTE_USERS, USER_ORDER, USERS,
        };
        let view = self.view;
        if let Some((key, meta)) = META.row(key, value)? {
            if key != 0 {
                self.add(&META, &key, "there is a second meta record");
            } else if meta.salt.len() != 16 || meta.epoch == 0 {
                self.add(&META, &key, "the salt or the epoch is missing");
            }
        } else if let Some((id, user)) = USERS.row(key, value)? {
            if !is_remote(&id) {
                self.totals.users += 1;
            } else if !REMOTE_USERS.contains(view, &id)? {
                self.add(&USERS, &id, "nothing says when it came from its node");
            }
            if user.user_id != id {
                self.add(&USERS, &id, format!("it is the account of {:?}", user.user_id));
            }
        } else if let Some((key, _)) = USER_ORDER.row(key, value)? {
            self.totals.users_in_order += 1;
            if !USERS.contains(view, &key.1)? {
                self.add(&USER_ORDER, &key, "there is no such user");
            }
        } else if let Some((key, _)) = FRIEND_REQUESTS.row(key, value)? {
            if !FRIEND_REQUESTS_SENT.contains(view, (&key.1, &key.0))? {
                self.add(&FRIEND_REQUESTS, &key, "it is missing among those the sender sent");
            }
        } else if let Some((key, _)) = FRIEND_REQUESTS_SENT.row(key, value)?
            && !FRIEND_REQUESTS.contains(view, (&key.1, &key.0))?
        {
            self.add(&FRIEND_REQUESTS_SENT, &key, "the receiver has no such request");
        }
        Ok(())
    }

    fn objects(&mut self, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
        use schema::{OBJECT_NAMES, OBJECTS};
        if let Some((name, object)) = OBJECTS.row(key, value)? {
            if !OBJECT_NAMES.contains(self.view, (&object.key, &name))? {
                self.add(&OBJECTS, &name, "its content does not know the name");
            }
        } else if let Some((key, _)) = OBJECT_NAMES.row(key, value)? {
            let object = self.other(&OBJECTS, &key.1)?;
            if object.is_none_or(|object| object.key != key.0) {
                self.add(&OBJECT_NAMES, &key, "the name does not stand for this content");
            }
        }
        Ok(())
    }

    /// What can only be told at the end.
    fn totals(&mut self, highest_number: u64) -> Result<(), StoreError> {
        use schema::{COUNTERS, GROUP_ORDER, META, USER_ORDER, counter};
        if self.report.records > 0 && !META.contains(self.view, 0)? {
            self.add(&META, &0, "it is missing");
        }
        let Totals { users, users_in_order, groups, groups_in_order } = self.totals;
        if users != users_in_order {
            let problem = format!("{users} users, but {users_in_order} places in their order");
            self.report.add(USER_ORDER.name(), "all", problem);
        }
        if groups != groups_in_order {
            let problem = format!("{groups} groups, but {groups_in_order} places in their order");
            self.report.add(GROUP_ORDER.name(), "all", problem);
        }
        let count = |name| -> Result<i64, StoreError> {
            Ok(self.other(&COUNTERS, name)?.map_or(0, |number| number.value))
        };
        let (counted, given) = (count(counter::USERS)?, count(counter::CONVERSATIONS)?);
        if counted != users {
            let problem = format!("it says {counted}, there are {users}");
            self.add(&COUNTERS, &counter::USERS.to_owned(), problem);
        }
        if given.cast_unsigned() < highest_number {
            let problem = format!("it says {given}, the number {highest_number} is in use");
            self.add(&COUNTERS, &counter::CONVERSATIONS.to_owned(), problem);
        }
        Ok(())
    }
}

impl<K: KeyCodec, V: prost::Message + Default> Table<K, V> {
    /// Key and value of a raw pair, if it belongs to this table.
    fn row(&self, key: &[u8], value: &Bytes) -> Result<Option<(K::Owned, V)>, StoreError> {
        if key.first() != Some(&self.tag()) {
            return Ok(None);
        }
        self.decode(key, value.clone()).map(Some)
    }
}
