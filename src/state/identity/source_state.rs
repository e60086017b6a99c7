//! State of a source that is imported as a whole: its name, its bookmark and the parts of its tables.

use serde::{Deserialize, Serialize};

use crate::state::immutable_file::ImmutableFile;

/// Identifies a source that is imported as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceName {
    /// Its address.
    pub address: String,
    /// The label of the aliases that its ids become.
    pub label: String,
}

/// How far a source was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBookmark {
    /// The newest dump that was read.
    pub dump: u64,
    /// The first dump that its tables include.
    pub from: u64,
    /// All dumps since then, each with a fingerprint of its content.
    pub seen: Vec<(u64, u64)>,
    /// Fingerprint of the settings that its rows depend on, such as the owner column or the set of files.
    pub fingerprint: String,
}

/// The tables of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceTable {
    /// The owners of aliases.
    Users,
    /// Merges of aliases into other aliases.
    Joins,
}

/// The state of a source in a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceState {
    pub(super) name: SourceName,
    pub(super) bookmark: SourceBookmark,
    /// The parts of each table, oldest first.
    pub(super) users: Vec<ImmutableFile>,
    pub(super) joins: Vec<ImmutableFile>,
}

impl SourceState {
    pub(super) fn files(&self) -> impl Iterator<Item = &ImmutableFile> {
        self.users.iter().chain(&self.joins)
    }

    pub(super) fn stats(&self) -> SourceStats {
        let rows = |files: &[ImmutableFile]| files.iter().map(|file| file.rows).sum();
        let (name, dump) = (self.name.clone(), self.bookmark.dump);
        SourceStats { name, dump, users: rows(&self.users), joins: rows(&self.joins) }
    }
}

/// Statistics of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStats {
    /// The source.
    pub name: SourceName,
    /// The newest dump that was read.
    pub dump: u64,
    /// Entries with owners. Replaced ones count until parts are merged.
    pub users: u64,
    /// Entries with merges, counted in the same manner.
    pub joins: u64,
}
