//! Rejects: what could not be used, each with its reason, so that nothing is lost in silence.

use std::path::PathBuf;

use serde::Serialize;

use super::StateError;
use super::store::{Growing, Store};
use crate::model::PassId;

/// One row or identifier that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reject<'a> {
    /// Why, as a stable word.
    pub reason: &'a str,
    /// Why, in the words of whoever refused it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: &'a str,
    /// The source's file, if it comes from one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'a str>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, or the kind of identifier.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub column: &'a str,
    /// What stood there.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'a str,
}

/// The rejects of one cohort, or one door, in one pass. The file appears with the first of them.
pub struct RejectLog {
    store: Store,
    relative: String,
    file: Option<Growing>,
    buffer: Vec<u8>,
    /// Something was written since it was last put on disk.
    dirty: bool,
}

const BUFFER_LEN: usize = 64 << 10;

impl RejectLog {
    pub(super) fn new(store: &Store, pass: &PassId, of: &str) -> Self {
        let relative = format!("rejects/{pass}/{of}.ndjson");
        Self { store: store.clone(), relative, file: None, buffer: Vec::new(), dirty: false }
    }

    /// Adds lines of JSON, each made by [`Reject::line`].
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn push(&mut self, lines: &[u8]) -> Result<(), StateError> {
        self.buffer.extend_from_slice(lines);
        if self.buffer.len() >= BUFFER_LEN { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.store.growing(&self.relative)?),
        };
        file.append(&self.buffer)?;
        self.buffer.clear();
        self.dirty = true;
        Ok(())
    }

    /// Puts what was pushed on disk, so that a version may say that somebody was refused.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&mut self) -> Result<(), StateError> {
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        if let Some(file) = self.file.as_mut().filter(|_| self.dirty) {
            file.sync()?;
        }
        self.dirty = false;
        Ok(())
    }

    /// Puts the log on disk and says where; none if there was nothing to put.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(mut self) -> Result<Option<PathBuf>, StateError> {
        self.sync()?;
        Ok(self.file.is_some().then(|| self.store.at(&self.relative)))
    }
}

impl Reject<'_> {
    /// The reject as a line of JSON.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}
