//! Whether anybody answers QUIC at an address, found out without libp2p.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
        let port = node.addresses()[0].split('/').nth(4).and_then(|port| port.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        assert_eq!(quic(address).await.expect("asked"), Answer::Quic);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = silent.local_addr().expect("an address");
        assert_eq!(quic(address).await.expect("asked"), Answer::Nothing);
        stop.cancel();
    }
}
