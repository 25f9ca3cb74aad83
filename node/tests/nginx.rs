//! The node behind a real nginx, with the configuration file of the docs.
//!
//! Tested where nginx is installed; CI installs it.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test")]

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use testnet::upload::upload;
use testnet::{Client, Process, Rest, Result, free_port};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");
const FILE: &str = include_str!("../../docs/nginx.conf");
const DEADLINE: Duration = Duration::from_secs(20);

/// nginx on a port of its own, with a certificate for localhost.
struct Front {
    _nginx: Child,
    port: u16,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Front {
    async fn start(node: &Process) -> Result<Self> {
        let rest = node.rest();
        let port = free_port()?;
        let CertifiedKey { cert, key_pair } =
            generate_simple_self_signed(["localhost".to_owned()])?;
        let folder = node.scratch();
        let (certificate, key) = (folder.join("fullchain.pem"), folder.join("privkey.pem"));
        std::fs::write(&certificate, cert.pem())?;
        std::fs::write(&key, key_pair.serialize_pem())?;
        let mut site = FILE.to_owned();
        for (from, to) in [
            ("127.0.0.1:10002", rest.api().trim_start_matches("http://")),
            ("127.0.0.1:10001", rest.ws().trim_start_matches("ws://")),
            ("listen 443 ssl", &format!("listen 127.0.0.1:{port} ssl")),
            // The client is on this machine, too; the node is to tell the two apart.
            ("proxy_http_version 1.1;", "proxy_http_version 1.1;\nproxy_bind 127.0.0.2;"),
            ("server_name im.example.org", "server_name localhost"),
            ("/etc/ssl/im.example.org/fullchain.pem", &certificate.display().to_string()),
            ("/etc/ssl/im.example.org/privkey.pem", &key.display().to_string()),
        ] {
            anyhow::ensure!(site.contains(from), "docs/nginx.conf lacks {from}");
            site = site.replace(from, to);
        }
        let at = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {at}/nginx_{kind};\n"))
            .collect();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nerror_log {at}/nginx.log info;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{site}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, main)?;
        let nginx = Command::new("nginx")
            .args(["-p", &at.to_string(), "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let front = Self { _nginx: nginx, port, certificate: cert.der().clone(), pem: cert.pem() };
        let up = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, up).await?;
        Ok(front)
    }

    /// A client that reaches the node through nginx.
    fn reach(&self, client: &Client) -> Result<Client> {
        let root = reqwest::Certificate::from_pem(self.pem.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only([root]).build()?;
        let (api, ws) = (self.address("https"), self.address("wss"));
        Ok(Client { rest: Rest::with_client(http, api, ws), ..client.clone() })
    }

    fn address(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.port)
    }

    /// The first thing that the gateway says to a client.
    async fn log_in(&self, client: &Client) -> Result<Value> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let url = format!(
            "{}/msg_gateway?sendID={}&token={}&platformID=5&operationID=nginx&isBackground=false\
             &isMsgResp=true&sdkType=js",
            self.address("wss"),
            client.user_id,
            client.token
        );
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        let said = timeout(DEADLINE, futures_util::StreamExt::next(&mut socket)).await?;
        let Some(Ok(Message::Text(said))) = said else { anyhow::bail!("{said:?}") };
        Ok(serde_json::from_str(&said)?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_docs_works() -> Result {
    if Command::new("nginx").arg("-v").output().await.is_err() {
        println!("nginx is not installed: not tested");
        return Ok(());
    }
    let node = Process::builder(PROGRAM).variable("ENTENTE_API_TRUSTED_PROXIES", "127.0.0.2");
    let node = node.start().await?;
    let direct = node.admin().await?.user("alice").await?;
    let front = Front::start(&node).await?;
    let alice = front.reach(&direct)?;

    // Links lead through nginx, and content goes through it both ways.
    let content: Vec<u8> = (0..12_u32 << 20).map(|at| (at ^ (at >> 8)) as u8).collect();
    let link = upload(&alice, "alice/film.mp4", "video/mp4", &content).await?;
    assert!(link.starts_with(&format!("{}/object/~", front.address("https"))), "{link}");
    let response = alice.rest.http().get(&link).send().await?;
    assert_eq!(response.status(), 200);
    assert!(response.url().as_str().starts_with(&front.address("https")));
    assert!(response.bytes().await? == content);

    // A client cannot say which host the links lead to.
    let ask = alice.rest.http().get(&link).header("X-Forwarded-Host", "evil.example");
    let response = ask.send().await?;
    assert!(response.url().as_str().starts_with(&front.address("https")), "{}", response.url());

    assert_eq!(front.log_in(&alice).await?["errCode"], 0);

    // A refused upload gets its answer, and nobody is closed while idle.
    let stranger = Client { token: "bad".into(), ..alice.clone() };
    let body = "x".repeat(3 << 20);
    let refused = stranger.rest.post("/object/part_size", "bad", "o", body).await?;
    assert_eq!(refused.code, 1503);
    let ask = async || {
        let calls = (0..20).map(|_| alice.call("/object/part_size", json!({ "size": 5 })));
        futures_util::future::try_join_all(calls).await
    };
    ask().await?;
    sleep(Duration::from_secs(12)).await;
    ask().await?;

    // Guesses count for the address that nginx saw, and a client cannot write another one.
    let last = async |from: &str| {
        let http = alice.rest.http().post(format!("{}/object/part_size", alice.rest.api()));
        let http = http.header("token", "bad").header("operationID", "o");
        let start = std::time::Instant::now();
        http.header("X-Forwarded-For", from).body("{}").send().await?;
        anyhow::Ok(start.elapsed())
    };
    let mut took = Duration::ZERO;
    for at in 0..26 {
        took = last(&format!("192.0.2.{at}")).await?;
    }
    assert!(took > Duration::from_millis(400), "{took:?}");
    Ok(())
}
