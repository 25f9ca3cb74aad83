//! Groups: who is in them, in which rank, and what they are called.
//!
//! Owner and number of members are kept current in the group's record; members are also indexed by
//! rank and order of joining, so that no operation has to read a whole group.

mod create;
mod dismiss;
mod info;
mod join;
mod leave;
mod list;
mod members;
mod mute;
mod rank;
mod request;
mod sync;

use proto::sdkws::{GroupInfo, GroupMemberFullInfo, PublicUserInfo, UserInfo};
use store::record::{Group, Member};
use store::version_log::{self, Change as What, List};
use store::{Direction, Read, schema};

use crate::access::role;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};
use crate::user::{check_count, check_length};

/// The only kind of group.
const WORK_GROUP: i32 = 2;
/// Status of a group in which everybody may speak.
const NORMAL: i32 = 0;
/// Status of a dismissed group.
pub(crate) const DISMISSED: i32 = 2;
/// Status of a group in which only those in charge may speak.
const MUTED: i32 = 3;
/// Level that an app admin shows in groups.
const APP_ADMIN_LEVEL: i32 = 2;
/// Most users named in one request.
const MAX_USERS: usize = 1_000;
/// Longest name of a group in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Longest other text of a group or request in bytes; notices carry them all.
const MAX_TEXT_BYTES: usize = 8 * 1_024;
/// Users told of in one notice; a longer list is told in parts.
const TOLD_TOGETHER: usize = 50;
/// Owner and admins told of a request to join; the first by rank.
const MAX_MANAGERS_TOLD: usize = 100;
/// Element of a member log that stands for the group's own info.
pub(crate) const INFO_ELEMENT: &str = "";

/// Came by the invitation of a member.
const BY_INVITATION: i32 = 2;

fn required(what: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    Ok(())
}

/// The IDs must be there, not too many, and none twice.
fn check_ids(what: &str, ids: &[String]) -> Result<()> {
    if ids.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    check_count(what, ids.len(), MAX_USERS)?;
    check_unique(what, ids)
}

/// Those of a list of groups that may be asked for; what is wrong with the first if none may.
///
/// A client asks for what it knows; a group that its user has left meanwhile is not in the way of the
/// others.
fn reachable(
    group_ids: Vec<String>,
    mut check: impl FnMut(&str) -> Result<()>,
) -> Result<Vec<String>> {
    let (mut reached, mut wrong) = (Vec::new(), None);
    for group_id in group_ids {
        match check(&group_id) {
            Ok(()) => reached.push(group_id),
            Err(error @ ServiceError::Store(_)) => return Err(error),
            Err(error) => drop(wrong.get_or_insert(error)),
        }
    }
    match wrong {
        Some(error) if reached.is_empty() => Err(error),
        _ => Ok(reached),
    }
}

fn check_unique<'a>(what: &str, ids: impl IntoIterator<Item = &'a String>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    if ids.into_iter().all(|id| seen.insert(id)) {
        return Ok(());
    }
    Err(ServiceError::args(format!("{what} names somebody twice")))
}

pub(crate) fn check_texts(info: &GroupInfo) -> Result<()> {
    check_length("groupName", &info.group_name, MAX_NAME_BYTES)?;
    for (what, text) in [
        ("notification", &info.notification),
        ("introduction", &info.introduction),
        ("faceURL", &info.face_url),
        ("ex", &info.ex),
    ] {
        check_length(what, text, MAX_TEXT_BYTES)?;
    }
    Ok(())
}

/// A group that must exist.
pub(crate) fn must_exist(from: &impl Read, group_id: &str) -> Result<Group> {
    let group = schema::GROUPS.get(from, group_id)?;
    group.ok_or_else(|| ServiceError::not_found(format!("no group {group_id}")))
}

/// A member that must be there.
fn must_be_in(from: &impl Read, group_id: &str, user_id: &str) -> Result<Member> {
    let member = schema::MEMBERS.get(from, (group_id, user_id))?;
    member.ok_or_else(|| ServiceError::not_found(format!("{user_id} is not in {group_id}")))
}

/// Rank as the index orders it: highest first.
pub(crate) fn rank(role_level: i32) -> u8 {
    u8::MAX - u8::try_from(role_level.clamp(0, 255)).unwrap_or_default()
}

/// IDs of the members of rank admin or higher who are told of requests, the owner first.
fn managers(from: &impl Read, group_id: &str) -> Result<Vec<String>> {
    let (first, last) = ((group_id, 0_u8), (group_id, rank(role::ADMIN)));
    let rows = schema::MEMBER_ORDER.range(from, first, last, Direction::Ascending);
    rows.take(MAX_MANAGERS_TOLD).map(|row| Ok(row?.0.3)).collect()
}

