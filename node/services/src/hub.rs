//! Connections of this node: who is online, in which groups, watched by whom.

mod outgoing;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use proto::qualified::{Domain, is_remote};
use proto::sdkws::{SubUserOnlineStatusElem, SubUserOnlineStatusTips};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::delivery::{Audience, Delivery, Push, PushEach};
use crate::platform;

use outgoing::Queue;
pub use outgoing::{Outgoing, QueueLimits};

/// One connection of a user.
pub struct Connection {
    /// Unique within the node's life.
    pub id: u64,
    /// Its user.
    pub user_id: String,
    /// Its platform.
    pub platform_id: i32,
    /// The token it logged in with.
    pub token: String,
    background: AtomicBool,
    queue: Queue,
    closed: CancellationToken,
}

impl Connection {
    /// Queues something to write; a connection that cannot keep up is closed.
    pub fn enqueue(&self, outgoing: Outgoing) {
        if !self.queue.push(outgoing) {
            self.closed.cancel();
        }
    }

    /// Waits for something to write and takes up to `most`, oldest first; only the connection's own
    /// task may wait. Nothing is lost if the future is dropped.
    pub async fn outgoing(&self, most: usize) -> VecDeque<Outgoing> {
        self.queue.take(most).await
    }

    /// Everything that is left to write.
    pub fn outgoing_now(&self) -> VecDeque<Outgoing> {
        self.queue.take_now(usize::MAX)
    }

    /// Whether the app says it is in the background.
    pub fn is_background(&self) -> bool {
        self.background.load(Ordering::Relaxed)
    }

    /// Notes whether the app says it is in the background.
    pub fn set_background(&self, background: bool) {
        self.background.store(background, Ordering::Relaxed);
    }

    /// Ends the connection without a word.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

/// What a new connection's task works with.
pub struct Registered {
    /// The connection.
    pub connection: Arc<Connection>,
    /// Cancelled when the connection has to end at once.
    pub closed: CancellationToken,
}

/// Users whom other nodes watch, and users of other nodes whose platforms are known; beyond that
/// many, all are forgotten and asked for again.
const MAX_WATCHED_FROM: usize = 100_000;

/// All connections.
#[derive(Default)]
pub struct Hub {
    next_id: AtomicU64,
    /// Bytes that wait for connections.
    waiting: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    users: HashMap<String, Vec<Arc<Connection>>>,
    /// Users online in each group.
    groups: HashMap<String, HashSet<String>>,
    /// Groups of each user online.
    memberships: HashMap<String, HashSet<String>>,
    /// Connections that watch a user.
    watchers: HashMap<String, HashMap<u64, Arc<Connection>>>,
    /// Users a connection watches.
    watched: HashMap<u64, HashSet<String>>,
    /// Platforms of users of other nodes who are watched.
    elsewhere: HashMap<String, Vec<i32>>,
    /// Other nodes that watch a user, and until when, in Unix milliseconds.
    watched_from: HashMap<String, HashMap<Domain, i64>>,
    /// Told of users whom other nodes watch, when their platforms change.
    news: Option<mpsc::UnboundedSender<String>>,
    total: usize,
}

impl Hub {
    /// Makes a connection; it gets nothing before [`register`](Self::register).
    pub fn connection(
        &self,
        user_id: &str,
        platform_id: i32,
        token: &str,
        limits: QueueLimits,
    ) -> Registered {
        let closed = CancellationToken::new();
        let connection = Arc::new(Connection {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            user_id: user_id.to_owned(),
            platform_id,
            token: token.to_owned(),
            background: AtomicBool::new(false),
            queue: Queue::new(limits, Arc::clone(&self.waiting)),
            closed: closed.clone(),
        });
        Registered { connection, closed }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.state.lock().total
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a connection; from now on it gets pushes.
    ///
    /// `groups` is asked for the user's groups under the lock that membership changes take too, so
    /// none is missed between the look and the registration.
    pub fn register<E>(
        &self,
        connection: &Arc<Connection>,
        groups: impl FnOnce() -> Result<Vec<String>, E>,
    ) -> Result<(), E> {
        let mut state = self.state.lock();
        let user_id = &connection.user_id;
        if !state.users.contains_key(user_id) {
            let groups: HashSet<String> = groups()?.into_iter().collect();
            for group in &groups {
                state.groups.entry(group.clone()).or_default().insert(user_id.clone());
            }
            state.memberships.insert(user_id.clone(), groups);
        }
        let before = platforms(&state, user_id);
        state.users.entry(user_id.clone()).or_default().push(Arc::clone(connection));
        state.total += 1;
        announce(&state, user_id, &before);
        Ok(())
    }

    /// Removes a connection; it gets nothing more.
    pub fn unregister(&self, connection: &Connection) {
        let mut state = self.state.lock();
        for watched in state.watched.remove(&connection.id).unwrap_or_default() {
            if let Some(watchers) = state.watchers.get_mut(&watched) {
                watchers.remove(&connection.id);
                if watchers.is_empty() {
                    state.watchers.remove(&watched);
                }
            }
        }
        let user_id = &connection.user_id;
        let before = platforms(&state, user_id);
        let Some(connections) = state.users.get_mut(user_id) else { return };
        let count = connections.len();
        connections.retain(|other| other.id != connection.id);
        let (gone, left) = (count - connections.len(), connections.len());
        state.total -= gone;
        if left == 0 {
            state.users.remove(user_id);
            for group in state.memberships.remove(user_id).unwrap_or_default() {
                if let Some(online) = state.groups.get_mut(&group) {
                    online.remove(user_id);
                    if online.is_empty() {
                        state.groups.remove(&group);
                    }
                }
            }
        }
        announce(&state, user_id, &before);
    }

    /// Ends the connections of a user that `unwanted` picks, telling their clients; returns them.
    pub fn kick(
        &self,
        user_id: &str,
        unwanted: impl Fn(&Connection) -> bool,
    ) -> Vec<Arc<Connection>> {
        let kicked: Vec<_> =
            self.connections(user_id).into_iter().filter(|other| unwanted(other)).collect();
        for connection in &kicked {
            self.unregister(connection);
            connection.enqueue(Outgoing::Kick);
        }
        kicked
    }

    /// The connections of a user.
    pub fn connections(&self, user_id: &str) -> Vec<Arc<Connection>> {
        self.state.lock().users.get(user_id).cloned().unwrap_or_default()
    }

    /// Every connection.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        self.state.lock().users.values().flatten().cloned().collect()
    }

