//! SIGHUP: certificates and the log level are read again, and nobody is disconnected.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use testnet::{Process, Result, free_port};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
const DEADLINE: Duration = Duration::from_secs(20);

/// A node with TLS on both ports, and what it logs.
struct Scene {
    process: Process,
    child: Child,
    ports: [u16; 2],
    log: mpsc::UnboundedReceiver<String>,
}

/// Writes a new certificate and its key.
fn certify(folder: &Path) -> Result<CertificateDer<'static>> {
    let CertifiedKey { cert, key_pair } = generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("node.pem"), cert.pem())?;
    std::fs::write(folder.join("node.key"), key_pair.serialize_pem())?;
    Ok(cert.der().clone())
}

impl Scene {
    async fn start() -> Result<(Self, CertificateDer<'static>)> {
        let mut process = Process::builder(PROGRAM).start().await?;
        process.admin().await?.register(&["alice"]).await?;
        process.stop().await?;
        let certificate = certify(process.scratch())?;
        let (pem, key) = (process.scratch().join("node.pem"), process.scratch().join("node.key"));
        let tls = format!("tls_certificate = {pem:?}\ntls_key = {key:?}\n");
        std::fs::write(
            process.data().join("config.toml"),
            format!("[api]\n{tls}\n[ws]\n{tls}\n[log]\nlevel = \"info\"\n"),
        )?;
        let ports = [free_port()?, free_port()?];
        let mut child = process
            .command("serve")
            .args(["--api", &format!("127.0.0.1:{}", ports[0])])
            .args(["--ws", &format!("127.0.0.1:{}", ports[1])])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (tell, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = tell.send(line);
            }
        });
        for port in ports {
            timeout(DEADLINE, async {
                while connect(port, &certificate).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await?;
        }
        Ok((Self { process, child, ports, log }, certificate))
    }

    async fn hang_up(&mut self) -> Result {
        while self.log.try_recv().is_ok() {}
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().await?.success());
        Ok(())
    }

    /// The first line of the log that says something.
    async fn logged(&mut self, what: &str) -> Result<String> {
        timeout(DEADLINE, async {
            loop {
                let line = self.log.recv().await.expect("the node has ended");
                if line.contains(what) {
                    return line;
                }
            }
        })
        .await
        .map_err(|_| anyhow::anyhow!("nothing logged of {what}"))
    }

    fn edit(&self, from: &str, to: &str) -> Result {
        let file = self.process.data().join("config.toml");
        let text = std::fs::read_to_string(&file)?;
        assert!(text.contains(from), "{text}");
        Ok(std::fs::write(&file, text.replace(from, to))?)
    }
}

async fn connect(port: u16, trusted: &CertificateDer<'static>) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone())?;
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(ServerName::try_from("localhost")?, socket).await?)
}

/// Somebody who is connected to both ports.
struct Person {
    api: TlsStream<TcpStream>,
    ws: WebSocketStream<TlsStream<TcpStream>>,
}

impl Person {
    async fn connect(scene: &Scene, trusted: &CertificateDer<'static>) -> Result<Self> {
        let issued = scene.process.command("user").args(["token", "alice"]).output().await?;
        let (token, port) = (String::from_utf8(issued.stdout)?, scene.ports[1]);
        let url = format!(
            "wss://localhost:{port}/?sendID=alice&token={}&platformID=5&operationID=hangup\
             &isBackground=false&isMsgResp=true&sdkType=js",
            token.trim()
        );
        let stream = connect(port, trusted).await?;
        let (mut ws, _) = tokio_tungstenite::client_async(url, stream).await?;
        let said = timeout(DEADLINE, ws.next()).await?;
        assert!(matches!(said, Some(Ok(Message::Text(_)))), "{said:?}");
        Ok(Self { api: connect(scene.ports[0], trusted).await?, ws })
    }

    /// Whether both connections still answer.
    async fn is_answered(&mut self) -> Result<bool> {
        self.api.write_all(b"GET /no/such HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = [0; 4_096];
        let read = timeout(DEADLINE, self.api.read(&mut answer)).await??;
        self.ws.send(Message::Ping("here".into())).await?;
        let pong = timeout(DEADLINE, self.ws.next()).await?;
        Ok(read > 0 && matches!(pong, Some(Ok(Message::Pong(_)))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_while_everybody_stays() -> Result {
    let (mut scene, old) = Scene::start().await?;
    let mut alice = Person::connect(&scene, &old).await?;
    assert!(alice.is_answered().await?);
    let new = certify(scene.process.scratch())?;
    scene.hang_up().await?;
    scene.logged("read again").await?;
    for port in scene.ports {
        assert!(connect(port, &old).await.is_err(), "the old certificate is shown");
        connect(port, &new).await?;
    }
    assert!(alice.is_answered().await?, "a connection was closed");

    // A bad one is not taken: one line of an error, and the last good one stays.
    for spoil in ["node.key", "node.pem"] {
        let file = scene.process.scratch().join(spoil);
        let good = std::fs::read(&file)?;
        std::fs::write(&file, "nothing of the kind")?;
        scene.hang_up().await?;
        let line = scene.logged("ERROR").await?;
        assert!(line.contains(spoil), "{line}");
        for port in scene.ports {
            connect(port, &new).await?;
        }
        std::fs::write(&file, good)?;
    }
    assert!(alice.is_answered().await?, "a connection was closed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_and_a_bad_configuration_changes_nothing() -> Result {
    let (mut scene, certificate) = Scene::start().await?;
    scene.edit("level = \"info\"", "level = \"debug\"")?;
    scene.hang_up().await?;
    scene.logged("read again").await?;
    let mut stream = connect(scene.ports[0], &certificate).await?;
    let asked = "POST /auth/parse_token HTTP/1.1\r\nHost: localhost\r\noperationID: o\r\n\
                 Content-Length: 2\r\n\r\n{}";
    stream.write_all(asked.as_bytes()).await?;
    scene.logged("DEBUG").await?;

    scene.edit("level = \"debug\"", "level = \"loud\"")?;
    let new = certify(scene.process.scratch())?;
    scene.hang_up().await?;
    let line = scene.logged("ERROR").await?;
    assert!(line.contains("log.level") && line.contains("loud"), "{line}");
    assert!(connect(scene.ports[0], &new).await.is_err(), "half of it was taken");
    connect(scene.ports[0], &certificate).await?;

    // What needs a start is named.
    scene.edit("level = \"loud\"", "level = \"info\"\n[chat]\nretain = \"9d\"")?;
    scene.hang_up().await?;
    let line = scene.logged("read again").await?;
    assert!(line.contains("chat.retain"), "{line}");
    connect(scene.ports[1], &new).await?;
    Ok(())
}
