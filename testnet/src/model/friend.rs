//! The model's rules of friends and blocked users.

use super::device::User;
use super::expected::{ARGS, FAILED, NOT_FOUND, Outcome, Request, Seen, State, kind, pair_id};
use super::log::{Entry, Parties};

const ALREADY_FRIENDS: i64 = 1304;
const REQUEST_HANDLED: i64 = 1305;

impl State {
    pub(super) fn ask_friend(&mut self, from: User, to: User) -> Outcome {
        if self.friends.contains(&(from, to)) && self.friends.contains(&(to, from)) {
            return Outcome::refused(ALREADY_FRIENDS);
        }
        self.requests.insert((from, to), Request::Waiting);
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::FRIEND_APPLICATION, from, to);
        outcome
    }

    pub(super) fn answer_friend(&mut self, from: User, to: User, agree: bool) -> Outcome {
        match self.requests.get_mut(&(from, to)) {
            None => return Outcome::refused(NOT_FOUND),
            Some(Request::Handled) => {
                return Outcome::refused(if agree { ARGS } else { REQUEST_HANDLED });
            }
            Some(waiting) => *waiting = Request::Handled,
        }
        let mut outcome = Outcome::default();
        if !agree {
            self.tell(&mut outcome, kind::FRIEND_REJECTED, to, from);
            return outcome;
        }
        if let Some(opposite) = self.requests.get_mut(&(to, from)) {
            *opposite = Request::Handled;
        }
        self.friends.extend([(from, to), (to, from)]);
        let kind = kind::FRIEND_APPROVED;
        let conversation = pair_id(from, to);
        let entry = Entry { sender: Some(to), kind, ..Entry::default() };
        let seq = self.append(&conversation, Parties::Pair(from, to), entry);
        let seen = Seen { conversation, seq, kind, text: String::new() };
        outcome.seen.push((vec![from, to], seen));
        self.tell(&mut outcome, kind, to, from);
        outcome
    }

    pub(super) fn remove_friend(&mut self, owner: User, friend: User) -> Outcome {
        self.friends.remove(&(owner, friend));
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::FRIEND_DELETED, owner, friend);
        outcome
    }

    pub(super) fn block(&mut self, owner: User, other: User) -> Outcome {
        if !self.blacks.insert((owner, other)) {
            return Outcome::refused(FAILED);
        }
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::BLACK_ADDED, owner, other);
        outcome
    }

    pub(super) fn unblock(&mut self, owner: User, other: User) -> Outcome {
        self.blacks.remove(&(owner, other));
        let mut outcome = Outcome::default();
        self.tell(&mut outcome, kind::BLACK_DELETED, owner, other);
        outcome
    }
}
