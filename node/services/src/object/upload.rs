//! Uploads in parts, checked against a hash that the client announces.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use proto::third::{
    AuthSignParts, AuthSignReq, AuthSignResp, CompleteMultipartUploadReq,
    CompleteMultipartUploadResp, InitiateMultipartUploadReq, InitiateMultipartUploadResp,
    KeyValues, SignPart, UploadInfo,
};
use sha2::Sha256;
use store::record::{Object, Upload};
use store::{Direction, Read, schema};

use super::assembly::{assemble, part_count};
use super::folder::{Held, Objects, blocking};
use super::part::upload_folder;
use super::{MAX_PARTS, Pointed, Stored, check_labels, check_name, part_size, point, stored};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// How long an upload may take.
const UPLOAD_MS: i64 = 7 * 86_400_000;
/// How long the signature of a part is valid.
const PART_MS: i64 = 86_400_000;
/// Uploads that a user may have under way.
const MAX_UPLOADS: usize = 1_000;
/// Hex digits at the front of an upload ID that name its owner.
const OWNER_DIGITS: usize = 16;

/// What became of a request to upload.
enum Begun {
    Stored(Pointed),
    Upload(Upload),
}

impl Services {
    /// Begins an upload; content that is stored already only gets another name.
    pub async fn initiate_multipart_upload(
        &self,
        caller: &Caller,
        api: &str,
        request: InitiateMultipartUploadReq,
    ) -> Result<InitiateMultipartUploadResp> {
        check_name(caller, &request.name)?;
        check_labels(&request.content_type, &request.cause)?;
        let hash = read_md5(&request.hash).ok_or_else(|| ServiceError::object("hash is no MD5"))?;
        let part_size = part_size(request.size)?;
        let parts = part_count(request.size, part_size);
        if request.max_parts > parts {
            return Err(ServiceError::object(format!("too many parts: {parts}")));
        }
        self.check_object_size(request.size)?;
        let (id, admin) = (self.new_upload_id(&caller.user_id), caller.is_admin);
        let (name, max_parts) = (request.name.clone(), request.max_parts);
        let upload_id = id.clone();
        let (user_id, mark) = (caller.user_id.clone(), self.new_id());
        let begun = self
            .change(caller, move |change| {
                let objects = &change.services.inner.objects;
                if let Some(Stored { key, size, sha256 }) = stored(objects, change.tx, &hash)? {
                    let object = Object {
                        key,
                        hash,
                        size,
                        content_type: request.content_type,
                        cause: request.cause,
                        created: change.now,
                        sha256,
                        mark,
                    };
                    return Ok(Begun::Stored(point(change.tx, &request.name, object)?));
                }
                if !admin {
                    must_have_few_uploads(change.tx, &id)?;
                }
                let upload = Upload {
                    user_id,
                    hash,
                    size: request.size,
                    part_size,
                    expires: change.now.saturating_add(UPLOAD_MS),
                    name: request.name,
                    content_type: request.content_type,
                    cause: request.cause,
                };
                schema::UPLOADS.put(change.tx, &id, &upload);
                Ok(Begun::Upload(upload))
            })
            .await?;
        let upload = match begun {
            Begun::Stored(Pointed { unnamed, link }) => {
                self.remove_content(unnamed).await?;
                let url = self.lasting_link(api, &name, &link);
                return Ok(InitiateMultipartUploadResp { url, upload: None });
            }
            Begun::Upload(upload) => upload,
        };
        let wanted = if max_parts < 0 { parts } else { max_parts };
        let sign = match (parts, wanted) {
            (1, _) => Some(self.sign_only_part(api, &upload_id, &upload)?),
            (_, 0) => None,
            _ => Some(self.sign_parts(api, &upload_id, &upload, 1..=wanted)?),
        };
        let expire_time = upload.expires;
        let upload = UploadInfo { upload_id, part_size, sign, expire_time };
        Ok(InitiateMultipartUploadResp { url: String::new(), upload: Some(upload) })
    }

    /// Signs more parts of an upload.
    pub fn auth_sign(
        &self,
        caller: &Caller,
        api: &str,
        request: &AuthSignReq,
    ) -> Result<AuthSignResp> {
        let upload = self.own_upload(caller, &request.upload_id)?;
        let upload = upload.ok_or_else(|| ServiceError::object("no such upload"))?;
        let parts = part_count(upload.size, upload.part_size);
        if parts == 1 {
            return Err(ServiceError::object("an upload of one part is signed when it begins"));
        }
        if request.part_numbers.len() > parts.unsigned_abs() as usize
            || request.part_numbers.iter().any(|number| !(1..=parts).contains(number))
        {
            return Err(ServiceError::object(format!("the upload has {parts} parts")));
        }
        let numbers = request.part_numbers.iter().copied();
        let signed = self.sign_parts(api, &request.upload_id, &upload, numbers)?;
        Ok(AuthSignResp {
            url: signed.url,
            query: signed.query,
            header: signed.header,
            parts: signed.parts,
        })
    }

