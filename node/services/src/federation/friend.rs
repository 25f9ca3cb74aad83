//! Friendships across nodes.
//!
//! Each node keeps the list of its own user, and a copy of the other user's row about that user.

use prost::Message as _;
use proto::federation::{EventKind, FriendAnswer, FriendListed, FriendRequest, Refusal};
use proto::qualified::{Domain, home_of};
use proto::relation::RespondFriendApplyReq;
use store::record::Queued;
use store::schema;

use super::{Trouble, may_cross};
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::friend::{AGREED, BY_APPLICATION, MAX_TEXT_BYTES, REFUSED, WAITING};
use crate::user::{check_length, must_exist};

type Done = std::result::Result<(), Trouble>;

/// Requests of users of one node that one user may have to answer.
const MAX_WAITING: usize = 64;

impl Change<'_, '_> {
    /// Tells the other user's node of a request, if that is another one.
    pub(crate) fn cross_friend_request(
        &mut self,
        from: &str,
        to: &str,
        message: &str,
        ex: &str,
    ) -> Result<()> {
        let Some(domain) = home_of(to) else { return Ok(()) };
        may_cross(self.tx, from)?;
        let body = FriendRequest {
            from: Some(self.profile_of(from)?),
            to: self.qualified(to)?,
            message: message.to_owned(),
            ex: ex.to_owned(),
        };
        self.tell_node(&domain, EventKind::EventFriendRequest, &body)
    }

    /// Tells the node of who asked of the answer, if that is another one.
    pub(crate) fn cross_friend_answer(
        &mut self,
        from: &str,
        to: &str,
        agree: bool,
        message: &str,
    ) -> Result<()> {
        let Some(domain) = home_of(from) else { return Ok(()) };
        let body = FriendAnswer {
            from: self.qualified(from)?,
            to: Some(self.profile_of(to)?),
            agree,
            message: message.to_owned(),
        };
        self.tell_node(&domain, EventKind::EventFriendAnswer, &body)
    }

    /// Tells the node of a friend, or a former one, whether the owner lists that friend now.
    pub(crate) fn cross_friend_listed(&mut self, owner: &str, friend: &str) -> Result<()> {
        let Some(domain) = home_of(friend) else { return Ok(()) };
        let body = FriendListed {
            owner: self.qualified(owner)?,
            friend: self.qualified(friend)?,
            listed: schema::FRIENDS.contains(self.tx, (owner, friend))?,
        };
        self.tell_node(&domain, EventKind::EventFriendListed, &body)
    }

    pub(super) fn friend_requested(&mut self, origin: &Domain, event: FriendRequest) -> Done {
        let FriendRequest { from, to, message, ex } = event;
        check_length("message", &message, MAX_TEXT_BYTES)?;
        check_length("ex", &ex, MAX_TEXT_BYTES)?;
        let to = self.local_user(&to)?;
        must_exist(self.tx, &to)?;
        let from = from.unwrap_or_default();
        let id = self.user_of(origin, &from.user_id)?;
        if !schema::FRIEND_REQUESTS.contains(self.tx, (&to, &id))? {
            self.must_have_few_requests(origin, &to)?;
        }
        let from = self.note_profile(origin, from)?;
        self.as_user(&from, |change| change.request_friendship(&from, &to, message, ex))?;
        Ok(())
    }

    /// Users of one node cannot bury somebody under requests.
    fn must_have_few_requests(&self, origin: &Domain, to: &str) -> Result<()> {
        let mut waiting = 0;
        for row in schema::FRIEND_REQUESTS.scan(self.tx, to) {
            let ((_, from), request) = row?;
            let theirs =
                request.handle_result == WAITING && home_of(&from).as_ref() == Some(origin);
            waiting += usize::from(theirs);
            if waiting >= MAX_WAITING {
                let most = format!("{to} has {MAX_WAITING} unanswered requests of {origin}");
                return Err(ServiceError::denied(most));
            }
        }
        Ok(())
    }

    pub(super) fn friend_answered(&mut self, origin: &Domain, event: &FriendAnswer) -> Done {
        let FriendAnswer { from, to, agree, message } = event;
        check_length("message", message, MAX_TEXT_BYTES)?;
        let from = self.local_user(from)?;
        let to = self.note_profile(origin, to.clone().unwrap_or_default())?;
        let handle_result = if *agree { AGREED } else { REFUSED };
        let request = schema::FRIEND_REQUESTS.get(self.tx, (&to, &from))?;
        if request.is_some_and(|request| request.handle_result == handle_result) {
            // Both agreed to the other's request in the same moment.
            return Ok(self.cross_friend_listed(&from, &to)?);
        }
        let request = RespondFriendApplyReq {
            from_user_id: from,
            to_user_id: to.clone(),
            handle_result,
            handle_msg: message.clone(),
        };
        let asked = request.from_user_id.clone();
        self.as_user(&to, |change| change.answer_request(&request))?;
        // What the user did meanwhile may have crossed the answer: the list itself decides.
        self.cross_friend_listed(&asked, &to)?;
        Ok(())
    }

    pub(super) fn friend_listed(&mut self, origin: &Domain, event: &FriendListed) -> Done {
        let owner = self.user_of(origin, &event.owner)?;
        let friend = self.local_user(&event.friend)?;
        if event.listed {
            self.make_friend(&owner, &friend, 0, BY_APPLICATION, &owner)?;
        } else {
            schema::FRIENDS.delete(self.tx, (&owner, &friend));
        }
        Ok(())
    }

    /// The other node does not take an agreement: its user does not list the one here.
    pub(super) fn friend_answer_refused(&mut self, destination: &Domain, queued: &Queued) -> Done {
        let FriendAnswer { from, to, .. } = FriendAnswer::decode(queued.body.clone())?;
        let from = self.user_of(destination, &from)?;
        let to = self.own_user(&to.unwrap_or_default().user_id)?;
        schema::FRIENDS.delete(self.tx, (&from, &to));
        self.cross_friend_listed(&to, &from)?;
        Ok(())
    }

    /// The other node does not take a request: whoever asked sees it as declined.
    pub(super) fn friend_request_refused(
        &mut self,
        destination: &Domain,
        queued: &Queued,
        refusal: &Refusal,
    ) -> Done {
        if refusal.code == ServiceError::AlreadyFriends.code() {
            // An agreement to an earlier request is on its way here.
            return Ok(());
        }
        let FriendRequest { from, to, .. } = FriendRequest::decode(queued.body.clone())?;
        let from = self.own_user(&from.unwrap_or_default().user_id)?;
        let to = self.user_of(destination, &to)?;
        let request = schema::FRIEND_REQUESTS.get(self.tx, (&to, &from))?;
        if request.is_none_or(|request| request.handle_result != WAITING) {
            return Ok(());
        }
        let request = RespondFriendApplyReq {
            from_user_id: from,
            to_user_id: to.clone(),
            handle_result: REFUSED,
            handle_msg: refusal.reason.chars().take(200).collect(),
        };
        self.as_user(&to, |change| change.answer_request(&request))?;
        Ok(())
    }
}
