//! Fetching the node documents of other domains over HTTPS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use federation::trust::Fetch;
use federation::{Domain, FederationError, document};
use prost::Message as _;
use proto::federation::SignedDocument;
use reqwest::{Certificate, Client, ClientBuilder};

/// Time for a document to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fetches from `https://DOMAIN/.well-known/entente`, trusting the authorities of the system, or
/// those in the PEM file `ca`.
///
/// A system without authorities, such as an empty container, does without the documents of others.
pub(crate) fn https(ca: &Path) -> anyhow::Result<Fetch> {
    let builder = client(ca)?;
    if !ca.as_os_str().is_empty() {
        return fetcher(builder);
    }
    fetcher(builder).or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "no documents over HTTPS: set federation.ca");
        Ok(without(format!("{error:#}; federation.ca may name authorities")))
    })
}

/// Fetches nothing, for a reason.
fn without(reason: String) -> Fetch {
    Arc::new(move |domain| {
        let reason = reason.clone();
        Box::pin(async move { Err(FederationError::Document { domain, reason }) })
    })
}

fn client(ca: &Path) -> anyhow::Result<ClientBuilder> {
    let builder = Client::builder()
        .https_only(true)
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("entente");
    if ca.as_os_str().is_empty() {
        return Ok(builder);
    }
    let pem = std::fs::read(ca).with_context(|| format!("cannot read {}", ca.display()))?;
    let authorities = Certificate::from_pem_bundle(&pem).context("federation.ca")?;
    Ok(builder.tls_certs_only(authorities))
}

fn fetcher(builder: ClientBuilder) -> anyhow::Result<Fetch> {
    let client = builder.build()?;
    Ok(Arc::new(move |domain| {
        let client = client.clone();
        Box::pin(async move { fetch(&client, &domain).await })
    }))
}

async fn fetch(client: &Client, domain: &Domain) -> Result<SignedDocument, FederationError> {
    let failed = |reason: String| FederationError::Document { domain: domain.clone(), reason };
    let unreachable = |error: reqwest::Error| failed(format!("it cannot be fetched: {error}"));
    let url = format!("https://{domain}/.well-known/entente");
    let answer = client.get(url).send().await.map_err(unreachable)?;
    let mut answer = answer.error_for_status().map_err(unreachable)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > document::MAX_BYTES {
            return Err(failed("it is too large".into()));
        }
        bytes.extend_from_slice(&chunk);
    }
    SignedDocument::decode(bytes.as_slice()).map_err(|error| failed(error.to_string()))
}

/// As [`https`], with one domain at a given address.
#[cfg(test)]
fn https_at(ca: &Path, domain: &str, address: std::net::SocketAddr) -> anyhow::Result<Fetch> {
    fetcher(client(ca)?.resolve(domain, address))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// Serves `body` once over TLS; returns the certificate in PEM and the address.
    fn serve_once(body: Vec<u8>) -> anyhow::Result<(String, SocketAddr)> {
        let CertifiedKey { cert, key_pair } =
            generate_simple_self_signed(["beta.example".to_owned()])?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key_pair.serialize_der()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            let Ok((socket, _)) = listener.accept() else { return };
            let Ok(session) = ServerConnection::new(Arc::new(config)) else { return };
            let mut stream = StreamOwned::new(session, socket);
            let _ = stream.read(&mut [0; 4_096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
            let _ = stream.flush();
        });
        Ok((cert.pem(), address))
    }

    async fn fetched(body: Vec<u8>, trusted: bool) -> anyhow::Result<SignedDocument> {
        let (mut pem, address) = serve_once(body)?;
        if !trusted {
            pem = generate_simple_self_signed(["other.example".to_owned()])?.cert.pem();
        }
        let folder = tempfile::tempdir()?;
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, pem)?;
        let fetch = https_at(&ca, "beta.example", address)?;
        Ok(fetch("beta.example".parse()?).await?)
    }

    #[tokio::test]
    async fn a_document_comes_from_the_domain_itself_or_not_at_all() {
        let document = SignedDocument { document: b"it".as_slice().into(), signatures: vec![] };
        let encoded = document.encode_to_vec();
        assert_eq!(fetched(encoded.clone(), true).await.expect("comes"), document);
        assert!(fetched(encoded, false).await.is_err(), "an unknown authority");
        assert!(fetched(vec![0xff; 100], true).await.is_err(), "no document");
        assert!(fetched(vec![0; document::MAX_BYTES + 1], true).await.is_err(), "too large");
    }
}
