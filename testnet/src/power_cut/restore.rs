//! Restoring from the backups of an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::backed::FOLDER;
use super::fact::Fact;
use super::{PATIENCE, open};
use crate::{Process, Result};

/// Exit code of a restore that ends where the journal does not go on.
const INCOMPLETE: Option<i32> = Some(3);

/// What must come back.
pub(super) struct Restore {
    pub(super) server: PathBuf,
    /// Whether some backup is certain.
    pub(super) must_be_there: bool,
    /// Messages by the name of the backup that holds them, with the journal behind it.
    pub(super) facts: BTreeMap<String, Vec<Fact>>,
}

impl Restore {
    /// Restores what the backups in an image hold; returns what is wrong.
    pub(super) async fn check(&self, image: &Path) -> Result<Vec<String>> {
        let backups = image.join(FOLDER);
        if !is_there(&backups)? {
            let lost = self.must_be_there.then(|| "the backup is gone".to_owned());
            return Ok(lost.into_iter().collect());
        }
        let node = Process::builder(&self.server).prepare()?;
        let mut restore = node.command("restore");
        restore.args(["--json", "--without-secrets"]).arg(&backups);
        let Ok(output) = tokio::time::timeout(PATIENCE, restore.output()).await else {
            return Ok(vec!["the restore hangs".to_owned()]);
        };
        let output = output?;
        // What was being written may be there in part, and is said to be missing.
        let in_part = output.status.code() == INCOMPLETE;
        if !output.status.success() && !in_part {
            let text = [output.stdout, output.stderr].concat();
            return Ok(vec![format!("restore: {}", String::from_utf8_lossy(&text).trim())]);
        }
        let restored: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let file = PathBuf::from(restored["backup"].as_str().unwrap_or_default());
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        anyhow::ensure!(
            in_part == (restored["whole"] == false),
            "it contradicts itself: {restored}"
        );
        let facts = self.facts.get(&*name).map_or(&[][..], Vec::as_slice);
        let list = node.scratch().join("facts.json");
        fs::write(&list, serde_json::to_vec(facts)?)?;
        let wrong = open(&node.data(), &list, 1).await?;
        Ok(wrong.into_iter().map(|line| format!("restored from {name}: {line}")).collect())
    }
}

/// Whether a backup has its name.
fn is_there(folder: &Path) -> Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    for entry in fs::read_dir(folder)? {
        if entry?.path().extension().is_some_and(|extension| extension == "backup") {
            return Ok(true);
        }
    }
    Ok(false)
}
