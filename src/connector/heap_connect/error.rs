//! Errors of Heap Connect dumps. After any of them, no row of a dump is used.

use std::io;
use std::path::PathBuf;

use crate::connector::file::FileError;

/// An error of Heap Connect dumps.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The location cannot be listed.
    #[error("cannot list {}: {source}", .path.display())]
    List {
        /// The expected folder of manifests.
        path: PathBuf,
        /// The error of the system or the store.
        source: io::Error,
    },
    /// The location is not a folder or a bucket.
    #[error("{address} is neither a folder nor a bucket")]
    NoBucket {
        /// The address.
        address: String,
    },
    /// No dump is complete.
    #[error("there is no dump in {}: no manifest `sync_<dump_id>.json`", .path.display())]
    NoDump {
        /// The expected folder of manifests.
        path: PathBuf,
    },
    /// Two manifests have the same dump id.
    #[error("{}: there is another manifest of dump {dump}", .path.display())]
    TwoManifests {
        /// One of them.
        path: PathBuf,
        /// The dump id.
        dump: u64,
    },
    /// A manifest is damaged.
    #[error("{} is damaged: {what}", .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// The reason.
        what: String,
    },
    /// A manifest names a missing file.
    #[error("{}: table `{table}` has the file {file}, which does not exist", .manifest.display())]
    Gone {
        /// The manifest.
        manifest: PathBuf,
        /// The table.
        table: String,
        /// The file, as the manifest names it.
        file: String,
    },
    /// No dump has all rows of the table.
    #[error("{}: no dump has all rows of the table `{table}`, so the table cannot be restored", .path.display())]
    NoBeginning {
        /// The folder of manifests.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// No dump has the table.
    #[error("{}: no dump has a table `{table}`", .path.display())]
    NoTable {
        /// The folder of manifests.
        path: PathBuf,
        /// The table.
        table: String,
        /// The tables of the newest dump.
        found: Vec<String>,
    },
    /// No dump has the column.
    #[error("{}: no dump of the table `{table}` has a column `{column}`", .path.display())]
    NoColumn {
        /// The folder of manifests.
        path: PathBuf,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A row is malformed where every row counts.
    #[error("{file}, row {line}: {what}")]
    Row {
        /// The file, for messages.
        file: String,
        /// The row, from 1.
        line: u64,
        /// The reason.
        what: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DumpError {
    /// The error of the store, if the dumps are in a bucket.
    #[must_use]
    pub fn remote_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::List { path, source } if path.to_string_lossy().contains("://") => Some(source.kind()),
            Self::File(error) => error.remote_kind(),
            _ => None,
        }
    }
}
