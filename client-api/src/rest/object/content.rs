//! The routes that carry content: parts and forms in, objects out. None of them is JSON, none of
//! them holds a file in memory; a signature in the link takes the place of the token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use futures_util::StreamExt as _;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use services::object::{Content, ContentLink, FormLink, PartLink, PartWriter, ThumbnailLink};
use services::{ServiceError, Services, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_util::io::ReaderStream;

use super::api_address;
use super::range::{Wanted, wanted};
use crate::error_code::ApiError;

/// Front of the paths whose links are signed; they need no token.
pub(in super::super) const CONTENT: &str = "/storage/";
/// How long a client may let the node wait for the next bytes.
const IDLE: Duration = Duration::from_secs(60);
/// How long all may take that stands in a form before its file: until then anybody may send it.
const FORM_HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Fields of a form, and bytes of each, before its file.
const MAX_FIELDS: usize = 32;
const MAX_FIELD_BYTES: usize = 4 * 1024;
/// Bytes of a form beside those of its file.
const MAX_FORM_HEAD_BYTES: u64 = 256 * 1024;
/// How long a browser may keep content at most.
const MAX_AGE_SECONDS: i64 = 7 * 86_400;

/// Routes that carry the content of objects; they are not JSON.
pub(in super::super) fn content_router(services: Services) -> Router {
    Router::new()
        .route("/object/", get(redirect))
        .route("/object/{*name}", get(redirect))
        .route("/storage/content/{key}", get(read_content))
        .route("/storage/thumbnail/{key}/{file}", get(read_thumbnail))
        .route("/storage/upload/{id}", put(put_part))
        .route("/storage/form", post(post_form))
        .layer(DefaultBodyLimit::disable())
        .with_state(services)
}

/// Why there is no content, as plain text.
struct Refusal {
    status: StatusCode,
    text: String,
}

type Answer = Result<Response, Refusal>;

impl Refusal {
    fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        use ServiceError as E;
        let status = match &error {
            E::Args(_) | E::Data(_) | E::Object(_) => StatusCode::BAD_REQUEST,
            E::NoPermission(_) => StatusCode::FORBIDDEN,
            E::NotFound(_) => StatusCode::NOT_FOUND,
            E::UploadExpired(_) => StatusCode::GONE,
            E::DiskFull | E::Store(StoreError::DiskFull { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = ApiError::from(error);
        Self { status, text: format!("Error: {} {} {}", error.code, error.name, error.detail) }
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        (self.status, headers, self.text).into_response()
    }
}

/// `GET /object/NAME`: sends the browser to where the content is now.
async fn redirect(State(services): State<Services>, request: Request) -> Answer {
    let (head, _) = request.into_parts();
    let link = link(&services, &head).await.map_err(|error| {
        let unusable = matches!(error, ServiceError::Object(_));
        let refusal = Refusal::from(error);
        let status = if unusable { StatusCode::INTERNAL_SERVER_ERROR } else { refusal.status };
        Refusal { status, ..refusal }
    })?;
    Ok((StatusCode::FOUND, [(header::LOCATION, link)]).into_response())
}

async fn link(services: &Services, head: &Parts) -> Result<String, ServiceError> {
    let api =
        api_address(services, head).map_err(|error| ServiceError::args(error.detail.clone()))?;
    let name = head.uri.path().strip_prefix("/object/").unwrap_or_default();
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return Err(ServiceError::not_found(""));
    };
    let mut query = BTreeMap::new();
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(&head.uri);
    for (key, value) in pairs.map(|Query(pairs)| pairs).unwrap_or_default() {
        query.entry(key).or_insert(value);
    }
    Ok(services.object_link(None, &api, &name, &query).await?.url)
}

/// Query of a link to content.
#[derive(Deserialize)]
#[serde(default)]
struct LinkQuery {
    r#type: String,
    name: String,
    expires: i64,
    signature: String,
}

impl Default for LinkQuery {
    fn default() -> Self {
        let (r#type, name, signature) = Default::default();
        Self { r#type, name, expires: 0, signature }
    }
}

async fn read_content(
    State(services): State<Services>,
    Path(key): Path<String>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Answer {
    let link = ContentLink {
        key: &key,
        content_type: &query.r#type,
        file_name: &query.name,
        expires: query.expires,
        signature: &query.signature,
    };
    send(services.read_content(&link).await?, &headers).await
}

async fn read_thumbnail(
    State(services): State<Services>,
    Path((key, file)): Path<(String, String)>,
    Query(query): Query<LinkQuery>,
    headers: HeaderMap,
) -> Answer {
    let link = ThumbnailLink {
        key: &key,
        file: &file,
        expires: query.expires,
        signature: &query.signature,
    };
    send(services.read_thumbnail(&link).await?, &headers).await
}

/// The response that carries content, or the part of it that is asked for.
async fn send(mut content: Content, request: &HeaderMap) -> Answer {
    let text = |name: HeaderName| request.get(name).and_then(|value| value.to_str().ok());
    let tag = format!("\"{}\"", content.tag);
    let mut headers = content_headers(&content, &tag);
    let matches = |list: &str| list.split(',').any(|one| ["*", tag.as_str()].contains(&one.trim()));
    if text(header::IF_NONE_MATCH).is_some_and(matches) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let range = text(header::RANGE)
        .filter(|_| text(header::IF_RANGE).is_none_or(|condition| condition == tag));
    let (status, range) = match wanted(range, content.size) {
        Wanted::All => (StatusCode::OK, 0..content.size),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Nothing => {
            let all = [(header::CONTENT_RANGE, format!("bytes */{}", content.size))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, all).into_response());
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        let (last, size) = (range.end - 1, content.size);
        insert(
            &mut headers,
            header::CONTENT_RANGE,
            &format!("bytes {}-{last}/{size}", range.start),
        );
        let start = std::io::SeekFrom::Start(range.start);
        if let Err(error) = content.file.seek(start).await {
            tracing::error!(%error, "cannot read content");
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(Refusal { status, text: String::new() });
        }
    }
    let length = range.end - range.start;
    insert(&mut headers, header::CONTENT_LENGTH, &length.to_string());
    let stream = ReaderStream::with_capacity(content.file.take(length), CHUNK_BYTES);
    Ok((status, headers, Body::from_stream(stream)).into_response())
}

fn content_headers(content: &Content, tag: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, header::CONTENT_TYPE, "application/octet-stream");
    if !content.content_type.is_empty() {
        insert(&mut headers, header::CONTENT_TYPE, &content.content_type);
    }
    let disposition = match content.save_as.as_deref() {
        None => "inline".to_owned(),
        Some("") => "attachment".to_owned(),
        Some(name) => {
            format!("attachment; filename*=UTF-8''{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
        }
    };
    let age = (content.lasts_ms / 1_000).clamp(0, MAX_AGE_SECONDS);
    for (name, value) in [
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::ACCEPT_RANGES, "bytes"),
        (header::ETAG, tag),
        (header::CACHE_CONTROL, &format!("public, max-age={age}, immutable")),
        // Nothing that a user uploaded may run in the origin of the node.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        insert(&mut headers, name, value);
    }
    headers
}

/// Sets a header; a value that cannot be one leaves it as it was.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Query of a link for a part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartQuery {
    part_number: i32,
    expires: i64,
    signature: String,
}

/// `PUT /storage/upload/ID`: one part of an upload.
async fn put_part(
    State(services): State<Services>,
    Path(upload_id): Path<String>,
    Query(query): Query<PartQuery>,
    request: Request,
) -> Answer {
    let link = PartLink {
        upload_id: &upload_id,
        part: query.part_number,
        expires: query.expires,
        signature: &query.signature,
    };
    let mut writer = services.put_part(&link).await?;
    let length = request.headers().get(header::CONTENT_LENGTH);
    if let Some(length) = length.and_then(|length| length.to_str().ok()?.parse().ok()) {
        writer.check_length(length)?;
    }
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = in_time(body.next()).await? {
        let chunk: Bytes = chunk.map_err(|_| Refusal::bad("the body was cut"))?;
        writer.write(&chunk).await?;
    }
    let tag = format!("\"{}\"", writer.finish().await?);
    Ok((StatusCode::OK, [(header::ETAG, tag)]).into_response())
}

/// `POST /storage/form`: the fields of a form, then its file.
async fn post_form(State(services): State<Services>, request: Request) -> Answer {
    let room = Arc::new(AtomicU64::new(MAX_FORM_HEAD_BYTES));
    let mut form = Multipart::from_request(limited(request, &room), &())
        .await
        .map_err(|error| Refusal::bad(error.body_text()))?;
    let mut fields = BTreeMap::new();
    let end = Instant::now() + FORM_HEAD_DEADLINE;
    loop {
        let field =
            by(end, form.next_field()).await?.map_err(|error| Refusal::bad(error.body_text()))?;
        let Some(mut field) = field else { return Err(Refusal::bad("the form has no file")) };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            let writer = form_writer(&services, &fields).await?;
            room.fetch_add(writer.most_bytes(), Ordering::Relaxed);
            receive(writer, field).await?;
            return Ok(StatusCode::OK.into_response());
        }
        if fields.len() >= MAX_FIELDS {
            return Err(Refusal::bad("the form has too many fields"));
        }
        let mut value = Vec::new();
        while let Some(chunk) = next_chunk(&mut field, end).await? {
            if value.len() + chunk.len() > MAX_FIELD_BYTES {
                return Err(Refusal::bad("a field of the form is too long"));
            }
            value.extend_from_slice(&chunk);
        }
        fields.insert(name, String::from_utf8_lossy(&value).into_owned());
    }
}

/// The request, its body cut once it is longer than `room` says; the parser itself knows no limit.
fn limited(request: Request, room: &Arc<AtomicU64>) -> Request {
    let room = Arc::clone(room);
    let mut come = 0_u64;
    request.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let chunk = chunk.map_err(std::io::Error::other)?;
            come = come.saturating_add(chunk.len() as u64);
            if come > room.load(Ordering::Relaxed) {
                return Err(std::io::Error::other("the form is too long"));
            }
            Ok(chunk)
        }))
    })
}

