//! Errors of file sources. Each prevents a plan, so no member is removed.

use std::io;
use std::path::PathBuf;

use crate::connector::rows::SinkStopped;
use crate::file_glob::{GlobError, skipped_text};
use crate::foreign::{shown_path, without_addresses};

impl FileError {
    /// The kind of the store's error, if the file is remote.
    #[must_use]
    pub fn remote_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { path, source } | Self::List { path, source }
                if path.to_string_lossy().contains("://") =>
            {
                Some(source.kind())
            }
            _ => None,
        }
    }
}

impl FileError {
    /// Whether the files changed while they were read. The next attempt may read all of them.
    #[must_use]
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::FilesChanged { .. } | Self::Stopped)
    }
}

/// The reason why a file source cannot be read in full.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path or glob names no file.
    #[error("no file matches {pattern}{}", skipped_text(*.skipped))]
    NoMatch {
        /// The path or glob.
        pattern: String,
        /// Hidden or temporary files that match but were skipped.
        skipped: u64,
    },
    /// An object key is not supported.
    #[error("cannot read {}: {what}; nothing was removed", shown_path(.path))]
    BadKey {
        /// Its address.
        path: PathBuf,
        /// The defect of the key.
        what: String,
    },
    /// The glob is invalid.
    #[error("{source}")]
    BadGlob {
        /// The defect.
        source: GlobError,
    },
    /// A file or folder below the glob cannot be listed.
    #[error("cannot list {}: {}; nothing was removed", shown_path(.path), without_addresses(&.source.to_string()))]
    List {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is outside the folders that may be read.
    #[error("{} is outside the folders that sources may be read from", shown_path(.path))]
    Outside {
        /// Its real path.
        path: PathBuf,
    },
    /// The system or the store reports an error.
    #[error("cannot read {}: {}", shown_path(.path), without_addresses(&.source.to_string()))]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Neither name nor content shows the format.
    #[error("the format of {} is not known", shown_path(.path))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file changed while it was read.
    #[error("{} changed while it was read", shown_path(.path))]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Files appeared or disappeared during the read.
    #[error("the files that match {pattern} changed while they were read")]
    FilesChanged {
        /// The glob.
        pattern: String,
    },
    /// The file is incomplete.
    #[error("{} is truncated: {what}", shown_path(.path))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The evidence.
        what: String,
    },
    /// The last line has no line break, so it may be incomplete.
    #[error("{} is truncated: it does not end with a line break (line {line})", shown_path(.path))]
    NoFinalNewline {
        /// The file.
        path: PathBuf,
        /// Its last line, from 1.
        line: u64,
    },
    /// The file has an unsupported format.
    #[error("{} is {what}", shown_path(.path))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The format.
        what: String,
        /// The remedy.
        remedy: String,
    },
    /// The content does not match its declared format, or is damaged.
    #[error("{} cannot be read {what}", shown_path(.path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The expected format and the evidence.
        what: String,
    },
    /// The compressed data is damaged.
    #[error("{} cannot be unpacked: {source}", shown_path(.path))]
    Unpack {
        /// The file.
        path: PathBuf,
        /// The decompressor's error.
        source: io::Error,
    },
    /// A requested column is missing.
    #[error("{} has no column `{column}`", shown_path(.path))]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns that may be shown.
        found: Vec<String>,
    },
    /// The first row looks like user data and is not shown.
    #[error("{} has no column `{column}`: its first row looks like data, not like a header row", shown_path(.path))]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A requested column exists twice.
    #[error("{} has two columns `{column}`", shown_path(.path))]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// Rows cannot be separated from here on.
    #[error("{}:{line}: {what}", shown_path(.path))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The defect.
        what: &'static str,
    },
    /// The sink stopped the read. The sink keeps the reason.
    #[error("reading was stopped")]
    Stopped,
}

impl From<SinkStopped> for FileError {
    fn from(_: SinkStopped) -> Self {
        Self::Stopped
    }
}
