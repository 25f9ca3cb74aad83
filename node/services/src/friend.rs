//! Friends, friend requests, and the black list.

mod black;
mod list;
mod request;

pub(crate) use request::{AGREED, REFUSED, WAITING};

use std::collections::HashSet;

use proto::sdkws::{FriendInfo, FromToUserId, UserInfo};
use store::record::Friend;
use store::{Read, schema};

use crate::error::{Result, ServiceError};
use crate::user::{check_count, check_length};

/// Most users named in one request that changes something.
const MAX_USERS: usize = 1_000;
/// Most users named in one request that only reads.
const MAX_READ_USERS: usize = 10_000;
/// Longest ID in bytes that is looked at; it may be one of another node.
const MAX_ID_BYTES: usize = 256;
/// Longest text of a request, remark or extension in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 4_096;

/// Made by an app admin.
const IMPORTED: i32 = 1;
/// Made by a request and its answer.
pub(crate) const BY_APPLICATION: i32 = 2;

/// The IDs must be there, at most `max`, and none twice.
fn check_ids(what: &str, ids: &[String], max: usize) -> Result<()> {
    if ids.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    check_count(what, ids.len(), max)?;
    for id in ids {
        check_length(what, id, MAX_ID_BYTES)?;
    }
    if are_different(ids) {
        return Ok(());
    }
    Err(ServiceError::args(format!("{what} names a user twice")))
}

fn are_different(ids: &[String]) -> bool {
    let mut seen = HashSet::new();
    ids.iter().all(|id| seen.insert(id))
}

fn must_be_given(what: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    check_length(what, id, MAX_ID_BYTES)
}

fn from_to(from: &str, to: &str) -> Option<FromToUserId> {
    Some(FromToUserId { from_user_id: from.to_owned(), to_user_id: to.to_owned() })
}

/// A user's friends: pinned first, then in the order in which they became friends.
pub(crate) fn friends_of(from: &impl Read, owner: &str) -> Result<Vec<(String, Friend)>> {
    let rows = schema::FRIENDS.scan(from, owner).map(|row| {
        let ((_, friend_id), friend) = row?;
        Ok((friend_id, friend))
    });
    let mut friends = rows.collect::<Result<Vec<_>>>()?;
    friends.sort_by(|(a_id, a), (b_id, b)| {
        (!a.pinned, a.order, a_id).cmp(&(!b.pinned, b.order, b_id))
    });
    Ok(friends)
}

/// What others see of a profile, in the form of a friend's.
fn public(user: UserInfo) -> UserInfo {
    UserInfo {
        user_id: user.user_id,
        nickname: user.nickname,
        face_url: user.face_url,
        ex: user.ex,
        ..Default::default()
    }
}

/// A friend as lists show it: creation in seconds, with the profile.
fn friend_info(
    from: &impl Read,
    owner: &str,
    friend_id: &str,
    friend: Friend,
) -> Result<FriendInfo> {
    let profile = schema::USERS.get(from, friend_id)?;
    let bare = bare_friend_info(owner, friend);
    Ok(FriendInfo {
        create_time: bare.create_time / 1_000,
        friend_user: Some(public(
            profile.unwrap_or(UserInfo { user_id: friend_id.to_owned(), ..Default::default() }),
        )),
        ..bare
    })
}

/// A friend without profile, creation in milliseconds.
fn bare_friend_info(owner: &str, friend: Friend) -> FriendInfo {
    FriendInfo {
        owner_user_id: owner.to_owned(),
        remark: friend.remark,
        create_time: friend.created,
        friend_user: None,
        add_source: friend.add_source,
        operator_user_id: friend.operator_user_id,
        ex: friend.ex,
        is_pinned: friend.pinned,
    }
}
