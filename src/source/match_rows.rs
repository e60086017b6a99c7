//! Matches rows and sends batches of packed identifiers to the thread that partitions them.
//!
//! Nothing is allocated per row, and batch buffers are reused. Nothing is sorted here.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, Builder, Scope, ScopedJoinHandle};

use super::caseless::is_caseless;
use super::matching::Matcher;
use super::owners::{OwnerQueries, OwnerResult, RekeyedRows};
use super::{DesiredError, RowRejects, SortedSet};
use crate::config::CohortConfig;
use crate::connector::rows::{ReadSummary, RowLocation, RowSink, SinkStopped, UnreadableRow};
use crate::contained::contained_as_here;
use crate::model::{
    CohortId, Fields, Identifier, IdentifierKind, MatchTally, PACKED_LEN_MAX, Progress, Stage,
};
use crate::state::{MemoryBudget, MemoryPermit, StateReader};

/// Rows between two progress reports.
const PROGRESS_EVERY: u64 = 16 << 10;
/// Bytes of a batch. The few batches in flight fit into a processor's cache.
const BATCH_LEN: usize = 512 << 10;
/// Batches that may wait for the partitioner.
const WAITING_MAX: usize = 2;
/// Memory for members with identifiers that are not caseless; the rest spills to a temporary file.
const CASED_MEMORY: usize = 16 << 20;

/// Whether a member's identifier can change to its owner's id: rules other than `external_id` match devices or aliases.
#[must_use]
pub fn may_rekey(cohort: &CohortConfig) -> bool {
    cohort.rules.iter().any(|rule| rule.kind != IdentifierKind::ExternalId)
}

/// Result of matching all rows of a source, besides the members.
#[derive(Debug)]
pub struct MatchedRows {
    /// Hold this memory permit for as long as the members are in use.
    pub permit: Option<MemoryPermit<'static>>,
    /// Rows without a usable identifier.
    pub rejects: RowRejects,
    /// Devices and aliases that were replaced by their owners' external ids; none without an identity map.
    pub rekeyed: Option<SortedSet>,
    /// Number of rows with such a device or alias.
    rekeyed_rows: u64,
    /// Number of these rows with several owners of the device or alias.
    ambiguous_rows: u64,
}

impl MatchedRows {
    /// The counts of the whole source.
    #[must_use]
    pub fn tally(&self, summary: &ReadSummary, duplicates: u64) -> MatchTally {
        let (rekeyed, ambiguous) = (self.rekeyed_rows, self.ambiguous_rows);
        MatchTally { rekeyed, ambiguous, ..self.rejects.tally(summary, duplicates) }
    }
}

/// Members, possibly with duplicates.
pub(super) struct MemberSets {
    /// All members.
    pub(super) all: SortedSet,
    /// Members with an identifier that differs from its caseless form, sorted by that form.
    pub(super) cased: SortedSet,
}

/// Matches the rows that `read` pushes, and partitions the members on a second thread. Returns the result of `read`
/// as well.
///
/// # Errors
/// When a temporary file fails, or the identity map cannot be read. `read` was stopped then.
pub(super) fn match_source<T>(
    cohort: &CohortConfig,
    state: &StateReader,
    memory_max: usize,
    progress: &dyn Progress,
    read: impl FnOnce(&mut RowMatcher<'_>) -> T,
) -> Result<(MemberSets, MatchedRows, T), DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let seed = state.seed();
    let owners = if may_rekey(cohort) { state.owners()? } else { None };
    let lookup = owners.as_ref().map(|owners| OwnerQueries::new(owners, seed, memory_max));
    let all_memory = lookup.as_ref().map_or(memory_max, |_| OwnerQueries::memory_left(memory_max));
    let all = SortedSet::new(seed, all_memory);
    let sets = MemberSets { all, cased: SortedSet::by_caseless_form(seed, CASED_MEMORY) };
    thread::scope(|scope| {
        let (mut rows, partitioner) = RowMatcher::start(scope, &cohort.id, &matcher, progress, lookup, sets)?;
        let result = read(&mut rows);
        let counts = rows.finish();
        // An error of the partitioner or of the rejects is the cause of a stopped read, so it comes first.
        let members = partitioner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((members, counts?, result))
    })
}

