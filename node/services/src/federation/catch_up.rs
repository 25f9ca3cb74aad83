//! Catching up with the log of a group: when entries are missing here, the home is asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;
use proto::federation::{
    EntryHeader, GroupEntry, GroupHead, GroupLogPart, GroupLogRequest, request, response,
};
use proto::qualified::{Domain, localise, qualify};
use store::group_log::entry_hash;
use store::record::GroupReplica;
use store::{Direction, schema};

use super::Trouble;
use super::group::stored_entry;
use super::head::check_home;
use super::signature::Vouched;
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};

/// Bytes of entries in one answer.
const MAX_BYTES: usize = 180 * 1_024;
/// Entries in one answer.
const MAX_ENTRIES: usize = 500;
/// Pause after a failure; longer each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Fetches something of a group from its home step by step: until a step says that it was the last,
/// or the home that there is nothing for this node.
pub(super) async fn persist<F: Future<Output = Result<bool>>>(
    group_id: &str,
    step: impl Fn() -> F,
) {
    let mut pause = PAUSE;
    loop {
        match step().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(ServiceError::Elsewhere { code, reason }) => {
                tracing::debug!(group = group_id, code, reason, "nothing to fetch");
                return;
            }
            Err(error) => {
                tracing::debug!(group = group_id, %error, "not fetched yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Services {
    /// Looks at every group that this node follows, once.
    pub(super) fn catch_up_all(&self) -> Result<()> {
        let view = self.store().view();
        for row in schema::GROUP_REPLICAS.scan(&view, ()) {
            let (group_id, replica) = row?;
            self.catch_up_later(&group_id);
            if !replica.members_complete {
                self.fetch_members_later(&group_id);
            }
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
            persist(&group_id, || services.catch_up(&group_id)).await;
            services.inner.catching_up.lock().remove(&group_id);
        });
    }

    /// Fetches and applies one part of a log; returns whether it was the last.
    async fn catch_up(&self, group_id: &str) -> Result<bool> {
        let (home, replica) = {
            let view = self.store().view();
            let replica = schema::GROUP_REPLICAS.get(&view, group_id)?;
            let home = self.group_home(&view, group_id)?;
            let own = self.domain();
            let may =
                |home: &Domain| Some(home) != own && check_home(&view, group_id, home).is_ok();
            (home.filter(may), replica)
        };
        let (Some(own), Some(home), Some(replica)) = (self.domain(), home, replica) else {
            return Ok(true);
        };
        let request = GroupLogRequest {
            group: qualify(group_id, own)?,
            epoch: replica.epoch,
            seq: replica.seq,
            hash: replica.hash.into(),
        };
        let response = self.ask(&home, request::Body::GroupLog(request)).await?;
        let Some(response::Body::GroupLog(mut part)) = response.body else {
            return Err(ServiceError::Unreachable(format!("{home} gave no log")));
        };
        let (last, nothing) = (part.last, part.snapshot.is_none() && part.entries.is_empty());
        let group_id = group_id.to_owned();
        let caller = Caller::other_node(home.as_str());
        let (entries, vouched) = self.vouch_entries(&home, part.entries).await?;
        part.entries = entries;
        self.change(&caller, move |change| {
            change.take_log(&home, part, &vouched).map_err(Trouble::of_an_answer)?;
            let replica = schema::GROUP_REPLICAS.get(change.tx, &group_id)?;
            // A new home may have begun an epoch while the parts of the one before come.
            let opening = schema::GROUP_HOMES.get(change.tx, &group_id)?.is_some_and(|h| h.opening);
            Ok(nothing || replica.is_none_or(|replica| replica.seq >= last && !opening))
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
            if let Some(last) = part.entries.last_mut().filter(|last| last.head.is_none()) {
                self.seal_own(last);
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
            self.group_snapshot(home, snapshot, part.epoch_end)?;
        }
        for entry in &part.entries {
            self.group_entry(home, entry, vouched)?;
        }
        Ok(())
    }

    fn log_part(&mut self, origin: &Domain, request: &GroupLogRequest) -> Result<GroupLogPart> {
        let own = self.own_domain()?;
        let group_id = localise(&request.group, &own)?;
        self.must_follow(origin, &group_id)?;
        let log = schema::GROUP_LOGS.get(self.tx, &group_id)?;
        let place = self.place(&group_id)?.unwrap_or_default();
        let mut part = GroupLogPart { last: place.seq, ..GroupLogPart::default() };
        let Some((epoch, after)) = self.place_in_log(&group_id, &place, request)? else {
            let Some(log) = log else {
                return Err(ServiceError::denied("this node does not hold that entry"));
            };
            part.snapshot = Some(self.snapshot(&group_id, &log, &BTreeSet::new(), None, None)?);
            part.epoch_end = self.end_of(&group_id, &place, request.epoch)?;
            return Ok(part);
        };
        let first = (group_id.as_str(), epoch, after + 1);
        let last = (group_id.as_str(), place.epoch, place.seq);
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
        self.add_heads(&group_id, &mut part.entries)?;
        Ok(part)
    }

    /// Adds what the homes have signed of entries.
    fn add_heads(&self, group_id: &str, entries: &mut [GroupEntry]) -> Result<()> {
        let mut heads = Vec::new();
        heads.extend(schema::GROUP_HEADS.get(self.tx, group_id)?);
        for row in schema::GROUP_EPOCHS.scan(self.tx, group_id) {
            heads.push(row?.1);
        }
        let heads = heads.into_iter().filter_map(|signed| {
            let head = GroupHead::decode(signed.head).ok()?;
            Some(((head.epoch, head.seq), (head.hash, signed.signature)))
        });
        let heads: BTreeMap<_, _> = heads.collect();
        if heads.is_empty() {
            return Ok(());
        }
        for entry in entries {
            let header = EntryHeader::decode(entry.header.clone()).unwrap_or_default();
            if let Some((hash, signature)) = heads.get(&(header.epoch, header.seq))
                && *hash == entry_hash(&entry.header)
            {
                entry.head.clone_from(signature);
            }
        }
        Ok(())
    }

    /// Seq with which an epoch of a log ended; 0: not known.
    fn end_of(&self, group_id: &str, place: &GroupReplica, epoch: u64) -> Result<u64> {
        if epoch >= place.epoch {
            return Ok(0);
        }
        let (first, last) = ((group_id, epoch), (group_id, epoch));
        let mut rows = schema::GROUP_ENTRIES.range(self.tx, first, last, Direction::Descending);
        Ok(rows.next().transpose()?.map_or(0, |((_, _, seq), _)| seq))
    }

    /// Epoch and seq behind which a log goes on for who knows it up to an entry; `None` if this log
    /// does not hold that entry.
    fn place_in_log(
        &self,
        group_id: &str,
        place: &GroupReplica,
        known: &GroupLogRequest,
    ) -> Result<Option<(u64, u64)>> {
        let entry = |epoch, seq| schema::GROUP_ENTRIES.get(self.tx, (group_id, epoch, seq));
        if known.seq > 0
            && let Some(held) = entry(known.epoch, known.seq)?
        {
            let holds = entry_hash(&held.header) == known.hash;
            return Ok(holds.then_some((known.epoch, known.seq)));
        }
        if known.epoch == place.epoch && known.seq > 0 {
            return Ok(None);
        }
        // Where the epoch begins, which is where the one before it ended.
        let begin = match entry(place.epoch, 1)? {
            Some(first) => EntryHeader::decode(first.header).unwrap_or_default().previous,
            None => place.hash.clone().into(),
        };
        let at_begin =
            known.epoch == place.epoch || known.epoch.checked_add(1) == Some(place.epoch);
        Ok((at_begin && known.hash == begin).then_some((place.epoch, 0)))
    }
}
