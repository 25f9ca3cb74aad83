//! Which IDs users and groups can be given.

use crate::error::{Result, ServiceError};
use crate::user::check_length;

/// Longest ID in bytes.
const MAX_BYTES: usize = 64;

/// An ID, in the field `what` of a request, that every client can store: letters, digits and `others`.
///
/// Native clients name a database table after each conversation; dots, quotes, white space and the
/// like break them, and `@` is how users and groups of other nodes are written.
pub(crate) fn check_new_id(what: &str, id: &str, others: &[char]) -> Result<()> {
    if id.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    check_length(what, id, MAX_BYTES)?;
    if let Some(bad) = id.chars().find(|c| !c.is_alphanumeric() && !others.contains(c)) {
        let others: String = others.iter().map(|other| format!(" and {other}")).collect();
        return Err(ServiceError::args(format!(
            "{what} may hold letters, digits{others}, not {bad:?}"
        )));
    }
    Ok(())
}
