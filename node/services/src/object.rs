//! Objects: pictures, files and other content that clients upload and link to.
//!
//! A name points to content; names with the same content share it. Content is one file that never
//! changes, under a key of its own. Links to it are signed and expire.

mod assembly;
mod check;
mod folder;
mod form;
mod garbage;
mod link;
mod part;
mod read;
mod thumbnail;
mod upload;

use std::fs::File;
use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use proto::third::{
    AccessUrlReq, AccessUrlResp, PartLimitReq, PartLimitResp, PartSizeReq, PartSizeResp,
};
use sha2::{Digest as _, Sha256};
use store::record::{Object, Present};
use store::{Direction, Read, Tx, schema};

use crate::Services;
use crate::access::Caller;
use crate::border::MediaAddress;
use crate::error::{Result, ServiceError};

pub use check::DamagedContent;
pub(crate) use folder::{Objects, blocking, create_folder, rename};
pub use form::FormLink;
pub use link::{ContentLink, ObjectLink, ThumbnailLink};
pub use part::{PartLink, PartWriter};
pub use read::Content;

/// Bytes of a part, while [`MAX_PARTS`] of them are enough.
const MIN_PART_BYTES: i64 = 5 << 20;
/// Largest part in bytes.
const MAX_PART_BYTES: i64 = 5 << 30;
/// Most parts of an upload.
const MAX_PARTS: i32 = 10_000;
/// Longest object name in bytes.
const MAX_NAME_BYTES: usize = 1_024;
/// Longest content type, and longest cause, in bytes.
const MAX_LABEL_BYTES: usize = 256;

/// Before the mark in a link.
const MARKED: char = '~';

/// What would end the path of a link, or be decoded once too often. Clients expect the rest of a
/// name as it is.
const NAME_IN_LINK: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

impl Services {
    /// How uploads are cut into parts.
    pub fn part_limit(&self, _caller: &Caller, _request: &PartLimitReq) -> Result<PartLimitResp> {
        Ok(PartLimitResp {
            min_part_size: MIN_PART_BYTES,
            max_part_size: MAX_PART_BYTES,
            max_num_size: MAX_PARTS,
        })
    }

    /// Bytes per part of an upload.
    pub fn part_size(&self, _caller: &Caller, request: &PartSizeReq) -> Result<PartSizeResp> {
        Ok(PartSizeResp { size: part_size(request.size)? })
    }

    /// A link to the content of an object or to a thumbnail of it; `api` is the address under
    /// which the caller reaches the API.
    pub async fn access_url(
        &self,
        caller: &Caller,
        api: &str,
        request: AccessUrlReq,
    ) -> Result<AccessUrlResp> {
        let link = self.object_link(Some(caller), api, &request.name, &request.query).await?;
        Ok(AccessUrlResp { url: link.url, expire_time: link.expires })
    }
}

/// Bytes per part; clients compute the same.
fn part_size(size: i64) -> Result<i64> {
    let parts = i64::from(MAX_PARTS);
    if size <= 0 {
        return Err(ServiceError::object("size must be greater than 0"));
    }
    if size > MAX_PART_BYTES * parts {
        return Err(ServiceError::object(format!(
            "size must be at most {MAX_PARTS} parts of {MAX_PART_BYTES} bytes"
        )));
    }
    if size <= MIN_PART_BYTES * parts {
        return Ok(MIN_PART_BYTES);
    }
    Ok((size - 1) / parts + 1)
}

/// Whether the caller may give an object this name.
fn check_name(caller: &Caller, name: &str) -> Result<()> {
    check_name_form(name)?;
    if owns(caller, name) {
        return Ok(());
    }
    Err(ServiceError::denied(format!("name must start with `{}/`", caller.user_id)))
}

/// Whether the caller may do everything with an object of this name.
fn owns(caller: &Caller, name: &str) -> bool {
    let own = name.strip_prefix(caller.user_id.as_str()).is_some_and(|rest| rest.starts_with('/'));
    caller.is_admin || own
}

