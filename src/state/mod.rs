//! The store: what Braze has accepted, what is in doubt, what happened. Open files, in a folder or a bucket.
//!
//! ```text
//! format.json, format.copy.json            version, id, seed of the keys
//! lease.json                               who holds the state
//! cohorts/<id>/versions/000000000012.json  put-if-absent: a commit is atomic, a second writer loses cleanly
//! cohorts/<id>/parts/<uuid>.parquet         members sorted by key; the version says which of them Braze has accepted
//! segments/<connection>/…                  what a Heap has told of its segments: versions and parts as those of cohorts
//! checks/<segment>/versions/…              what the last checks of a Braze segment found
//! workspaces/<connection>/versions/…       fingerprints of the keys that the records were sent with
//! exports/<id>/…                           how far an export is: versions, and events that wait
//! identity/…                               who is who, as events have told: versions and parts
//! actions/<cohort>/…                      what is to be triggered for people, and for whom it lately was
//! unknown/<cohort>/…                      members whom Braze did not know when they were sent
//! pushdown/<cohort>/…                     what is in the table beside a cohort's source
//! inbox/<door>/<file>.log                  what was received and not yet used
//! heads/000000000001.json, heads/copies/…  the newest version of every place, to notice a state that is older
//! approvals/<cohort>/<digest>.json         what a person has allowed although the guard refused it
//! journal/<yyyy>/<mm>/<dd>/<run>.ndjson   runs, attempts, outcomes; merged files hold many
//! rejects/<run>/<cohort>.ndjson           rows and identifiers that could not be used, and why;
//!                                          `inbox.<door>.ndjson`: deliveries, whole
//! ```
//!
//! In a bucket, where nothing can be appended to, journal and rejects are in parts: `<run>.ndjson`,
//! `<run>.2.ndjson`.
//!
//! # In doubt
//! Braze cannot be read back, so a lost answer must not become a lost fact. What an apply will send is
//! written as parts, and a version names them with no row acknowledged, before the first request. Each
//! checkpoint is a further version that acknowledges more rows. Whatever a version does not acknowledge
//! is in doubt, also after a crash, and needs no repair: it is how the version reads.
//!
//! # Size
//! A run writes parts of what changed. When they have grown to a share of the largest, all are merged into one
//! (`compact`); what is replaced goes an hour later, or sooner where there is much of it (`gc`). A version may also say by what files its cohort
//! was made, so that they need not be read again while they are the same.
//!
//! # Guarantees
//! Every file has a checksum that is checked before its bytes are used. Nothing is ever overwritten but `lease.json`. A file appears whole or not at all, and is on disk
//! before anything refers to it. A newer format than this program knows is refused.
//!
//! # Caveats
//! Reading and writing are different types: a [`StateReader`] cannot change anything, and only the one
//! process that holds the lease has a [`StateWriter`]. Nothing here knows the config or the network.

mod accept;
mod approvals;
mod checked;
mod checks;
mod compact;
mod erase;
mod erase_members;
mod exports;
mod format;
mod gc;
mod heads;
mod heap_segments;
mod identity;
mod immutable_file;
mod inbox;
mod journal;
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
mod part;
mod rejects;
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

