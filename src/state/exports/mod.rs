//! How far each export is: which files have been read, what waits to be sent, and what became of it all.
//!
//! ```text
//! exports/<id>/versions/000000000012.json   put-if-absent, as the versions of cohorts
//! exports/<id>/waiting/<uuid>.events        events that wait for their person, or for Heap's limit
//! ```
//!
//! # Files that have been read
//! They are kept by day: of a day that may still get files, the print of each one; of a day that is long over,
//! how many there were and the sum of their prints, which tells whether any came later. So the record does not
//! grow with the bucket.
//!
//! # Guarantees
//! Whatever a version says has been read is in Heap, in a waiting file that the version names, or in the
//! rejects. What is read after the version is read again after a crash.

mod held_events;
mod json;

use std::collections::{BTreeMap, BTreeSet};

use super::checked;
use super::membership::number_of;
use super::{StateError, StateReader, StateWriter};
use crate::model::{Day, ExportId, Timestamp};
use json::ExportProgressJson;

pub(super) use held_events::SUFFIX as WAITING_SUFFIX;
pub use held_events::{HeldEvent, HeldEventRows, HeldEvents, HeldEventsFile, HeldEventsWriter};

/// How far an export is, as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportProgress {
    /// The number of the commit, from 1; 0: nothing was ever read.
    pub number: u64,
    /// When it was written.
    pub written_at: Option<Timestamp>,
    /// When last every file was listed, also those of days that are long over.
    pub listed_whole: Option<Timestamp>,
    /// The files that have been read, by day.
    pub days: BTreeMap<Day, DayProgress>,
    /// Files that were read in part, by path.
    pub parts: BTreeMap<String, PartialFile>,
    /// What waits to be sent, the oldest file first.
    pub waiting: Vec<HeldEventsFile>,
    /// What became of events, by a word for each outcome, ever.
    pub counts: BTreeMap<String, u64>,
    /// Types that nobody knows yet, with how often they came.
    pub unknown_types: BTreeMap<String, u64>,
}

/// What has been read of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DayProgress {
    /// It may still get files.
    Open {
        /// The prints of those that have been read.
        prints: BTreeSet<u64>,
        /// The latest that any of them arrived.
        latest: Timestamp,
    },
    /// The day is long over.
    Settled {
        /// How many files there were.
        files: u64,
        /// The sum of their prints.
        sum: u64,
        /// The latest that any of them arrived.
        seen_until: Timestamp,
    },
}

/// A file that was read in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialFile {
    /// Tells the content that was read from any other.
    pub print: u64,
    /// Up to where.
    pub offset: u64,
    /// Since when its rest is missing; none while it is just being read.
    pub cut_since: Option<Timestamp>,
}

impl ExportProgress {
    /// Adds to a count.
    pub fn count(&mut self, what: &str, number: u64) {
        if number > 0 {
            *self.counts.entry(what.to_owned()).or_default() += number;
        }
    }

    /// How many events wait.
    #[must_use]
    pub fn waiting_len(&self) -> u64 {
        self.waiting.iter().map(HeldEventsFile::waiting).sum()
    }
}

pub(super) fn folder_of(export: &ExportId) -> String {
    format!("exports/{export}/versions")
}

pub(super) fn waiting_folder_of(export: &ExportId) -> String {
    format!("exports/{export}/waiting")
}

fn path_of(export: &ExportId, number: u64) -> String {
    format!("{}/{number:012}.json", folder_of(export))
}

impl StateReader {
    /// The exports that the state knows, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn exports(&self) -> Result<Vec<ExportId>, StateError> {
        let names = self.store.list("exports")?;
        Ok(names.iter().filter_map(|name| ExportId::new(name).ok()).collect())
    }

    /// How far an export is.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn export(&self, export: &ExportId) -> Result<ExportProgress, StateError> {
        let names = self.store.list(&folder_of(export))?;
        let newest = names.iter().filter_map(|name| number_of(name)).max();
        self.heads.check(&self.store, &format!("exports/{export}"), newest.unwrap_or(0))?;
        match newest {
            Some(newest) => self.export_at(export, newest),
            None => Ok(ExportProgress::default()),
        }
    }

    pub(super) fn export_at(&self, export: &ExportId, number: u64) -> Result<ExportProgress, StateError> {
        let file = path_of(export, number);
        let path = self.store.at(&file);
        let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
        let shape: ExportProgressJson = checked::existing(&self.store, &file)?;
        let record = shape.into_record().ok_or_else(|| damaged("a value is out of range".to_owned()))?;
        if record.number == number { Ok(record) } else { Err(damaged("it is another version".to_owned())) }
    }
}

impl StateWriter {
    /// Makes this the newest that is known of an export.
    ///
    /// # Errors
    /// When the disk does not take it, or another process was first.
    pub fn commit_export(&self, export: &ExportId, record: &ExportProgress) -> Result<(), StateError> {
        self.check_lease()?;
        let (store, file) = (&self.reader().store, path_of(export, record.number));
        let put = checked::put_new_compact(store, &file, &ExportProgressJson::from_record(record))?;
        if !put {
            return Err(StateError::Lost);
        }
        self.committed(&format!("exports/{export}"), record.number);
        Ok(())
    }

    /// Removes superseded files of an export, and rejects from before `rejects_before`, once in several versions.
    /// `number` is the newest version.
    ///
    /// # Errors
    /// When the state cannot be read, or a file cannot be removed.
    pub fn tidy_export(
        &self,
        export: &ExportId,
        number: u64,
        rejects_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if !self.is_to_be_collected(&folder_of(export), number) {
            return Ok(());
        }
        self.remove(&super::gc::of_export(self.reader(), export, now)?)?;
        self.remove_rejects_before(export, rejects_before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let at = |second| Timestamp::from_second(second).unwrap();
        let settled = DayProgress::Settled { files: 7, sum: u64::MAX, seen_until: at(1_700_000_000) };
        let record = ExportProgress {
            number: 3,
            written_at: Some(at(1_700_000_001)),
            listed_whole: Some(at(1_700_000_002)),
            days: BTreeMap::from([
                (Day(20_261_119), settled),
                (Day(20_261_120), DayProgress::Open { prints: BTreeSet::from([1, u64::MAX]), latest: at(9) }),
            ]),
            parts: BTreeMap::from([
                ("a/b.avro".to_owned(), PartialFile { print: 7, offset: 1 << 60, cut_since: None }),
                ("c.avro".to_owned(), PartialFile { print: 8, offset: 0, cut_since: Some(at(5)) }),
            ]),
            waiting: Vec::new(),
            counts: BTreeMap::from([("sent".to_owned(), 9)]),
            unknown_types: BTreeMap::from([("a.B".to_owned(), 2)]),
        };
        let export = ExportId::new("e").unwrap();
        checked::put_new_compact(&store, &path_of(&export, 3), &ExportProgressJson::from_record(&record))
            .unwrap();
        let reader = StateReader { store, format: None, heads: Default::default() };
        assert_eq!(reader.export(&export).unwrap(), record);
        assert_eq!(reader.exports().unwrap(), [export]);
    }
}
