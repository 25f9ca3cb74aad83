//! Requests to join groups of other nodes: kept at the home of the group, asked for there.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use proto::group::JoinGroupReq;
use proto::qualified::Domain;
use proto::sdkws::RequestPagination;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::profile::MAX_DOMAINS;
use crate::Services;
use crate::access::Caller;
use crate::error::Result;

/// Most requests that one home is asked for.
const MOST_OF_ONE: i32 = 200;

/// Groups of this node, and those of others by their homes.
#[derive(Default)]
pub(crate) struct ByHome {
    pub(crate) here: Vec<String>,
    pub(crate) elsewhere: BTreeMap<Domain, Vec<String>>,
}

impl Services {
    /// Sorts groups by their homes.
    pub(crate) fn by_home(&self, group_ids: Vec<String>) -> Result<ByHome> {
        let mut sorted = ByHome::default();
        for group_id in group_ids {
            match self.home_elsewhere(&group_id)? {
                None => sorted.here.push(group_id),
                Some(home) => sorted.elsewhere.entry(home).or_default().push(group_id),
            }
        }
        Ok(sorted)
    }

    /// Asks the homes of groups, each about those that are its own; a home that gives no answer is
    /// left out.
    pub(crate) async fn ask_homes<Q: Serialize, A: DeserializeOwned>(
        &self,
        caller: &Caller,
        elsewhere: BTreeMap<Domain, Vec<String>>,
        path: &str,
        request: impl Fn(Vec<String>) -> Q,
    ) -> Vec<A> {
        let asked = elsewhere.into_iter().take(MAX_DOMAINS).map(|(home, group_ids)| {
            let request = request(group_ids);
            async move {
                let answer = self.call_home(&home, caller, path, &request).await;
                answer.inspect_err(|error| tracing::debug!(%home, path, %error, "no answer")).ok()
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Asks the home of a group to let a user of this node in, and remembers that.
    pub(crate) async fn join_elsewhere<A: DeserializeOwned>(
        &self,
        home: &Domain,
        caller: &Caller,
        request: JoinGroupReq,
    ) -> Result<A> {
        let answer = self.call_home(home, caller, "/group/join_group", &request).await?;
        self.change(caller, move |change| change.asked_elsewhere(&request)).await?;
        Ok(answer)
    }
}

/// As much of a list as a home is asked for, to show the rows before `end`.
pub(crate) fn first_page(end: usize) -> RequestPagination {
    let show_number = i32::try_from(end).unwrap_or(MOST_OF_ONE).min(MOST_OF_ONE);
    RequestPagination { page_number: 1, show_number }
}
