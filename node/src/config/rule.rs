//! What is right for a key.

use std::fmt;
use std::net::ToSocketAddrs as _;
use std::path::Path;

use client_api::Proxies;
use federation::{Domain, peer_id};
use toml::Value;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::quantity::{Size, Span};
use super::read::Checks;

/// Shortest secret in bytes.
const LEAST_SECRET_BYTES: usize = 8;

/// What is right for a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Number(i64, i64),
    /// One of these numbers.
    NumberOf(&'static [i64]),
    /// A span of time from the first to the second.
    Span(Span, Span),
    /// A size from the first to the second.
    Size(Size, Size),
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any texts.
    Texts,
    /// Host and port to listen on.
    Address,
    /// Where browsers find something; may be empty.
    Url,
    /// A file that can be read; may be empty.
    File,
    /// A folder; may be empty.
    Folder,
    /// A file with certificates in PEM; may be empty.
    Certificates,
    /// A secret; empty: made by the node.
    Secret,
    /// User IDs, at least one.
    UserIds,
    /// A domain; may be empty.
    Domain,
    /// Domains.
    Domains,
    /// IP addresses and networks.
    Networks,
    /// Where a node is reached.
    Multiaddrs,
    /// Where relays are reached, with their peer IDs.
    Relays,
    /// Peer IDs.
    PeerIds,
    /// What is logged.
    Filter,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => write!(f, "true or false"),
            Self::Number(least, most) => write!(f, "a whole number from {least} to {most}"),
            Self::NumberOf(numbers) => {
                write!(f, "{}", choice(numbers.iter().map(ToString::to_string).collect()))
            }
            Self::Span(least, most) => {
                write!(f, "a span of time such as 90s, 24h or 30d, from {least} to {most}")
            }
            Self::Size(least, most) => {
                write!(f, "a size such as 64 KiB or 10 MiB, from {least} to {most}")
            }
            Self::Word(words) => {
                write!(f, "{}", choice(words.iter().map(ToString::to_string).collect()))
            }
            Self::Text => write!(f, "a text"),
            Self::Texts => write!(f, "a list of texts"),
            Self::Address => write!(f, "HOST:PORT, such as 127.0.0.1:10002"),
            Self::Url => write!(f, "a URL such as https://im.example.org, or empty"),
            Self::File => write!(f, "a file that can be read, or empty"),
            Self::Folder => write!(f, "a folder, or empty"),
            Self::Certificates => write!(f, "a file with certificates in PEM, or empty"),
            Self::Secret => write!(f, "at least {LEAST_SECRET_BYTES} bytes, or empty"),
            Self::UserIds => write!(f, "a list of user IDs, at least one"),
            Self::Domain => write!(f, "a domain such as im.example.org, or empty"),
            Self::Domains => write!(f, "a list of domains such as im.example.org"),
            Self::Networks => write!(f, "a list of IP addresses and networks such as 192.0.2.0/24"),
            Self::Multiaddrs => {
                write!(f, "a list of multiaddrs such as /dns/im.example.org/udp/10003/quic-v1")
            }
            Self::Relays => write!(f, "a list of multiaddrs that end with /p2p/ and a peer ID"),
            Self::PeerIds => write!(f, "a list of peer IDs, as `federation key show` prints them"),
            Self::Filter => write!(
                f,
                "error, warn, info, debug, trace or off, or such a level per module: \
                 info,client_api=debug"
            ),
        }
    }
}

/// `a, b or c`.
fn choice(words: Vec<String>) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

impl Rule {
    /// Whether the value must not be shown.
    pub(super) fn is_secret(self) -> bool {
        matches!(self, Self::Secret)
    }

    /// Whether the value is a list.
    fn is_list(self) -> bool {
        matches!(
            self,
            Self::Texts
                | Self::UserIds
                | Self::Domains
                | Self::Networks
                | Self::Multiaddrs
                | Self::Relays
                | Self::PeerIds
        )
    }

