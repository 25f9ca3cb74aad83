//! Uploads in parts, as the SDKs make them.

use anyhow::{Context as _, ensure};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::{Client, Result};

/// Bytes per part.
pub const PART: usize = 5 << 20;

/// MD5 in hex.
pub fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// MD5 of each part.
pub fn part_md5s(content: &[u8]) -> Vec<String> {
    content.chunks(PART).map(md5).collect()
}

/// Hash of content as clients compute it.
pub fn hash(content: &[u8]) -> String {
    md5(part_md5s(content).join(",").as_bytes())
}

/// The request that begins an upload.
pub fn initiate(content: &[u8], name: &str, content_type: &str, max_parts: i32) -> Value {
    json!({
        "hash": hash(content), "size": content.len(), "partSize": PART, "maxParts": max_parts,
        "cause": "msg-file", "name": name, "contentType": content_type,
    })
}

/// The request that ends it.
pub fn complete(content: &[u8], upload: &Value, name: &str, content_type: &str) -> Value {
    json!({
        "uploadID": upload["uploadID"], "parts": part_md5s(content), "name": name,
        "contentType": content_type, "cause": "msg-file",
    })
}

/// The URL of one part, put together as the SDKs do.
pub fn part_url(sign: &Value, at: usize) -> Result<reqwest::Url> {
    let part = &sign["parts"][at];
    let own = part["url"].as_str().filter(|url| !url.is_empty());
    let mut url = reqwest::Url::parse(own.or(sign["url"].as_str()).context("no URL")?)?;
    for list in [&sign["query"], &part["query"]] {
        for pair in list.as_array().into_iter().flatten() {
            let (key, value) = (pair["key"].as_str(), pair["values"][0].as_str());
            url.query_pairs_mut().append_pair(key.context("no key")?, value.context("no value")?);
        }
    }
    Ok(url)
}

/// Puts a part; returns the status.
pub async fn put(client: &Client, url: reqwest::Url, body: Vec<u8>) -> Result<u16> {
    Ok(client.rest.http().put(url).body(body).send().await?.status().as_u16())
}

/// Uploads content the way the SDKs do; returns its lasting URL.
pub async fn upload(
    client: &Client,
    name: &str,
    content_type: &str,
    content: &[u8],
) -> Result<String> {
    let request = initiate(content, name, content_type, -1);
    let begun = client.call("/object/initiate_multipart_upload", request).await?;
    if let Some(url) = begun["url"].as_str().filter(|url| !url.is_empty()) {
        ensure!(begun["upload"].is_null(), "both a URL and an upload");
        return Ok(url.to_owned());
    }
    let upload = &begun["upload"];
    for (at, part) in content.chunks(PART).enumerate() {
        let status = put(client, part_url(&upload["sign"], at)?, part.to_vec()).await?;
        ensure!(status == 200, "part {at}: {status}");
    }
    let request = complete(content, upload, name, content_type);
    let done = client.call("/object/complete_multipart_upload", request).await?;
    Ok(done["url"].as_str().context("no URL")?.to_owned())
}
