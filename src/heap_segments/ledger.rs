//! Applies pages of syncs and drains to segment tables. All rules are here: which sync wins, when removals take effect,
//! and when a sync is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::{SegmentBatch, page_hash};
use super::merge;
use super::payload::{DeliveryPage, InvalidDelivery};
use crate::model::{ConnectionName, Timestamp};
use crate::state::{
    Delivery, HeapSegments, Reject, SegmentSync, SegmentTable, StateError, StateWriter, SyncGap,
};

/// How many gaps are kept per segment.
const GAPS_KEPT: usize = 10;

/// Whether a delivery contained anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AppliedDelivery {
    New,
    Known,
}

/// Why a page or a drain is not applied.
pub(super) enum ApplyError {
    /// It is invalid.
    Invalid(InvalidDelivery),
    /// The state cannot be read.
    State(StateError),
}

impl From<InvalidDelivery> for ApplyError {
    fn from(invalid: InvalidDelivery) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<StateError> for ApplyError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

/// Segment tables with pending changes.
pub(super) struct SegmentLedger<'a> {
    state: &'a StateWriter,
    heap: &'a ConnectionName,
    segments: HeapSegments,
    batches: BTreeMap<u64, SegmentBatch>,
    changed: BTreeSet<u64>,
}

impl<'a> SegmentLedger<'a> {
    pub(super) fn new(segments: HeapSegments, state: &'a StateWriter, heap: &'a ConnectionName) -> Self {
        Self { state, heap, segments, batches: BTreeMap::new(), changed: BTreeSet::new() }
    }

    /// Returns the segments that changed.
    pub(super) fn changed(&self) -> impl Iterator<Item = u64> {
        self.changed.iter().copied()
    }

    pub(super) fn count_invalid(&mut self) {
        self.segments.invalid += 1;
    }

