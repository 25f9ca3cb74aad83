//! The journal: every committed batch, numbered and checksummed, in files that are written from front
//! to back. Syncing it is what makes a commit durable.
//!
//! A [segment] is needed until a checkpoint covers its last batch; then it is written anew under a
//! higher number, since writing over bytes that are there costs the disk less than appending. The
//! [`mark`](Mark) says how far the journal has certainly come.

mod follow;
mod mark;
mod record;
pub(in crate::engine) mod salvage;
mod segment;
mod shipped;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::follow::Follower;
use self::mark::Mark;
pub(in crate::engine) use self::record::Record;
use self::segment::{HEAD_BYTES, Head};
pub use self::shipped::{End, Reached};
pub(crate) use self::shipped::{Resumed, Shipped};
use super::file::{damaged, fails, sync, sync_folder, unsynced};
use crate::StoreError;
use crate::engine::Batch;

/// A segment that has grown so far is followed by another one.
const SEGMENT_BYTES: u64 = 4 << 20;
/// The same where space is short: what is not needed any more is given back sooner.
const SHORT_SEGMENT_BYTES: u64 = 256 << 10;
/// Segments that are not needed any more and are kept: a repair may have use for them. With one more
/// the oldest is written anew.
const MOST_SPARE: usize = 4;
/// Segments that are not needed any more and are kept for somebody who follows the journal and is
/// behind: 64 MiB. Who is further behind has missed something.
const MOST_HELD: usize = 16;
/// The same where space is short.
const SHORT_HELD: usize = 2;
/// A buffer for encoding that has grown beyond it is given back.
const BUFFER_BYTES: usize = 1 << 20;

/// The journal as it was found in a folder.
pub(super) struct Found {
    /// The batches that the index may lack.
    pub(super) records: Vec<Record>,
    /// Numbers of files that hold nothing of use.
    old: Vec<u64>,
    /// Segments with batches before the last.
    full: Vec<u64>,
    /// Number of the last segment with batches, and where these end; `None`: no batch counts.
    last: Option<(Head, u64)>,
    /// Number of the last batch.
    pub(super) number: u64,
    /// Highest number of a file.
    highest: u64,
    /// The file of that number was made for a segment, and has no head.
    unbegun: bool,
}

impl Found {
    /// A journal of which nothing is needed: the index has everything up to batch `number`.
    pub(super) fn nothing(folder: &Path, number: u64) -> Result<Self, StoreError> {
        let mut old = segment::list(folder).map_err(fails(folder))?;
        let highest = old.last().copied().unwrap_or_default();
        let path = segment::path(folder, highest);
        let begun = |head: Head| head.segment == highest;
        let unbegun = !old.is_empty() && !head(&path).map_err(fails(&path))?.is_some_and(begun);
        if unbegun {
            old.pop();
        }
        let (records, full) = (Vec::new(), Vec::new());
        Ok(Self { records, old, full, last: None, number, highest, unbegun })
    }
}

/// Reads what follows batch `known` in the journal with this ID, without changing anything.
pub(super) fn read(folder: &Path, journal: u64, known: u64) -> Result<Found, StoreError> {
    let mark = mark::read(folder)?;
    let files = segment::list(folder).map_err(fails(folder))?;
    let highest = files.last().copied().unwrap_or_default();
    let (records, old, full) = (Vec::new(), Vec::new(), Vec::new());
    let unbegun = false;
    let mut found = Found { records, old, full, last: None, number: known, highest, unbegun };
    let mut heads = Vec::new();
    for &number in &files {
        let path = segment::path(folder, number);
        match head(&path).map_err(fails(&path))? {
            Some(head) if head.journal == journal && head.segment == number => heads.push(head),
            // Made for what was to come, when the node ended.
            _ if number == highest => found.unbegun = true,
            _ => return Err(damaged(&path, "this is not the segment of its name")),
        }
    }
    for (at, head) in heads.iter().enumerate() {
        let follower = heads.get(at + 1);
        if follower.is_some_and(|next| next.first <= known + 1) {
            found.old.push(head.segment);
            continue;
        }
        let path = segment::path(folder, head.segment);
        if head.first > found.number + 1 {
            let reason = format!("it begins with batch {}, after {}", head.first, found.number);
            return Err(damaged(&path, reason));
        }
        let bytes = fs::read(&path).map_err(fails(&path))?;
        let content = segment::read(&bytes, *head, known);
        let last = content.records.last().map_or(found.number, |record| record.number);
        let goes_on = follower.is_some_and(|next| next.first != last + 1);
        if content.later || goes_on || (follower.is_none() && last < mark) {
            let reason =
                format!("batch {} at byte {} is not as it was written", content.next, content.end);
            return Err(damaged(&path, reason));
        }
        found.number = last;
        found.records.extend(content.records);
        if content.next == last + 1 {
            let before = found.last.replace((*head, content.end as u64));
            found.full.extend(before.map(|(before, _)| before.segment));
        } else {
            // It ends before what the index has: nothing can follow in it.
            found.old.push(head.segment);
        }
    }
    if found.number < mark {
        let reason = format!("batches {} to {mark} are missing", found.number + 1);
        return Err(damaged(folder, reason));
    }
    Ok(found)
}

