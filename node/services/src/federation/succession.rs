//! A group gets another home: the home hands it over, or its successor takes it over. What the home
//! has said before is gathered from the nodes that follow the group, so that nothing is lost that
//! one of them has; the same after the home was restored from a backup.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use proto::federation::{
    EntryHeader, Greeting, GroupEntry, GroupLogRequest, MayMove, request, response,
};
use proto::qualified::{Domain, home_of, localise, qualify};
use store::group_log::entry_hash;
use store::{Read, outbox, schema};

use super::head::{check_home, follows, head_of, nodes_of};
use super::{Crossing, Trouble};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};

/// Bytes of entries that are gathered from one node.
const MAX_GATHERED: usize = 64 << 20;
/// Entries that are applied in one transaction.
const APPLIED_TOGETHER: usize = 256;
/// How long a restored home tries to reach a node with members.
const PATIENCE: Duration = Duration::from_secs(20);
/// Pause before it tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of a group that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Epoch that this node has opened.
    pub epoch: u64,
    /// Nodes that were asked for what they know.
    pub asked: Vec<Domain>,
    /// Entries of the lost home that only they had.
    pub gathered: u64,
}

/// A node that does not know all members of a group cannot be its home.
fn must_have_all_members(from: &impl Read, group_id: &str) -> Result<()> {
    let replica = schema::GROUP_REPLICAS.get(from, group_id)?;
    if replica.is_some_and(|replica| replica.members_complete) {
        return Ok(());
    }
    Err(ServiceError::Unreachable("the list of members is not complete".into()))
}

impl Services {
    /// Hands a group of this node over to another one with members in it.
    pub async fn move_group(&self, caller: &Caller, group_id: &str, to: Domain) -> Result<()> {
        let Some(own) = self.domain() else {
            return Err(ServiceError::args("this node does not federate"));
        };
        let group_id = self.typed(group_id);
        let request = MayMove { group: qualify(&group_id, own)? };
        self.ask(&to, request::Body::MayMove(request)).await?;
        self.change(caller, move |change| {
            change.must_have_home(&group_id)?;
            change.must_have_members(&group_id, &to)?;
            let crossing = Crossing::Mandate { to: Some(to), moves: true };
            change.note_crossing(&group_id, crossing);
            Ok(())
        })
        .await
    }

    /// Whether this node would become the home of a group of the node of `origin`.
    pub(super) fn answer_may_move(&self, origin: &Domain, request: &MayMove) -> Result<()> {
        let Some(own) = self.domain() else {
            return Err(ServiceError::args("this node does not federate"));
        };
        let group_id = localise(&request.group, own)?;
        let view = self.store().view();
        if self.group_home(&view, &group_id)?.as_ref() != Some(origin) {
            return Err(ServiceError::denied(format!("{origin} is not the home of {group_id}")));
        }
        must_have_all_members(&view, &group_id)
    }

    /// Becomes the home of a group whose home is lost and has named this node.
    ///
    /// Nodes in `without` are not asked for what only they know of the group: it is lost.
    pub async fn take_over_group(
        &self,
        caller: &Caller,
        group_id: &str,
        without: &[Domain],
    ) -> Result<TakenOver> {
        caller.must_be_admin()?;
        let group_id = self.typed(group_id);
        let (home, nodes) = self.may_take_over(&group_id)?;
        let proven = check_home(&self.store().view(), &group_id, &home).is_err();
        if !proven && self.ask(&home, request::Body::Greeting(Greeting {})).await.is_ok() {
            let reason = format!("{home} answers: it can move the group itself");
            return Err(ServiceError::denied(reason));
        }
        let before = schema::GROUP_REPLICAS.get(&self.store().view(), &group_id)?;
        let before = before.unwrap_or_default();
        let mut asked = Vec::new();
        let mut silent = Vec::new();
        for node in nodes.into_iter().filter(|node| !without.contains(node)) {
            match self.gather(&node, &group_id, &home).await {
                Ok(()) => asked.push(node),
                // It does not follow the group.
                Err(ServiceError::Elsewhere { .. }) => {}
                Err(error) => {
                    tracing::warn!(%node, %error, "a node with members does not answer");
                    silent.push(node.to_string());
                }
            }
        }
        if !silent.is_empty() {
            let silent = silent.join(", ");
            return Err(ServiceError::Unreachable(format!(
                "what {silent} may know of the group cannot be had now; leave out whom to go \
                 without"
            )));
        }
        let id = group_id.clone();
        let (place, epoch) = self
            .change(caller, move |change| {
                let place = change.place(&id)?.unwrap_or_default();
                change.take_over(&id)?;
                Ok((place, change.place(&id)?.unwrap_or_default().epoch))
            })
            .await?;
        let gathered = if place.epoch == before.epoch { place.seq - before.seq } else { place.seq };
        Ok(TakenOver { epoch, asked, gathered })
    }

    /// The home of a group that this node may take over, and the other nodes with members.
    fn may_take_over(&self, group_id: &str) -> Result<(Domain, BTreeSet<Domain>)> {
        let own = self.domain();
        let (successor, home) = self.succession(group_id)?;
        let Some(home) = home else {
            return Err(ServiceError::args(format!("{group_id} is a group of this node")));
        };
        if successor.as_ref() != own {
            let reason = format!("{home} has not named this node to take {group_id} over");
            return Err(ServiceError::denied(reason));
        }
        let view = self.store().view();
        must_have_all_members(&view, group_id)?;
        let mut nodes = nodes_of(&view, group_id, usize::MAX)?;
        nodes.remove(&home);
        Ok((home, nodes))
    }

