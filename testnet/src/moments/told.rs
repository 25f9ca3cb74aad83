//! What a node was asked for and when, and whether a state of it can be the one of a moment.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::state::State;

/// Differences that are told.
const MOST_WRONG: usize = 8;

/// All that was acknowledged must be there, and all that was asked for may be.
pub(crate) const ALL: (i64, i64) = (i64::MAX, i64::MAX);

/// Something that the node was asked for. It happened between the two times, if it was answered; if it
/// was not, at some time after the first, or never.
#[derive(Debug, Clone)]
pub(crate) struct Asked<T> {
    what: T,
    asked_ms: i64,
    answered_ms: Option<i64>,
}

/// A list that users come into and go from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum List {
    Friends,
    Members,
}

/// By list and user whether it is there, one after the other.
type Lists = BTreeMap<(List, String), Vec<Asked<bool>>>;

/// Everything that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Conversation and clientMsgID.
    messages: Mutex<Vec<Asked<(String, String)>>>,
    /// Names of one user, one after the other.
    names: Mutex<Vec<Asked<String>>>,
    lists: Mutex<Lists>,
}

/// The ends of what is there.
#[derive(Default)]
struct Bounds {
    /// When the newest was asked for that is there.
    newest: Option<(i64, String)>,
    /// When the oldest was answered that is not.
    oldest: Option<(i64, String)>,
}

impl Bounds {
    fn there(&mut self, asked_ms: i64, what: &str) {
        if self.newest.as_ref().is_none_or(|(newest, _)| asked_ms > *newest) {
            self.newest = Some((asked_ms, what.to_owned()));
        }
    }

    fn missing(&mut self, answered_ms: Option<i64>, what: &str) {
        if let Some(answered_ms) = answered_ms
            && self.oldest.as_ref().is_none_or(|(oldest, _)| answered_ms < *oldest)
        {
            self.oldest = Some((answered_ms, what.to_owned()));
        }
    }
}

impl Told {
    /// A message is about to be sent; returns its place.
    pub(crate) fn message(&self, conversation: String, id: String) -> usize {
        let mut messages = self.messages.lock();
        messages.push(Asked::now((conversation, id)));
        messages.len() - 1
    }

    /// It was acknowledged.
    pub(crate) fn message_answered(&self, place: usize) {
        if let Some(message) = self.messages.lock().get_mut(place) {
            message.answered_ms = Some(now_ms());
        }
    }

    /// The user is about to get another name.
    pub(crate) fn name(&self, name: String) {
        self.names.lock().push(Asked::now(name));
    }

    /// It has it.
    pub(crate) fn name_answered(&self) {
        if let Some(name) = self.names.lock().last_mut() {
            name.answered_ms = Some(now_ms());
        }
    }

    /// Whether a user is in a list; `None` while nobody knows.
    pub(crate) fn is_in(&self, list: List, user: &str) -> Option<bool> {
        let lists = self.lists.lock();
        match lists.get(&(list, user.to_owned())).and_then(|changes| changes.last()) {
            None => Some(false),
            Some(last) => last.answered_ms.map(|_| last.what),
        }
    }

    /// A user is about to come into a list, or to go.
    pub(crate) fn change(&self, list: List, user: &str, there: bool) {
        let mut lists = self.lists.lock();
        lists.entry((list, user.to_owned())).or_default().push(Asked::now(there));
    }

    /// It is so.
    pub(crate) fn change_answered(&self, list: List, user: &str) {
        let mut lists = self.lists.lock();
        if let Some(last) =
            lists.get_mut(&(list, user.to_owned())).and_then(|changes| changes.last_mut())
        {
            last.answered_ms = Some(now_ms());
        }
    }

    /// When the last answer came.
    pub(crate) fn last_ms(&self) -> i64 {
        let messages = self.messages.lock();
        messages.iter().filter_map(|message| message.answered_ms).max().unwrap_or_default()
    }

    /// When something was answered, by a number.
    pub(crate) fn some_answer_ms(&self, number: usize) -> Option<i64> {
        let messages = self.messages.lock();
        messages.get(number.checked_rem(messages.len())?)?.answered_ms
    }

    /// What was asked for, how much of it was answered, and the conversations.
    pub(crate) fn count(&self) -> (usize, usize) {
        let messages = self.messages.lock().len();
        let changes: usize = self.lists.lock().values().map(Vec::len).sum();
        (messages, changes + self.names.lock().len())
    }

