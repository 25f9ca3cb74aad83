//! Version logs: what changed in a list since a client last asked.
//!
//! One log per (list, owner). Every change steps its version by one and records the elements it
//! touched, each element keeping only its newest entry. A log that was never written is at version
//! 1 and empty. The ID of a log follows from the salt of the data, so after a restore every client
//! sees new IDs and synchronises in full.

use sha2::{Digest, Sha256};

use crate::engine::Direction;
use crate::layered::Read;
use crate::record::{LogChange, LogElement, LogHead};
use crate::schema::{VERSION_CHANGES, VERSION_ELEMENTS, VERSION_LOGS};
use crate::{StoreError, Tx};

/// Whose list a version log describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum List {
    /// Friends of a user.
    Friends = 1,
    /// Groups a user is in.
    JoinedGroups = 2,
    /// Members of a group.
    Members = 3,
    /// Conversations of a user.
    Conversations = 4,
    /// Users a user has blocked.
    Blacks = 5,
}

/// Element that stands for "the order of the list changed".
pub const SORT_ELEMENT: &str = "____S_O_R_T_I_D____";

/// What happened to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Change {
    /// It was added.
    Insert = 1,
    /// It was removed.
    Delete = 2,
    /// It was changed.
    Update = 3,
}

impl Change {
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        [Self::Insert, Self::Delete, Self::Update].into_iter().find(|c| *c as i32 == number)
    }
}

/// State of a log: its ID (24 hex digits) and current version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Identity of the log.
    pub id: String,
    /// Changes so far, counted from 1.
    pub version: u64,
}

/// One element that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// User, group or conversation ID, empty for group info, or [`SORT_ELEMENT`].
    pub element: String,
    /// Last thing that happened to it.
    pub change: Change,
    /// Version of that change.
    pub version: u64,
}

/// The current version of a log.
pub fn version(from: &impl Read, list: List, owner: &str) -> Result<Version, StoreError> {
    let head = VERSION_LOGS.get(from, (list as u8, owner))?;
    Ok(Version { id: log_id(from.salt(), list, owner), version: head.map_or(1, |h| h.version) })
}

/// Elements changed after version `after`, oldest first; `None` if there are more than `limit`.
pub fn changes_since(
    from: &impl Read,
    list: List,
    owner: &str,
    after: u64,
    limit: usize,
) -> Result<Option<Vec<Changed>>, StoreError> {
    let Some(first) = after.checked_add(1) else { return Ok(Some(Vec::new())) };
    let mut changed = Vec::new();
    let (low, high) = ((list as u8, owner, first), (list as u8, owner));
    for row in VERSION_CHANGES.range(from, low, high, Direction::Ascending) {
        let ((_, _, version, _), entry) = row?;
        if changed.len() == limit {
            return Ok(None);
        }
        let change = Change::from_number(entry.change).ok_or_else(|| StoreError::Damaged {
            table: VERSION_CHANGES.name(),
            reason: format!("unknown change {}", entry.change),
        })?;
        changed.push(Changed { element: entry.element, change, version });
    }
    Ok(Some(changed))
}

impl Tx<'_> {
    /// Records that `elements` of a list changed, as one step; returns the new version.
    pub fn step<'e>(
        &mut self,
        list: List,
        owner: &str,
        elements: impl IntoIterator<Item = (&'e str, Change)>,
    ) -> Result<u64, StoreError> {
        let list = list as u8;
        let version = VERSION_LOGS.get(self, (list, owner))?.map_or(1, |head| head.version) + 1;
        VERSION_LOGS.put(self, (list, owner), &LogHead { version });
        for (position, (element, change)) in (0u32..).zip(elements) {
            if let Some(old) = VERSION_ELEMENTS.get(self, (list, owner, element))? {
                VERSION_CHANGES.delete(self, (list, owner, old.version, old.position));
            }
            VERSION_ELEMENTS.put(self, (list, owner, element), &LogElement { version, position });
            let entry = LogChange { element: element.to_owned(), change: change as i32 };
            VERSION_CHANGES.put(self, (list, owner, version, position), &entry);
        }
        Ok(version)
    }
}

fn log_id(salt: [u8; 16], list: List, owner: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update([list as u8]);
    hash.update(owner.as_bytes());
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
