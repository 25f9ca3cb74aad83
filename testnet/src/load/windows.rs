//! Latencies by time: one histogram for each window of a long run.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::Result;

/// Longest latency told apart, in microseconds.
const MOST_MICROS: u64 = 60_000_000;

/// What one window saw.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    /// In milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The histogram of the window that is open, and that of the phase it is part of.
pub(crate) struct Windows {
    open: Mutex<Histogram<u64>>,
    phase: Mutex<Histogram<u64>>,
}

impl Windows {
    pub(crate) fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, MOST_MICROS, 3).map(Mutex::new);
        Ok(Self { open: histogram()?, phase: histogram()? })
    }

    /// Notes one latency.
    pub(crate) fn note(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.open.lock().saturating_record(micros);
        self.phase.lock().saturating_record(micros);
    }

    /// Ends the window and opens the next.
    pub(crate) fn turn(&self) -> Window {
        taken(&mut self.open.lock())
    }

    /// Ends the phase and opens the next.
    pub(crate) fn end_of_phase(&self) -> Window {
        taken(&mut self.phase.lock())
    }
}

fn taken(histogram: &mut Histogram<u64>) -> Window {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let window = Window { p50: at(0.5), p99: at(0.99), max: histogram.max() as f64 / 1_000.0 };
    histogram.reset();
    window
}

/// The middle one.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
