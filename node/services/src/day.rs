//! Days in UTC, as statistics and searches name them, and spans of time.

use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{Span, Unit};

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;

const EPOCH: Date = date(1970, 1, 1);

/// A span of time in milliseconds.
pub(crate) fn ms(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A span of time in words: `30 days`, `36 hours`.
pub(crate) fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, unit)| seconds.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(("seconds", 1));
    format!("{} {name}", seconds / unit)
}

/// UTC day of a time in Unix milliseconds, in days since the Unix epoch.
pub(crate) fn day_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(DAY_MS)
}

/// A day as `YYYY-MM-DD`; the nearest one that can be written so if it is too far away.
pub(crate) fn name(day: i64) -> String {
    let days = Span::new().try_days(day);
    days.map_or(Date::MAX, |days| EPOCH.saturating_add(days)).to_string()
}

/// The day that `YYYY-MM-DD` names, in days since the Unix epoch.
pub(crate) fn named(text: &str) -> Option<i64> {
    if text.len() != "YYYY-MM-DD".len() {
        return None;
    }
    let day: Date = text.parse().ok()?;
    Some(EPOCH.until((Unit::Day, day)).ok()?.get_days().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(i64, &str); 9] = [
        (0, "1970-01-01"),
        (-1, "1969-12-31"),
        (59, "1970-03-01"),
        (11_016, "2000-02-29"),
        (11_017, "2000-03-01"),
        (20_780, "2026-11-23"),
        (47_540, "2100-02-28"),
        (47_541, "2100-03-01"),
        (-719_162, "0001-01-01"),
    ];

    #[test]
    fn days_have_names() {
        for (day, text) in NAMES {
            assert_eq!(name(day), text);
            assert_eq!(named(text), Some(day));
        }
        assert_eq!(name(i64::MAX), "9999-12-31");
        for text in ["", "x", "2026-13-01", "2026-02-29", "2026-1-1", "26-01-0001", "2026-04-31"] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn days_begin_at_midnight() {
        assert_eq!(day_of(crate::user::NEVER_MS), -719_162);
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(DAY_MS), 1);
        assert_eq!(in_words(30 * Duration::from_millis(DAY_MS.unsigned_abs())), "30 days");
        assert_eq!(in_words(Duration::from_secs(36 * 3_600)), "36 hours");
        assert_eq!(in_words(Duration::from_secs(61)), "61 seconds");
    }
}
