//! Requests of other nodes, answered at once.

use prost::Message as _;
use proto::OperationId;
use proto::federation::{
    Ephemeral, Greeting, GroupAnswer, Profiles, Response, SendVerdict, request, response,
};
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use proto::sdkws::MsgData;
use std::sync::Arc;

use super::LocalOnly;
use crate::Services;
use crate::border;
use crate::change::audience;
use crate::conversation_id::{self, SINGLE};
use crate::delivery::{Delivery, Push};
use crate::error::{Result, ServiceError};
use crate::notification::is_system;

/// Largest content of a message that is not stored, in bytes.
const MAX_EPHEMERAL_BYTES: usize = 64 * 1_024;

impl Services {
    /// Answers a request of the node of `origin`.
    pub async fn answer_node(&self, origin: &Domain, request: request::Body) -> Response {
        match self.answer(origin, request).await {
            Ok(body) => Response { body, ..Response::default() },
            Err(error) => {
                Response { code: error.code(), reason: error.to_string(), ..Response::default() }
            }
        }
    }

    async fn answer(
        &self,
        origin: &Domain,
        request: request::Body,
    ) -> Result<Option<response::Body>> {
        match request {
            request::Body::Profiles(request) => {
                let profiles = self.answer_profiles(&request)?;
                Ok(Some(response::Body::Profiles(Profiles { profiles })))
            }
            request::Body::MaySend(request) => {
                let (from, to) = self.across(origin, &request.from, &request.to)?;
                let valid_ms = self.answer_may_send(from, to)?;
                Ok(Some(response::Body::SendVerdict(SendVerdict { valid_ms })))
            }
            request::Body::Withdraw(request) => {
                let (to, from) = self.across(origin, &request.to, &request.from)?;
                self.verdict_withdrawn(from, to);
                Ok(None)
            }
            request::Body::GroupCall(call) => {
                let body = self.answer_call(origin, call).await?;
                Ok(Some(response::Body::GroupAnswer(GroupAnswer { body })))
            }
            request::Body::History(request) => {
                let history = self.answer_history(origin, &request)?;
                Ok(Some(response::Body::History(history)))
            }
            request::Body::Groups(request) => {
                let groups = self.answer_groups(&request)?;
                Ok(Some(response::Body::Groups(groups)))
            }
            request::Body::Greeting(Greeting {}) => Ok(None),
            request::Body::GroupLog(request) => {
                let part = self.answer_log(origin, request).await?;
                Ok(Some(response::Body::GroupLog(part)))
            }
            request::Body::Members(request) => {
                let members = self.answer_members(origin, request).await?;
                Ok(Some(response::Body::Members(members)))
            }
            request::Body::MayMove(request) => {
                self.answer_may_move(origin, &request)?;
                Ok(None)
            }
            request::Body::Chats(request) => {
                let chats = self.answer_chats(origin, request).await?;
                Ok(Some(response::Body::Chats(chats)))
            }
            request::Body::PastChats(request) => {
                let past = self.answer_past_chats(origin, request).await?;
                Ok(Some(response::Body::PastChats(past)))
            }
            request::Body::Heads(heads) => {
                let heads = self.answer_heads(origin, heads).await?;
                Ok(Some(response::Body::Heads(heads)))
            }
            request::Body::Presence(request) => {
                let presence = self.answer_presence(origin, request)?;
                Ok(Some(response::Body::Presence(presence)))
            }
            request::Body::PresenceNews(presence) => {
                self.presence_told(origin, presence);
                Ok(None)
            }
            request::Body::Ephemeral(Ephemeral { message }) => {
                self.take_ephemeral(origin, message).await?;
                Ok(None)
            }
        }
    }

    /// The IDs of a user of `origin` and of one of this node, from their qualified forms.
    pub(super) fn across(
        &self,
        origin: &Domain,
        there: &str,
        here: &str,
    ) -> Result<(String, String)> {
        let Some(own) = self.domain() else {
            return Err(ServiceError::args("this node does not federate"));
        };
        let (there, here) = (localise(there, own)?, localise(here, own)?);
        if home_of(&there).as_ref() != Some(origin) || is_remote(&here) {
            return Err(ServiceError::args("not users of these nodes"));
        }
        if LocalOnly::User.holds(&self.store().view(), &here)? {
            return Err(ServiceError::not_found(format!("no user {here}")));
        }
        Ok((there, here))
    }

    /// Tells the receiver's node of a message that is not stored; if it cannot be reached, nobody
    /// misses it.
    pub(crate) fn cross_ephemeral(&self, message: &MsgData) {
        let (Some(own), Some(domain)) = (self.domain(), home_of(&message.recv_id)) else { return };
        if message.session_type != SINGLE || is_remote(&message.send_id) {
            return;
        }
        let Ok(message) = border::outbound(message.clone(), own) else { return };
        let message = message.encode_to_vec().into();
        let services = self.clone();
        tokio::spawn(async move {
            let _ = services.ask(&domain, request::Body::Ephemeral(Ephemeral { message })).await;
        });
    }

    async fn take_ephemeral(&self, origin: &Domain, message: bytes::Bytes) -> Result<()> {
        let message = MsgData::decode(message)
            .map_err(|error| ServiceError::args(format!("not a message: {error}")))?;
        let (from, to) = self.across(origin, &message.send_id, &message.recv_id)?;
        let Some(own) = self.domain() else { return Ok(()) };
        let mut message = self.inbound(message)?;
        let shape = message.session_type == SINGLE
            && message.options.get("history") == Some(&false)
            && !is_system(message.content_type)
            && !conversation_id::is_notification(&message)
            && message.content.len() <= MAX_EPHEMERAL_BYTES;
        if !shape {
            return Err(ServiceError::args("not a message of a user that is not stored"));
        }
        message.seq = 0;
        message.send_time = self.now();
        self.check_receiver(&self.store().view(), &mut message)?;
        let conversation = conversation_id::single(&from, &to);
        let operation = format!("{}/typing", qualify(&from, own)?);
        let push =
            Push::new(&conversation, &message.encode_to_vec(), &OperationId::new(&operation));
        let delivery = Delivery::Push(audience(&message, &[]), Arc::new(push));
        self.inner.outbox.send(vec![delivery]).await;
        Ok(())
    }
}
