//! An older copy of a node's data is put back, or runs beside the node, while users write to each
//! other.
//!
//! What another node had got is not lost then, on either side, nor is anything that was acknowledged
//! afterwards. What only the lost data knew is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use federation::Halt;
use store::{schema, verify};
use tokio::time::Instant;

use super::organisation::{Organisation, Stored};
use super::work::{PAUSE_MS, SETTLES, SKEW_MS, Sent, User, World};
use crate::Result;

/// Longer than a node waits before it begins a second epoch by itself.
const AN_HOUR_LATER: Duration = Duration::from_secs(3_700);

impl World {
    /// Plays one seed.
    pub(super) async fn play_copies(&mut self, steps: usize) -> Result {
        let part = (steps / 3).max(1);
        self.write(part, &mut []).await?;
        let victim = self.random.below(self.nodes.len());
        let stored = self.nodes[victim].stored()?;
        let before: BTreeMap<(User, User), usize> =
            self.chats.iter().map(|(pair, sent)| (*pair, sent.len())).collect();
        self.note(|| format!("a copy of node {victim} is made"));
        let lost = self.random.below(part);
        self.write(lost, &mut []).await?;
        if self.random.once_in(3) {
            let mut copy = [self.nodes[victim].copied(&stored)?];
            self.note(|| format!("a copy of node {victim} runs, too"));
            copy[0].start().await?;
            self.write(part, &mut copy).await?;
            self.end_one(victim, copy).await?;
        } else {
            self.note(|| format!("the copy of node {victim} is put back"));
            self.put_back(victim, &stored, &before).await?;
            self.write(part, &mut []).await?;
        }
        self.settle_copies().await?;
        self.check_copies().await
    }

    /// Users write to each other, and links and nodes fail.
    async fn write(&mut self, steps: usize, copies: &mut [Organisation]) -> Result {
        for _ in 0..steps {
            match self.random.below(20) {
                0..14 => self.chat().await,
                14..17 => self.break_link(),
                17..19 => self.restart().await?,
                _ => {
                    let node = self.random.below(self.nodes.len());
                    let ahead = self.random.below(2 * SKEW_MS) as i64 - SKEW_MS as i64;
                    self.nodes[node].set_ahead(ahead);
                }
            }
            let pause = self.random.below(PAUSE_MS) as u64;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.follow(copies).await?;
        }
        Ok(())
    }

    /// Starts those again whose data has a new epoch.
    async fn follow(&mut self, copies: &mut [Organisation]) -> Result {
        let mut again = Vec::new();
        for node in self.nodes.iter_mut().chain(copies) {
            if node.follow().await? {
                again.push(node.domain.clone());
            }
        }
        if !again.is_empty() {
            self.note(|| format!("new epochs of {again:?}"));
        }
        Ok(())
    }