    /// Ends an upload: checks the parts, puts them together and gives the content its name.
    ///
    /// May be repeated: content that is stored already only gets its name.
    pub async fn complete_multipart_upload(
        &self,
        caller: &Caller,
        api: &str,
        request: CompleteMultipartUploadReq,
    ) -> Result<CompleteMultipartUploadResp> {
        check_name(caller, &request.name)?;
        check_labels(&request.content_type, &request.cause)?;
        let upload = self.own_upload(caller, &request.upload_id)?;
        if request.parts.len() > MAX_PARTS.unsigned_abs() as usize {
            return Err(ServiceError::object(format!("an upload has at most {MAX_PARTS} parts")));
        }
        let hash = hex::encode(Md5::digest(request.parts.join(",")));
        if upload.as_ref().is_some_and(|upload| upload.hash != hash) {
            return Err(ServiceError::object("md5 mismatching"));
        }
        let known = stored(&self.inner.objects, &self.store().view(), &hash)?;
        let id = request.upload_id;
        let assembled = match (known, upload) {
            (Some(_), _) => None,
            (None, None) => return Err(ServiceError::object("no such upload")),
            (None, Some(upload)) => Some(self.assemble(&id, upload, request.parts).await?),
        };
        let (name, mark) = (request.name.clone(), self.new_id());
        let mine = assembled.as_ref().map(|assembled| assembled.stored.key.clone());
        let (used, Pointed { unnamed, link }) = self
            .change(caller, move |change| {
                let objects = &change.services.inner.objects;
                let known = stored(objects, change.tx, &hash)?;
                let Stored { key, size, sha256 } = match (known, assembled.as_ref()) {
                    (Some(known), _) => known,
                    (None, Some(mine)) if schema::UPLOADS.contains(change.tx, &id)? => {
                        mine.stored.clone()
                    }
                    _ => return Err(ServiceError::object("no such upload")),
                };
                let object = Object {
                    key: key.clone(),
                    hash,
                    size,
                    content_type: request.content_type,
                    cause: request.cause,
                    created: change.now,
                    sha256,
                    mark,
                };
                let pointed = point(change.tx, &name, object)?;
                if schema::UPLOADS.contains(change.tx, &id)? {
                    schema::UPLOADS.delete(change.tx, &id);
                }
                change.tx.after_commit(move || drop(assembled));
                Ok(((key, id), pointed))
            })
            .await?;
        let (key, id) = used;
        let objects = Arc::clone(&self.inner.objects);
        blocking(move || {
            objects.remove_upload(&id);
            for unused in mine.filter(|mine| *mine != key).iter().chain(&unnamed) {
                objects.remove_content(unused);
            }
            Ok(())
        })
        .await?;
        let url = self.lasting_link(api, &request.name, &link);
        Ok(CompleteMultipartUploadResp { url })
    }

    async fn assemble(&self, id: &str, upload: Upload, parts: Vec<String>) -> Result<Assembled> {
        if upload.expires < self.now() {
            return Err(ServiceError::UploadExpired("the upload has expired".into()));
        }
        self.store().must_have_room(upload.size.unsigned_abs())?;
        let objects = Arc::clone(&self.inner.objects);
        let key = format!("{}_{id}", upload.hash);
        let held = objects.hold(&key);
        let (folder, unique) = (upload_folder(&objects, id)?, self.new_id());
        let content_hash = self.content_hash();
        blocking(move || {
            let target = content_path(&objects, &key)?;
            // A try before this one may have got that far.
            if !target.exists() {
                assemble(&folder, &target, &upload, &parts, &unique)?;
            }
            let sha256 = content_hash(&target)?;
            Ok(Assembled { stored: Stored { key, size: upload.size, sha256 }, _held: held })
        })
        .await
    }

    /// The upload if it exists; it must be the caller's.
    fn own_upload(&self, caller: &Caller, id: &str) -> Result<Option<Upload>> {
        if id.len() > 128 {
            return Err(ServiceError::object("no such upload"));
        }
        let upload = schema::UPLOADS.get(&self.store().view(), id)?;
        match &upload {
            Some(upload) if upload.part_size == 0 => {
                return Err(ServiceError::object("no such upload"));
            }
            Some(upload) => caller.must_be(&upload.user_id)?,
            None => {}
        }
        Ok(upload)
    }