pub use accept::OlderPlace;
pub use approvals::{Approval, Approvals};
pub use checks::{
    CheckFinding, CheckLevel, CheckTime, CheckVerdict, Expectation, SeenSegment, SeenSize, SeenUse,
    SegmentCheck,
};
pub use erase_members::{ErasedFile, Recorded};
pub use exports::{
    DayProgress, ExportProgress, HeldEvent, HeldEventRows, HeldEvents, HeldEventsFile, HeldEventsWriter,
    PartialFile,
};
pub use gc::Garbage;
pub use heap_segments::{
    Change, HeapSegments, Merged, SegmentCursor, SegmentSync, SegmentTable, SyncGap, sync_hash, told,
};
pub use identity::{
    Finished, IdentityKey, IdentityKeyKind, IdentityMap, IdentityOwners, IdentityStats, KnownHandles,
    OwnerAnswers, OwnerEvidence, OwnerQuery, ReplayTable, SourceBookmark, SourceName, SourceStats,
    SourceTable,
};
pub use immutable_file::ImmutableFile;
pub use inbox::{ClosedFile, Contents, Delivery, Inbox, InboxError, InboxQuota};
pub use journal::{Journal, JournalEntry, JournalEvent, RunRecord};
pub use late::{Late, LateName};
pub use lease::Holder;
pub use logs::LogRetention;
pub use membership::{Membership, PartRef, RecordedWorkspace, SourceMark};
pub use membership_cursor::MembershipCursor;
pub use memory::{Growth, Memory, Permit, SpoolFile};
pub use mirror_notes::MirrorNote;
pub use outbox::{DueTrigger, Outbox, OutboxUser, RecentTriggers, Transition};
pub use part::{Footer, PartWriter};
pub use rejects::{IsPicked, Reject, RejectFile, RejectLine, RejectLog, rejects_of};
pub use spool::{Spool, SpoolBatch, SpoolBatches};
pub use store::{Address, Failure, Location, StoreError, fail_at};
pub use unknown_users::{UnknownUser, UnknownUsers};
pub use verify::{Verification, VerifyFinding};
pub use workspaces::{AdoptedKeys, KeyFingerprints};

use format::StateFormat;
use heads::Heads;
use store::Store;

use crate::model::{ChangeOp, Clock, CohortId, KeySeed, RunId, Timestamp};

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// A version was committed that is not there any more.
    #[error("{} is older than what was committed: version {known} was committed, and the newest one there is {found}", .path.display())]
    Older {
        /// The folder, or the file that is gone.
        path: PathBuf,
        /// Its name for `state accept`.
        place: String,
        /// The newest version that is there; 0: none.
        found: u64,
        /// The newest version that was committed.
        known: u64,
    },
    /// Another process holds the state.
    #[error("the state is held by {0}")]
    Held(Holder),
    /// We held the state and could not say so in time: somebody else may have it.
    #[error("this process lost its hold on the state: it was not heard of for too long")]
    Lost,
    /// The bucket does not do what keeps two writers apart.
    #[error("{} lacks conditional puts, which keep two writers apart: {what}", .path.display())]
    NoConditionalPut {
        /// The bucket.
        path: PathBuf,
        /// How that shows.
        what: String,
    },
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

impl StateError {
    /// Whether it is about one file: what does not need that file can go on.
    #[must_use]
    pub fn is_of_one_file(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Older { .. })
    }

    /// Whether nothing is wrong but that a store far away does not answer, or not now.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Store(error) => error.is_remote() && error.kind() == std::io::ErrorKind::Other,
            _ => false,
        }
    }
}

/// The store, to look at. There may be none yet: then it is empty.
#[derive(Clone, Debug)]
pub struct StateReader {
    store: Store,
    format: Option<StateFormat>,
    heads: Arc<Heads>,
}

impl StateReader {
    /// Opens the state in `path`, if there is one. Changes nothing.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read, is damaged, or is newer than this program.
    pub fn open(location: &Location) -> Result<Self, StateError> {
        let store = Store::open(location)?;
        let format = StateFormat::existing(&store)?;
        if format.is_none() {
            no_orphans(&store)?;
        }
        let heads = Arc::new(Heads::read(&store)?);
        Ok(Self { store, format, heads })
    }

    /// Whether there is a state, without reading more of it.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be read, is damaged, or is newer than this program.
    pub fn is_there(location: &Location) -> Result<bool, StateError> {
        Ok(StateFormat::read(&Store::open(location)?)?.is_some())
    }

    /// The seed of the state's keys. A state that is not there yet has none, and any will do.
    #[must_use]
    pub fn seed(&self) -> KeySeed {
        self.format.as_ref().map_or(KeySeed(0), |format| format.seed)
    }

