//! The parts of an upload, and the whole that they become.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use md5::{Digest as _, Md5};
use store::record::Upload;

use super::MAX_PARTS;
use super::folder::{TempFile, create_folder, rename};
use crate::error::{Result, ServiceError};

/// How many parts an upload has.
pub(super) fn part_count(size: i64, part_size: i64) -> i32 {
    let parts = if part_size > 0 && size > 0 { (size - 1) / part_size + 1 } else { 0 };
    i32::try_from(parts).unwrap_or(MAX_PARTS)
}

/// Where a part begins and how many bytes it has; `None` if the upload has no such part.
pub(super) fn part_range(upload: &Upload, part: i32) -> Option<(u64, u64)> {
    if part < 1 || part > part_count(upload.size, upload.part_size) {
        return None;
    }
    let begin = i64::from(part - 1).checked_mul(upload.part_size)?;
    let bytes = upload.part_size.min(upload.size.checked_sub(begin)?);
    Some((u64::try_from(begin).ok()?, u64::try_from(bytes).ok()?))
}

/// Checks every part and joins them in `target`.
pub(super) fn assemble(
    folder: &Path,
    target: &Path,
    upload: &Upload,
    parts: &[String],
    unique: &str,
) -> Result<()> {
    if parts.len() != part_count(upload.size, upload.part_size).unsigned_abs() as usize {
        return Err(ServiceError::object("the number of parts is wrong"));
    }
    if let Some(shard) = target.parent() {
        create_folder(shard)?;
    }
    if let [only] = parts {
        let path = folder.join("1");
        copy_part(&path, 1, upload, only, None)?;
        return Ok(rename(&path, target)?);
    }
    // Missing parts are told before anything is copied.
    for number in 1..=part_count(upload.size, upload.part_size) {
        if !folder.join(number.to_string()).exists() {
            return Err(missing(number));
        }
    }
    let (temp, mut file) = TempFile::create(&folder.join("whole"), unique)?;
    for (number, md5) in (1..).zip(parts) {
        copy_part(&folder.join(number.to_string()), number, upload, md5, Some(&mut file))?;
    }
    file.sync_all()?;
    Ok(temp.keep(target)?)
}

/// Checks a part and appends it to a file.
fn copy_part(
    path: &Path,
    number: i32,
    upload: &Upload,
    md5: &str,
    mut to: Option<&mut File>,
) -> Result<()> {
    let mut part = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(number)),
        part => part?,
    };
    let expected = part_range(upload, number).map(|(_, bytes)| bytes);
    if Some(part.metadata()?.len()) != expected {
        return Err(ServiceError::object(format!("part {number} has a wrong size")));
    }
    let mut digest = Md5::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = part.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        digest.update(bytes);
        if let Some(to) = &mut to {
            to.write_all(bytes)?;
        }
    }
    if hex::encode(digest.finalize()) != md5 {
        return Err(ServiceError::object(format!("part {number} has another MD5")));
    }
    Ok(())
}

fn missing(number: i32) -> ServiceError {
    ServiceError::object(format!("part {number} was not uploaded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_has_the_rest() {
        let upload = Upload { size: 11, part_size: 5, ..Default::default() };
        assert_eq!(part_range(&upload, 1), Some((0, 5)));
        assert_eq!(part_range(&upload, 3), Some((10, 1)));
        for none in [0, -1, 4, i32::MAX] {
            assert_eq!(part_range(&upload, none), None);
        }
        let form = Upload { size: 11, ..Default::default() };
        assert_eq!(part_range(&form, 1), None);
    }
}
