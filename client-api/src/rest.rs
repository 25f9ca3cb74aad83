//! The REST API: one POST route per operation, JSON in and out.

mod answer;
mod auth;
mod conversation;
mod friend;
mod group;
mod guard;
mod jssdk;
mod msg;
mod object;
mod route;
mod statistics;
mod third;
mod user;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{any, get};
use bytes::Bytes;
use services::Services;
use tower_http::compression::CompressionLayer;

pub use route::Access;
use route::Route;

/// What an operator can set about the REST API.
#[derive(Debug, Clone)]
pub struct Options {
    /// Compresses answers for clients that accept it.
    pub gzip: bool,
    /// The node document, served to other nodes; `None`: this node does not federate.
    pub node_document: Option<Bytes>,
}

/// Where the node document is.
const NODE_DOCUMENT: &str = "/.well-known/entente";

/// Path of every JSON route and who may call it, in the order of the subjects.
pub fn routes() -> Vec<(&'static str, Access)> {
    all().into_iter().map(|route| (route.path, route.access)).collect()
}

fn all() -> Vec<Route> {
    [
        auth::routes(),
        user::routes(),
        friend::routes(),
        group::routes(),
        conversation::routes(),
        msg::routes(),
        third::routes(),
        object::routes(),
        statistics::routes(),
        jssdk::routes(),
    ]
    .concat()
}

/// The REST API as a router.
pub fn router(services: Services, options: &Options) -> Router {
    let mut router = Router::new();
    for route in all() {
        router = router.route(route.path, any(route::handler(services.clone(), route)));
    }
    if let Some(document) = options.node_document.clone() {
        let serve = move || async move { ([(CONTENT_TYPE, "application/protobuf")], document) };
        router = router.route(NODE_DOCUMENT, get(serve));
    }
    if options.gzip {
        router = router.layer(CompressionLayer::new());
    }
    router
        .merge(object::content_router(services.clone()))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found") })
        .layer(axum::middleware::from_fn_with_state(services, guard::guard))
}