    /// A secret key for one purpose, which only readers of this state can derive. None: there is no state yet.
    #[must_use]
    pub fn signing_key(&self, purpose: &str) -> Option<[u8; 32]> {
        let format = self.format.as_ref()?;
        let text = format!("syncline {purpose}\n{}\n{:016x}\n", format.id, format.seed.0);
        Some(Sha256::digest(text).into())
    }

    /// Whether there is a state at all.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.format.is_some()
    }

    /// Who is writing to it now, if anybody is.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn holder(&self, now: Timestamp) -> Result<Option<Holder>, StateError> {
        lease::look(&self.store, now)
    }

    /// The cohorts that the state knows, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn cohorts(&self) -> Result<Vec<CohortId>, StateError> {
        let names = self.store.list("cohorts")?;
        Ok(names.iter().filter_map(|name| CohortId::new(name).ok()).collect())
    }

    /// The newest version of a cohort, if it has one.
    ///
    /// # Errors
    /// When it cannot be read or is damaged, or had versions that are gone.
    pub fn version(&self, cohort: &CohortId) -> Result<Option<Membership>, StateError> {
        let newest = membership::newest(&self.store, cohort)?;
        let number = newest.as_ref().map_or(0, |newest| newest.number);
        self.heads.check(&self.store, &format!("cohorts/{cohort}"), number)?;
        Ok(newest)
    }

    /// What the record says of each member, in the order of the keys. Without a version: nothing.
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

    /// Members of a cohort that requests which Braze may have handled late were to add or to remove, in the order of the
    /// keys, as far as no such request can be on its way any more. None: there are none.
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
        let parts: Vec<PartRef> = due.map(Late::in_doubt).collect();
        if parts.is_empty() {
            return Ok(None);
        }
        MembershipCursor::of_parts(&self.store, cohort, &parts, self.seed()).map(Some)
    }

    /// Every version of a cohort that is still there, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn versions(&self, cohort: &CohortId) -> Result<Vec<u64>, StateError> {
        let names = self.store.list(&membership::folder_of(cohort))?;
        Ok(names.iter().filter_map(|name| membership::number_of(name)).collect())
    }

    /// What nobody needs any more, in the order in which it may go. A cohort that is damaged keeps everything.
    ///
    /// # Errors
    /// When the state cannot be read, or a version is damaged.
    pub fn garbage(&self, now: Timestamp) -> Result<Vec<Garbage>, StateError> {
        let mut garbage = gc::elsewhere(&self.store, now)?;
        // What is older than it was may be restored: it keeps everything.
        for cohort in self.cohorts()? {
            if !matches!(self.version(&cohort), Err(StateError::Older { .. })) {
                garbage.extend(gc::of_cohort(&self.store, &cohort, now)?);
            }
        }
        for heap in self.heaps()? {
            if matches!(self.segments(&heap), Err(StateError::Older { .. })) {
                continue;
            }
            garbage.extend(gc::of_segments(self, &heap, now)?);
        }
        for export in self.exports()? {
            garbage.extend(gc::of_export(self, &export, now)?);
        }
        garbage.extend(gc::of_identity(self, now)?);
        Ok(garbage)
    }

    /// Looks at every file, whether it is what was written.
    ///
    /// # Errors
    /// When the folders cannot be read; damage is a finding.
    pub fn verify(&self) -> Result<Verification, StateError> {
        verify::verify(self)
    }

    /// The newest runs, newest first.
    ///
    /// # Errors
    /// When the journal cannot be read or is damaged.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StateError> {
        journal::runs(&self.store, limit)
    }
}

/// Fails if there are cohorts and no `format.json`: the seed of their keys is lost, and with another seed no member
/// would be found again.
fn no_orphans(store: &Store) -> Result<(), StateError> {
    if store.list("cohorts")?.is_empty() {
        return Ok(());
    }
    Err(checked::gone(store, "format.json"))
}

