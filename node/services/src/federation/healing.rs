//! Chats of two after a restore: what this node has lost of them since the backup is fetched from the
//! nodes of the other users.
//!
//! Before anything new of such a node is applied, what was lost comes back: messages of its users are
//! received again; messages of the users here get back the seqs they had, which nobody else gets.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use proto::federation::{
    Chat, ChatEnd, Chats, ChatsRequest, EventKind, FriendListed, Greeting, PastChats,
    PastChatsRequest, request, response,
};
use proto::qualified::{Domain, home_of, is_remote, qualify};
use proto::sdkws::MsgData;
use store::record::{ConversationHead, Number};
use store::{Direction, Read, View, message_log, outbox, schema};

use super::Trouble;
use super::chat::{MAX_SEQ, check_chat, sent_at};
use crate::access::Caller;
use crate::border;
use crate::change::Change;
use crate::conversation_id::{self, SINGLE};
use crate::error::{Result, ServiceError};
use crate::message::SENT;
use crate::notification::is_system;
use crate::{Services, object::blocking};

/// Chats in one answer, and conversations that are looked at for it.
const MAX_CHATS: usize = 500;
const MAX_LOOKED_AT: usize = 20_000;
/// Messages in one answer, and their bytes.
const MAX_MESSAGES: usize = 500;
const MAX_BYTES: usize = 180 * 1_024;
/// How long events of a node wait for what was lost before they have to come again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a node is asked again.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The nodes that were asked since the last restore.
#[derive(Default)]
pub(crate) struct Healing {
    done: Mutex<HashSet<Domain>>,
    under_way: Mutex<HashMap<Domain, Arc<tokio::sync::Mutex<()>>>>,
}

