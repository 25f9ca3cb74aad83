//! TLS of a port: its certificate, which may be changed while it serves.

use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}: {reason}")]
pub struct TlsError {
    what: &'static str,
    path: String,
    reason: String,
}

impl TlsError {
    fn new(what: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self { what, path: path.display().to_string(), reason: reason.to_string() }
    }

    /// What is wrong, without the file.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// The certificates in a PEM file, at least one.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::new("certificate", file, reason);
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".into()));
    }
    Ok(certificates)
}

/// A certificate chain and its key, ready for use.
#[derive(Debug, Clone)]
pub struct Certificate(Arc<ServerConfig>);

impl Certificate {
    /// Reads a certificate chain and its key from PEM files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(certificate)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError::new("private key", key, error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("certificate", certificate, error))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    let reason = format!("it does not belong to {}", certificate.display());
                    TlsError::new("private key", key, reason)
                }
                error => TlsError::new("certificate", certificate, error),
            })?;
        Ok(Self(Arc::new(config)))
    }
}

/// TLS of a port.
#[derive(Debug, Clone)]
pub struct Tls(Arc<RwLock<Certificate>>);

impl Tls {
    /// TLS with a certificate.
    pub fn new(certificate: Certificate) -> Self {
        Self(Arc::new(RwLock::new(certificate)))
    }

    /// Another certificate from the next connection on.
    pub fn renew(&self, certificate: Certificate) {
        *self.0.write() = certificate;
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.read().0))
    }
}
