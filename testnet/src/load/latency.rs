//! Latencies and their percentiles.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::marker::Marker;
use crate::Result;

/// Largest latency told apart, in microseconds.
const MOST_MICROS: u64 = 600_000_000;

/// One latency, and when it was seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Milliseconds of the generator's clock.
    pub(crate) at_ms: u32,
    /// Length in microseconds.
    pub(crate) micros: u32,
    /// The message that took so long: sender and number.
    pub(crate) message: (u32, u32),
}

impl Sample {
    /// From when a message was due until `now`, in nanoseconds of the generator's clock.
    pub(crate) fn new(marker: Marker, now: u64) -> Self {
        let micros = now.saturating_sub(marker.due) / 1_000;
        Self {
            message: (marker.sender, marker.number),
            at_ms: u32::try_from(now / 1_000_000).unwrap_or(u32::MAX),
            micros: u32::try_from(micros).unwrap_or(u32::MAX),
        }
    }
}

/// Percentiles of many latencies, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Percentiles {
    /// From what to what.
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
    /// Percentile and latency, for the plot.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Percentiles {
    pub(crate) fn new(name: &str, micros: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, MOST_MICROS, 3)?;
        for value in micros {
            histogram.saturating_record(value.into());
        }
        let ms = |micros: u64| micros as f64 / 1_000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        // Ever nearer to 100 %, as far as there are samples for it.
        let mut curve = Vec::new();
        let mut rest = 1.0;
        while rest * histogram.len() as f64 >= 1.0 {
            curve.push(((1.0 - rest) * 100.0, at(1.0 - rest)));
            rest *= 0.8;
        }
        Ok(Self {
            name: name.to_owned(),
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
            curve,
        })
    }
}
