//! What must be so in the end.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use proto::sdkws::{MsgData, PullMessageBySeqsReq, SeqRange};
use store::{schema, verify};

use super::work::{Group, Sent, User, World};
use crate::Result;

impl World {
    /// Everybody knows the same, and nothing is lost.
    pub(super) async fn check(&mut self) -> Result {
        for node in &self.nodes {
            let report = verify::verify(&node.store()?.view(), |_| {})?;
            ensure!(report.is_clean(), "{}: verify: {:?}", node.domain, report.findings);
            for peer in node.federation()?.peers()? {
                ensure!(
                    peer.quarantined == 0,
                    "{} put {} events of {} aside: {:?}",
                    node.domain,
                    peer.quarantined,
                    peer.domain,
                    self.quarantined(node.store()?)?
                );
            }
        }
        self.check_sight().await?;
        self.check_chats().await?;
        self.check_friends()?;
        for at in 0..self.groups.len() {
            self.check_group(at).await.with_context(|| format!("group {at}"))?;
        }
        Ok(())
    }

    fn quarantined(&self, store: &store::Store) -> Result<Vec<String>> {
        let view = store.view();
        let rows = schema::QUARANTINE.scan(&view, ());
        rows.map(|row| {
            let ((domain, _, seq), event) = row?;
            Ok(format!("{domain}/{seq} kind {}: {}", event.kind, event.reason))
        })
        .collect()
    }

    /// Everything that a user can pull of a conversation.
    pub(super) async fn pull(&self, user: User, id: &str) -> Result<Vec<MsgData>> {
        let services = self.nodes[user.node].services()?;
        let range =
            SeqRange { conversation_id: id.to_owned(), begin: 1, end: 1_000_000, num: 1_000_000 };
        let request =
            PullMessageBySeqsReq { user_id: user.id(), seq_ranges: vec![range], order: 0 };
        let caller = Self::caller(user);
        services.fetch_ranges(&caller, &request).await?;
        let mut pulled = services.pull_by_ranges(&caller, &request)?;
        Ok(pulled.msgs.remove(id).map(|pulled| pulled.msgs).unwrap_or_default())
    }

    async fn check_chats(&self) -> Result {
        let pairs: BTreeSet<(User, User)> =
            self.chats.keys().map(|(a, b)| (*a.min(b), *a.max(b))).collect();
        for (a, b) in pairs {
            for at in BTreeSet::from([a, b]) {
                let id = chat_id(a, b, at);
                if !self.is_listed(at, &id)? {
                    continue;
                }
                let seen = self.pull(at, &id).await?;
                check_order(&seen)?;
                for (from, to) in [(a, b), (b, a)] {
                    let sent = self.chats.get(&(from, to)).map_or(&[][..], Vec::as_slice);
                    let author = from.id_at(at.node);
                    check_sent(sent, &seen, &author)
                        .with_context(|| format!("{from:?} to {to:?}, seen by {at:?}"))?;
                }
            }
            self.check_same(a, b).await?;
        }
        Ok(())
    }

    /// Messages of each author come in the same order on both nodes, and the same are revoked.
    async fn check_same(&self, a: User, b: User) -> Result {
        let mut views = Vec::new();
        for at in [a, b] {
            let id = chat_id(a, b, at);
            if !self.is_listed(at, &id)? {
                return Ok(());
            }
            let seen = self.pull(at, &id).await?;
            let mut by_author: BTreeMap<String, Vec<(String, i32)>> = BTreeMap::new();
            for message in
                seen.into_iter().filter(|message| [101, 2101].contains(&message.content_type))
            {
                let author = message.send_id.split('@').next().unwrap_or_default().to_owned();
                let entry = (message.client_msg_id, message.content_type);
                by_author.entry(author).or_default().push(entry);
            }
            views.push(by_author);
        }
        ensure!(views[0] == views[1], "{a:?} and {b:?} see {views:?}");
        Ok(())
    }

    /// What a node keeps of the other side's list is what the other side has.
    fn check_friends(&self) -> Result {
        for owner in self.users() {
            for friend in self.users().into_iter().filter(|friend| friend.node != owner.node) {
                let real = schema::FRIENDS.contains(
                    &self.nodes[owner.node].store()?.view(),
                    (&owner.id(), &friend.id_at(owner.node)),
                )?;
                let copy = schema::FRIENDS.contains(
                    &self.nodes[friend.node].store()?.view(),
                    (&owner.id_at(friend.node), &friend.id()),
                )?;
                ensure!(real == copy, "{owner:?} has {friend:?}: {real}, there {copy}");
            }
        }
        Ok(())
    }

