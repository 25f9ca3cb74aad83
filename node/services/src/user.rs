//! Accounts: who they are, how they are found, what belongs to them alone.

mod account;
mod command;
mod config;
mod directory;
mod notification_account;
mod online;
mod profile;

use proto::sdkws::UserInfo;
use store::record::{Number, Present};
use store::{Read, Tx, schema};

use crate::day::day_of;
use crate::error::{Result, ServiceError};
use crate::new_id::check_new_id;

/// Longest nickname in bytes.
const MAX_NICKNAME_BYTES: usize = 512;
/// Longest address of a picture in bytes.
const MAX_URL_BYTES: usize = 4_096;
/// Longest extension of a profile in bytes.
const MAX_EX_BYTES: usize = 16 * 1_024;
/// Most users named in one request.
const MAX_USERS: usize = 10_000;
/// Level from which an account belongs to the system and is not found among people.
const SYSTEM_LEVEL: i32 = 2;
/// Level of a notification account, the lowest of those that are not logged in to.
const NOTIFICATION_LEVEL: i32 = 3;
/// What clients see for a time that was never set.
pub(crate) const NEVER_MS: i64 = -62_135_596_800_000;
/// Name of the counter of accounts.
const USERS: &str = "users";

/// The ID of a new user.
pub fn check_user_id(user_id: &str) -> Result<()> {
    check_new_id("userID", user_id)
}

/// A text of at most `max` bytes.
pub(crate) fn check_length(what: &str, text: &str, max: usize) -> Result<()> {
    if text.len() > max {
        return Err(ServiceError::args(format!("{what} has at most {max} bytes")));
    }
    Ok(())
}

/// A list of at most `max` entries.
pub(crate) fn check_count(what: &str, count: usize, max: usize) -> Result<()> {
    if count > max {
        return Err(ServiceError::args(format!("{what} has at most {max} entries")));
    }
    Ok(())
}

/// Texts of a profile that are not too long.
pub(crate) fn check_profile(nickname: &str, face_url: &str, ex: &str) -> Result<()> {
    check_length("nickname", nickname, MAX_NICKNAME_BYTES)?;
    check_length("faceURL", face_url, MAX_URL_BYTES)?;
    check_length("ex", ex, MAX_EX_BYTES)
}

pub(crate) fn insert_user(tx: &mut Tx<'_>, user: &UserInfo, registered: i64) -> Result<()> {
    let key = (registered, user.user_id.as_str());
    schema::USERS.put(tx, &user.user_id, user);
    schema::USER_ORDER.put(tx, key, &Present {});
    if user.app_manger_level >= SYSTEM_LEVEL {
        // Two may be made within a millisecond; lists keep the order in which they were made.
        let last = schema::SYSTEM_ACCOUNTS.scan_back(tx, ()).next().transpose()?;
        let after = last.map_or(i64::MIN, |((time, _), _)| time.saturating_add(1));
        let key = (registered.max(after), user.user_id.as_str());
        schema::SYSTEM_ACCOUNTS.put(tx, key, &Present {});
    }
    let total = schema::COUNTERS.get(tx, USERS)?.unwrap_or_default().value + 1;
    schema::COUNTERS.put(tx, USERS, &Number { value: total });
    let day = day_of(registered);
    let on_day = schema::REGISTRATIONS.get(tx, day)?.unwrap_or_default().value + 1;
    schema::REGISTRATIONS.put(tx, day, &Number { value: on_day });
    Ok(())
}

/// Number of accounts of every level.
pub(crate) fn count_users(from: &impl Read) -> Result<i64> {
    Ok(schema::COUNTERS.get(from, USERS)?.unwrap_or_default().value)
}

/// A user that must exist.
pub(crate) fn must_exist(from: &impl Read, user_id: &str) -> Result<UserInfo> {
    let user = schema::USERS.get(from, user_id)?;
    user.ok_or_else(|| ServiceError::not_found(format!("no user {user_id}")))
}
