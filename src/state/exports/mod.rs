//! Progress of exports: which files were read, which events are held, and counts of outcomes.
//!
//! ```text
//! exports/<id>/versions/000000000012.json   put-if-absent, like the versions of cohorts
//! exports/<id>/held/<uuid>.events           events held until their user is known, or for Heap's limit
//! ```
//!
//! # Files that have been read
//! They are grouped by day. A recent day has the fingerprint of each file. A settled day only has the number of files
//! and the sum of their fingerprints, which reveals files that arrive later. So the document does not grow with the
//! bucket.
//!
//! # Guarantees
//! Every event that a version counts as read is in Heap, in a file of held events that the version names, or in the
//! rejects. Events read after the last version are read again after a crash.

mod held_events;
mod json;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::as_text::{hex, optional_time};
use super::versioned_json::Retention;
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{Day, ExportId, Timestamp};
use json::ExportProgressJson;

pub(super) use held_events::SUFFIX as HELD_SUFFIX;
pub use held_events::{HeldEvent, HeldEventRows, HeldEventsFile, HeldEventsWriter, HoldReason};

/// The progress of an export as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// The version number, from 1. 0: nothing was read yet.
    pub number: u64,
    /// When it was written.
    pub written_at: Option<Timestamp>,
    /// When all files were last listed, including those of settled days.
    pub fully_listed_at: Option<Timestamp>,
    /// The files that have been read, by day.
    pub days: BTreeMap<Day, DayProgress>,
    /// Files that were read in part, by path.
    pub parts: BTreeMap<String, PartialFile>,
    /// Held events, the oldest file first.
    pub held: Vec<HeldEventsFile>,
    /// Total counts of events by outcome.
    pub counts: BTreeMap<String, u64>,
    /// Event types without a mapping, with their counts.
    pub unknown_types: BTreeMap<String, u64>,
}

/// The files of one day that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DayProgress {
    /// A recent day, which may still get files.
    Open {
        /// Fingerprints of the files that were read.
        prints: BTreeSet<u64>,
        /// The latest arrival of these files.
        latest: Timestamp,
    },
    /// A settled day.
    Settled {
        /// How many files there were.
        files: u64,
        /// The sum of their fingerprints.
        sum: u64,
        /// The latest arrival of these files.
        seen_until: Timestamp,
    },
}

/// A file that was read in part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialFile {
    /// Fingerprint of the content that was read.
    #[serde(with = "hex")]
    pub print: u64,
    /// The offset up to which it was read.
    pub offset: u64,
    /// Since when the rest is missing. `None`: the file is being read.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_time")]
    pub truncated_since: Option<Timestamp>,
}

impl ExportProgress {
    /// Adds to a count.
    pub fn count(&mut self, outcome: &str, number: u64) {
        if number > 0 {
            let count = self.counts.entry(outcome.to_owned()).or_default();
            *count = count.saturating_add(number);
        }
    }

    /// How many events are held.
    #[must_use]
    pub fn held_len(&self) -> u64 {
        self.held.iter().map(HeldEventsFile::held).sum()
    }
}

pub(super) fn entry_of(export: &ExportId) -> String {
    format!("exports/{export}")
}

pub(super) fn held_folder_of(export: &ExportId) -> String {
    format!("exports/{export}/held")
}

impl StateReader {
    /// Returns the exports in the state, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn exports(&self) -> Result<Vec<ExportId>, StateError> {
        self.ids("exports", |name| ExportId::new(name).ok())
    }

    /// Returns the progress of an export.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn export(&self, export: &ExportId) -> Result<ExportProgress, StateError> {
        Ok(self.newest(&entry_of(export), ExportProgressJson::into_record)?.unwrap_or_default())
    }

    pub(super) fn export_at(&self, export: &ExportId, number: u64) -> Result<ExportProgress, StateError> {
        entry::versions(&self.store, &entry_of(export)).read(number, ExportProgressJson::into_record)
    }
}

impl StateWriter {
    /// Commits a version of an export's progress.
    ///
    /// # Errors
    /// When the write fails, or another process committed first.
    pub fn commit_export(&self, export: &ExportId, record: &ExportProgress) -> Result<(), StateError> {
        let document = ExportProgressJson::from_record(record);
        self.commit_entry(&entry_of(export), record.number, &document, Retention::All)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    #[test]
    fn progress_is_read_as_written() {
        let store = Store::in_memory();
        let at = |second| Timestamp::from_second(second).unwrap();
        let settled = DayProgress::Settled { files: 7, sum: u64::MAX, seen_until: at(1_700_000_000) };
        let record = ExportProgress {
            number: 3,
            written_at: Some(at(1_700_000_001)),
            fully_listed_at: Some(at(1_700_000_002)),
            days: BTreeMap::from([
                (Day(20_261_119), settled),
                (Day(20_261_120), DayProgress::Open { prints: BTreeSet::from([1, u64::MAX]), latest: at(9) }),
            ]),
            parts: BTreeMap::from([
                ("a/b.avro".to_owned(), PartialFile { print: 7, offset: 1 << 60, truncated_since: None }),
                ("c.avro".to_owned(), PartialFile { print: 8, offset: 0, truncated_since: Some(at(5)) }),
            ]),
            held: Vec::new(),
            counts: BTreeMap::from([("sent".to_owned(), 9)]),
            unknown_types: BTreeMap::from([("a.B".to_owned(), 2)]),
        };
        let export = ExportId::new("e").unwrap();
        let versions = entry::versions(&store, &entry_of(&export));
        versions.put(3, &ExportProgressJson::from_record(&record), Retention::All).unwrap();
        let reader = StateReader { store, format: None, heads: Default::default() };
        assert_eq!(reader.export(&export).unwrap(), record);
        assert_eq!(reader.exports().unwrap(), [export]);
    }
}
