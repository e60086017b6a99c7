//! Writer of the journal of one run.

use std::sync::{Arc, Mutex, PoisonError};

use super::StateError;
use super::heads::Heads;
use super::journal::{JournalEntry, JournalEvent, folder_of};
use super::log_lines;
use super::store::{GrowingFile, Store};
use crate::model::{RunId, Timestamp, timestamp_text};

/// Writes the journal of one run. Cohorts are applied concurrently, so it is shared.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<GrowingFile>,
    run: RunId,
    heads: Arc<Heads>,
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.heads.ended(&self.run);
    }
}

impl Journal {
    pub(super) fn create(
        store: &Store,
        heads: &Arc<Heads>,
        run: &RunId,
        began: Timestamp,
    ) -> Result<Self, StateError> {
        let file = Mutex::new(store.growing(&format!("{}/{run}.ndjson", folder_of(began)))?);
        heads.began(run);
        Ok(Self { file, run: run.clone(), heads: Arc::clone(heads) })
    }

    /// Appends a line. It is durable after the next [`Journal::sync`].
    ///
    /// # Errors
    /// When the write fails.
    pub fn append(&self, at: Timestamp, event: JournalEvent) -> Result<(), StateError> {
        let entry = JournalEntry { at: timestamp_text(at), event };
        let mut line = Vec::new();
        log_lines::seal(self.run.as_str(), &serde_json::to_vec(&entry).unwrap_or_default(), &mut line);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.append(&line)?)
    }

    /// Makes appended lines visible to other processes. In a bucket this takes a request.
    ///
    /// # Errors
    /// When the request fails.
    pub fn publish(&self) -> Result<(), StateError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.publish()?)
    }

    /// Flushes appended lines to disk.
    ///
    /// # Errors
    /// When the write fails.
    pub fn sync(&self) -> Result<(), StateError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.sync()?)
    }
}
