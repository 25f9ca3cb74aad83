//! Signed links that expire.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use store::record::Object;
use store::schema;

use super::folder::blocking;
use super::thumbnail::{self, Format, Shape};
use super::{MARKED, owns};
use crate::Services;
use crate::access::Caller;
use crate::day;
use crate::error::{Result, ServiceError};
use crate::federation::Fetched;

/// Keeps the key of the links apart from the other uses of the secret.
const LABEL: &[u8] = b"entente object links";
/// Expiry is rounded up to this, so that a link stays the same for a while and caches work.
const ROUND_MS: i64 = 3_600_000;

/// What stays as it is in the query of a link.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A link to content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectLink {
    /// Where the content is.
    pub url: String,
    /// Unix milliseconds until which it can be read there.
    pub expires: i64,
}

/// What a link to content says.
#[derive(Debug, Clone, Copy)]
pub struct ContentLink<'a> {
    /// Key of the content.
    pub key: &'a str,
    /// Its MIME type.
    pub content_type: &'a str,
    /// Name under which it is to be saved; empty to show it.
    pub file_name: &'a str,
    /// Unix milliseconds.
    pub expires: i64,
    /// Proof that this node made the link.
    pub signature: &'a str,
}

/// What a link to a thumbnail says.
#[derive(Debug, Clone, Copy)]
pub struct ThumbnailLink<'a> {
    /// Key of the original content.
    pub key: &'a str,
    /// Size and format, as `640x480.png`.
    pub file: &'a str,
    /// Unix milliseconds.
    pub expires: i64,
    /// Proof that this node made the link.
    pub signature: &'a str,
}

impl Services {
    /// A link to the content of an object, or to a thumbnail of it.
    ///
    /// `query` may ask for a thumbnail: `type=image` with `width`, `height` and `format`.
    /// `caller` is who asks with a token, if anybody does: owners need not know the mark of an object.
    pub async fn object_link(
        &self,
        caller: Option<&Caller>,
        api: &str,
        name: &str,
        query: &BTreeMap<String, String>,
    ) -> Result<ObjectLink> {
        let fetched = self.fetched(name).await?;
        let (name, object) = self.opened(caller, name, fetched.as_ref())?;
        let get = |key| query.get(key).map(String::as_str).unwrap_or_default();
        match get("type") {
            "" => {
                let file_name = name.rsplit('/').next().unwrap_or(name);
                self.content_link(api, &object, &object.content_type, file_name)
            }
            "image" => {
                let shape = Shape::read(get("width"), get("height"), get("format"));
                self.image_link(api, &object, shape).await
            }
            _ => Err(ServiceError::args("invalid query type")),
        }
    }

    /// The object that a link names, with its own name, if the link or its user shows that it may be had.
    fn opened<'a>(
        &self,
        caller: Option<&Caller>,
        linked: &'a str,
        fetched: Option<&'a Fetched>,
    ) -> Result<(&'a str, Object)> {
        let get = |name: &str| schema::OBJECTS.get(&self.store().view(), name);
        let none = || ServiceError::not_found("");
        let name = fetched.map_or(linked, |fetched| fetched.name.as_str());
        if let Some(object) = get(name)? {
            let proven = fetched.is_some_and(|fetched| fetched.sha256 == object.sha256);
            let open = object.mark.is_empty() || proven;
            if open || caller.is_some_and(|caller| owns(caller, name)) {
                return Ok((name, object));
            }
        }
        let marked = linked.strip_prefix(MARKED).and_then(|rest| rest.split_once('/'));
        let (mark, name) = marked.ok_or_else(none)?;
        let object = get(name)?.ok_or_else(none)?;
        if Sha256::digest(mark) == Sha256::digest(&object.mark) {
            return Ok((name, object));
        }
        Err(none())
    }

    async fn image_link(&self, api: &str, object: &Object, shape: Shape) -> Result<ObjectLink> {
        if shape.is_original() {
            return self.content_link(api, object, &object.content_type, "");
        }
        if object.size > thumbnail::MAX_SOURCE_BYTES {
            return Err(ServiceError::object("the picture is too large for a thumbnail"));
        }
        let source = self.content_file(&object.key)?;
        let plan = blocking(move || thumbnail::plan(&source, shape)).await?;
        if plan.original {
            let content_type = match plan.format {
                Some(format) => format.content_type(),
                None => &object.content_type,
            };
            return self.content_link(api, object, content_type, "");
        }
        let file = plan.file_name();
        // Made now: whoever follows the link shall not be the first to learn that it fails.
        self.thumbnail(&object.key, &file).await?;
        let expires = self.link_expiry();
        let signature = self.sign_link("thumbnail", &[&object.key, &file], expires)?;
        let key = &object.key;
        let url =
            format!("{api}/storage/thumbnail/{key}/{file}?expires={expires}&signature={signature}");
        Ok(ObjectLink { url, expires })
    }

    fn content_link(
        &self,
        api: &str,
        object: &Object,
        content_type: &str,
        file_name: &str,
    ) -> Result<ObjectLink> {
        let expires = self.link_expiry();
        let signed = [object.key.as_str(), content_type, file_name];
        let signature = self.sign_link("content", &signed, expires)?;
        let (key, query) = (&object.key, |text| utf8_percent_encode(text, QUERY));
        let mut url = format!("{api}/storage/content/{key}?type={}", query(content_type));
        if !file_name.is_empty() {
            url.push_str(&format!("&name={}", query(file_name)));
        }
        url.push_str(&format!("&expires={expires}&signature={signature}"));
        Ok(ObjectLink { url, expires })
    }

    fn link_expiry(&self) -> i64 {
        let lasts = day::ms(self.settings().object_url_expire);
        let end = self.now().saturating_add(lasts);
        end.saturating_add(ROUND_MS - 1 - end.saturating_sub(1).rem_euclid(ROUND_MS))
    }

    /// Proof that this node made a link for `purpose`.
    pub(super) fn sign_link(&self, purpose: &str, fields: &[&str], expires: i64) -> Result<String> {
        let mac = self.link_mac(purpose, fields, expires)?;
        Ok(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    /// Refuses a link that this node did not make, and one that has expired.
    pub(super) fn check_link(
        &self,
        purpose: &str,
        fields: &[&str],
        expires: i64,
        signature: &str,
    ) -> Result<()> {
        let given = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let mac = self.link_mac(purpose, fields, expires)?;
        if mac.verify_slice(&given).is_err() {
            return Err(ServiceError::denied("the signature is wrong"));
        }
        if expires < self.now() {
            return Err(ServiceError::denied("the link has expired"));
        }
        Ok(())
    }

    fn link_mac(&self, purpose: &str, fields: &[&str], expires: i64) -> Result<Hmac<Sha256>> {
        let keyed = |key: &[u8]| {
            Hmac::<Sha256>::new_from_slice(key)
                .map_err(|error| ServiceError::Internal(error.to_string()))
        };
        let mut derived = keyed(self.settings().secret.as_bytes())?;
        derived.update(LABEL);
        let mut mac = keyed(&derived.finalize().into_bytes())?;
        mac.update(&expires.to_be_bytes());
        for field in std::iter::once(&purpose).chain(fields) {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        Ok(mac)
    }
}

/// Content types that a browser shows without running anything in them.
pub(super) fn is_passive(content_type: &str) -> bool {
    Format::SHOWN.contains(&content_type)
}
