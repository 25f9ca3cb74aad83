//! gob
