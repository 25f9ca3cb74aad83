//! Which IDs users and groups can be given.

use crate::error::{Result, ServiceError};
use crate::user::check_length;

/// Longest ID in bytes.
const MAX_BYTES: usize = 64;

/// An ID, in the field `what` of a request, that every client can store: letters, digits, `_` and `-`.
///
/// Native clients name a database table after each conversation; dots, quotes, white space and the
/// like break them, and `@` is how users and groups of other nodes are written. A `-` at the beginning
/// would be an option to the commands of operators.
pub(crate) fn check_new_id(what: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(ServiceError::args(format!("{what} is empty")));
    }
    check_length(what, id, MAX_BYTES)?;
    if id.starts_with('-') {
        return Err(ServiceError::args(format!("{what} may not begin with '-'")));
    }
    let bad = id.chars().find(|c| !c.is_alphanumeric() && !['_', '-'].contains(c));
    let Some(bad) = bad else { return Ok(()) };
    let why = match bad {
        '@' => "'@', which stands before the domain of another node".to_owned(),
        '.' => "'.', at which native clients fail".to_owned(),
        bad => format!("{bad:?}"),
    };
    let such_as = match mapped(id) {
        mapped if mapped.is_empty() => String::new(),
        mapped => format!(", such as {mapped}"),
    };
    Err(ServiceError::args(format!(
        "{what} may hold letters, digits, _ and -, not {why}: write _ or - instead{such_as}"
    )))
}

/// An ID with `-` in place of what it may not hold.
fn mapped(id: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let mapped: String = id.chars().map(kept).collect();
    mapped.trim_start_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_id_says_what_to_write() {
        for good in ["ada", "jean-luc", "anne_marie", "éva", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"]
        {
            assert!(check_new_id("userID", good).is_ok(), "{good}");
        }
        for (bad, why, instead) in [
            ("jean.luc", "native clients", "jean-luc"),
            ("jl@corp", "another node", "jl-corp"),
            ("j l", "' '", "j-l"),
            ("a/b", "'/'", "a-b"),
        ] {
            let said = check_new_id("userID", bad).expect_err("refused").to_string();
            assert!(said.contains("userID") && said.contains(why), "{said}");
            assert!(said.ends_with(&format!("such as {instead}")), "{said}");
        }
        let said = check_new_id("userID", "@.").expect_err("refused").to_string();
        assert!(said.ends_with("write _ or - instead"), "{said}");
        for bad in ["", "-a", &"x".repeat(65)] {
            assert!(check_new_id("userID", bad).is_err(), "{bad}");
        }
    }
}
