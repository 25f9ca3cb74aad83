use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use futures_util::StreamExt as _;
use serde_json::Value;
use testnet::recording::forged;
use testnet::{Admin, Node, Result};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{QUIET, lines, scene, url};

/// The recorded query with tokens of this run.
async fn query(node: &Node, admin: &Admin, line: &Value) -> Result<Vec<(String, String)>> {
    let case = line["case"].as_str().unwrap_or_default();
    let Some(recorded) = line["query"].as_object() else {
        let alice = admin.client("fd_alice", 5).await?;
        let platform = if case.starts_with("bad query") { "web" } else { "5" };
        let pairs = [
            ("sendID", "fd_alice"),
            ("token", alice.token.as_str()),
            ("platformID", platform),
            ("operationID", "op1"),
            ("isBackground", "false"),
            ("isMsgResp", "true"),
            ("sdkType", "js"),
        ];
        return Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    };
    let mut query = Vec::new();
    for (name, value) in recorded {
        let mut value = value.as_str().expect("a text").to_owned();
        for (placeholder, platform) in [("<token:alice>", 5), ("<token:alice12>", 12)] {
            if value.contains(placeholder) {
                let client = admin.client("fd_alice", platform).await?;
                value = value.replace(placeholder, &client.token);
            }
        }
        if value == "<token:other>" {
            value = forged(case, "fd_alice", "");
        } else if value == "<token:kicked>" {
            value = admin.client("fd_frank", 2).await?.token;
            // Tokens of one second are equal.
            node.clock.advance(1_000);
            admin.client("fd_frank", 2).await?;
        }
        if let Some(packed) = value.strip_prefix("(packed) ") {
            value = match packed {
                "%%%" => packed.to_owned(),
                "{\"token\":\"abcd\"}" => URL_SAFE.encode(packed.as_bytes()) + "=",
                _ => URL_SAFE_NO_PAD.encode(packed),
            };
        }
        query.push((name.clone(), value));
    }
    Ok(query)
}

/// The request of a line, with its path and headers.
fn request(line: &Value, url: &str) -> Result<Request> {
    let other = line["case"] == "other path";
    let url = if other { url.replacen("/?", "/other?", 1) } else { url.to_owned() };
    let mut request = url.into_client_request()?;
    for header in line["requestHeaders"].as_array().into_iter().flatten() {
        let (name, value) = header.as_str().and_then(|text| text.split_once(": ")).expect("one");
        let name = HeaderName::from_bytes(name.as_bytes())?;
        request.headers_mut().insert(name, value.parse()?);
    }
    Ok(request)
}

/// A request that does not ask for an upgrade.
async fn plain(place: &str, line: &Value, url: &str) -> Result {
    let response = reqwest::get(url.replacen("ws://", "http://", 1)).await?;
    let status = response.status().as_u16();
    let (recorded, body) = (line["body"].as_str().expect("a body"), response.text().await?);
    assert_eq!(line["httpStatus"], status, "{place}: {body}");
    if recorded.starts_with('{') {
        same_error(place, recorded, &body);
    } else {
        assert_eq!(recorded, body, "{place}");
    }
    Ok(())
}

#[tokio::test]
async fn handshakes_are_answered_as_recorded() -> Result {
    let (node, admin) = scene().await?;
    for (at, line) in lines("ws-handshake.jsonl")?.iter().enumerate() {
        let url = url(&node, &query(&node, &admin, line).await?)?;
        let place = format!("line {} ({})", at + 1, line["case"]);
        if line.get("query").is_none() && line["httpStatus"] != 101 {
            plain(&place, line, &url).await?;
            continue;
        }
        match connect_async(request(line, &url)?).await {
            Ok((mut socket, _)) => {
                assert_eq!(line["httpStatus"], 101, "{place}");
                for frame in line["frames"].as_array().expect("frames") {
                    let came = tokio::time::timeout(QUIET, socket.next()).await?;
                    let Some(Ok(Message::Text(text))) = came else {
                        anyhow::bail!("{place}: no text frame");
                    };
                    same_error(&place, frame["payload"].as_str().expect("text"), &text);
                }
                let rest = tokio::time::timeout(QUIET, socket.next()).await;
                let open = line.get("connection").is_none_or(|state| state == "open");
                assert_eq!(rest.is_err(), open, "{place}: {rest:?}");
            }
            Err(Error::Http(response)) => {
                assert_eq!(line["httpStatus"], response.status().as_u16(), "{place}");
                let body = response.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                same_error(&place, line["body"].as_str().expect("a body"), &body);
            }
            // None of the offered sub-protocols is taken; this client calls that an error.
            Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
                assert_eq!(line["httpStatus"], 101, "{place}");
            }
            Err(error) => anyhow::bail!("{place}: {error}"),
        }
    }
    node.stop().await
}

/// Same code and name; texts for people may differ where a decoder speaks.
fn same_error(place: &str, recorded: &str, now: &str) {
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let now: Value = serde_json::from_str(now).expect("JSON");
    for key in ["errCode", "errMsg"] {
        assert_eq!(recorded[key], now[key], "{place}: {now}");
    }
}
