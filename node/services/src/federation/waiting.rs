//! Messages of this node's users to groups of other nodes, until they are in the log of the group:
//! the home may be lost with what it has accepted, or move before it has seen them.

use bytes::Bytes;
use prost::Message as _;
use proto::federation::{EventKind, GroupSend, Refusal};
use proto::qualified::Domain;
use proto::sdkws::MsgData;
use store::record::{Queued, WaitingSend};
use store::schema;

use super::group_send::{as_members_send, tell_refused};
use super::signature::Purpose;
use crate::border;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::message::accept;

impl Change<'_, '_> {
    /// Signs a message of a user of this node for the home of its group.
    pub(super) fn signed_send(&self, message: MsgData) -> Result<Bytes> {
        let content = border::bare(as_members_send(message), &self.own_domain()?)?;
        let others = self.services.inner.others.get();
        let signature = others.map(|others| others.sign(Purpose::Message, &content));
        Ok(GroupSend { message: content.into(), signature }.encode_to_vec().into())
    }

    /// Keeps a message that was signed until it comes back.
    pub(super) fn wait_for_log(
        &mut self,
        group_id: &str,
        client_msg_id: &str,
        send: Bytes,
    ) -> Result<()> {
        let last = schema::WAITING_SENDS.scan_back(self.tx, group_id).next().transpose()?;
        let order = last.map_or(0, |((_, order), _)| order) + 1;
        let waiting = WaitingSend { client_msg_id: client_msg_id.to_owned(), send };
        schema::WAITING_SENDS.put(self.tx, (group_id, order), &waiting);
        Ok(())
    }

    /// A message has come back in the log, or was refused.
    pub(super) fn waits_no_more(&mut self, group_id: &str, client_msg_id: &str) -> Result<()> {
        let mut found = None;
        for row in schema::WAITING_SENDS.scan(self.tx, group_id) {
            let ((_, order), waiting) = row?;
            if waiting.client_msg_id == client_msg_id {
                found = Some(order);
                break;
            }
        }
        if let Some(order) = found {
            schema::WAITING_SENDS.delete(self.tx, (group_id, order));
        }
        Ok(())
    }

    fn waiting(&self, group_id: &str) -> Result<Vec<(u64, WaitingSend)>> {
        let rows = schema::WAITING_SENDS.scan(self.tx, group_id);
        rows.map(|row| row.map(|((_, order), waiting)| (order, waiting)).map_err(Into::into))
            .collect()
    }

    /// Takes out what waits, in order.
    pub(super) fn take_waiting(&mut self, group_id: &str) -> Result<Vec<WaitingSend>> {
        let waiting = self.waiting(group_id)?;
        for (order, _) in &waiting {
            schema::WAITING_SENDS.delete(self.tx, (group_id, *order));
        }
        Ok(waiting.into_iter().map(|(_, waiting)| waiting).collect())
    }

    /// Queues what waits for the home of a group.
    pub(super) fn send_waiting(&mut self, group_id: &str) -> Result<()> {
        let Some(home) = self.group_home(group_id)? else { return Ok(()) };
        for (_, waiting) in self.waiting(group_id)? {
            self.queue_send(&home, waiting.send)?;
        }
        Ok(())
    }

    /// Queues a message that was signed for the home of its group; returns its place.
    pub(super) fn queue_send(&mut self, home: &Domain, send: Bytes) -> Result<u64> {
        let event = Queued {
            kind: EventKind::EventGroupSend as u32,
            body: send,
            time: self.now,
            ..Queued::default()
        };
        self.queue(home, &event)
    }

    /// This node has become the home of a group: what waits gets its place.
    pub(super) fn place_waiting(&mut self, group_id: &str) -> Result<()> {
        for waiting in self.take_waiting(group_id)? {
            let Ok(send) = GroupSend::decode(waiting.send) else { continue };
            let Ok(message) = MsgData::decode(send.message) else { continue };
            let message = self.services.inbound(message)?;
            let placed = self.attempt(|change| change.place_own(&message));
            match placed {
                Ok(()) => {}
                Err(ServiceError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    let (code, reason) = (error.code(), error.to_string());
                    tell_refused(self, &message, &Refusal { seq: 0, code, reason })?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn place_own(&mut self, message: &MsgData) -> Result<()> {
        self.services.check_group(&*self.tx, message)?;
        let to_all = self.as_user(&message.send_id, |change| accept(change, message))?;
        if to_all {
            self.services.mark_everybody_later(message.group_id.clone());
        }
        Ok(())
    }
}
