//! Wire types of Entente.
//!
//! * [`openim`]: every message of the client protocol, generated from `proto/openim/*.proto`.
//! * [`json`]: their JSON form, as clients of the REST API expect it.
//! * [`gob`]: the envelope encoding of the native SDKs.
//! * [`maps`]: answers with maps of messages, as all decoders read them.
//! * [`envelope`]: what travels in one WebSocket frame.
//! * [`federation`]: what nodes say to each other, from `proto/entente/federation.proto`.
//! * [`qualified`]: IDs of users and groups of other nodes.
//! * [`OperationId`]: what a client calls a request.

pub mod envelope;
pub mod gob;
pub mod json;
pub mod maps;
mod operation_id;
pub mod qualified;

#[allow(missing_docs, clippy::all)]
mod wire {
    include!(concat!(env!("OUT_DIR"), "/wire.rs"));
}

#[allow(missing_docs, clippy::all)]
pub mod federation {
    //! What nodes say to each other.
    include!(concat!(env!("OUT_DIR"), "/entente.federation.rs"));
}

pub use operation_id::OperationId;
pub use prost::Message;
pub use wire::openim;
pub use wire::openim::{
    auth, conversation, group, jssdk, msg, msggateway, protobuf, push, relation, sdkws, third, user,
};
