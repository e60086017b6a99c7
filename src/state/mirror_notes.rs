//! Notes about mirror tables: the recorded content of the table beside a cohort's SQL source.
//!
//! ```text
//! mirror_tables/<cohort>/000000000001.json   versioned JSON
//! ```
//!
//! The recorded membership is authoritative; the table is a copy of its settled members as of one version. The note is
//! written after the table, so an interruption leaves a note of an older version. Without a valid note the table is
//! rebuilt.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::store::Store;
use super::versioned_json::{Retention, Versions};
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{CohortId, TableChecksum};

/// Maximum length of the cohort id in a table's name, because PostgreSQL truncates names to 63 bytes.
const ID_LEN_MAX: usize = 30;

/// The location and content of a mirror table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorNote {
    /// The connection's name in the config.
    pub connection: String,
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// The version with the settled members that the table holds. 0: unknown.
    pub version: u64,
    /// The checksum of its rows.
    pub checksum: TableChecksum,
}

/// The file format. The sum is a string, because many JSON readers lose bits of large numbers.
#[derive(Serialize, Deserialize)]
struct MirrorNoteJson {
    connection: String,
    schema: String,
    table: String,
    membership_version: u64,
    rows: u64,
    sum: String,
    /// The table was dropped.
    #[serde(default)]
    is_gone: bool,
}

fn versions<'a>(store: &'a Store, cohort: &CohortId) -> Versions<'a> {
    entry::versions(store, &format!("mirror_tables/{cohort}"))
}

/// Returns the number of the newest note, 0 if there is none, and its content if it is readable.
fn newest(store: &Store, cohort: &CohortId) -> Result<(u64, Option<MirrorNoteJson>), StateError> {
    let versions = versions(store, cohort);
    match versions.newest(|shape, _| Some(shape)) {
        Ok(Some((number, shape))) => Ok((number, Some(shape))),
        Ok(None) => Ok((0, None)),
        // Without a note the table is rebuilt; nothing else is lost.
        Err(StateError::Damaged { .. }) => Ok((versions.newest_number()?, None)),
        Err(error) => Err(error),
    }
}

impl StateReader {
    /// Returns the note of a cohort's mirror table. `None`: it has no table.
    ///
    /// # Errors
    /// When the note cannot be read. A damaged note counts as missing.
    pub fn mirror_note(&self, cohort: &CohortId) -> Result<Option<MirrorNote>, StateError> {
        let (_, found) = newest(&self.store, cohort)?;
        Ok(found.filter(|shape| !shape.is_gone).map(MirrorNoteJson::into_note))
    }

    /// Returns the mirror tables that may contain members of `cohorts`: their own, and all outdated ones.
    ///
    /// # Errors
    /// When a note or a membership cannot be read.
    pub fn mirror_tables_of(&self, cohorts: &[CohortId]) -> Result<Vec<(CohortId, MirrorNote)>, StateError> {
        let mut tables = Vec::new();
        for cohort in self.cohorts()? {
            let Some(note) = self.mirror_note(&cohort)? else { continue };
            let version = self.version(&cohort)?.map_or(0, |record| record.number);
            if cohorts.contains(&cohort) || note.version != version {
                tables.push((cohort, note));
            }
        }
        Ok(tables)
    }

    /// The name of a cohort's mirror table, unique among all states and cohorts.
    #[must_use]
    pub fn mirror_table_name(&self, cohort: &CohortId) -> String {
        let unique = xxh3_64(format!("{:016x}/{cohort}", self.seed().0).as_bytes());
        let id: String = cohort.as_str().chars().take(ID_LEN_MAX).collect();
        format!("syncline_{id}_{unique:016x}")
    }
}

impl StateWriter {
    /// Writes the note of a cohort's mirror table. `None`: the table was dropped.
    ///
    /// # Errors
    /// When the write fails, or another process may be writing.
    pub fn put_mirror_note(&self, cohort: &CohortId, note: Option<&MirrorNote>) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        let (number, before) = newest(store, cohort)?;
        let dropped = before.map(|shape| MirrorNoteJson { is_gone: true, ..shape });
        let Some(shape) = note.map(MirrorNoteJson::from_note).or(dropped) else { return Ok(()) };
        match versions(store, cohort).put(number + 1, &shape, Retention::Newest(2))? {
            true => Ok(()),
            false => Err(StateError::LeaseLost),
        }
    }
}

impl MirrorNoteJson {
    fn from_note(note: &MirrorNote) -> Self {
        Self {
            connection: note.connection.clone(),
            schema: note.schema.clone(),
            table: note.table.clone(),
            membership_version: note.version,
            rows: note.checksum.rows,
            sum: note.checksum.sum.to_string(),
            is_gone: false,
        }
    }

    /// An unreadable sum becomes one that matches no table.
    fn into_note(self) -> MirrorNote {
        let sum = self.sum.parse().unwrap_or(i128::MIN);
        MirrorNote {
            connection: self.connection,
            schema: self.schema,
            table: self.table,
            version: self.membership_version,
            checksum: TableChecksum { rows: self.rows, sum },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, Location};

    #[test]
    fn the_newest_note_is_current_until_the_table_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap();
        let cohort = CohortId::new("carts").unwrap();
        assert_eq!(state.reader().mirror_note(&cohort).unwrap(), None);
        state.put_mirror_note(&cohort, None).unwrap();
        let table = state.reader().mirror_table_name(&cohort);
        assert!(table.starts_with("syncline_carts_") && table.len() < 63 - "_next".len(), "{table}");
        for version in 1..5 {
            let checksum = TableChecksum { rows: version, sum: -i128::from(u64::MAX) };
            let (connection, schema) = ("w".to_owned(), "s".to_owned());
            let note = MirrorNote { connection, schema, table: table.clone(), version, checksum };
            state.put_mirror_note(&cohort, Some(&note)).unwrap();
            assert_eq!(state.reader().mirror_note(&cohort).unwrap(), Some(note));
            if version == 2 {
                let path = home.path().join("mirror_tables/carts/000000000002.json");
                std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), b"{").unwrap();
                assert_eq!(state.reader().mirror_note(&cohort).unwrap(), None, "a damaged note is ignored");
            }
        }
        state.put_mirror_note(&cohort, None).unwrap();
        assert_eq!(state.reader().mirror_note(&cohort).unwrap(), None);
    }
}