    /// The value that a text stands for, as variables and options give it; a text of another kind
    /// stays as it is, and [`check`](Self::check) refuses it.
    pub(super) fn typed(self, given: &str) -> Value {
        match self {
            Self::Number(..) | Self::NumberOf(_) => {
                given.parse().map_or_else(|_| Value::String(given.into()), Value::Integer)
            }
            Self::Flag => {
                given.parse().map_or_else(|_| Value::String(given.into()), Value::Boolean)
            }
            _ if self.is_list() => {
                let parts = given.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(Value::from).collect())
            }
            _ => Value::String(given.to_owned()),
        }
    }

    /// What is wrong with a value, and what would be right.
    pub(super) fn check(self, value: &Value, checks: Checks) -> Result<(), String> {
        let must_be = || format!("must be {self}");
        match self {
            Self::Flag => value.as_bool().map(|_| ()).ok_or_else(must_be),
            Self::Number(least, most) => {
                let number = value.as_integer().ok_or_else(must_be)?;
                (least..=most).contains(&number).then_some(()).ok_or_else(must_be)
            }
            Self::NumberOf(numbers) => {
                let number = value.as_integer().ok_or_else(must_be)?;
                numbers.contains(&number).then_some(()).ok_or_else(must_be)
            }
            _ if self.is_list() => {
                let items = value.as_array().ok_or_else(must_be)?;
                if items.is_empty() && matches!(self, Self::UserIds) {
                    return Err(must_be());
                }
                for item in items {
                    let item = item.as_str().ok_or_else(must_be)?;
                    self.check_item(item).map_err(|reason| format!("{}: {reason}", must_be()))?;
                }
                Ok(())
            }
            _ => {
                let text = value.as_str().ok_or_else(must_be)?;
                self.check_text(text, checks)
                    .map_err(|reason| [must_be(), reason].join(": ").trim_end_matches(": ").into())
            }
        }
    }

    /// What is wrong with one of a list.
    fn check_item(self, item: &str) -> Result<(), String> {
        let reason = |error: &dyn fmt::Display| error.to_string();
        match self {
            Self::UserIds => services::user::check_user_id(item).map_err(|e| reason(&e)),
            Self::Domains => item.parse::<Domain>().map(drop).map_err(|e| reason(&e)),
            Self::Networks => Proxies::at(&[item]).map(drop).map_err(|e| reason(&e)),
            Self::Multiaddrs => peer_id::check_address(item).map(drop).map_err(|e| reason(&e)),
            Self::Relays => peer_id::check_relay(item).map_err(|e| reason(&e)),
            Self::PeerIds => peer_id::parse(item).map(drop).map_err(|e| reason(&e)),
            _ => Ok(()),
        }
    }

    /// What is wrong with a text; nothing more than [`Display`](fmt::Display) says: empty.
    fn check_text(self, text: &str, checks: Checks) -> Result<(), String> {
        let never_empty = matches!(
            self,
            Self::Address | Self::Filter | Self::Word(_) | Self::Span(..) | Self::Size(..)
        );
        if text.is_empty() && !never_empty {
            return Ok(());
        }
        match self {
            Self::Span(least, most) => {
                let span: Span = text.parse().map_err(|_| String::new())?;
                if (least..=most).contains(&span) { Ok(()) } else { Err(String::new()) }
            }
            Self::Size(least, most) => {
                let size: Size = text.parse().map_err(|_| String::new())?;
                if (least..=most).contains(&size) { Ok(()) } else { Err(String::new()) }
            }
            Self::Word(words) if !words.contains(&text) => Err(String::new()),
            Self::Secret if text.len() < LEAST_SECRET_BYTES => {
                Err(format!("it has {}", text.len()))
            }
            Self::Domain => text.parse::<Domain>().map(drop).map_err(|error| error.to_string()),
            Self::Address => check_address(text, checks),
            Self::Url => check_url(text),
            Self::Filter => check_filter(text),
            Self::File | Self::Certificates if checks == Checks::Values => Ok(()),
            Self::File => check_file(text),
            Self::Certificates => client_api::read_certificates(Path::new(text))
                .map(drop)
                .map_err(|error| error.reason().to_owned()),
            _ => Ok(()),
        }
    }
}

fn check_address(text: &str, checks: Checks) -> Result<(), String> {
    let (host, port) = text.rsplit_once(':').ok_or("there is no port")?;
    port.parse::<u16>().map_err(|_| format!("{port:?} is no port"))?;
    if host.is_empty() {
        return Err("there is no host; 0.0.0.0 is every address of the machine".into());
    }
    if checks == Checks::Values {
        return Ok(());
    }
    match text.to_socket_addrs().map(|mut addresses| addresses.next()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("{host} has no address")),
        Err(error) => Err(format!("{host} has no address: {error}")),
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err("it must begin with http:// or https://".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must not have a ? or a #".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not have a user".into());
    }
    Ok(())
}

fn check_file(text: &str) -> Result<(), String> {
    let opened = std::fs::File::open(text).and_then(|file| file.metadata());
    match opened {
        Ok(about) if about.is_dir() => Err("it is a folder".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// A word that is no level would be taken for a module, of which everything is logged, and nothing
/// of the others.
fn check_filter(text: &str) -> Result<(), String> {
    for part in text.split(',') {
        let level = match part.rsplit_once('=') {
            Some(("", _)) => return Err(format!("{part:?} names no module")),
            Some((_, level)) => level,
            None => part,
        };
        if level.is_empty() || level.parse::<LevelFilter>().is_err() {
            return Err(format!("{level:?} is no level"));
        }
    }
    EnvFilter::try_new(text).map(drop).map_err(|error| error.to_string())
}
