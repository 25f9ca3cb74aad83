//! Accounts, over the API.

mod account;
mod online;
mod profile;
mod records;

/// The body of an answer without data.
const OK: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

/// The body of an answer with data.
fn ok(data: &str) -> String {
    format!(r#"{{"errCode":0,"errMsg":"","errDlt":"","data":{data}}}"#)
}
