//! Where a request came from: the one place that says so, for logs and limits of both ports.
//!
//! A proxy in front of the node tells in `X-Forwarded-For`, `X-Forwarded-Proto` and
//! `X-Forwarded-Host` what it took from the client. They count if the connection comes from an address
//! that the operator trusts, else anybody could write them. The header `Forwarded` never counts: a proxy
//! that writes the others passes that one on as the client wrote it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Request, header};
use ipnet::IpNet;

/// Address of the client that sent a request; every request of both ports has it as an extension. An
/// IPv4 address never stands in the form of an IPv6 one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// What counts as one client where clients are counted: an IPv4 address, or the 64 bits that an IPv6
/// network has.
pub fn block(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Marks a request that left the client over TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OverTls;

/// Proxies whose word about their clients counts.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<[IpNet]>);

/// What is neither an address nor a network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither an IP address nor a network such as 192.0.2.0/24")]
pub struct NoNetwork(String);

impl Proxies {
    /// Proxies at these addresses (`192.0.2.1`) and in these networks (`2001:db8::/32`).
    pub fn at<T: AsRef<str>>(networks: &[T]) -> Result<Self, NoNetwork> {
        let network = |text: &T| {
            let text = text.as_ref();
            let alone = || text.parse::<IpAddr>().map(|one| IpNet::from(one.to_canonical()));
            text.parse().or_else(|_| alone()).map_err(|_| NoNetwork(text.to_owned()))
        };
        Ok(Self(networks.iter().map(network).collect::<Result<_, _>>()?))
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Notes on a request that came from `peer` who its client is, and by which scheme and host it
    /// reached the proxy.
    pub(crate) fn note<B>(&self, request: &mut Request<B>, peer: SocketAddr, tls: bool) {
        let (mut client, mut tls) = (peer.ip().to_canonical(), tls);
        if self.trust(client) {
            let headers = request.headers();
            client = self.forwarded_for(headers, client);
            if let Some(scheme) = first(headers, "x-forwarded-proto") {
                tls = ["https", "wss"].iter().any(|secure| scheme.eq_ignore_ascii_case(secure));
            }
            let host = first(headers, "x-forwarded-host");
            if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        request.extensions_mut().insert(ClientAddress(client));
        if tls {
            request.extensions_mut().insert(OverTls);
        }
    }

    /// The last address that no trusted proxy has. What stands before it, the client may have
    /// written itself.
    fn forwarded_for(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let lines: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .map(|line| line.to_str().unwrap_or_default())
            .collect();
        let mut client = peer;
        for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = address(hop.trim()) else { break };
            client = address;
            if !self.trust(client) {
                break;
            }
        }
        client
    }
}

/// The first value of a list: what the proxy nearest to the client says.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// An address, with a port or without.
fn address(hop: &str) -> Option<IpAddr> {
    let plain = || hop.trim_matches(['[', ']']).parse();
    let with_port = |_| hop.parse::<SocketAddr>().map(|socket| socket.ip());
    plain().or_else(with_port).ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who the client is, whether it speaks TLS, and the host it asked.
    fn noted(peer: &str, headers: &[(&'static str, &str)]) -> (String, bool, String) {
        let proxies = Proxies::at(&["127.0.0.0/8", "::1", "10.1.0.0/16"]).expect("networks");
        let mut request = Request::new(());
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("inside"));
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let peer: IpAddr = peer.parse().expect("an address");
        proxies.note(&mut request, SocketAddr::new(peer, 4_000), false);
        let found = request.extensions();
        let client = found.get::<ClientAddress>().expect("every request has one").0;
        let host = request.headers()[header::HOST].to_str().expect("text").to_owned();
        (client.to_string(), found.get::<OverTls>().is_some(), host)
    }

    fn client(peer: &str, hops: &[&str]) -> String {
        let headers: Vec<_> = hops.iter().map(|hops| ("x-forwarded-for", *hops)).collect();
        noted(peer, &headers).0
    }

    #[test]
    fn a_trusted_proxy_says_who_the_client_is() {
        for (peer, hops, expected) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("::1", &["2001:db8::7"], "2001:db8::7"),
            ("::ffff:127.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["192.0.2.7:1234"], "192.0.2.7"),
            ("127.0.0.1", &["[2001:db8::7]:1234"], "2001:db8::7"),
            ("127.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            // Through a second proxy.
            ("127.0.0.1", &["192.0.2.7, 10.1.2.3"], "192.0.2.7"),
            ("127.0.0.1", &["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
            // The client wrote something itself.
            ("127.0.0.1", &["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
            ("127.0.0.1", &["203.0.113.9", "192.0.2.7, 10.1.2.3"], "192.0.2.7"),
            ("127.0.0.1", &["unknown"], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9, unknown, 10.1.2.3"], "10.1.2.3"),
        ] {
            assert_eq!(client(peer, hops), expected, "{peer} {hops:?}");
        }
    }

    #[test]
    fn nobody_else_does() {
        let headers = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ];
        let expected = ("192.0.2.7".to_owned(), false, "inside".to_owned());
        assert_eq!(noted("192.0.2.7", &headers), expected);
        assert_eq!(client("127.0.0.1", &[]), noted("127.0.0.1", &[("forwarded", "for=::7")]).0);
    }

    #[test]
    fn a_trusted_proxy_says_how_the_client_reached_it() {
        let headers = [("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "im.example.org:8443")];
        let expected = ("::1".to_owned(), true, "im.example.org:8443".to_owned());
        assert_eq!(noted("::1", &headers), expected);
        assert!(!noted("::1", &[("x-forwarded-proto", "http, https")]).1);
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in ["localhost", "10.0.0.0/33", "", "10.0.0.1:80"] {
            let error = Proxies::at(&[text]).expect_err("refused").to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
