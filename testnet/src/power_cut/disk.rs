//! A disk that loses power: what is certain, what is only possible, and images of both.
//!
//! Certain is what a completed fsync covers: the content of that file, or the entries of that
//! folder. Everything later may be there or not, each sector of 512 bytes on its own, in the
//! states it went through: the system keeps one copy of a page, so a sector never holds a later
//! write without the earlier ones. The entry of a new file is only certain once its folder was
//! synced, which is stricter than common file systems are.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::trace::{Change, Event};
use crate::Result;
use crate::random::{Random, mix};

const SECTOR: u64 = 512;

/// How much of what is only possible an image holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    /// Nothing that was not synced.
    Everything,
    /// All of it, as if only the power of the program went.
    Nothing,
    /// The first writes in order.
    Later,
    /// The first writes in order and the last of them in part.
    Torn,
    /// Some writes, whatever their order.
    Writes,
    /// Some sectors or runs of sectors.
    Sectors,
    /// One sector.
    OneSector,
    /// All but one sector.
    AllButOneSector,
}

const LOSSES: [Loss; 8] = [
    Loss::Everything,
    Loss::Nothing,
    Loss::Later,
    Loss::Torn,
    Loss::Writes,
    Loss::Sectors,
    Loss::OneSector,
    Loss::AllButOneSector,
];

enum Write {
    Data { offset: u64, data: Vec<u8> },
    Truncate { length: u64 },
}

struct Pending<T> {
    end: usize,
    what: T,
}

#[derive(Default)]
struct File {
    certain: Vec<u8>,
    possible: Vec<Pending<Write>>,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Clone)]
enum Naming {
    Add { path: PathBuf, entry: Entry },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl Naming {
    fn is_in(&self, folder: &Path) -> bool {
        let path = match self {
            Self::Add { path, .. } | Self::Remove { path } | Self::Rename { to: path, .. } => path,
        };
        path.parent() == Some(folder)
    }

    fn apply(&self, entries: &mut BTreeMap<PathBuf, Entry>) {
        match self {
            Self::Add { path, entry } => {
                entries.insert(path.clone(), *entry);
            }
            Self::Rename { from, to } => {
                if let Some(entry) = entries.remove(from) {
                    entries.insert(to.clone(), entry);
                }
            }
            Self::Remove { path } => {
                entries.remove(path);
            }
        }
    }
}

/// The disk at one moment of a record, moved forward only.
pub(super) struct Disk {
    root: PathBuf,
    files: Vec<File>,
    entries: BTreeMap<PathBuf, Entry>,
    namings: Vec<Pending<Naming>>,
    /// Positions at which an event takes effect, and its index; in order.
    steps: Vec<(usize, usize)>,
    done: usize,
}

/// What an image was made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) loss: Loss,
    /// Bytes written but not certain at the cut.
    pub(super) at_stake: u64,
}