    /// Puts older data in place of what a node has. What only this node knew is lost for good.
    async fn put_back(
        &mut self,
        victim: usize,
        stored: &Stored,
        before: &BTreeMap<(User, User), usize>,
    ) -> Result {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.start().await?;
            }
        }
        let mut gone = BTreeSet::new();
        for ((from, to), sent) in self.chats.iter().filter(|((from, _), _)| from.node == victim) {
            let older = before.get(&(*from, *to)).copied().unwrap_or_default();
            let got = if to.node == victim { BTreeSet::new() } else { self.texts(*to, *from)? };
            let newer = sent.iter().skip(older).map(|sent| &sent.client_msg_id);
            gone.extend(newer.filter(|id| !got.contains(*id)).cloned());
        }
        for sent in self.chats.values_mut().flatten() {
            sent.acknowledged &= !gone.contains(&sent.client_msg_id);
        }
        self.nodes[victim].kill();
        self.nodes[victim].put(stored)?;
        self.nodes[victim].start().await
    }

    /// IDs of the messages of the chat with `other` that the node of `at` has.
    fn texts(&self, at: User, other: User) -> Result<BTreeSet<String>> {
        let texts = self.stored_chat(at, other)?;
        Ok(texts.into_iter().map(|(id, ..)| id).collect())
    }

    fn stored_chat(&self, at: User, other: User) -> Result<Vec<(String, i64, i64)>> {
        let view = self.nodes[at.node].store()?.view();
        let mut pair = [at.id(), other.id_at(at.node)];
        pair.sort();
        let id = format!("si_{}_{}", pair[0], pair[1]);
        let Some(head) = schema::CONVERSATION_HEADS.get(&view, &id)? else {
            return Ok(Vec::new());
        };
        let rows = schema::MESSAGES.scan(&view, head.number);
        let rows = rows.map(|row| {
            let ((_, seq), message) = row?;
            Ok((message.client_msg_id, seq.cast_signed(), message.send_time))
        });
        rows.collect()
    }

    /// Of a node and its copy one has to be ended. If it was the node that has stopped to deal with
    /// others, it starts again when the copy is gone.
    async fn end_one(&mut self, victim: usize, [mut copy]: [Organisation; 1]) -> Result {
        self.reconnect().await?;
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.follow(std::slice::from_mut(&mut copy)).await?;
            let stopped = [copy.halt(), self.nodes[victim].halt()];
            let stopped = stopped
                .map(|halt| matches!(halt, Some(Halt::Doubled { .. } | Halt::BackAgain { .. })));
            ensure!(stopped != [true, true], "both have stopped");
            // Where the node has links, its copy is refused; where it has none, nobody can know.
            if stopped != [false, false] || began.elapsed() > AN_HOUR_LATER {
                self.note(|| format!("of the copy and the node have stopped: {stopped:?}"));
                break;
            }
        }
        copy.kill();
        tokio::time::sleep(AN_HOUR_LATER).await;
        if self.nodes[victim].halt().is_some() {
            self.nodes[victim].kill();
            self.nodes[victim].start().await?;
        }
        Ok(())
    }

    async fn settle_copies(&mut self) -> Result {
        self.reconnect().await?;
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.follow(&mut []).await?;
            let mut waiting = Vec::new();
            for node in &self.nodes {
                let peers = node.federation()?.peers()?;
                waiting.extend(peers.into_iter().filter(|peer| peer.queued > 0));
            }
            // Greetings come every few minutes; by one at the latest it is noticed.
            if waiting.is_empty() && began.elapsed() > Duration::from_secs(700) {
                return Ok(());
            }
            ensure!(began.elapsed() < SETTLES, "events are stuck: {waiting:?}");
        }
    }

    async fn check_copies(&self) -> Result {
        for node in &self.nodes {
            let report = verify::verify(&node.store()?.view(), |_| {})?;
            ensure!(report.is_clean(), "{}: verify: {:?}", node.domain, report.findings);
            for peer in node.federation()?.peers()? {
                ensure!(peer.quarantined == 0, "{}: events were put aside", node.domain);
            }
            ensure!(node.halt().is_none(), "{}: {:?}", node.domain, node.halt());
        }
        for ((from, to), sent) in &self.chats {
            for (at, other) in [(*from, *to), (*to, *from)] {
                let there = self.stored_chat(at, other)?;
                Self::check_chat(sent, &there)
                    .with_context(|| format!("{from:?} to {to:?}, seen by {at:?}"))?;
            }
        }
        Ok(())
    }

    fn check_chat(sent: &[Sent], there: &[(String, i64, i64)]) -> Result {
        let ids: BTreeSet<&String> = there.iter().map(|(id, ..)| id).collect();
        ensure!(ids.len() == there.len(), "a message is there twice: {there:?}");
        ensure!(
            there.is_sorted_by(|a, b| a.1 < b.1 && a.2 < b.2),
            "seqs and times do not rise together: {there:?}"
        );
        for sent in sent.iter().filter(|sent| sent.acknowledged) {
            ensure!(ids.contains(&sent.client_msg_id), "{sent:?} is lost: {there:?}");
        }
        Ok(())
    }
}
