//! Guessing the secret and tokens of a node.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testnet::{Process, Rest, Result, SECRET};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
/// More wrong ones than cost nothing.
const WRONG: usize = 30;

/// Asks with headers of its own; code and text of the answer, and how long it took.
async fn ask(
    rest: &Rest,
    path: &str,
    body: Value,
    headers: &[(&str, &str)],
) -> Result<(i64, String, Duration)> {
    let start = Instant::now();
    let mut request = rest.http().post(format!("{}{path}", rest.api())).body(body.to_string());
    request = request.header("operationID", "guess");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let text = request.send().await?.text().await?;
    let answer: Value = serde_json::from_str(&text)?;
    Ok((answer["errCode"].as_i64().unwrap_or(-1), text, start.elapsed()))
}

async fn secret(rest: &Rest, secret: &str, from: &str) -> Result<(i64, String, Duration)> {
    let body = json!({ "secret": secret, "userID": "imAdmin" });
    ask(rest, "/auth/get_admin_token", body, &[("X-Forwarded-For", from)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_secrets_are_not_tried_in_half_a_second() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let rest = node.rest();
    let start = Instant::now();
    let guesses: Vec<_> = (0..1_000)
        .map(|at| {
            let rest = rest.clone();
            tokio::spawn(async move {
                let (code, text, _) = secret(&rest, &at.to_string(), "192.0.2.1").await?;
                anyhow::ensure!(code == 1002, "{text}");
                Ok((start.elapsed(), text.contains("the secret is wrong")))
            })
        })
        .collect();
    // Others do not notice, nor does the same address once it is over.
    let (code, _, took) = secret(&rest, SECRET, "192.0.2.2").await?;
    assert!(code == 0 && took < Duration::from_secs(2), "{took:?}");
    let (mut at_once, mut tried) = (0, 0);
    for guess in guesses {
        let (when, wrong) = guess.await??;
        tried += usize::from(wrong);
        at_once += usize::from(wrong && when < Duration::from_millis(500));
    }
    assert!(at_once < 40 && tried < 100, "{at_once} at once, {tried} in all");
    let (code, text, took) = secret(&rest, SECRET, "192.0.2.1").await?;
    assert!(code == 0 && took < Duration::from_secs(1), "{text} {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_wait_and_right_ones_do_not() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let rest = node.rest();
    let alice = node.admin().await?.user("alice").await?;
    let part = json!({ "size": 5 });
    let with = async |token: &str, from: &str| {
        let headers = [("token", token), ("X-Forwarded-For", from)];
        ask(&rest, "/object/part_size", part.clone(), &headers).await
    };
    let mut longest = Duration::ZERO;
    for _ in 0..WRONG {
        let (code, _, took) = with("no.good.token", "2001:db8:1:2::1").await?;
        assert_eq!(code, 1503);
        longest = longest.max(took);
    }
    assert!(longest > Duration::from_millis(900), "{longest:?}");
    // In the same network, by other ways.
    let token = json!({ "token": "no.good.token" });
    let from = [("X-Forwarded-For", "2001:db8:1:2::ffff")];
    let (code, _, took) = ask(&rest, "/auth/parse_token", token, &from).await?;
    assert!(code == 1503 && took > Duration::from_millis(900), "{took:?}");
    let query = "sendID=alice&token=no.good.token&platformID=5&operationID=o&isBackground=false";
    let url = format!("{}/?{query}", rest.ws().replace("ws://", "http://"));
    let start = Instant::now();
    let request = rest.http().get(url).header("X-Forwarded-For", "2001:db8:1:2::3");
    let said = request.send().await?.text().await?;
    let took = start.elapsed();
    assert!(said.contains("1503") && took > Duration::from_millis(900), "{said} {took:?}");
    let (code, _, took) = with(&alice.token, "2001:db8:1:2::1").await?;
    assert!(code == 0 && took < Duration::from_millis(900), "{took:?}");
    let (code, _, took) = with("no.good.token", "2001:db8:1:3::1").await?;
    assert!(code == 1503 && took < Duration::from_millis(900), "{took:?}");
    // A token that was good is no guess.
    let out = json!({ "userID": "alice", "platformID": alice.platform_id });
    node.admin().await?.client.call("/auth/force_logout", out).await?;
    let (code, _, took) = with(&alice.token, "2001:db8:1:2::1").await?;
    assert!(code == 1506 && took < Duration::from_millis(900), "{code} {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_keeps_its_turn() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let rest = node.rest();
    let body = json!({ "secret": "no", "userID": "imAdmin" }).to_string();
    let request = format!(
        "POST /auth/get_admin_token HTTP/1.1\r\nHost: node\r\noperationID: o\r\n\
         X-Forwarded-For: 192.0.2.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let address = rest.api().trim_start_matches("http://").to_owned();
            let request = request.clone();
            tokio::spawn(async move {
                for _ in 0..60 {
                    let mut socket = TcpStream::connect(&address).await?;
                    socket.write_all(request.as_bytes()).await?;
                    sleep(Duration::from_millis(15)).await;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    // All turns are taken for seconds, for a right one, too, as before its turn nobody can know.
    let (code, text, took) = secret(&rest, SECRET, "192.0.2.1").await?;
    assert!(code == 0 && took > Duration::from_millis(500), "{text} {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_token_is_told_so_among_a_crowd_of_guesses() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let rest = node.rest();
    let crowd: Vec<_> = (0..200)
        .map(|at| {
            let rest = rest.clone();
            tokio::spawn(async move { secret(&rest, &at.to_string(), "192.0.2.1").await })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    let headers = [("token", "no.good.token"), ("X-Forwarded-For", "192.0.2.1")];
    let (code, text, took) = ask(&rest, "/object/part_size", json!({}), &headers).await?;
    assert!(code == 1503 && took < Duration::from_secs(6), "{text} {took:?}");
    for guess in crowd {
        guess.await??;
    }
    Ok(())
}
