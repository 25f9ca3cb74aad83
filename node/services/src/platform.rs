//! Platforms a client can run on.

/// ID, name and class of every platform.
const PLATFORMS: [(i32, &str, Class); 12] = [
    (1, "IOS", Class::Mobile),
    (2, "Android", Class::Mobile),
    (3, "Windows", Class::Pc),
    (4, "OSX", Class::Pc),
    (5, "Web", Class::Web),
    (6, "MiniWeb", Class::MiniWeb),
    (7, "Linux", Class::Pc),
    (8, "APad", Class::Pad),
    (9, "IPad", Class::Pad),
    (10, "Admin", Class::Admin),
    (11, "HarmonyOS", Class::HarmonyOs),
    (12, "Bot", Class::Bot),
];

/// No platform: somebody on another node.
pub const NONE: i32 = 0;
/// iOS.
pub const IOS: i32 = 1;
/// Android.
pub const ANDROID: i32 = 2;
/// Web browsers.
pub const WEB: i32 = 5;
/// Platform of admin tokens.
pub const ADMIN: i32 = 10;

/// Platforms that share a login under policy 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the platforms")]
pub enum Class {
    Mobile,
    Pc,
    Web,
    MiniWeb,
    Pad,
    Admin,
    HarmonyOs,
    Bot,
}

/// All platform IDs.
pub fn ids() -> impl Iterator<Item = i32> {
    PLATFORMS.iter().map(|(id, ..)| *id)
}

/// Whether there is such a platform.
pub fn exists(id: i32) -> bool {
    !name(id).is_empty()
}

/// Name of a platform, empty if there is none.
pub fn name(id: i32) -> &'static str {
    PLATFORMS.iter().find(|platform| platform.0 == id).map_or("", |platform| platform.1)
}

/// Class of a platform.
pub fn class(id: i32) -> Option<Class> {
    PLATFORMS.iter().find(|platform| platform.0 == id).map(|platform| platform.2)
}
