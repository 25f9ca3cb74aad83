//! Receiving content.

use std::path::PathBuf;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use store::record::Upload;
use store::schema;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::assembly::part_range;
use super::folder::{Objects, TempFile, blocking, create_folder};
use crate::Services;
use crate::error::{Result, ServiceError};

/// What a link for one part of an upload says.
#[derive(Debug, Clone, Copy)]
pub struct PartLink<'a> {
    /// The upload.
    pub upload_id: &'a str,
    /// The part, from 1.
    pub part: i32,
    /// Unix milliseconds.
    pub expires: i64,
    /// Proof that this node made the link.
    pub signature: &'a str,
}

/// A file being received. What was written is removed again unless it is finished.
pub struct PartWriter {
    file: File,
    temp: TempFile,
    target: PathBuf,
    digest: Md5,
    written: u64,
    most: u64,
    /// No fewer bytes will do either.
    exact: bool,
}

impl Services {
    /// Begins to receive one part of an upload.
    pub async fn put_part(&self, link: &PartLink<'_>) -> Result<PartWriter> {
        let number = link.part.to_string();
        let fields = [link.upload_id, number.as_str()];
        self.check_link("part", &fields, link.expires, link.signature)?;
        let upload = self.running_upload(link.upload_id)?;
        let Some((_, bytes)) = part_range(&upload, link.part) else {
            return Err(ServiceError::args("the upload has no such part"));
        };
        self.receive(link.upload_id, &number, bytes, true).await
    }

    /// The upload, if it exists and has not expired.
    pub(super) fn running_upload(&self, id: &str) -> Result<Upload> {
        let upload = schema::UPLOADS.get(&self.store().view(), id)?;
        let upload = upload.ok_or_else(|| ServiceError::not_found("no such upload"))?;
        if upload.expires < self.now() {
            return Err(ServiceError::UploadExpired("the upload has expired".into()));
        }
        Ok(upload)
    }

    pub(super) async fn receive(
        &self,
        upload_id: &str,
        file_name: &str,
        most: u64,
        exact: bool,
    ) -> Result<PartWriter> {
        self.store().must_have_room(most)?;
        let folder = upload_folder(&self.inner.objects, upload_id)?;
        let (target, unique) = (folder.join(file_name), self.new_id());
        let (temp, file, target) = blocking(move || {
            create_folder(&folder)?;
            let (temp, file) = TempFile::create(&target, &unique)?;
            Ok((temp, file, target))
        })
        .await?;
        let file = File::from_std(file);
        Ok(PartWriter { file, temp, target, digest: Md5::new(), written: 0, most, exact })
    }
}

pub(super) fn upload_folder(objects: &Arc<Objects>, id: &str) -> Result<PathBuf> {
    objects.upload_path(id).ok_or_else(|| ServiceError::not_found("no such upload"))
}

impl PartWriter {
    /// Whether `bytes` in all will be accepted.
    pub fn check_length(&self, bytes: u64) -> Result<()> {
        if bytes > self.most || (self.exact && bytes != self.most) {
            let (most, limit) = (self.most, if self.exact { "exactly" } else { "at most" });
            return Err(ServiceError::args(format!("{limit} {most} bytes are expected")));
        }
        Ok(())
    }

    /// Most bytes that will be accepted.
    pub fn most_bytes(&self) -> u64 {
        self.most
    }

    /// Adds bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.most {
            return self.check_length(self.written);
        }
        self.digest.update(bytes);
        Ok(self.file.write_all(bytes).await?)
    }

    /// Keeps the file for good; returns the MD5 of its bytes in hex.
    pub async fn finish(mut self) -> Result<String> {
        self.check_length(self.written)?;
        self.file.flush().await?;
        self.file.sync_all().await?;
        let (temp, target) = (self.temp, self.target);
        blocking(move || Ok(temp.keep(&target)?)).await?;
        Ok(hex::encode(self.digest.finalize()))
    }
}
