//! Why dumps cannot be read. Each of these means: nothing is learned from them.

use std::io;
use std::path::PathBuf;

use crate::connector::file::FileError;

/// Why dumps cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The place cannot be listed.
    #[error("cannot list {}: {source}", .path.display())]
    List {
        /// Where manifests should be.
        path: PathBuf,
        /// What the system or the store said.
        source: io::Error,
    },
    /// The place is none that can be listed.
    #[error("{address} is neither a folder nor a bucket")]
    NoBucket {
        /// The address.
        address: String,
    },
    /// Not a single dump is complete.
    #[error("there is no dump in {}: no manifest `sync_<dump_id>.json`", .path.display())]
    NoDump {
        /// Where manifests should be.
        path: PathBuf,
    },
    /// Two manifests are of one dump.
    #[error("{}: there is another manifest of dump {dump}", .path.display())]
    TwoManifests {
        /// One of them.
        path: PathBuf,
        /// The dump.
        dump: u64,
    },
    /// A manifest is not what it should be.
    #[error("{} is damaged: {what}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// A manifest names a file that is not there.
    #[error("{}: table `{table}` has the file {file}, which is not there", .manifest.display())]
    Gone {
        /// The manifest.
        manifest: PathBuf,
        /// The table.
        table: String,
        /// The file, as the manifest names it.
        file: String,
    },
    /// No dump begins the table.
    #[error("{}: no dump has all rows of the table `{table}`, so there is nothing to begin with", .path.display())]
    NoBeginning {
        /// Where the manifests are.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// No dump has the table.
    #[error("{}: no dump has a table `{table}`", .path.display())]
    NoTable {
        /// Where the manifests are.
        path: PathBuf,
        /// The table.
        table: String,
        /// The tables that the newest dump has.
        found: Vec<String>,
    },
    /// No dump has the column.
    #[error("{}: no dump of the table `{table}` has a column `{column}`", .path.display())]
    NoColumn {
        /// Where the manifests are.
        path: PathBuf,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A row is not what it should be, where each of them counts.
    #[error("{file}, row {line}: {what}")]
    Row {
        /// The file, as messages name it.
        file: String,
        /// The row, from 1.
        line: u64,
        /// How that shows.
        what: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DumpError {
    /// What the store said, if it is about a bucket.
    #[must_use]
    pub fn remote_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::List { path, source } if path.to_string_lossy().contains("://") => Some(source.kind()),
            Self::File(error) => error.remote_kind(),
            _ => None,
        }
    }
}