/// The store, to change. Whoever has one holds the lease; it ends with the process.
#[derive(Debug)]
pub struct StateWriter {
    reader: StateReader,
    lease: lease::Lease,
    /// The version at which each place was last collected.
    collected: Mutex<BTreeMap<String, u64>>,
    /// When journal and rejects were last merged and pruned.
    logs: Mutex<logs::Tidied>,
}

impl Drop for StateWriter {
    fn drop(&mut self) {
        self.note_heads();
    }
}

/// Why a request has no answer that was given up by [`StateWriter::within_lease`].
pub const LEASE_ENDED: &str = "the lease on the state ended";

impl StateWriter {
    /// Takes the state, and makes it if there is none.
    ///
    /// # Errors
    /// [`StateError::Held`] when another process has it; [`StateError::NoConditionalPut`] when the bucket cannot
    /// keep writers apart; otherwise as [`StateReader::open`].
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
        };
        match &store {
            Store::Folder(folder) => drop(folder.create_dirs("")?),
            Store::Bucket(bucket) => bucket.check_conditions(random_seed)?,
        }
        let lease = lease::Lease::take(&store, holder, lasts, clock)?;
        let format = match StateFormat::existing(&store)? {
            Some(format) => format,
            None => {
                no_orphans(&store)?;
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
        })
    }

    /// Fails once somebody else may be writing: then nothing more may be sent.
    ///
    /// # Errors
    /// [`StateError::Lost`].
    pub fn check_lease(&self) -> Result<(), StateError> {
        self.lease.check()
    }

    /// How long it is certain that no other process writes: a request must not wait for its answer any longer. None:
    /// as long as this process lives.
    #[must_use]
    pub fn lease_left(&self) -> Option<Duration> {
        self.lease.left()
    }

    /// Waits for something as long as the lease is good. After that another process may write, so a request must be
    /// given up. None: the lease ended first.
    pub async fn within_lease<T>(&self, asked: impl Future<Output = T>) -> Option<T> {
        match self.lease_left() {
            None => Some(asked.await),
            Some(left) => tokio::time::timeout(left, asked).await.ok(),
        }
    }

    /// The reading half.
    #[must_use]
    pub fn reader(&self) -> &StateReader {
        &self.reader
    }

    /// Starts a part of a cohort. It is on disk, and nothing refers to it, once it is finished.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn part(&self, cohort: &CohortId, op: crate::model::ChangeOp) -> Result<PartWriter, StateError> {
        PartWriter::create(&self.reader.store, cohort, op, self.reader.seed())
    }

    /// Makes `version` the newest of its cohort. Whoever commits a number first has it.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the version exists already, [`StateError::Lost`] when somebody else may be
    /// writing.
    pub fn commit(&self, cohort: &CohortId, version: &Membership) -> Result<(), StateError> {
        self.lease.check()?;
        membership::commit(&self.reader.store, cohort, version)?;
        self.committed(&format!("cohorts/{cohort}"), version.number);
        Ok(())
    }

    /// A version of a place was committed.
    fn committed(&self, place: &str, number: u64) {
        if self.reader.heads.committed(place, number) {
            self.note_heads();
        }
    }

    /// Writes down how far the state has come. If that fails, it is tried again at the next commit.
    pub fn note_heads(&self) {
        if self.lease.check().is_err() {
            return;
        }
        match self.reader.heads.write(&self.reader.store) {
            Ok(Some(number)) => self.lease.note_heads(number),
            Ok(None) => {}
            Err(error) => tracing::warn!("how far the state has come could not be written: {error}"),
        }
    }

    /// Starts the journal of a run.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn journal(&self, run: &RunId, began: Timestamp) -> Result<Journal, StateError> {
        Journal::create(&self.reader.store, &self.reader.heads, run, began)
    }

    /// Starts the list of what a run could not use of a cohort, or of what came through a door.
    #[must_use]
    pub fn rejects(&self, run: &RunId, of: &str) -> RejectLog {
        RejectLog::new(&self.reader.store, run, of)
    }
}
