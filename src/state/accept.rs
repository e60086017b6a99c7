//! Repair of a state that is older than the last commit, for example after a backup was restored.
//!
//! An older entry is either accepted as it is, or, for a cohort, recovered with all possible members in doubt.

use super::heap_segments::HeapSegments;
use super::membership::{self, Membership};
use super::part::{PartCursor, folder_of, path_of};
use super::versioned_json::number_of;
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{CohortId, ConnectionName};

/// A state entry, such as `cohorts/vip`, with fewer versions than were committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderEntry {
    /// The entry's name for `state accept`.
    pub entry: String,
    /// The newest version that exists. 0: none.
    pub found: u64,
    /// The newest version that was committed.
    pub committed: u64,
}

impl StateReader {
    /// Returns the entries that are older than the last commit.
    ///
    /// # Errors
    /// When the state cannot be listed.
    pub fn older_entries(&self) -> Result<Vec<OlderEntry>, StateError> {
        let mut older = Vec::new();
        if let Some(entry) = self.heads.lost() {
            let committed = number_of(entry.trim_start_matches("heads/")).unwrap_or(0);
            older.push(OlderEntry { entry, found: committed.saturating_sub(1), committed });
        }
        for (entry, committed) in self.heads.all() {
            let found = entry::versions(&self.store, &entry).newest_number()?;
            if found < committed {
                older.push(OlderEntry { entry, found, committed });
            }
        }
        Ok(older)
    }
}

impl StateWriter {
    /// Accepts an entry as it is. A cohort continues with its newest version, or without any. The segment tables of a
    /// Heap connection are emptied and rebuilt from the inbox. Committed version numbers are never reused.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn accept(&self, older: &OlderEntry) -> Result<(), StateError> {
        self.lease.check()?;
        let heads = &self.reader.heads;
        match older.entry.split_once('/') {
            Some(("heads", _)) => heads.accept_lost(),
            Some(("cohorts", id)) if older.found > 0 => {
                let cohort =
                    CohortId::new(id).map_err(|e| StateError::TemporaryFile(std::io::Error::other(e)))?;
                let found = membership::read(&self.reader.store, &cohort, older.found)?;
                self.commit(&cohort, &Membership { number: older.committed + 1, source: None, ..found })?;
                self.remove_versions(older)?;
            }
            Some(("segments", name)) => {
                let heap = ConnectionName::new(name)
                    .map_err(|e| StateError::TemporaryFile(std::io::Error::other(e)))?;
                let empty = HeapSegments { number: older.committed + 1, ..HeapSegments::default() };
                self.commit_segments(&heap, &empty)?;
                self.remove_versions(older)?;
            }
            _ => heads.accept(&older.entry, older.found),
        }
        self.note_heads();
        Ok(())
    }

    /// Removes the versions before the gap. The version just committed replaces them.
    fn remove_versions(&self, older: &OlderEntry) -> Result<(), StateError> {
        entry::versions(&self.reader.store, &older.entry).remove_before(older.found + 1).map(drop)
    }

    /// Recovers a cohort that is older than the last commit.
    ///
    /// Members of every existing part are in doubt, unless the newest version settles them. `first` is used if no
    /// version is left. Returns `None` if the cohort is not older.
    ///
    /// # Errors
    /// When a part cannot be read, or the state cannot be written.
    pub fn recover(
        &self,
        cohort: &CohortId,
        first: Option<Membership>,
    ) -> Result<Option<Membership>, StateError> {
        let entry = format!("cohorts/{cohort}");
        let Some(older) = self.reader.older_entries()?.into_iter().find(|older| older.entry == entry) else {
            return Ok(None);
        };
        let store = &self.reader.store;
        let found = membership::newest(store, cohort)?.or(first);
        let missing = || StateError::Damaged {
            path: store.at(entry::versions(store, &entry).folder()),
            problem: "no version is left, and the config does not declare the cohort".to_owned(),
        };
        let mut record = found.ok_or_else(missing)?;
        for file in store.files(&folder_of(cohort))? {
            let Some(id) = file.name.strip_suffix(".parquet") else { continue };
            if !record.parts.iter().any(|part| *part.id == *id) {
                let blob = store.open_blob(&path_of(cohort, id))?;
                record.parts.push(PartCursor::read_unnamed(blob, id, self.reader.seed())?);
            }
        }
        let mut cursor = self.reader.members(cohort, Some(&record))?;
        let (mut members, mut in_doubt) = (0, 0);
        while let Some((_, standing)) = cursor.advance()? {
            members += u64::from(standing == crate::model::MemberStanding::Member);
            in_doubt += u64::from(standing == crate::model::MemberStanding::InDoubt);
        }
        let number = older.committed + 1;
        let recovered = Membership { number, source: None, members: Some(members), in_doubt, ..record };
        self.commit(cohort, &recovered)?;
        self.remove_versions(&older)?;
        self.note_heads();
        Ok(Some(recovered))
    }
}
