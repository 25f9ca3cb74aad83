//! What is refused to clients, for the log.

use std::fmt;

use axum::http::Extensions;

use crate::client_address::ClientAddress;

/// Writes a warning: what was refused, of what kind, to which client and why. The target tells the log
/// that others can cause as many as they like. Secrets and tokens stay out of it.
pub(crate) fn refusal(
    kind: &'static str,
    extensions: &Extensions,
    operation: &str,
    reason: impl fmt::Display,
) {
    let address = extensions.get::<ClientAddress>().map(|client| client.0.to_string());
    let address = address.unwrap_or_default();
    tracing::warn!(target: "refused", kind, address, operation, %reason);
}
