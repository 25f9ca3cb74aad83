//! Catching up with the log of a group: when entries are missing here, the home is asked for them.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use prost::Message as _;
use proto::federation::{
    EntryHeader, GroupEntry, GroupLogPart, GroupLogRequest, request, response,
};
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use store::group_log::entry_hash;
use store::record::GroupLog;
use store::{Direction, schema};

use super::Trouble;
use super::group::stored_entry;
use super::head::check_home;
use super::signature::Vouched;
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::object::blocking;

/// Bytes of entries in one answer.
const MAX_BYTES: usize = 180 * 1_024;
/// Entries in one answer.
const MAX_ENTRIES: usize = 500;
/// Pause after a failure; longer each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Services {
    /// Looks at every group that this node follows, once.
    pub(super) fn catch_up_all(&self) -> Result<()> {
        let view = self.store().view();
        for row in schema::GROUP_REPLICAS.scan(&view, ()) {
            self.catch_up_later(&row?.0);
        }
        Ok(())
    }

    /// Catches up with the log of a group, unless that is under way.
    pub(super) fn catch_up_later(&self, group_id: &str) {
        if !self.inner.catching_up.lock().insert(group_id.to_owned()) {
            return;
        }
        let (services, group_id) = (self.clone(), group_id.to_owned());
        self.inner.runtime.spawn(async move {
            let mut pause = PAUSE;
            loop {
                match services.catch_up(&group_id).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(ServiceError::Elsewhere { code, reason }) => {
                        // The home says that there is nothing for this node to follow.
                        tracing::debug!(group = group_id, code, reason, "not followed");
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(group = group_id, %error, "not caught up yet");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
            services.inner.catching_up.lock().remove(&group_id);
        });
    }

    /// Fetches and applies one part of a log; returns whether it was the last.
    async fn catch_up(&self, group_id: &str) -> Result<bool> {
        let (Some(own), Some(home)) = (self.domain(), home_of(group_id)) else { return Ok(true) };
        let replica = schema::GROUP_REPLICAS.get(&self.store().view(), group_id)?;
        let Some(replica) = replica else { return Ok(true) };
        if check_home(&self.store().view(), group_id).is_err() {
            return Ok(true);
        }
        let request = GroupLogRequest {
            group: qualify(group_id, own)?,
            epoch: replica.epoch,
            seq: replica.seq,
            hash: replica.hash.into(),
        };
        let response = self.ask(&home, request::Body::GroupLog(request)).await?;
        let Some(response::Body::GroupLog(part)) = response.body else {
            return Err(ServiceError::Unreachable(format!("{home} gave no log")));
        };
        let (last, group_id) = (part.last, group_id.to_owned());
        let caller = Caller::other_node(home.as_str());
        let (services, from) = (self.clone(), home.clone());
        let (part, vouched) = blocking(move || {
            let mut vouched = Vouched::default();
            for entry in &part.entries {
                services.vouch_entry(&from, entry, &mut vouched);
            }
            Ok((part, vouched))
        })
        .await?;
        self.change(&caller, move |change| {
            change.take_log(&home, part, &vouched).map_err(Trouble::of_an_answer)?;
            let replica = schema::GROUP_REPLICAS.get(change.tx, &group_id)?;
            Ok(replica.is_none_or(|replica| replica.seq >= last))
        })
        .await
    }

    /// What another node is missing of the log of a group of this one.
    pub(super) async fn answer_log(
        &self,
        origin: &Domain,
        request: GroupLogRequest,
    ) -> Result<GroupLogPart> {
        let origin = origin.clone();
        let caller = Caller::other_node(origin.as_str());
        let part = self.change(&caller, move |change| change.log_part(&origin, &request)).await;
        part.map(|mut part| {
            if let Some(last) = part.entries.last_mut() {
                self.seal_entry(last, &mut HashSet::new());
            }
            part
        })
    }
}

impl Change<'_, '_> {
    fn take_log(
        &mut self,
        home: &Domain,
        part: GroupLogPart,
        vouched: &Vouched,
    ) -> std::result::Result<(), Trouble> {
        if let Some(snapshot) = part.snapshot {
            self.group_snapshot(home, snapshot)?;
        }
        for entry in &part.entries {
            self.group_entry(home, entry, vouched)?;
        }
        Ok(())
    }

    fn log_part(&mut self, origin: &Domain, request: &GroupLogRequest) -> Result<GroupLogPart> {
        let own = self.own_domain()?;
        let group_id = localise(&request.group, &own)?;
        let follows = schema::GROUP_NODES.contains(self.tx, (&group_id, origin.as_str()))?;
        let log = schema::GROUP_LOGS.get(self.tx, &group_id)?;
        let Some(log) = log.filter(|_| follows && !is_remote(&group_id)) else {
            return Err(ServiceError::denied(format!("{origin} has no members in {group_id}")));
        };
        let mut part = GroupLogPart { last: log.seq, ..GroupLogPart::default() };
        let Some(after) = self.place_in_log(&group_id, &log, request)? else {
            part.snapshot = Some(self.snapshot(&group_id, &log, &BTreeSet::new(), None, None)?);
            return Ok(part);
        };
        let first = (group_id.as_str(), log.epoch, after + 1);
        let last = (group_id.as_str(), log.epoch);
        let mut bytes = 0;
        for row in schema::GROUP_ENTRIES.range(self.tx, first, last, Direction::Ascending) {
            let (_, entry) = row?;
            let entry: GroupEntry = stored_entry(self.tx, &group_id, entry.header, &own)?;
            bytes += entry.encoded_len();
            if !part.entries.is_empty() && bytes > MAX_BYTES {
                break;
            }
            part.entries.push(entry);
            if part.entries.len() == MAX_ENTRIES {
                break;
            }
        }
        Ok(part)
    }

    /// The seq behind which a log goes on for who knows it up to an entry; `None` if this log does
    /// not hold that entry.
    fn place_in_log(
        &self,
        group_id: &str,
        log: &GroupLog,
        known: &GroupLogRequest,
    ) -> Result<Option<u64>> {
        let entry = |seq| schema::GROUP_ENTRIES.get(self.tx, (group_id, log.epoch, seq));
        if known.epoch == log.epoch && known.seq > 0 {
            let holds = entry(known.seq)?.is_some_and(|e| entry_hash(&e.header) == known.hash);
            return Ok(holds.then_some(known.seq));
        }
        // Where the epoch begins, which is where the one before it ended.
        let begin = match entry(1)? {
            Some(first) => EntryHeader::decode(first.header).unwrap_or_default().previous,
            None => log.hash.clone().into(),
        };
        let at_begin = known.epoch == log.epoch || known.epoch + 1 == log.epoch;
        Ok((at_begin && known.hash == begin).then_some(0))
    }
}
