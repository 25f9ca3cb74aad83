//! Objects over the API: uploads in parts and by form, links, thumbnails.

mod upload;

use testnet::upload::{PART, complete, hash, initiate, md5, part_md5s, part_url, put, upload};
use testnet::{Client, Result};

/// `count` bytes that differ from place to place.
fn bytes(count: usize, seed: u8) -> Vec<u8> {
    (0..count).map(|at| (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8) ^ seed).collect()
}

/// Reads what a URL leads to, as a browser does.
async fn download(_client: &Client, url: &str) -> Result<reqwest::Response> {
    Ok(reqwest::get(url).await?)
}

/// Files below a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}
