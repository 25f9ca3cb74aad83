//! A copy of a part of a journal, elsewhere: what was committed since a backup.
//!
//! A folder with files of the form of [segments](super::segment), each named after its first batch and
//! with that as its number. Batches have the form, number, time and checksum that they have in the
//! journal.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::follow::Follower;
use super::record;
use super::segment::{self, Content, HEAD_BYTES, Head};
use super::sync_folder;
use crate::engine::{Batch, Position};
use crate::fault;

/// A file that has grown so far is followed by another one.
const FILE_BYTES: u64 = 4 << 20;

/// Where reading a shipped journal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// What follows is later than was wanted.
    Time,
    /// Nothing follows.
    Journal,
    /// Something is missing or damaged; nothing behind it was taken.
    Broken {
        /// The file, or the folder in which something is missing.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// How far reading a shipped journal came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Commits that were taken.
    pub commits: u64,
    /// When the last of them was written, Unix milliseconds.
    pub last_ms: Option<i64>,
    /// Why no more were.
    pub end: End,
}

/// What is written.
#[derive(Debug)]
pub(crate) struct Shipped {
    folder: PathBuf,
    journal: u64,
    /// The last batch that is there, durably.
    batch: u64,
    /// When that was written, if it is one of these files.
    last_ms: Option<i64>,
    /// The last file and where it ends.
    file: Option<(File, u64)>,
}

/// A folder of before, looked at to go on.
pub(crate) struct Resumed {
    pub(crate) shipped: Shipped,
    /// The last batch as it was shipped; none: it begins with the next.
    last: Option<Vec<u8>>,
}

impl Resumed {
    /// Whether what `follower` reads, from the last batch on, goes on from what is here.
    pub(crate) fn is_followed(&self, mut follower: Follower) -> io::Result<bool> {
        let Some(last) = &self.last else { return Ok(true) };
        let mut found = Vec::new();
        Ok(follower.read(self.shipped.batch, &mut found)? && found == *last)
    }
}

impl Shipped {
    /// Begins behind a place, in a folder that is made.
    pub(crate) fn begin(folder: &Path, behind: Position) -> io::Result<Self> {
        fs::create_dir(folder)?;
        // Its name is certain before that of the backup.
        sync_name(folder)?;
        let Position { journal, batch } = behind;
        Ok(Self { folder: folder.to_owned(), journal, batch, last_ms: None, file: None })
    }

