//! Where a group has its home: as its ID says, until it moves or its successor takes over.
//!
//! The home names one node that may become the home after it, in a mandate that it signs. That node
//! takes the group over when the home is lost; or the home hands the group to it at once. Either way
//! the new home opens the next epoch of the log, and what the old one says is not heard any more.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use prost::Message as _;
use proto::federation::{EntryHeader, GroupHead, Mandate, SignedHead, SignedMandate};
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use serde::{Deserialize, Serialize};
use store::record::{GroupHome, GroupLog, GroupReplica, Number, RecentSend, RecentSends};
use store::{Direction, Read, message_log, outbox, schema};

use super::at_home;
use super::group_send::RECENT;
use super::head::liar;
use super::signature::{Judgement, Purpose};
use super::{Crossing, Trouble};
use crate::Services;
use crate::access::{Caller, role};
use crate::change::Change;
use crate::conversation_id;
use crate::error::{Result, ServiceError};

/// Code with which a node refuses what only the home of a group does, and is not it.
pub(super) const MOVED: i32 = 1_299;

/// Seqs that are left out when a lost home is taken over: it may have given some to messages that
/// nobody else has.
const LEFT_OUT: i64 = 1_000;
/// Messages of a group in which a new home looks for what members sent last.
const LOOKED_BACK: usize = 5_000;

/// Why a node does not do what the home of a group does.
pub(super) fn moved(group_id: &str) -> ServiceError {
    let reason = format!("{group_id} has another home now; try again");
    ServiceError::Elsewhere { code: MOVED, reason }
}

/// A request to say who may take a group over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SetGroupSuccessorReq {
    /// The group.
    #[serde(rename = "groupID")]
    pub group_id: String,
    /// Domain of a node with members in it; empty: none.
    pub domain: String,
}

/// Nothing.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct SetGroupSuccessorResp {}

impl Services {
    /// The node that has the home of a group; `None`: this one.
    pub(crate) fn group_home(&self, from: &impl Read, group_id: &str) -> Result<Option<Domain>> {
        home_by(group_id, self.home_row(from, group_id)?.as_ref())
    }

    /// What is known of a group's home besides its ID; most groups have nothing.
    pub(super) fn home_row(&self, from: &impl Read, group_id: &str) -> Result<Option<GroupHome>> {
        if !self.inner.homes_differ.load(Ordering::Acquire) {
            return Ok(None);
        }
        Ok(schema::GROUP_HOMES.get(from, group_id)?)
    }

    /// The node that has the home of a group, if that is another one; the ID may be as people type
    /// it.
    pub(crate) fn home_elsewhere(&self, group_id: &str) -> Result<Option<Domain>> {
        let group_id = self.typed(group_id);
        self.group_home(&self.store().view(), &group_id)
    }

    /// Notes at the start whether there are groups whose home is not as their ID says.
    pub(super) fn look_at_homes(&self) -> Result<()> {
        let view = self.store().view();
        let any = schema::GROUP_HOMES.scan(&view, ()).next().transpose()?.is_some();
        self.inner.homes_differ.store(any, Ordering::Release);
        Ok(())
    }

    /// Says which node may take a group over when its home is lost.
    pub async fn set_group_successor(
        &self,
        caller: &Caller,
        request: SetGroupSuccessorReq,
    ) -> Result<SetGroupSuccessorResp> {
        at_home!(self, caller, request, &request.group_id, "/group/set_group_successor");
        let group_id = self.typed(&request.group_id);
        let to = match request.domain.as_str() {
            "" => None,
            domain => Some(domain.to_ascii_lowercase().parse()?),
        };
        self.change(caller, move |change| {
            change.must_have_home(&group_id)?;
            if let Some(to) = &to {
                change.must_have_members(&group_id, to)?;
            }
            change.note_crossing(&group_id, Crossing::Mandate { to, moves: false });
            Ok(SetGroupSuccessorResp {})
        })
        .await
    }

