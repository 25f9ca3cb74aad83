//! Whether the secret is the one with which the node has served before.
//!
//! It is a text without a checksum, and a node that starts with another one works, while every token
//! that users and backends hold is void. So the database notes a little of its hash: enough to notice
//! another secret, and too little to guess it from.

use sha2::{Digest as _, Sha256};
use store::record::Number;
use store::{Store, StoreError, View, schema};

/// Keeps the hash apart from other uses of the secret.
const LABEL: &[u8] = b"entente known secret";
/// What there is to say of another one.
pub(crate) const ANOTHER: &str = "the secret is not the one with which this node has served before: tokens that it has issued \
     are void, and backends that have that one are refused. If nobody has changed it, put it back";

/// Whether another secret was noted.
pub(crate) fn is_another(view: &View<'_>, secret: &str) -> Result<bool, StoreError> {
    Ok(noted(view)?.is_some_and(|noted| noted != little_of(secret)))
}

fn noted(view: &View<'_>) -> Result<Option<i64>, StoreError> {
    Ok(schema::COUNTERS.get(view, schema::counter::SECRET)?.map(|noted| noted.value))
}

/// Warns of another secret, once, and notes this one.
pub(crate) fn note(store: &Store, secret: &str) -> Result<(), StoreError> {
    let value = little_of(secret);
    match noted(&store.view())? {
        Some(noted) if noted == value => return Ok(()),
        Some(_) => tracing::warn!("{ANOTHER}"),
        None => {}
    }
    store.transact_blocking(move |tx| {
        schema::COUNTERS.put(tx, schema::counter::SECRET, &Number { value });
        Ok(())
    })
}

/// Sixteen bits of its hash.
fn little_of(secret: &str) -> i64 {
    let hash = Sha256::new().chain_update(LABEL).chain_update(secret).finalize();
    i64::from(hash[0]) << 8 | i64::from(hash[1])
}