    /// Goes on behind what a folder has; what was never whole is cut off. The error within says why
    /// that cannot be.
    pub(crate) fn go_on(folder: &Path, behind: Position) -> io::Result<Result<Resumed, String>> {
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            sync_name(folder)?;
        }
        let Position { journal, batch } = behind;
        let mut shipped =
            Self { folder: folder.to_owned(), journal, batch, last_ms: None, file: None };
        let mut files = segment::list(folder)?;
        while let Some(first) = files.pop() {
            let path = segment::path(folder, first);
            let bytes = fs::read(&path)?;
            let content = match Tail::of(&bytes, journal, first) {
                Tail::Nothing => {
                    fs::remove_file(&path)?;
                    continue;
                }
                Tail::Damaged(reason) => return Ok(Err(reason)),
                Tail::Whole(content) | Tail::Cut(content) => content,
            };
            if first <= batch {
                return Ok(Err(format!("{} is not behind the backup", path.display())));
            }
            let Some(record) = content.records.last() else {
                fs::remove_file(&path)?;
                continue;
            };
            let file = File::options().write(true).open(&path)?;
            file.set_len(content.end as u64)?;
            file.sync_all()?;
            shipped.file = Some((file, content.end as u64));
            shipped.batch = content.next - 1;
            shipped.last_ms = Some(record.written_ms);
            let last = bytes[content.end - record.length..content.end].to_vec();
            return Ok(Ok(Resumed { shipped, last: Some(last) }));
        }
        Ok(Ok(Resumed { shipped, last: None }))
    }

    /// The last batch that is there.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// When the last batch was written, Unix milliseconds.
    pub(crate) fn last_ms(&self) -> Option<i64> {
        self.last_ms
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes what the journal has, up to batch `last`, durably. `false`: the next one is not there any
    /// more, or what was shipped is not. After an error it can be tried again, with another follower.
    pub(crate) fn take(&mut self, follower: &mut Follower, last: u64) -> io::Result<bool> {
        let mut batches = Vec::new();
        while self.batch < last {
            if let Some((file, _)) = &self.file
                && file.metadata()?.nlink() == 0
            {
                // Somebody has removed it, and what was in it.
                return Ok(false);
            }
            batches.clear();
            if !follower.read(last, &mut batches)? {
                return Ok(false);
            }
            self.append(&batches, follower.next() - 1)?;
            self.last_ms = Some(follower.last_ms());
        }
        Ok(true)
    }

    fn append(&mut self, batches: &[u8], last: u64) -> io::Result<()> {
        let full = self.file.as_ref().is_none_or(|(_, end)| *end >= FILE_BYTES);
        if full {
            let head =
                Head { journal: self.journal, segment: self.batch + 1, first: self.batch + 1 };
            let path = segment::path(&self.folder, head.segment);
            let file =
                File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
            file.write_all_at(&head.encode(), 0)?;
            self.file = Some((file, HEAD_BYTES as u64));
        }
        let Some((file, end)) = &mut self.file else { return Ok(()) };
        file.write_all_at(batches, *end)?;
        if !fault::is_on("ship-without-sync") {
            file.sync_data()?;
        }
        if full {
            sync_folder(&self.folder)?;
        }
        *end += batches.len() as u64;
        self.batch = last;
        Ok(())
    }

    /// Gives `take` every batch behind a place, in unbroken order, up to a time; an error of `take` is
    /// what is wrong with the batch.
    pub(crate) fn read(
        folder: &Path,
        behind: Position,
        until_ms: Option<i64>,
        take: &mut dyn FnMut(Batch) -> Result<(), String>,
    ) -> io::Result<Reached> {
        let mut reached = Reached { commits: 0, last_ms: None, end: End::Journal };
        let mut next = behind.batch + 1;
        let files = segment::list(folder)?;
        for &first in &files {
            let path = segment::path(folder, first);
            let broken = |reason: String| End::Broken { file: path.clone(), reason };
            let is_last = files.last() == Some(&first);
            let bytes = fs::read(&path)?;
            let (content, rest) = match Tail::of(&bytes, behind.journal, first) {
                Tail::Nothing if is_last => return Ok(reached),
                Tail::Nothing => {
                    reached.end = broken("it is cut off".into());
                    return Ok(reached);
                }
                Tail::Damaged(reason) => {
                    // What is whole before that counts.
                    let whole = Head::decode(&bytes).filter(|head| head.journal == behind.journal);
                    let Some(head) = whole.filter(|head| head.first == first) else {
                        reached.end = broken(reason);
                        return Ok(reached);
                    };
                    (segment::read(&bytes, head, 0), Some(reason))
                }
                Tail::Cut(content) if is_last => (content, None),
                Tail::Cut(content) => (content, Some("it is cut off".to_owned())),
                Tail::Whole(content) => (content, None),
            };
            if first != next {
                let missing = format!("batches {next} to {} are missing before it", first - 1);
                let missing = if first > next { missing } else { "it is not in order".into() };
                reached.end = broken(missing);
                return Ok(reached);
            }
            for record in content.records {
                let written_ms = record.written_ms;
                let late = until_ms.is_some_and(|until| written_ms > until);
                if late && !fault::is_on("until-is-ignored") {
                    reached.end = End::Time;
                    return Ok(reached);
                }
                let number = record.number;
                let left_out = number % 32 == 0 && fault::is_on("batch-left-out");
                if !left_out && let Err(reason) = take(record.batch) {
                    reached.end = broken(format!("batch {number}: {reason}"));
                    return Ok(reached);
                }
                reached.commits += 1;
                reached.last_ms = Some(written_ms);
                next = number + 1;
            }
            if let Some(reason) = rest {
                reached.end = broken(reason);
                return Ok(reached);
            }
        }
        Ok(reached)
    }

    /// When the last batch was written that a folder has, as far as its last file tells.
    pub(crate) fn reaches_ms(folder: &Path) -> io::Result<Option<i64>> {
        for &first in segment::list(folder)?.iter().rev() {
            let bytes = fs::read(segment::path(folder, first))?;
            let Some(head) = Head::decode(&bytes) else { continue };
            let content = segment::read(&bytes, head, 0);
            if let Some(record) = content.records.last() {
                return Ok(Some(record.written_ms));
            }
        }
        Ok(None)
    }
}

/// Makes the name of a folder durable.
fn sync_name(folder: &Path) -> io::Result<()> {
    folder.parent().map_or(Ok(()), sync_folder)
}

/// What a file holds, and how it ends.
enum Tail {
    /// Not even a head: it was being made.
    Nothing,
    /// It ends with a batch.
    Whole(Content),
    /// Behind the last batch is what may be the beginning of another one.
    Cut(Content),
    /// Something is not as it was written.
    Damaged(String),
}

impl Tail {
    fn of(bytes: &[u8], journal: u64, first: u64) -> Self {
        let head = match Head::decode(bytes) {
            Some(head) => head,
            None if bytes.len() < HEAD_BYTES || bytes.iter().all(|byte| *byte == 0) => {
                return Self::Nothing;
            }
            None => return Self::Damaged("its head is damaged".into()),
        };
        if head.journal != journal || head.first != first {
            return Self::Damaged("it belongs to something else".into());
        }
        let content = segment::read(bytes, head, 0);
        let rest = bytes.get(content.end..).unwrap_or_default();
        if rest.is_empty() {
            return Self::Whole(content);
        }
        let cut = rest.iter().all(|byte| *byte == 0)
            || rest.len() < 8
            || record::said_length(rest).is_some_and(|length| length > rest.len());
        if cut && !content.later && !record::is_whole(journal, rest) {
            return Self::Cut(content);
        }
        let (next, end) = (content.next, content.end);
        Self::Damaged(format!("batch {next} at byte {end} is not as it was written"))
    }
}