async fn form_writer(
    services: &Services,
    fields: &BTreeMap<String, String>,
) -> Result<PartWriter, Refusal> {
    let get = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let link = FormLink {
        upload_id: get("key"),
        expires: get("expires").parse().unwrap_or(0),
        signature: get("signature"),
    };
    Ok(services.put_form(&link).await?)
}

async fn receive(mut writer: PartWriter, mut file: Field<'_>) -> Result<(), Refusal> {
    while let Some(chunk) = next_chunk(&mut file, Instant::now() + IDLE).await? {
        writer.write(&chunk).await?;
    }
    writer.finish().await?;
    Ok(())
}

async fn next_chunk(field: &mut Field<'_>, end: Instant) -> Result<Option<Bytes>, Refusal> {
    by(end, field.chunk()).await?.map_err(|error| Refusal::bad(error.body_text()))
}

/// What `next` gives, unless the client lets the node wait too long.
async fn in_time<T>(next: impl Future<Output = T>) -> Result<T, Refusal> {
    by(Instant::now() + IDLE, next).await
}

/// What `next` gives, unless that takes until `end`.
async fn by<T>(end: Instant, next: impl Future<Output = T>) -> Result<T, Refusal> {
    timeout_at(end, next).await.map_err(|_| Refusal {
        status: StatusCode::REQUEST_TIMEOUT,
        text: "no bytes came for too long".to_owned(),
    })
}
