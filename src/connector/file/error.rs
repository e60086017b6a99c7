//! Why a source cannot be read. Each of these means: no plan, and nobody is removed.

use std::io;
use std::path::PathBuf;

use crate::connector::rows::SinkStopped;
use crate::file_glob::{GlobError, skipped_text};

impl FileError {
    /// What the store said, if it is about a file that is elsewhere.
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

/// Why a source cannot be read in full.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The path or glob names no file.
    #[error("no file matches {pattern}{}", skipped_text(*.skipped))]
    NoMatch {
        /// The path or glob.
        pattern: String,
        /// Hidden or temporary files that match otherwise.
        skipped: u64,
    },
    /// An object's key cannot be asked for.
    #[error("cannot read {}: {what}; nothing was removed", .path.display())]
    BadKey {
        /// Its address.
        path: PathBuf,
        /// What is wrong with the key.
        what: String,
    },
    /// The wildcards of a path cannot be understood.
    #[error("{source}")]
    BadGlob {
        /// Why not.
        source: GlobError,
    },
    /// A file or folder that the glob may name cannot be named, entered or looked at.
    #[error("cannot list {}: {source}; nothing was removed", .path.display())]
    List {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is outside the folders that may be read from.
    #[error("{} is outside the folders that sources may be read from", .path.display())]
    Outside {
        /// Where it really is.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name does not tell the format.
    #[error("the format of {} is not known", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file changed while it was read.
    #[error("{} changed while it was read", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// Files came or went while the glob was read.
    #[error("the files that match {pattern} changed while they were read")]
    FilesChanged {
        /// The glob.
        pattern: String,
    },
    /// The file ends where it should not.
    #[error("{} is cut short: {what}", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
    /// The file's last line has no line break, so nobody knows whether it is whole.
    #[error("{} is cut short: it does not end with a line break (line {line})", .path.display())]
    NoFinalNewline {
        /// The file.
        path: PathBuf,
        /// Its last line, from 1.
        line: u64,
    },
    /// The file is of a kind that is not read, or not as this format.
    #[error("{} is {what}", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The file is not what its name or its config says, or is cut short or damaged.
    #[error("{} cannot be read {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// As what, and how that shows.
        what: String,
    },
    /// The compressed data is damaged.
    #[error("{} cannot be unpacked: {source}", .path.display())]
    Unpack {
        /// The file.
        path: PathBuf,
        /// What the unpacker said.
        source: io::Error,
    },
    /// A column that a rule names is not there.
    #[error("{} has no column `{column}`", .path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The columns that it has, as far as they may be shown.
        found: Vec<String>,
    },
    /// The first row of a file is data of a user, which is not shown.
    #[error("{} has no column `{column}`: its first row looks like data, not like a header row", .path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// A column that a rule names is there twice.
    #[error("{} has two columns `{column}`", .path.display())]
    DuplicateColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// From here on, rows cannot be told apart.
    #[error("{}:{line}: {what}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Whoever takes the rows takes no more; it knows why.
    #[error("reading was stopped")]
    Stopped,
}

impl From<SinkStopped> for FileError {
    fn from(_: SinkStopped) -> Self {
        Self::Stopped
    }
}
