//! Version logs: heads, changes and elements.

use bytes::Bytes;

use super::Check;
use crate::StoreError;
use crate::schema::{VERSION_CHANGES, VERSION_ELEMENTS, VERSION_LOGS};
use crate::version_log::Change;

/// What is remembered from one pair to the next.
#[derive(Default)]
pub(super) struct VersionLogs {
    /// The log whose changes are passed, and its version.
    log: Option<((u8, String), u64)>,
}

impl VersionLogs {
    pub(super) fn pair(
        &mut self,
        check: &mut Check<'_, '_>,
        key: &[u8],
        value: &Bytes,
    ) -> Result<(), StoreError> {
        if let Some((key, head)) = VERSION_LOGS.row(key, value)? {
            if head.version < 2 {
                let problem = format!("a log that was written to is at version {}", head.version);
                check.add(&VERSION_LOGS, &key, problem);
            }
        } else if let Some((key, change)) = VERSION_CHANGES.row(key, value)? {
            let (list, owner, version, position) = &key;
            let current = self.version_of(check, *list, owner)?;
            if *version > current {
                let problem = format!("the log is only at version {current}");
                check.add(&VERSION_CHANGES, &key, problem);
            }
            if Change::from_number(change.change).is_none() {
                let problem = format!("there is no change of kind {}", change.change);
                check.add(&VERSION_CHANGES, &key, problem);
            }
            let element = check.other(&VERSION_ELEMENTS, (*list, owner, &change.element))?;
            if element.is_none_or(|e| (e.version, e.position) != (*version, *position)) {
                let problem = format!("it is not the newest change of {:?}", change.element);
                check.add(&VERSION_CHANGES, &key, problem);
            }
        } else if let Some((key, element)) = VERSION_ELEMENTS.row(key, value)? {
            let (list, owner, name) = &key;
            let at = (*list, owner.as_str(), element.version, element.position);
            let change = check.other(&VERSION_CHANGES, at)?;
            if change.is_none_or(|change| change.element != *name) {
                check.add(&VERSION_ELEMENTS, &key, "the change it points to is not its own");
            }
        }
        Ok(())
    }

    fn version_of(
        &mut self,
        check: &Check<'_, '_>,
        list: u8,
        owner: &str,
    ) -> Result<u64, StoreError> {
        match &self.log {
            Some(((known, of), version)) if *known == list && of == owner => Ok(*version),
            _ => {
                let version = check.other(&VERSION_LOGS, (list, owner))?.map_or(0, |h| h.version);
                self.log = Some(((list, owner.to_owned()), version));
                Ok(version)
            }
        }
    }
}
