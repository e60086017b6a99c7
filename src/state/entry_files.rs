//! The files of an entry with parts: its versions, its parts, and which parts each version names.

use super::immutable_file::ImmutableFile;
use super::membership;
use super::part::{self, PartFolder, PartRef};
use super::store::Store;
use super::versioned_json::Versions;
use super::{StateError, StateReader, entry, exports, heap_segments, identity};
use crate::model::{CohortId, ConnectionName, ExportId};

/// The suffix of parts with members.
pub(super) const MEMBERS: &str = ".parquet";

/// A part that a version names.
pub(super) struct NamedPart {
    pub(super) file: ImmutableFile,
    /// Set for parts with members, which are verified one by one.
    pub(super) members: Option<PartRef>,
}

impl From<PartRef> for NamedPart {
    fn from(part: PartRef) -> Self {
        Self { file: part.file(), members: Some(part) }
    }
}

impl From<ImmutableFile> for NamedPart {
    fn from(file: ImmutableFile) -> Self {
        Self { file, members: None }
    }
}

/// Returns the parts that a version names.
type NamedParts<'a> = Box<dyn Fn(u64) -> Result<Vec<NamedPart>, StateError> + 'a>;

/// The versions of an entry and its parts.
pub(super) struct EntryFiles<'a> {
    pub(super) store: &'a Store,
    pub(super) versions: Versions<'a>,
    /// The folder of the parts.
    pub(super) parts: String,
    /// The suffix of parts that do not hold members.
    pub(super) suffix: &'static str,
    pub(super) named: NamedParts<'a>,
}

impl<'a> EntryFiles<'a> {
    pub(super) fn of_cohort(state: &'a StateReader, cohort: &'a CohortId) -> Self {
        let named = |number| {
            let version = membership::read(&state.store, cohort, number)?;
            Ok(version.all_parts().cloned().map(NamedPart::from).collect())
        };
        Self {
            store: &state.store,
            versions: entry::versions(&state.store, &membership::entry_of(cohort)),
            parts: part::folder_of(cohort),
            suffix: MEMBERS,
            named: Box::new(named),
        }
    }

    pub(super) fn of_segments(state: &'a StateReader, heap: &'a ConnectionName) -> Self {
        let named = |number| {
            let (parts, changes) = state.segment_files(heap, number)?;
            Ok(parts.into_iter().map(NamedPart::from).chain(changes.into_iter().map(From::from)).collect())
        };
        Self {
            store: &state.store,
            versions: entry::versions(&state.store, &heap_segments::entry_of(heap)),
            parts: part::folder_of(PartFolder::Segments(heap)),
            suffix: heap_segments::SUFFIX,
            named: Box::new(named),
        }
    }

    pub(super) fn of_export(state: &'a StateReader, export: &'a ExportId) -> Self {
        let named = |number| {
            let record = state.export_at(export, number)?;
            Ok(record.held.into_iter().map(|held| held.file.into()).collect())
        };
        Self {
            store: &state.store,
            versions: entry::versions(&state.store, &exports::entry_of(export)),
            parts: exports::held_folder_of(export),
            suffix: exports::HELD_SUFFIX,
            named: Box::new(named),
        }
    }

    pub(super) fn of_identity(state: &'a StateReader) -> Self {
        let named =
            |number| Ok(identity::parts_at(&state.store, number)?.into_iter().map(From::from).collect());
        Self {
            store: &state.store,
            versions: entry::versions(&state.store, identity::ENTRY),
            parts: identity::PARTS.to_owned(),
            suffix: identity::SUFFIX,
            named: Box::new(named),
        }
    }

    /// Returns the id of a part from its file's name.
    pub(super) fn id_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_suffix(self.suffix).or_else(|| name.strip_suffix(MEMBERS))
    }

    /// The path of a part in the state.
    pub(super) fn path_of(&self, part: &NamedPart) -> String {
        let suffix = if part.members.is_some() { MEMBERS } else { self.suffix };
        format!("{}/{}{suffix}", self.parts, part.file.id)
    }
}
