//! Tokens that no node issued.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::node::SECRET;

/// The hand-made token of `user_id` on platform 5 that a case speaks of; `good` is one in force.
///
/// # Panics
///
/// When the claims cannot be signed, which they can.
#[allow(clippy::expect_used, reason = "fixed claims and keys")]
pub fn forged(case: &str, user_id: &str, good: &str) -> String {
    let far = 4_000_000_000_u64;
    let mut claims = json!({
        "UserID": user_id, "PlatformID": 5, "exp": far, "iat": 1_700_000_000_u64,
    });
    let (mut algorithm, mut key) = (Algorithm::HS256, SECRET);
    if case.contains("garbage") {
        return "abc".into();
    } else if case.contains("two segments") {
        return "abc.def".into();
    } else if case.contains("undecodable") {
        return format!("{}.!!.{}", good.split('.').next().unwrap_or(""), "x");
    } else if case.contains("Bearer") {
        return format!("Bearer {good}");
    } else if case.contains("alg none") {
        return format!(
            "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.",
            good.split('.').nth(1).unwrap_or("")
        );
    }
    if case.contains("expired") {
        claims["exp"] = 1_700_000_001_u64.into();
    }
    if case.contains("bad signature") || case.contains("another key") {
        key = "another";
    }
    for (word, claim) in [("nbf", "nbf"), ("not valid yet", "nbf"), ("iat", "iat")] {
        if case.contains(word) {
            claims[claim] = (far - 1).into();
        }
    }
    if case.contains("HS512") {
        algorithm = Algorithm::HS512;
    }
    encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(key.as_bytes()))
        .expect("encodes")
}
