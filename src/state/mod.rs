//! The state store: recorded memberships, changes in doubt, progress, and logs, as files in a folder or a bucket.
//!
//! ```text
//! format.json, format.copy.json            format number, id, seed of the keys
//! lease.json                               the process that holds the state
//! cohorts/<id>/versions/000000000012.json  put-if-absent: a commit is atomic, a second writer fails
//! cohorts/<id>/parts/<uuid>.parquet        members sorted by key; the version records which of them Braze accepted
//! segments/<connection>/…                  segment tables of a Heap connection: versions and parts, as for cohorts
//! checks/<segment>/versions/…              results of the last checks of a Braze segment
//! workspaces/<connection>/versions/…       fingerprints of the API keys that memberships were sent with
//! exports/<id>/…                           progress of an export: versions, and held events
//! identity/…                               the identity map: versions and parts
//! triggers/<cohort>/…                      the outbox: pending and recent triggers
//! unknown_users/<cohort>/…                 members who had no Braze profile when they were sent
//! mirror_tables/<cohort>/…                 contents of the mirror table beside a cohort's SQL source
//! inbox/<endpoint>/<file>.log              deliveries that were received and not yet processed
//! heads/000000000001.json, heads/copies/…  newest version of every entry, to detect an older state
//! approvals/<cohort>/<digest>.json         plans that an operator allowed although the guard blocked them
//! outcomes/000000000001.json               last outcome, last good run and block of each cohort and export
//! journal/<yyyy>/<mm>/<dd>/<run>.ndjson    runs, attempts, outcomes; merged files hold many runs
//! rejects/<run>/<cohort>.ndjson            rejected rows and identifiers with reasons;
//!                                          `inbox.<endpoint>.ndjson`: whole deliveries
//! ```
//!
//! An *entry* is one of these with versions, such as `cohorts/vip`. A bucket has no append, so journal and rejects are
//! split there: `<run>.ndjson`, `<run>.2.ndjson`.
//!
//! # In doubt
//! Braze has no API to read cohort members, so a lost answer must not lose the fact that a request was sent. Before the
//! first request, an apply writes what it will send as parts, and commits a version that names them with no row
//! acknowledged. Each checkpoint is a further version that acknowledges more rows. Rows that are not acknowledged are
//! in doubt. This needs no repair after a crash.
//!
//! # Size
//! A run writes parts that contain only its changes; `compact` merges them. `gc` removes superseded files after an hour,
//! or sooner if there are many. A version may record its source's fingerprint, so that an unchanged source is not read
//! again.
//!
//! # Guarantees
//! Every file has a checksum, which is verified before its content is used. Only `lease.json` is ever overwritten. A
//! file appears complete or not at all, and is on disk before another file refers to it. A state of a newer format is
//! an error.
//!
//! # Caveats
//! Reading and writing are different types: a [`StateReader`] cannot change anything, and only the process that holds
//! the lease has a [`StateWriter`]. This module does not know the config, Braze or Heap.

