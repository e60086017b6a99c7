//! Row after row → batches of packed identifiers, handed to the thread that partitions them. Nothing is
//! allocated for a row, and the buffers of batches go round. It sorts nothing and knows no key.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use super::case_variants::is_written_otherwise;
use super::owners::{RekeyMap, RekeyedRows, SettledRekeys};
use super::{DesiredError, RowRejects, SortedSet};
use crate::connector::file::{FileError, RowLocation, RowSink};
use crate::contained::contained_as_here;
use crate::matching::Matcher;
use crate::model::{CohortId, Fields, Identifier, PACKED_LEN_MAX, Progress, Stage};
use crate::state::{Memory, Permit};

/// Rows between two signs of life.
const PROGRESS_EVERY: u64 = 16 << 10;
/// Bytes of a batch. The few that are under way fit into a processor's cache.
const BATCH_LEN: usize = 512 << 10;
/// Batches that may wait to be partitioned.
const WAITING_MAX: usize = 2;

/// Takes rows. It stops the reading when a temporary file fails: [`Self::finish`] or the thread tells why.
pub(super) struct RowMatcher<'a> {
    cohort: &'a CohortId,
    matcher: &'a Matcher,
    /// The delivery reaches whoever is matched.
    reaches_all: bool,
    progress: &'a dyn Progress,
    rows: u64,
    batch: Vec<u8>,
    batches: SyncSender<Vec<u8>>,
    /// Batches that were partitioned, emptied.
    spare: Receiver<Vec<u8>>,
    rejects: RowRejects,
    /// Who finds out whose device or alias a member is.
    movers: Option<RekeyMap<'a>>,
    /// The memory for the members. Taken with the first batch: waiting for rows takes none.
    permit: Option<Permit<'static>>,
    failed: Option<DesiredError>,
}

/// What an intake has found besides members.
pub(super) struct MatchCounts {
    /// To be kept for as long as the members are in use.
    pub(super) permit: Option<Permit<'static>>,
    pub(super) rejects: RowRejects,
    /// Identifiers that were moved to their owners.
    pub(super) moved: Option<RekeyedRows>,
}

/// The members, each perhaps more than once.
pub(super) struct MemberSets {
    /// All of them.
    pub(super) all: SortedSet,
    /// Those with upper case, invisible characters or decomposed letters, by their identifiers without them.
    pub(super) upper: SortedSet,
}

