//! Where a scenario plays.

use indicatif::{ProgressBar, ProgressStyle};

use super::options::Options;
use super::target::Target;

/// What every scenario works with.
pub(crate) struct Stage<'a> {
    pub(crate) target: &'a Target,
    pub(crate) options: &'a Options,
    pub(crate) progress: &'a ProgressBar,
}

impl Stage<'_> {
    /// Says what is going on.
    pub(crate) fn says(&self, what: &'static str) {
        self.progress.set_message(what);
    }
}

/// A progress bar with the name of a scenario.
pub(crate) fn progress(name: &str) -> ProgressBar {
    let progress = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}") {
        progress.set_style(style);
    }
    progress.set_prefix(name.to_owned());
    progress
}
