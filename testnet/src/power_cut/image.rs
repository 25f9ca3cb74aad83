//! Opens one image and says whether everything is there.

use std::fs;
use std::path::Path;

use store::engine::DiskEngine;
use store::record::Number;
use store::{Options, Store, StoreError, schema, verify};

use super::fact::{self, Fact};
use crate::Result;

const CACHE_BYTES: u64 = 64 << 20;
/// Name of a counter that no image has.
const PROBE: &str = "power-cut-probe";

/// Checks the image in `folder` against the facts in a file; returns what is wrong.
///
/// Each opening leaves a change and looks for that of the one before: recovering must leave a
/// store that works.
pub(super) fn check(folder: &Path, facts: &Path, opening: i64) -> Result<Vec<String>> {
    let facts: Vec<Fact> = serde_json::from_slice(&fs::read(facts)?)?;
    match open_and_check(folder, &facts, opening) {
        Ok(wrong) => Ok(wrong),
        Err(error) => Ok(vec![format!("{error:#}")]),
    }
}

fn open_and_check(folder: &Path, facts: &[Fact], opening: i64) -> Result<Vec<String>> {
    let engine = DiskEngine::open(&folder.join("store"), CACHE_BYTES)?;
    let store = Store::open(Box::new(engine), Options::default())?;
    let view = store.view();
    let mut wrong = fact::broken(folder, &view, facts)?;
    let report = verify::verify(&view, |_| {})?;
    wrong.extend(report.findings.iter().map(ToString::to_string));
    let probe = schema::COUNTERS.get(&view, PROBE)?.map_or(0, |number| number.value);
    if probe != opening - 1 {
        wrong.push("what was written after the recovery is lost".into());
    }
    drop(view);
    store.transact_blocking(move |tx| {
        schema::COUNTERS.put(tx, PROBE, &Number { value: opening });
        Ok::<_, StoreError>(())
    })?;
    store.close();
    Ok(wrong)
}
