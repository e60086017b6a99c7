//! What a Heap's webhook has told: inbox → the membership table of each segment.
//!
//! Heap tells differences, in syncs of several pages, and tells each one until it is answered: twice, in any
//! order, and perhaps never in full. The table is the truth of what Heap has told us.
//!
//! # Guarantees
//! A delivery counts once, however often it comes. A later sync has the last word on its people, also if an
//! earlier one comes after it. A sync with pages missing takes nobody out, until it is whole or has been
//! waited for long enough; then that is written down as a gap. What cannot be understood is kept as a reject.
//! After a crash the same deliveries are folded again, to the same end.
//!
//! # Caveats
//! Segments that no cohort names have tables as well, so that a cohort can be declared later: Heap does not
//! say again what it has said. Nothing here knows which cohorts there are.

mod batch;
mod ledger;
mod merge;
mod payload;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{ConnectionName, RunId, Timestamp};
use crate::state::{
    ClosedFile, Contents, Delivery, HeapSegments, Reject, RejectLog, StateError, StateReader, StateWriter,
};

use ledger::{LearnError, LedgerEntry, SegmentLedger};
use payload::{InvalidDelivery, WebhookPayload};

/// Bytes of deliveries that are folded in one commit. In memory they take several times as much.
const BATCH_LEN: u64 = 8 << 20;

/// How a fold is done.
#[derive(Clone, Copy, Debug)]
pub struct IngestContext<'a> {
    /// The state.
    pub state: &'a StateWriter,
    /// The Heap.
    pub heap: &'a ConnectionName,
    /// The run that rejects are kept under.
    pub run: &'a RunId,
    /// The time.
    pub now: Timestamp,
    /// How long the missing pages of a sync are waited for.
    pub incomplete_after: Duration,
}

/// What a fold came upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Deliveries that said something new.
    pub deliveries: u64,
    /// Deliveries that had come before, or tell of what is over.
    pub duplicates: u64,
    /// Deliveries that could not be used, and are kept as rejects.
    pub put_aside: u64,
    /// People who cannot be named in Braze, kept as rejects.
    pub rejected: u64,
    /// The segments whose members may be others now.
    pub segments: BTreeSet<u64>,
    /// Syncs whose missing pages are not waited for any more.
    pub given_up: u64,
    /// Files that were used and removed.
    pub used: Vec<ClosedFile>,
    /// When the next sync is given up unless its pages come.
    pub next_deadline: Option<Timestamp>,
}

/// Folds the deliveries of these files, and removes the files. Without files it only looks for syncs that
/// have been waited for long enough.
///
/// # Errors
/// When the state cannot be read or written. What was committed stays; the rest is folded the next time.
pub fn fold(files: &[ClosedFile], folding: IngestContext<'_>) -> Result<IngestReport, StateError> {
    let mut folded = IngestReport::default();
    let mut rejects = folding.state.rejects(folding.run, &format!("inbox.{}", folding.heap));
    let mut rest = files;
    loop {
        let (batch, later) = rest.split_at(batch_len(rest));
        commit(batch, folding, &mut folded, &mut rejects)?;
        rest = later;
        if rest.is_empty() {
            return Ok(folded);
        }
    }
}

/// The segments of which a drain waits in these files: Heap has switched the segment off, so what it has sent since is the
/// whole segment and no difference.
///
/// # Errors
/// When a file cannot be read.
pub fn drained(files: &[ClosedFile], state: &StateReader) -> Result<BTreeSet<u64>, StateError> {
    let mut drained = BTreeSet::new();
    for file in files {
        for delivery in &state.deliveries(file)?.deliveries {
            if let Ok(WebhookPayload::Drain { segment, .. }) = WebhookPayload::read(delivery) {
                drained.insert(segment);
            }
        }
    }
    Ok(drained)
}

/// How many files are folded at once; at least one, if there are any.
fn batch_len(files: &[ClosedFile]) -> usize {
    let mut bytes = 0;
    let fits = |file: &&ClosedFile| {
        bytes += file.bytes;
        bytes <= BATCH_LEN
    };
    files.iter().take_while(fits).count().max(usize::from(!files.is_empty()))
}

fn commit(
    files: &[ClosedFile],
    folding: IngestContext<'_>,
    folded: &mut IngestReport,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    let IngestContext { state, heap, now, incomplete_after, .. } = folding;
    let before = state.reader().segments(heap)?;
    let mut ledger = SegmentLedger::new(before.clone(), state, heap);
    for file in files {
        let Contents { deliveries, torn, damaged } = state.reader().deliveries(file)?;
        if torn > 0 {
            tracing::warn!(%heap, "{} ends within a delivery, which nobody was told is safe", file.path);
        }
        for bytes in damaged {
            tracing::error!(%heap, "a delivery in {} is damaged and is kept as a reject", file.path);
            put_aside(&damage(), &bytes, &mut ledger, rejects)?;
        }
        for delivery in &deliveries {
            match learn(delivery, &mut ledger) {
                Ok(LedgerEntry::New) => folded.deliveries += 1,
                Ok(LedgerEntry::Known) => folded.duplicates += 1,
                Err(LearnError::Unusable(unusable)) => {
                    put_aside(&unusable, &delivery.body, &mut ledger, rejects)?;
                }
                Err(LearnError::State(error)) => return Err(error),
            }
        }
    }
    for rejected in ledger.rejected() {
        rejects.push(&rejected.line())?;
        folded.rejected += 1;
    }
    // Before the files are removed: there is no other copy.
    rejects.sync()?;
    folded.given_up += ledger.give_up(now, incomplete_after);
    folded.segments.extend(ledger.changed());
    let mut after = ledger.write()?;
    folded.put_aside += after.put_aside - before.put_aside;
    let is_changed = after != before;
    if is_changed {
        after.number += 1;
        state.commit_segments(heap, &after)?;
    }
    for file in files {
        state.remove_used(file)?;
        folded.used.push(file.clone());
    }
    folded.next_deadline = next_deadline(&after, incomplete_after);
    if is_changed && let Err(error) = state.tidy_segments(heap, after.number, now) {
        tracing::warn!(%heap, "what Heap has told could not be tidied: {error}");
    }
    Ok(())
}

fn learn(delivery: &Delivery, ledger: &mut SegmentLedger<'_>) -> Result<LedgerEntry, LearnError> {
    match WebhookPayload::read(delivery)? {
        WebhookPayload::Sync(page) => ledger.page(page),
        WebhookPayload::Drain { segment, name } => ledger.drain(segment, &name, delivery),
    }
}

fn damage() -> InvalidDelivery {
    InvalidDelivery {
        reason: "damaged",
        detail: "the file that it was kept in has other bytes now".to_owned(),
    }
}

/// Keeps a delivery that cannot be used, all of it: Heap was told that it is safe, and does not tell it again.
fn put_aside(
    unusable: &InvalidDelivery,
    body: &[u8],
    ledger: &mut SegmentLedger<'_>,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    ledger.put_aside();
    let value = String::from_utf8_lossy(body);
    let reject =
        Reject { reason: unusable.reason, detail: &unusable.detail, value: &value, ..Reject::default() };
    rejects.push(&reject.line())
}

/// When the first sync with pages missing has been waited for long enough.
fn next_deadline(segments: &HeapSegments, incomplete_after: Duration) -> Option<Timestamp> {
    let syncs = segments.by_id.values().flat_map(|segment| &segment.syncs);
    let waiting = syncs.filter(|sync| !sync.removes_count());
    waiting.filter_map(|sync| sync.last_page.checked_add(incomplete_after).ok()).min()
}

#[cfg(test)]
mod tests;
