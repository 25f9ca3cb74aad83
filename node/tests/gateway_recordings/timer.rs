//! When the node pings and when it drops who says nothing. Waits as long as the recording did.

use futures_util::{SinkExt as _, StreamExt as _, future};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// By how much a time may differ from the recorded one, in seconds.
const TOLERANCE: f64 = 2.0;

/// Seconds after which nothing new was recorded.
const LONGEST: f64 = 60.0;

/// Repeats one recorded connection.
async fn connection(line: &Value, url: String) -> Result {
    let case = line["case"].as_str().expect("a case");
    let began = Instant::now();
    let (mut socket, _) = connect_async(url).await?;
    let seconds = || began.elapsed().as_secs_f64();
    let moment = |second: f64| began + Duration::from_secs_f64(second);
    let close = |what: &str, recorded: f64| {
        let now = seconds();
        assert!((now - recorded).abs() < TOLERANCE, "{case}: {what} at {now}, not {recorded}");
    };
    if case.starts_with("text ping") {
        sleep_until(moment(25.0)).await;
        socket.send(Message::text(r#"{"type":"ping"}"#)).await?;
    }
    for frame in line["frames"].as_array().expect("frames") {
        let (opcode, second) = (&frame["opcode"], frame["second"].as_f64().expect("a time"));
        let came = timeout_at(moment(second + TOLERANCE), socket.next()).await?;
        match came.expect("still open")? {
            Message::Text(text) if opcode == "text" => {
                let recorded: Value =
                    serde_json::from_str(frame["payload"].as_str().expect("text"))?;
                assert_eq!(recorded, serde_json::from_str::<Value>(&text)?, "{case}");
            }
            Message::Ping(_) if opcode == "ping" => {}
            other => anyhow::bail!("{case}: {other:?}, not {opcode}"),
        }
        if !(case.starts_with("text ping") && second < 1.0) {
            close(&format!("{opcode}"), second);
        }
    }
    match line["droppedAtSecond"].as_f64() {
        Some(second) => {
            // Below the protocol: reading a frame would answer the ping.
            let mut rest = Vec::new();
            let end = moment(second + TOLERANCE);
            // A reset is an end too.
            let _ = timeout_at(end, socket.get_mut().read_to_end(&mut rest)).await?;
            close("end", second);
        }
        None => {
            let came = timeout_at(moment(LONGEST), socket.next()).await;
            assert!(came.is_err(), "{case}: {came:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_idle_are_pinged_and_dropped_as_recorded() -> Result {
    let (node, admin) = scene().await?;
    let lines = lines("ws-timers.jsonl")?;
    let mut connections = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let user = format!("fd_timer{at}");
        admin.register(&[&user]).await?;
        let platform = line["platformID"].as_i64().expect("a platform");
        let client = admin.client(&user, i32::try_from(platform)?).await?;
        let query = [
            ("sendID", user),
            ("token", client.token),
            ("platformID", platform.to_string()),
            ("operationID", format!("timer {at}")),
            ("isBackground", "false".to_owned()),
            ("sdkType", "js".to_owned()),
            ("isMsgResp", "true".to_owned()),
        ];
        let query: Vec<_> = query.map(|(name, value)| (name.to_owned(), value)).into();
        connections.push(connection(line, url(&node, &query)?));
    }
    future::try_join_all(connections).await?;
    node.stop().await
}