mod accept;
mod approvals;
mod as_text;
mod checked;
mod checks;
mod compact;
mod entry;
mod entry_files;
mod erase;
mod erase_members;
mod exports;
mod find_members;
mod format;
mod format_number;
mod gc;
mod heads;
mod heap_segments;
mod identity;
mod immutable_file;
mod inbox;
mod journal;
mod journal_writer;
mod late;
mod lease;
mod log_lines;
mod logs;
#[cfg(test)]
mod lost_puts;
mod membership;
mod membership_cursor;
mod memory;
mod mirror_notes;
mod outbox;
mod outcomes;
mod part;
mod rejects;
mod run_origin;
mod run_summary;
mod spool;
mod store;
mod unknown_users;
mod verify;
mod versioned_json;
mod workspaces;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use accept::OlderEntry;
pub use approvals::{Approval, Approvals};
pub use checks::{
    CheckFinding, CheckLevel, CheckTime, CheckVerdict, ExpectedUsers, ObservedUse, SeenSegment, SeenSize,
    SegmentCheck,
};
pub use erase_members::ErasedFile;
pub use exports::{
    DayProgress, ExportProgress, HeldEvent, HeldEventRows, HeldEventsFile, HeldEventsWriter, HoldReason,
    PartialFile,
};
pub use find_members::{FoundMember, RecordedUser};
pub use gc::Garbage;
pub use heap_segments::{
    HeapSegments, MergedSync, SegmentChange, SegmentCursor, SegmentSync, SegmentTable, SyncGap,
    acknowledge_all, sync_hash,
};
pub use identity::{
    FinishedTable, IdentityKey, IdentityKeyKind, IdentityMap, IdentityOwners, IdentityStats, KnownHandles,
    OwnerAnswers, OwnerEvidence, OwnerQuery, ReplayTable, SourceBookmark, SourceName, SourceStats,
    SourceTable,
};
pub use immutable_file::ImmutableFile;
pub use inbox::{ClosedFile, Delivery, DeliveryContents, Inbox, InboxError, InboxQuota};
pub use journal::{JournalEntry, JournalEvent, RunRecord};
pub use journal_writer::Journal;
pub use lease::Holder;
pub use logs::LogRetention;
pub use membership::{LateName, LateRequest, Membership, RecordedWorkspace, SourceMark};
pub use membership_cursor::MembershipCursor;
pub use memory::{MemoryBudget, MemoryGrowth, MemoryPermit, SpoolFile};
pub use mirror_notes::MirrorNote;
pub use outbox::{DueTrigger, Outbox, OutboxUser, RecentTriggers, Transition};
pub use outcomes::{
    BlockStart, FailedRun, GoodRun, LastOutcome, LastOutcomes, OutcomeResult, OutcomeRun, RecordedBlock,
    RunFailure, RunOutcome,
};
pub use part::{PartFooter, PartRef, PartWriter};
pub use rejects::{Reject, RejectFile, RejectLine, RejectLineFilter, RejectLog, has_word, rejects_of};
pub use run_origin::{Operator, RunOrigin, recorded_text};
pub use run_summary::{CohortRunSummary, ExportRunSummary, RunSummary, UsedApproval};
pub use spool::{Spool, SpoolBatch, SpoolBatches};
pub use store::{Address, Location, StepFailure, StoreError, fail_at};
#[cfg(test)]
pub(crate) use store::{MemoryStore, StoreFaults};
pub use unknown_users::{UnknownUser, UnknownUsers};
pub use verify::{Verification, VerifyFinding};
pub use workspaces::{AdoptedKeys, KeyFingerprints};

use entry_files::EntryFiles;
use format::StateFormat;
use heads::Heads;
use store::Store;

use crate::model::{ChangeOp, Clock, CohortId, KeySeed, RunId, Timestamp};

/// An error of the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content of a file is not what was written.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The state was written by a newer program.
    #[error("{} has format {found}; this program supports format {supported}", .path.display())]
    Newer {
        /// The file with the format number.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program supports.
        supported: u64,
    },
    /// A committed version does not exist any more.
    #[error("{} is older than the last commit: version {committed} was committed, the newest that exists is {found}", .path.display())]
    Older {
        /// The folder, or the missing file.
        path: PathBuf,
        /// The entry's name for `state accept`.
        entry: String,
        /// The newest version that exists. 0: none.
        found: u64,
        /// The newest version that was committed.
        committed: u64,
    },
    /// Another process holds the state.
    #[error("the state is held by {0}")]
    Held(Holder),
    /// The lease was not renewed in time, and another process may have taken it.
    #[error("this process lost the lease on the state: it was not renewed in time")]
    LeaseLost,
    /// The bucket does not support conditional puts.
    #[error("{} lacks conditional puts, which keep two writers apart: {problem}", .path.display())]
    NoConditionalPut {
        /// The bucket.
        path: PathBuf,
        /// How the probe failed.
        problem: String,
    },
    /// Another process has committed this version first.
    #[error("version {version} of cohort {cohort} was written by another process")]
    Conflict {
        /// The cohort.
        cohort: CohortId,
        /// The version that exists already.
        version: u64,
    },
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    TemporaryFile(#[from] std::io::Error),
}

impl StateError {
    /// Whether it concerns one file only: work that does not need the file can continue.
    #[must_use]
    pub fn is_of_one_file(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Older { .. })
    }

    /// Whether the error is transient: a remote store did not answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_remote() && error.kind() == std::io::ErrorKind::Other,
            _ => false,
        }
    }
}

/// Read access to the state. A state that does not exist yet is empty.
#[derive(Clone, Debug)]
pub struct StateReader {
    store: Store,
    format: Option<StateFormat>,
    heads: Arc<Heads>,
}

