//! Who wrote what in groups: a message whose author is not of the group's home carries a signature
//! of the author's node, so that the home cannot put words into anybody's mouth.

use std::collections::HashSet;

use prost::Message as _;
use proto::federation::{
    EntryHeader, Event, EventKind, GroupEntry, GroupSend, PastMessage, Signature,
};
use proto::qualified::Domain;
use proto::sdkws::MsgData;
use store::StoreError;
use store::group_log::entry_hash;

use super::as_of_the_store;
use super::group::digest;
use super::head::head_of;
use crate::Services;
use crate::notification::is_system;
use crate::object::blocking;

/// What a signature of a node is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A message of one of its users in a group of another node.
    Message,
    /// How far the log of one of its groups has come.
    Head,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// A key that speaks for the node has made it.
    Holds,
    /// No such key has.
    Forged,
    /// Nothing is known of the node.
    Unknown,
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
    ) -> Result<(Vec<(u64, Event)>, Vouched), StoreError> {
        let signed = [EventKind::EventGroupEntry as u32, EventKind::EventGroupSend as u32];
        if !events.iter().any(|(_, event)| signed.contains(&event.kind)) {
            return Ok((events, Vouched::default()));
        }
        let (services, home) = (self.clone(), home.clone());
        let checked = blocking(move || {
            let vouched = services.vouch(&home, events.iter().map(|(_, event)| event));
            Ok((events, vouched))
        });
        checked.await.map_err(as_of_the_store)
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
                        self.vouch_message(None, &message, signature.as_ref(), &mut vouched);
                    }
                }
                _ => {}
            }
        }
        vouched
    }

    /// Checks the signatures in an entry of a log of the node of `home`.
    pub(super) fn vouch_entry(&self, home: &Domain, entry: &GroupEntry, vouched: &mut Vouched) {
        let Ok(header) = EntryHeader::decode(entry.header.clone()) else { return };
        let mut contents = entry.contents.iter();
        for message in &header.messages {
            let content = if message.seq > 0 { contents.next() } else { Some(&message.content) };
            if let Some(content) = content.filter(|content| !content.is_empty()) {
                self.vouch_message(Some(home), content, message.signature.as_ref(), vouched);
            }
        }
        let Some(signature) = &entry.head else { return };
        let hash = entry_hash(&entry.header);
        let head = head_of(&header, &hash).encode_to_vec();
        match self.judge(home, Purpose::Head, &head, signature) {
            Judgement::Holds => drop(vouched.0.insert(hash)),
            other => tracing::warn!(group = header.group, ?other, "the signature of a head"),
        }
    }

    /// As [`vouch`](Self::vouch), for older messages.
    pub(super) fn vouch_past(&self, home: &Domain, messages: &[PastMessage]) -> Vouched {
        let mut vouched = Vouched::default();
        for past in messages.iter().filter(|past| !past.content.is_empty()) {
            self.vouch_message(Some(home), &past.content, past.signature.as_ref(), &mut vouched);
        }
        vouched
    }

    /// Notes the digest of a content if its author's node has signed it, or need not have: what the
    /// home's own users say, and what the home itself says, rests on the home's word.
    fn vouch_message(
        &self,
        home: Option<&Domain>,
        content: &[u8],
        signature: Option<&Signature>,
        vouched: &mut Vouched,
    ) {
        let Ok(message) = MsgData::decode(content) else { return };
        let Some(author) = domain_of(&message.send_id) else { return };
        let unsigned = home.is_some_and(|home| author == *home || is_system(message.content_type));
        let sound = unsigned
            || match signature {
                Some(signature) => {
                    let judged = self.judge(&author, Purpose::Message, content, signature);
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

    fn judge(
        &self,
        domain: &Domain,
        purpose: Purpose,
        bytes: &[u8],
        signature: &Signature,
    ) -> Judgement {
        match self.inner.others.get() {
            Some(others) => others.judge(domain, purpose, bytes, signature, self.now()),
            None => Judgement::Unknown,
        }
    }

    /// Whether `domain` has signed the head of a log.
    pub(super) fn has_signed_head(&self, domain: &Domain, head: &[u8], by: &Signature) -> bool {
        self.judge(domain, Purpose::Head, head, by) == Judgement::Holds
    }
}
