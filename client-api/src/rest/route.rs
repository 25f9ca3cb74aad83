//! A route and how it runs.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _};
use services::{Caller, Services};
use tokio::time::{Instant, timeout_at};

use super::answer::{Answer, respond};
use super::guard::Trace;
use crate::error_code::ApiError;

/// Largest body of a request.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How long the next bytes of a body may be awaited.
const BODY_IDLE: Duration = Duration::from_secs(10);
/// How fast it must come after so long at least, and how long all of it may take.
const LEAST_BYTES_PER_SECOND: usize = 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// Who may call a route at all; what they may do with it the services decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the port.
    Open,
    /// Holders of a token.
    Token,
}

/// A call: its caller (`None` on open routes), the head, query, content type and body of the request.
pub(super) struct Call {
    pub(super) services: Services,
    pub(super) caller: Option<Caller>,
    pub(super) head: Parts,
    pub(super) query: String,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl Call {
    /// The caller; only open routes have none.
    pub(super) fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or_else(ApiError::internal)
    }
}

/// Runs a call.
pub(super) type Run = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One operation of the REST API.
#[derive(Clone, Copy)]
pub(super) struct Route {
    /// Its path, for example `/user/user_register`.
    pub(super) path: &'static str,
    /// Who may call it.
    pub(super) access: Access,
    /// HTTP status of an answer to a body that does not parse.
    pub(super) bad_body: StatusCode,
    pub(super) run: Run,
}

impl Route {
    /// A route for holders of a token.
    pub(super) const fn new(path: &'static str, run: Run) -> Self {
        Self { path, access: Access::Token, bad_body: StatusCode::OK, run }
    }

    /// A route for whoever reaches the port.
    pub(super) const fn open(path: &'static str, run: Run) -> Self {
        Self { path, access: Access::Open, bad_body: StatusCode::OK, run }
    }

    /// Answers a body that does not parse with status 400.
    pub(super) const fn with_bad_request(mut self) -> Self {
        self.bad_body = StatusCode::BAD_REQUEST;
        self
    }
}

/// A method of the services that changes something, as a [`Run`].
macro_rules! call {
    ($method:ident) => {
        |call: $crate::rest::route::Call| {
            Box::pin(async move {
                let request = $crate::rest::answer::decode(&call.body)?;
                let response = call.services.$method(call.caller()?, request).await?;
                $crate::rest::answer::encode(&response)
            })
        }
    };
}

/// A method of the services that only reads, as a [`Run`].
macro_rules! read {
    ($method:ident) => {
        |call: $crate::rest::route::Call| {
            Box::pin(async move {
                let request = $crate::rest::answer::decode(&call.body)?;
                let response = call.services.$method(call.caller()?, &request)?;
                $crate::rest::answer::encode(&response)
            })
        }
    };
}

pub(super) use {call, read};

/// The axum handler of a route.
pub(super) fn handler(
    services: Services,
    route: Route,
) -> impl Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Clone {
    move |request| {
        let services = services.clone();
        Box::pin(async move {
            if request.method() != Method::POST {
                return (StatusCode::NOT_FOUND, "404 page not found").into_response();
            }
            let (parts, body) = request.into_parts();
            let header = parts.headers.get("content-type").and_then(|value| value.to_str().ok());
            let content_type = header.unwrap_or_default().to_owned();
            let operation_id = parts.extensions.get::<Trace>().map(|trace| trace.0.clone());
            let answer = match read_body(body).await {
                Err(error) => Err(error),
                Ok(body) => {
                    let caller = parts.extensions.get::<Caller>().cloned();
                    let query = parts.uri.query().unwrap_or_default().to_owned();
                    let call = Call { services, caller, head: parts, query, content_type, body };
                    let run = AssertUnwindSafe((route.run)(call)).catch_unwind();
                    run.await.unwrap_or_else(|_| {
                        tracing::error!(path = route.path, "the handler panicked");
                        Err(ApiError::internal())
                    })
                }
            };
            let code = answer.as_ref().err().map_or(0, |error| error.code);
            tracing::debug!(
                path = route.path,
                operation_id = operation_id.as_deref().unwrap_or_default(),
                code,
                "answered"
            );
            respond(answer, route.bad_body)
        })
    }
}

/// The whole body, if it comes at a pace: who is slower has to make room.
async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let cut = || ApiError::args(format!("the body is cut or over {MAX_BODY_BYTES} bytes"));
    let start = Instant::now();
    let mut body = body.into_data_stream();
    let mut read = BytesMut::new();
    loop {
        let came = Duration::from_secs((read.len() / LEAST_BYTES_PER_SECOND) as u64);
        let end = start + (BODY_IDLE + came).min(BODY_DEADLINE);
        let end = end.min(Instant::now() + BODY_IDLE);
        let next = timeout_at(end, body.next()).await;
        let next = next.map_err(|_| ApiError::args("the body comes too slowly"))?;
        let Some(chunk) = next else { return Ok(read.freeze()) };
        let chunk = chunk.map_err(|_| cut())?;
        if read.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(cut());
        }
        read.extend_from_slice(&chunk);
    }
}
