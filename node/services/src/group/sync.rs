use std::collections::BTreeMap;

use proto::group::{
    BatchGetIncrementalGroupMemberReq, BatchGetIncrementalGroupMemberResp,
    GetFullGroupMemberUserIDsReq, GetFullGroupMemberUserIDsResp, GetFullJoinGroupIDsReq,
    GetFullJoinGroupIDsResp, GetIncrementalGroupMemberReq, GetIncrementalGroupMemberResp,
    GetIncrementalJoinGroupReq, GetIncrementalJoinGroupResp,
};
use proto::sdkws::{GroupInfo, GroupMemberFullInfo};
use store::version_log::{List, version};
use store::{Read, schema};

use super::list::{joined, member_ids};
use super::{DISMISSED, INFO_ELEMENT, check_count, member, must_exist, required};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::incremental::{id_hash, incremental};

/// Groups in one request, at most.
const MAX_GROUPS: usize = 10_000;
/// Members in one answer after which the client has to ask again.
const MAX_MEMBERS: usize = 500;

impl Services {
    /// Groups of a user that changed since the caller last asked.
    pub fn get_incremental_join_groups(
        &self,
        caller: &Caller,
        request: &GetIncrementalJoinGroupReq,
    ) -> Result<GetIncrementalJoinGroupResp> {
        caller.must_be(&request.user_id)?;
        let (view, user_id) = (self.store().view(), request.user_id.as_str());
        let changed =
            incremental(&view, List::JoinedGroups, user_id, &request.version_id, request.version)?;
        Ok(GetIncrementalJoinGroupResp {
            version: changed.now.version,
            version_id: changed.now.id,
            full: changed.full,
            delete: changed.delete,
            insert: infos(&view, user_id, &changed.insert)?,
            update: infos(&view, user_id, &changed.update)?,
            sort_version: 0,
        })
    }

    /// Members of a group that changed since the caller last asked.
    pub fn get_incremental_group_members(
        &self,
        caller: &Caller,
        request: &GetIncrementalGroupMemberReq,
    ) -> Result<GetIncrementalGroupMemberResp> {
        changed_members(&self.store().view(), caller, request)
    }

    /// Members of several groups that changed; those that the caller is not in, or that are dismissed,
    /// are left out, and what would get too much: it has to be asked for again. If the caller is in none,
    /// that is an error.
    pub fn get_incremental_group_members_batch(
        &self,
        caller: &Caller,
        request: &BatchGetIncrementalGroupMemberReq,
    ) -> Result<BatchGetIncrementalGroupMemberResp> {
        check_count("reqList", request.req_list.len(), MAX_GROUPS)?;
        let (mut resp_list, mut wrong) = (BTreeMap::new(), None);
        let mut members = 0;
        for asked in &request.req_list {
            if resp_list.contains_key(&asked.group_id) {
                continue;
            }
            let view = self.store().view();
            let changed = match changed_members(&view, caller, asked) {
                // What is wrong with one group is not in the way of the others.
                Err(ServiceError::Dismissed) => continue,
                Err(error @ (ServiceError::NoPermission(_) | ServiceError::NotFound(_))) => {
                    wrong.get_or_insert(error);
                    continue;
                }
                changed => changed?,
            };
            members += changed.delete.len() + changed.insert.len() + changed.update.len();
            resp_list.insert(asked.group_id.clone(), changed);
            if members >= MAX_MEMBERS {
                break;
            }
        }
        match wrong {
            Some(error) if resp_list.is_empty() => Err(error),
            _ => Ok(BatchGetIncrementalGroupMemberResp { resp_list }),
        }
    }

    /// IDs of all members, unless the caller has the same.
    pub fn get_full_group_member_user_ids(
        &self,
        caller: &Caller,
        request: &GetFullGroupMemberUserIDsReq,
    ) -> Result<GetFullGroupMemberUserIDsResp> {
        required("groupID", &request.group_id)?;
        let (view, group_id) = (self.store().view(), request.group_id.as_str());
        caller.must_be_member(&view, group_id)?;
        let ids = member_ids(&view, group_id)?;
        let equal = id_hash(&ids)? == request.id_hash;
        let now = version(&view, List::Members, group_id)?;
        Ok(GetFullGroupMemberUserIDsResp {
            version: now.version,
            version_id: now.id,
            equal,
            user_ids: if equal { Vec::new() } else { ids },
        })
    }

    /// IDs of all groups of a user, unless the caller has the same.
    pub fn get_full_join_group_ids(
        &self,
        caller: &Caller,
        request: &GetFullJoinGroupIDsReq,
    ) -> Result<GetFullJoinGroupIDsResp> {
        required("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let groups = joined(&view, &request.user_id)?;
        let ids: Vec<String> = groups.into_iter().map(|group| group.group_id).collect();
        let equal = id_hash(&ids)? == request.id_hash;
        let now = version(&view, List::JoinedGroups, &request.user_id)?;
        Ok(GetFullJoinGroupIDsResp {
            version: now.version,
            version_id: now.id,
            equal,
            group_ids: if equal { Vec::new() } else { ids },
        })
    }
}

/// Those of the groups that a user is in.
fn infos(from: &impl Read, user_id: &str, group_ids: &[String]) -> Result<Vec<GroupInfo>> {
    let mut groups = Vec::new();
    for group_id in group_ids {
        if schema::JOINED.contains(from, (user_id, group_id))? {
            groups.extend(schema::GROUPS.get(from, group_id)?.map(|group| group.info));
        }
    }
    Ok(groups)
}

fn changed_members(
    from: &impl Read,
    caller: &Caller,
    asked: &GetIncrementalGroupMemberReq,
) -> Result<GetIncrementalGroupMemberResp> {
    let group_id = asked.group_id.as_str();
    caller.must_be_member(from, group_id)?;
    let group = must_exist(from, group_id)?;
    if group.info.status == DISMISSED {
        return Err(ServiceError::Dismissed);
    }
    let mut changed = incremental(from, List::Members, group_id, &asked.version_id, asked.version)?;
    let all = changed.delete.len() + changed.insert.len() + changed.update.len();
    changed.update.retain(|id| id != INFO_ELEMENT);
    let members = |ids: &[String]| -> Result<Vec<GroupMemberFullInfo>> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(member(from, group_id, id)?);
        }
        Ok(found)
    };
    Ok(GetIncrementalGroupMemberResp {
        version: changed.now.version,
        version_id: changed.now.id,
        full: changed.full,
        insert: members(&changed.insert)?,
        update: members(&changed.update)?,
        delete: changed.delete,
        group: (changed.full || all > 0).then_some(group.info),
        sort_version: changed.sort_version,
    })
}
