//! Uploads: the recorded content is not known, so content of the same size stands in for it.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use md5::{Digest as _, Md5};
use reqwest::multipart::{Form, Part};

use super::*;

/// Recorded MD5s of parts and hashes of contents, in the order of the uploads.
const PICTURE: (&str, &str) =
    ("21452169ceeba731a30f94b1749ef4d6", "0e003977afac0204a43ed27418835eee");
const FILE: (&str, [&str; 2]) = (
    "457fd64f90189dbc2ae51d94adfa325d",
    ["006a88ed7d5826af90d38dba4666fd89", "c35cc7d8d91728a0cb052831bc4ef372"],
);
const PART_BYTES: usize = 5_242_880;

/// The upload that goes on.
#[derive(Default)]
pub(super) struct Upload {
    /// URLs to which the next parts go.
    urls: Vec<String>,
    parts: Vec<Vec<u8>>,
    form: Value,
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A picture, padded to 1,024 bytes.
fn picture() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    RgbImage::new(64, 48).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    bytes.resize(1_024, 0);
    Ok(bytes)
}

fn file() -> Vec<u8> {
    (0..PART_BYTES + (1 << 20)).map(|at| (at % 251) as u8).collect()
}

impl Replay {
    /// Learns the hashes of this run's contents.
    pub(super) fn learn_contents(&mut self) -> Result {
        let md5s = |parts: &[Vec<u8>]| parts.iter().map(|part| md5(part)).collect::<Vec<_>>();
        let picture = vec![picture()?];
        let file: Vec<Vec<u8>> = file().chunks(PART_BYTES).map(<[u8]>::to_vec).collect();
        let whole = |parts: &[Vec<u8>]| md5(md5s(parts).join(",").as_bytes());
        self.learnt.text(PICTURE.0, &whole(&picture));
        self.learnt.text(PICTURE.1, &md5(&picture[0]));
        self.learnt.text(FILE.0, &whole(&file));
        for (recorded, part) in FILE.1.iter().zip(&file) {
            self.learnt.text(recorded, &md5(part));
        }
        self.upload.parts = picture.into_iter().chain(file).collect();
        Ok(())
    }

    /// Keeps where parts and forms go.
    pub(super) fn remember_upload(&mut self, recorded: &Value, answer: &Value) {
        let data = &answer["data"];
        let path = |answer: &Value| {
            let url = answer["data"]["url"].as_str()?.to_owned();
            url.find("/object/").map(|at| url[at..].to_owned())
        };
        if let Some((recorded, now)) = path(recorded).zip(path(answer)) {
            self.learnt.text(&recorded, &now);
        }
        if data.get("formData").is_some() {
            let id = |answer: &Value| answer["data"]["id"].as_str().unwrap_or_default().to_owned();
            self.learnt.text(&id(recorded), &id(answer));
            self.upload.form = data.clone();
        }
        let sign = if data.get("upload").is_some() { &data["upload"]["sign"] } else { data };
        let Some(parts) = sign["parts"].as_array() else { return };
        self.upload.urls = parts.iter().filter_map(|part| part_url(sign, part)).collect();
    }

    /// Repeats what was sent to the storage.
    pub(super) async fn storage(&mut self, line: &Value) -> Result<Vec<String>> {
        let http = self.node.rest().http().clone();
        let response = if line["step"] == "form POST to the storage" {
            let mut form = Form::new();
            for (name, value) in self.upload.form["formData"].as_object().context("no form")? {
                form = form.text(name.clone(), value.as_str().unwrap_or_default().to_owned());
            }
            let file = self.upload.form["file"].as_str().context("no name")?.to_owned();
            let form = form.part(file, Part::bytes(b"hello".to_vec()).file_name("form.txt"));
            let url = self.upload.form["url"].as_str().context("no URL")?;
            http.post(url).multipart(form).send().await?
        } else {
            let (url, part) = (self.upload.urls.remove(0), self.upload.parts.remove(0));
            http.put(url).body(part).send().await?
        };
        let mut found = Vec::new();
        let status = response.status().as_u16();
        if line["status"] != status {
            found.push(format!("status is {status}, not {}", line["status"]));
        }
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok());
        if let Some(recorded) = line["etag"].as_str()
            && Some(self.learnt.apply_text(recorded).as_str()) != tag
        {
            found.push(format!("etag is {tag:?}"));
        }
        Ok(found)
    }
}

/// The URL of a part with its query, as a client puts it together.
fn part_url(sign: &Value, part: &Value) -> Option<String> {
    let own = part["url"].as_str().unwrap_or_default();
    let base = if own.is_empty() { sign["url"].as_str()? } else { own };
    let mut url = reqwest::Url::parse(base).ok()?;
    let queries = [&sign["query"], &part["query"]].map(Value::as_array);
    for pair in queries.into_iter().flatten().flatten() {
        let value = pair["values"][0].as_str().unwrap_or_default();
        url.query_pairs_mut().append_pair(pair["key"].as_str()?, value);
    }
    Some(url.into())
}
