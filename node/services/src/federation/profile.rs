//! Profiles of users of other nodes: kept among the accounts, refreshed by events.

use std::collections::{BTreeMap, BTreeSet};

use proto::federation::{EventKind, Profile, ProfilesRequest, request, response};
use proto::protobuf::StringValue;
use proto::qualified::{Domain, home_of, is_remote, localise};
use proto::sdkws::{UserInfo, UserInfoWithEx};
use store::record::RemoteUser;
use store::schema;

use super::{LocalOnly, Trouble};
use crate::Services;
use crate::access::Caller;
use crate::border;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::user::check_profile;

/// How long a profile is taken for true without asking, in milliseconds.
const FRESH_MS: i64 = 10 * 60 * 1_000;
/// Users asked for in one request.
pub(super) const MAX_USERS: usize = 100;
/// Other nodes that one request of a client may make this node ask.
pub(super) const MAX_DOMAINS: usize = 8;

impl Services {
    /// Makes sure that the profiles of users of other nodes are here, as far as those can be
    /// reached; users of this node are left alone.
    pub(crate) async fn fetch_profiles<'a>(
        &self,
        user_ids: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let Some(own) = self.domain() else { return Ok(()) };
        let mut missing: BTreeMap<Domain, BTreeSet<&str>> = BTreeMap::new();
        {
            let view = self.store().view();
            for id in user_ids {
                let Some(domain) = home_of(id) else { continue };
                let known = schema::REMOTE_USERS.get(&view, id)?;
                if known.is_none_or(|known| known.confirmed + FRESH_MS < self.now()) {
                    missing.entry(domain).or_default().insert(id);
                }
            }
        }
        for (domain, users) in missing.into_iter().take(MAX_DOMAINS) {
            let users: Vec<&str> = users.into_iter().take(MAX_USERS).collect();
            let qualified = users.iter().map(|id| proto::qualified::qualify(id, own));
            let Ok(user_ids) = qualified.collect() else { continue };
            let request = request::Body::Profiles(ProfilesRequest { user_ids });
            let response = match self.ask(&domain, request).await {
                Ok(response) => response,
                Err(error) => {
                    tracing::debug!(%domain, %error, "no profiles");
                    continue;
                }
            };
            let Some(response::Body::Profiles(profiles)) = response.body else { continue };
            let asked: BTreeSet<String> = users.iter().map(|id| (*id).to_owned()).collect();
            let caller = Caller::other_node(domain.as_str());
            self.change(&caller, move |change| {
                for profile in profiles.profiles {
                    let own = change.own_domain()?;
                    if localise(&profile.user_id, &own).is_ok_and(|id| asked.contains(&id)) {
                        match change.note_profile(&domain, profile) {
                            Err(Trouble::Later(error)) => return Err(error.into()),
                            _ => continue,
                        }
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// As [`fetch_profiles`](Self::fetch_profiles) for one user, who must exist.
    pub(crate) async fn must_be_known(&self, user_id: &str) -> Result<()> {
        if !is_remote(user_id) {
            return Ok(());
        }
        self.fetch_profiles([user_id]).await?;
        if schema::USERS.contains(&self.store().view(), user_id)? {
            return Ok(());
        }
        Err(ServiceError::not_found(format!("no user {user_id}, or its node cannot be reached")))
    }

    /// The profiles that another node asks for.
    pub(super) fn answer_profiles(&self, request: &ProfilesRequest) -> Result<Vec<Profile>> {
        let Some(own) = self.domain() else { return Ok(Vec::new()) };
        if request.user_ids.len() > MAX_USERS {
            return Err(ServiceError::args("too many users"));
        }
        let view = self.store().view();
        let mut profiles = Vec::new();
        for qualified in &request.user_ids {
            let id = localise(qualified, own)?;
            if let Some(user) = schema::USERS.get(&view, &id)?
                && !is_remote(&id)
                && !LocalOnly::User.holds(&view, &id)?
            {
                profiles.push(profile(qualified.clone(), user));
            }
        }
        Ok(profiles)
    }
}

fn profile(user_id: String, user: UserInfo) -> Profile {
    Profile {
        user_id,
        nickname: user.nickname,
        face_url: border::link_outbound(user.face_url),
        ex: user.ex,
        create_time_ms: user.create_time,
    }
}

impl Change<'_, '_> {
    /// What other nodes may know of a user of this one.
    pub(super) fn profile_of(&self, user_id: &str) -> Result<Profile> {
        let user = schema::USERS.get(self.tx, user_id)?.unwrap_or_default();
        Ok(profile(self.qualified(user_id)?, user))
    }

    /// Keeps a profile that came from its node; returns the ID of the user.
    pub(super) fn note_profile(
        &mut self,
        origin: &Domain,
        profile: Profile,
    ) -> std::result::Result<String, Trouble> {
        let Profile { user_id, nickname, face_url, ex, create_time_ms } = profile;
        let id = self.user_of(origin, &user_id)?;
        check_profile(&nickname, &face_url, &ex)?;
        let face_url = self.services.link_inbound(face_url);
        let before = schema::USERS.get(self.tx, &id)?;
        let Some(before) = before else {
            let user = UserInfo {
                user_id: id.clone(),
                nickname,
                face_url,
                ex,
                create_time: create_time_ms,
                ..UserInfo::default()
            };
            schema::USERS.put(self.tx, &id, &user);
            self.confirm(&id);
            return Ok(id);
        };
        self.confirm(&id);
        if (&before.nickname, &before.face_url, &before.ex) != (&nickname, &face_url, &ex) {
            let text = |value: String| Some(StringValue { value });
            let edit = UserInfoWithEx {
                user_id: id.clone(),
                nickname: text(nickname),
                face_url: text(face_url),
                ex: text(ex),
                global_recv_msg_opt: None,
            };
            let services = self.services.clone();
            let more = self.as_user(&id, |change| change.edit_profile(edit))?;
            if more {
                services.tell_friends_later(id.clone());
            }
        }
        Ok(id)
    }

    fn confirm(&mut self, id: &str) {
        schema::REMOTE_USERS.put(self.tx, id, &RemoteUser { confirmed: self.now });
    }

    pub(super) fn profile_changed(
        &mut self,
        origin: &Domain,
        profile: Profile,
    ) -> std::result::Result<(), Trouble> {
        let id = self.user_of(origin, &profile.user_id)?;
        // Of those nobody here knows, nothing is kept.
        if schema::USERS.contains(self.tx, &id)? {
            self.note_profile(origin, profile)?;
        }
        Ok(())
    }

    /// Tells the nodes of a user's friends elsewhere of a new name, face or extension.
    pub(crate) fn cross_profile(&mut self, user_id: &str) -> Result<()> {
        if self.services.domain().is_none() || is_remote(user_id) {
            return Ok(());
        }
        let mut domains = BTreeSet::new();
        for row in schema::FRIENDS.scan(self.tx, user_id) {
            domains.extend(home_of(&row?.0.1));
        }
        let profile = self.profile_of(user_id)?;
        for domain in domains {
            self.tell_node(&domain, EventKind::EventProfile, &profile)?;
        }
        Ok(())
    }
}