impl Disk {
    /// A disk that certainly holds what is below `root` now; also its files and folders.
    pub(super) fn load(root: &Path) -> Result<(Self, Vec<PathBuf>, Vec<PathBuf>)> {
        let mut disk = Self {
            root: root.to_owned(),
            files: Vec::new(),
            entries: BTreeMap::new(),
            namings: Vec::new(),
            steps: Vec::new(),
            done: 0,
        };
        let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    disk.entries.insert(path.clone(), Entry::Folder);
                    folders.push(path);
                } else if path.is_file() {
                    let certain = fs::read(&path)?;
                    disk.entries.insert(path.clone(), Entry::File(disk.files.len()));
                    disk.files.push(File { certain, possible: Vec::new() });
                    files.push(path);
                }
            }
        }
        Ok((disk, files, folders))
    }

    /// Prepares for a record; positions between which it can be cut, each after some event.
    pub(super) fn begin(&mut self, events: &[Event]) -> Vec<usize> {
        let takes_effect = |event: &Event| match event.change {
            Change::SyncFile { .. } | Change::SyncFolder { .. } => event.end,
            _ => event.start,
        };
        self.steps = events.iter().map(takes_effect).zip(0..).collect();
        self.steps.sort_unstable();
        let mut cuts: Vec<usize> =
            events.iter().flat_map(|event| [event.start + 1, event.end, event.end + 1]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    /// Lets everything happen that took effect before line `cut`.
    pub(super) fn advance(&mut self, events: &mut [Event], cut: usize) -> Result {
        while let Some((at, index)) = self.steps.get(self.done).copied()
            && at < cut
        {
            self.done += 1;
            let Event { start, end, change } = &mut events[index];
            let (start, end) = (*start, *end);
            match change {
                Change::Create { path } => {
                    let entry = Entry::File(self.files.len());
                    self.files.push(File::default());
                    self.naming(end, Naming::Add { path: path.clone(), entry });
                }
                Change::MakeFolder { path } => {
                    self.naming(end, Naming::Add { path: path.clone(), entry: Entry::Folder });
                }
                Change::Rename { from, to } => {
                    self.naming(end, Naming::Rename { from: from.clone(), to: to.clone() });
                }
                Change::Remove { path } => self.naming(end, Naming::Remove { path: path.clone() }),
                Change::Write { file, offset, data } => {
                    let what = Write::Data { offset: *offset, data: std::mem::take(data) };
                    self.file(*file)?.possible.push(Pending { end, what });
                }
                Change::Truncate { file, length } => {
                    let what = Write::Truncate { length: *length };
                    self.file(*file)?.possible.push(Pending { end, what });
                }
                Change::SyncFile { file } => self.file(*file)?.sync(start),
                Change::SyncFolder { path } => {
                    let path = path.clone();
                    self.sync_folder(&path, start);
                }
            }
        }
        Ok(())
    }

    fn naming(&mut self, end: usize, what: Naming) {
        self.namings.push(Pending { end, what });
    }

    fn file(&mut self, file: usize) -> Result<&mut File> {
        self.files.get_mut(file).context("a file that was not created")
    }

    fn sync_folder(&mut self, folder: &Path, start: usize) {
        let entries = &mut self.entries;
        self.namings.retain(|naming| {
            let covered = naming.end < start && naming.what.is_in(folder);
            if covered {
                naming.what.apply(entries);
            }
            !covered
        });
    }

    /// Writes an image of the disk, as it could be after losing power now, into `folder`.
    pub(super) fn image(&self, random: &mut Random, folder: &Path) -> Result<Made> {
        let loss = LOSSES[random.below(LOSSES.len())];
        let mut entries = self.entries.clone();
        let first = random.below(self.namings.len() + 1);
        for (at, naming) in self.namings.iter().enumerate() {
            let there = match loss {
                Loss::Everything => false,
                Loss::Nothing | Loss::AllButOneSector => true,
                Loss::Later | Loss::Torn | Loss::OneSector => at < first,
                Loss::Writes | Loss::Sectors => random.once_in(2),
            };
            if there {
                naming.what.apply(&mut entries);
            }
        }
        let mut at_stake = 0;
        for file in &self.files {
            at_stake += file.at_stake();
        }
        let image =
            |path: &Path| Ok::<_, anyhow::Error>(folder.join(path.strip_prefix(&self.root)?));
        for (path, entry) in &entries {
            let to = image(path)?;
            // In order of their names, so a folder comes before what is in it.
            if to.parent().is_none_or(|parent| !parent.is_dir()) {
                continue;
            }
            match entry {
                Entry::Folder => fs::create_dir(&to)?,
                Entry::File(file) => {
                    let file = self.files.get(*file).context("an entry without a file")?;
                    fs::write(&to, file.after(loss, random))?;
                }
            }
        }
        Ok(Made { loss, at_stake })
    }
}

impl File {
    /// What was written before a sync began is certain once it returns.
    fn sync(&mut self, start: usize) {
        let mut left = Vec::new();
        for pending in self.possible.drain(..) {
            if pending.end < start {
                match pending.what {
                    Write::Data { offset, data } => write_at(&mut self.certain, offset, &data),
                    Write::Truncate { length } => self.certain.resize(length as usize, 0),
                }
            } else {
                left.push(pending);
            }
        }
        self.possible = left;
    }

    fn at_stake(&self) -> u64 {
        let bytes = self.possible.iter().map(|pending| match &pending.what {
            Write::Data { data, .. } => data.len() as u64,
            Write::Truncate { .. } => 0,
        });
        bytes.sum()
    }

    /// The content that is left after a loss.
    fn after(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        let mut content = self.certain.clone();
        let writes = self.possible.len();
        if writes == 0 || loss == Loss::Everything {
            return content;
        }
        let (levels, length_level) = self.levels(loss, random);
        let mut length = content.len() as u64;
        for (at, pending) in self.possible.iter().enumerate() {
            match &pending.what {
                Write::Data { offset, data } => {
                    for (sector, from, to) in sectors(*offset, data.len()) {
                        if levels.get(&sector).is_some_and(|level| *level > at) {
                            write_at(&mut content, offset + from as u64, &data[from..to]);
                        }
                    }
                    if at < length_level {
                        length = length.max(offset + data.len() as u64);
                    }
                }
                Write::Truncate { length: to } if at < length_level => {
                    content.truncate(*to as usize);
                    length = *to;
                }
                Write::Truncate { .. } => {}
            }
        }
        content.resize(length as usize, 0);
        content
    }

    /// How many of the writes each sector has seen, and how many the length has.
    fn levels(&self, loss: Loss, random: &mut Random) -> (HashMap<u64, usize>, usize) {
        let writes = self.possible.len();
        let (seed, chosen) = (random.next(), random.below(writes));
        let (granule, part) = ([1, 8, 128][random.below(3)], 1 + random.below(4) as u64);
        let mut levels: HashMap<u64, usize> = HashMap::new();
        for (at, pending) in self.possible.iter().enumerate() {
            let Write::Data { offset, data } = &pending.what else { continue };
            let touched: Vec<u64> =
                sectors(*offset, data.len()).map(|(sector, ..)| sector).collect();
            let torn_at = mix(seed) as usize % touched.len().max(1);
            let backwards = seed % 2 == 0;
            for (place, sector) in touched.into_iter().enumerate() {
                let there = match loss {
                    Loss::Everything => false,
                    Loss::Later => at < chosen,
                    Loss::Torn => at < chosen || (at == chosen && ((place < torn_at) != backwards)),
                    Loss::Writes => mix(seed ^ at as u64).is_multiple_of(2),
                    Loss::Sectors => {
                        let chance = mix(seed ^ mix(sector / granule) ^ (at as u64 / 2));
                        chance % 5 >= part
                    }
                    Loss::Nothing | Loss::OneSector | Loss::AllButOneSector => true,
                };
                let level = levels.entry(sector).or_insert(0);
                if there {
                    *level = at + 1;
                }
            }
        }
        let mut all: Vec<u64> = levels.keys().copied().collect();
        all.sort_unstable();
        if let Some(one) = all.get(random.below(all.len())) {
            match loss {
                Loss::OneSector => levels.retain(|sector, _| sector == one),
                Loss::AllButOneSector => {
                    levels.remove(one);
                }
                _ => {}
            }
        }
        let length_level = match loss {
            Loss::Later => chosen,
            Loss::Torn => chosen + 1,
            Loss::Everything => 0,
            Loss::Nothing | Loss::AllButOneSector => writes,
            Loss::Writes | Loss::Sectors | Loss::OneSector => {
                if random.once_in(3) {
                    chosen
                } else {
                    writes
                }
            }
        };
        (levels, length_level)
    }
}

fn write_at(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + data.len());
    if content.len() < to {
        content.resize(to, 0);
    }
    content[from..to].copy_from_slice(data);
}