impl Services {
    /// Asks every known node for what a restore has lost, as soon as it can be reached.
    pub(super) fn heal_later(&self) -> Result<()> {
        let view = self.store().view();
        if !was_restored(&view)? {
            return Ok(());
        }
        for row in schema::PEERS.scan(&view, ()) {
            let (name, _) = row?;
            let Ok(domain) = name.parse::<Domain>() else { continue };
            if Some(&domain) == self.domain() {
                continue;
            }
            let services = self.clone();
            self.inner.runtime.spawn(async move {
                let mut pause = PAUSE;
                while let Err(error) = services.healed_once(&domain).await {
                    tracing::debug!(%domain, %error, "chats are not healed yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            });
        }
        Ok(())
    }

    /// Waits until what this node has lost of chats with users of `domain` is here again.
    pub(super) async fn healed(&self, domain: &Domain) -> Result<()> {
        if self.inner.healing.done.lock().contains(domain) {
            return Ok(());
        }
        let healed = tokio::time::timeout(PATIENCE, async {
            while let Err(error) = self.healed_once(domain).await {
                tracing::debug!(%domain, %error, "chats are not healed yet");
                tokio::time::sleep(PAUSE).await;
            }
        });
        let unhealed = || format!("chats with {domain} are not healed");
        healed.await.map_err(|_| ServiceError::Unreachable(unhealed()))
    }

    pub(super) async fn healed_once(&self, domain: &Domain) -> Result<()> {
        let lock =
            Arc::clone(self.inner.healing.under_way.lock().entry(domain.clone()).or_default());
        let _one_at_a_time = lock.lock().await;
        if self.inner.healing.done.lock().contains(domain) {
            return Ok(());
        }
        let epoch = {
            let view = self.store().view();
            let epoch = outbox::stream_epoch(&view).cast_signed();
            let asked = schema::HEALED.get(&view, domain.as_str())?;
            let whole = !was_restored(&view)? || asked.is_some_and(|asked| asked.value == epoch);
            (!whole).then_some(epoch)
        };
        if let Some(epoch) = epoch {
            match self.heal(domain).await {
                Err(ServiceError::Elsewhere { code, reason }) => {
                    tracing::warn!(%domain, code, reason, "chats are not healed: it refuses");
                }
                healed => {
                    let messages = healed?;
                    tracing::info!(%domain, messages, "chats are healed");
                }
            }
            let name = domain.to_string();
            self.change(&Caller::other_node(domain.as_str()), move |change| {
                schema::HEALED.put(change.tx, &name, &Number { value: epoch });
                Ok(())
            })
            .await?;
        }
        self.inner.healing.done.lock().insert(domain.clone());
        self.inner.healing.under_way.lock().remove(domain);
        Ok(())
    }

    /// Fetches what was lost; returns how many messages came back.
    async fn heal(&self, domain: &Domain) -> Result<usize> {
        // What it has of this node from before the restore is explained by that only until it was asked.
        self.ask(domain, request::Body::Greeting(Greeting {})).await?;
        let (mut after, mut messages) = (String::new(), 0);
        let unsent = self.first_unsent(domain)?;
        loop {
            let request = request::Body::Chats(ChatsRequest { after: after.clone() });
            let Some(response::Body::Chats(page)) = self.ask(domain, request).await?.body else {
                return Err(ServiceError::Unreachable(format!("{domain} named no chats")));
            };
            for end in page.chats {
                messages += self.heal_chat(domain, end, &unsent).await?;
            }
            if page.next <= after {
                break;
            }
            after = page.next;
        }
        let origin = domain.clone();
        self.change(&Caller::other_node(domain.as_str()), move |change| change.tell_lists(&origin))
            .await?;
        Ok(messages)
    }

    /// The first message of each conversation that another node may not have: its seq, by the
    /// number of the conversation.
    fn first_unsent(&self, domain: &Domain) -> Result<HashMap<u64, i64>> {
        let view = self.store().view();
        let mut first = HashMap::new();
        for row in outbox::queued(&view, domain.as_str(), 0) {
            let (_, queued) = row?;
            if queued.kind == EventKind::EventChat as u32 {
                let seq: &mut i64 = first.entry(queued.conversation).or_insert(queued.seq);
                *seq = queued.seq.min(*seq);
            }
        }
        Ok(first)
    }

    async fn heal_chat(
        &self,
        domain: &Domain,
        end: ChatEnd,
        unsent: &HashMap<u64, i64>,
    ) -> Result<usize> {
        let Ok((user, peer)) = self.across(domain, &end.user, &end.peer) else {
            return Ok(0);
        };
        let known = known(&self.store().view(), &conversation_id::single(&user, &peer), unsent)?;
        let listed =
            FriendListed { owner: end.user.clone(), friend: end.peer.clone(), listed: end.listed };
        let origin = domain.clone();
        let caller = Caller::other_node(domain.as_str());
        self.change(&caller, move |change| {
            if !schema::USERS.contains(change.tx, &peer)? {
                return Ok(());
            }
            change.friend_listed(&origin, &listed).map_err(Trouble::of_an_answer)
        })
        .await?;
        if end.user_seq <= known.theirs && end.peer_seq <= known.ours {
            return Ok(0);
        }
        // Those of users here first: they get the places they had, and what comes behind them is
        // later than all of them.
        let mut messages = 0;
        for (user_seq, peer_seq) in [(MAX_SEQ, known.ours), (known.theirs, MAX_SEQ)] {
            let (user, peer) = (end.user.clone(), end.peer.clone());
            let request = PastChatsRequest { user, peer, user_seq, peer_seq, after: 0 };
            messages += self.heal_side(domain, request, known.since).await?;
        }
        Ok(messages)
    }

    /// Fetches what was lost of the messages of one of the two, page by page.
    async fn heal_side(
        &self,
        domain: &Domain,
        mut request: PastChatsRequest,
        since: i64,
    ) -> Result<usize> {
        let mut messages = 0;
        loop {
            let response = self.ask(domain, request::Body::PastChats(request.clone())).await?;
            let Some(response::Body::PastChats(past)) = response.body else {
                return Err(ServiceError::Unreachable(format!("{domain} gave no messages")));
            };
            let (more, reached) = (past.more, past.reached);
            messages += self.take_back(domain, past.messages, since).await?;
            if !more || reached <= request.after {
                return Ok(messages);
            }
            request.after = reached;
        }
    }

    async fn take_back(&self, domain: &Domain, past: Vec<Chat>, since: i64) -> Result<usize> {
        let origin = domain.clone();
        self.change(&Caller::other_node(domain.as_str()), move |change| {
            let mut messages = 0;
            for chat in past {
                let mut taken = false;
                let attempt = change.attempt(|change| {
                    taken = change.take_back_one(&origin, chat, since)?;
                    Ok(())
                });
                match attempt {
                    Ok(()) => messages += usize::from(taken),
                    Err(Trouble::Later(error)) => return Err(error.into()),
                    // Blocked since, or not a message that anybody has sent.
                    Err(Trouble::Refused(error)) => tracing::debug!(%origin, %error, "not taken"),
                    Err(Trouble::Bad(reason)) => tracing::debug!(%origin, reason, "not taken"),
                }
            }
            Ok(messages)
        })
        .await
    }

    /// Chats of users of this node with those of another one that was restored.
    pub(super) async fn answer_chats(
        &self,
        origin: &Domain,
        request: ChatsRequest,
    ) -> Result<Chats> {
        let (services, origin) = (self.clone(), origin.clone());
        blocking(move || services.chats_with(&origin, &request.after)).await
    }

    fn chats_with(&self, origin: &Domain, after: &str) -> Result<Chats> {
        let Some(own) = self.domain() else { return Ok(Chats::default()) };
        let view = self.store().view();
        let mut page = Chats::default();
        let rows = schema::CONVERSATION_HEADS.range(&view, after, (), Direction::Ascending);
        for (looked_at, row) in rows.enumerate() {
            let (id, head) = row?;
            if looked_at == MAX_LOOKED_AT || page.chats.len() == MAX_CHATS {
                page.next = id;
                break;
            }
            let Some((user, peer)) = pair_with(&head, origin) else { continue };
            let mut newest = schema::AUTHOR_SEQS.scan_back(&view, head.number);
            page.chats.push(ChatEnd {
                user: qualify(user, own)?,
                peer: qualify(peer, own)?,
                user_seq: message_log::newest_of(&view, head.number)?.0,
                peer_seq: newest.next().transpose()?.map_or(0, |((_, author_seq), _)| author_seq),
                listed: schema::FRIENDS.contains(&view, (user, peer))?,
            });
        }
        Ok(page)
    }

    /// Messages of such a chat that the other node has lost.
    pub(super) async fn answer_past_chats(
        &self,
        origin: &Domain,
        request: PastChatsRequest,
    ) -> Result<PastChats> {
        let (peer, user) = self.across(origin, &request.peer, &request.user)?;
        let services = self.clone();
        blocking(move || services.past_chats(&user, &peer, &request)).await
    }

    fn past_chats(&self, user: &str, peer: &str, asked: &PastChatsRequest) -> Result<PastChats> {
        let Some(own) = self.domain() else { return Ok(PastChats::default()) };
        let view = self.store().view();
        let mut past = PastChats::default();
        let id = conversation_id::single(user, peer);
        let Some(head) = schema::CONVERSATION_HEADS.get(&view, &id)? else { return Ok(past) };
        let place = |seq: i64| (head.number, seq.clamp(0, MAX_SEQ));
        let mut named = schema::AUTHOR_SEQS
            .range(
                &view,
                place(asked.peer_seq.saturating_add(1)),
                place(MAX_SEQ),
                Direction::Ascending,
            )
            .peekable();
        let of_peer = match named.peek() {
            Some(Ok((_, seq))) => seq.value,
            Some(Err(_)) | None => i64::MAX,
        };
        let first =
            of_peer.min(asked.user_seq.saturating_add(1)).max(asked.after.saturating_add(1));
        let key = |seq: i64| (head.number, seq.clamp(0, MAX_SEQ).cast_unsigned());
        let mut bytes = 0;
        for row in schema::MESSAGES.range(&view, key(first), key(MAX_SEQ), Direction::Ascending) {
            let ((_, seq), message) = row?;
            let seq = seq.cast_signed();
            // Both rise together.
            while let Some(Ok((_, here))) = named.peek()
                && here.value < seq
            {
                named.next();
            }
            let author_seq = if message.send_id == user {
                Some(seq).filter(|seq| *seq > asked.user_seq)
            } else {
                let here = named.next_if(|row| row.as_ref().is_ok_and(|(_, h)| h.value == seq));
                here.transpose()?.map(|((_, author_seq), _)| author_seq)
            };
            past.reached = seq;
            let Some(author_seq) = author_seq else { continue };
            if message_log::is_erased(&message) || is_system(message.content_type) {
                continue;
            }
            let send_time_ms = message.send_time;
            let message = border::bare(message, own)?.into();
            let chat = Chat { message, author_seq, send_time_ms };
            bytes += chat.encoded_len();
            past.messages.push(chat);
            if bytes >= MAX_BYTES || past.messages.len() == MAX_MESSAGES {
                past.more = true;
                break;
            }
        }
        Ok(past)
    }
}

/// What a restored node knows of a chat.
struct Known {
    /// Newest message of the user elsewhere: its seq there.
    theirs: i64,
    /// Newest message that the other node need not be asked for.
    ours: i64,
    /// Nothing older of the user elsewhere is wanted, in Unix milliseconds: all that was known of it
    /// was removed here for its age.
    since: i64,
}

fn known(view: &View<'_>, conversation: &str, unsent: &HashMap<u64, i64>) -> Result<Known> {
    let Some(head) = schema::CONVERSATION_HEADS.get(view, conversation)? else {
        return Ok(Known { theirs: 0, ours: 0, since: 0 });
    };
    let mut named = schema::AUTHOR_SEQS.scan_back(view, head.number);
    let theirs = named.next().transpose()?.map(|((_, author_seq), _)| author_seq);
    let followed = head.skipped == schema::META.get(view, 0)?.unwrap_or_default().skipped;
    // Behind the gap is what was written since.
    let ours = match head.gaps.last().filter(|_| followed) {
        Some(gap) => gap.after,
        None => message_log::newest_of(view, head.number)?.0,
    };
    // What was written before this node knew what it had lost has the seqs of what was.
    let ours = unsent.get(&head.number).map_or(ours, |first| ours.min(first - 1));
    let last = schema::MESSAGES.get(view, (head.number, ours.cast_unsigned()))?;
    let removed = theirs.is_none() && head.min_seq > 1;
    let since = last.filter(|_| removed).map_or(0, |last| last.send_time);
    Ok(Known { theirs: theirs.unwrap_or_default(), ours, since })
}

/// Whether the data comes from a backup.
fn was_restored(from: &impl Read) -> Result<bool> {
    Ok(schema::META.get(from, 0)?.is_some_and(|meta| meta.epoch > 1))
}

/// The user of this node and the one of `origin` whose chat it is.
fn pair_with<'a>(head: &'a ConversationHead, origin: &Domain) -> Option<(&'a str, &'a str)> {
    let [a, b] = head.pair.as_slice() else { return None };
    let (user, peer) = if is_remote(a) { (b, a) } else { (a, b) };
    let across = !is_remote(user) && home_of(peer).as_ref() == Some(origin);
    (head.session_type == SINGLE && across).then_some((user, peer))
}

impl Change<'_, '_> {
    /// A message that this node had before it was restored; false: it is here, or from before `since`.
    fn take_back_one(
        &mut self,
        origin: &Domain,
        chat: Chat,
        since: i64,
    ) -> std::result::Result<bool, Trouble> {
        let message = MsgData::decode(chat.message.clone())?;
        if self.user_of(origin, &message.send_id).is_ok() {
            let wanted = chat.send_time_ms > since;
            if wanted {
                self.chat_received(origin, chat)?;
            }
            return Ok(wanted);
        }
        let sender = self.local_user(&message.send_id)?;
        self.user_of(origin, &message.recv_id)?;
        let mut message = self.services.inbound(message)?;
        check_chat(&message, chat.author_seq)?;
        self.services.check_shape(&message)?;
        if !schema::USERS.contains(self.tx, &sender)? {
            return Err(ServiceError::NotFound(sender).into());
        }
        message.seq = 0;
        message.status = SENT;
        message.send_time = sent_at(self.now, chat.send_time_ms);
        Ok(self.put_back(&message, chat.author_seq)?)
    }

    /// Tells another node which of its users the users here list as friends: it may know of later
    /// changes, which this node has lost.
    fn tell_lists(&mut self, origin: &Domain) -> Result<()> {
        let mut listed = Vec::new();
        for row in schema::FRIENDS.scan(self.tx, ()) {
            let ((owner, friend), _) = row?;
            if !is_remote(&owner) && home_of(&friend).as_ref() == Some(origin) {
                listed.push((owner, friend));
            }
        }
        for (owner, friend) in listed {
            self.cross_friend_listed(&owner, &friend)?;
        }
        Ok(())
    }
}
