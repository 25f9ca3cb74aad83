//! Streams to and from other nodes, and what is known of their users.

use bytes::Bytes;

use super::Check;
use crate::StoreError;
use crate::schema::{AUTHOR_SEQS, CURSORS, MESSAGES, OUTBOX, OUTBOX_HEADS, REMOTE_USERS, USERS};

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
        Ok(())
    }
}
