//! Identity sources and Heap Connect sources, typed.

use std::time::Duration;

use super::file_source::FileSource;
use super::sql::SqlSource;

/// Location of Heap Connect dumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpFolder {
    /// URL of the bucket, or a folder with a copy of it.
    pub path: String,
    /// Address of the object store, if it is not the vendor's.
    pub endpoint: Option<String>,
    /// Region of the bucket, for S3.
    pub region: Option<String>,
}

impl DumpFolder {
    /// Whether the dumps are in a bucket.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.contains("://")
    }
}

/// A table of the newest Heap Connect dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// Location of the dumps.
    pub place: DumpFolder,
    /// Name of the table.
    pub table: String,
    /// Maximum age of rows, by their column `time`.
    pub within: Option<Duration>,
}

/// A query over tables of the newest Heap Connect dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpQuery {
    /// Location of the dumps.
    pub place: DumpFolder,
    /// The tables that the query uses.
    pub tables: Vec<String>,
    /// The query, and the database that gets the tables as temporary tables.
    pub query: SqlSource,
}

/// Heap Connect dumps as an identity source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpSource {
    /// Location of the dumps.
    pub place: DumpFolder,
    /// Name of the location in the identity map.
    pub address: String,
    /// Alias label of Heap's user ids.
    pub label: String,
    /// Column of `users` with the external id.
    pub owner: String,
}

/// Files with external ids and their devices or aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSource {
    /// The files.
    pub files: FileSource,
    /// Column of the external id.
    pub owner: String,
    /// Column of the device id.
    pub device_id: Option<String>,
    /// Alias label, and the column of the alias name.
    pub alias: Option<(String, String)>,
}

/// An identity source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// Heap Connect's dumps.
    HeapConnect(DumpSource),
    /// Files.
    File(MappingSource),
}

impl IdentitySource {
    /// The path in the config.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::HeapConnect(source) => &source.address,
            Self::File(source) => &source.files.pattern,
        }
    }

    /// Label of the aliases of this source, if it has aliases.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::HeapConnect(source) => Some(&source.label),
            Self::File(source) => source.alias.as_ref().map(|(label, _)| label.as_str()),
        }
    }
}