impl StateReader {
    /// Opens the state at `location` if it exists. Changes nothing.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read, is damaged, or is newer than this program.
    pub fn open(location: &Location) -> Result<Self, StateError> {
        let store = Store::open(location)?;
        let format = StateFormat::existing(&store)?;
        if format.is_none() {
            check_format_exists(&store)?;
        }
        let heads = Arc::new(Heads::read(&store)?);
        Ok(Self { store, format, heads })
    }

    /// Whether the state exists, without reading more of it.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read, is damaged, or is newer than this program.
    pub fn exists_at(location: &Location) -> Result<bool, StateError> {
        Ok(StateFormat::read(&Store::open(location)?)?.is_some())
    }

    /// The seed of the state's keys. Any seed will do for a state that does not exist yet.
    #[must_use]
    pub fn seed(&self) -> KeySeed {
        self.format.as_ref().map_or(KeySeed(0), |format| format.seed)
    }

    /// Derives a secret key for one purpose. Only readers of this state can derive it. `None`: the state does not exist.
    #[must_use]
    pub fn signing_key(&self, purpose: &str) -> Option<[u8; 32]> {
        let format = self.format.as_ref()?;
        let text = format!("syncline {purpose}\n{}\n{:016x}\n", format.id, format.seed.0);
        Some(Sha256::digest(text).into())
    }

    /// Whether the state exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.format.is_some()
    }

    /// Returns the process that holds the state, if there is one.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn holder(&self, now: Timestamp) -> Result<Option<Holder>, StateError> {
        lease::current_holder(&self.store, now)
    }

    /// Returns the cohorts in the state, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn cohorts(&self) -> Result<Vec<CohortId>, StateError> {
        self.ids("cohorts", |name| CohortId::new(name).ok())
    }

    /// Returns the ids of the entries in a folder, sorted.
    fn ids<T>(&self, folder: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>, StateError> {
        Ok(self.store.list(folder)?.iter().filter_map(|name| parse(name)).collect())
    }

    /// Opens a cursor over the recorded members, in key order. It is empty without a version.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn members(
        &self,
        cohort: &CohortId,
        version: Option<&Membership>,
    ) -> Result<MembershipCursor, StateError> {
        MembershipCursor::open(&self.store, cohort, version, self.seed())
    }

    /// Opens a cursor over the members of late requests of one operation, in key order. Only requests that can no longer
    /// arrive are included. `None`: there are none.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn late(
        &self,
        cohort: &CohortId,
        version: &Membership,
        op: ChangeOp,
        now: Timestamp,
    ) -> Result<Option<MembershipCursor>, StateError> {
        let due = version.late.iter().filter(|late| late.part.op == op && late.until <= now);
        let parts: Vec<PartRef> = due.map(LateRequest::in_doubt).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        MembershipCursor::of_parts(&self.store, cohort, &parts, self.seed()).map(Some)
    }

    /// Finds removable files, in the order of removal. A damaged cohort keeps everything.
    ///
    /// # Errors
    /// When the state cannot be read, or a version is damaged.
    pub fn garbage(&self, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
        let mut garbage = gc::elsewhere(&self.store, now)?;
        // A state that is older than the last commit may be restored, so it keeps everything.
        for cohort in self.cohorts()? {
            if !matches!(self.version(&cohort), Err(StateError::Older { .. })) {
                garbage.extend(gc::of(&EntryFiles::of_cohort(self, &cohort), now)?);
            }
        }
        for heap in self.heaps()? {
            if matches!(self.segments(&heap), Err(StateError::Older { .. })) {
                continue;
            }
            garbage.extend(gc::of(&EntryFiles::of_segments(self, &heap), now)?);
        }
        for export in self.exports()? {
            garbage.extend(gc::of(&EntryFiles::of_export(self, &export), now)?);
        }
        garbage.extend(gc::of(&EntryFiles::of_identity(self), now)?);
        Ok(garbage)
    }

    /// Verifies every file of the state.
    ///
    /// # Errors
    /// When the folders cannot be read. Damaged files are findings, not errors.
    pub fn verify(&self) -> Result<Verification, StateError> {
        verify::verify(self)
    }

    /// Returns the newest runs, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StateError> {
        journal::runs(&self.store, limit, &|_| true)
    }

    /// Returns the newest runs that `accepts` accepts, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn runs_with(
        &self,
        limit: usize,
        accepts: &dyn Fn(&RunRecord) -> bool,
    ) -> Result<Vec<RunRecord>, StateError> {
        journal::runs(&self.store, limit, accepts)
    }
}

