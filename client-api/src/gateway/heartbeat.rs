//! Text frames: clients ask whether the connection lives.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Ping<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Pong<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    /// Always there: a client fails on a pong without it.
    body: Option<&'a RawValue>,
}

/// What a text frame asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// Send this text back.
    Reply(String),
    /// Nothing.
    Ignore,
    /// It is no heartbeat: drop the connection.
    Invalid,
}

/// Reads a text frame.
pub(super) fn read(text: &str) -> Heartbeat {
    let Ok(ping) = serde_json::from_str::<Ping<'_>>(text) else { return Heartbeat::Invalid };
    match ping.kind.as_str() {
        "ping" => serde_json::to_string(&Pong { kind: "pong", body: ping.body })
            .map_or(Heartbeat::Invalid, Heartbeat::Reply),
        "pong" => Heartbeat::Ignore,
        _ => Heartbeat::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pongs_return_the_body_as_it_came() {
        let reply = |text: &str| Heartbeat::Reply(text.into());
        assert_eq!(read(r#"{"type":"ping"}"#), reply(r#"{"type":"pong","body":null}"#));
        assert_eq!(
            read(r#"{"type":"ping","body":"17 95"}"#),
            reply(r#"{"type":"pong","body":"17 95"}"#)
        );
        assert_eq!(
            read(r#"{"body":{"a": [1]},"type":"ping"}"#),
            reply(r#"{"type":"pong","body":{"a": [1]}}"#)
        );
        assert_eq!(read(r#"{"type":"pong","body":1}"#), Heartbeat::Ignore);
        for bad in ["", "ping", "[]", r#"{"type":"x"}"#, r#"{"reqIdentifier":1003}"#] {
            assert_eq!(read(bad), Heartbeat::Invalid, "{bad}");
        }
    }
}
