//! What the home of a group has said in it after its data went back in time and before it noticed:
//! nobody has heard it, and others hold other entries at the same places. It is taken out of the log
//! and said again in the next epoch.

use std::collections::BTreeSet;

use prost::Message as _;
use proto::federation::{EntryHeader, EventKind};
use proto::qualified::localise;
use store::record::{GroupHome, GroupLog, Queued};
use store::{Direction, epoch, outbox, schema};

use super::Trouble;
use crate::change::Change;
use crate::error::Result;

impl Change<'_, '_> {
    /// Takes the entries out of the log of a group of this node that no other node has acknowledged,
    /// if this epoch began because the data went back in time; notes in `home` what has to be said
    /// again.
    pub(super) fn take_out_unsent(&mut self, group_id: &str, home: &mut GroupHome) -> Result<()> {
        let Some(log) = schema::GROUP_LOGS.get(self.tx, group_id)? else { return Ok(()) };
        if epoch::taken(self.tx)? == 0 {
            return Ok(());
        }
        let end = self.newest_acknowledged(group_id, &log)?;
        if end >= log.seq {
            return Ok(());
        }
        let (first, last) = ((group_id, log.epoch, end + 1), (group_id, log.epoch));
        let rows = schema::GROUP_ENTRIES.range(self.tx, first, last, Direction::Ascending);
        let headers = rows.map(|row| Ok(EntryHeader::decode(row?.1.header).unwrap_or_default()));
        let headers = headers.collect::<Result<Vec<_>>>()?;
        let Some(hash) = headers.first().map(|first| first.previous.to_vec()) else {
            return Ok(());
        };
        let own = self.own_domain()?;
        for header in &headers {
            home.info_again |= !header.info.is_empty();
            for user in header.members.iter().filter_map(|member| member.user.as_ref()) {
                let user_id = localise(&user.user_id, &own)?;
                if !home.members_again.contains(&user_id) {
                    home.members_again.push(user_id);
                }
            }
        }
        self.undo_after(group_id, log.epoch, end).map_err(Trouble::of_an_answer)?;
        schema::GROUP_LOGS.put(self.tx, group_id, &GroupLog { seq: end, hash, ..log });
        Ok(())
    }

    /// The newest entry of this epoch that some other node has acknowledged. Those behind it do not
    /// go out any more.
    fn newest_acknowledged(&mut self, group_id: &str, log: &GroupLog) -> Result<u64> {
        let nodes = schema::GROUP_NODES.scan(self.tx, group_id).map(|row| Ok(row?.0.1));
        let mut newest = None;
        for domain in nodes.collect::<Result<BTreeSet<String>>>()? {
            let mut unsent = Vec::new();
            for row in outbox::queued(self.tx, &domain, 0) {
                let (place, queued) = row?;
                let entry = queued.kind == EventKind::EventGroupEntry as u32;
                let of_log = queued.conversation == log.epoch && queued.body == group_id.as_bytes();
                if entry && of_log {
                    unsent.push((place, queued));
                }
            }
            let first = unsent.first().map(|(_, queued)| queued.seq.cast_unsigned());
            newest = newest.max(Some(first.map_or(log.seq, |first| first.saturating_sub(1))));
            for (place, Queued { time, mark, .. }) in unsent {
                let kind = EventKind::EventNothing as u32;
                let nothing = Queued { kind, time, mark, ..Queued::default() };
                schema::OUTBOX.put(self.tx, (&domain, place), &nothing);
            }
        }
        Ok(newest.unwrap_or(log.seq))
    }

    /// Says again what was taken out, in the change that opens the next epoch; messages are placed
    /// again by themselves.
    pub(super) fn say_again(&mut self, group_id: &str, home: &GroupHome) -> Result<()> {
        for user_id in &home.members_again {
            let key = (group_id, user_id.as_str());
            match schema::MEMBERS.get(self.tx, key)? {
                Some(member) => schema::MEMBERS.put(self.tx, key, &member),
                None => schema::MEMBERS.delete(self.tx, key),
            }
        }
        if home.info_again
            && let Some(group) = schema::GROUPS.get(self.tx, group_id)?
        {
            schema::GROUPS.put(self.tx, group_id, &group);
        }
        Ok(())
    }
}