/// Sink that matches rows. It stops the read when a temporary file fails; [`match_source`] returns the error.
pub(super) struct RowMatcher<'a> {
    cohort: &'a CohortId,
    pub(super) matcher: &'a Matcher,
    /// The delivery reaches every kind of identifier in the rules.
    reaches_all: bool,
    progress: &'a dyn Progress,
    rows: u64,
    batch: Vec<u8>,
    batches: SyncSender<Vec<u8>>,
    /// Emptied batches from the partitioner.
    spare: Receiver<Vec<u8>>,
    rejects: RowRejects,
    /// Finds the owners of devices and aliases.
    owners: Option<OwnerQueries<'a>>,
    /// The memory permit for the members. Acquired with the first batch: waiting for rows needs no memory.
    permit: Option<MemoryPermit<'static>>,
    failed: Option<DesiredError>,
}

impl<'a> RowMatcher<'a> {
    /// Starts the partitioner thread. It ends when the matcher is finished, and returns the sets.
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        cohort: &'a CohortId,
        matcher: &'a Matcher,
        progress: &'a dyn Progress,
        owners: Option<OwnerQueries<'a>>,
        sets: MemberSets,
    ) -> io::Result<(Self, ScopedJoinHandle<'scope, io::Result<MemberSets>>)> {
        let (batches, incoming) = mpsc::sync_channel(WAITING_MAX);
        let (emptied, spare) = mpsc::channel();
        let partitioner = Builder::new()
            .name("partition".to_owned())
            .spawn_scoped(scope, contained_as_here(move || partition(sets, &incoming, &emptied)))?;
        let rows = Self {
            cohort,
            matcher,
            reaches_all: matcher.reaches_all(),
            progress,
            rows: 0,
            batch: new_batch(),
            batches,
            spare,
            rejects: RowRejects::default(),
            owners,
            permit: None,
            failed: None,
        };
        Ok((rows, partitioner))
    }

    /// Whether devices and aliases may be re-keyed to their owners.
    pub(super) fn may_rekey(&self) -> bool {
        self.owners.is_some()
    }

    fn send_batch(&mut self) -> Result<(), SinkStopped> {
        self.permit.get_or_insert_with(|| MemoryBudget::of_process().permit());
        let next = self.spare.try_recv().unwrap_or_else(|_| new_batch());
        let full = std::mem::replace(&mut self.batch, next);
        self.batches.send(full).map_err(|_| SinkStopped)
    }

    #[inline]
    fn count(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(PROGRESS_EVERY) {
            self.progress.at(self.cohort, Stage::Reading, self.rows);
        }
    }

    /// Adds a member that is matched already.
    pub(super) fn add_member(&mut self, packed: &[u8]) -> Result<(), SinkStopped> {
        self.count();
        self.batch.extend_from_slice(packed);
        if self.batch.len() < BATCH_LEN { Ok(()) } else { self.send_batch() }
    }

    fn stop_on_error(&mut self, result: Result<(), impl Into<DesiredError>>) -> Result<(), SinkStopped> {
        result.map_err(|error| {
            self.failed = Some(error.into());
            SinkStopped
        })
    }

    /// Finds the owners of the deferred members.
    fn resolve_owners(&mut self) -> Result<(), SinkStopped> {
        let Some(mut owners) = self.owners.take() else { return Ok(()) };
        let resolved = owners.resolve(|member| {
            let added = match member {
                OwnerResult::Owner(packed) => {
                    self.batch.extend_from_slice(packed);
                    Ok(())
                }
                OwnerResult::NoOwner(packed, location) => {
                    let start = self.batch.len();
                    self.batch.extend_from_slice(packed);
                    self.reject_unreachable(start, location)
                }
            };
            added.is_ok() && (self.batch.len() < BATCH_LEN || self.send_batch().is_ok())
        });
        self.owners = Some(owners);
        match resolved {
            Ok(true) => Ok(()),
            Ok(false) => Err(SinkStopped),
            Err(error) => self.stop_on_error(Err(error)),
        }
    }

    /// Rejects the last member of the batch, which starts at `start`, if the delivery does not reach it.
    #[inline]
    fn reject_unreachable(&mut self, start: usize, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        if self.reaches_all {
            return Ok(());
        }
        // The identifier was packed here, so it can be unpacked.
        let identifier = self.batch.get(start..).and_then(|packed| Identifier::unpack(packed).ok());
        if let Some(unmatched) = identifier.and_then(|(identifier, _)| self.matcher.unreachable(&identifier))
        {
            let result = self.rejects.unmatched(&unmatched, location);
            self.batch.truncate(start);
            self.stop_on_error(result)?;
        }
        Ok(())
    }

    /// Sends the last batch and closes the channel, which ends the partitioner.
    fn finish(mut self) -> Result<MatchedRows, DesiredError> {
        if self.failed.is_none() {
            // A send fails only if the partitioner has failed, and that error is returned by the partitioner.
            let _ = self.resolve_owners().and_then(|()| self.send_batch());
        }
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        let (permit, rejects) = (self.permit, self.rejects);
        Ok(match self.owners.map(OwnerQueries::finish) {
            Some(RekeyedRows { set, rows: rekeyed_rows, ambiguous: ambiguous_rows }) => {
                MatchedRows { permit, rejects, rekeyed: Some(set), rekeyed_rows, ambiguous_rows }
            }
            None => MatchedRows { permit, rejects, rekeyed: None, rekeyed_rows: 0, ambiguous_rows: 0 },
        })
    }

    /// Adds rows that the database has already matched to the statistics of identifier shapes.
    pub(super) fn count_shapes(&mut self, decimal: u64, exponent: u64) {
        self.rejects.shapes.decimal += decimal;
        self.rejects.shapes.exponent += exponent;
    }
}

