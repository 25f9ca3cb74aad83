//! What the section about federation means.

use std::collections::HashSet;

use anyhow::Context as _;
use federation::policy::{Policies, Policy};
use federation::{Budget, Domain};

use super::{FederationSection, Size};

impl FederationSection {
    /// Domain of the node; `None` if it does not federate.
    pub(crate) fn domain(&self) -> anyhow::Result<Option<Domain>> {
        if self.domain.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.domain.parse().context("federation.domain")?))
    }

    /// What each other node may cost.
    pub(crate) fn budget(&self) -> Budget {
        let bytes = |size: Size| u32::try_from(size.bytes()).unwrap_or(u32::MAX);
        Budget {
            events: self.events_per_second,
            bytes: bytes(self.event_bytes_per_second),
            requests: self.requests_per_second,
            events_each: self.events_per_second_each,
            bytes_each: bytes(self.event_bytes_per_second_each),
        }
    }

    /// With whom the node federates.
    pub(crate) fn policies(&self) -> anyhow::Result<Policies> {
        let domains = |key: &str, names: &[String]| {
            let parsed = names.iter().map(|name| name.parse::<Domain>());
            parsed.collect::<Result<HashSet<_>, _>>().with_context(|| format!("federation.{key}"))
        };
        let (allow, deny) = (domains("allow", &self.allow)?, domains("deny", &self.deny)?);
        let policy = |more_allow: HashSet<Domain>, more_deny: HashSet<Domain>| Policy {
            openness: self.policy,
            allow: &allow | &more_allow,
            deny: &deny | &more_deny,
        };
        Ok(Policies {
            incoming: policy(
                domains("allow_incoming", &self.allow_incoming)?,
                domains("deny_incoming", &self.deny_incoming)?,
            ),
            outgoing: policy(
                domains("allow_outgoing", &self.allow_outgoing)?,
                domains("deny_outgoing", &self.deny_outgoing)?,
            ),
        })
    }
}
