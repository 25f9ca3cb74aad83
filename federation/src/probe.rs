//! Whether anybody answers QUIC at an address, found out without libp2p.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::FederationError;

/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What libp2p calls its protocol in TLS.
const LIBP2P: &[u8] = b"libp2p";

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Somebody speaks QUIC there.
    Quic,
    /// Nothing came back: nobody listens, or UDP does not pass.
    Nothing,
    /// The address cannot be sent to.
    Unreachable(String),
}

/// The host, a name or an IP address, and the UDP port to which a multiaddr leads, or the relay on
/// the way; `None` if it is none of QUIC over UDP.
pub fn host_and_port(address: &str) -> Option<(String, u16)> {
    let address: Multiaddr = address.parse().ok()?;
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => ip.to_string(),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => name.into_owned(),
        _ => return None,
    };
    match (parts.next()?, parts.next()?) {
        (Protocol::Udp(port), Protocol::QuicV1) => Some((host, port)),
        _ => None,
    }
}

/// Takes whoever answers: the probe only asks whether somebody does.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Sends a QUIC handshake to `address` and sees whether anything comes back.
pub async fn quic(address: SocketAddr) -> Result<Answer, FederationError> {
    let failed =
        |error: String| FederationError::Address { address: address.to_string(), reason: error };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![LIBP2P.to_vec()];
    let quic = QuicClientConfig::try_from(tls).map_err(|error| failed(error.to_string()))?;
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let endpoint = Endpoint::client(any)?;
    let connecting =
        match endpoint.connect_with(ClientConfig::new(Arc::new(quic)), address, "entente") {
            Ok(connecting) => connecting,
            Err(error) => return Ok(Answer::Unreachable(error.to_string())),
        };
    Ok(match tokio::time::timeout(PATIENCE, connecting).await {
        Err(_) | Ok(Err(ConnectionError::TimedOut)) => Answer::Nothing,
        // Whatever it says: it says something.
        Ok(_) => Answer::Quic,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::transport::{Endpoint, Quic};

    #[tokio::test]
    async fn a_node_answers_and_a_silent_port_does_not() {
        let (links, _incoming) = tokio::sync::mpsc::channel(1);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stop = tokio_util::sync::CancellationToken::new();
        let identity = Identity::new([3; 32], 0);
        let node = Quic::start(&identity, Endpoint::on(listen), links, stop.clone())
            .await
            .expect("listens");
        let (_, port) = host_and_port(&node.addresses()[0]).expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(quic(address).await.expect("asked"), Answer::Quic);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = silent.local_addr().expect("an address");
        assert_eq!(quic(address).await.expect("asked"), Answer::Nothing);
        stop.cancel();
    }

    #[test]
    fn where_a_multiaddr_leads() {
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(host_and_port("/ip4/192.0.2.7/udp/10008/quic-v1"), at("192.0.2.7", 10_008));
        assert_eq!(host_and_port("/ip6/2001:db8::1/udp/7/quic-v1"), at("2001:db8::1", 7));
        let relayed = format!("/dns4/relay.example/udp/7/quic-v1/p2p/{RELAY}/p2p-circuit");
        assert_eq!(host_and_port(&relayed), at("relay.example", 7));
        for other in ["/ip4/192.0.2.7/tcp/7", "/ip4/192.0.2.7/udp/7", "relay.example:7", "/"] {
            assert_eq!(host_and_port(other), None, "{other}");
        }
    }

    const RELAY: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";
}
