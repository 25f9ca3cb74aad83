//! The configuration: a TOML file, environment variables over it.
//!
//! Every key is declared once, with its default and its documentation; the example file, the
//! reference in `docs/operations.md` and the names of the environment variables follow from that.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use federation::policy::{Openness, Policies, Policy};
use federation::{Budget, Domain};
use serde::{Deserialize, Serialize};
use services::settings::{NOTIFICATIONS, NotificationSetting, default_notifications};
use toml::{Table, Value};

/// A section of the configuration.
pub(crate) struct Section {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is about.
    pub(crate) doc: &'static [&'static str],
    /// Its keys.
    pub(crate) keys: &'static [Key],
}

/// A key of the configuration.
pub(crate) struct Key {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it sets.
    pub(crate) doc: &'static [&'static str],
}

macro_rules! config {
    ($(
        $(#[doc = $section_doc:literal])*
        $section:ident: $Section:ident {
            $($(#[doc = $doc:literal])* $key:ident: $type:ty = $default:expr,)*
        }
    )*) => {
        /// Everything an operator can set.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Config {
            $($(#[doc = $section_doc])* pub(crate) $section: $Section,)*
            /// How notifications are delivered, by name.
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            pub(crate) notification: BTreeMap<String, Notification>,
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
        pub(crate) const SECTIONS: &[Section] = &[$(Section {
            name: stringify!($section),
            doc: &[$($section_doc),*],
            keys: &[$(Key { name: stringify!($key), doc: &[$($doc),*] }),*],
        }),*];
    };
}

config! {
    /// The REST API.
    api: Api {
        /// Address and port.
        listen: String = "0.0.0.0:10002".into(),
        /// Address under which clients reach the API, used in links to objects.
        /// Empty: the address the client itself used. A node that federates needs it for links to
        /// content of other nodes; without it, it takes `listen`, or its domain with that port.
        public_url: String = String::new(),
        /// Compress answers for clients that accept it.
        gzip: bool = true,
        /// Connections at the same time; fewer if the limit of open files is low.
        max_connections: usize = 10_000,
        /// Seconds for which a connection may stay idle between two requests; when three quarters of
        /// the connections are taken, 10.
        idle_seconds: u64 = 75,
        /// Addresses and networks of proxies in front of both ports: what they say in
        /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host` counts.
        trusted_proxies: Vec<String> = vec!["127.0.0.0/8".into(), "::1".into()],
        /// Certificate chain in PEM; with `tls_key` it switches TLS on.
        tls_certificate: PathBuf = PathBuf::new(),
        /// Private key in PEM.
        tls_key: PathBuf = PathBuf::new(),
    }
    /// The WebSocket gateway.
    ws: Ws {
        /// Address and port.
        listen: String = "0.0.0.0:10001".into(),
        /// Connections at the same time; fewer if the limit of open files is low.
        max_connections: usize = 100_000,
        /// Largest frame of a client in bytes.
        max_frame_bytes: usize = 1024 * 1024,
        /// Frames that may wait for a client; one that lets more wait is disconnected.
        queue_frames: usize = 1_024,
        /// Bytes that may wait for a client; one that lets more wait is disconnected.
        queue_bytes: usize = 2 * 1024 * 1024,
        /// Bytes that may wait for all clients together; above it, 64 KiB may wait for one.
        queue_all_bytes: usize = 256 * 1024 * 1024,
        /// Messages being sent at the same time, of all clients who send more than 50 a second.
        /// What comes above it is not read yet: they wait for each other, and nobody for them.
        /// While others send too, an eighth of it.
        max_sends: usize = 512,
        /// Certificate chain in PEM; with `tls_key` it switches TLS on.
        tls_certificate: PathBuf = PathBuf::new(),
        /// Private key in PEM.
        tls_key: PathBuf = PathBuf::new(),
    }
    /// Tokens and app admins.
    auth: Auth {
        /// Key of all tokens and password of the admin API.
        /// Empty: the one in the file `secret` of the data folder, made at the first start.
        secret: String = String::new(),
        /// User IDs of the app admins.
        admin_users: Vec<String> = vec!["imAdmin".into()],
        /// Their names, in the same order.
        admin_nicknames: Vec<String> = vec!["superAdmin".into()],
        /// Days for which a token is valid.
        token_expire_days: i64 = 90,
        /// 0 nobody is kicked, 1 one device per platform, 4 one per class of platforms,
        /// 5 any PCs and one other device.
        multi_login_policy: i32 = 1,
        /// Tokens per platform under policy 0.
        max_tokens_per_platform: usize = 30,
    }
    /// The rules of chatting.
    chat: Chat {
        /// Only friends may write to each other.
        friend_verify: bool = false,
        /// Every user may list and search all accounts, and count them, as with OpenIM; otherwise
        /// only app admins. Who knows an ID can look up its profile either way.
        open_directory: bool = false,
        /// New members of a group see what was said before they came.
        history_for_new_members: bool = true,
        /// Largest message in bytes.
        message_max_bytes: usize = 60 * 1024,
        /// Hours within which a message sent again with the same clientMsgID is recognised.
        dedupe_hours: i64 = 24,
        /// Days after which messages are removed; 0 keeps them.
        retain_days: i64 = 0,
    }
    /// Federation with the nodes of other organisations.
    federation: FederationSection {
        /// Domain of this node, such as im.example.org; its users are user@domain to others.
        /// Empty: the node does not federate. It cannot be changed later.
        domain: String = String::new(),
        /// UDP address and port on which other nodes reach it.
        listen: String = "0.0.0.0:10003".into(),
        /// Where others reach it, as multiaddrs such as /dns/im.example.org/udp/10003/quic-v1.
        /// Empty: the address it listens on.
        addresses: Vec<String> = Vec::new(),
        /// Nodes that pass on what comes for this one, if nobody can reach it: multiaddrs with peer
        /// IDs, such as /ip4/192.0.2.1/udp/10003/quic-v1/p2p/12D3….
        relays: Vec<String> = Vec::new(),
        /// Peer IDs of the nodes for which this one does the same.
        relay_for: Vec<String> = Vec::new(),
        /// With whom it federates: open (everybody who is not denied) or closed (only allowed ones).
        policy: Openness = Openness::Open,
        /// Domains that may federate with a closed node.
        allow: Vec<String> = Vec::new(),
        /// Domains that may not federate with it.
        deny: Vec<String> = Vec::new(),
        /// Domains of which a closed node takes something, although it sends nothing there.
        allow_incoming: Vec<String> = Vec::new(),
        /// Domains of which it takes nothing, although it sends there.
        deny_incoming: Vec<String> = Vec::new(),
        /// Domains to which a closed node sends, although it takes nothing of them.
        allow_outgoing: Vec<String> = Vec::new(),
        /// Domains to which it sends nothing, although it takes what they send.
        deny_outgoing: Vec<String> = Vec::new(),
        /// Users of other nodes may only write to their friends, and to who has written to them.
        consent: bool = false,
        /// Days after which messages and friend requests that another node could not be given are
        /// given up, and their senders told; 0: never.
        expire_days: u32 = 30,
        /// Believe the first node that speaks for a domain of which nothing is known; for testnets.
        trust_first_use: bool = false,
        /// Authorities, in PEM, that may vouch for the HTTPS of other domains; empty: the system's.
        ca: PathBuf = PathBuf::new(),
        /// Events of one other node that are applied in a second; the others wait. Of 400, one
        /// may be refused.
        events_per_second: u32 = 20_000,
        /// Bytes of events of one other node in a second.
        event_bytes_per_second: u32 = 33_554_432,
        /// Events in a second that are applied of one user of another node, or of one group there;
        /// beyond, that node waits.
        events_per_second_each: u32 = 5_000,
        /// Bytes of events in a second of one user of another node, or of one group there.
        event_bytes_per_second_each: u32 = 16_777_216,
        /// Requests of one other node that are answered in a second; the others are refused.
        requests_per_second: u32 = 1_000,
        /// Content of other nodes that is kept, in MiB; the oldest goes first.
        media_cache_mib: u64 = 10_240,
    }
    /// The database.
    store: StoreSection {
        /// Memory for caching pages, in MiB.
        cache_mib: u64 = 64,
        /// Free disk space in MiB below which nothing more is accepted.
        reserve_mib: u64 = 64,
    }
    /// Pictures, files and other objects.
    object: ObjectSection {
        /// Largest object in MiB.
        max_mib: u64 = 1_024,
        /// Days for which a link to an object works.
        url_days: i64 = 7,
    }
    /// The log, written to standard error.
    log: Log {
        /// error, warn, info, debug or trace; also per module: `info,client_api=debug`.
        level: String = "info".into(),
        /// text or json.
        format: String = "text".into(),
    }
}

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
        Budget {
            events: self.events_per_second,
            bytes: self.event_bytes_per_second,
            requests: self.requests_per_second,
            events_each: self.events_per_second_each,
            bytes_each: self.event_bytes_per_second_each,
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

/// How one notification is delivered; what is left out keeps its default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Notification {
    /// It also appears in the chat.
    pub(crate) is_send_msg: Option<bool>,
    /// Users who are offline get it by push.
    pub(crate) offline_push: Option<bool>,
    /// Title of the push.
    pub(crate) title: Option<String>,
    /// Text of the push.
    pub(crate) desc: Option<String>,
    /// Extension of the push.
    pub(crate) ext: Option<String>,
}

impl Config {
    /// The configuration in `text`, environment variables (looked up by `variable`) over it.
    pub(crate) fn read(
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let mut table: Table = toml::from_str(text)?;
        let defaults = Table::try_from(Self::default())?;
        for section in SECTIONS {
            for key in section.keys {
                let name = variable_name(section.name, key.name);
                let Some(given) = variable(&name) else { continue };
                let default = defaults.get(section.name).and_then(|s| s.get(key.name));
                let value = typed(&given, default).with_context(|| format!("variable {name}"))?;
                let entry = table.entry(section.name).or_insert_with(|| Table::new().into());
                let Some(entry) = entry.as_table_mut() else {
                    bail!("{} must be a section", section.name);
                };
                entry.insert(key.name.into(), value);
            }
        }
        let config: Self = table.try_into()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        self.federation.domain()?;
        self.federation.policies()?;
        client_api::Proxies::at(&self.api.trusted_proxies).context("api.trusted_proxies")?;
        if self.api.idle_seconds == 0 {
            bail!("api.idle_seconds must be at least 1");
        }
        if ![0, 1, 4, 5].contains(&self.auth.multi_login_policy) {
            bail!("auth.multi_login_policy must be 0, 1, 4 or 5");
        }
        if self.auth.admin_users.is_empty() {
            bail!("auth.admin_users must name at least one user");
        }
        if self.auth.token_expire_days <= 0 {
            bail!("auth.token_expire_days must be at least 1");
        }
        if !(1..=60 * 1024).contains(&self.chat.message_max_bytes) {
            bail!("chat.message_max_bytes must be at most 61440");
        }
        for (section, certificate, key) in [
            ("api", &self.api.tls_certificate, &self.api.tls_key),
            ("ws", &self.ws.tls_certificate, &self.ws.tls_key),
        ] {
            if certificate.as_os_str().is_empty() != key.as_os_str().is_empty() {
                bail!("{section}.tls_certificate and {section}.tls_key belong together");
            }
        }
        if !["text", "json"].contains(&self.log.format.as_str()) {
            bail!("log.format must be text or json");
        }
        for name in self.notification.keys() {
            if !NOTIFICATIONS.iter().any(|known| known.1 == name) {
                bail!("there is no notification named {name}");
            }
        }
        Ok(())
    }

    /// The delivery of every notification.
    pub(crate) fn notifications(&self) -> BTreeMap<i32, NotificationSetting> {
        let mut settings = default_notifications();
        for (number, name, ..) in NOTIFICATIONS {
            let (Some(given), Some(setting)) =
                (self.notification.get(*name), settings.get_mut(number))
            else {
                continue;
            };
            let given = given.clone();
            setting.is_send_msg = given.is_send_msg.unwrap_or(setting.is_send_msg);
            setting.offline_push = given.offline_push.unwrap_or(setting.offline_push);
            for (text, slot) in [
                (given.title, &mut setting.title),
                (given.desc, &mut setting.desc),
                (given.ext, &mut setting.ext),
            ] {
                if let Some(text) = text {
                    *slot = text;
                }
            }
        }
        settings
    }
}

/// Name of the environment variable for a key.
pub(crate) fn variable_name(section: &str, key: &str) -> String {
    format!("ENTENTE_{}_{}", section.to_uppercase(), key.to_uppercase())
}

/// A value of the same type as the default.
fn typed(given: &str, default: Option<&Value>) -> anyhow::Result<Value> {
    Ok(match default {
        Some(Value::Integer(_)) => Value::Integer(given.parse().context("must be a number")?),
        Some(Value::Boolean(_)) => Value::Boolean(given.parse().context("must be true or false")?),
        Some(Value::Array(_)) => {
            let parts = given.split(',').map(str::trim).filter(|part| !part.is_empty());
            Value::Array(parts.map(Value::from).collect())
        }
        _ => Value::String(given.to_owned()),
    })
}

/// A commented configuration file with all defaults.
pub(crate) fn example() -> anyhow::Result<String> {
    let defaults = Table::try_from(Config::default())?;
    let mut text = String::from(
        "# Configuration of an Entente node. Every key may be left out; what is shown is the\n\
         # default. The environment variable ENTENTE_<SECTION>_<KEY> overrides a key.\n",
    );
    for section in SECTIONS {
        text.push('\n');
        for line in section.doc {
            text.push_str(&format!("#{line}\n"));
        }
        text.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            for line in key.doc {
                text.push_str(&format!("#{line}\n"));
            }
            let value = defaults.get(section.name).and_then(|s| s.get(key.name));
            let value = value.map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("# {} = {value}\n", key.name));
        }
    }
    text.push_str(
        "\n# How a notification is delivered, for example that quitting a group is not told in the\n\
         # chat; docs/operations.md lists the names.\n\
         # [notification.member_quit]\n# is_send_msg = false\n",
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference in `docs/operations.md`.
    fn reference() -> String {
        let defaults = Table::try_from(Config::default()).expect("a table");
        let mut text = String::new();
        for section in SECTIONS {
            let about = section.doc.join("");
            text.push_str(&format!("\n### `[{}]`\n\n{}\n\n", section.name, about.trim()));
            text.push_str("| key | default | variable | |\n|---|---|---|---|\n");
            for key in section.keys {
                let value = defaults[section.name][key.name].to_string();
                let (variable, about) = (variable_name(section.name, key.name), key.doc.join(""));
                let about = about.trim();
                text.push_str(&format!(
                    "| `{}` | `{value}` | `{variable}` | {about} |\n",
                    key.name
                ));
            }
        }
        text.push_str(
            "\n### `[notification.NAME]`\n\nHow a notification is delivered: `is_send_msg` (it also \
             appears in the chat), `offline_push`, `title`, `desc` and `ext` of the push.\n\n\
             | name | content type | in the chat | offline push |\n|---|---|---|---|\n",
        );
        for (number, name, chat, push, _) in NOTIFICATIONS {
            text.push_str(&format!("| `{name}` | {number} | {chat} | {push} |\n"));
        }
        text
    }

    /// With UPDATE_DOCS set it writes the reference instead.
    #[test]
    fn the_reference_in_the_docs_is_current() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let page = std::fs::read_to_string(file).expect("reads");
        let (start, end) = ("<!-- generated: configuration -->\n", "<!-- end -->");
        let (before, rest) = page.split_once(start).expect("start mark");
        let (_, after) = rest.split_once(end).expect("end mark");
        let current = format!("{before}{start}{}\n{end}{after}", reference());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(file, &current).expect("writes");
        } else {
            assert!(page == current, "stale: run UPDATE_DOCS=1 cargo test --workspace");
        }
    }

    #[test]
    fn the_example_is_the_default() {
        let text = example().expect("example");
        assert_eq!(Config::read(&text, |_| None).expect("reads"), Config::default());
        let uncommented: String = text
            .lines()
            .filter(|line| line.starts_with('[') || line.contains(" = "))
            .filter(|line| !line.contains("is_send_msg"))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        assert_eq!(Config::read(&uncommented, |_| None).expect("reads"), Config::default());
    }

    #[test]
    fn variables_override_the_file() {
        let read = |name: &str| match name {
            "ENTENTE_API_LISTEN" => Some("127.0.0.1:1".to_owned()),
            "ENTENTE_API_GZIP" => Some("false".into()),
            "ENTENTE_AUTH_ADMIN_USERS" => Some("a, b".into()),
            "ENTENTE_STORE_CACHE_MIB" => Some("7".into()),
            _ => None,
        };
        let config = Config::read("[api]\nlisten = \"0.0.0.0:2\"\n", read).expect("reads");
        assert_eq!(config.api.listen, "127.0.0.1:1");
        assert!(!config.api.gzip);
        assert_eq!(config.auth.admin_users, ["a", "b"]);
        assert_eq!(config.store.cache_mib, 7);
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "[api]\nlisen = \"x\"\n",
            "[auth]\nmulti_login_policy = 2\n",
            "[api]\ntrusted_proxies = [\"localhost\"]\n",
            "[api]\nidle_seconds = 0\n",
            "[ws]\ntls_key = \"k\"\n",
            "[notification.no_such]\nis_send_msg = true\n",
            "[log]\nformat = \"xml\"\n",
        ] {
            assert!(Config::read(text, |_| None).is_err(), "{text}");
        }
        let bad = |name: &str| (name == "ENTENTE_API_GZIP").then(|| "maybe".to_owned());
        assert!(Config::read("", bad).is_err());
    }
}