    /// Who may become the home of a group, and who has it; `None`: this node.
    pub fn succession(&self, group_id: &str) -> Result<(Option<Domain>, Option<Domain>)> {
        let group_id = self.typed(group_id);
        let view = self.store().view();
        if !schema::GROUPS.contains(&view, &group_id)? {
            return Err(ServiceError::GroupNotFound(group_id));
        }
        let mandate = mandate_of(&view, &group_id)?.unwrap_or_default();
        Ok((mandate.to.parse().ok(), self.group_home(&view, &group_id)?))
    }
}

/// The node that has the home of a group, by its ID and what is known besides; `None`: this one.
fn home_by(group_id: &str, known: Option<&GroupHome>) -> Result<Option<Domain>> {
    match known.filter(|home| !home.domain.is_empty()) {
        Some(home) if home.here => Ok(None),
        Some(home) => Ok(Some(home.domain.parse()?)),
        None => Ok(home_of(group_id)),
    }
}

/// What the home of a group says of who may become it.
fn mandate_of(from: &impl Read, group_id: &str) -> Result<Option<Mandate>> {
    let row = schema::GROUP_HOMES.get(from, group_id)?.unwrap_or_default();
    Ok(row.mandate.and_then(|signed| Mandate::decode(signed.mandate).ok()))
}

impl Change<'_, '_> {
    /// The node that has the home of a group; `None`: this one.
    pub(crate) fn group_home(&self, group_id: &str) -> Result<Option<Domain>> {
        self.services.group_home(&*self.tx, group_id)
    }

    /// The home of a group to which messages may go now; `None`: they wait.
    pub(super) fn open_home(&self, group_id: &str) -> Result<Option<Domain>> {
        let row = self.services.home_row(&*self.tx, group_id)?;
        let opening = row.as_ref().is_some_and(|home| home.opening);
        let own = self.services.domain();
        Ok(home_by(group_id, row.as_ref())?.filter(|home| !opening && Some(home) != own))
    }

    fn put_home(&mut self, group_id: &str, home: &GroupHome) {
        self.services.inner.homes_differ.store(true, Ordering::Release);
        schema::GROUP_HOMES.put(self.tx, group_id, home);
    }

    /// Where a group stands that this node knows.
    pub(super) fn place(&self, group_id: &str) -> Result<Option<GroupReplica>> {
        if let Some(log) = schema::GROUP_LOGS.get(self.tx, group_id)? {
            let GroupLog { epoch, seq, hash, .. } = log;
            let whole = GroupReplica { members_complete: true, ..GroupReplica::default() };
            return Ok(Some(GroupReplica { epoch, seq, hash, ..whole }));
        }
        Ok(schema::GROUP_REPLICAS.get(self.tx, group_id)?)
    }

    /// The group is one of this node's, and the caller its owner or the operator.
    pub(super) fn must_have_home(&self, group_id: &str) -> Result<()> {
        let Some(group) = schema::GROUPS.get(self.tx, group_id)? else {
            return Err(ServiceError::GroupNotFound(group_id.to_owned()));
        };
        if let Some(home) = self.group_home(group_id)? {
            return Err(ServiceError::denied(format!("the home of {group_id} is {home}")));
        }
        let member = schema::MEMBERS.get(self.tx, (group_id, &self.caller.user_id))?;
        let owns = member.is_some_and(|member| member.role_level == role::OWNER);
        if self.caller.is_admin || (owns && group.info.owner_user_id == self.caller.user_id) {
            return Ok(());
        }
        Err(ServiceError::denied("only the owner of the group may say who takes it over"))
    }

    pub(super) fn must_have_members(&self, group_id: &str, domain: &Domain) -> Result<()> {
        if schema::GROUP_NODES.contains(self.tx, (group_id, domain.as_str()))? {
            return Ok(());
        }
        Err(ServiceError::args(format!("{domain} has no members in {group_id}")))
    }

