//! Messages to groups of other nodes: queued for the home, which gives them their place.
//!
//! They come back with the log like everybody's. Whoever sends waits a little for the home; if it
//! does not answer, the message is accepted and waits in the outbox.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use proto::federation::{GroupSend, Refusal};
use proto::msg::SendMsgResp;
use proto::qualified::Domain;
use proto::sdkws::MsgData;
use store::record::{Queued, RecentSend};
use store::{Tx, message_log, schema};
use tokio::sync::oneshot;

use super::chat::{MAX_MESSAGE_ID_BYTES, refusal_tip};
use super::group::digest;
use super::head::check_home;
use super::home::{MOVED, moved};
use super::signature::Vouched;
use super::{Trouble, may_cross};
use crate::Services;
use crate::access::Caller;
use crate::border;
use crate::change::Change;
use crate::conversation_id::{self, GROUP};
use crate::delivery::{Audience, Delivery};
use crate::error::{Result, ServiceError};
use crate::message::{SENT, Sending, accept, response};
use crate::notification::is_system;

/// Messages of one member among which a repeat is recognised, however long ago they were.
pub(super) const RECENT: usize = 32;
/// How long a sender waits for the home of the group.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gets the refusal of an event, or hears that there is none.
type Waiting = oneshot::Sender<Option<Refusal>>;

/// Senders who wait for what another node says of an event.
#[derive(Default)]
pub(crate) struct Awaited {
    waiting: Mutex<BTreeMap<(String, u64), Waiting>>,
}

impl Awaited {
    fn wait(&self, domain: &Domain, seq: u64) -> oneshot::Receiver<Option<Refusal>> {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert((domain.to_string(), seq), answer);
        answered
    }

    fn give_up(&self, domain: &Domain, seq: u64) {
        self.waiting.lock().remove(&(domain.to_string(), seq));
    }

    /// Everything up to `seq` was answered.
    pub(super) fn answered(&self, domain: &str, seq: u64, refusals: &[Refusal]) {
        let mut waiting = self.waiting.lock();
        let first = (domain.to_owned(), 0);
        let known: Vec<(String, u64)> =
            waiting.range(first..=(domain.to_owned(), seq)).map(|(key, _)| key.clone()).collect();
        for key in known {
            let refusal = refusals.iter().find(|refusal| refusal.seq == key.1).cloned();
            if let Some(answer) = waiting.remove(&key) {
                let _ = answer.send(refusal);
            }
        }
    }
}

/// A message of a member as it is signed and kept: without what its place in the log gives it.
pub(super) fn as_members_send(message: MsgData) -> MsgData {
    MsgData {
        recv_id: String::new(),
        seq: 0,
        send_time: 0,
        is_read: false,
        status: SENT,
        ..message
    }
}

impl Services {
    /// Sends a message to a group of another node.
    pub(crate) async fn send_to_home(
        &self,
        caller: &Caller,
        home: &Domain,
        message: MsgData,
        sending: Sending,
    ) -> Result<SendMsgResp> {
        {
            let view = self.store().view();
            may_cross(&view, &message.send_id)?;
            // What the log of the group says so far; the home has the last word.
            self.check_group(&view, &message)?;
            check_home(&view, &message.group_id, home)?;
        }
        let answer = response(&message, self.now());
        let services = self.clone();
        let waiting = self
            .change(caller, move |change| {
                if change.group_home(&message.group_id)?.is_none() {
                    // In the meantime this node has become the home.
                    change.place_own(&message)?;
                    return Ok(None);
                }
                let Some((home, seq)) = change.send_away(message)? else { return Ok(None) };
                // Before the event can be on its way.
                Ok(Some((services.inner.awaited.wait(&home, seq), home, seq)))
            })
            .await?;
        if let Some((answered, home, seq)) = waiting {
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(Some(Refusal { code, reason, .. }))) => {
                    return Err(ServiceError::Elsewhere { code, reason });
                }
                Ok(_) => {}
                Err(_) => self.inner.awaited.give_up(&home, seq),
            }
        }
        if let Some(reply) = sending.reply {
            let reply = Delivery::Reply(reply, Box::new(answer.clone()));
            self.inner.outbox.send(vec![reply]).await;
        }
        Ok(answer)
    }
}

impl Change<'_, '_> {
    /// Keeps a message until it is in the log of its group, and queues it for the home; returns
    /// where, unless the home is only about to open.
    pub(crate) fn send_away(&mut self, message: MsgData) -> Result<Option<(Domain, u64)>> {
        let (group_id, id) = (message.group_id.clone(), message.client_msg_id.clone());
        let send = self.signed_send(message)?;
        self.wait_for_log(&group_id, &id, send.clone())?;
        let Some(home) = self.open_home(&group_id)? else { return Ok(None) };
        let seq = self.queue_send(&home, send)?;
        Ok(Some((home, seq)))
    }

