//! Uploads by an HTML form, in one piece and without a hash.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use proto::third::{
    CompleteFormDataReq, CompleteFormDataResp, InitiateFormDataReq, InitiateFormDataResp,
};
use store::record::{Object, Upload};
use store::schema;

use super::check::FORM_HASH;
use super::folder::{blocking, create_folder, rename};
use super::part::{PartWriter, upload_folder};
use super::upload::{Assembled, content_path, form_file_size, must_have_few_uploads};
use super::{Lasting, Pointed, Stored, check_labels, check_name, point};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// How long a form is valid.
const FORM_MS: i64 = 10 * 60_000;
/// How long an admin can make it valid at most.
const MAX_FORM_MS: i64 = 7 * 86_400_000;
/// Name of the one file of a form upload.
const FILE: &str = "1";

/// What the fields of a form say.
#[derive(Debug, Clone, Copy)]
pub struct FormLink<'a> {
    /// The upload.
    pub upload_id: &'a str,
    /// Unix milliseconds.
    pub expires: i64,
    /// Proof that this node made the form.
    pub signature: &'a str,
}

impl Services {
    /// Begins an upload by form: where to post it, and which fields go before the file.
    pub async fn initiate_form_data(
        &self,
        caller: &Caller,
        api: &str,
        request: InitiateFormDataReq,
    ) -> Result<InitiateFormDataResp> {
        check_name(caller, &request.name)?;
        check_labels(&request.content_type, &request.group)?;
        if request.size <= 0 {
            return Err(ServiceError::args("size must be greater than 0"));
        }
        self.check_object_size(request.size)?;
        let lasts = match request.millisecond {
            chosen if caller.is_admin && chosen > 0 => chosen.min(MAX_FORM_MS),
            _ => FORM_MS,
        };
        let (id, admin) = (self.new_upload_id(&caller.user_id), caller.is_admin);
        let content_type = request.content_type.clone();
        let (user_id, upload_id) = (caller.user_id.clone(), id.clone());
        let expires = self
            .change(caller, move |change| {
                if !admin {
                    must_have_few_uploads(change.tx, &upload_id)?;
                }
                let expires = change.now.saturating_add(lasts);
                let upload = Upload {
                    user_id,
                    size: request.size,
                    expires,
                    name: request.name,
                    content_type: request.content_type,
                    cause: request.group,
                    ..Default::default()
                };
                schema::UPLOADS.put(change.tx, &upload_id, &upload);
                Ok(expires)
            })
            .await?;
        let signature = self.sign_link("form", &[&id], expires)?;
        let form_data = BTreeMap::from([
            ("Content-Type".to_owned(), content_type),
            ("key".to_owned(), id.clone()),
            ("expires".to_owned(), expires.to_string()),
            ("signature".to_owned(), signature),
        ]);
        Ok(InitiateFormDataResp {
            id,
            url: format!("{api}/storage/form"),
            file: "file".to_owned(),
            header: Vec::new(),
            form_data,
            expires,
            success_codes: vec![200],
        })
    }

    /// Begins to receive the file of a form.
    pub async fn put_form(&self, link: &FormLink<'_>) -> Result<PartWriter> {
        self.check_link("form", &[link.upload_id], link.expires, link.signature)?;
        let upload = self.running_upload(link.upload_id)?;
        if !upload.hash.is_empty() {
            return Err(ServiceError::object("the upload is complete"));
        }
        self.receive(link.upload_id, FILE, upload.size.unsigned_abs(), false).await
    }

    /// Ends an upload by form; may be repeated.
    pub async fn complete_form_data(
        &self,
        caller: &Caller,
        api: &str,
        request: CompleteFormDataReq,
    ) -> Result<CompleteFormDataResp> {
        if request.id.is_empty() {
            return Err(ServiceError::args("id is empty"));
        }
        let id = request.id;
        let upload = schema::UPLOADS.get(&self.store().view(), &id)?;
        let upload = upload
            .filter(|upload| upload.part_size == 0)
            .ok_or_else(|| ServiceError::args("invalid id"))?;
        check_name(caller, &upload.name)?;
        if !upload.hash.is_empty() {
            let object = schema::OBJECTS.get(&self.store().view(), &upload.name)?;
            let link = Lasting::of(&object.unwrap_or_default());
            let url = self.lasting_link(api, &upload.name, &link);
            return Ok(CompleteFormDataResp { url });
        }
        let (assembled, hash) = self.take_form_file(&id, upload.size).await?;
        let (upload_id, mark) = (id.clone(), self.new_id());
        let pointed = self
            .change(caller, move |change| {
                let upload = schema::UPLOADS.get(change.tx, &upload_id)?;
                let mut upload = upload.ok_or_else(|| ServiceError::args("invalid id"))?;
                if !upload.hash.is_empty() {
                    let object = schema::OBJECTS.get(change.tx, &upload.name)?;
                    let link = Lasting::of(&object.unwrap_or_default());
                    return Ok(Pointed { unnamed: None, link });
                }
                let Stored { key, size, sha256 } = assembled.stored.clone();
                let object = Object {
                    key,
                    hash: hash.clone(),
                    size,
                    sha256,
                    content_type: upload.content_type.clone(),
                    cause: upload.cause.clone(),
                    created: change.now,
                    mark,
                };
                let pointed = point(change.tx, &upload.name, object)?;
                upload.hash = hash;
                schema::UPLOADS.put(change.tx, &upload_id, &upload);
                change.tx.after_commit(move || drop(assembled));
                Ok(pointed)
            })
            .await?;
        let Pointed { unnamed, link } = pointed;
        let url = self.lasting_link(api, &upload.name, &link);
        let objects = Arc::clone(&self.inner.objects);
        blocking(move || {
            objects.remove_upload(&id);
            if let Some(unnamed) = unnamed {
                objects.remove_content(&unnamed);
            }
            Ok(())
        })
        .await?;
        Ok(CompleteFormDataResp { url })
    }

    /// Makes the file of a form content; returns its hash as well.
    async fn take_form_file(&self, id: &str, size: i64) -> Result<(Assembled, String)> {
        let objects = Arc::clone(&self.inner.objects);
        let key = format!("form_{id}");
        let held = objects.hold(&key);
        let path = upload_folder(&objects, id)?.join(FILE);
        let content_hash = self.content_hash();
        blocking(move || {
            let target = content_path(&objects, &key)?;
            // A try before this one may have got that far.
            if !target.exists() {
                let found = form_file_size(&path)?;
                let found = found.ok_or_else(|| ServiceError::object("nothing was uploaded"))?;
                if found != size.unsigned_abs() {
                    return Err(ServiceError::Data(format!(
                        "{found} bytes were uploaded, {size} were announced"
                    )));
                }
                if let Some(shard) = target.parent() {
                    create_folder(shard)?;
                }
                rename(&path, &target)?;
            }
            let hash = format!("{FORM_HASH}{}", md5_of(&target)?);
            let sha256 = content_hash(&target)?;
            Ok((Assembled { stored: Stored { key, size, sha256 }, _held: held }, hash))
        })
        .await
    }
}

fn md5_of(path: &Path) -> Result<String> {
    let mut digest = Md5::new();
    std::io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(hex::encode(digest.finalize()))
}
