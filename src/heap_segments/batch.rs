//! A batch: changes of one segment that are gathered from deliveries before they are written.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::payload::DeliveryPage;
use crate::model::{
    ChangeOp, ConnectionName, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierKind, KeySeed, MemberKey,
};
use crate::state::{
    PartRef, SegmentChange, SegmentTable, StateError, StateWriter, acknowledge_all, sync_hash,
};

/// Why a user is rejected, as a stable code.
pub(super) type RejectCode = &'static str;

/// The changes of a segment: those that are stored, and those of this batch.
pub(super) struct SegmentBatch {
    /// The stored changes of the segment, as written.
    pub(super) stored: Vec<SegmentChange>,
    /// Changes by small syncs with a single page, in the order of arrival.
    pub(super) changes: Vec<SegmentChange>,
    /// Changes by syncs of several pages, by the sync's id.
    pub(super) by_sync: BTreeMap<String, Vec<SegmentChange>>,
    /// Hashes of the pages of all these changes.
    pages: HashSet<u64>,
    /// The signed time of each unmerged sync.
    signed: HashMap<String, i64>,
    /// The latest signed time of any change.
    newest: i64,
    /// Merged syncs, and whether they were complete.
    merged: HashMap<String, bool>,
    /// Hashes of the syncs that a drain has ended.
    pub(super) ended: HashSet<u64>,
    /// Rejected users.
    pub(super) rejected: Vec<(RejectCode, String)>,
}

impl SegmentBatch {
    /// Creates a batch on top of the stored changes.
    pub(super) fn new(segment: &SegmentTable, stored: Vec<SegmentChange>) -> Self {
        let signed = segment.syncs.iter().map(|sync| (sync.id.clone(), sync.signed)).collect();
        let merged = segment.merged.iter().map(|merged| (merged.sync.clone(), merged.whole)).collect();
        Self {
            pages: stored.iter().map(|change| change.page).collect(),
            newest: stored.iter().map(|change| change.signed).max().unwrap_or(i64::MIN),
            stored,
            changes: Vec::new(),
            by_sync: BTreeMap::new(),
            signed,
            merged,
            ended: HashSet::new(),
            rejected: Vec::new(),
        }
    }

    /// Returns whether a merged sync was complete. `None`: it is not merged.
    pub(super) fn merged(&self, sync: &str) -> Option<bool> {
        self.merged.get(sync).copied()
    }

    /// Returns the index of an unmerged sync with several pages.
    pub(super) fn index_of(&self, segment: &SegmentTable, sync: &str) -> Option<usize> {
        let signed = *self.signed.get(sync)?;
        let from = segment.syncs.partition_point(|other| other.signed < signed);
        let same_time = segment.syncs.get(from..)?.iter().take_while(|other| other.signed == signed);
        same_time.enumerate().find(|(_, other)| other.id == sync).map(|(at, _)| from + at)
    }

    /// Sets the signed time of a sync.
    pub(super) fn sign(&mut self, sync: &str, signed: i64) {
        self.signed.insert(sync.to_owned(), signed);
    }

    /// Whether the changes of this page are already included.
    pub(super) fn has_page(&self, hash: u64) -> bool {
        self.pages.contains(&hash)
    }

    /// Whether no change or sync is signed for a later time.
    pub(super) fn is_newest(&self, segment: &SegmentTable, signed: i64) -> bool {
        self.newest <= signed && segment.syncs.last().is_none_or(|last| last.signed <= signed)
    }

    /// Adds the users of a page. `order`: the arrival number of its sync. `None`: the page is a whole sync, number `next`.
    pub(super) fn push(&mut self, page: &DeliveryPage<'_>, order: Option<u64>, next: u64, seed: KeySeed) {
        let (sync, hash) = (sync_hash(&page.sync), page_hash(page));
        let changes = if order.is_none() {
            &mut self.changes
        } else {
            self.by_sync.entry(page.sync.clone()).or_default()
        };
        let (order, signed) = (order.unwrap_or(next), page.signed);
        for (op, members) in [(ChangeOp::Add, &page.add), (ChangeOp::Remove, &page.remove)] {
            for member in members {
                let value = member.id.as_ref().map_or("", |id| &id.0);
                match packed(value) {
                    Ok(packed) => {
                        let key = MemberKey::of(seed, &packed);
                        changes.push(SegmentChange { key, signed, order, sync, page: hash, op, packed });
                    }
                    Err(reason) => self.rejected.push((reason, value.to_owned())),
                }
            }
        }
        self.pages.insert(hash);
        self.newest = self.newest.max(page.signed);
    }

    /// Drops changes signed up to `stamp`, when the segment was drained, and all changes of the syncs in `ended`.
    pub(super) fn drain(&mut self, stamp: i64, ended: &[String]) {
        self.changes.retain(|change| change.signed > stamp);
        for sync in ended {
            self.by_sync.remove(sync);
            self.signed.remove(sync);
            self.ended.insert(sync_hash(sync));
        }
    }
}

/// Identifies a page of a sync by its content.
pub(super) fn page_hash(page: &DeliveryPage<'_>) -> u64 {
    sync_hash(&page.sync).rotate_left(1) ^ page.hash
}

/// Packs the value that Heap sends. It is stored unchanged and matched later.
fn packed(value: &str) -> Result<Box<[u8]>, RejectCode> {
    let value = value.trim();
    match value.len() {
        0 => return Err("no_identifier"),
        len if len > EXTERNAL_ID_LEN_MAX => return Err("too_long"),
        _ => {}
    }
    let mut packed = Vec::with_capacity(value.len() + 4);
    Identifier { kind: IdentifierKind::ExternalId, label: "", value }.pack_into(&mut packed);
    Ok(packed.into())
}

/// Writes one side of a large sync as a part, sorted and without duplicates. `None`: there are no users.
pub(super) fn write_part(
    changes: &[SegmentChange],
    op: ChangeOp,
    state: &StateWriter,
    heap: &ConnectionName,
) -> Result<Option<PartRef>, StateError> {
    let side = changes.iter().filter(|change| change.op == op);
    let mut members: Vec<(MemberKey, &[u8])> = side.map(|change| (change.key, &*change.packed)).collect();
    members.sort_unstable();
    members.dedup();
    if members.is_empty() {
        return Ok(None);
    }
    let mut part = state.segment_part(heap, op)?;
    members.iter().try_for_each(|(_, packed)| part.push(packed))?;
    part.finish().map(|part| Some(acknowledge_all(part)))
}
