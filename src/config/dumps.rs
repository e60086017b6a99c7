//! Heap Connect sources, typed.

use std::time::Duration;

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
pub struct DumpTableSource {
    /// Location of the dumps.
    pub folder: DumpFolder,
    /// Name of the table.
    pub table: String,
    /// Maximum age of rows, by their column `time`.
    pub within: Option<Duration>,
}

/// A query over tables of the newest Heap Connect dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpQuery {
    /// Location of the dumps.
    pub folder: DumpFolder,
    /// The tables that the query uses.
    pub tables: Vec<String>,
    /// The query, and the database that gets the tables as temporary tables.
    pub query: SqlSource,
}