    /// Platforms a user is online on, ascending.
    pub fn online_platforms(&self, user_id: &str) -> Vec<i32> {
        platforms(&self.state.lock(), user_id)
    }

    /// Changes whom a connection watches; returns the status of those it asked for, in order.
    ///
    /// A user in both lists ends up watched.
    pub fn watch(
        &self,
        connection: &Arc<Connection>,
        add: &[String],
        remove: &[String],
    ) -> SubUserOnlineStatusTips {
        let mut state = self.state.lock();
        for user_id in remove {
            if let Some(watchers) = state.watchers.get_mut(user_id) {
                watchers.remove(&connection.id);
                if watchers.is_empty() {
                    state.watchers.remove(user_id);
                }
            }
            if let Some(watched) = state.watched.get_mut(&connection.id) {
                watched.remove(user_id);
            }
        }
        for user_id in add {
            let watchers = state.watchers.entry(user_id.clone()).or_default();
            watchers.insert(connection.id, Arc::clone(connection));
            state.watched.entry(connection.id).or_default().insert(user_id.clone());
        }
        let subscribers = add.iter().map(|user_id| status(&state, user_id)).collect();
        SubUserOnlineStatusTips { subscribers }
    }

    /// Begins to tell of users whom other nodes watch.
    pub(crate) fn tell_elsewhere(&self) -> mpsc::UnboundedReceiver<String> {
        let (news, told) = mpsc::unbounded_channel();
        self.state.lock().news = Some(news);
        told
    }

    /// Another node watches a user of this one until a time in Unix milliseconds.
    pub(crate) fn watch_from(&self, user_id: &str, domain: &Domain, until: i64) {
        let mut state = self.state.lock();
        if state.watched_from.len() >= MAX_WATCHED_FROM {
            state.watched_from.clear();
        }
        state.watched_from.entry(user_id.to_owned()).or_default().insert(domain.clone(), until);
    }

    /// The other nodes that watch a user at a time in Unix milliseconds.
    pub(crate) fn watched_from(&self, user_id: &str, now: i64) -> Vec<Domain> {
        let mut state = self.state.lock();
        let Some(nodes) = state.watched_from.get_mut(user_id) else { return Vec::new() };
        nodes.retain(|_, until| now < *until);
        let nodes: Vec<Domain> = nodes.keys().cloned().collect();
        if nodes.is_empty() {
            state.watched_from.remove(user_id);
        }
        nodes
    }

    /// Users of other nodes whom connections watch.
    pub(crate) fn watched_elsewhere(&self) -> Vec<String> {
        self.state.lock().watchers.keys().filter(|id| is_remote(id)).cloned().collect()
    }

