//! Both ports over TLS, with a certificate and key from the configuration.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testnet::{Process, Result, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
const DEADLINE: Duration = Duration::from_secs(10);

struct Scene {
    process: Process,
    certificate: PathBuf,
    key: PathBuf,
    connector: TlsConnector,
}

/// A stopped node with a user, and a certificate that the client trusts.
async fn scene() -> Result<Scene> {
    let mut process = Process::builder(PROGRAM).start().await?;
    process.admin().await?.register(&["alice"]).await?;
    process.stop().await?;
    let CertifiedKey { cert, key_pair } = generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = process.scratch().join("certificate.pem");
    let key = process.scratch().join("key.pem");
    std::fs::write(&certificate, cert.pem())?;
    std::fs::write(&key, key_pair.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Scene { process, certificate, key, connector: TlsConnector::from(Arc::new(config)) })
}

impl Scene {
    /// Starts the node with the certificate on both ports.
    fn serve(&self) -> Result<(Child, u16, u16)> {
        let (api, ws) = (free_port()?, free_port()?);
        let mut command = self.process.command("serve");
        for section in ["API", "WS"] {
            command.env(format!("ENTENTE_{section}_TLS_CERTIFICATE"), &self.certificate);
            command.env(format!("ENTENTE_{section}_TLS_KEY"), &self.key);
        }
        command.args(["--api", &format!("127.0.0.1:{api}"), "--ws", &format!("127.0.0.1:{ws}")]);
        Ok((command.stderr(std::process::Stdio::piped()).spawn()?, api, ws))
    }

    async fn connect(&self, port: u16) -> Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(self.connector.connect(ServerName::try_from("localhost")?, socket).await?)
    }

    /// Waits until both ports answer.
    async fn is_up(&self, api: u16, ws: u16) -> Result {
        let up = async {
            while self.connect(api).await.is_err() || self.connect(ws).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        Ok(timeout(DEADLINE, up).await?)
    }

    async fn post(&self, port: u16, path: &str, token: &str, body: Value) -> Result<Value> {
        let body = body.to_string();
        let mut stream = self.connect(port).await?;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
             operationID: tls\r\ntoken: {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await??;
        let answer = String::from_utf8(answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        Ok(serde_json::from_str(body)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ports_speak_tls() -> Result {
    let scene = scene().await?;
    let (_child, api, ws) = scene.serve()?;
    scene.is_up(api, ws).await?;
    let issued = json!({ "secret": testnet::SECRET, "userID": "imAdmin" });
    let admin = scene.post(api, "/auth/get_admin_token", "", issued).await?;
    let admin = admin["data"]["token"].as_str().expect("a token").to_owned();
    let asked = json!({ "userID": "alice", "platformID": 5 });
    let alice = scene.post(api, "/auth/get_user_token", &admin, asked).await?;
    let alice = alice["data"]["token"].as_str().expect("a token").to_owned();

    // Links lead to where the request came in.
    let form = json!({ "name": "alice/x", "size": 1, "contentType": "text/plain" });
    let answer = scene.post(api, "/object/initiate_form_data", &alice, form).await?;
    let url = answer["data"]["url"].as_str().expect("a URL");
    assert!(url.starts_with(&format!("https://localhost:{api}/")), "{url}");

    let url = format!(
        "wss://localhost:{ws}/?sendID=alice&token={alice}&platformID=5&operationID=tls\
         &isBackground=false&isMsgResp=true&sdkType=js"
    );
    let stream = scene.connect(ws).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let said = timeout(DEADLINE, futures_util::StreamExt::next(&mut socket)).await?;
    let Some(Ok(Message::Text(said))) = said else { anyhow::bail!("{said:?}") };
    assert_eq!(serde_json::from_str::<Value>(&said)?["errCode"], 0);

    // Without TLS nothing is answered, and nothing breaks.
    for port in [api, ws] {
        let mut plain = TcpStream::connect(("127.0.0.1", port)).await?;
        plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = Vec::new();
        // A reset is an end too.
        let _ = timeout(DEADLINE, plain.read_to_end(&mut answer)).await?;
        assert!(!answer.starts_with(b"HTTP/"), "answered without TLS");
        scene.connect(port).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_fit_is_refused_at_the_start() -> Result {
    let scene = scene().await?;
    let other = generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(&scene.key, other.key_pair.serialize_pem())?;
    for broken in [false, true] {
        if broken {
            std::fs::write(&scene.key, "no key")?;
        }
        let (child, _, _) = scene.serve()?;
        let output = timeout(DEADLINE, child.wait_with_output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("key.pem"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_never_begins_tls_does_not_keep_the_node_from_stopping() -> Result {
    let scene = scene().await?;
    let (mut node, api, ws) = scene.serve()?;
    scene.is_up(api, ws).await?;
    let (api, ws) = (("127.0.0.1", api), ("127.0.0.1", ws));
    let _silent = (TcpStream::connect(api).await?, TcpStream::connect(ws).await?);
    sleep(Duration::from_millis(100)).await;
    let id = node.id().expect("it runs").to_string();
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await?.success());
    timeout(DEADLINE * 3, node.wait()).await??;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    Ok(())
}