/// A member as clients see it: its own name and face in the group, else those of the profile.
pub(crate) fn member_info(
    group_id: &str,
    profile: &UserInfo,
    member: Member,
) -> GroupMemberFullInfo {
    let or = |own: String, profile: &str| if own.is_empty() { profile.to_owned() } else { own };
    GroupMemberFullInfo {
        group_id: group_id.to_owned(),
        user_id: profile.user_id.clone(),
        role_level: member.role_level,
        join_time: member.joined,
        nickname: or(member.nickname, &profile.nickname),
        face_url: or(member.face_url, &profile.face_url),
        app_manger_level: 0,
        join_source: member.join_source,
        operator_user_id: member.operator_user_id,
        ex: member.ex,
        mute_end_time: member.mute_end,
        inviter_user_id: member.inviter_user_id,
    }
}

/// A member, read with its profile; `None` if it is not in the group.
fn member(from: &impl Read, group_id: &str, user_id: &str) -> Result<Option<GroupMemberFullInfo>> {
    match schema::MEMBERS.get(from, (group_id, user_id))? {
        None => Ok(None),
        Some(member) => {
            let profile = profile(from, user_id)?;
            Ok(Some(member_info(group_id, &profile, member)))
        }
    }
}

fn profile(from: &impl Read, user_id: &str) -> Result<UserInfo> {
    let found = schema::USERS.get(from, user_id)?;
    Ok(found.unwrap_or_else(|| UserInfo { user_id: user_id.to_owned(), ..Default::default() }))
}

fn public(user: UserInfo) -> PublicUserInfo {
    PublicUserInfo {
        user_id: user.user_id,
        nickname: user.nickname,
        face_url: user.face_url,
        ex: user.ex,
    }
}

/// What every notice about a group says of it: the group, who acts, and the member version.
pub(crate) struct Told {
    pub(crate) group: Option<GroupInfo>,
    pub(crate) operator: Option<GroupMemberFullInfo>,
    pub(crate) version: u64,
    pub(crate) version_id: String,
}

impl Change<'_, '_> {
    /// Steps the member log of a group for elements of it.
    fn step_members<'e>(
        &mut self,
        group_id: &str,
        elements: impl IntoIterator<Item = (&'e str, What)>,
    ) -> Result<()> {
        self.tx.step(List::Members, group_id, elements)?;
        Ok(())
    }

    /// The facts for a notice, as they are now.
    pub(crate) fn told(&self, group_id: &str) -> Result<Told> {
        let log = version_log::version(self.tx, List::Members, group_id)?;
        Ok(Told {
            group: Some(must_exist(self.tx, group_id)?.info),
            operator: Some(self.operator(group_id)?),
            version: log.version,
            version_id: log.id,
        })
    }

    /// Tells a group (and those who just left it); returns the seq of the notice in the chat, 0 if
    /// it is not there.
    pub(crate) fn tell_group(
        &mut self,
        number: i32,
        group_id: &str,
        leavers: &[String],
        in_chat: Option<bool>,
        tips: &impl serde::Serialize,
    ) -> Result<i64> {
        let from = self.caller.user_id.clone();
        let to = To::Group(group_id, leavers);
        // Only these two carry the name and face of whoever acts.
        let sender = if [kind::GROUP_INFO_SET, kind::ANNOUNCEMENT_SET].contains(&number) {
            let profile = profile(self.tx, &from)?;
            Some((profile.nickname, profile.face_url))
        } else {
            None
        };
        let notice = Notification { in_chat, sender, ..Notification::new(number, &from, to) };
        self.notify(&notice, tips)
    }

    /// The caller as it shows in what a group is told.
    pub(crate) fn operator(&self, group_id: &str) -> Result<GroupMemberFullInfo> {
        let user_id = self.caller.user_id.as_str();
        let profile = profile(self.tx, user_id)?;
        let bare = GroupMemberFullInfo {
            group_id: group_id.to_owned(),
            user_id: user_id.to_owned(),
            nickname: profile.nickname.clone(),
            face_url: profile.face_url.clone(),
            ..Default::default()
        };
        if self.caller.is_admin {
            return Ok(GroupMemberFullInfo {
                role_level: role::ADMIN,
                app_manger_level: APP_ADMIN_LEVEL,
                ..bare
            });
        }
        Ok(match schema::MEMBERS.get(self.tx, (group_id, user_id))? {
            Some(member) => member_info(group_id, &profile, member),
            None => GroupMemberFullInfo { operator_user_id: user_id.to_owned(), ..bare },
        })
    }
}
