//! Heads of logs: what the home of a group has signed, compared among the nodes with members.
//!
//! The home signs the last entry of every batch. Nodes show each other the newest head they have;
//! a home that has shown them two histories is found out, and what it signed proves it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use proto::federation::{
    EntryHeader, EquivocationProof, Event, EventKind, GroupEntry, GroupHead, Heads, NodeDocument,
    SignedHead, request, response,
};
use proto::qualified::{Domain, home_of, localise};
use store::group_log::entry_hash;
use store::{Direction, Read, schema};

use super::signature::Purpose;
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::object::blocking;

/// Time in which new heads are gathered before they are shown to others.
const GATHER: Duration = Duration::from_secs(2);
/// Heads in one request.
const MAX_HEADS: usize = 100;
/// Members of a group that are looked at for the nodes they are of.
const MAX_MEMBERS: usize = 5_000;
/// Nodes that are shown the head of one group at a time.
const MAX_NODES: usize = 16;
/// Bytes of headers in a proof.
const MAX_PROOF_BYTES: usize = 32 * 1_024;

/// Groups with new heads.
#[derive(Default)]
pub(crate) struct HeadsToTell {
    groups: Mutex<BTreeSet<String>>,
}

/// The head that an entry makes.
pub(super) fn head_of(header: &EntryHeader, hash: &[u8]) -> GroupHead {
    GroupHead {
        group: header.group.clone(),
        epoch: header.epoch,
        seq: header.seq,
        hash: hash.to_vec().into(),
    }
}

/// Whether an entry is the one that comes next behind one, in its epoch or as the first of the next.
pub(super) fn follows(header: &EntryHeader, (epoch, seq): (u64, u64), hash: &[u8]) -> bool {
    let in_epoch = header.epoch == epoch && Some(header.seq) == seq.checked_add(1);
    let next_epoch = Some(header.epoch) == epoch.checked_add(1) && header.seq == 1;
    (in_epoch || next_epoch) && header.previous == hash
}

impl Services {
    /// Signs the heads of the groups of which there are entries among `events`: the last of each.
    pub fn seal(&self, events: &mut [Event]) {
        let mut sealed = HashSet::new();
        for event in events.iter_mut().rev() {
            if event.kind != EventKind::EventGroupEntry as u32 {
                continue;
            }
            let Ok(mut entry) = GroupEntry::decode(event.body.clone()) else { continue };
            if self.seal_entry(&mut entry, &mut sealed) {
                event.body = entry.encode_to_vec().into();
            }
        }
    }

    /// Signs the head that an entry makes, unless one of its group is in `sealed`.
    fn seal_entry(&self, entry: &mut GroupEntry, sealed: &mut HashSet<String>) -> bool {
        let Some(others) = self.inner.others.get() else { return false };
        let Ok(header) = EntryHeader::decode(entry.header.clone()) else { return false };
        if !sealed.insert(header.group.clone()) {
            return false;
        }
        let head = head_of(&header, &entry_hash(&entry.header)).encode_to_vec();
        entry.head = Some(others.sign(Purpose::Head, &head));
        true
    }

    /// Signs the head that an entry makes, if it is the newest epoch of a group of this node.
    pub(super) fn seal_own(&self, entry: &mut GroupEntry) {
        let Some(own) = self.domain() else { return };
        let Ok(header) = EntryHeader::decode(entry.header.clone()) else { return };
        let Ok(group_id) = localise(&header.group, own) else { return };
        let log = schema::GROUP_LOGS.get(&self.store().view(), &group_id);
        if log.is_ok_and(|log| log.is_some_and(|log| log.epoch == header.epoch)) {
            self.seal_entry(entry, &mut HashSet::new());
        }
    }

