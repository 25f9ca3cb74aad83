//! Searching for a text that somebody typed.

use crate::error::Result;
use crate::user::check_length;

/// Longest text to search for in bytes.
const MAX_BYTES: usize = 256;

/// What is searched for, as it stands: no character means anything but itself; capital and small letters
/// are the same.
pub(crate) struct SearchText(String);

impl SearchText {
    /// A text in the field `what` of a request. The empty one is in every text.
    pub(crate) fn new(what: &str, text: &str) -> Result<Self> {
        check_length(what, text, MAX_BYTES)?;
        Ok(Self(text.to_lowercase()))
    }

    /// The same; `None` if nothing is searched for.
    pub(crate) fn if_any(what: &str, text: &str) -> Result<Option<Self>> {
        if text.is_empty() { Ok(None) } else { Self::new(what, text).map(Some) }
    }

    /// Whether it is part of `text`.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_means_itself() {
        let is_in =
            |part: &str, text: &str| SearchText::new("keyword", part).expect("short").is_in(text);
        for part in ["(", "*", "[", "+86", "\\", ".", "^a", "a$", "É", ""] {
            assert!(is_in(part, &format!("x{part}y")), "{part}");
            assert!(is_in(part, &part.to_uppercase()) && is_in(part, &part.to_lowercase()));
        }
        assert!(!is_in(".", "x") && !is_in("a*", "aaa") && !is_in("^a", "a"));
        assert!(SearchText::new("keyword", &"a".repeat(257)).is_err());
        assert!(SearchText::if_any("keyword", "").expect("short").is_none());
    }
}
