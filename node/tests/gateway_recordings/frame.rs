use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use testnet::{Admin, Node, Result};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{QUIET, lines, scene_with, url};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn connect(node: &Node, admin: &Admin, changes: &Value) -> Result<Socket> {
    let alice = admin.client("fd_alice", 5).await?;
    let mut query = vec![
        ("sendID".to_owned(), "fd_alice".to_owned()),
        ("token".to_owned(), alice.token),
        ("platformID".to_owned(), "5".to_owned()),
        ("operationID".to_owned(), "op".to_owned()),
        ("isBackground".to_owned(), "false".to_owned()),
    ];
    let mut sdk = "js".to_owned();
    for (name, value) in changes.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default().to_owned();
        if name == "sdkType" { sdk = value } else { query.push((name.clone(), value)) }
    }
    query.push(("sdkType".to_owned(), sdk));
    Ok(connect_async(url(node, &query)?).await?.0)
}

/// The recorded frame.
fn sent(line: &Value) -> Result<Message> {
    let payload = line["sent"]["payload"].as_str().expect("a payload");
    let control = || hex(payload);
    Ok(match line["sent"]["opcode"].as_str().expect("an opcode") {
        "text" => Message::text(payload),
        "ping" => Message::Ping(control()?.into()),
        "pong" => Message::Pong(control()?.into()),
        "close" => Message::Close(match control()?.as_slice() {
            [] => None,
            [_, _, reason @ ..] => Some(CloseFrame {
                code: CloseCode::Normal,
                reason: String::from_utf8_lossy(reason).into_owned().into(),
            }),
            [_] => anyhow::bail!("half a code"),
        }),
        _ => {
            let bytes = if let Some(json) = payload.strip_prefix("gzip of ") {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(json.as_bytes())?;
                gzip.finish()?
            } else if let Some(size) = payload.strip_prefix('(') {
                padded(size.split(' ').next().expect("a size").parse()?)
            } else {
                payload.as_bytes().to_vec()
            };
            Message::binary(bytes)
        }
    })
}

fn hex(text: &str) -> Result<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&text[at..at + 2], 16)?)).collect()
}

/// A request of so many bytes.
fn padded(size: usize) -> Vec<u8> {
    let request =
        r#"{"reqIdentifier":1001,"msgIncr":"i1","sendID":"fd_alice","operationID":"op1","pad":""#;
    let pad = size - request.len() - 2;
    format!("{request}{}\"}}", "x".repeat(pad)).into_bytes()
}

/// Compares a frame that came with a recorded one.
fn same_frame(place: &str, recorded: &Value, came: Message) -> Result {
    match recorded["opcode"].as_str().expect("an opcode") {
        "text" => assert_eq!(came.to_text()?, recorded["payload"], "{place}"),
        "pong" => {
            let payload = hex(recorded["payload"].as_str().expect("a payload"))?;
            assert_eq!(came, Message::Pong(payload.into()), "{place}");
        }
        "close" => {
            let Message::Close(frame) = came else { anyhow::bail!("{place}: {came:?}") };
            let code = frame.map(|frame| u16::from(frame.code));
            assert_eq!(recorded["payload"]["code"].as_u64(), code.map(u64::from), "{place}");
        }
        _ => {
            let mut bytes = came.into_data().to_vec();
            if recorded["gzip"] == true {
                let mut plain = Vec::new();
                GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
                bytes = plain;
            }
            let now: Value = serde_json::from_slice(&bytes)?;
            let recorded: Value = serde_json::from_str(recorded["json"].as_str().expect("JSON"))?;
            assert_eq!(now, recorded, "{place}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn frames_are_answered_as_recorded() -> Result {
    let limit = |limits: &mut client_api::GatewayLimits| limits.max_frame_bytes = 51_200;
    let (node, admin) = scene_with(Node::builder().limits(limit)).await?;
    for (at, line) in lines("ws-wire.jsonl")?.iter().enumerate() {
        let place = format!("line {} ({})", at + 1, line["case"]);
        let mut socket = connect(&node, &admin, &line["query"]).await?;
        socket.send(sent(line)?).await?;
        for expected in line["received"].as_array().expect("frames") {
            let came = tokio::time::timeout(QUIET, socket.next()).await;
            let came = came.with_context(|| place.clone())?.with_context(|| place.clone())?;
            same_frame(&place, expected, came.with_context(|| place.clone())?)?;
        }
        let rest = tokio::time::timeout(QUIET, socket.next()).await;
        assert_eq!(rest.is_err(), line["connection"] == "open", "{place}: {rest:?}");
    }
    node.stop().await
}