    /// Shows the new head of a group to the other nodes with members, soon.
    fn tell_head_later(&self, group_id: &str) {
        let mut groups = self.inner.heads_to_tell.groups.lock();
        let waits = !groups.is_empty();
        groups.insert(group_id.to_owned());
        if waits {
            return;
        }
        let services = self.clone();
        self.inner.runtime.spawn(async move {
            tokio::time::sleep(GATHER).await;
            let groups = std::mem::take(&mut *services.inner.heads_to_tell.groups.lock());
            if let Err(error) = services.tell_heads(&groups).await {
                tracing::warn!(%error, "heads of groups are not compared");
            }
        });
    }

    async fn tell_heads(&self, groups: &BTreeSet<String>) -> Result<()> {
        let mut of_node: BTreeMap<Domain, Vec<SignedHead>> = BTreeMap::new();
        {
            let view = self.store().view();
            for group_id in groups {
                let Some(head) = schema::GROUP_HEADS.get(&view, group_id)? else { continue };
                let home = self.group_home(&view, group_id)?;
                for domain in nodes_of(&view, group_id, MAX_MEMBERS)?.into_iter().take(MAX_NODES) {
                    if home.as_ref() != Some(&domain) {
                        of_node.entry(domain).or_default().push(head.clone());
                    }
                }
            }
        }
        for (domain, heads) in of_node {
            for heads in heads.chunks(MAX_HEADS) {
                let heads = Heads { heads: heads.to_vec() };
                match self.ask(&domain, request::Body::Heads(heads)).await {
                    Ok(answer) => {
                        if let Some(response::Body::Heads(heads)) = answer.body {
                            self.compare_heads(heads).await?;
                        }
                    }
                    Err(error) => tracing::debug!(%domain, %error, "heads are not compared"),
                }
            }
        }
        Ok(())
    }

    /// Another node shows heads that it has seen: answers with those of this node.
    pub(super) async fn answer_heads(&self, origin: &Domain, heads: Heads) -> Result<Heads> {
        let Some(own) = self.domain() else { return Ok(Heads::default()) };
        let mut known = Heads::default();
        {
            let view = self.store().view();
            for signed in heads.heads.iter().take(MAX_HEADS) {
                let Ok(head) = GroupHead::decode(signed.head.clone()) else { continue };
                let Ok(group_id) = localise(&head.group, own) else { continue };
                let Some(head) = schema::GROUP_HEADS.get(&view, &group_id)? else { continue };
                if nodes_of(&view, &group_id, MAX_MEMBERS)?.contains(origin) {
                    known.heads.push(head);
                }
            }
        }
        self.compare_heads(heads).await?;
        Ok(known)
    }

    /// Forgets the proof that the home of a group has shown two histories; returns whether there was
    /// one. The group is followed again.
    pub async fn drop_proof(&self, group_id: &str) -> Result<bool> {
        let id = group_id.to_owned();
        let dropped = self
            .change_to_make_room(&Caller::other_node("proof"), move |change| {
                let known = schema::PROOFS.contains(change.tx, &id)?;
                schema::PROOFS.delete(change.tx, &id);
                schema::GROUP_HEADS.delete(change.tx, &id);
                Ok(known)
            })
            .await?;
        if dropped {
            self.catch_up_later(group_id);
        }
        Ok(dropped)
    }

    /// Compares heads that another node has seen with what this one was shown.
    async fn compare_heads(&self, heads: Heads) -> Result<()> {
        if heads.heads.len() > MAX_HEADS {
            return Err(ServiceError::args("too many heads"));
        }
        let services = self.clone();
        let found = blocking(move || {
            let mut found = Vec::new();
            for head in heads.heads {
                found.extend(services.contradiction(head)?);
            }
            Ok(found)
        })
        .await?;
        if found.is_empty() {
            return Ok(());
        }
        self.change(&Caller::other_node("heads"), move |change| {
            for (group_id, proof) in &found {
                if !schema::PROOFS.contains(change.tx, group_id)? {
                    tracing::error!(group = group_id, "its home has shown two histories");
                    schema::PROOFS.put(change.tx, group_id, proof);
                }
            }
            Ok(())
        })
        .await
    }