    /// A user of another node is online on these platforms now.
    pub(crate) fn set_elsewhere(&self, user_id: &str, mut now: Vec<i32>) {
        now.sort_unstable();
        now.dedup();
        let mut state = self.state.lock();
        let before = platforms(&state, user_id);
        if state.elsewhere.len() >= MAX_WATCHED_FROM {
            state.elsewhere.clear();
        }
        if now.is_empty() {
            state.elsewhere.remove(user_id);
        } else {
            state.elsewhere.insert(user_id.to_owned(), now);
        }
        announce(&state, user_id, &before);
    }

    /// Number of users a connection watches.
    pub fn watched(&self, connection: &Connection) -> usize {
        self.state.lock().watched.get(&connection.id).map_or(0, HashSet::len)
    }

    /// Carries out one delivery. Never waits.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        match delivery {
            Delivery::Reply(reply, response) => reply(*response),
            Delivery::Push(audience, push) => self.push(&audience, &push),
            Delivery::PushEach(each) => self.push_each(each),
            Delivery::Later(deliveries) => {
                deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
            }
            Delivery::Joined(group_id, users) => {
                let mut state = self.state.lock();
                for user_id in users {
                    if let Some(groups) = state.memberships.get_mut(&user_id) {
                        groups.insert(group_id.clone());
                        state.groups.entry(group_id.clone()).or_default().insert(user_id);
                    }
                }
            }
            Delivery::Dismissed(group_id) => {
                let mut state = self.state.lock();
                for user_id in state.groups.remove(&group_id).unwrap_or_default() {
                    if let Some(groups) = state.memberships.get_mut(&user_id) {
                        groups.remove(&group_id);
                    }
                }
            }
            Delivery::Left(group_id, users) => {
                let mut state = self.state.lock();
                for user_id in users {
                    if let Some(groups) = state.memberships.get_mut(&user_id) {
                        groups.remove(&group_id);
                    }
                    if let Some(online) = state.groups.get_mut(&group_id) {
                        online.remove(&user_id);
                        if online.is_empty() {
                            state.groups.remove(&group_id);
                        }
                    }
                }
            }
        }
    }

    fn push_each(&self, each: PushEach) {
        let online = |user: &String| self.state.lock().users.contains_key(user);
        for user in each.users {
            let push = || Arc::new((each.make)(&user));
            let mut audience = vec![user.clone()];
            audience.extend(each.copies.clone().filter(|copies| *copies != user));
            audience.retain(online);
            if !audience.is_empty() {
                self.push(&Audience::Users(audience), &push());
            }
        }
    }

    fn push(&self, audience: &Audience, push: &Arc<Push>) {
        let state = self.state.lock();
        let mut to_user = |user_id: &String| {
            for connection in state.users.get(user_id).into_iter().flatten() {
                let asleep = connection.platform_id == platform::IOS && connection.is_background();
                if !asleep {
                    connection.enqueue(Outgoing::Push(Arc::clone(push)));
                }
            }
        };
        match audience {
            Audience::Users(users) => users.iter().for_each(&mut to_user),
            Audience::Group(group_id, others) => {
                let online = state.groups.get(group_id);
                online.into_iter().flatten().for_each(&mut to_user);
                let elsewhere = |user: &&String| !online.is_some_and(|o| o.contains(*user));
                others.iter().filter(elsewhere).for_each(&mut to_user);
            }
        }
    }
}

fn platforms(state: &State, user_id: &str) -> Vec<i32> {
    if is_remote(user_id) {
        return state.elsewhere.get(user_id).cloned().unwrap_or_default();
    }
    let connections = state.users.get(user_id).into_iter().flatten();
    let platforms: BTreeSet<i32> = connections.map(|connection| connection.platform_id).collect();
    platforms.into_iter().collect()
}

fn status(state: &State, user_id: &str) -> SubUserOnlineStatusElem {
    SubUserOnlineStatusElem {
        user_id: user_id.to_owned(),
        online_platform_ids: platforms(state, user_id),
    }
}

/// Tells those who watch a user, if the platforms are no longer those `before`.
fn announce(state: &State, user_id: &str, before: &[i32]) {
    if let Some(news) = state.news.as_ref().filter(|_| state.watched_from.contains_key(user_id)) {
        let _ = news.send(user_id.to_owned());
    }
    let Some(watchers) = state.watchers.get(user_id) else { return };
    let now = status(state, user_id);
    if now.online_platform_ids == before {
        return;
    }
    let tips: Bytes = SubUserOnlineStatusTips { subscribers: vec![now] }.encode_to_vec().into();
    for watcher in watchers.values() {
        watcher.enqueue(Outgoing::Status(tips.clone()));
    }
}