    /// Returns the rejected users.
    pub(super) fn rejected(&self) -> impl Iterator<Item = Reject<'_>> {
        let all = self.batches.values().flat_map(|batch| &batch.rejected);
        all.map(|(reason, value)| Reject { reason, column: "id", value, ..Reject::default() })
    }

    /// Returns a segment and its batch.
    fn segment_and_batch(
        &mut self,
        id: u64,
        received: Timestamp,
    ) -> Result<(&mut SegmentTable, &mut SegmentBatch), StateError> {
        let segment = self.segments.by_id.entry(id).or_insert_with(|| SegmentTable::new(received));
        segment.delivered_at = segment.delivered_at.max(received);
        let batch = match self.batches.entry(id) {
            std::collections::btree_map::Entry::Occupied(batch) => batch.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let stored = self.state.reader().segment_changes(self.heap, segment)?;
                none.insert(SegmentBatch::new(segment, stored))
            }
        };
        Ok((segment, batch))
    }

    /// Applies a page.
    pub(super) fn page(&mut self, page: DeliveryPage<'_>) -> Result<AppliedDelivery, ApplyError> {
        let (id, seed) = (page.segment, self.state.reader().seed());
        let (segment, batch) = self.segment_and_batch(id, page.received)?;
        if let Some(is_whole) = batch.merged(&page.sync) {
            return if is_whole { Ok(AppliedDelivery::Known) } else { Err(late_page(&page).into()) };
        }
        let known = batch.index_of(segment, &page.sync);
        let signed = known.map_or(page.signed, |at| segment.syncs[at].signed.min(page.signed));
        // The segment was drained later, or this page was already applied.
        if segment.drained.is_some_and(|drained| signed <= drained) || batch.has_page(page_hash(&page)) {
            return Ok(AppliedDelivery::Known);
        }
        if known.is_none() && segment.merged_to.is_some_and(|merged| signed < merged) {
            return Err(late_page(&page).into());
        }
        let next = segment.arrived;
        segment.arrived += u64::from(known.is_none());
        let mut order = None;
        let is_large = page.add.len() + page.remove.len() > merge::SYNC_LEN_MAX;
        if known.is_some() || page.pages > 1 || is_large {
            let sync = position_sync(&mut segment.syncs, known, signed, next, &page);
            order = Some(sync.order);
            batch.sign(&page.sync, signed);
            if !sync.seen.entry(page.page).or_default().insert(page.hash) {
                return Ok(AppliedDelivery::Known);
            }
            sync.pages = sync.pages.max(page.pages);
            sync.last_page = sync.last_page.max(page.received);
            if sync.is_whole() {
                segment.gaps.retain(|gap| gap.sync != page.sync);
            }
        }
        batch.push(&page, order, next, seed);
        if batch.is_newest(segment, signed) && !page.name.is_empty() {
            segment.name = page.name.into_owned();
        }
        self.changed.insert(id);
        Ok(AppliedDelivery::New)
    }

    /// Applies a drain: removes all members that earlier syncs added.
    pub(super) fn drain(
        &mut self,
        id: u64,
        name: &str,
        delivery: &Delivery,
    ) -> Result<AppliedDelivery, ApplyError> {
        let (segment, batch) = self.segment_and_batch(id, delivery.received)?;
        if segment.drained.is_some_and(|drained| delivery.stamp <= drained) {
            return Ok(AppliedDelivery::Known);
        }
        if segment.merged_to.is_some_and(|merged| delivery.stamp < merged) {
            return Err(too_late("a drain").into()); // the base also contains users who entered after the drain
        }
        segment.drained = Some(delivery.stamp);
        segment.base = None;
        segment.gaps.clear();
        let ended = segment.syncs.extract_if(.., |sync| sync.signed <= delivery.stamp);
        let ended: Vec<String> = ended.map(|sync| sync.id).collect();
        batch.drain(delivery.stamp, &ended);
        if !name.is_empty() {
            name.clone_into(&mut segment.name);
        }
        self.changed.insert(id);
        Ok(AppliedDelivery::New)
    }

    /// Gives up the syncs with pages that have been missing for longer than `after`. Returns how many.
    pub(super) fn give_up(&mut self, now: Timestamp, after: Duration) -> u64 {
        let mut given_up = 0;
        for (id, segment) in &mut self.segments.by_id {
            let is_late = |sync: &&mut SegmentSync| {
                !sync.removes_count() && sync.last_page.checked_add(after).is_ok_and(|until| until <= now)
            };
            for sync in segment.syncs.iter_mut().filter(is_late) {
                sync.given_up = true;
                given_up += 1;
                self.changed.insert(*id);
                let gap = SyncGap::of(sync, now);
                tracing::warn!(
                    segment = id,
                    name = segment.name,
                    sync = gap.sync,
                    "pages {:?}{} of {} never arrived; membership may be incomplete",
                    gap.missing,
                    if gap.missing_count() > gap.missing.len() as u64 { " and more" } else { "" },
                    gap.pages
                );
                segment.gaps.push(gap);
            }
            let old = segment.gaps.len().saturating_sub(GAPS_KEPT);
            segment.gaps.drain(..old);
        }
        given_up
    }

    /// Writes the changes, merges if due, and returns the new tables.
    pub(super) fn write(self) -> Result<HeapSegments, StateError> {
        let Self { state, heap, mut segments, batches, .. } = self;
        for (id, batch) in batches {
            let Some(segment) = segments.by_id.get_mut(&id) else { continue };
            merge::write(segment, batch, state, heap)?;
        }
        Ok(segments)
    }
}

/// Returns the sync of a page, positioned by its signed time.
fn position_sync<'a>(
    syncs: &'a mut Vec<SegmentSync>,
    known: Option<usize>,
    signed: i64,
    order: u64,
    page: &DeliveryPage<'_>,
) -> &'a mut SegmentSync {
    let sync = match known {
        Some(at) if syncs[at].signed == signed => return &mut syncs[at],
        Some(at) => SegmentSync { signed, ..syncs.remove(at) },
        None => SegmentSync {
            id: page.sync.clone(),
            signed,
            order,
            last_page: page.received,
            pages: page.pages,
            seen: BTreeMap::new(),
            given_up: false,
            adds: Vec::new(),
            removes: Vec::new(),
        },
    };
    let at = syncs.partition_point(|other| (other.signed, other.order) < (signed, sync.order));
    syncs.insert(at, sync);
    &mut syncs[at]
}

fn late_page(page: &DeliveryPage<'_>) -> InvalidDelivery {
    too_late(&format!("page {} of sync {}", page.page, page.sync))
}

fn too_late(what: &str) -> InvalidDelivery {
    InvalidDelivery { reason: "too_late", detail: format!("{what} arrived after later syncs were merged") }
}