    /// The proof that a head and what this node was shown exclude each other.
    fn contradiction(&self, other: SignedHead) -> Result<Option<(String, EquivocationProof)>> {
        let (Some(own), Some(others)) = (self.domain(), self.inner.others.get()) else {
            return Ok(None);
        };
        let Ok(first) = GroupHead::decode(other.head.clone()) else { return Ok(None) };
        let Ok(group_id) = localise(&first.group, own) else { return Ok(None) };
        let view = self.store().view();
        let Some(home) = self.group_home(&view, &group_id)? else { return Ok(None) };
        let Some(mine) = schema::GROUP_HEADS.get(&view, &group_id)? else { return Ok(None) };
        let second = GroupHead::decode(mine.head.clone()).unwrap_or_default();
        // A head further on than this node's is looked at by the node that has it.
        if first.epoch != second.epoch || first.seq > second.seq {
            return Ok(None);
        }
        let mut headers = Vec::new();
        let (from, to) = ((&*group_id, first.epoch, first.seq + 1), (&*group_id, first.epoch));
        let mut bytes = 0;
        for row in schema::GROUP_ENTRIES.range(&view, from, to, Direction::Ascending) {
            let ((_, _, seq), entry) = row?;
            bytes += entry.header.len();
            if seq > second.seq || bytes > MAX_PROOF_BYTES {
                break;
            }
            headers.push(entry.header);
        }
        let there = match headers.first() {
            Some(next) => EntryHeader::decode(next.clone()).unwrap_or_default().previous,
            None => second.hash.clone(),
        };
        let complete = headers.len() as u64 == second.seq - first.seq;
        let signature = other.signature.clone().unwrap_or_default();
        if there == first.hash || !complete || !self.has_signed_head(&home, &other.head, &signature)
        {
            return Ok(None);
        }
        let document = Some(others.document(&home));
        let (first, second) = (Some(other), Some(mine));
        Ok(Some((group_id, EquivocationProof { document, first, second, headers })))
    }
}

/// The other nodes with members in a group, among its first `most` members.
pub(super) fn nodes_of(from: &impl Read, group_id: &str, most: usize) -> Result<BTreeSet<Domain>> {
    let mut nodes = BTreeSet::new();
    for row in schema::MEMBER_ORDER.scan(from, group_id).take(most) {
        nodes.extend(home_of(&row?.0.3));
    }
    Ok(nodes)
}

impl Change<'_, '_> {
    /// Keeps a head that the home has signed.
    pub(super) fn keep_head(
        &mut self,
        group_id: &str,
        header: &EntryHeader,
        entry: &GroupEntry,
        hash: &[u8],
    ) {
        let head = head_of(header, hash).encode_to_vec().into();
        let signed = SignedHead { head, signature: entry.head.clone() };
        schema::GROUP_HEADS.put(self.tx, group_id, &signed);
        let (services, group_id) = (self.services.clone(), group_id.to_owned());
        self.tx.after_commit(move || services.tell_head_later(&group_id));
    }
}

/// Domain of the home that a proof is about, if a document in it says so.
pub(super) fn liar(proof: &EquivocationProof) -> Option<String> {
    let document = proof.document.as_ref()?.document.clone();
    NodeDocument::decode(document).ok().map(|document| document.domain).filter(|d| !d.is_empty())
}

/// Why nothing goes to or comes from the home of a group any more.
pub(super) fn check_home(from: &impl Read, group_id: &str, home: &Domain) -> Result<()> {
    let Some(proof) = schema::PROOFS.get(from, group_id)? else { return Ok(()) };
    // The node that took the group over need not answer for the one before it.
    if liar(&proof).is_some_and(|liar| liar != home.as_str()) {
        return Ok(());
    }
    let reason = format!("the home of {group_id} has shown two histories of the group");
    Err(ServiceError::Unreachable(reason))
}
