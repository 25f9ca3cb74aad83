//! With whom this node deals.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{Domain, FederationError};

/// Who may federate unless named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Openness {
    /// Everybody who is not denied.
    #[default]
    Open,
    /// Only those who are allowed.
    Closed,
}

/// The rules of one direction.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Who may unless named.
    pub openness: Openness,
    /// Domains that may although the node is closed.
    pub allow: HashSet<Domain>,
    /// Domains that may not.
    pub deny: HashSet<Domain>,
}

impl Policy {
    /// Whether this node deals with `domain`.
    pub fn check(&self, domain: &Domain) -> Result<(), FederationError> {
        if self.deny.contains(domain) {
            return Err(FederationError::Policy(format!("{domain} is denied")));
        }
        if self.openness == Openness::Closed && !self.allow.contains(domain) {
            return Err(FederationError::Policy(format!("{domain} is not on the list")));
        }
        Ok(())
    }
}

/// The rules of both directions.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Whose links are let in.
    pub incoming: Policy,
    /// To whom links are opened.
    pub outgoing: Policy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_domain_stays_out_and_a_closed_node_lets_in_whom_it_names() {
        let domain = |name: &str| name.parse::<Domain>().expect("a domain");
        let (a, b) = (domain("a.example"), domain("b.example"));
        let mut policy = Policy::default();
        assert!(policy.check(&a).is_ok());
        policy.deny.insert(a.clone());
        assert!(policy.check(&a).is_err() && policy.check(&b).is_ok());
        policy.openness = Openness::Closed;
        assert!(policy.check(&b).is_err());
        policy.allow.extend([a.clone(), b.clone()]);
        assert!(policy.check(&a).is_err() && policy.check(&b).is_ok());
    }
}
