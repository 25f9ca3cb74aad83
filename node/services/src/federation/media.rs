//! Content of other nodes: fetched once from the node that has it, checked against its hash, kept,
//! and served to the clients of this node like its own.
//!
//! Whoever knows the hash of content may have it: it stands in the messages that link to it, and
//! cannot be guessed.

use std::collections::HashMap;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proto::federation::{MediaAnswer, MediaRequest};
use proto::qualified::Domain;
use store::record::Object;
use store::{Direction, schema};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use super::Content;
use crate::Services;
use crate::access::Caller;
use crate::border::MediaAddress;
use crate::error::{Result, ServiceError};
use crate::object::{blocking, check_labels, create_folder, point, rename, sha256_of, unname};

/// Before the name of an object of another node.
const ELSEWHERE: char = '@';
/// Tries to fetch content, each of which goes on where the one before was cut.
const TRIES: u32 = 5;
/// Pause before the second; longer each time.
const PAUSE: Duration = Duration::from_millis(500);
/// How long another node may let this one wait for the next bytes.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes taken at once.
const CHUNK_BYTES: usize = 256 * 1_024;

/// Content that is being fetched, and how much came since the cache was last looked at.
#[derive(Default)]
pub(crate) struct Fetching {
    under_way: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    fetched: AtomicU64,
}

/// An object that a link names together with its content.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Its name here.
    pub(crate) name: String,
    /// The SHA-256 which the link says its content has.
    pub(crate) sha256: Vec<u8>,
}

impl Services {
    /// The object in a link which names a node; fetches the content if it is not here yet. `None` if
    /// the link names no node.
    pub(crate) async fn fetched(&self, name: &str) -> Result<Option<Fetched>> {
        let Some(address) = name.strip_prefix(ELSEWHERE) else { return Ok(None) };
        let none = || ServiceError::not_found("");
        let address = MediaAddress::parse(address).ok_or_else(none)?;
        let own = self.domain().ok_or_else(none)?;
        if address.domain == own.as_str() {
            let (name, sha256) = (address.name.to_owned(), address.hash());
            return Ok(Some(Fetched { name, sha256 }));
        }
        let domain: Domain = address.domain.parse().map_err(|_| none())?;
        if !self.has(name)? {
            let lock = {
                let mut under_way = self.inner.fetching.under_way.lock();
                under_way.retain(|_, lock| Arc::strong_count(lock) > 1);
                Arc::clone(under_way.entry(address.sha256.to_owned()).or_default())
            };
            let _only = lock.lock().await;
            if !self.has(name)? {
                self.fetch_content(&domain, name, &address).await?;
            }
        }
        Ok(Some(Fetched { name: name.to_owned(), sha256: address.hash() }))
    }

    /// Whether the content of an object is here.
    fn has(&self, name: &str) -> Result<bool> {
        let Some(object) = schema::OBJECTS.get(&self.store().view(), name)? else {
            return Ok(false);
        };
        let path = self.inner.objects.content_path(&object.key);
        Ok(path.is_some_and(|path| path.exists()))
    }

    async fn fetch_content(
        &self,
        domain: &Domain,
        name: &str,
        address: &MediaAddress<'_>,
    ) -> Result<()> {
        let objects = Arc::clone(&self.inner.objects);
        // Names with the same content share it.
        let key = format!("sha256_{}", address.sha256);
        let held = objects.hold(&key);
        let path = objects.content_path(&key).ok_or_else(|| ServiceError::not_found(""))?;
        let mut wanted = MediaRequest {
            name: address.name.to_owned(),
            sha256: address.hash().into(),
            ..MediaRequest::default()
        };
        let there = path.clone();
        let size = blocking(move || Ok(there.metadata().ok().map(|file| file.len()))).await?;
        let content_type = match size {
            // Known under another name.
            Some(_) => self.content_type_of(&key)?,
            None => {
                let part = path.with_extension("part");
                let folder = path.clone();
                blocking(move || Ok(folder.parent().map(create_folder).transpose()?)).await?;
                let content_type = self.download(domain, &mut wanted, &part).await?;
                self.keep_download(part, path.clone(), wanted.sha256.to_vec()).await?;
                content_type
            }
        };
        let there = path.clone();
        let size = blocking(move || Ok(there.metadata()?.len())).await?;
        let (name, sha256) = (name.to_owned(), wanted.sha256.to_vec());
        let unnamed = self
            .change(&Caller::other_node(domain.as_str()), move |change| {
                let object = Object {
                    key,
                    size: size.cast_signed(),
                    content_type,
                    created: change.now,
                    sha256,
                    ..Object::default()
                };
                Ok(point(change.tx, &name, object)?.unnamed)
            })
            .await?;
        drop(held);
        self.remove_content(unnamed).await?;
        let fetching = &self.inner.fetching;
        let fetched = fetching.fetched.fetch_add(size, Ordering::Relaxed) + size;
        if fetched > self.settings().media_cache_bytes / 64 {
            fetching.fetched.store(0, Ordering::Relaxed);
            self.shrink_media_cache().await?;
        }
        Ok(())
    }

