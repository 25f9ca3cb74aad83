//! Objects: the JSON routes, and beside them the routes that carry content.

mod content;
mod range;

use axum::http::header;
use axum::http::request::Parts;
use services::Services;

use super::answer::{decode, encode};
use super::route::{Call, Route, read};
use crate::client_address::OverTls;
use crate::error_code::ApiError;

pub(super) use content::{CONTENT, content_router};

/// A method of the services that takes the address of the API, as a handler.
macro_rules! linked {
    ($method:ident) => {
        |call: Call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let api = api_address(&call.services, &call.head)?;
                let response = call.services.$method(call.caller()?, &api, request).await?;
                encode(&response)
            })
        }
    };
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new("/object/part_limit", read!(part_limit)),
        Route::new("/object/part_size", read!(part_size)),
        Route::new("/object/initiate_multipart_upload", linked!(initiate_multipart_upload)),
        Route::new("/object/auth_sign", |call| {
            Box::pin(async move {
                let request = decode(&call.body)?;
                let api = api_address(&call.services, &call.head)?;
                encode(&call.services.auth_sign(call.caller()?, &api, &request)?)
            })
        }),
        Route::new("/object/complete_multipart_upload", linked!(complete_multipart_upload)),
        Route::new("/object/access_url", linked!(access_url)),
        Route::new("/object/initiate_form_data", linked!(initiate_form_data)),
        Route::new("/object/complete_form_data", linked!(complete_form_data)),
    ]
}

/// Address under which the client reaches the API, without a slash at its end: the configured one,
/// else what a proxy says in `X-Request-Api`, else what the client itself used.
fn api_address(services: &Services, head: &Parts) -> Result<String, ApiError> {
    let configured = services.settings().public_url.trim_end_matches('/');
    if !configured.is_empty() {
        return Ok(configured.to_owned());
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(given) = text("x-request-api").filter(|given| !given.is_empty()) {
        let harmless = |c: char| c.is_ascii_graphic() && !"\"'<>\\?#".contains(c);
        if ["http://", "https://"].iter().any(|scheme| given.starts_with(scheme))
            && given.chars().all(harmless)
        {
            return Ok(given.trim_end_matches('/').to_owned());
        }
        return Err(ApiError::args("X-Request-Api is no http address"));
    }
    let host = text(header::HOST.as_str()).filter(|host| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c))
    });
    let host = host.ok_or_else(|| ApiError::args("the request has no proper Host"))?;
    let scheme = if head.extensions.get::<OverTls>().is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{host}"))
}
