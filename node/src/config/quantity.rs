//! Spans of time and sizes, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SpanRelativeTo;
use serde::{Deserialize, Serialize};

/// A span of time: `90d`, `24h`, `1m 30s`; a day has 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(Duration);

impl Span {
    pub(super) const ZERO: Self = Self(Duration::ZERO);

    pub(super) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(super) const fn hours(hours: u64) -> Self {
        Self::seconds(hours * 3_600)
    }

    pub(super) const fn days(days: u64) -> Self {
        Self::hours(days * 24)
    }

    pub(crate) fn duration(self) -> Duration {
        self.0
    }

    pub(crate) fn ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "0" {
            return Ok(Self::ZERO);
        }
        let span: jiff::Span = text.parse()?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours())?;
        Ok(Self(Duration::try_from(length)?))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
        match units.into_iter().find(|(_, unit)| ms.is_multiple_of(*unit)) {
            _ if ms == 0 => f.write_str("0"),
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

/// A size: `64 MiB`, `60 KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Size(u64);

impl Size {
    pub(super) const ZERO: Self = Self(0);
    pub(super) const ONE: Self = Self(1);

    pub(super) const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    pub(super) const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    pub(super) const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0
    }

    /// The size of something in memory.
    pub(crate) fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|ByteSize(bytes)| Self(bytes))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.into_iter().find(|(_, bits)| self.0.is_multiple_of(1 << bits)) {
            Some((name, bits)) if self.0 > 0 => write!(f, "{} {name}", self.0 >> bits),
            _ => write!(f, "{} B", self.0),
        }
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = <Self as FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(quantity: $type) -> Self {
                quantity.to_string()
            }
        }
    )*};
}

as_text!(Span, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, seconds, again) in [
            ("0", 0, "0"),
            ("0s", 0, "0"),
            ("75s", 75, "75s"),
            ("1m 30s", 90, "90s"),
            ("24h", 86_400, "1d"),
            ("36 hours", 129_600, "36h"),
            ("90d", 7_776_000, "90d"),
            ("2 weeks", 1_209_600, "14d"),
        ] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span, Span::seconds(seconds), "{text}");
            assert_eq!(span.to_string(), again);
        }
        assert_eq!("1500ms".parse::<Span>().expect("a span").to_string(), "1500ms");
        for text in ["", "5", "-3d", "3 months", "soon", "1e9d", "99999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, again) in [
            ("0", 0, "0 B"),
            ("60 KiB", 61_440, "60 KiB"),
            ("64MiB", 64 << 20, "64 MiB"),
            ("1024 MiB", 1 << 30, "1 GiB"),
            ("1.5 GiB", 3 << 29, "1536 MiB"),
            ("1 GB", 1_000_000_000, "1000000000 B"),
            ("1000", 1_000, "1000 B"),
        ] {
            let size: Size = text.parse().expect(text);
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), again);
        }
        for text in ["", "-3", "much", "5 miles"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
