//! The files that go into a backup beside the database.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use store::backup;

/// Where finished content lies in the folder of objects, and below that in a backup.
const CONTENT: &str = "content";
/// The folder of objects, in a data folder and in a backup.
pub(crate) const OBJECTS: &str = "objects";
/// The configuration, in a data folder and in a backup.
pub(crate) const CONFIG: &str = "config.toml";

/// The configuration, where it goes as it is, and all content in a folder of objects.
///
/// Content has its name only when it is whole, and is never changed; what is removed meanwhile is
/// left out.
pub(crate) fn for_backup(
    config: Option<String>,
    objects: Option<PathBuf>,
) -> impl Iterator<Item = io::Result<backup::File>> {
    let config = config.into_iter().map(|text| {
        let content: Box<dyn Read> = Box::new(io::Cursor::new(text));
        Ok((CONFIG.to_owned(), content))
    });
    let shards = objects.into_iter().flat_map(|folder| entries(&folder.join(CONTENT)));
    let files = shards.flat_map(|shard| match shard {
        Ok(shard) => entries(&shard),
        Err(error) => Box::new(std::iter::once(Err(error))),
    });
    config.chain(files.filter_map(|file| file.and_then(|file| open(&file)).transpose()))
}

/// What is in a folder; nothing in one that is not there.
fn entries(folder: &Path) -> Box<dyn Iterator<Item = io::Result<PathBuf>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Box::new(entries.map(|entry| Ok(entry?.path()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(std::iter::empty()),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

fn open(path: &Path) -> io::Result<Option<backup::File>> {
    fn part(path: Option<&Path>) -> Option<&str> {
        path?.file_name()?.to_str()
    }
    let names = (part(path.parent()), part(Some(path)));
    let (Some(shard), Some(key)) = names else { return Ok(None) };
    // What is still being written has another kind of name.
    if !is_plain(shard) || !is_plain(key) {
        return Ok(None);
    }
    let content: Box<dyn Read> = match File::open(path) {
        Ok(file) => Box::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some((format!("{OBJECTS}/{CONTENT}/{shard}/{key}"), content)))
}

/// Where content of a backup belongs below a data folder; `None`: it is none.
pub(crate) fn place(name: &str) -> Option<PathBuf> {
    let parts: Vec<&str> = name.split('/').collect();
    let [OBJECTS, CONTENT, shard, key] = parts.as_slice() else { return None };
    (is_plain(shard) && is_plain(key)).then(|| PathBuf::from(name))
}

/// Only letters, digits and `_`: a text that is harmless in a path.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_in_a_backup_leads_elsewhere() {
        assert_eq!(place("objects/content/ab/k_1"), Some("objects/content/ab/k_1".into()));
        for name in [
            "",
            "objects",
            "/objects/content/ab/k",
            "objects/content/../k",
            "objects/content/ab/..",
            "objects/content/ab/k/",
            "objects/content/ab//k",
            "objects/uploads/ab/k",
            "secret",
            "../objects/content/ab/k",
            "objects/content/ab/k.tmp",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
