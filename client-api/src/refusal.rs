//! What is refused to clients, for the log.

use std::fmt;

use axum::http::Extensions;

use crate::client_address::ClientAddress;

/// Most bytes of a path or a reason that are written.
const MOST_BYTES: usize = 128;

/// Writes a warning: what was refused, of what kind, to which client and why. The target tells the log
/// that others can cause as many as they like; of what they write, the beginning is in it. Secrets and
/// tokens stay out of it.
pub(crate) fn refusal(
    kind: &'static str,
    extensions: &Extensions,
    operation: &str,
    reason: impl fmt::Display,
) {
    let address = extensions.get::<ClientAddress>().map(|client| client.0.to_string());
    let address = address.unwrap_or_default();
    let (operation, reason) = (cut(operation), reason.to_string());
    tracing::warn!(target: "refused", kind, address, operation, reason = %cut(&reason));
}

/// The beginning of a text that somebody else chose.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MOST_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("/auth"), "/auth");
        assert_eq!(cut(&"x".repeat(60_000)), "x".repeat(128));
        assert_eq!(cut(&"…".repeat(60_000)), "…".repeat(42));
    }
}
