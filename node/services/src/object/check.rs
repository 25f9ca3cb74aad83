//! Whether content is still what was uploaded.
//!
//! All of it is read now and then, and when an operator asks. What is found damaged is not given out
//! from then on; it is whole again when it is uploaded again, or fetched again from where it came.

use std::fs::File;
use std::io::{self, Read};

use md5::{Digest as _, Md5};
use sha2::Sha256;
use store::record::Object;
use store::{Direction, schema};

use super::folder::blocking;
use super::{Objects, part_size, unname};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// Records looked at in one go.
const PAGE: usize = 500;
/// Read at once.
const BUFFER_BYTES: usize = 256 << 10;
/// What begins the hash of content that was uploaded by a form.
pub(super) const FORM_HASH: &str = "etag_";
/// What begins the name of content of another node.
const ELSEWHERE: char = '@';

/// Content that is not what was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedContent {
    /// Name of the object.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
    /// Where its content is.
    pub(super) key: String,
    /// It has no file.
    pub(super) missing: bool,
}

impl Services {
    /// Reads all content and compares it with what was uploaded; changes nothing, and blocks for as long
    /// as it takes. `go_on` hears of every part how many bytes it had, and may end it.
    pub fn check_content(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Vec<DamagedContent>> {
        let (mut damaged, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.contents(&after)?;
            let Some((last, _)) = page.last() else { return Ok(damaged) };
            after.clone_from(last);
            for (name, object) in page {
                // Content with several names is read once.
                if !self.is_first_name(&object.key, &name)? {
                    continue;
                }
                match problem(&self.inner.objects, &object, go_on)? {
                    Looked::Sound => self.inner.objects.forget_damage(&object.key),
                    Looked::Ended => return Ok(damaged),
                    Looked::Damaged { problem, missing } => {
                        // It may have been removed meanwhile.
                        if schema::OBJECTS.get(&self.store().view(), &name)?.as_ref()
                            == Some(&object)
                        {
                            let key = object.key;
                            damaged.push(DamagedContent { name, problem, key, missing });
                        }
                    }
                }
            }
        }
    }

    /// Reads all content; what is damaged is not given out any more, and fetched again if it came from
    /// another node. `go_on` as for [`check_content`](Self::check_content).
    pub async fn find_damaged_content(
        &self,
        mut go_on: impl FnMut(u64) -> bool + Send + 'static,
    ) -> Result<()> {
        let services = self.clone();
        for found in blocking(move || services.check_content(&mut go_on)).await? {
            if found.name.starts_with(ELSEWHERE) {
                self.forget_content(found).await?;
            } else {
                self.inner.objects.note_damaged(&found);
            }
        }
        Ok(())
    }

    /// How many contents were found damaged.
    pub fn damaged_content(&self) -> usize {
        self.inner.objects.damaged()
    }

    /// Notes that content has another length than it had.
    pub(super) fn must_have_size(&self, key: &str, size: Option<u64>) -> Result<()> {
        let view = self.store().view();
        let Some(((_, name), _)) = schema::OBJECT_NAMES.scan(&view, key).next().transpose()? else {
            return Ok(());
        };
        let object = schema::OBJECTS.get(&view, &name)?.unwrap_or_default();
        if size == Some(object.size.cast_unsigned()) {
            self.inner.objects.is_there(key);
            return Ok(());
        }
        let found = DamagedContent {
            name,
            problem: length_problem(size, object.size),
            key: key.to_owned(),
            missing: size.is_none(),
        };
        self.inner.objects.note_damaged(&found);
        if size.is_none() { Ok(()) } else { Err(damaged(key)) }
    }

    fn contents(&self, after: &str) -> Result<Vec<(String, Object)>> {
        let view = self.store().view();
        let last = char::MAX.to_string();
        let from = format!("{after}\0");
        let rows = schema::OBJECTS.range(&view, from.as_str(), last.as_str(), Direction::Ascending);
        Ok(rows.take(PAGE).collect::<std::result::Result<_, _>>()?)
    }

    fn is_first_name(&self, key: &str, name: &str) -> Result<bool> {
        let view = self.store().view();
        let first = schema::OBJECT_NAMES.scan(&view, key).next().transpose()?;
        Ok(first.is_none_or(|((_, first), _)| first == name))
    }

    /// Removes content of another node with all its names; it is fetched again when it is wanted.
    async fn forget_content(&self, found: DamagedContent) -> Result<()> {
        let (name, problem) = (&found.name, &found.problem);
        tracing::warn!(
            name,
            problem,
            "a file of another node is damaged; it will be fetched again"
        );
        let key = found.key;
        let unnamed = self
            .change(&Caller::node(""), move |change| {
                let names: Vec<_> = schema::OBJECT_NAMES
                    .scan(change.tx, key.as_str())
                    .collect::<std::result::Result<_, _>>()?;
                let mut unnamed = None;
                for ((_, name), _) in names {
                    schema::OBJECTS.delete(change.tx, &name);
                    unnamed = unname(change.tx, key.clone(), &name)?;
                }
                Ok(unnamed)
            })
            .await?;
        self.remove_content(unnamed).await
    }
}

/// What came of looking at content.
enum Looked {
    Sound,
    Damaged {
        problem: String,
        /// It has no file.
        missing: bool,
    },
    /// Nobody wants to know any more.
    Ended,
}

/// What is wrong with the file of an object.
fn problem(
    objects: &Objects,
    object: &Object,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Looked> {
    let Some(path) = objects.content_path(&object.key) else {
        return Ok(damaged_file("its key is none".into()));
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        file => Some(file?),
    };
    let size = file.as_ref().map(|file| file.metadata()).transpose()?.map(|file| file.len());
    let Some(file) = file.filter(|_| size == Some(object.size.cast_unsigned())) else {
        let (problem, missing) = (length_problem(size, object.size), size.is_none());
        return Ok(Looked::Damaged { problem, missing });
    };
    Ok(match is_as_uploaded(file, object, go_on) {
        Ok(Some(true)) => Looked::Sound,
        Ok(Some(false)) => damaged_file(format!("{} is not as it was uploaded", path.display())),
        Ok(None) => Looked::Ended,
        Err(error) => damaged_file(format!("{} cannot be read: {error}", path.display())),
    })
}

fn damaged_file(problem: String) -> Looked {
    Looked::Damaged { problem, missing: false }
}

fn length_problem(size: Option<u64>, before: i64) -> String {
    match size {
        None => "its file is missing".into(),
        Some(size) => format!("its file has {size} bytes, and had {before}"),
    }
}

/// Whether content has the hash that its record says; `None`: it was not read to the end.
fn is_as_uploaded(
    mut file: impl Read,
    object: &Object,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Option<bool>> {
    if !object.sha256.is_empty() {
        let found = digest::<Sha256>(&mut file, u64::MAX, go_on)?;
        return Ok(found.map(|found| found.as_slice() == object.sha256));
    }
    if let Some(md5) = object.hash.strip_prefix(FORM_HASH) {
        let found = digest::<Md5>(&mut file, u64::MAX, go_on)?;
        return Ok(found.map(|found| hex::encode(found) == md5));
    }
    // As clients compute it: of the hashes of the parts.
    let part = part_size(object.size).unwrap_or(object.size).max(1).cast_unsigned();
    let (mut left, mut parts) = (object.size.cast_unsigned(), Vec::new());
    while left > 0 {
        let Some(found) = digest::<Md5>(&mut file, part, go_on)? else { return Ok(None) };
        parts.push(hex::encode(found));
        left = left.saturating_sub(part);
    }
    Ok(Some(hex::encode(Md5::digest(parts.join(","))) == object.hash))
}

/// The hash of so many bytes, or up to the end.
fn digest<D: md5::Digest>(
    file: &mut impl Read,
    most: u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let (mut digest, mut buffer) = (D::new(), vec![0; BUFFER_BYTES]);
    let mut file = file.take(most);
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(Some(digest.finalize().to_vec()));
        };
        digest.update(bytes);
        if !go_on(count as u64) {
            return Ok(None);
        }
    }
}

/// What is said of content that is not given out.
pub(super) fn damaged(key: &str) -> ServiceError {
    ServiceError::Internal(format!("the content {key} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_sound(content: &[u8], object: &Object) -> bool {
        is_as_uploaded(content, object, &mut |_| true).expect("reads").expect("to its end")
    }

    #[test]
    fn content_is_compared_with_whichever_hash_is_known() {
        let content: Vec<u8> = (0..6_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let size = i64::try_from(content.len()).expect("fits");
        let parts: Vec<String> =
            content.chunks(5 << 20).map(|part| hex::encode(Md5::digest(part))).collect();
        assert_eq!(parts.len(), 2);
        let in_parts = hex::encode(Md5::digest(parts.join(",")));
        let by_form = format!("{FORM_HASH}{}", hex::encode(Md5::digest(&content)));
        let sha256 = Sha256::digest(&content).to_vec();
        let mut other = content.clone();
        other[5_999_999] ^= 1;
        for object in [
            Object { hash: in_parts, size, ..Object::default() },
            Object { hash: by_form, size, ..Object::default() },
            Object { sha256, size, ..Object::default() },
        ] {
            assert!(is_sound(&content, &object), "{object:?}");
            assert!(!is_sound(&other, &object), "{object:?}");
            let ended = is_as_uploaded(content.as_slice(), &object, &mut |_| false);
            assert_eq!(ended.expect("reads"), None);
        }
    }
}
