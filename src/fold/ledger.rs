//! Pages of syncs put in their places, and what becomes of the tables by it. Which sync has the last word, when
//! somebody is taken out, when a sync is given up and when it is merged is decided here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::payload::{Page, Unusable};
use super::people::{People, Reason};
use crate::model::{ConnectionName, Op, Timestamp, timestamp_text};
use crate::state::{Delivery, Gap, Merged, Reject, RunRef, Segment, Segments, StateError, StateWriter, Sync};

/// The newest syncs that are never merged, since a page of an earlier one may still come.
const SYNCS_KEPT: usize = 12;
/// So many syncs more, and those before the newest are merged.
const SYNCS_MORE: usize = 12;
/// Each run is an open file while a table is read.
const RUNS_MAX: usize = 8;
/// So many syncs are merged at once, for the same reason.
const MERGED_AT_ONCE: usize = 24;
/// Merged syncs that are remembered, to know their pages again.
const MERGED_KEPT: usize = 64;
/// Missing pages that a message lists.
const LISTED_MAX: usize = 20;
/// Gaps that are remembered.
const GAPS_KEPT: usize = 10;

/// Whether a delivery said anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    New,
    Known,
}

/// The tables, and people who are not in a run yet.
pub(super) struct Ledger {
    segments: Segments,
    told: BTreeMap<(u64, String), Told>,
    changed: BTreeSet<u64>,
    rejected: Vec<(Reason, String)>,
}

#[derive(Default)]
struct Told {
    adds: People,
    removes: People,
}

impl Ledger {
    pub(super) fn new(segments: Segments) -> Self {
        Self { segments, told: BTreeMap::new(), changed: BTreeSet::new(), rejected: Vec::new() }
    }

    /// Segments whose members may be others now.
    pub(super) fn changed(&self) -> impl Iterator<Item = u64> {
        self.changed.iter().copied()
    }

    pub(super) fn put_aside(&mut self) {
        self.segments.put_aside += 1;
    }

    /// People who cannot be kept.
    pub(super) fn rejected(&self) -> impl Iterator<Item = Reject<'_>> {
        self.rejected.iter().map(|(reason, value)| Reject {
            reason,
            column: "id",
            value,
            ..Reject::default()
        })
    }

    /// Learns a page.
    pub(super) fn page(&mut self, page: Page<'_>) -> Result<Learned, Unusable> {
        let segment = self.segments.by_id.entry(page.segment).or_insert_with(|| Segment::new(page.received));
        segment.told_at = segment.told_at.max(page.received);
        if let Some(merged) = segment.merged.iter().find(|merged| merged.sync == page.sync) {
            return if merged.whole { Ok(Learned::Known) } else { Err(late_page(&page)) };
        }
        let known = segment.syncs.iter().position(|sync| sync.id == page.sync);
        let signed = known.map_or(page.signed, |at| segment.syncs[at].signed.min(page.signed));
        if segment.drained.is_some_and(|drained| signed <= drained) {
            return Ok(Learned::Known); // the segment was drained after that
        }
        if known.is_none() && segment.merged_to.is_some_and(|merged| signed < merged) {
            return Err(late_page(&page));
        }
        let sync = place(&mut segment.syncs, known, signed, &page);
        if !sync.seen.entry(page.page).or_default().insert(page.hash) {
            return Ok(Learned::Known);
        }
        sync.pages = sync.pages.max(page.pages);
        sync.last_page = sync.last_page.max(page.received);
        if sync.is_whole() {
            segment.gaps.retain(|gap| gap.sync != page.sync);
        }
        if segment.syncs.last().is_some_and(|last| last.id == page.sync) && !page.name.is_empty() {
            segment.name = page.name.into_owned();
        }
        self.changed.insert(page.segment);
        let told = self.told.entry((page.segment, page.sync)).or_default();
        for (side, members) in [(&mut told.adds, page.add), (&mut told.removes, page.remove)] {
            for member in members {
                let value = member.id.map(|id| id.0).unwrap_or_default();
                if let Err(reason) = side.push(&value) {
                    self.rejected.push((reason, value.into_owned()));
                }
            }
        }
        Ok(Learned::New)
    }

    /// Everybody leaves a segment, as far as earlier syncs put them in.
    pub(super) fn drain(&mut self, id: u64, name: &str, delivery: &Delivery) -> Result<Learned, Unusable> {
        let segment = self.segments.by_id.entry(id).or_insert_with(|| Segment::new(delivery.received));
        segment.told_at = segment.told_at.max(delivery.received);
        if segment.drained.is_some_and(|drained| delivery.stamp <= drained) {
            return Ok(Learned::Known);
        }
        if segment.merged_to.is_some_and(|merged| delivery.stamp < merged) {
            return Err(too_late("a drain")); // whoever entered after it is in the base as well
        }
        segment.drained = Some(delivery.stamp);
        segment.base = None;
        segment.gaps.clear();
        segment.syncs.retain(|sync| sync.signed > delivery.stamp);
        if !name.is_empty() {
            name.clone_into(&mut segment.name);
        }
        let later: BTreeSet<&String> = segment.syncs.iter().map(|sync| &sync.id).collect();
        self.told.retain(|(of, sync), _| *of != id || later.contains(sync));
        self.changed.insert(id);
        Ok(Learned::New)
    }

    /// Gives up the syncs whose missing pages have been waited for long enough.
    pub(super) fn give_up(&mut self, now: Timestamp, after: Duration) -> u64 {
        let mut given_up = 0;
        for (id, segment) in &mut self.segments.by_id {
            let is_late = |sync: &&mut Sync| {
                !sync.removes_count() && sync.last_page.checked_add(after).is_ok_and(|until| until <= now)
            };
            for sync in segment.syncs.iter_mut().filter(is_late) {
                sync.given_up = true;
                given_up += 1;
                self.changed.insert(*id);
                let (sync, missing, pages) = (sync.id.clone(), sync.missing(), sync.pages);
                let (some, more) = (&missing[..missing.len().min(LISTED_MAX)], missing.len() > LISTED_MAX);
                tracing::warn!(
                    segment = id, name = segment.name, %sync,
                    "Heap never sent pages {some:?}{} of {pages}; who was told of in them is not known",
                    if more { " and more" } else { "" }
                );
                segment.gaps.push(Gap { sync, missing, pages, at: timestamp_text(now) });
            }
            let old = segment.gaps.len().saturating_sub(GAPS_KEPT);
            segment.gaps.drain(..old);
        }
        given_up
    }

    /// Writes what was told as runs, merges what has become too much, and gives the tables as they are then.
    pub(super) fn write(
        mut self,
        state: &StateWriter,
        heap: &ConnectionName,
    ) -> Result<Segments, StateError> {
        for ((segment, id), told) in &self.told {
            let Some(segment) = self.segments.by_id.get_mut(segment) else { continue };
            let Some(sync) = segment.syncs.iter_mut().find(|sync| sync.id == *id) else { continue };
            for (op, people, runs) in
                [(Op::Add, &told.adds, &mut sync.adds), (Op::Remove, &told.removes, &mut sync.removes)]
            {
                runs.extend(people.write(state, heap, op)?);
                if runs.len() > RUNS_MAX {
                    let merged = state.merge_told(heap, runs, op)?;
                    *runs = merged.into_iter().collect();
                }
            }
        }
        for segment in self.segments.by_id.values_mut() {
            merge_oldest(segment, state, heap)?;
        }
        Ok(self.segments)
    }
}