impl RowSink for RowMatcher<'_> {
    #[inline]
    fn row(&mut self, fields: &impl Fields, location: RowLocation<'_>) -> Result<(), SinkStopped> {
        self.count();
        let start = self.batch.len();
        if let Err(unmatched) = self.matcher.pack(fields, &mut self.batch) {
            let result = self.rejects.unmatched(&unmatched, location);
            return self.stop_on_error(result);
        }
        self.rejects.shapes.count(&self.batch[start..]);
        let mut is_full = false;
        if let Some(owners) = &mut self.owners {
            let deferred = owners.defer(&mut self.batch, start, location);
            is_full = owners.is_full();
            self.stop_on_error(deferred)?;
        }
        self.reject_unreachable(start, location)?;
        // This replaces the batch, so it comes last.
        if is_full {
            self.resolve_owners()?;
        }
        if self.batch.len() < BATCH_LEN { Ok(()) } else { self.send_batch() }
    }

    fn unreadable(&mut self, row: UnreadableRow<'_>) -> Result<(), SinkStopped> {
        self.count();
        let result = self.rejects.unreadable(row);
        self.stop_on_error(result)
    }
}

fn new_batch() -> Vec<u8> {
    Vec::with_capacity(BATCH_LEN + PACKED_LEN_MAX)
}

fn partition(
    mut sets: MemberSets,
    incoming: &Receiver<Vec<u8>>,
    emptied: &Sender<Vec<u8>>,
) -> io::Result<MemberSets> {
    for mut batch in incoming {
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let len = Identifier::packed_len(rest).map_err(io::Error::other)?;
            let (packed, others) = rest.split_at(len);
            sets.all.push(packed)?;
            if !is_caseless(packed) {
                sets.cased.push(packed)?;
            }
            rest = others;
        }
        batch.clear();
        // The receiver is gone once the source has been read.
        let _ = emptied.send(batch);
    }
    Ok(sets)
}
