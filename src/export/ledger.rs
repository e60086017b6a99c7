//! Ledger of an export: which blocks are settled, and the commit of that progress.
//!
//! # Guarantees
//! A block is committed only when each of its events is in Heap, or durably among the held events or the rejects.
//! Blocks settle in the order of reading, so a run after a crash repeats little.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EventCounts;
use super::batch::BatchOrigin;
use super::report::TYPES_LEN_MAX;
use crate::blocking;
use crate::connector::currents::EventFile;
use crate::model::{Clock, ExportId, ExportedAmount, Progress, Timestamp};
use crate::state::{
    ClosedFile, DayProgress, ExportProgress, HeldEvent, HeldEventsWriter, HoldReason, IdentityMap,
    PartialFile, Reject, RejectLog, StateError, StateWriter,
};

/// The input that a block belongs to.
#[derive(Clone, Debug)]
pub(super) enum BlockOrigin {
    /// A file.
    Object(Arc<EventFile>),
    /// A file of the inbox.
    Posted(Arc<ClosedFile>),
    /// Input without recorded progress.
    Nothing,
}

impl BlockOrigin {
    /// The length of the whole input, if it is known.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Object(file) => Some(file.len),
            Self::Posted(file) => Some(file.bytes),
            Self::Nothing => None,
        }
    }
}

struct SettledBlock {
    whole: BlockOrigin,
    /// The end of the block in the file, in bytes.
    end: u64,
    /// Unsettled events. Negative while events settle before the block is read to its end.
    left: i64,
    is_read: bool,
    rest: FileRemainder,
}

/// What follows a block in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileRemainder {
    /// Unknown, possibly more blocks.
    Open,
    /// The end of the file.
    None,
    /// A rest that is missing since this time.
    Missing(Timestamp),
}

/// The settled input of an export, with its uncommitted blocks, held events and rejects.
pub(super) struct ExportLedger {
    state: Arc<StateWriter>,
    export: ExportId,
    clock: Clock,
    pub(super) record: ExportProgress,
    /// The progress differs from the committed one.
    is_changed: bool,
    /// The error of a failed commit. Data that it relied on may be lost, so later commits fail as well.
    failed: Option<String>,
    blocks: VecDeque<SettledBlock>,
    /// The number of the first block.
    first: u64,
    rejects: RejectLog,
    waiting: Option<HeldEventsWriter>,
    /// Files of the inbox that are settled.
    pub(super) used: Vec<ClosedFile>,
    /// Rows of replayed rejects that Heap accepted, by file.
    pub(super) replayed: BTreeMap<usize, BTreeSet<u64>>,
    pub(super) tally: EventCounts,
    progress: Arc<dyn Progress>,
    /// Bytes of the files that were found, of those that are settled, and of the settled blocks of the next one.
    found_bytes: u64,
    settled_bytes: u64,
    open_bytes: u64,
}

impl ExportLedger {
    pub(super) fn open(
        state: &Arc<StateWriter>,
        export: &ExportId,
        rejects: RejectLog,
        clock: Clock,
        progress: &Arc<dyn Progress>,
    ) -> Result<Self, StateError> {
        Ok(Self {
            record: state.reader().export(export)?,
            state: Arc::clone(state),
            export: export.clone(),
            clock,
            progress: Arc::clone(progress),
            found_bytes: 0,
            settled_bytes: 0,
            open_bytes: 0,
            is_changed: false,
            failed: None,
            blocks: VecDeque::new(),
            first: 0,
            rejects,
            waiting: None,
            used: Vec::new(),
            replayed: BTreeMap::new(),
            tally: EventCounts::default(),
        })
    }

    /// Counts the bytes of files that will be read.
    pub(super) fn found_input(&mut self, bytes: u64) {
        self.found_bytes += bytes;
    }

    /// Opens a block and returns its number.
    pub(super) fn open_block(&mut self, whole: &BlockOrigin) -> u64 {
        let block =
            SettledBlock { whole: whole.clone(), end: 0, left: 0, is_read: false, rest: FileRemainder::Open };
        self.blocks.push_back(block);
        self.first + self.blocks.len() as u64 - 1
    }

