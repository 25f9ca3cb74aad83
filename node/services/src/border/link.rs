//! Links to objects: outside `entente://DOMAIN/SHA256/NAME`, inside
//! `BASE/object/@DOMAIN/SHA256/NAME`, where `BASE` is the address of the client's own node.

use proto::qualified::Domain;

/// Before the name of the node in a link of clients.
const MARK: &str = "/object/@";
/// Scheme of links between nodes.
const SCHEME: &str = "entente://";
/// Longest link.
const MAX_BYTES: usize = 4_096;
/// Hex digits of a SHA-256.
const DIGITS: usize = 64;

/// Where content is: its node, its SHA-256, and its name there as it stands in a link, with a query
/// perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaAddress<'a> {
    pub(crate) domain: &'a str,
    pub(crate) sha256: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> MediaAddress<'a> {
    pub(crate) fn new(domain: &'a Domain, sha256: &'a str, name: &'a str) -> Self {
        Self { domain: domain.as_str(), sha256, name }
    }

    /// Reads `DOMAIN/SHA256/NAME`.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (domain, rest) = text.split_once('/')?;
        let (sha256, name) = rest.split_once('/')?;
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let sound = text.len() <= MAX_BYTES
            && domain.parse::<Domain>().is_ok_and(|parsed| parsed.as_str() == domain)
            && sha256.len() == DIGITS
            && sha256.bytes().all(digits)
            && !name.is_empty();
        sound.then_some(Self { domain, sha256, name })
    }

    /// Reads a link as clients have it.
    pub(crate) fn of_link(link: &'a str) -> Option<Self> {
        if !link.starts_with("http://") && !link.starts_with("https://") {
            return None;
        }
        let (_, rest) = link.split_once(MARK)?;
        Self::parse(rest)
    }

    /// Reads a link as it stands between nodes.
    pub(crate) fn of_url(url: &'a str) -> Option<Self> {
        Self::parse(url.strip_prefix(SCHEME)?)
    }

    /// The link between nodes.
    pub(crate) fn to_url(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.domain, self.sha256, self.name)
    }

    /// The link for clients who reach their node at `base`.
    pub(crate) fn to_link(&self, base: &str) -> String {
        format!("{base}{MARK}{}/{}/{}", self.domain, self.sha256, self.name)
    }

    /// The bytes of the hash.
    pub(crate) fn hash(&self) -> Vec<u8> {
        hex::decode(self.sha256).unwrap_or_default()
    }
}