/// Whether the journal with this ID has no batch.
pub(super) fn is_empty(folder: &Path, journal: u64) -> io::Result<bool> {
    for number in segment::list(folder)? {
        let path = segment::path(folder, number);
        if let Some(head) = head(&path)?.filter(|head| head.journal == journal) {
            let content = segment::read(&fs::read(&path)?, head, u64::MAX);
            if head.first > 1 || content.next > head.first || content.later {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether the journal has certainly come further than to batch `number`.
pub(super) fn is_ahead(folder: &Path, number: u64) -> bool {
    mark::read(folder).is_ok_and(|mark| mark > number)
}

/// The head of a file, if it has one.
fn head(path: &Path) -> io::Result<Option<Head>> {
    let file = File::open(path)?;
    let mut bytes = [0; HEAD_BYTES];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
        Ok(()) => Ok(Head::decode(&bytes)),
    }
}

/// A segment that is being written or waits for its checkpoint.
struct Segment {
    number: u64,
    /// Number of its last batch, or of the one before its first.
    last: u64,
}

/// The journal while it is written.
pub(super) struct Journal {
    folder: PathBuf,
    id: u64,
    /// Number of the last batch that was appended.
    number: u64,
    file: File,
    /// Where the next batch goes.
    end: u64,
    current: Segment,
    /// Full ones, oldest first.
    full: Vec<Segment>,
    files: Files,
    /// Space is short.
    is_short: bool,
    mark: Mark,
    /// A sync has failed: what of the last batches is on disk, nobody knows.
    failed: bool,
    buffer: Vec<u8>,
}

impl Journal {
    /// Makes what a journal needs of which nothing is needed but that its last batch was `number`.
    pub(super) fn prepare(folder: &Path, number: u64) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        mark::create(folder, number)?;
        sync_folder(folder)
    }

    /// Goes on behind what was found; what was never acknowledged is cut off.
    pub(super) fn open(folder: &Path, id: u64, found: &Found) -> Result<Self, StoreError> {
        Self::go_on(folder, id, found).map_err(fails(folder))
    }

    fn go_on(folder: &Path, id: u64, found: &Found) -> io::Result<Self> {
        let mark = mark::open(folder)?;
        let mut old = found.old.clone();
        old.sort_unstable();
        let spare = old.into_iter().map(|number| Segment { number, last: found.number });
        let mut files = Files {
            spare: spare.collect(),
            // Nobody has said yet whether they follow, and how far they are.
            followed: 0,
            highest: found.highest,
            taken: found.unbegun.then_some(found.highest),
        };
        let (current, file, end) = match found.last {
            Some((head, end)) => {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .open(segment::path(folder, head.segment))?;
                // Half a batch must not look like one when others have followed it.
                file.set_len(end)?;
                file.sync_all()?;
                (Segment { number: head.segment, last: found.number }, file, end)
            }
            None => {
                let number = files.take(folder)?;
                let head = Head { journal: id, segment: number, first: found.number + 1 };
                let file = begin(folder, head)?;
                file.sync_all()?;
                files.taken = None;
                (Segment { number, last: found.number }, file, HEAD_BYTES as u64)
            }
        };
        // They are read again at the next start unless a checkpoint covers them.
        let full = found.full.iter().map(|&number| Segment { number, last: found.number });
        let mut journal = Self {
            folder: folder.to_owned(),
            id,
            number: found.number,
            file,
            end,
            current,
            full: full.collect(),
            files,
            is_short: false,
            mark,
            failed: false,
            buffer: Vec::new(),
        };
        journal.files.drop_spare(folder, MOST_HELD, MOST_HELD)?;
        journal.files.followed = u64::MAX;
        sync_folder(folder)?;
        Ok(journal)
    }

    /// Number of the last batch.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Appends a batch, not yet durable.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.must_work()?;
        let number = self.number + 1;
        self.buffer.clear();
        if !record::encode(self.id, number, now_ms(), batch, &mut self.buffer) {
            return Err(StoreError::Engine("a commit is too large for the journal".into()));
        }
        self.write(number).map_err(fails(&self.folder))?;
        self.number = number;
        self.current.last = number;
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    fn write(&mut self, number: u64) -> io::Result<()> {
        let full = if self.is_short { SHORT_SEGMENT_BYTES } else { SEGMENT_BYTES };
        if self.end >= full {
            // What was appended to the full one is durable: it is synced after each batch.
            let next = self.files.take(&self.folder)?;
            let head = Head { journal: self.id, segment: next, first: number };
            let file = begin(&self.folder, head)?;
            sync_folder(&self.folder).map_err(|error| {
                self.failed = true;
                unsynced(error)
            })?;
            self.file = file;
            self.files.taken = None;
            let next = Segment { number: next, last: number - 1 };
            self.full.push(std::mem::replace(&mut self.current, next));
            self.end = HEAD_BYTES as u64;
        }
        self.file.write_all_at(&self.buffer, self.end).inspect_err(|_| {
            // What half of it takes is given back.
            let _ = self.file.set_len(self.end);
        })?;
        self.end += self.buffer.len() as u64;
        Ok(())
    }

    /// Makes every appended batch durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.must_work()?;
        let synced = sync(&self.file).and_then(|()| self.mark.set(self.number).map_err(unsynced));
        synced.map_err(|error| {
            self.failed = true;
            fails(&self.folder)(error)
        })
    }

    fn must_work(&self) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Engine("the journal could not be synced".into()));
        }
        Ok(())
    }

    /// A checkpoint covers everything up to a batch: what is older is not needed.
    pub(super) fn release(&mut self, number: u64) -> Result<(), StoreError> {
        let (done, full) = std::mem::take(&mut self.full)
            .into_iter()
            .partition::<Vec<_>, _>(|segment| segment.last <= number);
        self.full = full;
        let spare = &mut self.files.spare;
        spare.extend(done);
        spare.sort_unstable_by_key(|segment| segment.number);
        self.spare(self.is_short)
    }

    /// Gives back what is not needed, all of it where space is short.
    pub(super) fn spare(&mut self, is_short: bool) -> Result<(), StoreError> {
        self.is_short = is_short;
        let (most, held) = if is_short { (0, SHORT_HELD) } else { (2 * MOST_SPARE, MOST_HELD) };
        self.files.drop_spare(&self.folder, most, held).map_err(fails(&self.folder))
    }

    /// Who follows the journal has every batch up to this one; with `u64::MAX` nobody follows.
    pub(super) fn followed(&mut self, number: u64) {
        self.files.followed = number;
    }
}

