//! SIGHUP: certificates and the log level are read again, while everybody stays connected.

use std::path::PathBuf;

use anyhow::Context as _;
use client_api::{Certificate, Tls};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{Data, Listen};
use crate::config::{Checks, Config};
use crate::data_folder::DataFolder;
use crate::logging::Logging;

/// What can be changed while the node serves, and what it takes to read it.
pub(crate) struct Reload {
    pub(crate) folder: DataFolder,
    pub(crate) data: Data,
    pub(crate) listen: Listen,
    pub(crate) logging: Logging,
    /// The configuration with which the node has started.
    pub(crate) started: Config,
    /// TLS of the REST API, if it speaks it.
    pub(crate) api: Option<Tls>,
    /// TLS of the gateway, if it speaks it.
    pub(crate) ws: Option<Tls>,
}

/// Hangups; from the call on they do not end the node.
pub(crate) fn hangups() -> anyhow::Result<Signal> {
    Ok(signal(SignalKind::hangup())?)
}

impl Reload {
    /// Reads again at every hangup, until `stop`.
    pub(crate) async fn run(self, mut hangups: Signal, stop: CancellationToken) {
        while stop.run_until_cancelled(hangups.recv()).await.flatten().is_some() {
            match tokio::task::block_in_place(|| self.once()) {
                Ok(later) if later.is_empty() => {
                    tracing::info!("read again: certificates and log level");
                }
                Ok(later) => {
                    let later = later.join(", ");
                    tracing::info!(later, "read again; what is changed of the rest comes later");
                }
                Err(error) => {
                    let error = format!("{error:#}").replace('\n', ";");
                    tracing::error!(error, "nothing is changed");
                }
            }
        }
    }

    /// Puts in force what can be; all of it or nothing. Returns the keys that are changed and wait
    /// for the next start.
    fn once(&self) -> anyhow::Result<Vec<String>> {
        let options = self.listen.given();
        let config = self.folder.config(self.data.config.as_deref(), &options, Checks::All)?;
        let read = |tls: &Option<Tls>, certificate: &PathBuf, key: &PathBuf| {
            // Whether there is TLS at all is settled at the start.
            match (tls, certificate.as_os_str().is_empty()) {
                (Some(tls), false) => {
                    Certificate::read(certificate, key).map(|read| Some((tls.clone(), read)))
                }
                _ => Ok(None),
            }
        };
        let api = read(&self.api, &config.api.tls_certificate, &config.api.tls_key)?;
        let ws = read(&self.ws, &config.ws.tls_certificate, &config.ws.tls_key)?;
        self.logging.set_level(&config.log.level).context("log.level")?;
        for (tls, certificate) in [api, ws].into_iter().flatten() {
            tls.renew(certificate);
        }
        let mut now = config;
        now.log.level.clone_from(&self.started.log.level);
        for (tls, certificate, key, started) in [
            (&self.api, &mut now.api.tls_certificate, &mut now.api.tls_key, {
                (&self.started.api.tls_certificate, &self.started.api.tls_key)
            }),
            (&self.ws, &mut now.ws.tls_certificate, &mut now.ws.tls_key, {
                (&self.started.ws.tls_certificate, &self.started.ws.tls_key)
            }),
        ] {
            if tls.is_some() && !certificate.as_os_str().is_empty() {
                certificate.clone_from(started.0);
                key.clone_from(started.1);
            }
        }
        self.started.differences(&now)
    }
}
