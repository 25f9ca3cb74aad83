//! Who is online on other nodes: asked for, told of for a while, never stored.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proto::federation::{Presence, PresenceRequest, UserPresence, request, response};
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use tokio::sync::mpsc;

use super::LocalOnly;
use crate::Services;
use crate::error::{Result, ServiceError};

/// Users in one request.
const MAX_USERS: usize = 1_000;
/// How long another node is told of changes after it has asked, in milliseconds.
const WATCH_MS: i64 = 10 * 60 * 1_000;
/// How often this node asks again for those it watches.
const RENEW: Duration = Duration::from_secs(5 * 60);
/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(200);
/// How long a client waits for the node of somebody it asks about.
const PATIENCE: Duration = Duration::from_secs(2);

impl Services {
    /// Starts to tell other nodes of those they watch, and to ask for those watched here.
    pub(super) fn start_presence(&self) {
        let news = self.hub().tell_elsewhere();
        self.inner.runtime.spawn(self.clone().tell_presence(news));
        let services = self.clone();
        self.inner.runtime.spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                let watched = services.hub().watched_elsewhere();
                services.ask_presence(&watched, WATCH_MS).await;
            }
        });
    }

    /// Asks for users of other nodes whom a connection begins to watch.
    pub(crate) fn watch_elsewhere(&self, user_ids: &[String]) {
        let elsewhere: Vec<String> = user_ids.iter().filter(|id| is_remote(id)).cloned().collect();
        if elsewhere.is_empty() || self.domain().is_none() {
            return;
        }
        let services = self.clone();
        tokio::spawn(async move { services.ask_presence(&elsewhere, WATCH_MS).await });
    }

    /// Asks for the status of users of other nodes now.
    pub(crate) async fn refresh_presence(&self, user_ids: &[String]) {
        let elsewhere: Vec<String> = user_ids.iter().filter(|id| is_remote(id)).cloned().collect();
        if !elsewhere.is_empty() {
            let asked = self.ask_presence(&elsewhere, WATCH_MS);
            let _ = tokio::time::timeout(PATIENCE, asked).await;
        }
    }

    async fn ask_presence(&self, user_ids: &[String], watch_ms: i64) {
        let Some(own) = self.domain() else { return };
        let mut by_node: BTreeMap<Domain, Vec<&str>> = BTreeMap::new();
        for id in user_ids {
            if let Some(domain) = home_of(id) {
                by_node.entry(domain).or_default().push(id);
            }
        }
        for (domain, users) in by_node {
            for users in users.chunks(MAX_USERS) {
                let qualified = users.iter().filter_map(|id| qualify(id, own).ok()).collect();
                let request = PresenceRequest { users: qualified, watch_ms };
                match self.ask(&domain, request::Body::Presence(request)).await {
                    Ok(answer) => {
                        if let Some(response::Body::Presence(presence)) = answer.body {
                            self.presence_told(&domain, presence);
                        }
                    }
                    // Nobody knows; a node that cannot be reached has nobody online for us.
                    Err(ServiceError::Unreachable(_)) => {
                        for user in users {
                            self.hub().set_elsewhere(user, Vec::new());
                        }
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// The node of `origin` tells who of its users is online.
    pub(super) fn presence_told(&self, origin: &Domain, presence: Presence) {
        let Some(own) = self.domain() else { return };
        for UserPresence { user, platforms } in presence.users.into_iter().take(MAX_USERS) {
            let Ok(id) = localise(&user, own) else { continue };
            if home_of(&id).as_ref() == Some(origin) {
                self.hub().set_elsewhere(&id, platforms);
            }
        }
    }

    /// Another node asks who is online, and wants to hear of changes for a while.
    pub(super) fn answer_presence(
        &self,
        origin: &Domain,
        request: PresenceRequest,
    ) -> Result<Presence> {
        let Some(own) = self.domain() else { return Ok(Presence::default()) };
        if request.users.len() > MAX_USERS {
            return Err(ServiceError::args("too many users"));
        }
        let until = self.now() + request.watch_ms.clamp(0, WATCH_MS);
        let view = self.store().view();
        let mut users = Vec::new();
        for user in request.users {
            let id = localise(&user, own)?;
            if is_remote(&id) || LocalOnly::User.holds(&view, &id)? {
                continue;
            }
            if request.watch_ms > 0 {
                self.hub().watch_from(&id, origin, until);
            }
            users.push(UserPresence { user, platforms: self.hub().online_platforms(&id) });
        }
        Ok(Presence { users })
    }

    /// Tells other nodes of changes, several at a time.
    async fn tell_presence(self, mut news: mpsc::UnboundedReceiver<String>) {
        while let Some(first) = news.recv().await {
            tokio::time::sleep(GATHER).await;
            let mut changed = vec![first];
            while let Ok(user) = news.try_recv() {
                changed.push(user);
            }
            changed.sort();
            changed.dedup();
            let mut by_node: HashMap<Domain, Vec<UserPresence>> = HashMap::new();
            for user_id in changed {
                let Some(own) = self.domain() else { return };
                let Ok(user) = qualify(&user_id, own) else { continue };
                let platforms = self.hub().online_platforms(&user_id);
                for domain in self.hub().watched_from(&user_id, self.now()) {
                    let presence =
                        UserPresence { user: user.clone(), platforms: platforms.clone() };
                    by_node.entry(domain).or_default().push(presence);
                }
            }
            for (domain, users) in by_node {
                let services = self.clone();
                tokio::spawn(async move {
                    for users in users.chunks(MAX_USERS) {
                        let presence = Presence { users: users.to_vec() };
                        let _ = services.ask(&domain, request::Body::PresenceNews(presence)).await;
                    }
                });
            }
        }
    }
}
