//! The end of an engine: the index gets everything, is let go, and its files are listed, so that the
//! next start need not look into them.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::checkpoint::{Checkpoint, Stage};
use super::{Data, listing, opening};
use crate::StoreError;
use crate::engine::index::folder::{is_file, is_let_go};

/// The last checkpoint, if there was one.
type Last = Arc<Mutex<Option<Checkpoint>>>;

/// Ends the thread that takes checkpoints when it is dropped.
pub(super) struct Stop {
    data: Arc<Data>,
    keeper: Option<JoinHandle<()>>,
    last: Last,
}

/// Lists the files of the index when it is dropped; by then nobody has it open.
pub(super) struct Seal {
    folder: PathBuf,
    last: Last,
}

/// Starts the thread.
pub(super) fn prepare(data: &Arc<Data>) -> Result<(Stop, Seal), StoreError> {
    let kept = Arc::clone(data);
    let keeper = thread::Builder::new()
        .name("checkpoints".into())
        .spawn(move || kept.keep())
        .map_err(|error| StoreError::Engine(error.to_string()))?;
    let last = Last::default();
    let stop = Stop { data: Arc::clone(data), keeper: Some(keeper), last: Arc::clone(&last) };
    Ok((stop, Seal { folder: data.folder.clone(), last }))
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.data.kept.close();
        let ended = self.keeper.take().map(JoinHandle::join);
        if ended.is_some_and(|ended| ended.is_err()) {
            tracing::error!("the thread that takes checkpoints ended unexpectedly");
        } else if self.data.kept.is_complete() {
            *self.last.lock() = self.data.checkpoint(Stage::Closed).ok();
        }
    }
}

impl Drop for Seal {
    fn drop(&mut self) {
        let Some(mut last) = self.last.lock().take() else { return };
        if !is_let_go(&self.folder) {
            return;
        }
        // Where it fails the checkpoint stays open, and the next start looks into the index.
        if let Ok(files) = listing::list(&self.folder, is_file) {
            last.files = files;
            if let Err(error) = last.write(&opening::checkpoint_path(&self.folder)) {
                tracing::warn!(%error, "the data is not noted as closed");
            }
        }
    }
}