    async fn check_group(&self, at: usize) -> Result {
        let group = &self.groups[at];
        let home = self.members(group, group.home)?;
        let info = schema::GROUPS.get(&self.nodes[group.home].store()?.view(), &group.id)?;
        let name = info.context("the home has lost it")?.info.group_name;
        let mut expected: Option<Vec<(String, i64, i32)>> = None;
        for user in self.users() {
            if !home.contains_key(&user) {
                continue;
            }
            let id = group.id_at(user.node);
            ensure!(
                self.members(group, user.node)? == home,
                "members at {}: {:?}, at home {home:?}",
                user.node,
                self.members(group, user.node)?
            );
            let here = schema::GROUPS.get(&self.nodes[user.node].store()?.view(), &id)?;
            let here = here.context("a member's node has lost it")?.info.group_name;
            ensure!(here == name, "it is {here:?} at {}, {name:?} at home", user.node);
            if !self.is_listed(user, &format!("sg_{id}"))? {
                continue;
            }
            let seen = self.pull(user, &format!("sg_{id}")).await?;
            check_order(&seen)?;
            for ((_, from), sent) in self.said.iter().filter(|((group, _), _)| *group == at) {
                let mut sent = sent.clone();
                if !home.contains_key(from) || self.unsteady.contains(&(at, *from)) {
                    sent.iter_mut().for_each(|sent| sent.acknowledged = false);
                }
                check_sent(&sent, &seen, &from.id_at(user.node))
                    .with_context(|| format!("{from:?}, seen by {user:?}"))?;
            }
            let seen: Vec<(String, i64, i32)> = seen
                .into_iter()
                .map(|message| (message.client_msg_id, message.seq, message.content_type))
                .collect();
            match &expected {
                None => expected = Some(seen),
                Some(expected) => ensure!(
                    *expected == seen,
                    "{user:?} sees {} messages, others {}: {:?}",
                    seen.len(),
                    expected.len(),
                    expected.iter().zip(&seen).find(|(a, b)| a != b)
                ),
            }
        }
        Ok(())
    }

    /// Members of a group and their roles, as a node knows them.
    fn members(&self, group: &Group, node: usize) -> Result<BTreeMap<User, i32>> {
        let view = self.nodes[node].store()?.view();
        let known = |id: &str| self.users().into_iter().find(|user| user.id_at(node) == id);
        let mut members = BTreeMap::new();
        for row in schema::MEMBERS.scan(&view, group.id_at(node).as_str()) {
            let ((_, id), member) = row?;
            members.insert(known(&id).context("an unknown member")?, member.role_level);
        }
        Ok(members)
    }
}

/// ID of the chat of two as one of them knows it.
fn chat_id(a: User, b: User, at: User) -> String {
    let mut ids = [a.id_at(at.node), b.id_at(at.node)];
    ids.sort();
    format!("si_{}_{}", ids[0], ids[1])
}

fn check_order(seen: &[MsgData]) -> Result {
    for pair in seen.windows(2) {
        ensure!(pair[0].seq + 1 == pair[1].seq, "after seq {} comes {}", pair[0].seq, pair[1].seq);
        ensure!(
            pair[0].send_time < pair[1].send_time,
            "{} at {}, {} at {}",
            pair[0].seq,
            pair[0].send_time,
            pair[1].seq,
            pair[1].send_time
        );
    }
    Ok(())
}

/// What was acknowledged is there, nothing is there twice, and all is in the order of sending.
fn check_sent(sent: &[Sent], seen: &[MsgData], author: &str) -> Result {
    let there: Vec<&str> = seen
        .iter()
        .filter(|message| message.send_id == author)
        .map(|message| message.client_msg_id.as_str())
        .filter(|id| id.starts_with('m'))
        .collect();
    let known: BTreeMap<&str, usize> =
        sent.iter().enumerate().map(|(at, sent)| (sent.client_msg_id.as_str(), at)).collect();
    let places: Vec<usize> = there.iter().filter_map(|id| known.get(id).copied()).collect();
    ensure!(places.is_sorted(), "out of order: {there:?}");
    ensure!(places.windows(2).all(|pair| pair[0] != pair[1]), "twice: {there:?}");
    for message in sent.iter().filter(|sent| sent.acknowledged) {
        ensure!(there.contains(&message.client_msg_id.as_str()), "{message:?} is lost");
    }
    Ok(())
}
