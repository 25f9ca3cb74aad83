//! The log.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::Log;
use crate::refusals::Refusals;

/// The log of a node.
#[derive(Clone)]
pub(crate) struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What was refused lately.
    pub(crate) refusals: Refusals,
}

impl Logging {
    /// Starts logging to standard error.
    pub(crate) fn start(log: &Log) -> anyhow::Result<Self> {
        let refusals = Refusals::default();
        let (level, filter) = reload::Layer::new(EnvFilter::try_new(&log.level)?);
        let registry = tracing_subscriber::registry().with(level).with(refusals.clone());
        // It would complain on standard error that standard error is closed.
        let lines = fmt::layer().with_writer(stderr).log_internal_errors(false);
        if log.format == "json" {
            registry.with(lines.json()).init();
        } else {
            registry.with(lines.with_ansi(stderr().is_terminal())).init();
        }
        Ok(Self { filter, refusals })
    }

    /// Logs what another `log.level` says from now on.
    pub(crate) fn set_level(&self, level: &str) -> anyhow::Result<()> {
        Ok(self.filter.reload(EnvFilter::try_new(level)?)?)
    }
}