    /// The conversations in which messages were sent.
    pub(crate) fn conversations(&self) -> Vec<String> {
        let messages = self.messages.lock();
        let mut all: Vec<String> = messages.iter().map(|message| message.what.0.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Why `state` cannot be that of a moment between two: what was answered by the first must be there,
    /// nothing may be that was asked for after the second, and whatever is there has nothing missing
    /// before it.
    pub(crate) fn wrong(&self, state: &State, (from, until): (i64, i64)) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut bounds = Bounds::default();
        self.messages_in(state, &mut bounds);
        self.names_in(state, &mut bounds, &mut wrong);
        let Bounds { newest, oldest } = bounds;
        if let Some((asked_ms, what)) = newest.as_ref().filter(|(at, _)| *at > until) {
            wrong.push(format!("{what} was asked for at {asked_ms} and is there"));
        }
        if let Some((answered_ms, what)) = oldest.as_ref().filter(|(at, _)| *at <= from) {
            wrong.push(format!("{what} was acknowledged at {answered_ms} and is missing"));
        }
        if let (Some((asked_ms, there)), Some((answered_ms, missing))) = (&newest, &oldest)
            && asked_ms > answered_ms
        {
            wrong.push(format!(
                "{there}, asked for at {asked_ms}, is there, and {missing}, acknowledged at \
                 {answered_ms}, is not"
            ));
        }
        self.lists_in(state, (from, until), &mut wrong);
        wrong.truncate(MOST_WRONG);
        wrong
    }

    fn messages_in(&self, state: &State, bounds: &mut Bounds) {
        let ids: HashMap<&str, &str> = state
            .conversations
            .iter()
            .flat_map(|(conversation, rows)| {
                rows.iter().map(|row| (row.id.as_str(), conversation.as_str()))
            })
            .collect();
        for message in self.messages.lock().iter() {
            let (conversation, id) = &message.what;
            let what = format!("message {id} of {conversation}");
            if ids.get(id.as_str()) == Some(&conversation.as_str()) {
                bounds.there(message.asked_ms, &what);
            } else {
                bounds.missing(message.answered_ms, &what);
            }
        }
    }

    fn names_in(&self, state: &State, bounds: &mut Bounds, wrong: &mut Vec<String>) {
        let names = self.names.lock();
        let place = names.iter().position(|name| name.what == state.name);
        if place.is_none() && state.name != super::work::FIRST_NAME {
            wrong.push(format!("nobody has ever given the name {:?}", state.name));
        }
        // Each took the place of the one before.
        for (at, name) in names.iter().enumerate() {
            let what = format!("name {}", name.what);
            match place {
                Some(place) if at == place => bounds.there(name.asked_ms, &what),
                Some(place) if at < place => {}
                _ => bounds.missing(name.answered_ms, &what),
            }
        }
    }

    fn lists_in(&self, state: &State, (from, until): (i64, i64), wrong: &mut Vec<String>) {
        for ((list, user), changes) in self.lists.lock().iter() {
            let there = state.list(*list).contains(user);
            let known =
                changes.iter().rposition(|change| change.answered_ms.is_some_and(|at| at <= from));
            let before = known.map_or(Some(false), |at| changes.get(at).map(|known| known.what));
            let later = changes.iter().skip(known.map_or(0, |at| at + 1));
            let mut possible = later.filter(|change| change.asked_ms <= until);
            if before != Some(there) && !possible.any(|change| change.what == there) {
                wrong.push(format!("{list:?}: {user} is there: {there}; asked for: {changes:?}"));
            }
        }
    }
}

impl<T> Asked<T> {
    fn now(what: T) -> Self {
        Self { what, asked_ms: now_ms(), answered_ms: None }
    }
}

/// The time of this machine, which is that of the node.
pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::state::Row;
    use super::*;

    fn asked<T>(what: T, asked_ms: i64, answered_ms: impl Into<Option<i64>>) -> Asked<T> {
        Asked { what, asked_ms, answered_ms: answered_ms.into() }
    }

    fn told() -> Told {
        let told = Told::default();
        let message = |id: &str| ("c".to_owned(), id.to_owned());
        told.messages.lock().extend([
            asked(message("a"), 10, 12),
            asked(message("b"), 13, None),
            asked(message("c"), 20, 25),
        ]);
        told.names.lock().push(asked("n0".to_owned(), 15, 18));
        let comes_and_goes = vec![asked(true, 10, 11), asked(false, 21, 23)];
        told.lists.lock().insert((List::Friends, "ada".into()), comes_and_goes);
        told
    }

    fn state(ids: &[&str], name: &str, friends: &[&str]) -> State {
        let row = |(at, id): (usize, &&str)| Row { seq: at as i64 + 1, id: (*id).into(), hash: 0 };
        State {
            conversations: [("c".to_owned(), ids.iter().enumerate().map(row).collect())].into(),
            friends: friends.iter().map(|friend| (*friend).to_owned()).collect(),
            members: BTreeSet::new(),
            name: name.into(),
        }
    }

    #[test]
    fn a_state_of_the_moment_is_not_wrong() {
        let (told, first) = (told(), super::super::work::FIRST_NAME);
        for (moment, ids, name, friends) in [
            (9, vec![], first, vec![]),
            (11, vec![], first, vec!["ada"]),
            (11, vec!["a"], first, vec!["ada"]),
            (16, vec!["a"], first, vec!["ada"]),
            (16, vec!["a", "b"], "n0", vec!["ada"]),
            (22, vec!["a", "c"], "n0", vec!["ada"]),
            (22, vec!["a"], "n0", vec![]),
            (30, vec!["a", "b", "c"], "n0", vec![]),
        ] {
            let state = state(&ids, name, &friends);
            assert_eq!(
                told.wrong(&state, (moment, moment)),
                Vec::<String>::new(),
                "{moment} {state:?}"
            );
        }
    }

    #[test]
    fn what_is_missing_or_of_later_is_told() {
        let (told, first) = (told(), super::super::work::FIRST_NAME);
        for (moment, ids, name, friends, why) in [
            (12, vec![], first, vec!["ada"], "message a of c was acknowledged at 12"),
            (12, vec!["a", "b"], first, vec!["ada"], "message b of c was asked for at 13"),
            (20, vec!["a"], first, vec!["ada"], "name n0 was acknowledged at 18"),
            (20, vec!["a"], "n1", vec!["ada"], "nobody has ever"),
            (20, vec!["a"], "n0", vec![], "Friends: ada is there: false"),
            (23, vec!["a"], "n0", vec!["ada"], "Friends: ada is there: true"),
            (22, vec!["a", "c"], first, vec![], "is there, and name n0"),
        ] {
            let wrong = told.wrong(&state(&ids, name, &friends), (moment, moment)).join("\n");
            assert!(wrong.contains(why), "{moment}: {why} is not in {wrong:?}");
        }
    }
}