/// The sectors that a write touches, each with its range in the data.
fn sectors(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let last = end.div_ceil(SECTOR);
    (offset / SECTOR..last).map(move |sector| {
        let from = (sector * SECTOR).max(offset) - offset;
        let to = ((sector + 1) * SECTOR).min(end) - offset;
        (sector, from as usize, to as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 2;

    fn events(changes: Vec<Change>) -> Vec<Event> {
        let event = |(at, change)| Event { start: at * LINES, end: at * LINES + 1, change };
        changes.into_iter().enumerate().map(event).collect()
    }

    /// The contents that a file can be left with when the power goes after all of `changes`.
    fn left(changes: Vec<Change>) -> Result<std::collections::BTreeSet<Option<Vec<u8>>>> {
        let (root, images) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let path = root.path().join("file");
        let create = Change::Create { path };
        let folder = Change::SyncFolder { path: root.path().to_owned() };
        let changes = [create, folder].into_iter().chain(changes).collect();
        let mut events = events(changes);
        let (mut disk, ..) = Disk::load(root.path())?;
        disk.begin(&events);
        disk.advance(&mut events, usize::MAX)?;
        let mut random = Random::new(1);
        let mut contents = std::collections::BTreeSet::new();
        for number in 0..500 {
            let image = images.path().join(number.to_string());
            fs::create_dir(&image)?;
            disk.image(&mut random, &image)?;
            contents.insert(fs::read(image.join("file")).ok());
        }
        Ok(contents)
    }

    fn write(offset: u64, byte: u8, length: usize) -> Change {
        Change::Write { file: 0, offset, data: vec![byte; length] }
    }

    #[test]
    fn what_was_synced_is_certain() -> Result {
        let left = left(vec![write(0, 1, 700), Change::SyncFile { file: 0 }])?;
        assert_eq!(left, [Some(vec![1; 700])].into());
        Ok(())
    }

    #[test]
    fn a_sector_holds_no_later_write_without_the_earlier_one() -> Result {
        let left = left(vec![write(0, 1, 100), write(100, 2, 100)])?;
        assert!(left.len() > 2, "{left:?}");
        for content in left.into_iter().flatten() {
            let later = content.get(100) == Some(&2);
            assert!(!later || content[0] == 1, "{content:?}");
        }
        Ok(())
    }

    #[test]
    fn sectors_are_lost_one_by_one() -> Result {
        let left = left(vec![write(0, 1, 1536)])?;
        let middle_only = left.iter().flatten().any(|content| {
            content.get(512) == Some(&1) && content[0] == 0 && content.get(1024) != Some(&1)
        });
        let middle_lost = left
            .iter()
            .flatten()
            .any(|content| content.get(1024) == Some(&1) && content[0] == 1 && content[512] == 0);
        assert!(middle_only && middle_lost, "{} contents", left.len());
        assert!(left.contains(&Some(Vec::new())) && left.contains(&Some(vec![1; 1536])));
        Ok(())
    }

    #[test]
    fn a_sync_covers_only_what_was_written_before_it_began() -> Result {
        let root = tempfile::tempdir()?;
        let path = root.path().join("file");
        let mut events = events(vec![
            Change::Create { path },
            Change::SyncFolder { path: root.path().to_owned() },
            write(0, 1, 10),
            Change::SyncFile { file: 0 },
        ]);
        // The write returns while the sync runs.
        events[2].end = events[3].start + 1;
        events[3].end += 1;
        let (mut disk, ..) = Disk::load(root.path())?;
        disk.begin(&events);
        disk.advance(&mut events, usize::MAX)?;
        assert_eq!(disk.files[0].certain, Vec::<u8>::new());
        Ok(())
    }

    #[test]
    fn the_entry_of_a_file_is_lost_until_its_folder_was_synced() -> Result {
        let (root, image) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let path = root.path().join("file");
        let mut events =
            events(vec![Change::Create { path }, write(0, 1, 10), Change::SyncFile { file: 0 }]);
        let (mut disk, ..) = Disk::load(root.path())?;
        disk.begin(&events);
        disk.advance(&mut events, usize::MAX)?;
        let mut random = Random::new(1);
        let mut found = [false; 2];
        for number in 0..100 {
            let image = image.path().join(number.to_string());
            fs::create_dir(&image)?;
            disk.image(&mut random, &image)?;
            found[usize::from(image.join("file").exists())] = true;
        }
        assert_eq!(found, [true, true]);
        Ok(())
    }
}