/// Whether a text can be the name of an object.
pub fn check_name_form(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(ServiceError::args("name is empty"));
    }
    if name.starts_with('/') {
        return Err(ServiceError::args("name cannot start with `/`"));
    }
    // Such names are of objects of other nodes.
    if name.starts_with('@') {
        return Err(ServiceError::args("name cannot start with `@`"));
    }
    if name.trim().is_empty() {
        return Err(ServiceError::args("name is blank"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(ServiceError::args(format!("a name has at most {MAX_NAME_BYTES} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(ServiceError::args("a name has no control characters"));
    }
    // A browser would walk up the path of the link.
    if name.split(['/', '\\']).any(|segment| segment == "." || segment == "..") {
        return Err(ServiceError::args("`.` and `..` cannot be part of a name"));
    }
    Ok(())
}

pub(crate) fn check_labels(content_type: &str, cause: &str) -> Result<()> {
    for (what, label) in [("contentType", content_type), ("cause", cause)] {
        if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
            return Err(ServiceError::args(format!(
                "{what} is over {MAX_LABEL_BYTES} bytes or has control characters"
            )));
        }
    }
    Ok(())
}

/// Content that is whole and on disk.
#[derive(Debug, Clone)]
struct Stored {
    key: String,
    size: i64,
    /// Empty on a node that does not federate.
    sha256: Vec<u8>,
}

impl Services {
    /// The lasting link to an object, as it stands in messages. Where users of other nodes may get
    /// to see it, it names this node and the content; else it has the mark of the object. Neither
    /// can be guessed.
    fn lasting_link(&self, api: &str, name: &str, link: &Lasting) -> String {
        let encoded = utf8_percent_encode(name, NAME_IN_LINK).to_string();
        match self.domain() {
            Some(domain) if !link.sha256.is_empty() => {
                MediaAddress::new(domain, &hex::encode(&link.sha256), &encoded).to_link(api)
            }
            _ if link.mark.is_empty() => format!("{api}/object/{encoded}"),
            _ => format!("{api}/object/{MARKED}{}/{encoded}", link.mark),
        }
    }

    /// The SHA-256 of a file, on a node that federates.
    fn content_hash(&self) -> impl Fn(&Path) -> Result<Vec<u8>> + Send + 'static {
        let federates = self.domain().is_some();
        move |path| if federates { sha256_of(path) } else { Ok(Vec::new()) }
    }
}

/// The SHA-256 of a file.
pub(crate) fn sha256_of(path: &Path) -> Result<Vec<u8>> {
    let mut digest = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(digest.finalize().to_vec())
}

/// The stored content with a hash that clients computed.
fn stored(objects: &Objects, from: &impl Read, hash: &str) -> Result<Option<Stored>> {
    let (first, last) = (format!("{hash}_"), format!("{hash}_~"));
    let found = schema::OBJECT_NAMES
        .range(from, first.as_str(), last.as_str(), Direction::Ascending)
        .next()
        .transpose()?;
    let Some(((key, name), _)) = found else { return Ok(None) };
    let object = schema::OBJECTS.get(from, &name)?.unwrap_or_default();
    let (size, sha256) = (object.size, object.sha256);
    // A restored backup may lack the file, or it is damaged; then the content is wanted again.
    let there = objects.content_path(&key).is_some_and(|path| path.exists());
    let there = there && !objects.is_damaged(&key);
    Ok(there.then_some(Stored { key, size, sha256 }))
}

/// What of an object its lasting link says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lasting {
    sha256: Vec<u8>,
    mark: String,
}

impl Lasting {
    fn of(object: &Object) -> Self {
        Self { sha256: object.sha256.clone(), mark: object.mark.clone() }
    }
}

/// A name now points to content.
pub(crate) struct Pointed {
    /// Key of content that has no name any more.
    pub(crate) unnamed: Option<String>,
    /// What its link says.
    link: Lasting,
}

/// Points a name to content. Links to what the name pointed to before lead there, too: their mark
/// stays. Only if they have none, as those of older programs, other content gets one: it must not be
/// found by its name alone.
pub(crate) fn point(tx: &mut Tx<'_>, name: &str, mut object: Object) -> Result<Pointed> {
    let before = schema::OBJECTS.get(tx, name)?;
    if let Some(before) = &before
        && (!before.mark.is_empty() || before.key == object.key)
    {
        object.mark.clone_from(&before.mark);
    }
    schema::OBJECTS.put(tx, name, &object);
    schema::OBJECT_NAMES.put(tx, (&object.key, name), &Present {});
    let unnamed = match before {
        Some(before) if before.key != object.key => unname(tx, before.key, name)?,
        _ => None,
    };
    Ok(Pointed { unnamed, link: Lasting::of(&object) })
}

/// Takes a name from content; returns the key if the content has no name any more.
pub(crate) fn unname(tx: &mut Tx<'_>, key: String, name: &str) -> Result<Option<String>> {
    schema::OBJECT_NAMES.delete(tx, (&key, name));
    let named = schema::OBJECT_NAMES.scan(tx, key.as_str()).next().is_some();
    Ok((!named).then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_size_that_clients_compute() {
        for (size, expected) in [
            (1, 5_242_880),
            (5_242_880, 5_242_880),
            (52_428_800_000, 5_242_880),
            (52_428_800_001, 5_242_881),
            (64_424_509_440, 6_442_451),
        ] {
            assert_eq!(part_size(size).expect("fits"), expected, "{size}");
        }
        for size in [0, -1, i64::MIN, 1_000_000_000_000_000_000] {
            assert!(matches!(part_size(size), Err(ServiceError::Object(_))), "{size}");
        }
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        for name in ["alice/a.png", "alice/msg_file_1/my file?.pdf", "alice/..a/b..", "x"] {
            assert!(check_name_form(name).is_ok(), "{name}");
        }
        let long = "a".repeat(1_025);
        for name in
            ["", "/a", "@a/b", " ", "a/../b", "..", "a/.", "a\\..\\b", "a\nb", long.as_str()]
        {
            assert!(matches!(check_name_form(name), Err(ServiceError::Args(_))), "{name}");
        }
    }

    #[test]
    fn users_name_objects_below_their_id() {
        let alice = Caller { user_id: "alice".into(), ..Caller::node("x") };
        let alice = Caller { is_admin: false, ..alice };
        assert!(check_name(&alice, "alice/a").is_ok());
        for name in ["alice", "alicex/a", "bob/a"] {
            assert!(matches!(check_name(&alice, name), Err(ServiceError::NoPermission(_))));
        }
        assert!(check_name(&Caller::node("imAdmin"), "bob/a").is_ok());
    }

    #[test]
    fn a_link_keeps_the_name_readable() {
        let encoded = utf8_percent_encode("a/ü b?c#d%", NAME_IN_LINK).to_string();
        assert_eq!(encoded, "a/%C3%BC b%3Fc%23d%25");
    }
}