/// The files that are not in use.
struct Files {
    /// Those that can be used again, oldest first.
    spare: Vec<Segment>,
    /// Who follows has every batch up to this one.
    followed: u64,
    /// Highest number of a file.
    highest: u64,
    /// The highest number, if its file has no head yet. Only the last file may be without.
    taken: Option<u64>,
}

impl Files {
    /// Gives a number to the file of the next segment: the oldest of those that are there, if they are
    /// many and who follows has them. Until that has its head, it is taken again.
    fn take(&mut self, folder: &Path) -> io::Result<u64> {
        if let Some(taken) = self.taken {
            return Ok(taken);
        }
        let next = self.highest.saturating_add(1);
        let free = self.spare.iter().filter(|segment| segment.last <= self.followed).count();
        if free > MOST_SPARE || self.spare.len() > MOST_HELD {
            let old = self.spare.remove(0).number;
            fs::rename(segment::path(folder, old), segment::path(folder, next))?;
        }
        self.highest = next;
        self.taken = Some(next);
        Ok(next)
    }

    /// Removes the oldest beyond so many, but keeps up to so many for who follows and is behind.
    fn drop_spare(&mut self, folder: &Path, most: usize, held: usize) -> io::Result<()> {
        // Those of a busy hour are not kept for ever.
        while self.spare.len() > most
            && let Some(oldest) = self.spare.first()
            && (oldest.last <= self.followed || self.spare.len() > held)
        {
            let oldest = self.spare.remove(0);
            fs::remove_file(segment::path(folder, oldest.number))?;
        }
        Ok(())
    }
}

/// Opens the file of a segment and writes its head.
fn begin(folder: &Path, head: Head) -> io::Result<File> {
    let path = segment::path(folder, head.segment);
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    file.write_all_at(&head.encode(), 0)?;
    Ok(file)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
