//! Writes a batch: changes as one file per segment. Merges changes and syncs into the base when there are too many.

use std::collections::HashMap;

use super::batch::{SegmentBatch, write_part};
use crate::model::{ChangeOp, ConnectionName};
use crate::state::{
    MergedSync, SegmentChange, SegmentSync, SegmentTable, StateError, StateWriter, sync_hash,
};

/// A sync with more users in one batch gets parts of its own. Small in tests, so that few users suffice.
pub(super) const SYNC_LEN_MAX: usize = if cfg!(test) { 6 } else { 8192 };
/// How many changes stay unmerged at least, because an earlier sync may still arrive. Each batch and each reader reads
/// all of them, so the others are merged at twice this number. A larger batch raises the limit to its length.
const CHANGES_KEPT: usize = if cfg!(test) { 128 } else { 4096 };
/// How many files of changes may exist. Each reader reads all of them.
const FILES_MAX: usize = 8;
/// How many parts of one side a sync may have. Each is an open file while a table is read.
const PARTS_MAX: usize = 8;
/// How many of the newest syncs stay unmerged, because pages of earlier ones may still arrive.
const SYNCS_KEPT: usize = 12;
/// Older syncs are merged when there are this many of them with parts.
const SYNCS_MORE: usize = 12;
/// How many complete syncs without parts are kept. Only their changes still refer to them.
const WHOLE_MAX: usize = 64;
/// How many merged syncs are remembered, to recognize their pages.
const MERGED_KEPT: usize = 64;

