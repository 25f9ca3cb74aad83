//! What users do in groups of other nodes: carried to the home of the group and done there.
//!
//! The request travels as the JSON of the client API with qualified IDs, the answer too, and the
//! rules at the home are those for its own users.

use proto::federation::{GroupCall, Groups, GroupsRequest, request, response};
use proto::qualified::{Domain, home_of, is_remote, localise, qualify};
use proto::sdkws::GroupInfo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::schema;

use super::group::info_outbound;
use super::home::moved;
use super::{LocalOnly, may_cross};
use crate::Services;
use crate::access::Caller;
use crate::border;
use crate::change::json;
use crate::error::{Result, ServiceError};

/// Groups asked for in one request.
const MAX_GROUPS: usize = 100;
/// Largest request or answer, as JSON.
const MAX_JSON_BYTES: usize = 200 * 1_024;

/// Carries a request about a group of another node to its home, and returns its answer from there.
macro_rules! at_home {
    ($services:expr, $caller:expr, $request:expr, $group_id:expr, $path:literal) => {
        if let Some(home) = $services.home_elsewhere($group_id)? {
            return $services.call_home(&home, $caller, $path, &$request).await;
        }
    };
}
pub(crate) use at_home;

/// Runs a call of another node.
macro_rules! run {
    ($services:expr, $caller:expr, $body:expr, $($path:literal => $method:ident,)*) => {
        |path: String| async move {
            match path.as_str() {
                $($path => {
                    let request = parse($body)?;
                    json(&$services.$method($caller, request).await?)
                })*
                _ => Err(ServiceError::args(format!("{path} is not for other nodes"))),
            }
        }
    };
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T> {
    proto::json::from_slice(body.as_bytes()).map_err(|error| ServiceError::args(error.to_string()))
}

impl Services {
    /// Does at the home of a group what a user of this node asks for.
    pub(crate) async fn call_home<T: DeserializeOwned>(
        &self,
        home: &Domain,
        caller: &Caller,
        path: &str,
        request: &impl Serialize,
    ) -> Result<T> {
        let Some(own) = self.domain() else {
            return Err(ServiceError::not_found("this node does not federate"));
        };
        if home == own {
            return Err(ServiceError::Unreachable("the group is being recovered".to_owned()));
        }
        if is_remote(&caller.user_id) {
            // The caller's node may not know yet where the home is.
            return Err(moved("the group"));
        }
        if path != "/group/quit_group" {
            may_cross(&self.store().view(), &caller.user_id)?;
        }
        let body = border::json_outbound(&json(request)?, own).into_owned();
        if body.len() > MAX_JSON_BYTES {
            return Err(ServiceError::args("the request is too large for another node"));
        }
        let call =
            GroupCall { caller: qualify(&caller.user_id, own)?, path: path.to_owned(), body };
        let response = self.ask(home, request::Body::GroupCall(call)).await?;
        let Some(response::Body::GroupAnswer(answer)) = response.body else {
            return Err(ServiceError::Unreachable(format!("{home} gave no answer")));
        };
        let body = border::json_inbound(&answer.body, own, self.settings().api_url());
        proto::json::from_slice(body.as_bytes())
            .map_err(|error| ServiceError::Unreachable(format!("{home} answers: {error}")))
    }

    /// Does here what a user of another node asks for.
    pub(super) async fn answer_call(&self, origin: &Domain, call: GroupCall) -> Result<String> {
        let Some(own) = self.domain() else {
            return Err(ServiceError::args("this node does not federate"));
        };
        let GroupCall { caller, path, body } = call;
        let user_id = localise(&caller, own)?;
        if home_of(&user_id).as_ref() != Some(origin) {
            return Err(ServiceError::denied(format!("{origin} may not act for {caller}")));
        }
        self.must_be_known(&user_id).await?;
        let caller = &Caller::of_other_node(user_id, &format!("{origin}{path}"));
        let body = &border::json_inbound(&body, own, self.settings().api_url());
        let run = run!(self, caller, body,
            "/group/join_group" => join_group,
            "/group/quit_group" => quit_group,
            "/group/kick_group" => kick_group,
            "/group/invite_user_to_group" => invite_user_to_group,
            "/group/group_application_response" => group_application_response,
            "/group/set_group_info" => set_group_info,
            "/group/set_group_info_ex" => set_group_info_ex,
            "/group/set_group_member_info" => set_group_member_info,
            "/group/transfer_group" => transfer_group,
            "/group/set_group_successor" => set_group_successor,
            "/group/dismiss_group" => dismiss_group,
            "/group/mute_group" => mute_group,
            "/group/cancel_mute_group" => cancel_mute_group,
            "/group/mute_group_member" => mute_group_member,
            "/group/cancel_mute_group_member" => cancel_mute_group_member,
            "/group/get_recv_group_applicationList" => get_recv_group_application_list,
            "/group/get_user_req_group_applicationList" => get_user_req_group_application_list,
            "/group/get_group_users_req_application_list" => get_group_users_req_application_list,
            "/group/get_specified_user_group_request_info" => get_specified_user_group_request_info,
            "/group/get_group_application_unhandled_count" => get_group_application_unhandled_count,
            "/msg/revoke_msg" => revoke_msg,
            "/msg/delete_msgs" => delete_msgs,
            "/msg/clear_conversation_msg" => clear_conversation_msg,
        );
        Ok(border::json_outbound(&run(path).await?, own).into_owned())
    }

    /// Infos of groups of other nodes that this one does not follow.
    pub(crate) async fn groups_elsewhere(&self, group_ids: &[String]) -> Result<Vec<GroupInfo>> {
        let Some(own) = self.domain() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for group_id in group_ids.iter().filter(|id| is_remote(id)).take(MAX_GROUPS) {
            let (Some(home), Ok(group)) = (self.home_elsewhere(group_id)?, qualify(group_id, own))
            else {
                continue;
            };
            let request = request::Body::Groups(GroupsRequest { groups: vec![group] });
            let Ok(response) = self.ask(&home, request).await else { continue };
            let Some(response::Body::Groups(groups)) = response.body else { continue };
            for info in groups.infos {
                let Ok(info) = <GroupInfo as prost::Message>::decode(info) else { continue };
                let id = |id: &str| localise(id, own).unwrap_or_default();
                if id(&info.group_id) != *group_id {
                    continue;
                }
                found.push(GroupInfo {
                    group_id: group_id.clone(),
                    owner_user_id: id(&info.owner_user_id),
                    creator_user_id: id(&info.creator_user_id),
                    notification_user_id: id(&info.notification_user_id),
                    face_url: self.link_inbound(info.face_url),
                    ..info
                });
            }
        }
        Ok(found)
    }

    /// What another node may know of groups of this one.
    pub(super) fn answer_groups(&self, request: &GroupsRequest) -> Result<Groups> {
        let Some(own) = self.domain() else { return Ok(Groups::default()) };
        if request.groups.len() > MAX_GROUPS {
            return Err(ServiceError::args("too many groups"));
        }
        let view = self.store().view();
        let mut infos = Vec::new();
        for qualified in &request.groups {
            let id = localise(qualified, own)?;
            if let Some(group) = schema::GROUPS.get(&view, &id)?
                && self.group_home(&view, &id)?.is_none()
                && !LocalOnly::Group.holds(&view, &id)?
            {
                infos.push(info_outbound(group.info, own)?.into());
            }
        }
        Ok(Groups { infos })
    }
}
