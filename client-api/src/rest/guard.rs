//! What happens to every request before its route: trace ID, token, CORS.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use proto::OperationId;
use services::Services;
use uuid::Uuid;

use super::answer::refuse;
use super::object::CONTENT;
use crate::error_code::ApiError;
use crate::guesses::judged;

/// The operation ID of a request.
#[derive(Debug, Clone)]
pub(super) struct Trace(pub(super) OperationId);

const OPEN: [&str; 2] = ["/auth/get_admin_token", "/auth/parse_token"];

const CORS: [(&str, &str); 6] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "*"),
    ("access-control-allow-headers", "*"),
    (
        "access-control-expose-headers",
        "Content-Length, Access-Control-Allow-Origin, Access-Control-Allow-Headers,Cache-Control,\
         Content-Language,Content-Type,Expires,Last-Modified,Pragma,FooBar",
    ),
    ("access-control-max-age", "172800"),
    ("access-control-allow-credentials", "false"),
];

/// Checks a request and marks its response.
pub(super) async fn guard(
    State(services): State<Services>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(target) = without_slash(&request) {
        return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]).into_response();
    }
    let mut response = if request.method() == Method::OPTIONS {
        ([(header::CONTENT_TYPE, "application/json")], "\"Options Request!\"").into_response()
    } else if request.method() == Method::POST && !request.uri().path().starts_with(CONTENT) {
        match admit(&services, &mut request).await {
            Ok(()) => next.run(request).await,
            Err(error) => refuse(error),
        }
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in CORS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&Uuid::new_v4().to_string()) {
        headers.insert("x-http-id", id);
    }
    response
}

/// Where a path with a superfluous slash at its end leads.
fn without_slash(request: &Request) -> Option<String> {
    let path = request.uri().path();
    // The name of an object may end with one.
    if request.method() != Method::POST && path.starts_with("/object/") {
        return None;
    }
    let clean = path.strip_suffix('/').filter(|clean| !clean.is_empty())?;
    // `//host/` would lead to another host.
    let clean = format!("/{}", clean.trim_start_matches('/'));
    Some(match request.uri().query() {
        Some(query) => format!("{clean}?{query}"),
        None => clean,
    })
}

async fn admit(services: &Services, request: &mut Request) -> Result<(), ApiError> {
    let operation_id = text(request.headers(), "operationid");
    if operation_id.is_empty() {
        return Err(ApiError::args("header must have operationID"));
    }
    let operation_id = OperationId::new(operation_id);
    if !OPEN.iter().any(|open| request.uri().path().starts_with(open)) {
        let token = text(request.headers(), "token").to_owned();
        if token.is_empty() {
            return Err(ApiError::args("header must have token"));
        }
        let caller = services.check_token(&token, &operation_id);
        let caller =
            judged(caller, services, &token, request.extensions(), request.uri().path()).await?;
        request.extensions_mut().insert(caller);
    }
    request.extensions_mut().insert(Trace(operation_id));
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or("")
}
