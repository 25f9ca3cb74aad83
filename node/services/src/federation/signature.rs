//! Who wrote what in groups: a message whose author is not of the group's home carries a signature
//! of the author's node, so that the home cannot put words into anybody's mouth.

use std::collections::HashSet;

use prost::Message as _;
use proto::federation::{
    EntryHeader, Event, EventKind, GroupEntry, GroupSend, Mandate, PastMessage, Signature,
};
use proto::qualified::{Domain, localise};
use proto::sdkws::MsgData;
use store::group_log::entry_hash;
use store::schema;

use super::group::digest;
use super::head::head_of;
use crate::Services;
use crate::error::Result;
use crate::notification::is_system;
use crate::object::blocking;

/// What a signature of a node is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A message of one of its users in a group of another node.
    Message,
    /// How far the log of one of its groups has come.
    Head,
    /// Who may become the home of one of its groups.
    Mandate,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Judgement {
    /// No key that speaks for the node has made it.
    Forged,
    /// Nothing is known of the node.
    Unknown,
    /// Such a key has.
    Holds,
}

/// What of some events was signed by whom it should be: digests of contents, hashes of entries.
#[derive(Debug, Default)]
pub(crate) struct Vouched(HashSet<Vec<u8>>);

impl Vouched {
    pub(super) fn contains(&self, digest: &[u8]) -> bool {
        self.0.contains(digest)
    }
}

/// Domain of a qualified ID.
fn domain_of(qualified: &str) -> Option<Domain> {
    qualified.rsplit_once('@')?.1.parse().ok()
}

impl Services {
    /// Checks the signatures in events of the node of `home`; off the tasks of the runtime, as one
    /// takes a tenth of a millisecond.
    pub(super) async fn vouch_events(
        &self,
        home: &Domain,
        events: Vec<(u64, Event)>,
    ) -> Result<(Vec<(u64, Event)>, Vouched)> {
        let signed = [EventKind::EventGroupEntry as u32, EventKind::EventGroupSend as u32];
        if !events.iter().any(|(_, event)| signed.contains(&event.kind)) {
            return Ok((events, Vouched::default()));
        }
        let (services, home) = (self.clone(), home.clone());
        blocking(move || {
            let vouched = services.vouch(&home, events.iter().map(|(_, event)| event));
            Ok((events, vouched))
        })
        .await
    }

    /// Checks the signatures in events of the node of `home`.
    pub(super) fn vouch<'a>(
        &self,
        home: &Domain,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Vouched {
        let mut vouched = Vouched::default();
        for event in events {
            match EventKind::try_from(event.kind.cast_signed()) {
                Ok(EventKind::EventGroupEntry) => {
                    if let Ok(entry) = GroupEntry::decode(event.body.clone()) {
                        self.vouch_entry(home, &entry, &mut vouched);
                    }
                }
                Ok(EventKind::EventGroupSend) => {
                    if let Ok(GroupSend { message, signature }) =
                        GroupSend::decode(event.body.clone())
                    {
                        let at = (signature.as_ref(), self.now());
                        self.vouch_message(&[], &message, at, &mut vouched);
                    }
                }
                _ => {}
            }
        }
        vouched
    }

    /// Checks the signatures in an entry of a log of the node of `home`.
    fn vouch_entry(&self, home: &Domain, entry: &GroupEntry, vouched: &mut Vouched) {
        let Ok(header) = EntryHeader::decode(entry.header.clone()) else { return };
        let homes = self.homes_of_entry(home, &header);
        let mut contents = entry.contents.iter();
        for message in &header.messages {
            let content = if message.seq > 0 { contents.next() } else { Some(&message.content) };
            if let Some(content) = content.filter(|content| !content.is_empty()) {
                let at = (message.signature.as_ref(), message.send_time_ms);
                self.vouch_message(&homes, content, at, vouched);
            }
        }
        let Some(signature) = &entry.head else { return };
        let hash = entry_hash(&entry.header);
        let head = head_of(&header, &hash).encode_to_vec();
        let held =
            homes.iter().map(|home| self.judge(home, Purpose::Head, &head, signature, self.now()));
        match held.max().unwrap_or(Judgement::Unknown) {
            Judgement::Holds => drop(vouched.0.insert(hash)),
            other => tracing::warn!(group = header.group, ?other, "the signature of a head"),
        }
    }

