//! Heap segments: applies webhook deliveries from the inbox to the segment tables in the state.
//!
//! Heap sends changes in syncs of several pages, and repeats each page until it is acknowledged. Pages may arrive twice,
//! in any order, or never. The tables are the only copy of these memberships.
//!
//! # Guarantees
//! A repeated delivery has no further effect. A sync that was signed later wins, even if an earlier one arrives after it.
//! A sync with missing pages removes no members until it is complete or given up after a time, which is recorded as a
//! gap. Invalid deliveries are kept as rejects. Ingesting the same deliveries again after a crash gives the same result.
//!
//! # Caveats
//! Segments without a cohort have tables as well, so that a cohort can be declared later: Heap does not repeat
//! acknowledged deliveries. This module does not know which cohorts exist.

mod batch;
mod ledger;
mod merge;
mod payload;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{ConnectionName, RunId, Timestamp};
use crate::state::{
    ClosedFile, Delivery, DeliveryContents, HeapSegments, Reject, RejectLog, StateError, StateReader,
    StateWriter,
};

use ledger::{AppliedDelivery, ApplyError, SegmentLedger};
use payload::{InvalidDelivery, WebhookPayload};

/// Bytes of deliveries per commit. They take several times as much memory.
const BATCH_LEN: u64 = 8 << 20;

/// The inputs of an ingest.
#[derive(Clone, Copy, Debug)]
pub struct IngestContext<'a> {
    /// The state.
    pub state: &'a StateWriter,
    /// The Heap connection.
    pub heap: &'a ConnectionName,
    /// The run that rejects are written to.
    pub run: &'a RunId,
    /// The current time.
    pub now: Timestamp,
    /// How long a sync may wait for missing pages.
    pub incomplete_after: Duration,
}

/// The result of an ingest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Deliveries with changes.
    pub deliveries: u64,
    /// Deliveries that were repeated or have no effect any more.
    pub duplicates: u64,
    /// Invalid deliveries, kept as rejects.
    pub invalid: u64,
    /// Users without a valid identifier, kept as rejects.
    pub rejected: u64,
    /// The segments that changed.
    pub segments: BTreeSet<u64>,
    /// Syncs that were given up.
    pub given_up: u64,
    /// Files that were processed and removed.
    pub used: Vec<ClosedFile>,
    /// When the next sync with missing pages will be given up.
    pub next_deadline: Option<Timestamp>,
}

/// Ingests the deliveries of these files, and removes the files. Without files it only gives up syncs that are due.
///
/// # Errors
/// When the state cannot be read or written. Earlier commits stay; the rest is ingested next time.
pub fn ingest(files: &[ClosedFile], context: IngestContext<'_>) -> Result<IngestReport, StateError> {
    let mut report = IngestReport::default();
    let mut rejects = context.state.rejects(context.run, &format!("inbox.{}", context.heap));
    let mut rest = files;
    loop {
        let (batch, later) = rest.split_at(batch_len(rest));
        commit(batch, context, &mut report, &mut rejects)?;
        rest = later;
        if rest.is_empty() {
            return Ok(report);
        }
    }
}

/// Returns the segments with a drain in these files. Heap has switched such a segment off and on, so what it sends
/// afterwards is the whole segment instead of changes.
///
/// # Errors
/// When a file cannot be read.
pub fn drained_segments(files: &[ClosedFile], state: &StateReader) -> Result<BTreeSet<u64>, StateError> {
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

/// How many files are ingested in one commit: at least one, if there are any.
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
    context: IngestContext<'_>,
    report: &mut IngestReport,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    let IngestContext { state, heap, now, incomplete_after, .. } = context;
    let before = state.reader().segments(heap)?;
    let mut ledger = SegmentLedger::new(before.clone(), state, heap);
    for file in files {
        let DeliveryContents { deliveries, torn, damaged } = state.reader().deliveries(file)?;
        if torn > 0 {
            tracing::warn!(%heap, "{}: dropped a partial delivery that was never acknowledged", file.path);
        }
        for bytes in damaged {
            tracing::error!(%heap, "a delivery in {} is damaged and is kept as a reject", file.path);
            reject_delivery(&damage(), &bytes, &mut ledger, rejects)?;
        }
        for delivery in &deliveries {
            match apply(delivery, &mut ledger) {
                Ok(AppliedDelivery::New) => report.deliveries += 1,
                Ok(AppliedDelivery::Known) => report.duplicates += 1,
                Err(ApplyError::Invalid(invalid)) => {
                    reject_delivery(&invalid, &delivery.body, &mut ledger, rejects)?;
                }
                Err(ApplyError::State(error)) => return Err(error),
            }
        }
    }
    for rejected in ledger.rejected() {
        rejects.push(&rejected.line())?;
        report.rejected += 1;
    }
    // Synced before the files are removed, because there is no other copy.
    rejects.sync()?;
    report.given_up += ledger.give_up(now, incomplete_after);
    report.segments.extend(ledger.changed());
    let mut after = ledger.write()?;
    report.invalid += after.invalid - before.invalid;
    let is_changed = after != before;
    if is_changed {
        after.number += 1;
        state.commit_segments(heap, &after)?;
    }
    for file in files {
        state.remove_used(file)?;
        report.used.push(file.clone());
    }
    report.next_deadline = next_deadline(&after, incomplete_after);
    if is_changed && let Err(error) = state.tidy_segments(heap, after.number, now) {
        tracing::warn!(%heap, "superseded segment files could not be removed: {error}");
    }
    Ok(())
}

fn apply(delivery: &Delivery, ledger: &mut SegmentLedger<'_>) -> Result<AppliedDelivery, ApplyError> {
    match WebhookPayload::read(delivery)? {
        WebhookPayload::Sync(page) => ledger.page(page),
        WebhookPayload::Drain { segment, name } => ledger.drain(segment, &name, delivery),
    }
}

fn damage() -> InvalidDelivery {
    InvalidDelivery { reason: "damaged", detail: "the stored delivery is damaged".to_owned() }
}

/// Writes a whole invalid delivery to the rejects: it was acknowledged, so Heap does not send it again.
fn reject_delivery(
    invalid: &InvalidDelivery,
    body: &[u8],
    ledger: &mut SegmentLedger<'_>,
    rejects: &mut RejectLog,
) -> Result<(), StateError> {
    ledger.count_invalid();
    let value = String::from_utf8_lossy(body);
    let reject =
        Reject { reason: invalid.reason, detail: &invalid.detail, value: &value, ..Reject::default() };
    rejects.push(&reject.line())
}

/// Returns when the first sync with missing pages will be given up.
fn next_deadline(segments: &HeapSegments, incomplete_after: Duration) -> Option<Timestamp> {
    let syncs = segments.by_id.values().flat_map(|segment| &segment.syncs);
    let waiting = syncs.filter(|sync| !sync.removes_count());
    waiting.filter_map(|sync| sync.last_page.checked_add(incomplete_after).ok()).min()
}

#[cfg(test)]
mod tests;
