//! Reading content through a signed link.

use std::path::PathBuf;

use tokio::fs::File;

use super::check;
use super::folder::blocking;
use super::link::{ContentLink, ThumbnailLink, is_passive};
use super::thumbnail::Thumbnail;
use crate::Services;
use crate::error::{Result, ServiceError};

/// What stands behind a link.
pub struct Content {
    /// The open file.
    pub file: File,
    /// Its bytes.
    pub size: u64,
    /// MIME type.
    pub content_type: String,
    /// It is to be saved, under this name unless that is empty; `None` lets it be shown.
    pub save_as: Option<String>,
    /// Differs for different bytes.
    pub tag: String,
    /// Milliseconds for which the link still works.
    pub lasts_ms: i64,
}

impl Services {
    /// Opens the content that a link leads to.
    pub async fn read_content(&self, link: &ContentLink<'_>) -> Result<Content> {
        let signed = [link.key, link.content_type, link.file_name];
        self.check_link("content", &signed, link.expires, link.signature)?;
        let show = link.file_name.is_empty() && is_passive(link.content_type);
        let path = self.content_file(link.key)?;
        let opened = open(path).await;
        let size = opened.as_ref().ok().map(|(_, size)| *size);
        self.must_have_size(link.key, size)?;
        let (file, size) = opened?;
        Ok(Content {
            file,
            size,
            content_type: link.content_type.to_owned(),
            save_as: (!show).then(|| link.file_name.to_owned()),
            tag: link.key.to_owned(),
            lasts_ms: link.expires.saturating_sub(self.now()),
        })
    }

    /// Opens the thumbnail that a link leads to, made again if it is gone.
    pub async fn read_thumbnail(&self, link: &ThumbnailLink<'_>) -> Result<Content> {
        let signed = [link.key, link.file];
        self.check_link("thumbnail", &signed, link.expires, link.signature)?;
        let Some(wanted) = Thumbnail::parse(link.file) else {
            return Err(ServiceError::not_found("no such thumbnail"));
        };
        let path = self.thumbnail(link.key, link.file).await?;
        let (file, size) = open(path).await?;
        Ok(Content {
            file,
            size,
            content_type: wanted.format.content_type().to_owned(),
            save_as: None,
            tag: format!("{}_{}", link.key, link.file),
            lasts_ms: link.expires.saturating_sub(self.now()),
        })
    }

    /// File of content, unless that is known to be damaged.
    pub(crate) fn content_file(&self, key: &str) -> Result<PathBuf> {
        if self.inner.objects.is_damaged(key) {
            return Err(check::damaged(key));
        }
        let path = self.inner.objects.content_path(key);
        path.ok_or_else(|| ServiceError::not_found("no such content"))
    }
}

async fn open(path: PathBuf) -> Result<(File, u64)> {
    blocking(move || {
        let file = std::fs::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ServiceError::not_found("no such content"),
            _ => error.into(),
        })?;
        let size = file.metadata()?.len();
        Ok((File::from_std(file), size))
    })
    .await
}
