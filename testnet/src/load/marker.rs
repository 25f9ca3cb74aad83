//! What a message of the generator says about itself, in its clientMsgID.

use std::time::Instant;

/// Nanoseconds since the generator began; one clock for all its tasks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    /// The moment at `nanos` of this clock.
    pub(crate) fn at(self, nanos: u64) -> Instant {
        self.0 + std::time::Duration::from_nanos(nanos)
    }
}

/// Identifies one message and when it was meant to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// Session that sends it.
    pub(crate) sender: u32,
    /// Its place among that session's messages, from 0.
    pub(crate) number: u32,
    /// When it was to be sent, in nanoseconds of the generator's [`Clock`].
    pub(crate) due: u64,
}

impl Marker {
    pub(crate) fn to_id(self) -> String {
        // The first letter tells them from IDs that a node makes for its own messages.
        format!("m{:07x}{:08x}{:016x}", self.sender, self.number, self.due)
    }

    pub(crate) fn from_id(id: &str) -> Option<Self> {
        let hex = |range| u64::from_str_radix(id.get(range)?, 16).ok();
        if id.len() != 32 || !id.starts_with('m') {
            return None;
        }
        Some(Self { sender: hex(1..8)? as u32, number: hex(8..16)? as u32, due: hex(16..32)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_survives_the_way_through_an_id() {
        let marker = Marker { sender: 70_000, number: u32::MAX, due: 1 << 40 };
        assert_eq!(Marker::from_id(&marker.to_id()), Some(marker));
        for other in ["", "é", &"0".repeat(31), &"a".repeat(32), &format!("m{}1", "é".repeat(15))]
        {
            assert_eq!(Marker::from_id(other), None);
        }
    }
}
