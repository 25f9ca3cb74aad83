//! How fast a connection sends.

use std::time::Duration;

use tokio::time::Instant;

/// Sends a second, in the long run, that count as calm.
const CALM_RATE: u32 = 50;
/// Time by which a connection may be ahead of that rate.
const AHEAD: Duration = Duration::from_secs(1);

/// Tells connections that send like a person, or like many, from those that send as fast as they
/// can. The latter wait for each other; the former do not wait for them.
pub(super) struct Pace {
    /// When all it has sent would have been sent at [`CALM_RATE`].
    due: Instant,
}

impl Pace {
    /// Of a connection that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Counts a send; whether it is one too many to be calm.
    pub(super) fn hurries(&mut self, now: Instant) -> bool {
        self.due = (self.due.max(now) + Duration::from_secs(1) / CALM_RATE).min(now + AHEAD * 2);
        self.due > now + AHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hurried(pace: &mut Pace, began: Instant, rate: u32, seconds: u32) -> usize {
        let at = |n: u32| began + Duration::from_secs(1) * n / rate;
        (0..rate * seconds).filter(|n| pace.hurries(at(*n))).count()
    }

    #[test]
    fn who_bursts_and_rests_is_calm() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        assert_eq!((0..60).filter(|_| pace.hurries(began)).count(), 10);
        assert_eq!(hurried(&mut pace, began + Duration::from_secs(3), CALM_RATE, 20), 0);
    }

    #[test]
    fn who_floods_hurries_until_it_stops() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let hurried = hurried(&mut pace, began, 1_000, 60);
        assert!((59_900..60_000).contains(&hurried), "{hurried}");
        assert!(pace.hurries(began + Duration::from_secs(60)));
        assert!(!pace.hurries(began + Duration::from_secs(63)));
    }
}
