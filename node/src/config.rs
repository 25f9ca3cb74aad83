//! The configuration: a TOML file, environment variables over it.
//!
//! Every key is declared once, with its default, what is right for it, and its documentation; the
//! example file, the reference in `docs/operations.md`, the names of the environment variables and
//! the check follow from that.

mod agreement;
mod example;
mod federation;
mod notification;
mod origin;
mod problem;
mod quantity;
mod read;
mod rule;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ::federation::policy::Openness;
use serde::{Deserialize, Serialize};
use toml::Table;

pub(crate) use example::example;
use notification::Notification;
pub(crate) use origin::Given;
pub(crate) use problem::Problems;
use quantity::{Size, Span};
pub(crate) use read::{Checks, Sources};
use rule::Rule;

/// A section of the configuration.
struct Section {
    /// Its name.
    name: &'static str,
    /// What it is about.
    doc: &'static [&'static str],
    /// Its keys.
    keys: &'static [Key],
}

/// A key of the configuration.
struct Key {
    /// Its name.
    name: &'static str,
    /// What it sets.
    doc: &'static [&'static str],
    /// What is right for it.
    rule: Rule,
}

macro_rules! config {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])* $key:ident: $type:ty = $default:expr => $rule:expr,)*
        }
    )*) => {
        /// Everything an operator can set.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Config {
            $($(#[doc = $section_doc])* pub(crate) $section: $Section,)*
            /// How notifications are delivered, by name.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            notification: BTreeMap<String, Notification>,
        }
        $(
            $(#[doc = $section_doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(crate) struct $Section {
                $($(#[doc = $doc])* pub(crate) $key: $type,)*
            }
            impl Default for $Section {
                fn default() -> Self {
                    Self { $($key: $default,)* }
                }
            }
        )*
        /// Every section with every key.
        const SECTIONS: &[Section] = &[$(Section {
            name: stringify!($section),
            doc: &[$($section_doc),*],
            keys: &[$(Key {
                name: stringify!($key),
                doc: &[$($doc),*],
                rule: $rule,
            }),*],
        }),*];
    };
}

config! {
    /// The REST API.
    api: Api {
        /// Address and port.
        listen: String = "0.0.0.0:10002".into() => Rule::Address,
        /// Address under which clients reach the API, used in links to objects.
        /// Empty: the address the client itself used. A node that federates needs it for links to
        /// content of other nodes; without it, it takes `listen`, or its domain with that port.
        public_url: String = String::new() => Rule::Url,
        /// Compress answers for clients that accept it.
        gzip: bool = true => Rule::Flag,
        /// Connections at the same time; fewer if the limit of open files is low.
        max_connections: usize = 10_000 => Rule::Number(1, 10_000_000),
        /// How long a connection may stay idle between two requests; when three quarters of the
        /// connections are taken, 10 seconds.
        idle: Span = Span::seconds(75) => Rule::Span(Span::seconds(1), Span::days(1)),
        /// Addresses and networks of proxies in front of both ports: what they say in
        /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` counts.
        trusted_proxies: Vec<String> = vec!["127.0.0.0/8".into(), "::1".into()] => Rule::Networks,
        /// Certificate chain in PEM; with `tls_key` it switches TLS on. Read again at SIGHUP.
        tls_certificate: PathBuf = PathBuf::new() => Rule::Certificates,
        /// Private key in PEM.
        tls_key: PathBuf = PathBuf::new() => Rule::File,
    }
    /// The WebSocket gateway.
    ws: Ws {
        /// Address and port.
        listen: String = "0.0.0.0:10001".into() => Rule::Address,
        /// Connections at the same time; fewer if the limit of open files is low.
        max_connections: usize = 100_000 => Rule::Number(1, 10_000_000),
        /// Largest frame of a client.
        max_frame: Size = Size::mib(1) => Rule::Size(Size::kib(4), Size::mib(64)),
        /// Frames that may wait for a client; one that lets more wait is disconnected.
        queue_frames: usize = 1_024 => Rule::Number(1, 1_000_000),
        /// What may wait for a client; one that lets more wait is disconnected.
        queue: Size = Size::mib(2) => Rule::Size(Size::kib(64), Size::gib(1)),
        /// What may wait for all clients together; above it, 64 KiB may wait for one.
        queue_all: Size = Size::mib(256) => Rule::Size(Size::kib(64), Size::gib(1_024)),
        /// Messages being sent at the same time, of all clients who send more than 50 a second.
        /// What comes above it is not read yet: they wait for each other, and nobody for them.
        /// While others send too, an eighth of it.
        max_sends: usize = 512 => Rule::Number(1, 65_536),
        /// Certificate chain in PEM; with `tls_key` it switches TLS on. Read again at SIGHUP.
        tls_certificate: PathBuf = PathBuf::new() => Rule::Certificates,
        /// Private key in PEM.
        tls_key: PathBuf = PathBuf::new() => Rule::File,
    }
    /// Tokens and app admins.
    auth: Auth {
        /// Key of all tokens and password of the admin API. `ENTENTE_AUTH_SECRET_FILE` names a file
        /// that holds it. Empty: the one in the file `secret` of the data folder, made at the first
        /// start.
        secret: String = String::new() => Rule::Secret,
        /// User IDs of the app admins.
        admin_users: Vec<String> = vec!["imAdmin".into()] => Rule::UserIds,
        /// Their names, in the same order.
        admin_nicknames: Vec<String> = vec!["superAdmin".into()] => Rule::Texts,
        /// How long a token is valid.
        token_expire: Span = Span::days(90) => Rule::Span(Span::seconds(60), Span::days(36_500)),
        /// 0 nobody is kicked, 1 one device per platform, 4 one per class of platforms,
        /// 5 any PCs and one other device.
        multi_login_policy: i32 = 1 => Rule::NumberOf(&[0, 1, 4, 5]),
        /// Tokens per platform under policy 0.
        max_tokens_per_platform: usize = 30 => Rule::Number(1, 10_000),
    }
    /// The rules of chatting.
    chat: Chat {
        /// Only friends may write to each other.
        friend_verify: bool = false => Rule::Flag,
        /// Every user may list and search all accounts, and count them, as with OpenIM; otherwise
        /// only app admins. Who knows an ID can look up its profile either way.
        open_directory: bool = false => Rule::Flag,
        /// New members of a group see what was said before they came.
        history_for_new_members: bool = true => Rule::Flag,
        /// Largest message.
        message_max: Size = Size::kib(60) => Rule::Size(Size::ONE, Size::kib(60)),
        /// How long a message sent again with the same clientMsgID is recognised.
        dedupe: Span = Span::days(1) => Rule::Span(Span::ZERO, Span::days(3_650)),
        /// How long messages are kept; 0: for ever.
        retain: Span = Span::ZERO => Rule::Span(Span::ZERO, Span::days(36_500)),
    }
    /// Federation with the nodes of other organisations.
    federation: FederationSection {
        /// Domain of this node, such as im.example.org; its users are user@domain to others.
        /// Empty: the one under which the data folder has federated, or else the node does not
        /// federate. It cannot be changed later.
        domain: String = String::new() => Rule::Domain,
        /// UDP address and port on which other nodes reach it.
        listen: String = "0.0.0.0:10003".into() => Rule::Address,
        /// Where others reach it, as multiaddrs such as /dns/im.example.org/udp/10003/quic-v1.
        /// Empty: the address it listens on.
        addresses: Vec<String> = Vec::new() => Rule::Multiaddrs,
        /// Nodes that pass on what comes for this one, if nobody can reach it: multiaddrs with peer
        /// IDs, such as /ip4/192.0.2.1/udp/10003/quic-v1/p2p/12D3….
        relays: Vec<String> = Vec::new() => Rule::Relays,
        /// Peer IDs of the nodes for which this one does the same.
        relay_for: Vec<String> = Vec::new() => Rule::PeerIds,
        /// With whom it federates: open (everybody who is not denied) or closed (only allowed ones).
        policy: Openness = Openness::Open => Rule::Word(&["open", "closed"]),
        /// Domains that may federate with a closed node.
        allow: Vec<String> = Vec::new() => Rule::Domains,
        /// Domains that may not federate with it.
        deny: Vec<String> = Vec::new() => Rule::Domains,
        /// Domains of which a closed node takes something, although it sends nothing there.
        allow_incoming: Vec<String> = Vec::new() => Rule::Domains,
        /// Domains of which it takes nothing, although it sends there.
        deny_incoming: Vec<String> = Vec::new() => Rule::Domains,
        /// Domains to which a closed node sends, although it takes nothing of them.
        allow_outgoing: Vec<String> = Vec::new() => Rule::Domains,
        /// Domains to which it sends nothing, although it takes what they send.
        deny_outgoing: Vec<String> = Vec::new() => Rule::Domains,
        /// Users of other nodes may only write to their friends, and to who has written to them.
        consent: bool = false => Rule::Flag,
        /// Messages and friend requests that another node could not be given for so long are given up,
        /// and their senders told; 0: never.
        expire: Span = Span::days(30) => Rule::Span(Span::ZERO, Span::days(36_500)),
        /// Believe the first node that speaks for a domain of which nothing is known; for testnets.
        trust_first_use: bool = false => Rule::Flag,
        /// Authorities, in PEM, that may vouch for the HTTPS of other domains; empty: the system's.
        ca: PathBuf = PathBuf::new() => Rule::Certificates,
        /// Events of one other node that are applied in a second; the others wait. Of 400, one
        /// may be refused.
        events_per_second: u32 = 20_000 => Rule::Number(1, 4_294_967_295),
        /// Size of the events of one other node in a second.
        event_bytes_per_second: Size = Size::mib(32) => Rule::Size(Size::kib(64), Size::mib(4_095)),
        /// Events in a second that are applied of one user of another node, or of one group there;
        /// beyond, that node waits.
        events_per_second_each: u32 = 5_000 => Rule::Number(1, 4_294_967_295),
        /// Size of the events in a second of one user of another node, or of one group there.
        event_bytes_per_second_each: Size =
            Size::mib(16) => Rule::Size(Size::kib(64), Size::mib(4_095)),
        /// Requests of one other node that are answered in a second; the others are refused.
        requests_per_second: u32 = 1_000 => Rule::Number(1, 4_294_967_295),
        /// Content of other nodes that is kept; the oldest goes first.
        media_cache: Size = Size::gib(10) => Rule::Size(Size::ZERO, Size::gib(1 << 20)),
    }
    /// The database.
    store: StoreSection {
        /// Memory for caching pages.
        cache: Size = Size::mib(64) => Rule::Size(Size::mib(1), Size::gib(1_024)),
        /// Changes that are kept in memory before the index is written; the journal has them.
        checkpoint: Size = Size::mib(8) => Rule::Size(Size::kib(16), Size::gib(1)),
        /// Free disk space below which only what deletes is accepted; at least 8 MiB.
        reserve: Size = Size::mib(64) => Rule::Size(Size::ZERO, Size::gib(1 << 20)),
    }
    /// Backups that the node makes by itself.
    backup: BackupSection {
        /// An existing folder, of this node alone, in which backups are made, and the journal between
        /// them is shipped; empty: none are.
        folder: PathBuf = PathBuf::new() => Rule::Folder,
        /// Time from one full backup to the next.
        every: Span = Span::days(1) => Rule::Span(Span::seconds(60), Span::days(365)),
        /// Full backups that are kept; older ones are removed once a newer one was restored on trial.
        keep: usize = 7 => Rule::Number(1, 10_000),
        /// File whose first line is the passphrase of the secrets in them. Empty: the secret and the
        /// keys of the node are left out.
        passphrase_file: PathBuf = PathBuf::new() => Rule::File,
    }
    /// Pictures, files and other objects.
    object: ObjectSection {
        /// Largest object.
        max: Size = Size::gib(1) => Rule::Size(Size::kib(64), Size::gib(1_024)),
        /// How long a link to an object works.
        url_expire: Span = Span::days(7) => Rule::Span(Span::seconds(60), Span::days(36_500)),
    }
    /// The log, written to standard error.
    log: Log {
        /// error, warn, info, debug or trace; also per module: `info,client_api=debug`. Read again
        /// at SIGHUP.
        level: String = "info".into() => Rule::Filter,
        /// text or json.
        format: String = "text".into() => Rule::Word(&["text", "json"]),
    }
}

/// Whether the text of a configuration file holds a secret, as far as can be told.
pub(crate) fn holds_secret(text: &str) -> bool {
    let Ok(table) = text.parse::<Table>() else { return true };
    let secret = table.get("auth").and_then(|auth| auth.get("secret"));
    secret.is_some_and(|secret| secret.as_str() != Some(""))
}

impl Config {
    /// The files that it names, with the keys that name them.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = [
            ("api.tls_certificate", &self.api.tls_certificate),
            ("api.tls_key", &self.api.tls_key),
            ("ws.tls_certificate", &self.ws.tls_certificate),
            ("ws.tls_key", &self.ws.tls_key),
            ("federation.ca", &self.federation.ca),
            ("backup.passphrase_file", &self.backup.passphrase_file),
        ];
        let named = files.into_iter().filter(|(_, file)| !file.as_os_str().is_empty());
        named.map(|(key, file)| format!("{} ({key})", file.display())).collect()
    }

    /// The keys, as `section.key`, that have another value in `other`.
    pub(crate) fn differences(&self, other: &Self) -> anyhow::Result<Vec<String>> {
        let (here, there) = (Table::try_from(self)?, Table::try_from(other)?);
        let value = |table: &Table, section: &str, key: &str| {
            table.get(section).and_then(|section| section.get(key)).cloned()
        };
        let keys = SECTIONS.iter().flat_map(|s| s.keys.iter().map(|key| (s.name, key.name)));
        let differ =
            keys.filter(|(section, key)| value(&here, section, key) != value(&there, section, key));
        let mut names: Vec<String> =
            differ.map(|(section, key)| format!("{section}.{key}")).collect();
        if self.notification != other.notification {
            names.push(notification::SECTION.to_owned());
        }
        Ok(names)
    }
}

/// Name of the environment variable for a key.
fn variable_name(section: &str, key: &str) -> String {
    format!("ENTENTE_{}_{}", section.to_uppercase(), key.to_uppercase())
}
