//! The model's rules of a user's list of conversations.

use super::action::Chat;
use super::device::User;
use super::expected::{DENIED, Outcome, State};
use super::log::Record;

/// How a user wants a conversation to be; `None`: as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    pub(super) pinned: Option<bool>,
    pub(super) receive: Option<i32>,
}

impl State {
    /// Notes how a conversation is for a user.
    pub(super) fn note(&mut self, user: User, conversation: &str, record: Record) {
        if let Some(own) = self.own_mut(user, conversation) {
            own.record = Some(record);
        }
    }

    /// Sets how a conversation is for a user, which brings it into the list.
    pub(super) fn set(&mut self, by: User, chat: &Chat, wanted: Wanted) -> Outcome {
        let id = chat.conversation(by);
        let noted = self.logs.get(&id).and_then(|log| self.own(by, log).record);
        if let Chat::Group(group) = chat
            && !self.is_member(by, group)
            && noted.is_none()
        {
            return Outcome::refused(DENIED);
        }
        let step = self.step;
        self.log(&id, || chat.parties(by));
        let listed = self.listed(by, &id);
        let before = listed.clone().unwrap_or_else(|| {
            // What bounds the user's view stays, whatever becomes of the list.
            let Record { floor, ceiling, .. } = noted.unwrap_or_default();
            Record { floor, ceiling, at: step, ..Record::default() }
        });
        let after = Record {
            pinned: wanted.pinned.unwrap_or(before.pinned),
            receive: wanted.receive.unwrap_or(before.receive),
            ..before.clone()
        };
        let mut outcome = Outcome::default();
        let changed = (after.pinned, after.receive) != (before.pinned, before.receive);
        if listed.is_none() || changed {
            self.note(by, &id, after);
            self.tell_changed(&mut outcome, by);
        }
        outcome
    }

    /// Takes a conversation off a user's list; what was set for it is gone.
    pub(super) fn remove(&mut self, by: User, conversation: &str) -> Outcome {
        if let Some(Record { floor, ceiling, .. }) = self.listed(by, conversation) {
            let removed = Some(self.newest(conversation));
            let record =
                Record { floor, ceiling, removed, at: self.step, pinned: false, receive: 0 };
            self.note(by, conversation, record);
        }
        Outcome::default()
    }
}
