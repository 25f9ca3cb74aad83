//! The API of the official clients: REST and the WebSocket gateway.
//!
//! Translates only: decodes a request, calls the [`Services`](services::Services), encodes the
//! answer. Rules are not here.

mod client_address;
mod error_code;
mod gateway;
mod guesses;
mod listen;
mod refusal;
mod rest;
mod tls;

pub use client_address::{NoNetwork, Proxies, block};
pub use gateway::{Gateway, Limits as GatewayLimits, opcodes};
pub use guesses::Guesses;
pub use listen::{Listen, RequestBody, serve};
pub use rest::{Access, Options as RestOptions, router, routes};
pub use tls::{Certificate, Tls, TlsError, read_certificates};