/// Merges the oldest syncs into the base, once there are many that are settled.
fn merge_oldest(segment: &mut Segment, state: &StateWriter, heap: &ConnectionName) -> Result<(), StateError> {
    if segment.syncs.len() < SYNCS_KEPT + SYNCS_MORE {
        return Ok(());
    }
    let old = segment.syncs.len() - SYNCS_KEPT;
    let settled = segment.syncs[..old].iter().take_while(|sync| sync.removes_count()).count();
    if settled < SYNCS_MORE / 2 {
        return Ok(());
    }
    let mut left = settled;
    while left > 0 {
        let some = left.min(MERGED_AT_ONCE);
        merge(segment, some, state, heap)?;
        left -= some;
    }
    let forgotten = segment.merged.len().saturating_sub(MERGED_KEPT);
    segment.merged.drain(..forgotten);
    Ok(())
}

/// Merges so many of the oldest syncs into the base.
fn merge(
    segment: &mut Segment,
    count: usize,
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<(), StateError> {
    let later = segment.syncs.split_off(count);
    let runs: Vec<RunRef> = segment.in_effect();
    segment.base = state.merge_told(heap, &runs, Op::Add)?;
    let merged = std::mem::replace(&mut segment.syncs, later);
    segment.merged_to = merged.last().map(|sync| sync.signed);
    segment.merged.extend(merged.into_iter().map(|sync| Merged { whole: sync.is_whole(), sync: sync.id }));
    Ok(())
}

/// The sync that a page belongs to, in its place by the time that it was signed for.
fn place<'a>(syncs: &'a mut Vec<Sync>, known: Option<usize>, signed: i64, page: &Page<'_>) -> &'a mut Sync {
    let sync = match known {
        Some(at) if syncs[at].signed == signed => return &mut syncs[at],
        Some(at) => Sync { signed, ..syncs.remove(at) },
        None => Sync {
            id: page.sync.clone(),
            signed,
            last_page: page.received,
            pages: page.pages,
            seen: BTreeMap::new(),
            given_up: false,
            adds: Vec::new(),
            removes: Vec::new(),
        },
    };
    let at = syncs.partition_point(|other| other.signed <= signed);
    syncs.insert(at, sync);
    &mut syncs[at]
}

fn late_page(page: &Page<'_>) -> Unusable {
    too_late(&format!("page {} of sync {}", page.page, page.sync))
}

fn too_late(what: &str) -> Unusable {
    Unusable { reason: "too_late", detail: format!("{what}, after later syncs were taken for the truth") }
}
