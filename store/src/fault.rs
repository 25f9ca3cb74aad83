//! Faults that a build of the test suite has on purpose, to show that its checks notice them.

#[cfg(all(feature = "faults", not(debug_assertions)))]
compile_error!("the feature `faults` loses data; it is for debug builds of the test suite");

/// Whether the variable `ENTENTE_FAULT` names this fault; without the feature `faults` none is.
#[must_use]
pub fn is_on(name: &str) -> bool {
    cfg!(feature = "faults") && std::env::var("ENTENTE_FAULT").is_ok_and(|fault| fault == name)
}