    /// Signs who may become the home of a group, for an entry of its log.
    pub(super) fn sign_mandate(
        &mut self,
        header: &EntryHeader,
        to: Option<&Domain>,
        moves: bool,
    ) -> Result<SignedMandate> {
        let Some(others) = self.services.inner.others.get() else {
            return Err(ServiceError::Internal("this node does not federate".into()));
        };
        let mandate = Mandate {
            group: header.group.clone(),
            home: self.own_domain()?.to_string(),
            to: to.map(Domain::to_string).unwrap_or_default(),
            moves,
            epoch: header.epoch,
            seq: header.seq,
            time_ms: self.now,
        };
        let mandate = mandate.encode_to_vec();
        let signature = Some(others.sign(Purpose::Mandate, &mandate));
        Ok(SignedMandate { mandate: mandate.into(), signature })
    }

    /// What the home of a group says of who may become it: kept, and if the group moves at once, done.
    pub(super) fn follow_mandate(
        &mut self,
        group_id: &str,
        signed: &SignedMandate,
    ) -> std::result::Result<(), Trouble> {
        self.keep_mandate(group_id, signed)?;
        let mandate = Mandate::decode(signed.mandate.clone())?;
        let Ok(to) = mandate.to.parse::<Domain>() else { return Ok(()) };
        if mandate.moves {
            self.take_new_home(&to, group_id, signed)?;
            if to == self.own_domain()? {
                self.become_home(group_id, 0)?;
            }
        }
        Ok(())
    }

    /// Keeps what the home of a group says of who may become it.
    pub(super) fn keep_mandate(&mut self, group_id: &str, mandate: &SignedMandate) -> Result<()> {
        let home = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        self.put_home(group_id, &GroupHome { mandate: Some(mandate.clone()), ..home });
        Ok(())
    }

    /// What a mandate says, if its home has signed it and it is for the group.
    fn sound_mandate(&self, group_id: &str, signed: &SignedMandate) -> Result<Option<Mandate>> {
        let own = self.own_domain()?;
        let Ok(mandate) = Mandate::decode(signed.mandate.clone()) else { return Ok(None) };
        let (Ok(home), Some(signature)) = (mandate.home.parse(), &signed.signature) else {
            return Ok(None);
        };
        let ours = localise(&mandate.group, &own).is_ok_and(|group| group == group_id);
        let Some(others) = self.services.inner.others.get() else { return Ok(None) };
        let (bytes, at) = (&signed.mandate, mandate.time_ms);
        let judged = others.judge(&home, Purpose::Mandate, bytes, signature, at);
        Ok((ours && judged == Judgement::Holds).then_some(mandate))
    }

    /// The node of `origin` says that it is the home of a group now: if it may, it is.
    pub(super) fn take_new_home(
        &mut self,
        origin: &Domain,
        group_id: &str,
        warrant: &SignedMandate,
    ) -> std::result::Result<(), Trouble> {
        let own = self.own_domain()?;
        let place = self.place(group_id)?.unwrap_or_default();
        let home = self.group_home(group_id)?;
        let row = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        let known = row.mandate.as_ref().is_some_and(|known| known.mandate == warrant.mandate);
        let mandate = self.sound_mandate(group_id, warrant)?.filter(|mandate| {
            // One that came before what this node knows was taken back since.
            mandate.to == origin.as_str()
                && mandate.home == home.as_ref().unwrap_or(&own).as_str()
                && (known || (mandate.epoch, mandate.seq) > (place.epoch, place.seq))
        });
        if mandate.is_none() {
            return Err(Trouble::Bad(format!("{origin} may not take {group_id} over")));
        }
        tracing::info!(group = group_id, home = %origin, "the group has another home");
        if home.is_none() {
            self.give_up(group_id)?;
        }
        self.end_epoch(group_id, place.epoch)?;
        let proof = schema::PROOFS.get(self.tx, group_id)?;
        if proof.is_some_and(|proof| liar(&proof).is_none()) {
            // Nothing in it says that it is not about the new home.
            schema::PROOFS.delete(self.tx, group_id);
        }
        let mut warrants = row.warrants;
        warrants.push(warrant.clone());
        let domain = origin.to_string();
        let home = GroupHome { domain, warrants, opening: true, ..GroupHome::default() };
        self.put_home(group_id, &home);
        Ok(())
    }

