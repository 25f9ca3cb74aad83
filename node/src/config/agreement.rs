//! What the values of a configuration must be to each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, ToSocketAddrs as _};

use super::Config;
use super::origin::Origin;
use super::problem::Problems;
use super::read::Checks;

/// Where each value comes from, by section and key.
pub(super) type Origins = BTreeMap<(&'static str, &'static str), Origin>;

/// Keys whose value is wrong by itself.
pub(super) type Wrong = BTreeSet<(&'static str, &'static str)>;

/// Where one value comes from.
pub(super) fn origin(origins: &Origins, section: &'static str, key: &'static str) -> Origin {
    origins.get(&(section, key)).cloned().unwrap_or(Origin::Default)
}

/// Notes what does not fit together.
pub(super) fn check(
    config: &Config,
    origins: &Origins,
    wrong: &Wrong,
    checks: Checks,
    problems: &mut Problems,
) {
    check_tls(config, origins, wrong, checks, problems);
    let (users, names) = (&config.auth.admin_users, &config.auth.admin_nicknames);
    if names.len() > users.len() && !wrong.contains(&("auth", "admin_users")) {
        let what = format!("{} names for {} users", names.len(), users.len());
        let from = origin(origins, "auth", "admin_nicknames");
        problems.note("auth.admin_nicknames", None, what, &from);
    }
    let known = !wrong.contains(&("api", "listen")) && !wrong.contains(&("ws", "listen"));
    if checks == Checks::All && known && collide(&config.api.listen, &config.ws.listen) {
        let from = origin(origins, "ws", "listen");
        let value = config.ws.listen.clone().into();
        let what = format!("api.listen = {:?} has the same port", config.api.listen);
        problems.note("ws.listen", Some(&value), what, &from);
    }
}

fn check_tls(
    config: &Config,
    origins: &Origins,
    wrong: &Wrong,
    checks: Checks,
    problems: &mut Problems,
) {
    for (section, certificate, key) in [
        ("api", &config.api.tls_certificate, &config.api.tls_key),
        ("ws", &config.ws.tls_certificate, &config.ws.tls_key),
    ] {
        if ["tls_certificate", "tls_key"].iter().any(|key| wrong.contains(&(section, key))) {
            continue;
        }
        let without = |given, missing| {
            let what = format!("{section}.{missing} is missing; the two belong together");
            (format!("{section}.{given}"), what, origin(origins, section, given))
        };
        let (name, what, from) =
            match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
                (true, true) => continue,
                (false, true) => without("tls_certificate", "tls_key"),
                (true, false) => without("tls_key", "tls_certificate"),
                (false, false) if checks == Checks::Values => continue,
                (false, false) => match client_api::Certificate::read(certificate, key) {
                    Ok(_) => continue,
                    Err(error) => {
                        let from = origin(origins, section, "tls_key");
                        (format!("{section}.tls_key"), error.to_string(), from)
                    }
                },
            };
        problems.note(name, None, what, &from);
    }
}

/// Whether two addresses cannot both be listened on.
fn collide(one: &str, other: &str) -> bool {
    let resolved = |text: &str| -> Vec<SocketAddr> {
        text.to_socket_addrs().map(Iterator::collect).unwrap_or_default()
    };
    let others = resolved(other);
    resolved(one).iter().any(|one| {
        others.iter().any(|other| {
            let same_ip = one.ip() == other.ip()
                || one.is_ipv4() == other.is_ipv4()
                    && (one.ip().is_unspecified() || other.ip().is_unspecified());
            one.port() == other.port() && one.port() != 0 && same_ip
        })
    })
}
