//! envelopes
