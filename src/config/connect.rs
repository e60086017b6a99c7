//! Who is who, and Heap Connect's dumps, as the config names them.

use std::time::Duration;

use super::sql::SqlSource;
use super::types::FileSource;

/// Where Heap Connect's dumps are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpFolder {
    /// The bucket's address, or a folder that is a copy of one.
    pub path: String,
    /// The store's address, if it is in a bucket and that is not the vendor's own.
    pub endpoint: Option<String>,
    /// The bucket's region, for S3.
    pub region: Option<String>,
}

impl DumpFolder {
    /// Whether it is in a bucket and not on this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.path.contains("://")
    }
}

/// A table of Heap Connect's dumps, as it stands at the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSource {
    /// Where the dumps are.
    pub place: DumpFolder,
    /// The table.
    pub table: String,
    /// Only rows whose `time` is no older than this.
    pub within: Option<Duration>,
}

/// A query over tables of Heap Connect's dumps, each as it stands at the newest one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpQuery {
    /// Where the dumps are.
    pub place: DumpFolder,
    /// The tables that the query may name.
    pub tables: Vec<String>,
    /// The query, and the database that they are lent to.
    pub asked: SqlSource,
}

/// Heap Connect's dumps as a source of who is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpSource {
    /// Where they are.
    pub place: DumpFolder,
    /// What the identity map calls the place.
    pub address: String,
    /// The label of the aliases that Heap's user ids are.
    pub label: String,
    /// The column of `users` with the customer's own id.
    pub owner: String,
}

/// Files with the customer's own id beside devices or aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSource {
    /// The files.
    pub files: FileSource,
    /// The column of the customer's own id.
    pub owner: String,
    /// The column of a device.
    pub device_id: Option<String>,
    /// The label of an alias, and the column of its name.
    pub alias: Option<(String, String)>,
}

/// Where it is told who is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// Heap Connect's dumps.
    HeapConnect(DumpSource),
    /// Files.
    File(MappingSource),
}

impl IdentitySource {
    /// Where it is, as the config has it.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::HeapConnect(source) => &source.address,
            Self::File(source) => &source.files.pattern,
        }
    }

    /// The label of the aliases that it tells of, if it does.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::HeapConnect(source) => Some(&source.label),
            Self::File(source) => source.alias.as_ref().map(|(label, _)| label.as_str()),
        }
    }
}
