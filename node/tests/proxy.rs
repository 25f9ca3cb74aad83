//! A node behind a proxy: what the proxy says of its clients.
#![allow(clippy::expect_used, reason = "a test may fail")]

use serde_json::{Value, json};
use testnet::{Client, Process, Result};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

/// Where an upload goes, asked for with these headers.
async fn link(alice: &Client, headers: &[(&str, &str)]) -> Result<String> {
    let form = json!({ "name": "alice/x", "size": 1, "contentType": "text/plain" });
    let url = format!("{}/object/initiate_form_data", alice.rest.api());
    let mut request = alice.rest.http().post(url).body(form.to_string());
    request = request.header("token", &alice.token).header("operationID", "proxy");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer: Value = serde_json::from_str(&request.send().await?.text().await?)?;
    let url = answer["data"]["url"].as_str();
    Ok(url.expect("a link").to_owned())
}

#[tokio::test]
async fn links_lead_to_where_the_client_reached_a_trusted_proxy() -> Result {
    let node = Process::builder(PROGRAM).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let told = [("Host", "im.example.org"), ("X-Forwarded-Proto", "https")];
    assert_eq!(link(&alice, &told).await?, "https://im.example.org/storage/form");
    let told = [("X-Forwarded-Host", "im.example.org:8443"), ("X-Forwarded-Proto", "https")];
    assert_eq!(link(&alice, &told).await?, "https://im.example.org:8443/storage/form");
    let plain = format!("{}/storage/form", alice.rest.api());
    assert_eq!(link(&alice, &[]).await?, plain);
    Ok(())
}

#[tokio::test]
async fn an_untrusted_proxy_is_not_believed() -> Result {
    let node = Process::builder(PROGRAM)
        .variable("ENTENTE_API_TRUSTED_PROXIES", "192.0.2.0/24")
        .start()
        .await?;
    let alice = node.admin().await?.user("alice").await?;
    let told = [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Proto", "https")];
    assert_eq!(link(&alice, &told).await?, format!("{}/storage/form", alice.rest.api()));
    Ok(())
}