    /// A node that this one hears of a group from for the first time: may it be its home?
    pub(super) fn take_warrants(
        &mut self,
        origin: &Domain,
        group_id: &str,
        warrants: Vec<SignedMandate>,
    ) -> std::result::Result<(), Trouble> {
        let mut home = home_of(group_id).unwrap_or(self.own_domain()?);
        for warrant in &warrants {
            let mandate = self.sound_mandate(group_id, warrant)?;
            let mandate = mandate.filter(|mandate| mandate.home == home.as_str());
            let next = mandate.and_then(|mandate| mandate.to.parse().ok());
            home = next.ok_or_else(|| Trouble::Bad("a warrant does not hold".to_owned()))?;
        }
        if home != *origin {
            return Err(Trouble::Bad(format!("{origin} is not the home of {group_id}")));
        }
        if !warrants.is_empty() {
            let domain = origin.to_string();
            self.put_home(group_id, &GroupHome { domain, warrants, ..GroupHome::default() });
        }
        Ok(())
    }

    /// Keeps the head with which an epoch ended, for who was not there.
    fn end_epoch(&mut self, group_id: &str, epoch: u64) -> Result<()> {
        if let Some(head) = schema::GROUP_HEADS.get(self.tx, group_id)? {
            schema::GROUP_EPOCHS.put(self.tx, (group_id, epoch), &head);
            schema::GROUP_HEADS.delete(self.tx, group_id);
        }
        Ok(())
    }

    /// The new home has opened its epoch: what waits goes there.
    pub(super) fn home_opened(&mut self, group_id: &str) -> Result<()> {
        let home = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        if home.opening {
            self.put_home(group_id, &GroupHome { opening: false, ..home });
            self.send_waiting(group_id)?;
        }
        Ok(())
    }

    /// This node stops being the home of a group and follows its log.
    fn give_up(&mut self, group_id: &str) -> Result<()> {
        let place = self.place(group_id)?.unwrap_or_default();
        schema::GROUP_REPLICAS.put(self.tx, group_id, &place);
        let own = self.own_domain()?;
        let (group, hash) = (qualify(group_id, &own)?, place.hash.clone().into());
        let head = GroupHead { group, epoch: place.epoch, seq: place.seq, hash }.encode_to_vec();
        let others = self.services.inner.others.get();
        if let Some(signature) = others.map(|others| others.sign(Purpose::Head, &head)) {
            let signed = SignedHead { head: head.into(), signature: Some(signature) };
            schema::GROUP_HEADS.put(self.tx, group_id, &signed);
        }
        schema::GROUP_LOGS.delete(self.tx, group_id);
        let nodes = schema::GROUP_NODES.scan(self.tx, group_id).map(|row| Ok(row?.0.1));
        for domain in nodes.collect::<Result<Vec<String>>>()? {
            schema::GROUP_NODES.delete(self.tx, (group_id, &domain));
        }
        let recent = schema::RECENT_SENDS.scan(self.tx, group_id).map(|row| Ok(row?.0.1));
        for user_id in recent.collect::<Result<Vec<String>>>()? {
            schema::RECENT_SENDS.delete(self.tx, (group_id, &user_id));
        }
        Ok(())
    }

    /// After a restore the members may know more of a group's log than this node, its home: it
    /// follows itself until it has asked them.
    pub(super) fn begin_recovery(&mut self, group_id: &str) -> Result<()> {
        let row = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        let log = schema::GROUP_LOGS.get(self.tx, group_id)?;
        let stream = outbox::stream_epoch(self.tx);
        if self.group_home(group_id)?.is_some() || log.is_none_or(|log| log.stream == stream) {
            return Ok(());
        }
        let mut row = row;
        self.take_out_unsent(group_id, &mut row)?;
        self.give_up(group_id)?;
        let domain = self.own_domain()?.to_string();
        self.put_home(group_id, &GroupHome { domain, here: false, ..row });
        Ok(())
    }