    fn content_type_of(&self, key: &str) -> Result<String> {
        let view = self.store().view();
        let named = schema::OBJECT_NAMES.scan(&view, key).next().transpose()?;
        let Some(((_, name), _)) = named else { return Ok(String::new()) };
        Ok(schema::OBJECTS.get(&view, &name)?.unwrap_or_default().content_type)
    }

    /// Fetches content into a file, which may have the beginning of it already; returns its type.
    async fn download(
        &self,
        domain: &Domain,
        wanted: &mut MediaRequest,
        part: &Path,
    ) -> Result<String> {
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            let mut file = File::options().create(true).append(true).open(part).await?;
            wanted.offset = file.metadata().await?.len();
            let error = match self.download_rest(domain, wanted, &mut file).await {
                Err(error @ ServiceError::Unreachable(_)) => error,
                done => return done,
            };
            tries += 1;
            if tries == TRIES {
                return Err(error);
            }
            tracing::debug!(%domain, %error, "content is not complete");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn download_rest(
        &self,
        domain: &Domain,
        wanted: &MediaRequest,
        file: &mut File,
    ) -> Result<String> {
        let unreachable = |reason: String| {
            ServiceError::Unreachable(format!("{domain} gives no content: {reason}"))
        };
        let Some(others) = self.inner.others.get() else {
            return Err(unreachable("this node does not federate".into()));
        };
        let opened = others.open_media(domain, wanted.clone()).await;
        let (answer, mut bytes) = opened.map_err(unreachable)?;
        let MediaAnswer { code, reason, size, content_type, .. } = answer;
        if code != 0 {
            return Err(ServiceError::Elsewhere { code, reason });
        }
        if size > self.settings().object_max_bytes || size < wanted.offset {
            return Err(ServiceError::object("the content is too large, or another one"));
        }
        self.store().must_have_room(size - wanted.offset)?;
        let mut left = size - wanted.offset;
        let mut chunk = vec![0; CHUNK_BYTES];
        while left > 0 {
            let read = tokio::time::timeout(IDLE, bytes.read(&mut chunk)).await;
            let read = read.map_err(|_| unreachable("no bytes come".into()))?;
            let read = read.map_err(|error| unreachable(error.to_string()))?;
            if read == 0 {
                file.flush().await?;
                return Err(unreachable("it was cut".into()));
            }
            file.write_all(&chunk[..read]).await?;
            left = left.saturating_sub(read as u64);
        }
        file.sync_all().await?;
        let sound = check_labels(&content_type, "").is_ok();
        Ok(if sound { content_type } else { String::new() })
    }

    /// Gives what was fetched its place, if it is what was asked for.
    async fn keep_download(&self, part: PathBuf, path: PathBuf, sha256: Vec<u8>) -> Result<()> {
        blocking(move || {
            if sha256_of(&part)? != sha256 {
                std::fs::remove_file(&part)?;
                return Err(ServiceError::object("the content does not fit its hash"));
            }
            Ok(rename(&part, &path)?)
        })
        .await
    }

    /// Forgets content of other nodes, the oldest first, until what is left fits the limit.
    pub(crate) async fn shrink_media_cache(&self) -> Result<()> {
        let most = self.settings().media_cache_bytes;
        let mut kept = Vec::new();
        {
            let view = self.store().view();
            for row in schema::OBJECTS.range(&view, "@", "@~", Direction::Ascending) {
                let (name, object) = row?;
                kept.push((object.created, object.size.max(0).cast_unsigned(), name, object.key));
            }
        }
        let mut bytes: u64 = kept.iter().map(|(_, size, _, _)| size).sum();
        kept.sort();
        let mut gone = Vec::new();
        for (_, size, name, key) in kept {
            if bytes <= most {
                break;
            }
            bytes -= size;
            gone.push((name, key));
        }
        for (name, key) in gone {
            let unnamed = self
                .change_to_make_room(&Caller::node(""), move |change| {
                    schema::OBJECTS.delete(change.tx, &name);
                    unname(change.tx, key, &name)
                })
                .await?;
            self.remove_content(unnamed).await?;
        }
        Ok(())
    }

    /// Answers the request of another node for content of this one.
    pub async fn answer_media(&self, request: MediaRequest) -> (MediaAnswer, Option<Content>) {
        match self.own_content(request).await {
            Ok((answer, content)) => (answer, Some(content)),
            Err(error) => {
                let (code, reason) = (error.code(), error.to_string());
                (MediaAnswer { code, reason, ..MediaAnswer::default() }, None)
            }
        }
    }

    async fn own_content(&self, request: MediaRequest) -> Result<(MediaAnswer, Content)> {
        let none = || ServiceError::not_found("no such content");
        let name = request.name.as_str();
        if name.starts_with(ELSEWHERE) || request.sha256.is_empty() {
            return Err(none());
        }
        let object = schema::OBJECTS.get(&self.store().view(), name)?.ok_or_else(none)?;
        if object.sha256 != request.sha256 {
            return Err(none());
        }
        let path = self.content_file(&object.key)?;
        let mut file = File::open(path).await?;
        let size = file.metadata().await?.len();
        if request.offset > size {
            return Err(ServiceError::args("the content is shorter"));
        }
        file.seek(SeekFrom::Start(request.offset)).await?;
        let content_type = object.content_type;
        Ok((MediaAnswer { size, content_type, ..MediaAnswer::default() }, Box::new(file)))
    }
}
