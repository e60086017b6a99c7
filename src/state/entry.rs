//! Entries: versioned documents that only the holder of the lease writes, with an index of their newest versions.
//!
//! The name of an entry, such as `cohorts/vip`, is the name in `heads` and for `state accept`. An entry that is older
//! than the index says is an error.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::Store;
use super::versioned_json::{Retention, Versions};
use super::{StateError, StateReader, StateWriter};

/// Returns the versions of an entry. Entries with further files have them in a folder of their own.
pub(super) fn versions<'a>(store: &'a Store, entry: &str) -> Versions<'a> {
    match entry.split('/').next() {
        Some("cohorts" | "checks" | "workspaces") => {
            Versions::new(store, format!("{entry}/versions")).pretty()
        }
        Some("segments" | "exports" | "identity") => Versions::new(store, format!("{entry}/versions")),
        _ => Versions::new(store, entry),
    }
}

impl StateReader {
    /// Returns the newest version of an entry.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is older than the last commit.
    pub(super) fn newest<J: DeserializeOwned, T>(
        &self,
        entry: &str,
        convert: impl Fn(J, u64) -> Option<T>,
    ) -> Result<Option<T>, StateError> {
        let found = versions(&self.store, entry).newest(convert)?;
        self.heads.check(&self.store, entry, found.as_ref().map_or(0, |(number, _)| *number))?;
        Ok(found.map(|(_, content)| content))
    }
}

impl StateWriter {
    /// Commits a version of an entry.
    ///
    /// # Errors
    /// [`StateError::LeaseLost`] when another process has committed first or may be writing; otherwise when the write fails.
    pub(super) fn commit_entry(
        &self,
        entry: &str,
        number: u64,
        content: &impl Serialize,
        retention: Retention,
    ) -> Result<(), StateError> {
        match self.put_entry(entry, number, content, retention)? {
            true => Ok(()),
            false => Err(StateError::LeaseLost),
        }
    }

    /// As [`Self::commit_entry`], but returns `false` if another process has committed first.
    pub(super) fn put_entry(
        &self,
        entry: &str,
        number: u64,
        content: &impl Serialize,
        retention: Retention,
    ) -> Result<bool, StateError> {
        self.check_lease()?;
        let is_new = versions(&self.reader.store, entry).put(number, content, retention)?;
        if is_new && self.reader.heads.committed(entry, number) {
            self.note_heads();
        }
        Ok(is_new)
    }

    /// Writes the newest version numbers. If that fails, the next commit tries again.
    pub fn note_heads(&self) {
        if self.lease.check().is_err() {
            return;
        }
        match self.reader.heads.write(&self.reader.store) {
            Ok(Some(number)) => self.lease.note_heads(number),
            Ok(None) => {}
            Err(error) => tracing::warn!("the newest version numbers could not be written: {error}"),
        }
    }
}