    /// Closes a block: it is read to its end, and `sent` of its events go to Heap.
    pub(super) fn close_block(&mut self, number: u64, end: u64, sent: u64, rest: FileRemainder) {
        if let Some(block) = self.block(number) {
            block.left += sent.cast_signed();
            (block.end, block.is_read, block.rest) = (end, true, rest);
        }
        self.advance();
    }

    fn block(&mut self, number: u64) -> Option<&mut SettledBlock> {
        let at = number.checked_sub(self.first)?;
        self.blocks.get_mut(usize::try_from(at).ok()?)
    }

    /// Settles one event.
    pub(super) fn done(&mut self, origin: BatchOrigin) {
        match origin {
            BatchOrigin::Block(number) => {
                if let Some(block) = self.block(number) {
                    block.left -= 1;
                }
            }
            BatchOrigin::Waiting { list, row, is_unidentified } => {
                if let Some(file) = self.record.held.get_mut(list) {
                    file.settle(row, is_unidentified);
                    self.is_changed = true;
                }
            }
            BatchOrigin::Reject { list, row } => drop(self.replayed.entry(list).or_default().insert(row)),
        }
    }

    /// Moves settled blocks into the progress, in the order of reading.
    pub(super) fn advance(&mut self) {
        while let Some(block) = self.blocks.front().filter(|block| block.is_read && block.left == 0) {
            if block.rest == FileRemainder::Open {
                self.open_bytes = block.end;
            } else {
                self.settled_bytes += block.whole.len().unwrap_or(block.end);
                self.open_bytes = 0;
            }
            match &block.whole {
                BlockOrigin::Nothing => {}
                BlockOrigin::Posted(file) if block.rest == FileRemainder::None => {
                    self.used.push((**file).clone());
                }
                BlockOrigin::Posted(_) => {}
                BlockOrigin::Object(object) if block.rest == FileRemainder::None => {
                    self.record.parts.remove(&*object.path);
                    self.record.finish(object.day, object.print, object.arrived);
                    self.tally.files += 1;
                }
                BlockOrigin::Object(object) => {
                    let truncated_since = match block.rest {
                        FileRemainder::Missing(since) => Some(since),
                        FileRemainder::Open | FileRemainder::None => None,
                    };
                    let part = PartialFile { print: object.print, offset: block.end, truncated_since };
                    self.record.parts.insert(object.path.to_string(), part);
                }
            }
            self.is_changed |= !matches!(block.whole, BlockOrigin::Nothing);
            self.blocks.pop_front();
            self.first += 1;
        }
        let bytes = self.settled_bytes + self.open_bytes;
        let amount = ExportedAmount { events: self.tally.sent, bytes, bytes_found: self.found_bytes };
        self.progress.exporting(&self.export, amount);
    }

    /// Holds an event.
    pub(super) fn wait_for(
        &mut self,
        awaited: HoldReason<'_>,
        is_profile: bool,
        event: &[u8],
    ) -> Result<(), StateError> {
        let writer = match &mut self.waiting {
            Some(writer) => writer,
            none => none.insert(self.state.held_writer(&self.export)?),
        };
        writer.push(&HeldEvent { is_profile, since: self.clock.now(), awaited, event })?;
        self.is_changed = true;
        Ok(())
    }

    /// Writes a reject and counts it.
    pub(super) fn reject(&mut self, reject: &Reject<'_>) -> Result<(), StateError> {
        let count = reject.count.unwrap_or(1);
        *self.tally.rejected.entry(reject.reason.to_owned()).or_default() += count;
        self.record.count("rejected", count);
        self.is_changed = true;
        self.rejects.push(&reject.line())
    }

    /// Adds the counts of dispatched events.
    pub(super) fn add(&mut self, tally: EventCounts) {
        self.record.count("events", tally.events);
        for (reason, number) in &tally.ignored {
            self.record.count(reason, *number);
        }
        self.record.count("held", tally.held);
        for (of, number) in &tally.unknown_types {
            let types = &mut self.record.unknown_types;
            if types.contains_key(of) || types.len() < TYPES_LEN_MAX {
                *types.entry(of.clone()).or_default() += number;
            }
        }
        self.tally.add(tally);
    }

    /// Counts events that Heap accepted.
    pub(super) fn sent(&mut self, what: &'static str, number: u64) {
        self.record.count(what, number);
        match what {
            "sent" => self.tally.sent += number,
            _ => self.tally.profiles += number,
        }
    }

