//! A node keeps to docs/federation, as far as a peer can tell.

use testnet::{Result, conformance};

/// Cases that there are at least.
const CASES: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn the_node_keeps_to_the_protocol() -> Result {
    let verdict = conformance::of_program(env!("CARGO_BIN_EXE_entente").into()).await?;
    assert!(verdict.failed.is_empty(), "{:#?}", verdict.failed);
    assert!(verdict.passed >= CASES, "only {} cases", verdict.passed);
    Ok(())
}
