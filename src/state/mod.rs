//! The store: what Braze has accepted, what is in doubt, what happened. A folder of open files.
//!
//! ```text
//! format.json                              version, id, seed of the keys
//! lease.json                               who holds the state
//! cohorts/<id>/versions/000000000012.json  put-if-absent: a commit is atomic, a second writer loses cleanly
//! cohorts/<id>/runs/<uuid>.parquet         members sorted by key; the version says which of them Braze has accepted
//! journal/<yyyy>/<mm>/<dd>/<pass>.ndjson   passes, attempts, outcomes
//! rejects/<pass>/<cohort>.ndjson           rows and identifiers that could not be used, and why
//! ```
//!
//! # In doubt
//! Braze cannot be read back, so a lost answer must not become a lost fact. What an apply will send is
//! written as runs, and a version names them with no row acknowledged, before the first request. Each
//! checkpoint is a further version that acknowledges more rows. Whatever a version does not acknowledge
//! is in doubt, also after a crash, and needs no repair: it is how the version reads.
//!
//! # Guarantees
//! Nothing is ever overwritten but `lease.json`. A file appears whole or not at all, and is on disk
//! before anything refers to it. A newer format than this program knows is refused.
//!
//! # Caveats
//! Reading and writing are different types: a [`StateReader`] cannot change anything, and only the one
//! process that holds the lease has a [`StateWriter`]. Nothing here knows the config or the network.

mod folder;
mod format;
mod journal;
mod lease;
mod record;
mod rejects;
mod run;
mod scratch;
mod version;

use std::path::{Path, PathBuf};

pub use folder::FolderError;
pub use journal::{Entry, Event, Journal, PassRecord};
pub use lease::Holder;
pub use record::RecordCursor;
pub use rejects::{Reject, RejectLog};
pub use run::RunWriter;
pub use scratch::{Batch, Batches, Spool};
pub use version::{RunRef, SourceMark, Version, Workspace};

use folder::Folder;
use format::Format;

use crate::model::{CohortId, KeySeed, PassId};

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk did not do what it was asked.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file of the state is not what was written.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The state was written by a newer program.
    #[error("{} has format {found}; this program knows format {known}", .path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// Another process holds the state.
    #[error("the state is held by {0}")]
    Held(Holder),
    /// Another writer has committed this version first.
    #[error("version {version} of cohort {cohort} was written by another process")]
    Conflict {
        /// The cohort.
        cohort: CohortId,
        /// The version that exists already.
        version: u64,
    },
    /// A scratch file failed.
    #[error("a temporary file failed: {0}")]
    Scratch(#[from] std::io::Error),
}

/// The store, to look at. There may be none yet: then it is empty.
#[derive(Clone, Debug)]
pub struct StateReader {
    folder: Folder,
    format: Option<Format>,
}

impl StateReader {
    /// Opens the state in `path`, if there is one. Changes nothing.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read, is damaged, or is newer than this program.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let folder = Folder::new(path);
        let format = Format::read(&folder)?;
        if format.is_none() {
            no_orphans(&folder)?;
        }
        Ok(Self { folder, format })
    }

    /// The seed of the state's keys. A state that is not there yet has none, and any will do.
    #[must_use]
    pub fn seed(&self) -> KeySeed {
        self.format.as_ref().map_or(KeySeed(0), |format| format.seed)
    }

    /// Whether there is a state at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.format.is_some()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The cohorts that the state knows, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn cohorts(&self) -> Result<Vec<CohortId>, StateError> {
        let names = self.folder.list("cohorts")?;
        Ok(names.iter().filter_map(|name| CohortId::new(name).ok()).collect())
    }

    /// The newest version of a cohort, if it has one.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn version(&self, cohort: &CohortId) -> Result<Option<Version>, StateError> {
        version::newest(&self.folder, cohort)
    }

    /// What the record says of each member, in the order of the keys. Without a version: nothing.
    ///
    /// # Errors
    /// When a run cannot be read or is damaged.
    pub fn members(&self, cohort: &CohortId, version: Option<&Version>) -> Result<RecordCursor, StateError> {
        RecordCursor::open(&self.folder, cohort, version, self.seed())
    }

    /// The newest passes, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn passes(&self, limit: usize) -> Result<Vec<PassRecord>, StateError> {
        journal::passes(&self.folder, limit)
    }
}

/// Cohorts without `format.json` have lost the seed of their keys: with another one nobody in them would be
/// found again.
fn no_orphans(folder: &Folder) -> Result<(), StateError> {
    if folder.list("cohorts")?.is_empty() {
        return Ok(());
    }
    let what = "it is gone, and without the key seed in it the cohorts beside it cannot be read; restore it";
    Err(StateError::Damaged { path: folder.at("format.json"), what: what.to_owned() })
}

/// The store, to change. Whoever has one holds the lease; it ends with the process.
#[derive(Debug)]
pub struct StateWriter {
    reader: StateReader,
    _lease: lease::Lease,
}

impl StateWriter {
    /// Takes the state in `path`, and makes it if there is none.
    ///
    /// # Errors
    /// [`StateError::Held`] when another process has it; otherwise as [`StateReader::open`].
    pub fn open(path: &Path, holder: &Holder, random_seed: u64) -> Result<Self, StateError> {
        let folder = Folder::new(path);
        folder.create_dirs("")?;
        let lease = lease::Lease::take(&folder, holder)?;
        let format = match Format::read(&folder)? {
            Some(format) => format,
            None => {
                no_orphans(&folder)?;
                Format::create(&folder, KeySeed(random_seed), holder.since)?
            }
        };
        Ok(Self { reader: StateReader { folder, format: Some(format) }, _lease: lease })
    }

    /// The reading half.
    #[must_use]
    pub fn reader(&self) -> &StateReader {
        &self.reader
    }

    /// Starts a run of a cohort. It is on disk, and nothing refers to it, once it is finished.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn run(&self, cohort: &CohortId, op: crate::model::Op) -> Result<RunWriter, StateError> {
        RunWriter::create(&self.reader.folder, cohort, op, self.reader.seed())
    }

    /// Makes `version` the newest of its cohort. Whoever commits a number first has it.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the version exists already.
    pub fn commit(&self, cohort: &CohortId, version: &Version) -> Result<(), StateError> {
        version::commit(&self.reader.folder, cohort, version)
    }

    /// Starts the journal of a pass.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn journal(&self, pass: &PassId, began: crate::model::Timestamp) -> Result<Journal, StateError> {
        Journal::create(&self.reader.folder, pass, began)
    }

    /// Starts the list of what a pass could not use of a cohort.
    #[must_use]
    pub fn rejects(&self, pass: &PassId, cohort: &CohortId) -> RejectLog {
        RejectLog::new(&self.reader.folder, pass, cohort)
    }
}
