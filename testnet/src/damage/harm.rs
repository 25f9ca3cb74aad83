//! What can happen to one file of a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::folder;
use crate::Result;
use crate::random::Random;

/// Longest run of bytes that becomes another.
const LONGEST_RUN: usize = 512;

/// What was done.
pub(super) struct Harm {
    /// The file, by its path in the folder.
    pub(super) file: PathBuf,
    /// In words.
    pub(super) what: String,
    /// What kind of damage it is.
    pub(super) kind: &'static str,
}

impl Harm {
    /// Whether the file is the one with the keys of the node.
    pub(super) fn is_of_keys(&self) -> bool {
        self.file == Path::new("identity.json")
    }
}

/// Damages one file of `folder`; `older` is the folder as it was some time ago.
pub(super) fn damage(folder: &Path, older: &Path, random: &mut Random) -> Result<Harm> {
    let file = choose(folder, older, random)?;
    let path = folder.join(&file);
    let before = fs::read(older.join(&file)).ok();
    let Ok(mut bytes) = fs::read(&path) else {
        // One of an earlier day, which the node has removed since.
        fs::write(&path, before.context("neither here nor there")?)?;
        return Ok(Harm { file, what: "is there again, as it was".into(), kind: "old file" });
    };
    let at = random.below(bytes.len());
    let (kind, what) = match (random.below(12), before) {
        (0 | 1, _) => {
            bytes[at] ^= 1 << random.below(8);
            ("a bit", format!("the bit at {at}"))
        }
        (2 | 3, _) => {
            let run = (1 + random.below(LONGEST_RUN)).min(bytes.len() - at);
            bytes[at..at + run].fill_with(|| random.next().to_le_bytes()[0]);
            ("a run of bytes", format!("{run} bytes at {at}"))
        }
        (4 | 5, _) => block(&mut bytes, at, 512, random),
        (6 | 7, _) => block(&mut bytes, at, 4_096, random),
        (8, _) => {
            bytes.truncate(at);
            ("cut off", format!("cut to {at} bytes"))
        }
        (9, _) => {
            fs::remove_file(&path)?;
            return Ok(Harm { file, what: "deleted".into(), kind: "deleted" });
        }
        (10, Some(before)) => {
            bytes = before;
            ("old file", "as it was before".into())
        }
        _ => return misplace(folder, file, &bytes, random),
    };
    fs::write(&path, bytes)?;
    Ok(Harm { file, what, kind })
}

/// Chooses the kind of file first, so that the many of one kind do not hide the few of others.
fn choose(folder: &Path, older: &Path, random: &mut Random) -> Result<PathBuf> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let there = folder::files(folder)?.into_iter().map(|file| (folder, file));
    let gone = folder::files(older)?.into_iter().map(|file| (older, file));
    for (root, file) in there.chain(gone) {
        if root == older && (folder.join(&file).exists() || !has_parent(folder, &file)) {
            continue;
        }
        if root.join(&file).metadata()?.len() == 0 {
            continue;
        }
        kinds.entry(kind_of(&file)).or_default().push(file);
    }
    let kind = kinds.values().nth(random.below(kinds.len())).context("an empty folder")?;
    Ok(kind[random.below(kind.len())].clone())
}

fn has_parent(folder: &Path, file: &Path) -> bool {
    folder.join(file).parent().is_some_and(Path::exists)
}

/// The name without what is counted up in it; content of objects is one kind.
fn kind_of(file: &Path) -> String {
    if file.starts_with("objects") {
        return "objects".into();
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let numbered = name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = if numbered { "N" } else { name.split('.').next().unwrap_or_default() };
    file.with_file_name(name).display().to_string()
}

fn block(bytes: &mut [u8], at: usize, size: usize, random: &mut Random) -> (&'static str, String) {
    let from = at / size * size;
    let to = (from + size).min(bytes.len());
    let zeros = random.once_in(2);
    bytes[from..to].fill_with(|| if zeros { 0 } else { random.next().to_le_bytes()[0] });
    let what = if zeros { "zeros" } else { "anything" };
    ("a block", format!("{what} in the {size} bytes at {from}"))
}

/// Swaps a file with another, or puts a copy of it where it does not belong.
fn misplace(folder: &Path, file: PathBuf, bytes: &[u8], random: &mut Random) -> Result<Harm> {
    let all = folder::files(folder)?;
    let other = &all[random.below(all.len())];
    match random.below(3) {
        0 => {
            let content = fs::read(folder.join(other))?;
            fs::write(folder.join(other), bytes)?;
            fs::write(folder.join(&file), content)?;
            let what = format!("swapped with {}", other.display());
            Ok(Harm { file, what, kind: "swapped" })
        }
        1 => {
            fs::write(folder.join(other), bytes)?;
            let what = format!("is there in place of {}, too", other.display());
            Ok(Harm { file, what, kind: "doubled" })
        }
        _ => {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let next = match u64::from_str_radix(&name, 16) {
                Ok(number) => format!("{:0width$x}", number.wrapping_add(1), width = name.len()),
                Err(_) => format!("{name}.copy"),
            };
            let copy = file.with_file_name(next);
            fs::write(folder.join(&copy), bytes)?;
            let what = format!("is there as {}, too", copy.display());
            Ok(Harm { file, what, kind: "doubled" })
        }
    }
}
