//! How objects lie on disk.
//!
//! `content/XX/KEY` is finished content, XX the end of the key; `uploads/ID/N` is part N of an
//! upload; `thumbnails/KEY/WxH.FORMAT` can be made again. A file gets its final name only when it is
//! whole and on disk. No name that a client chose is ever part of a path.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::check::DamagedContent;
use crate::error::{Result, ServiceError};

/// Thumbnails made at the same time; each may take much memory.
const RENDERERS: usize = 2;

/// The folder of the objects and who works in it.
pub(crate) struct Objects {
    root: PathBuf,
    /// Content whose record is not stored yet, and by how many it is held.
    held: Mutex<HashMap<String, usize>>,
    /// Content that was found damaged, by key, and whether it is its file that is missing.
    damaged: Mutex<BTreeMap<String, bool>>,
    pub(crate) rendering: Semaphore,
}

impl Objects {
    pub(crate) fn new(root: PathBuf) -> Self {
        let rendering = Semaphore::new(RENDERERS);
        Self { root, held: Mutex::default(), damaged: Mutex::default(), rendering }
    }

    /// Notes that content is damaged; logged once.
    pub(super) fn note_damaged(&self, found: &DamagedContent) {
        let DamagedContent { name, problem, key, missing } = found;
        if self.damaged.lock().insert(key.clone(), *missing) != Some(*missing) {
            tracing::error!(name, problem, "an uploaded file is damaged");
        }
    }

    /// Notes that content is whole, or gone for good.
    pub(super) fn forget_damage(&self, key: &str) {
        self.damaged.lock().remove(key);
    }

    /// Notes that the file of content is there again, as far as can be told from its length.
    pub(super) fn is_there(&self, key: &str) {
        let mut damaged = self.damaged.lock();
        if damaged.get(key) == Some(&true) {
            damaged.remove(key);
        }
    }

    /// Whether the file of content is known to be damaged.
    pub(crate) fn is_damaged(&self, key: &str) -> bool {
        self.damaged.lock().get(key) == Some(&false)
    }

    /// How many contents are known to be damaged.
    pub(super) fn damaged(&self) -> usize {
        self.damaged.lock().len()
    }

    pub(super) fn content_folder(&self) -> PathBuf {
        self.root.join("content")
    }

    pub(super) fn uploads_folder(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(super) fn thumbnails_folder(&self) -> PathBuf {
        self.root.join("thumbnails")
    }

    /// File of finished content; `None` if the key is none.
    pub(crate) fn content_path(&self, key: &str) -> Option<PathBuf> {
        let shard = key.get(key.len().checked_sub(2)?..)?;
        is_plain(key).then(|| self.content_folder().join(shard).join(key))
    }

    /// Folder of an upload's parts; `None` if the ID is none.
    pub(super) fn upload_path(&self, id: &str) -> Option<PathBuf> {
        is_plain(id).then(|| self.uploads_folder().join(id))
    }

    /// Folder of the thumbnails of some content; `None` if the key is none.
    pub(super) fn thumbnails_path(&self, key: &str) -> Option<PathBuf> {
        is_plain(key).then(|| self.thumbnails_folder().join(key))
    }

    /// Keeps content that has no record yet from being taken for garbage.
    pub(crate) fn hold(self: &Arc<Self>, key: &str) -> Held {
        *self.held.lock().entry(key.to_owned()).or_default() += 1;
        Held { objects: Arc::clone(self), key: key.to_owned() }
    }

    pub(super) fn is_held(&self, key: &str) -> bool {
        self.held.lock().contains_key(key)
    }

    /// Removes content that no name points to, and its thumbnails.
    pub(super) fn remove_content(&self, key: &str) {
        self.forget_damage(key);
        if let Some(path) = self.content_path(key) {
            removed(&path, fs::remove_file(&path));
        }
        if let Some(path) = self.thumbnails_path(key) {
            removed(&path, fs::remove_dir_all(&path));
        }
    }

    /// Removes what an upload left.
    pub(super) fn remove_upload(&self, id: &str) {
        if let Some(path) = self.upload_path(id) {
            removed(&path, fs::remove_dir_all(&path));
        }
    }
}

/// Content that is held until this is dropped.
pub(crate) struct Held {
    objects: Arc<Objects>,
    key: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.objects.held.lock();
        if let Some(count) = held.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.key);
            }
        }
    }
}

/// A file that is removed again unless it gets its final name.
pub(super) struct TempFile {
    path: Option<PathBuf>,
}

impl TempFile {
    /// Creates a file beside `target`.
    pub(super) fn create(target: &Path, unique: &str) -> io::Result<(Self, File)> {
        let path = target.with_extension(format!("{unique}.tmp"));
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok((Self { path: Some(path) }, file))
    }

    /// Gives the file, already on disk, its final name for good.
    pub(super) fn keep(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.path {
            rename(path, target)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            removed(path, fs::remove_file(path));
        }
    }
}

/// Renames a file so that a power cut does not undo it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
    File::open(folder)?.sync_all()
}

/// Creates a folder and those above it so that a power cut does not undo it.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_folder(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome?,
    }
    File::open(above)?.sync_all()
}

fn removed(path: &Path, outcome: io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove");
    }
}

/// Only letters, digits and `_`: a text that is harmless in a path.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Runs work that blocks, on files or with much to compute, beside the tasks of the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ServiceError::Internal(format!("blocking work: {error}"))),
    }
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull,
            _ => Self::Internal(format!("object folder: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_keys_become_paths() {
        let objects = Objects::new("/o".into());
        assert_eq!(objects.content_path("ab_cd").expect("plain"), Path::new("/o/content/cd/ab_cd"));
        for key in ["", "a", "..", "a/..", "../../etc/passwd", "a.b", "/etc", "ü1"] {
            assert!(objects.upload_path(key).is_none() || key == "a", "{key}");
            assert!(objects.content_path(key).is_none(), "{key}");
            assert!(objects.thumbnails_path(key).is_none() || key == "a", "{key}");
        }
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        let full = ServiceError::from(io::Error::from_raw_os_error(28));
        assert!(matches!(full, ServiceError::DiskFull));
        let other = ServiceError::from(io::Error::from_raw_os_error(5));
        assert!(matches!(other, ServiceError::Internal(_)));
    }

    #[test]
    fn a_temporary_file_goes_away_unless_kept() {
        let folder = std::env::temp_dir().join(format!("objects-{}", std::process::id()));
        create_folder(&folder).expect("folder");
        let target = folder.join("1");
        let (temp, _) = TempFile::create(&target, "a").expect("creates");
        drop(temp);
        assert_eq!(fs::read_dir(&folder).expect("folder").count(), 0);
        let (temp, _) = TempFile::create(&target, "b").expect("creates");
        temp.keep(&target).expect("renames");
        assert!(target.exists());
        fs::remove_dir_all(&folder).expect("removes");
    }

    #[test]
    fn content_is_held_until_the_last_holder_lets_go() {
        let objects = Arc::new(Objects::new("/o".into()));
        let (first, second) = (objects.hold("k"), objects.hold("k"));
        drop(first);
        assert!(objects.is_held("k"));
        drop(second);
        assert!(!objects.is_held("k"));
    }
}