/// Writes the batch of a segment.
pub(super) fn write(
    segment: &mut SegmentTable,
    mut batch: SegmentBatch,
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<(), StateError> {
    for (id, changes) in std::mem::take(&mut batch.by_sync) {
        let Some(at) = batch.index_of(segment, &id) else { continue };
        if changes.len() > SYNC_LEN_MAX {
            write_parts(&mut segment.syncs[at], &changes, state, heap)?;
        } else {
            batch.changes.extend(changes);
        }
    }
    if batch.changes.is_empty() && batch.ended.is_empty() && !is_due(segment, &batch) {
        return Ok(());
    }
    if is_due(segment, &batch) || !batch.ended.is_empty() {
        return rewrite(segment, batch, state, heap);
    }
    segment.changes.push(state.write_changes(heap, &batch.changes)?);
    Ok(())
}

fn changes_kept(batch_len: usize) -> usize {
    CHANGES_KEPT.max(batch_len)
}

fn has_parts(sync: &SegmentSync) -> bool {
    !sync.adds.is_empty() || !sync.removes.is_empty()
}

/// Whether files of changes, or syncs, must be merged.
fn is_due(segment: &SegmentTable, batch: &SegmentBatch) -> bool {
    let with_parts = segment.syncs.iter().filter(|sync| has_parts(sync)).count();
    let whole = segment.syncs.iter().filter(|sync| sync.is_whole() && !has_parts(sync)).count();
    segment.changes.len() + usize::from(!batch.changes.is_empty()) > FILES_MAX
        || batch.stored.len() + batch.changes.len() > 2 * changes_kept(batch.changes.len())
        || with_parts >= SYNCS_KEPT + SYNCS_MORE
        || whole > WHOLE_MAX
}

fn write_parts(
    sync: &mut SegmentSync,
    changes: &[SegmentChange],
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<(), StateError> {
    for (op, parts) in [(ChangeOp::Add, &mut sync.adds), (ChangeOp::Remove, &mut sync.removes)] {
        parts.extend(write_part(changes, op, state, heap)?);
        if parts.len() > PARTS_MAX {
            let merged = state.merge_parts(heap, parts, op)?;
            *parts = merged.into_iter().collect();
        }
    }
    Ok(())
}

/// Writes all changes as one file, without those that are merged or drained.
fn rewrite(
    segment: &mut SegmentTable,
    batch: SegmentBatch,
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<(), StateError> {
    let SegmentBatch { stored, changes, ended, .. } = batch;
    let kept = changes_kept(changes.len());
    let mut all: Vec<SegmentChange> = stored.into_iter().chain(changes).collect();
    all.retain(|change| !ended.contains(&change.sync));
    // A later page may have changed the signed time of a sync.
    let signed: HashMap<u64, i64> =
        segment.syncs.iter().map(|sync| (sync_hash(&sync.id), sync.signed)).collect();
    for change in &mut all {
        change.signed = signed.get(&change.sync).copied().unwrap_or(change.signed);
    }
    all.retain(|change| segment.drained.is_none_or(|drained| change.signed > drained));
    if let Some(until) = merged_until(segment, &all, kept) {
        all = merge(segment, all, until, state, heap)?;
    }
    // Missing pages of the newest given-up syncs may still arrive.
    let given_up_at = segment.syncs.len().saturating_sub(SYNCS_KEPT);
    let given_up_before = segment.syncs.get(given_up_at).map_or(i64::MIN, |sync| sync.signed);
    let over = segment.syncs.extract_if(.., |sync| {
        !has_parts(sync) && (sync.is_whole() || (sync.given_up && sync.signed < given_up_before))
    });
    segment.merged.extend(over.map(|sync| MergedSync { whole: sync.is_whole(), sync: sync.id }));
    let forgotten = segment.merged.len().saturating_sub(MERGED_KEPT);
    segment.merged.drain(..forgotten);
    segment.changes.clear();
    if !all.is_empty() {
        segment.changes.push(state.write_changes(heap, &all)?);
    }
    Ok(())
}

/// Returns the time up to which changes and syncs are merged. It is before any sync with missing pages.
fn merged_until(segment: &SegmentTable, all: &[SegmentChange], kept: usize) -> Option<i64> {
    let waiting = segment.syncs.iter().filter(|sync| !sync.removes_count()).map(|sync| sync.signed).min();
    let with_parts: Vec<i64> =
        segment.syncs.iter().filter(|sync| has_parts(sync)).map(|sync| sync.signed).collect();
    let of_syncs = with_parts
        .len()
        .checked_sub(SYNCS_KEPT + 1)
        .filter(|_| with_parts.len() >= SYNCS_KEPT + SYNCS_MORE)
        .map(|at| with_parts[at]);
    let of_changes = (all.len() > 2 * kept).then(|| {
        let mut order: Vec<(i64, u64)> = all.iter().map(|change| (change.signed, change.order)).collect();
        order.sort_unstable();
        let by_number = order[order.len() - kept - 1].0;
        order.dedup();
        let by_sync = order.len().checked_sub(SYNCS_KEPT + 1).map(|at| order[at].0);
        by_sync.map(|by_sync| by_sync.min(by_number))
    });
    let of_changes = of_changes.flatten();
    let until = of_syncs.max(of_changes)?;
    Some(waiting.map_or(until, |waiting| until.min(waiting.saturating_sub(1))))
}

/// Merges everything signed up to a time into the base. Returns the other changes.
fn merge(
    segment: &mut SegmentTable,
    all: Vec<SegmentChange>,
    until: i64,
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<Vec<SegmentChange>, StateError> {
    let (old, later): (Vec<SegmentChange>, Vec<SegmentChange>) =
        all.into_iter().partition(|change| change.signed <= until);
    let later_syncs = segment.syncs.split_off(segment.syncs.partition_point(|sync| sync.signed <= until));
    if !old.is_empty() || segment.syncs.iter().any(has_parts) {
        let last = old.iter().map(|change| change.signed).chain(segment.syncs.iter().map(|sync| sync.signed));
        segment.merged_to = segment.merged_to.max(last.max());
        let changes = segment.changes_in_effect(old);
        segment.base = state.merge_segment(heap, segment, changes)?;
    }
    let merged = std::mem::replace(&mut segment.syncs, later_syncs);
    segment
        .merged
        .extend(merged.into_iter().map(|sync| MergedSync { whole: sync.is_whole(), sync: sync.id }));
    Ok(later)
}