    /// Marks the progress as changed.
    pub(super) fn touch(&mut self) {
        self.is_changed = true;
    }

    /// Commits the settled progress: first held events, rejects and identities, then the progress itself. After a
    /// failure every commit fails, and another run repeats everything since the last one.
    fn commit(&mut self, identity: &mut IdentityMap) -> Result<(), StateError> {
        if let Some(why) = &self.failed {
            return Err(StateError::TemporaryFile(std::io::Error::other(why.clone())));
        }
        let committed = self.try_commit(identity);
        self.failed = committed.as_ref().err().map(ToString::to_string);
        committed
    }

    fn try_commit(&mut self, identity: &mut IdentityMap) -> Result<(), StateError> {
        self.advance();
        self.rejects.sync()?;
        if let Some(waiting) = self.waiting.take() {
            self.record.held.push(waiting.finish()?);
            self.is_changed = true;
        }
        identity.commit()?;
        if std::mem::take(&mut self.is_changed) {
            self.record.number += 1;
            self.record.written_at = Some(self.clock.now());
            self.state.commit_export(&self.export, &self.record)?;
        }
        Ok(())
    }

    /// Writes the rejects to disk. Returns the counts and the path of the rejects.
    pub(super) fn finish(self) -> Result<(EventCounts, Option<std::path::PathBuf>), StateError> {
        Ok((self.tally, self.rejects.finish()?))
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commits the settled progress. Code that locks both locks the identity map first.
pub(super) fn checkpoint(
    ledger: &Mutex<ExportLedger>,
    identity: &Mutex<IdentityMap>,
) -> Result<(), StateError> {
    blocking::in_place(|| {
        let mut identity = locked(identity);
        locked(ledger).commit(&mut identity)
    })
}

impl ExportProgress {
    /// Records a file that is read to its end.
    fn finish(&mut self, day: crate::model::Day, print: u64, arrived: Timestamp) {
        match self
            .days
            .entry(day)
            .or_insert_with(|| DayProgress::Open { prints: BTreeSet::new(), latest: arrived })
        {
            DayProgress::Open { prints, latest } => {
                prints.insert(print);
                *latest = (*latest).max(arrived);
            }
            DayProgress::Settled { files, sum, seen_until } => {
                *files += 1;
                *sum = sum.wrapping_add(print);
                *seen_until = (*seen_until).max(arrived);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NoProgress, RunId};
    use crate::state::{Holder, Location, rejects_of};

    /// The disk is full for a moment, between two commits.
    #[tokio::test(flavor = "multi_thread")]
    async fn after_a_failed_commit_no_later_commit_succeeds() {
        let home = tempfile::tempdir().unwrap();
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let holder = Holder { host: String::new(), process: 1, since: clock.now(), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state = Arc::new(StateWriter::open(&location, &holder, clock, 7).unwrap());
        let (export, run) = (ExportId::new("e").unwrap(), RunId::new(clock.now(), 0));
        let identity = Mutex::new(IdentityMap::open(&state).unwrap());
        let progress: Arc<dyn Progress> = Arc::new(NoProgress);
        let open = || {
            let rejects = state.rejects(&run, &rejects_of(&export));
            Mutex::new(ExportLedger::open(&state, &export, rejects, clock, &progress).unwrap())
        };
        let ledger = open();
        let file = Arc::new(ClosedFile { path: "inbox/currents.e/1-a.log".to_owned(), bytes: 1 });
        let number = locked(&ledger).open_block(&BlockOrigin::Posted(file));
        let awaited = HoldReason::Unidentified { user_id: "b1", device_id: "" };
        locked(&ledger).wait_for(awaited, false, b"{}").unwrap();
        locked(&ledger).close_block(number, 0, 0, FileRemainder::None);
        let versions = home.path().join("exports/e/versions");
        std::fs::File::create(&versions).unwrap();
        checkpoint(&ledger, &identity).unwrap_err();
        std::fs::remove_file(&versions).unwrap();
        // Otherwise the file of the inbox would go, and what waits be in no version.
        checkpoint(&ledger, &identity).unwrap_err();
        let ledger = open();
        locked(&ledger).wait_for(awaited, false, b"{}").unwrap();
        checkpoint(&ledger, &identity).unwrap();
        assert_eq!(open().into_inner().unwrap().record.held_len(), 1);
    }
}
