//! What is in the table beside a cohort's source, as it was left: a note, without which the table is worth nothing.
//!
//! ```text
//! pushdown/<cohort>/000000000001.json   put-if-absent; the newest one counts
//! ```
//!
//! The record is the truth, and the table a copy of its settled members as of one version. The note is written after the
//! table: whatever stops between the two leaves a note of an older version.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::membership::number_of;
use super::store::Store;
use super::versioned_json;
use super::{StateError, StateReader, StateWriter};
use crate::model::{CohortId, TableChecksum};

/// Longest part of a cohort's id in a table's name, which PostgreSQL cuts after 63 bytes.
const ID_LEN_MAX: usize = 30;

/// Where a table is, and what was left in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorNote {
    /// The connection, as the config calls it.
    pub connection: String,
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The version of the record whose settled members are in it. 0: nothing is known of it.
    pub version: u64,
    /// What is in it.
    pub tabled: TableChecksum,
}

/// A note's file, letter by letter. The sum is text: JSON numbers lose bits in many readers.
#[derive(Serialize, Deserialize)]
struct MirrorNoteJson {
    connection: String,
    schema: String,
    table: String,
    version: u64,
    rows: u64,
    sum: String,
    /// The table was dropped.
    #[serde(default)]
    is_gone: bool,
}

fn folder_of(cohort: &CohortId) -> String {
    format!("pushdown/{cohort}")
}

/// The number of the newest note, 0 if there is none, and what it says, if that can be read.
fn newest(store: &Store, cohort: &CohortId) -> Result<(u64, Option<MirrorNoteJson>), StateError> {
    let folder = folder_of(cohort);
    match versioned_json::newest::<MirrorNoteJson>(store, &folder) {
        Ok(Some((number, shape))) => Ok((number, Some(shape))),
        Ok(None) => Ok((0, None)),
        // Without a note a table is built again, which is all that is lost.
        Err(StateError::Damaged { .. }) => {
            let names = store.list(&folder)?;
            Ok((names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0), None))
        }
        Err(error) => Err(error),
    }
}

impl StateReader {
    /// What was left in a cohort's table; none if it has none.
    ///
    /// # Errors
    /// When the note cannot be read. One that is damaged is none.
    pub fn pushdown(&self, cohort: &CohortId) -> Result<Option<MirrorNote>, StateError> {
        let (_, found) = newest(&self.store, cohort)?;
        Ok(found.filter(|shape| !shape.is_gone).map(MirrorNoteJson::into_note))
    }

    /// The tables in which somebody may be who is in the records of `cohorts`: theirs, and those of which nobody can tell
    /// because they were left behind.
    ///
    /// # Errors
    /// When a note or a record cannot be read.
    pub fn pushdown_tables(&self, cohorts: &[CohortId]) -> Result<Vec<(CohortId, MirrorNote)>, StateError> {
        let mut tables = Vec::new();
        for cohort in self.cohorts()? {
            let Some(note) = self.pushdown(&cohort)? else { continue };
            let version = self.version(&cohort)?.map_or(0, |record| record.number);
            if cohorts.contains(&cohort) || note.version != version {
                tables.push((cohort, note));
            }
        }
        Ok(tables)
    }

    /// The name of a cohort's table: no other state's and no other cohort's.
    #[must_use]
    pub fn pushdown_table(&self, cohort: &CohortId) -> String {
        let unique = xxh3_64(format!("{:016x}/{cohort}", self.seed().0).as_bytes());
        let id: String = cohort.as_str().chars().take(ID_LEN_MAX).collect();
        format!("syncline_{id}_{unique:016x}")
    }
}

impl StateWriter {
    /// Writes down what is in a cohort's table now; none: there is no table any more.
    ///
    /// # Errors
    /// When the disk does not take it, or somebody else may be writing.
    pub fn note_pushdown(&self, cohort: &CohortId, note: Option<&MirrorNote>) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        let (number, before) = newest(store, cohort)?;
        let gone = before.map(|shape| MirrorNoteJson { is_gone: true, ..shape });
        match note.map(MirrorNoteJson::from_note).or(gone) {
            Some(shape) => versioned_json::put(store, &folder_of(cohort), number, &shape),
            None => Ok(()),
        }
    }
}

impl MirrorNoteJson {
    fn from_note(note: &MirrorNote) -> Self {
        Self {
            connection: note.connection.clone(),
            schema: note.schema.clone(),
            table: note.table.clone(),
            version: note.version,
            rows: note.tabled.rows,
            sum: note.tabled.sum.to_string(),
            is_gone: false,
        }
    }

    /// A sum that is none is no table's, so that nothing is trusted.
    fn into_note(self) -> MirrorNote {
        let sum = self.sum.parse().unwrap_or(i128::MIN);
        MirrorNote {
            connection: self.connection,
            schema: self.schema,
            table: self.table,
            version: self.version,
            tabled: TableChecksum { rows: self.rows, sum },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, Location};

    #[test]
    fn the_newest_note_counts_until_there_is_no_table() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, heard: None };
        let location = Location::Folder(home.path().to_owned());
        let state = StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap();
        let cohort = CohortId::new("carts").unwrap();
        assert_eq!(state.reader().pushdown(&cohort).unwrap(), None);
        state.note_pushdown(&cohort, None).unwrap();
        let table = state.reader().pushdown_table(&cohort);
        assert!(table.starts_with("syncline_carts_") && table.len() < 63 - "_next".len(), "{table}");
        for version in 1..5 {
            let tabled = TableChecksum { rows: version, sum: -i128::from(u64::MAX) };
            let (connection, schema) = ("w".to_owned(), "s".to_owned());
            let note = MirrorNote { connection, schema, table: table.clone(), version, tabled };
            state.note_pushdown(&cohort, Some(&note)).unwrap();
            assert_eq!(state.reader().pushdown(&cohort).unwrap(), Some(note));
            if version == 2 {
                let path = home.path().join("pushdown/carts/000000000002.json");
                std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), b"{").unwrap();
                assert_eq!(state.reader().pushdown(&cohort).unwrap(), None, "what is damaged says nothing");
            }
        }
        state.note_pushdown(&cohort, None).unwrap();
        assert_eq!(state.reader().pushdown(&cohort).unwrap(), None);
    }
}