    /// Applies what another node knows of the log of a group, as far as the home has signed it.
    async fn gather(&self, from: &Domain, group_id: &str, home: &Domain) -> Result<()> {
        let Some(own) = self.domain() else { return Ok(()) };
        let place = schema::GROUP_REPLICAS.get(&self.store().view(), group_id)?;
        let place = place.unwrap_or_default();
        let mut known = GroupLogRequest {
            group: qualify(group_id, own)?,
            epoch: place.epoch,
            seq: place.seq,
            hash: place.hash.into(),
        };
        let mut entries: Vec<GroupEntry> = Vec::new();
        let (mut signed, mut bytes) = (0, 0);
        'parts: loop {
            let response = self.ask(from, request::Body::GroupLog(known.clone())).await?;
            let Some(response::Body::GroupLog(part)) = response.body else { break };
            if part.snapshot.is_some() || part.entries.is_empty() {
                break;
            }
            for entry in part.entries {
                let Ok(header) = EntryHeader::decode(entry.header.clone()) else { break 'parts };
                let next = follows(&header, (known.epoch, known.seq), &known.hash);
                if !next || header.group != known.group {
                    break 'parts;
                }
                bytes += entry.encoded_len();
                if bytes > MAX_GATHERED {
                    let reason = format!("{from} knows too much more of {group_id}");
                    return Err(ServiceError::Unreachable(reason));
                }
                let hash = entry_hash(&entry.header);
                let head = head_of(&header, &hash).encode_to_vec();
                let by_home = entry
                    .head
                    .as_ref()
                    .is_some_and(|signature| self.has_signed_head(home, &head, signature));
                (known.epoch, known.seq, known.hash) = (header.epoch, header.seq, hash.into());
                entries.push(entry);
                if by_home {
                    signed = entries.len();
                }
            }
        }
        entries.truncate(signed);
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(APPLIED_TOGETHER));
            let part = std::mem::replace(&mut entries, rest);
            self.apply_gathered(home, part).await?;
        }
        Ok(())
    }

    async fn apply_gathered(&self, home: &Domain, entries: Vec<GroupEntry>) -> Result<()> {
        let (entries, vouched) = self.vouch_entries(home, entries).await?;
        let home = home.clone();
        self.change(&Caller::other_node("succession"), move |change| {
            for entry in &entries {
                change.group_entry(&home, entry, &vouched).map_err(Trouble::of_an_answer)?;
            }
            Ok(())
        })
        .await
    }

    /// Groups of this node whose log comes from before a restore, or whose recovery was cut short.
    fn to_recover(&self) -> Result<Vec<String>> {
        let Some(own) = self.domain() else { return Ok(Vec::new()) };
        let view = self.store().view();
        let stream = outbox::stream_epoch(&view);
        let mut groups = Vec::new();
        for row in schema::GROUP_LOGS.scan(&view, ()) {
            let (group_id, log) = row?;
            if log.stream != stream {
                groups.push(group_id);
            }
        }
        for row in schema::GROUP_HOMES.scan(&view, ()) {
            let (group_id, home) = row?;
            if home.domain == own.as_str() && !home.here {
                groups.push(group_id);
            }
        }
        Ok(groups)
    }

    /// After a restore: asks the nodes with members for what this node has lost of its groups. Until
    /// they have answered, or cannot be reached, nothing new happens in these groups.
    pub(super) async fn begin_recoveries(&self) -> Result<()> {
        let groups = self.to_recover()?;
        if groups.is_empty() {
            return Ok(());
        }
        self.change_to_make_room(&Caller::other_node("recovery"), move |change| {
            groups.iter().try_for_each(|group_id| change.begin_recovery(group_id))
        })
        .await
    }

    /// Goes on with that once there are other nodes to ask.
    pub(super) fn recover_later(&self) -> Result<()> {
        let groups = self.to_recover()?;
        let services = self.clone();
        self.inner.runtime.spawn(async move {
            let mut silent = BTreeSet::new();
            for group_id in groups {
                if let Err(error) = services.recover(&group_id, &mut silent).await {
                    tracing::error!(group = group_id, %error, "not recovered");
                }
            }
        });
        Ok(())
    }

    /// Recovers one group; nodes that do not answer join `silent`, and those in it are not asked.
    async fn recover(&self, group_id: &str, silent: &mut BTreeSet<Domain>) -> Result<()> {
        let Some(own) = self.domain() else { return Ok(()) };
        let nodes = nodes_of(&self.store().view(), group_id, usize::MAX)?;
        for node in nodes.difference(&silent.clone()) {
            let tried = tokio::time::timeout(PATIENCE, async {
                loop {
                    match self.gather(node, group_id, own).await {
                        Ok(()) | Err(ServiceError::Elsewhere { .. }) => break,
                        Err(error) => tracing::debug!(group = group_id, %node, %error, "again"),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
            if tried.await.is_err() {
                tracing::warn!(group = group_id, %node, "what it knows is not recovered");
                silent.insert(node.clone());
            }
        }
        let id = group_id.to_owned();
        self.change(&Caller::other_node("recovery"), move |change| change.take_over(&id)).await?;
        tracing::info!(group = group_id, "recovered");
        Ok(())
    }
}

impl Change<'_, '_> {
    /// Another node may know of the log of a group what this one knows.
    pub(super) fn must_follow(&self, origin: &Domain, group_id: &str) -> Result<()> {
        let follows = match self.group_home(group_id)? {
            None => schema::GROUP_NODES.contains(self.tx, (group_id, origin.as_str()))?,
            Some(_) => {
                let mut rows = schema::MEMBERS.scan(self.tx, group_id);
                rows.any(|row| row.is_ok_and(|(key, _)| home_of(&key.1).as_ref() == Some(origin)))
            }
        };
        if follows {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{origin} has no members in {group_id}")))
    }
}