impl<'a> RowMatcher<'a> {
    /// Starts the thread that fills `set`. It ends when the intake is finished, and gives the set back.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        cohort: &'a CohortId,
        matcher: &'a Matcher,
        progress: &'a dyn Progress,
        movers: Option<RekeyMap<'a>>,
        sets: MemberSets,
    ) -> io::Result<(Self, ScopedJoinHandle<'scope, io::Result<MemberSets>>)> {
        let (batches, incoming) = mpsc::sync_channel(WAITING_MAX);
        let (emptied, spare) = mpsc::channel();
        let partitioner = Builder::new()
            .name("partition".to_owned())
            .spawn_scoped(scope, contained_as_here(move || partition(sets, &incoming, &emptied)))?;
        let intake = Self {
            cohort,
            matcher,
            reaches_all: matcher.reaches_all(),
            progress,
            rows: 0,
            batch: new_batch(),
            batches,
            spare,
            rejects: RowRejects::default(),
            movers,
            permit: None,
            failed: None,
        };
        Ok((intake, partitioner))
    }

    fn hand_over(&mut self) -> Result<(), FileError> {
        self.permit.get_or_insert_with(|| Memory::of_process().permit());
        let next = self.spare.try_recv().unwrap_or_else(|_| new_batch());
        let full = std::mem::replace(&mut self.batch, next);
        self.batches.send(full).map_err(|_| FileError::Stopped)
    }

    #[inline]
    fn count(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(PROGRESS_EVERY) {
            self.progress.at(self.cohort, Stage::Reading, self.rows);
        }
    }

    /// Takes a member whom nothing need be asked about.
    pub(super) fn member(&mut self, packed: &[u8]) -> Result<(), FileError> {
        self.count();
        self.batch.extend_from_slice(packed);
        if self.batch.len() < BATCH_LEN { Ok(()) } else { self.hand_over() }
    }

    fn kept(&mut self, kept: Result<(), impl Into<DesiredError>>) -> Result<(), FileError> {
        kept.map_err(|error| {
            self.failed = Some(error.into());
            FileError::Stopped
        })
    }

    /// Finds the owners of those who were put aside.
    fn settle(&mut self) -> Result<(), FileError> {
        let Some(mut movers) = self.movers.take() else { return Ok(()) };
        let settled = movers.settle(|one| {
            let kept = match one {
                SettledRekeys::Owner(packed) => {
                    self.batch.extend_from_slice(packed);
                    Ok(())
                }
                SettledRekeys::AsItIs(packed, place) => {
                    let from = self.batch.len();
                    self.batch.extend_from_slice(packed);
                    self.reach(from, place)
                }
            };
            kept.is_ok() && (self.batch.len() < BATCH_LEN || self.hand_over().is_ok())
        });
        self.movers = Some(movers);
        match settled {
            Ok(true) => Ok(()),
            Ok(false) => Err(FileError::Stopped),
            Err(error) => self.kept(Err(error)),
        }
    }

    /// Takes the last member of the batch, which begins at `from`, out of it if the delivery does not reach it.
    #[inline]
    fn reach(&mut self, from: usize, place: RowLocation<'_>) -> Result<(), FileError> {
        if self.reaches_all {
            return Ok(());
        }
        // What was packed here is not damaged.
        let who = self.batch.get(from..).and_then(|packed| Identifier::unpack(packed).ok());
        if let Some(unmatched) = who.and_then(|(who, _)| self.matcher.unreached(&who)) {
            let kept = self.rejects.unmatched(&unmatched, place);
            self.batch.truncate(from);
            self.kept(kept)?;
        }
        Ok(())
    }

    /// Hands over what is left, and lets the thread end.
    ///
    /// # Errors
    /// When the rejects could not be kept, or the identity map not be read.
    pub(super) fn finish(mut self) -> Result<MatchCounts, DesiredError> {
        if self.failed.is_none() {
            // The thread has left early only if it failed, and it says so itself.
            let _ = self.settle().and_then(|()| self.hand_over());
        }
        let moved = self.movers.map(RekeyMap::finish);
        self.failed.map_or(Ok(MatchCounts { permit: self.permit, rejects: self.rejects, moved }), Err)
    }
}

impl RowSink for RowMatcher<'_> {
    #[inline]
    fn row(&mut self, fields: &impl Fields, place: RowLocation<'_>) -> Result<(), FileError> {
        self.count();
        let from = self.batch.len();
        if let Err(unmatched) = self.matcher.pack(fields, &mut self.batch) {
            let kept = self.rejects.unmatched(&unmatched, place);
            return self.kept(kept);
        }
        self.rejects.shapes.count(&self.batch[from..]);
        let mut are_many = false;
        if let Some(movers) = &mut self.movers {
            let taken = movers.take(&mut self.batch, from, place);
            are_many = movers.are_many();
            self.kept(taken)?;
        }
        self.reach(from, place)?;
        // The batch is another one afterwards.
        if are_many {
            self.settle()?;
        }
        if self.batch.len() < BATCH_LEN { Ok(()) } else { self.hand_over() }
    }

    fn unreadable(
        &mut self,
        reason: &'static str,
        detail: &str,
        place: RowLocation<'_>,
    ) -> Result<(), FileError> {
        self.count();
        let kept = self.rejects.unreadable(reason, detail, place);
        self.kept(kept)
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
            if is_written_otherwise(packed) {
                sets.upper.push(packed)?;
            }
            rest = others;
        }
        batch.clear();
        // Nobody wants it back any more: the source has been read.
        let _ = emptied.send(batch);
    }
    Ok(sets)
}