    pub(super) fn check_object_size(&self, size: i64) -> Result<()> {
        let most = self.settings().object_max_bytes;
        if size.cast_unsigned() > most {
            return Err(ServiceError::args(format!("an object has at most {most} bytes")));
        }
        Ok(())
    }

    /// A new upload ID, which begins as all of this user's do.
    pub(super) fn new_upload_id(&self, user_id: &str) -> String {
        let owner = hex::encode(Sha256::digest(user_id));
        format!("{}{}", owner.get(..OWNER_DIGITS).unwrap_or_default(), self.new_id())
    }

    pub(crate) async fn remove_content(&self, key: Option<String>) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        let objects = Arc::clone(&self.inner.objects);
        blocking(move || {
            objects.remove_content(&key);
            Ok(())
        })
        .await
    }

    fn sign_only_part(&self, api: &str, id: &str, upload: &Upload) -> Result<AuthSignParts> {
        let expires = upload.expires;
        let signature = self.sign_link("part", &[id, "1"], expires)?;
        let url =
            format!("{}?partNumber=1&expires={expires}&signature={signature}", upload_url(api, id));
        let parts = vec![SignPart { part_number: 1, url, ..Default::default() }];
        Ok(AuthSignParts { parts, ..Default::default() })
    }

    fn sign_parts(
        &self,
        api: &str,
        id: &str,
        upload: &Upload,
        numbers: impl Iterator<Item = i32>,
    ) -> Result<AuthSignParts> {
        let expires = upload.expires.min(self.now().saturating_add(PART_MS));
        let mut parts = Vec::new();
        for number in numbers {
            let text = number.to_string();
            let signature = self.sign_link("part", &[id, &text], expires)?;
            let query = vec![key_value("partNumber", text), key_value("signature", signature)];
            parts.push(SignPart { part_number: number, query, ..Default::default() });
        }
        Ok(AuthSignParts {
            url: upload_url(api, id),
            query: vec![key_value("expires", expires.to_string())],
            header: Vec::new(),
            parts,
        })
    }
}

/// Content that is whole and on disk, but has no record yet.
pub(super) struct Assembled {
    pub(super) stored: Stored,
    pub(super) _held: Held,
}

fn upload_url(api: &str, id: &str) -> String {
    format!("{api}/storage/upload/{id}")
}

fn key_value(key: &str, value: String) -> KeyValues {
    KeyValues { key: key.to_owned(), values: vec![value] }
}

pub(super) fn must_have_few_uploads(from: &impl Read, id: &str) -> Result<()> {
    let first = id.get(..OWNER_DIGITS).unwrap_or_default();
    let last = format!("{first}~");
    let running = schema::UPLOADS.range_raw(from, first, last.as_str(), Direction::Ascending);
    if running.take(MAX_UPLOADS).count() >= MAX_UPLOADS {
        return Err(ServiceError::object(format!(
            "a user has at most {MAX_UPLOADS} uploads under way"
        )));
    }
    Ok(())
}

pub(super) fn content_path(objects: &Objects, key: &str) -> Result<std::path::PathBuf> {
    objects.content_path(key).ok_or_else(|| ServiceError::Internal("a bad content key".into()))
}

/// 32 hex digits, in lower case.
fn read_md5(text: &str) -> Option<String> {
    let good = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| text.to_ascii_lowercase())
}

/// Size of the one file of a form upload, if it has arrived.
pub(super) fn form_file_size(path: &Path) -> Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_joined_part_hashes() {
        for (parts, hash) in [
            (&["5d41402abc4b2a76b9719d911017c592"][..], "69a329523ce1ec88bf63061863d9cb14"),
            (
                &["ffc88b4ca90a355f8ddba6b2c3b2af5c", "d067a0fa9dc61a6e7195ca99696b5a89"],
                "14490d52f8fad7fdbdbb5d35fdec1d63",
            ),
        ] {
            assert_eq!(hex::encode(Md5::digest(parts.join(","))), hash);
        }
    }

    #[test]
    fn hashes_are_hex() {
        assert_eq!(read_md5(&"A".repeat(32)), Some("a".repeat(32)));
        for bad in ["", "xyz", &"g".repeat(32), &"a".repeat(33)] {
            assert_eq!(read_md5(bad), None);
        }
    }
}