    /// Checks the signatures in entries of a log of the node of `home`, off the tasks of the runtime.
    pub(super) async fn vouch_entries(
        &self,
        home: &Domain,
        entries: Vec<GroupEntry>,
    ) -> Result<(Vec<GroupEntry>, Vouched)> {
        let (services, home) = (self.clone(), home.clone());
        blocking(move || {
            let mut vouched = Vouched::default();
            for entry in &entries {
                services.vouch_entry(&home, entry, &mut vouched);
            }
            Ok((entries, vouched))
        })
        .await
    }

    /// As [`vouch`](Self::vouch), for older messages.
    pub(super) fn vouch_past(
        &self,
        home: &Domain,
        group_id: &str,
        messages: &[PastMessage],
    ) -> Vouched {
        let mut homes = self.former_homes(group_id);
        homes.push(home.clone());
        let mut vouched = Vouched::default();
        for past in messages.iter().filter(|past| !past.content.is_empty()) {
            let at = (past.signature.as_ref(), past.send_time_ms);
            self.vouch_message(&homes, &past.content, at, &mut vouched);
        }
        vouched
    }

    /// Notes the digest of a content if its author's node has signed it, or need not have: what the
    /// users of the homes say, and what a home itself says, rests on the word of the home.
    ///
    /// A signature holds if its key held when the message was sent.
    fn vouch_message(
        &self,
        homes: &[Domain],
        content: &[u8],
        (signature, sent_ms): (Option<&Signature>, i64),
        vouched: &mut Vouched,
    ) {
        let Ok(message) = MsgData::decode(content) else { return };
        let Some(author) = domain_of(&message.send_id) else { return };
        let system = is_system(message.content_type) && !homes.is_empty();
        let at = sent_ms.min(self.now());
        let sound = homes.contains(&author)
            || system
            || match signature {
                Some(signature) => {
                    let judged = self.judge(&author, Purpose::Message, content, signature, at);
                    // Of a node that this one has never heard of, it has the home's word and no
                    // more.
                    judged == Judgement::Holds || judged == Judgement::Unknown
                }
                None => false,
            };
        if sound {
            vouched.0.insert(digest(content));
        } else {
            tracing::warn!(author = message.send_id, group = message.group_id, "a forged message");
        }
    }

    /// On whose word an entry rests that the home of a group brings: on its own; and while a new home
    /// tells what the one before it said, on that one's too.
    fn homes_of_entry(&self, home: &Domain, header: &EntryHeader) -> Vec<Domain> {
        let mut homes = vec![home.clone()];
        let Some(group_id) = self.domain().and_then(|own| localise(&header.group, own).ok()) else {
            return homes;
        };
        let view = self.store().view();
        let row = self.home_row(&view, &group_id).ok().flatten();
        if row.is_some_and(|row| row.opening) {
            let replica = schema::GROUP_REPLICAS.get(&view, &group_id).ok().flatten();
            if replica.is_some_and(|replica| header.epoch <= replica.epoch) {
                homes.extend(self.former_homes(&group_id));
            }
        }
        homes
    }

    /// Nodes that were the home of a group before the present one.
    fn former_homes(&self, group_id: &str) -> Vec<Domain> {
        let row = self.home_row(&self.store().view(), group_id).ok().flatten();
        let warrants = row.map(|row| row.warrants).unwrap_or_default();
        let mandates = warrants.into_iter().filter_map(|w| Mandate::decode(w.mandate).ok());
        mandates.filter_map(|mandate| mandate.home.parse().ok()).collect()
    }

    fn judge(
        &self,
        domain: &Domain,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
        at_ms: i64,
    ) -> Judgement {
        match self.inner.others.get() {
            Some(others) => others.judge(domain, purpose, bytes, signature, at_ms),
            None => Judgement::Unknown,
        }
    }

    /// Whether `domain` has signed the head of a log.
    pub(super) fn has_signed_head(&self, domain: &Domain, head: &[u8], by: &Signature) -> bool {
        self.judge(domain, Purpose::Head, head, by, self.now()) == Judgement::Holds
    }
}
