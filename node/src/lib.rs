//! What the program and the tests of many nodes share.

pub mod bridge;
