//! Users and groups of other nodes: domains, and the forms of an ID that belongs to one.
//!
//! Between nodes every ID is qualified: `bob@beta.example`. Clients see IDs of their own node bare
//! (`alice`) and others in the *client form*, `bob@beta_example`: native SDKs name a database table
//! after each conversation and fail at a dot. A domain has no underscore, so either form follows
//! from the other.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest domain in bytes, as in DNS.
const MAX_DOMAIN_BYTES: usize = 253;
/// Longest label of a domain in bytes.
const MAX_LABEL_BYTES: usize = 63;
/// Longest local part of an ID in bytes.
const MAX_LOCAL_BYTES: usize = 64;

/// Not a domain, or not an ID in the form that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// The domain is not one.
    #[error("{0:?} is not a domain: lower-case letters, digits, hyphens and dots")]
    Domain(String),
    /// The part before the `@` cannot name anybody.
    #[error("{0:?} is not an ID: letters, digits, _ and - before the @")]
    Local(String),
    /// An ID of another node was expected.
    #[error("{0:?} has no domain")]
    NoDomain(String),
}

/// The domain of a node: lower case, internationalised ones as A-labels.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(Arc<str>);

impl Domain {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = BadId;

    fn from_str(name: &str) -> Result<Self, BadId> {
        let label = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let numeric =
            name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > MAX_DOMAIN_BYTES || numeric || !name.split('.').all(label) {
            return Err(BadId::Domain(name.to_owned()));
        }
        Ok(Self(name.into()))
    }
}

fn check_local(local: &str) -> Result<(), BadId> {
    let fits = (1..=MAX_LOCAL_BYTES).contains(&local.len());
    if fits && local.chars().all(|c| c.is_alphanumeric() || ['_', '-'].contains(&c)) {
        return Ok(());
    }
    Err(BadId::Local(local.to_owned()))
}

/// Whether an ID in the form of clients belongs to another node.
pub fn is_remote(id: &str) -> bool {
    id.contains('@')
}

/// The node that an ID in the client form belongs to; `None` for one of the own node.
pub fn home_of(id: &str) -> Option<Domain> {
    let (_, domain) = id.rsplit_once('@')?;
    domain.replace('_', ".").parse().ok()
}

/// `alice` or `bob@beta_example` as nodes write it: `alice@alpha.example`, `bob@beta.example`.
pub fn qualify(id: &str, own: &Domain) -> Result<String, BadId> {
    match id.rsplit_once('@') {
        None => {
            check_local(id)?;
            Ok(format!("{id}@{own}"))
        }
        Some((local, domain)) => {
            check_local(local)?;
            let domain: Domain = domain.replace('_', ".").parse()?;
            Ok(format!("{local}@{domain}"))
        }
    }
}

/// `alice@alpha.example` as clients of the node `own` see it.
pub fn localise(qualified: &str, own: &Domain) -> Result<String, BadId> {
    let (local, domain) = split(qualified)?;
    Ok(if domain == *own { local.to_owned() } else { client_form(local, &domain) })
}

/// The two parts of a qualified ID.
pub fn split(qualified: &str) -> Result<(&str, Domain), BadId> {
    let (local, domain) =
        qualified.rsplit_once('@').ok_or_else(|| BadId::NoDomain(qualified.to_owned()))?;
    check_local(local)?;
    Ok((local, domain.parse()?))
}

fn client_form(local: &str, domain: &Domain) -> String {
    format!("{local}@{}", domain.as_str().replace('.', "_"))
}

/// What people may type: also the qualified form, also in capitals, also of the own node.
///
/// What is not an ID of any node comes back as it was.
pub fn typed(id: &str, own: &Domain) -> String {
    let Some((local, domain)) = id.rsplit_once('@') else { return id.to_owned() };
    let domain = domain.replace('_', ".").to_ascii_lowercase();
    match Domain::from_str(&domain) {
        Ok(domain) if domain == *own => local.to_owned(),
        Ok(domain) => client_form(local, &domain),
        Err(_) => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: &str = "[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,6}[a-z])?){0,3}";

    fn domain(name: &str) -> Option<Domain> {
        name.parse().ok()
    }

    proptest! {
        #[test]
        fn the_forms_follow_from_each_other(
            local in "[a-zA-Z0-9_é-]{1,12}", own in DOMAIN, other in DOMAIN,
        ) {
            let (Some(own), Some(other)) = (domain(&own), domain(&other)) else { return Ok(()) };
            let qualified = format!("{local}@{other}");
            let client = localise(&qualified, &own).expect("an ID");
            prop_assert!(!client.contains('.'));
            prop_assert_eq!(qualify(&client, &own).expect("an ID"), qualified.clone());
            prop_assert_eq!(is_remote(&client), own != other);
            prop_assert_eq!(home_of(&client), (own != other).then_some(other));
            prop_assert_eq!(typed(&qualified, &own), client.clone());
            prop_assert_eq!(typed(&client, &own), client);
        }

        #[test]
        fn nothing_panics(id in "\\PC{0,20}|[a@._-]{0,12}") {
            let own = "a.example".parse().expect("a domain");
            if let Ok(client) = localise(&id, &own) {
                prop_assert_eq!(qualify(&client, &own), Ok(id.clone()));
            }
            let _ = (qualify(&id, &own), typed(&id, &own), home_of(&id));
        }
    }

    #[test]
    fn domains_are_strict() {
        for good in ["alpha.example", "localhost", "xn--bcher-kva.example", "a-1.b2"] {
            assert!(domain(good).is_some(), "{good}");
        }
        for bad in ["", ".", "a.", "A.example", "a_b.example", "127.0.0.1", "-a.b", "a..b", "ä.de"]
        {
            assert!(domain(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_people_type() {
        let own = "alpha.example".parse().expect("a domain");
        assert_eq!(typed("bob@Beta.Example", &own), "bob@beta_example");
        assert_eq!(typed("alice@alpha.example", &own), "alice");
        assert_eq!(typed("alice", &own), "alice");
        assert_eq!(typed("a@b@c!", &own), "a@b@c!");
    }
}
