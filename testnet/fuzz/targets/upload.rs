//! Any bytes as forms, parts, requests about uploads, links and pictures, on the whole REST API.
//!
//! The first byte chooses what the rest is. Nothing may panic, and what was stored reads back.
#![no_main]

use std::sync::OnceLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, header};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use services::environment::Environment;
use services::{Services, Settings};
use store::Store;
use store::engine::MemoryEngine;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const SECRET: &str = "openIM123";
const BOUNDARY: &str = "b";
const HOST: &str = "http://localhost";

struct Target {
    runtime: Runtime,
    router: Router,
    token: String,
}

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = std::env::temp_dir().join(format!("fuzz-upload-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let options = store::Options {
            salt: [7; 16],
            dedupe_window_ms: 3_600_000,
            dedupe_messages: 1_000,
            reserve_bytes: 0,
            inline: false,
        };
        let store = Store::open(Box::new(MemoryEngine::default()), options).expect("a store");
        let settings =
            Settings { secret: SECRET.into(), object_folder: folder, ..Settings::default() };
        let (router, token) = runtime.block_on(async {
            let services = Services::new(store, settings, Environment::system());
            services.seed_admins().await.expect("an admin");
            let router = client_api::router(services, &client_api::RestOptions { gzip: false, node_document: None });
            let log_in = json!({ "secret": SECRET, "userID": "imAdmin" });
            let path = "/auth/get_admin_token";
            let answer = post(&router, path, "", log_in.to_string().into()).await;
            let token = answer["data"]["token"].as_str().expect("a token").to_owned();
            (router, token)
        });
        Target { runtime, router, token }
    })
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.expect("an answer")
}

async fn post(router: &Router, path: &str, token: &str, body: Vec<u8>) -> Value {
    let request = Request::post(path)
        .header("operationID", "fuzz")
        .header("token", token)
        .header(header::HOST, "localhost")
        .body(Body::from(body))
        .expect("a request");
    let answer = send(router, request).await.into_body();
    let bytes = to_bytes(answer, usize::MAX).await.expect("a body");
    serde_json::from_slice(&bytes).unwrap_or_default()
}

async fn post_form(router: &Router, body: Vec<u8>) -> u16 {
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    let request = Request::post("/storage/form").header(header::CONTENT_TYPE, kind);
    let request = request.body(Body::from(body)).expect("a request");
    send(router, request).await.status().as_u16()
}

async fn get(router: &Router, path: &str, range: Option<&[u8]>) -> Option<(u16, String, Vec<u8>)> {
    let mut request = Request::get(path).header(header::HOST, "localhost");
    if let Some(range) = range {
        request = request.header(header::RANGE, range);
    }
    let response = send(router, request.body(Body::empty()).ok()?).await;
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|to| to.to_str().ok()).unwrap_or_default().to_owned();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    Some((status, location, body.to_vec()))
}

/// A form for a file of `size` bytes: its ID and the fields that go before the file.
async fn form(target: &Target, size: usize) -> Option<(String, Vec<u8>)> {
    let request = json!({ "name": "imAdmin/x", "size": size, "contentType": "image/png" });
    let body = request.to_string().into();
    let answer = post(&target.router, "/object/initiate_form_data", &target.token, body).await;
    let id = answer["data"]["id"].as_str()?.to_owned();
    let mut fields = String::new();
    for (name, value) in answer["data"]["formData"].as_object()? {
        let value = value.as_str()?;
        fields.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    Some((id, fields.into_bytes()))
}

/// Uploads `content`, if it can be sent, and reads it back, whole, by a range and as a thumbnail.
async fn round(target: &Target, content: &[u8]) -> Option<()> {
    // A client chooses a boundary that its file does not hold.
    let boundary = format!("--{BOUNDARY}");
    if content.windows(boundary.len()).any(|part| part == boundary.as_bytes()) {
        return None;
    }
    let (id, mut body) = form(target, content.len()).await?;
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"x\"";
    body.extend_from_slice(format!("--{BOUNDARY}\r\n{head}\r\n\r\n").as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    if post_form(&target.router, body).await != 200 {
        return None;
    }
    let done = json!({ "id": id }).to_string().into();
    let path = "/object/complete_form_data";
    let answer = post(&target.router, path, &target.token, done).await;
    assert_eq!(answer["errCode"], 0, "{answer}");
    let link = answer["data"]["url"].as_str().and_then(|url| url.strip_prefix(HOST));
    let link = link.expect("a link");
    let (status, location, _) = get(&target.router, link, None).await?;
    assert_eq!(status, 302);
    let path = location.strip_prefix(HOST).expect("a place");
    let (status, _, stored) = get(&target.router, path, None).await?;
    assert_eq!((status, stored.as_slice()), (200, content));
    let picture = format!("{link}?type=image&width=40&height=40&format=png");
    let (_, location, _) = get(&target.router, &picture, None).await?;
    if let Some(path) = location.strip_prefix(HOST) {
        get(&target.router, path, None).await?;
    }
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let target = target();
    target.runtime.block_on(async {
        let router = &target.router;
        match kind % 6 {
            0 => {
                post_form(router, data.to_vec()).await;
            }
            1 => {
                if let Some((_, mut body)) = form(target, 8).await {
                    body.extend_from_slice(data);
                    post_form(router, body).await;
                }
            }
            2 => {
                let paths = [
                    "/object/initiate_multipart_upload",
                    "/object/auth_sign",
                    "/object/complete_multipart_upload",
                    "/object/initiate_form_data",
                    "/object/complete_form_data",
                    "/object/access_url",
                ];
                for path in paths {
                    post(router, path, &target.token, data.to_vec()).await;
                }
            }
            3 => {
                if let Ok(path) = std::str::from_utf8(data) {
                    get(router, &format!("/object/{path}"), None).await;
                    get(router, &format!("/storage/{path}"), None).await;
                }
            }
            4 => {
                get(router, "/storage/content/x?name=x&expires=1&signature=x", Some(data)).await;
            }
            _ => {
                round(target, data).await;
            }
        }
    });
});
