//! Users for a scenario.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::openim::{Login, PLATFORM};
use super::target::Target;
use crate::Result;
use crate::node::unique;

/// Users registered by one request.
const REGISTERED_AT_ONCE: usize = 500;
/// Requests under way at the same time.
const REQUESTS: usize = 32;

/// Registers `count` users whom the target has not seen before and issues a token to each.
pub(crate) async fn settle(target: &Target, count: usize) -> Result<Vec<Login>> {
    let ids = names(count)?;
    register(target, &ids).await?;
    log_in(target, ids).await
}

/// IDs that were not used before.
pub(crate) fn names(count: usize) -> Result<Vec<String>> {
    let prefix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let first = unique();
    Ok((0..count).map(|n| format!("l{prefix:x}x{first}x{n:06}")).collect())
}

/// Registers users.
pub(crate) async fn register(target: &Target, ids: &[String]) -> Result {
    let Some(admin) = &target.admin else { return Ok(()) };
    stream::iter(ids.chunks(REGISTERED_AT_ONCE))
        .map(|some| async move {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            admin.register(&some).await
        })
        .buffer_unordered(4)
        .try_collect()
        .await
}

/// Issues tokens to registered users, in their order.
pub(crate) async fn log_in(target: &Target, ids: Vec<String>) -> Result<Vec<Login>> {
    let Some(admin) = &target.admin else {
        let free = |user_id| Login { user_id, token: "none".into() };
        return Ok(ids.into_iter().map(free).collect());
    };
    stream::iter(ids)
        .map(|user_id| async move {
            let client = admin.client(&user_id, PLATFORM).await?;
            Ok(Login { user_id, token: client.token })
        })
        .buffered(REQUESTS)
        .try_collect()
        .await
}
