//! Streams to and from other nodes, logs of groups, and what is known of users elsewhere.

use bytes::Bytes;
use prost::Message as _;
use proto::federation::EntryHeader;

use super::Check;
use crate::StoreError;
use crate::group_log::entry_hash;
use crate::schema::{
    AUTHOR_SEQS, CURSORS, GROUP_ENTRIES, GROUP_LOGS, GROUP_REPLICAS, MESSAGE_SIGNATURES, MESSAGES,
    OUTBOX, OUTBOX_HEADS, REMOTE_USERS, USERS,
};

impl Check<'_, '_> {
    pub(super) fn federation(&mut self, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
        let view = self.view;
        if let Some(((domain, seq), _)) = OUTBOX.row(key, value)? {
            let head = self.other(&OUTBOX_HEADS, &domain)?.unwrap_or_default();
            if seq <= head.acknowledged || seq > head.last {
                let problem = format!("the stream holds {}..={}", head.acknowledged + 1, head.last);
                self.add(&OUTBOX, &(domain.clone(), seq), problem);
            } else if seq > head.acknowledged + 1 && !OUTBOX.contains(view, (&domain, seq - 1))? {
                self.add(&OUTBOX, &(domain, seq), "the event before it is missing");
            }
        } else if let Some((domain, head)) = OUTBOX_HEADS.row(key, value)? {
            if head.acknowledged > head.last {
                self.add(&OUTBOX_HEADS, &domain, "more was acknowledged than queued");
            } else if head.last > head.acknowledged
                && !OUTBOX.contains(view, (&domain, head.last))?
            {
                self.add(&OUTBOX_HEADS, &domain, "its newest event is missing");
            }
        } else if let Some((domain, cursor)) = CURSORS.row(key, value)? {
            if cursor.epoch == 0 {
                self.add(&CURSORS, &domain, "it names no epoch");
            }
        } else if let Some((id, _)) = REMOTE_USERS.row(key, value)? {
            if !USERS.contains(view, &id)? {
                self.add(&REMOTE_USERS, &id, "there is no profile");
            }
        } else if let Some((key, seq)) = AUTHOR_SEQS.row(key, value)?
            && !MESSAGES.contains(view, (key.0, seq.value.cast_unsigned()))?
        {
            self.add(&AUTHOR_SEQS, &key, "there is no such message");
        }
        self.group_logs(key, value)
    }

    fn group_logs(&mut self, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
        let view = self.view;
        if let Some(((group, epoch, seq), entry)) = GROUP_ENTRIES.row(key, value)? {
            let header = EntryHeader::decode(entry.header).unwrap_or_default();
            let before = seq.saturating_sub(1);
            let before = self.other(&GROUP_ENTRIES, (&group, epoch, before))?;
            if (header.epoch, header.seq) != (epoch, seq) {
                self.add(&GROUP_ENTRIES, &(group, epoch, seq), "it is another entry");
            } else if let Some(before) = before {
                if entry_hash(&before.header) != header.previous {
                    let problem = "it does not follow on the entry before it";
                    self.add(&GROUP_ENTRIES, &(group, epoch, seq), problem);
                }
            } else if seq > 1
                && self.other(&GROUP_LOGS, &group)?.is_some_and(|log| log.epoch == epoch)
            {
                self.add(&GROUP_ENTRIES, &(group, epoch, seq), "the entry before it is missing");
            }
        } else if let Some((group, log)) = GROUP_LOGS.row(key, value)? {
            let newest = self.other(&GROUP_ENTRIES, (&group, log.epoch, log.seq))?;
            let follows = newest.is_some_and(|entry| entry_hash(&entry.header) == log.hash);
            if log.seq > 0 && !follows {
                self.add(&GROUP_LOGS, &group, "its newest entry is missing or another one");
            }
        } else if let Some((group, replica)) = GROUP_REPLICAS.row(key, value)? {
            let newest = self.other(&GROUP_ENTRIES, (&group, replica.epoch, replica.seq))?;
            // The entry that a snapshot ends with is not here.
            if newest.is_some_and(|entry| entry_hash(&entry.header) != replica.hash) {
                self.add(&GROUP_REPLICAS, &group, "its newest entry is another one");
            }
        } else if let Some((key, _)) = MESSAGE_SIGNATURES.row(key, value)?
            && !MESSAGES.contains(view, key)?
        {
            self.add(&MESSAGE_SIGNATURES, &key, "there is no such message");
        }
        Ok(())
    }
}
