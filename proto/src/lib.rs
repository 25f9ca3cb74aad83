//! Wire types of Entente.
//!
//! * [`openim`]: every message of the client protocol, generated from `proto/openim/*.proto`.
//! * [`json`]: their JSON form, as clients of the REST API expect it.
//! * [`gob`]: the envelope encoding of the native SDKs.
//! * [`envelope`]: what travels in one WebSocket frame.

pub mod envelope;
pub mod gob;
pub mod json;

#[allow(missing_docs, clippy::all)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

pub use prost::Message;
pub use wire::openim;
pub use wire::openim::{
    auth, conversation, group, jssdk, msg, msggateway, protobuf, push, relation, sdkws, third, user,
};
