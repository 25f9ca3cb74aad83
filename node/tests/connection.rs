//! Connections to the API: how long they may stay, and how they end.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testnet::{Client, Process, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
/// Longer than a connection may take for the head of a request.
const PAUSE: Duration = Duration::from_secs(12);
const DEADLINE: Duration = Duration::from_secs(20);

async fn connect(client: &Client) -> Result<TcpStream> {
    let address: SocketAddr = client.rest.api().trim_start_matches("http://").parse()?;
    Ok(TcpStream::connect(address).await?)
}

fn head(client: &Client, path: &str, length: usize) -> String {
    let token = &client.token;
    format!(
        "POST {path} HTTP/1.1\r\nHost: node\r\noperationID: o\r\ntoken: {token}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// The next answer, as text.
async fn answer(socket: &mut TcpStream) -> Result<String> {
    let mut text = Vec::new();
    let read = async {
        while !text.ends_with(b"}") && !text.ends_with(b"not found") {
            let mut bytes = [0; 4_096];
            let count = socket.read(&mut bytes).await?;
            anyhow::ensure!(count > 0, "closed after {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&bytes[..count]);
        }
        Ok(())
    };
    timeout(DEADLINE, read).await??;
    Ok(String::from_utf8(text)?)
}

async fn ask(client: &Client, socket: &mut TcpStream) -> Result {
    let body = r#"{"size":5}"#;
    let head = head(client, "/object/part_size", body.len());
    socket.write_all(format!("{head}{body}").as_bytes()).await?;
    let said = answer(socket).await?;
    anyhow::ensure!(said.contains("5242880"), "{said}");
    Ok(())
}

/// When the node closes a connection.
async fn closed(socket: &mut TcpStream) -> Result<Duration> {
    let asked = Instant::now();
    // A reset is an end too.
    let _ = timeout(DEADLINE, socket.read(&mut [0; 16])).await?;
    Ok(asked.elapsed())
}

#[tokio::test]
async fn a_connection_stays_between_requests_and_not_in_the_middle_of_one() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let (mut patient, mut slow) = (connect(&alice).await?, connect(&alice).await?);
    let mut silent = connect(&alice).await?;
    ask(&alice, &mut patient).await?;
    ask(&alice, &mut slow).await?;
    slow.write_all(b"POST /object/part_size HT").await?;
    let about = Duration::from_secs(8)..PAUSE;
    assert!(about.contains(&closed(&mut slow).await?), "the head of a request takes too long");
    assert!(closed(&mut silent).await? < Duration::from_secs(3), "no request comes at all");
    sleep(PAUSE - Duration::from_secs(9)).await;
    ask(&alice, &mut patient).await
}

#[tokio::test]
async fn an_idle_connection_ends_when_it_is_configured_and_sooner_when_room_is_short() -> Result {
    let node = Process::builder(PROGRAM).variable("ENTENTE_API_IDLE", "2s");
    let node = node.start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let mut socket = connect(&alice).await?;
    ask(&alice, &mut socket).await?;
    let stayed = closed(&mut socket).await?;
    assert!((1_500..4_000).contains(&stayed.as_millis()), "{stayed:?}");

    let node = Process::builder(PROGRAM).variable("ENTENTE_API_MAX_CONNECTIONS", "16");
    let node = node.start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let mut sockets = Vec::new();
    // Room is short with these alone: the client's own connection may end before them.
    for _ in 0..14 {
        let mut socket = connect(&alice).await?;
        ask(&alice, &mut socket).await?;
        sockets.push(socket);
    }
    let stayed = closed(&mut sockets[0]).await?;
    assert!((8_000..13_000).contains(&stayed.as_millis()), "{stayed:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_request_gets_its_answer_however_large_its_body_is() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let stranger = Client { token: "bad".into(), ..alice.clone() };
    let body = vec![b'x'; 12 << 20];
    for (client, path, expected) in [
        (&stranger, "/object/part_size", "TokenMalformed"),
        (&alice, "/no/such", "404 page not found"),
        (&alice, "/object/part_size", "the body is cut or over"),
    ] {
        let mut socket = connect(&alice).await?;
        socket.write_all(head(client, path, body.len()).as_bytes()).await?;
        sleep(Duration::from_millis(50)).await;
        socket.write_all(&body).await?;
        // What a slow client would still have under way.
        sleep(Duration::from_millis(50)).await;
        let said = answer(&mut socket).await?;
        assert!(said.contains(expected) && said.contains("connection: close"), "{path}: {said}");
    }
    // A head that is too large.
    let mut socket = connect(&alice).await?;
    socket.write_all(format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20)).as_bytes()).await?;
    let mut said = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut said)).await??;
    assert!(String::from_utf8_lossy(&said).starts_with("HTTP/1.1 431"));
    // Little of it is read on, and the connection stays.
    let mut socket = connect(&alice).await?;
    for _ in 0..2 {
        socket.write_all(head(&stranger, "/object/part_size", 100_000).as_bytes()).await?;
        sleep(Duration::from_millis(50)).await;
        socket.write_all(&body[..100_000]).await?;
        let said = answer(&mut socket).await?;
        assert!(said.contains("TokenMalformed") && !said.contains("connection: close"), "{said}");
    }
    // Who asks first whether the body is wanted is told at once.
    let mut socket = connect(&alice).await?;
    let expecting = head(&stranger, "/object/part_size", body.len());
    let expecting = expecting.replace("Host:", "Expect: 100-continue\r\nHost:");
    socket.write_all(expecting.as_bytes()).await?;
    let said = answer(&mut socket).await?;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_stranger_who_sends_no_body_or_a_slow_one_is_closed() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    // On an open route: one byte, then silence.
    let mut silent = connect(&alice).await?;
    let asked = Instant::now();
    silent.write_all(head(&alice, "/auth/parse_token", 100).as_bytes()).await?;
    silent.write_all(b"{").await?;
    // A form that never gets to its signature.
    let mut form = connect(&alice).await?;
    let type_ = "Content-Type: multipart/form-data; boundary=b\r\nHost:";
    let form_head = head(&alice, "/storage/form", 100_000).replace("Host:", type_);
    form.write_all(form_head.as_bytes()).await?;
    form.write_all(b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n").await?;
    let trickle = tokio::spawn(async move {
        let started = Instant::now();
        let mut byte = [0; 16];
        while timeout(Duration::from_secs(2), form.read(&mut byte)).await.is_err() {
            form.write_all(b"x").await?;
            anyhow::ensure!(started.elapsed() < Duration::from_secs(30), "the form is awaited");
        }
        anyhow::Ok(())
    });
    // A byte now and then is no better.
    let mut slow = connect(&alice).await?;
    slow.write_all(head(&alice, "/auth/parse_token", 100).as_bytes()).await?;
    let drip = tokio::spawn(async move {
        let started = Instant::now();
        let mut byte = [0; 16];
        while timeout(Duration::from_secs(2), slow.read(&mut byte)).await.is_err() {
            slow.write_all(b"x").await?;
            anyhow::ensure!(started.elapsed() < Duration::from_secs(15), "the body is awaited");
        }
        anyhow::Ok(())
    });
    let said = answer(&mut silent).await?;
    assert!(said.contains("too slowly") && said.contains("connection: close"), "{said}");
    assert!((8..14).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
    drip.await??;
    trickle.await??;
    Ok(())
}

#[tokio::test]
async fn a_silent_connection_does_not_keep_the_node_from_stopping() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let ws: SocketAddr = alice.rest.ws().trim_start_matches("ws://").parse()?;
    let _silent = (connect(&alice).await?, TcpStream::connect(ws).await?);
    let mut begun = connect(&alice).await?;
    begun.write_all(b"POST /object/part_size HT").await?;
    let mut refused = connect(&alice).await?;
    let stranger = Client { token: "bad".into(), ..alice.clone() };
    refused.write_all(head(&stranger, "/object/part_size", 12 << 20).as_bytes()).await?;
    assert!(answer(&mut refused).await?.contains("connection: close"));
    let mut used = connect(&alice).await?;
    ask(&alice, &mut used).await?;
    let asked = Instant::now();
    node.stop().await?;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    Ok(())
}