    /// This node takes over a group of which nobody is the home any more.
    pub(super) fn take_over(&mut self, group_id: &str) -> Result<()> {
        let row = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        let own = self.own_domain()?;
        if row.domain != own.as_str() {
            let warrant = row.mandate.unwrap_or_default();
            self.take_new_home(&own, group_id, &warrant).map_err(Trouble::of_an_answer)?;
        }
        self.become_home(group_id, LEFT_OUT)
    }

    /// Opens the next epoch of a group's log; of each conversation at least `left_out` seqs are
    /// left out.
    fn become_home(&mut self, group_id: &str, left_out: i64) -> Result<()> {
        let row = schema::GROUP_HOMES.get(self.tx, group_id)?.unwrap_or_default();
        let place = self.place(group_id)?.unwrap_or_default();
        let own = self.own_domain()?;
        let restored = row.domain == own.as_str() && !row.opening;
        let warrant = row.warrants.last().filter(|_| !restored).cloned();
        let domain = match home_of(group_id) {
            None => String::new(),
            Some(_) => own.to_string(),
        };
        let again = row.clone();
        let row = GroupHome { members_again: Vec::new(), info_again: false, ..row };
        self.put_home(group_id, &GroupHome { domain, here: true, opening: false, ..row });
        let chat = conversation_id::group(group_id);
        let chat_until = self.tx.leave_out(&chat, left_out)?;
        let stream = conversation_id::stream_of(&chat);
        let notices_until = self.tx.leave_out(&stream, left_out)?;
        self.end_epoch(group_id, place.epoch)?;
        schema::GROUP_REPLICAS.delete(self.tx, group_id);
        let stream = outbox::stream_epoch(self.tx);
        let GroupReplica { epoch, hash, .. } = place;
        let log = GroupLog { epoch: epoch + 1, seq: 0, hash, stream };
        schema::GROUP_LOGS.put(self.tx, group_id, &log);
        self.count_again(group_id)?;
        self.recall_sends(group_id)?;
        self.say_again(group_id, &again)?;
        self.note_crossing(group_id, Crossing::Home { warrant, chat_until, notices_until });
        self.place_waiting(group_id)
    }

    /// Counts the members that each other node has in a group, as they were before this change.
    fn count_again(&mut self, group_id: &str) -> Result<()> {
        let mut counts: BTreeMap<Domain, i64> = BTreeMap::new();
        for row in schema::MEMBERS.scan(self.tx, group_id) {
            if let Some(domain) = home_of(&row?.0.1) {
                *counts.entry(domain).or_default() += 1;
            }
        }
        // What this change wrote is counted at its end.
        for ((group, user_id), existed) in schema::MEMBERS.written(self.tx)? {
            let Some(domain) = home_of(&user_id).filter(|_| group == group_id) else { continue };
            let exists = schema::MEMBERS.contains(self.tx, (group_id, &user_id))?;
            *counts.entry(domain).or_default() -= i64::from(exists) - i64::from(existed);
        }
        for (domain, value) in counts {
            schema::GROUP_NODES.put(self.tx, (group_id, domain.as_str()), &Number { value });
        }
        Ok(())
    }

    /// Finds out what members of other nodes sent last, to know it when it comes again.
    fn recall_sends(&mut self, group_id: &str) -> Result<()> {
        let chat = conversation_id::group(group_id);
        let Some(head) = schema::CONVERSATION_HEADS.get(self.tx, &chat)? else { return Ok(()) };
        let mut recent: BTreeMap<String, RecentSends> = BTreeMap::new();
        let newest =
            message_log::messages(self.tx, head.number, 1, i64::MAX, Direction::Descending);
        for row in newest.take(LOOKED_BACK) {
            let (seq, message) = row?;
            let sends = &mut recent.entry(message.send_id.clone()).or_default().sends;
            if is_remote(&message.send_id) && sends.len() < RECENT {
                sends.push(RecentSend { seq, client_msg_id: message.client_msg_id });
            }
        }
        for (user_id, mut sends) in recent.into_iter().filter(|(id, _)| is_remote(id)) {
            sends.sends.reverse();
            schema::RECENT_SENDS.put(self.tx, (group_id, &user_id), &sends);
        }
        Ok(())
    }
}
