//! Results: as a table, as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::latency::Percentiles;
use super::target::Target;
use super::usage::Usage;
use crate::Result;

/// Faults told in a report.
pub(crate) const FAULTS_TOLD: usize = 20;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Number {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
}

/// A figure over the time of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Seconds since the beginning, and the figure.
    pub(crate) points: Vec<(f64, f64)>,
}

/// What one run of one scenario found.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// The scenario as the command line names it.
    pub(crate) kind: &'static str,
    /// What was done.
    pub(crate) scenario: String,
    /// To what.
    pub(crate) target: String,
    /// Seconds that were measured.
    pub(crate) seconds: f64,
    pub(crate) numbers: Vec<Number>,
    pub(crate) latencies: Vec<Percentiles>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) series: Vec<Series>,
    /// What else there is to say.
    pub(crate) notes: Vec<String>,
    /// What must not be; a run with faults has failed.
    pub(crate) faults: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: impl Into<String>, target: &Target) -> Self {
        Self { scenario: scenario.into(), target: target.name.to_owned(), ..Self::default() }
    }

    /// What was done to what.
    pub(crate) fn title(&self) -> String {
        format!("{} ({})", self.scenario, self.target)
    }

    /// Adds a figure.
    pub(crate) fn number(&mut self, name: &str, value: f64, unit: &'static str) {
        self.numbers.push(Number { name: name.to_owned(), value, unit });
    }

    /// Adds something that must not be.
    pub(crate) fn fault(&mut self, what: String) {
        if self.faults.len() < FAULTS_TOLD {
            self.faults.push(what);
        }
    }

    /// A figure by its name.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|number| number.name == name).map(|number| number.value)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = self.title() + "\n";
        for Number { name, value, unit } in &self.numbers {
            let _ = writeln!(text, "  {name:<34} {:>14} {unit}", readable(*value));
        }
        if !self.latencies.is_empty() {
            let _ = writeln!(
                text,
                "  {:<34} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "latency in ms", "p50", "p90", "p99", "p99.9", "max"
            );
        }
        for Percentiles { name, p50, p90, p99, p999, max, .. } in &self.latencies {
            let _ = writeln!(
                text,
                "  {name:<34} {p50:>9.2} {p90:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2}"
            );
        }
        for note in &self.notes {
            let _ = writeln!(text, "  note: {note}");
        }
        for fault in &self.faults {
            let _ = writeln!(text, "  FAULT: {fault}");
        }
        text
    }
}

/// A number with as many places as tell something.
pub(crate) fn readable(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let plain = format!("{value:.places$}");
    let (whole, rest) = plain.find('.').map_or((plain.as_str(), ""), |dot| plain.split_at(dot));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// What server and generator have used at one moment, or between two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    server: Option<Usage>,
    generator: Usage,
}

impl Cost {
    pub(crate) fn now(target: &Target) -> Result<Self> {
        Ok(Self { server: target.usage()?, generator: Usage::of_this_process()? })
    }

    /// CPU and writes since an earlier moment; memory as it is now.
    pub(crate) fn since(self, earlier: &Self) -> Self {
        let less = |now: Usage, then: Usage| Usage {
            cpu_seconds: now.cpu_seconds - then.cpu_seconds,
            resident: now.resident,
            written: now.written.saturating_sub(then.written),
            syncs: now.syncs.saturating_sub(then.syncs),
        };
        Self {
            server: self.server.zip(earlier.server).map(|(now, then)| less(now, then)),
            generator: less(self.generator, earlier.generator),
        }
    }

    /// Adds the figures of a run of `seconds` with `messages` acknowledged.
    pub(crate) fn tell(&self, seconds: f64, messages: f64, report: &mut Report) {
        let per_message = |total: f64| if messages > 0.0 { total / messages } else { 0.0 };
        let mut tell = |name: &str, value: f64, unit| report.number(name, value, unit);
        if let Some(server) = self.server {
            tell("server CPU", server.cpu_seconds / seconds, "cores");
            tell("server memory", server.resident as f64 / 1_048_576.0, "MiB");
            if server.syncs > 0 {
                tell("syncs", server.syncs as f64 / seconds, "/s");
            }
            if messages > 0.0 {
                tell("server CPU for each", per_message(server.cpu_seconds) * 1e6, "µs");
                tell("written for each", per_message(server.written as f64), "bytes");
            }
        }
        tell("generator CPU", self.generator.cpu_seconds / seconds, "cores");
        if messages > 0.0 {
            tell("generator CPU for each", per_message(self.generator.cpu_seconds) * 1e6, "µs");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn numbers_are_readable() {
        let cases = [(0.0, "0"), (0.1234, "0.123"), (1.2345, "1.23"), (12.345, "12.3")];
        for (value, text) in cases {
            assert_eq!(readable(value), text);
        }
        assert_eq!(readable(123.4), "123");
        assert_eq!(readable(1_234_567.8), "1,234,568");
        assert_eq!(readable(-123_456.0), "-123,456");
    }
}
