//! Removing what uploads and crashes leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use store::{Direction, Store, schema};

use super::folder::{Objects, blocking};
use crate::Services;
use crate::access::Caller;
use crate::error::Result;

/// Time after its end during which an upload can still be told from an unknown one.
const GRACE_MS: i64 = 3_600_000;
/// Age at which the beginning of content that was not fetched to its end is given up.
const OLD: Duration = Duration::from_secs(86_400);
/// Records looked at in one go.
const PAGE: usize = 500;

impl Services {
    /// Removes uploads that were given up, and files that no record needs.
    ///
    /// To be called at the start and every hour.
    pub async fn remove_object_garbage(&self) -> Result<()> {
        let mut after = String::new();
        loop {
            let (expired, last) = self.expired_uploads(&after)?;
            if !expired.is_empty() {
                let caller = Caller::node("");
                self.change_to_make_room(&caller, move |change| {
                    for id in &expired {
                        schema::UPLOADS.delete(change.tx, id);
                    }
                    Ok(())
                })
                .await?;
            }
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.shrink_media_cache().await?;
        let (store, objects) = (self.store().clone(), Arc::clone(&self.inner.objects));
        blocking(move || sweep(&store, &objects)).await
    }

    /// The expired uploads of one page, and its last ID unless nothing follows.
    fn expired_uploads(&self, after: &str) -> Result<(Vec<String>, Option<String>)> {
        let limit = self.now().saturating_sub(GRACE_MS);
        let view = self.store().view();
        let (mut expired, mut last, mut count) = (Vec::new(), None, 0);
        for row in schema::UPLOADS.range(&view, after, "~", Direction::Ascending).take(PAGE + 1) {
            let (id, upload) = row?;
            count += 1;
            if upload.expires < limit {
                expired.push(id.clone());
            }
            last = Some(id);
        }
        Ok((expired, last.filter(|_| count > PAGE)))
    }
}

/// Removes files that no record needs.
fn sweep(store: &Store, objects: &Objects) -> Result<()> {
    for (id, _) in entries(&objects.uploads_folder())? {
        if !schema::UPLOADS.contains(&store.view(), &id)? {
            objects.remove_upload(&id);
        }
    }
    for (_, shard) in entries(&objects.content_folder())? {
        for (key, path) in entries(&shard)? {
            if path.extension().is_some_and(|end| end == "part") && is_old(&path) {
                fs::remove_file(&path)?;
            }
            // In this order: content that is no longer held has its record.
            if !objects.is_held(&key) && !is_named(store, &key)? {
                objects.remove_content(&key);
            }
        }
    }
    for (key, _) in entries(&objects.thumbnails_folder())? {
        if !objects.is_held(&key) && !is_named(store, &key)? {
            objects.remove_content(&key);
        }
    }
    Ok(())
}

/// What was begun so long ago is not ended any more.
fn is_old(path: &Path) -> bool {
    let changed = path.metadata().and_then(|file| file.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > OLD))
}

fn is_named(store: &Store, key: &str) -> Result<bool> {
    Ok(schema::OBJECT_NAMES.scan(&store.view(), key).next().is_some())
}

/// Names and paths in a folder; nothing if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let found = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut named = Vec::new();
    for entry in found {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            named.push((name, entry.path()));
        }
    }
    Ok(named)
}
