//! What the rules get from outside: time and randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Gives random bytes fit for identifiers and secrets.
pub trait Random: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Time and randomness of a node.
#[derive(Clone)]
pub struct Environment {
    /// Its clock.
    pub clock: Arc<dyn Clock>,
    /// Its source of randomness.
    pub random: Arc<dyn Random>,
}

impl Environment {
    /// The system's clock and randomness.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock::default()), random: Arc::new(SystemRandom) }
    }
}

/// Corrections of the system's clock, in milliseconds, that are waited out.
const WAITED_OUT_MS: i64 = 10_000;

/// The system's clock, which may be set back: by a little when it is corrected, then time stands
/// still here until it has caught up, so that what is ordered by time stays in order; by more when
/// it was wrong, then it is followed.
#[derive(Default)]
struct SystemClock {
    newest: AtomicI64,
}

impl SystemClock {
    fn follow(&self, system_ms: i64) -> i64 {
        let newest = self.newest.fetch_max(system_ms, Ordering::Relaxed);
        if newest.saturating_sub(system_ms) > WAITED_OUT_MS {
            self.newest.store(system_ms, Ordering::Relaxed);
            return system_ms;
        }
        newest.max(system_ms)
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let system_ms =
            elapsed.map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX));
        self.follow(system_ms)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        rand::Rng::fill(&mut rand::rng(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_waited_out_and_a_wrong_clock_followed() {
        let clock = SystemClock::default();
        let seen = [50_000, 49_990, 50_005, 40_005, 40_004, 40_003].map(|ms| clock.follow(ms));
        assert_eq!(seen, [50_000, 50_000, 50_005, 50_005, 40_004, 40_004]);
    }
}
