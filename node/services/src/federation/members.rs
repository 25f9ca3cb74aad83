//! Members of large groups: a snapshot brings the first of them, the others are fetched page by
//! page.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message as _;
use proto::federation::{Members, MembersRequest, request, response};
use proto::qualified::{Domain, localise, qualify};
use store::{Direction, schema};

use super::Trouble;
use super::catch_up::persist;
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};

/// Bytes of members in one answer.
const MAX_BYTES: usize = 128 * 1_024;
/// Pause between two pages: those who write are not to notice.
const BETWEEN: Duration = Duration::from_millis(20);

/// Groups whose members are being fetched, and of whom the log has spoken since the page was asked
/// for: what it says is newer.
#[derive(Default)]
pub(crate) struct FetchingMembers {
    touched: Mutex<HashMap<String, HashSet<String>>>,
}

impl FetchingMembers {
    fn begin(&self, group_id: &str) -> bool {
        let mut touched = self.touched.lock();
        let new = !touched.contains_key(group_id);
        touched.entry(group_id.to_owned()).or_default();
        new
    }

    fn begin_page(&self, group_id: &str) {
        self.touched.lock().insert(group_id.to_owned(), HashSet::new());
    }

    fn end(&self, group_id: &str) {
        self.touched.lock().remove(group_id);
    }

    /// The log of a group says something of a user.
    pub(super) fn touch(&self, group_id: &str, user_id: &str) {
        if let Some(touched) = self.touched.lock().get_mut(group_id) {
            touched.insert(user_id.to_owned());
        }
    }

    fn is_touched(&self, group_id: &str, user_id: &str) -> bool {
        self.touched.lock().get(group_id).is_some_and(|touched| touched.contains(user_id))
    }
}

impl Services {
    /// Fetches the members of a group that are not here, unless that is under way.
    pub(super) fn fetch_members_later(&self, group_id: &str) {
        if !self.inner.fetching_members.begin(group_id) {
            return;
        }
        let (services, group_id) = (self.clone(), group_id.to_owned());
        self.inner.runtime.spawn(async move {
            let page = || async {
                let last = services.fetch_members(&group_id).await?;
                if !last {
                    tokio::time::sleep(BETWEEN).await;
                }
                Ok(last)
            };
            persist(&group_id, page).await;
            services.inner.fetching_members.end(&group_id);
        });
    }

    /// Fetches one page; returns whether it was the last.
    async fn fetch_members(&self, group_id: &str) -> Result<bool> {
        let (home, replica) = {
            let view = self.store().view();
            let replica = schema::GROUP_REPLICAS.get(&view, group_id)?;
            (self.group_home(&view, group_id)?, replica)
        };
        let (Some(own), Some(home)) = (self.domain(), home) else { return Ok(true) };
        let Some(replica) = replica.filter(|r| !r.members_complete && home != *own) else {
            return Ok(true);
        };
        self.inner.fetching_members.begin_page(group_id);
        let after = replica.members_to.clone();
        let request = MembersRequest { group: qualify(group_id, own)?, after: after.clone() };
        let response = self.ask(&home, request::Body::Members(request)).await?;
        let Some(response::Body::Members(page)) = response.body else {
            return Err(ServiceError::Unreachable(format!("{home} gave no members")));
        };
        let group_id = group_id.to_owned();
        let caller = Caller::other_node(home.as_str());
        let taken = self.change(&caller, move |change| {
            change.take_members(&home, &group_id, &after, page).map_err(Trouble::of_an_answer)
        });
        taken.await
    }

    /// Members of a group for a node that has some.
    pub(super) async fn answer_members(
        &self,
        origin: &Domain,
        request: MembersRequest,
    ) -> Result<Members> {
        let origin = origin.clone();
        let caller = Caller::other_node(origin.as_str());
        self.change(&caller, move |change| change.members_page(&origin, &request)).await
    }
}

impl Change<'_, '_> {
    fn take_members(
        &mut self,
        home: &Domain,
        group_id: &str,
        after: &str,
        page: Members,
    ) -> std::result::Result<bool, Trouble> {
        let own = self.own_domain()?;
        let Some(mut replica) = schema::GROUP_REPLICAS.get(self.tx, group_id)? else {
            return Ok(true);
        };
        if self.group_home(group_id)?.as_ref() != Some(home) || replica.members_to != after {
            // A snapshot or another home has come in between.
            return Ok(false);
        }
        let mut members = Vec::new();
        for member in page.members {
            let qualified = member.user.as_ref().map_or("", |user| &user.user_id);
            qualified.clone_into(&mut replica.members_to);
            let user_id = localise(qualified, &own)?;
            if !self.services.inner.fetching_members.is_touched(group_id, &user_id) {
                members.push(member);
            }
        }
        self.note_members(group_id, &members, false)?;
        for member in &members {
            self.take_member(home, group_id, member)?;
        }
        replica.members_complete = !page.more || replica.members_to == after;
        let complete = replica.members_complete;
        schema::GROUP_REPLICAS.put(self.tx, group_id, &replica);
        Ok(complete)
    }

    fn members_page(&mut self, origin: &Domain, request: &MembersRequest) -> Result<Members> {
        let own = self.own_domain()?;
        let group_id = localise(&request.group, &own)?;
        self.must_follow(origin, &group_id)?;
        let whole = self.place(&group_id)?.is_some_and(|place| place.members_complete);
        if !whole {
            return Err(ServiceError::Unreachable("this node has not all members".into()));
        }
        let after = match request.after.as_str() {
            "" => String::new(),
            after => localise(after, &own)?,
        };
        let rows = schema::MEMBERS.range(
            self.tx,
            (group_id.as_str(), after.as_str()),
            group_id.as_str(),
            Direction::Ascending,
        );
        let mut page = Members::default();
        let mut bytes = 0;
        for row in rows {
            let ((_, user_id), _) = row?;
            if user_id == after {
                continue;
            }
            let member = self.member_outbound(&group_id, &user_id)?;
            bytes += member.encoded_len();
            if bytes > MAX_BYTES {
                page.more = true;
                break;
            }
            page.members.push(member);
        }
        Ok(page)
    }
}
