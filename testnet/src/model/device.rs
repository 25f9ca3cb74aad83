//! Users and their devices.

use std::fmt;

/// Users of the model.
pub(super) const USERS: usize = 5;
/// Platforms on which they log in: Android with the native SDK's frames, Web with those of the
/// JavaScript SDK.
pub(super) const PLATFORMS: [i32; 2] = [2, 5];
/// The platform from which the REST API is called; it never connects for long.
pub(super) const REST_PLATFORM: i32 = 3;

/// A user, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct User(pub(super) usize);

impl User {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..USERS).map(Self)
    }

    /// Its ID.
    pub(super) fn id(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

/// One device of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Device {
    pub(super) user: User,
    pub(super) platform: i32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.user, self.platform)
    }
}
