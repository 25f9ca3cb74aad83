//! `docs/client-compatibility.md` follows from the router, the tests and the recordings.
//!
//! With UPDATE_DOCS set the test writes the page; otherwise a stale one fails.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use client_api::Access;
use serde_json::Value;

const OPCODES: [(i32, &str); 10] = [
    (1001, "newest seqs"),
    (1002, "pull by ranges"),
    (1003, "send"),
    (1004, "signalling, refused as by the original"),
    (1005, "pull by seqs"),
    (1006, "read and newest seqs"),
    (1007, "last messages"),
    (2003, "log out"),
    (2004, "background"),
    (2005, "online status"),
];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Every file of the scenario tests, by name, with its text.
fn sources(folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("reads") {
        let path = entry.expect("reads").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(tests()).expect("below").display().to_string();
            found.insert(name, fs::read_to_string(&path).expect("reads"));
        }
    }
}

/// Number of recorded calls of each route.
fn recorded() -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(tests().join("recordings")).expect("reads") {
        let path = entry.expect("reads").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.starts_with("rest-") {
            continue;
        }
        for line in fs::read_to_string(&path).expect("reads").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let route = line["route"].as_str().unwrap_or_default();
            let route = route.split('?').next().unwrap_or_default();
            *counts.entry(route.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn page() -> String {
    let mut files = BTreeMap::new();
    sources(&tests(), &mut files);
    files.remove("compatibility.rs");
    let recorded = recorded();
    let mut text = String::from(
        "# Client compatibility\n\n\
         The node speaks the REST and WebSocket API of OpenIM 3.8 to the official SDKs, unmodified. The\n\
         suites in `testnet/sdk` drive `@openim/client-sdk` under Node.js and\n\
         `@openim/wasm-client-sdk` in Chromium against it. This page is generated:\n\
         `UPDATE_DOCS=1 cargo test --workspace`.\n\n\
         The node is stricter than the original where one user could read of another: listing all\n\
         groups with `/group/get_groups` needs an app admin (one group by its ID does not), and\n\
         requests 1005 and 1007 answer for oneself only.\n\n\
         ## Routes\n\n\
         Every route is called by everybody from nobody to an app admin\n\
         (`node/tests/access/table.tsv`). Recorded: calls to the original server that are repeated and\n\
         compared (`node/tests/recordings`). Scenarios: files in `node/tests` that use the route.\n\n\
         | route | token | recorded | scenarios |\n|---|---|---|---|\n",
    );
    for (path, access) in client_api::routes() {
        let token = if access == Access::Token { "yes" } else { "no" };
        let calls = recorded.get(path).copied().unwrap_or_default();
        let quoted = format!("\"{path}\"");
        let scenarios: Vec<String> = files
            .iter()
            .filter(|(_, source)| source.contains(&quoted))
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        assert!(calls > 0 || !scenarios.is_empty(), "nothing tests {path}");
        text.push_str(&format!("| `{path}` | {token} | {calls} | {} |\n", scenarios.join(", ")));
    }
    text.push_str(
        "\n## Requests on the WebSocket\n\n\
         All are in the access table; both SDK suites use them.\n\n| opcode | |\n|---|---|\n",
    );
    for number in client_api::opcodes() {
        let (_, what) = OPCODES.iter().find(|(known, _)| known == number).expect("described");
        text.push_str(&format!("| {number} | {what} |\n"));
    }
    text.push_str(&recordings());
    text
}

/// How much of the recordings agrees, and why the rest does not.
fn recordings() -> String {
    let listed = fs::read_to_string(tests().join("recordings/differences.json")).expect("reads");
    let listed: BTreeMap<String, String> = serde_json::from_str(&listed).expect("JSON");
    let mut rows = String::new();
    let (mut all, mut differing) = (0, 0);
    let mut files: Vec<_> = fs::read_dir(tests().join("recordings"))
        .expect("reads")
        .map(|entry| entry.expect("reads").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let lines = fs::read_to_string(&path).expect("reads").lines().count();
        let differ = listed.keys().filter(|place| place.starts_with(&format!("{name}:"))).count();
        rows.push_str(&format!("| `{name}` | {lines} | {differ} |\n"));
        (all, differing) = (all + lines, differing + differ);
    }
    let agree = all - differing;
    assert!(agree * 100 >= all * 94, "only {agree} of {all} agree");
    let mut text = format!(
        "\n## Recordings\n\n\
         {agree} of {all} recorded calls, handshakes, frames and operations are answered as by the\n\
         original server, with the same pushes and changes of lists. They are repeated by\n\
         `node/tests/recordings`, `node/tests/gateway_recordings` and `node/tests/traces.rs`.\n\n\
         | recording | lines | differ |\n|---|---|---|\n{rows}\n\
         Each line below is answered otherwise, on purpose.\n\n\
         | recorded line | why |\n|---|---|\n"
    );
    for (place, why) in by_number(listed) {
        text.push_str(&format!("| `{place}` | {why} |\n"));
    }
    text
}

/// In the order of the lines of each file.
fn by_number(listed: BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut listed: Vec<_> = listed.into_iter().collect();
    listed.sort_by_key(|(place, _)| {
        let (file, line) = place.rsplit_once(':').expect("a place");
        (file.to_owned(), line.parse::<usize>().expect("a number"))
    });
    listed
}

#[test]
fn the_page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/client-compatibility.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(file, page).expect("writes");
    } else {
        let written = fs::read_to_string(file).expect("reads");
        assert!(written == page, "stale: run UPDATE_DOCS=1 cargo test --workspace");
    }
}