/// Fails if there are cohorts without `format.json`: the seed of their keys is lost, and another seed would not find
/// any member again.
fn check_format_exists(store: &Store) -> Result<(), StateError> {
    if store.list("cohorts")?.is_empty() {
        return Ok(());
    }
    Err(checked::gone(store, "format.json"))
}

/// Write access to the state. It holds the lease until it is dropped.
#[derive(Debug)]
pub struct StateWriter {
    reader: StateReader,
    lease: lease::Lease,
    /// The version at which each folder was last collected.
    collected: Mutex<BTreeMap<String, u64>>,
    /// When journal and rejects were last merged and pruned.
    logs: Mutex<logs::TidyTimes>,
    /// The last outcomes of cohorts and exports.
    outcomes: Mutex<outcomes::OutcomeBook>,
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.flush_outcomes();
        self.note_heads();
    }
}

/// Why a request was cancelled by [`StateWriter::within_lease`].
pub const LEASE_ENDED: &str = "the lease on the state ended";

impl StateWriter {
    /// Takes the lease, and creates the state if it does not exist.
    ///
    /// # Errors
    /// [`StateError::Held`] when another process holds it; [`StateError::NoConditionalPut`] when the bucket does not
    /// support conditional puts; otherwise as [`StateReader::open`].
    pub fn open(
        location: &Location,
        holder: &Holder,
        clock: Clock,
        random_seed: u64,
    ) -> Result<Self, StateError> {
        let store = Store::open(location)?;
        let lasts = match location {
            Location::Folder(_) => Duration::ZERO,
            Location::Bucket(address) => address.lease,
            #[cfg(test)]
            Location::Memory(_) => Duration::ZERO,
            #[cfg(test)]
            Location::SimulatedBucket(_, lease) => *lease,
        };
        match &store {
            Store::Folder(folder) => drop(folder.create_dirs("")?),
            Store::Bucket(bucket) => bucket.check_conditions(random_seed)?,
            #[cfg(test)]
            Store::Memory(_) => {}
        }
        let lease = lease::Lease::take(&store, holder, lasts, clock)?;
        let format = match StateFormat::existing(&store)? {
            Some(format) => format,
            None => {
                check_format_exists(&store)?;
                StateFormat::create(&store, KeySeed(random_seed), holder.since)?
            }
        };
        StateFormat::keep_copy(&store)?;
        let heads = Arc::new(Heads::read(&store)?);
        let collected = Mutex::default();
        Ok(Self {
            reader: StateReader { store, format: Some(format), heads },
            lease,
            collected,
            logs: Mutex::default(),
            outcomes: Mutex::default(),
        })
    }

    /// Fails once another process may be writing. Then nothing more may be sent.
    ///
    /// # Errors
    /// [`StateError::LeaseLost`].
    pub fn check_lease(&self) -> Result<(), StateError> {
        self.lease.check()
    }

    /// How long it is certain that no other process writes. A request must not wait longer for its answer. `None`: as
    /// long as this process lives.
    #[must_use]
    pub fn lease_left(&self) -> Option<Duration> {
        self.lease.remaining()
    }

    /// Awaits a future while the lease is valid. Afterwards another process may write, so the request must be cancelled.
    /// `None`: the lease ended first.
    pub async fn within_lease<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        match self.lease_left() {
            None => Some(asked.await),
            Some(left) => tokio::time::timeout(left, asked).await.ok(),
        }
    }

    /// Read access to the same state.
    #[must_use]
    pub fn reader(&self) -> &StateReader {
        &self.reader
    }

    /// Creates a part of a cohort. When finished, it is on disk and no version names it yet.
    ///
    /// # Errors
    /// When the write fails.
    pub fn part(&self, cohort: &CohortId, op: crate::model::ChangeOp) -> Result<PartWriter, StateError> {
        PartWriter::create(&self.reader.store, cohort, op, self.reader.seed())
    }

    /// Creates the journal of a run.
    ///
    /// # Errors
    /// When the write fails.
    pub fn journal(&self, run: &RunId, began: Timestamp) -> Result<Journal, StateError> {
        Journal::create(&self.reader.store, &self.reader.heads, run, began)
    }

    /// Creates the rejects of a run, for a cohort, an export or an endpoint.
    #[must_use]
    pub fn rejects(&self, run: &RunId, of: &str) -> RejectLog {
        RejectLog::new(&self.reader.store, run, of)
    }
}