    /// A member on another node has sent a message.
    pub(super) fn group_sent(
        &mut self,
        origin: &Domain,
        event: GroupSend,
        vouched: &Vouched,
    ) -> std::result::Result<(), Trouble> {
        let content = event.message;
        let message = MsgData::decode(content.clone())?;
        self.user_of(origin, &message.send_id)?;
        let own = self.own_domain()?;
        let message = self.services.inbound(message)?;
        if message.session_type != GROUP
            || is_system(message.content_type)
            || conversation_id::is_notification(&message)
            || message.options.get("history") == Some(&false)
            || !(1..=MAX_MESSAGE_ID_BYTES).contains(&message.client_msg_id.len())
            || !(1..=MAX_MESSAGE_ID_BYTES).contains(&message.server_msg_id.len())
        {
            return Err(Trouble::Bad("not a message of a member to a group of this node".into()));
        }
        if self.group_home(&message.group_id)?.is_some() {
            return Err(moved(&message.group_id).into());
        }
        let message = as_members_send(message);
        // What is signed is what the others get: byte for byte.
        let sound =
            vouched.contains(&digest(&content)) && border::bare(message.clone(), &own)? == content;
        let Some(signature) = event.signature.filter(|_| sound) else {
            return Err(Trouble::Bad("the signature of the author's node does not hold".into()));
        };
        self.services.check_shape(&message)?;
        let (group_id, sender) = (message.group_id.clone(), message.send_id.clone());
        // The sender's node keeps no chat of its own in which it could see a repeat, and may bring it
        // long after the first.
        let key = (group_id.as_str(), sender.as_str());
        let mut recent = schema::RECENT_SENDS.get(self.tx, key)?.unwrap_or_default();
        if recent.sends.iter().any(|sent| sent.client_msg_id == message.client_msg_id) {
            return Ok(());
        }
        self.services.check_group(&*self.tx, &message)?;
        let chat = conversation_id::group(&group_id);
        let (before, _) = message_log::newest(self.tx, &chat)?;
        let to_all = self.as_user(&sender, |change| accept(change, &message))?;
        let (seq, _) = message_log::newest(self.tx, &chat)?;
        if seq > before {
            let head = schema::CONVERSATION_HEADS.get(self.tx, &chat)?.unwrap_or_default();
            let key = (head.number, seq.cast_unsigned());
            schema::MESSAGE_SIGNATURES.put(self.tx, key, &signature);
        }
        recent.sends.push(RecentSend { seq, client_msg_id: message.client_msg_id });
        let old = recent.sends.len().saturating_sub(RECENT);
        recent.sends.drain(..old);
        schema::RECENT_SENDS.put(self.tx, (&group_id, &sender), &recent);
        if to_all {
            self.services.mark_everybody_later(group_id);
        }
        Ok(())
    }
}

impl Change<'_, '_> {
    /// The home does not take a message that its sender believes sent: those of the sender's devices
    /// that are online are told.
    pub(super) fn group_send_refused(
        &mut self,
        queued: &Queued,
        refusal: &Refusal,
    ) -> std::result::Result<(), Trouble> {
        if refusal.code == MOVED {
            // It goes to the new home as soon as that has opened its epoch.
            return Ok(());
        }
        let event = GroupSend::decode(queued.body.clone())?;
        let message = self.services.inbound(MsgData::decode(event.message)?)?;
        self.waits_no_more(&message.group_id, &message.client_msg_id)?;
        Ok(tell_refused(self, &message, refusal)?)
    }
}

/// Tells the sender of a message that the group does not take it.
pub(super) fn tell_refused(
    change: &mut Change<'_, '_>,
    message: &MsgData,
    refusal: &Refusal,
) -> Result<()> {
    let tip = MsgData {
        send_time: change.now,
        create_time: change.now,
        ..refusal_tip(change.services, message, refusal)?
    };
    let chat = conversation_id::group(&message.group_id);
    change.push(&chat, &tip.encode_to_vec(), Audience::Users(vec![message.send_id.clone()]));
    Ok(())
}

/// The events that a transaction acknowledges are answered.
pub(super) fn answered(
    tx: &mut Tx<'_>,
    services: &Services,
    domain: &str,
    seq: u64,
    refusals: &[Refusal],
) {
    let refusals = refusals.iter().filter(|refusal| refusal.code != MOVED).cloned();
    let (services, domain, refusals) =
        (services.clone(), domain.to_owned(), refusals.collect::<Vec<_>>());
    tx.after_commit(move || services.inner.awaited.answered(&domain, seq, &refusals));
}
