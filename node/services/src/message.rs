//! Messages: sending, pulling, reading, revoking, deleting.

mod pull;
mod send;
mod view;
