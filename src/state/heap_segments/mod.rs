//! Segment tables of a Heap connection: the members of each segment, built from the changes that Heap sends.
//!
//! ```text
//! segments/<connection>/versions/000000000012.json   put-if-absent, like the versions of cohorts
//! segments/<connection>/parts/<uuid>.parquet         members that large syncs add or remove, sorted by key
//! segments/<connection>/parts/<uuid>.changes         the same of small syncs, one file per segment and batch
//! ```
//!
//! A segment is a *base* and, on top of it, *syncs*, which Heap sends in pages. The sync that was signed later wins,
//! regardless of when its pages arrive, until it is merged into the base. A large sync has its own parts; users of small
//! ones are *changes*, each with its signed time. The module `heap_segments` decides which syncs take effect and when
//! they are merged; this one only reads and writes.

mod changes;
mod cursor;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use xxhash_rust::xxh3::xxh3_64;

use super::as_text::{hex_sets, time};
use super::immutable_file::ImmutableFile;
use super::part::{PartFolder, PartRef};
use super::versioned_json::Retention;
use super::{MembershipCursor, PartWriter, StateError, StateReader, StateWriter, entry};
use crate::model::{ChangeOp, ConnectionName, RowSet, Timestamp, timestamp_text};

pub(super) use changes::SUFFIX;
pub use changes::SegmentChange;
pub use cursor::SegmentCursor;

/// Missing pages that are listed. A sync may have a million, by the word of one small delivery.
const MISSING_LISTED_MAX: usize = 20;

/// The segment tables of one Heap connection as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapSegments {
    /// The version number, from 1. 0: nothing was delivered yet.
    #[serde(skip)]
    pub number: u64,
    /// The segments by Heap's id.
    #[serde(rename = "segments")]
    pub by_id: BTreeMap<u64, SegmentTable>,
    /// Total count of invalid deliveries.
    pub invalid: u64,
}

impl HeapSegments {
    /// Returns it with its number. `None`: a part names rows outside itself.
    fn numbered(self, number: u64) -> Option<Self> {
        let is_sound = self.by_id.values().flat_map(SegmentTable::parts).all(PartRef::is_sound);
        is_sound.then_some(Self { number, ..self })
    }
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTable {
    /// Heap's name of it, as last delivered.
    pub name: String,
    /// When Heap last delivered something about it.
    #[serde(with = "time")]
    pub delivered_at: Timestamp,
    /// The segment was drained: syncs signed up to this time have no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<i64>,
    /// Syncs signed before this are merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_to: Option<i64>,
    /// The members by all merged syncs. `None`: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PartRef>,
    /// Unmerged syncs with parts or with missing pages, in the order of their signed times.
    pub syncs: Vec<SegmentSync>,
    /// How many syncs have arrived, which is the arrival number of the next one.
    pub arrived: u64,
    /// The changes of small syncs, oldest file first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ImmutableFile>,
    /// The last merged syncs, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged: Vec<MergedSync>,
    /// Syncs that were merged with pages missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<SyncGap>,
}

/// A sync: the changes of a segment that Heap sends together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentSync {
    /// Heap's id of it, or a generated one if Heap sends none.
    pub id: String,
    /// The earliest signed time of its pages, which determines its position.
    pub signed: i64,
    /// Its arrival number, which decides between syncs that were signed for the same time.
    pub order: u64,
    /// When its last page arrived.
    #[serde(with = "time")]
    pub last_page: Timestamp,
    /// How many pages it has.
    pub pages: u32,
    /// The pages that arrived, each with the hashes of its contents.
    #[serde(with = "hex_sets")]
    pub seen: BTreeMap<u32, BTreeSet<u64>>,
    /// Whether it takes effect although pages are missing.
    pub given_up: bool,
    /// Users who entered.
    pub adds: Vec<PartRef>,
    /// Users who left.
    pub removes: Vec<PartRef>,
}

/// A merged sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedSync {
    /// Heap's id of it.
    pub sync: String,
    /// Whether all its pages arrived.
    pub whole: bool,
}

/// A sync with pages that never arrived: membership may be incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncGap {
    /// Heap's id of the sync.
    pub sync: String,
    /// The first missing pages, at most 20.
    pub missing: Vec<u32>,
    /// How many pages are missing. 0: all of them are listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    missing_count: u32,
    /// The number of its pages.
    pub pages: u32,
    /// When it was given up, in UTC.
    pub at: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference to the field")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl SyncGap {
    /// The gap of a sync that is given up.
    #[must_use]
    pub fn of(sync: &SegmentSync, at: Timestamp) -> Self {
        let (missing, count) = (sync.missing(), sync.missing_count());
        let missing_count = if missing.len() < count as usize { count } else { 0 };
        Self { sync: sync.id.clone(), missing, missing_count, pages: sync.pages, at: timestamp_text(at) }
    }

    /// Returns how many pages are missing.
    #[must_use]
    pub fn missing_count(&self) -> u64 {
        u64::from(self.missing_count).max(self.missing.len() as u64)
    }
}

impl SegmentSync {
    /// Whether every page has arrived.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.seen.len() >= self.pages as usize
    }

    /// Whether its removals take effect. Not while a missing page may contradict them.
    #[must_use]
    pub fn removes_count(&self) -> bool {
        self.is_whole() || self.given_up
    }

    /// Returns how many pages have not arrived.
    #[must_use]
    pub fn missing_count(&self) -> u32 {
        self.pages.saturating_sub(u32::try_from(self.seen.len()).unwrap_or(u32::MAX))
    }

    /// Returns the first pages that have not arrived, at most 20. Heap counts them from 1.
    #[must_use]
    pub fn missing(&self) -> Vec<u32> {
        let first = u32::from(!self.seen.contains_key(&0));
        let pages = first..first.saturating_add(self.pages);
        pages.filter(|page| !self.seen.contains_key(page)).take(MISSING_LISTED_MAX).collect()
    }
}

impl SegmentTable {
    /// Creates an empty segment.
    #[must_use]
    pub fn new(delivered_at: Timestamp) -> Self {
        Self {
            name: String::new(),
            delivered_at,
            drained: None,
            merged_to: None,
            base: None,
            syncs: Vec::new(),
            arrived: 0,
            changes: Vec::new(),
            merged: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Returns the parts that take effect, oldest first.
    #[must_use]
    pub fn in_effect(&self) -> Vec<PartRef> {
        let mut parts: Vec<PartRef> = self.base.iter().cloned().collect();
        for sync in &self.syncs {
            parts.extend(sync.adds.iter().cloned());
            parts.extend(sync.removes.iter().filter(|_| sync.removes_count()).cloned());
        }
        parts
    }

    /// For each part of [`Self::in_effect`] returns its signed time and its sync's arrival number. The base is older
    /// than everything else.
    fn signed_of_parts(&self) -> Vec<(i64, u64)> {
        let mut signed: Vec<(i64, u64)> = self.base.iter().map(|_| (i64::MIN, 0)).collect();
        for sync in &self.syncs {
            let removes = if sync.removes_count() { sync.removes.len() } else { 0 };
            signed.extend(std::iter::repeat_n((sync.signed, sync.order), sync.adds.len() + removes));
        }
        signed
    }

    /// Returns all its parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &PartRef> {
        let syncs = self.syncs.iter().flat_map(|sync| sync.adds.iter().chain(&sync.removes));
        self.base.iter().chain(syncs)
    }

    /// Sets each change to the signed time of its sync, and drops removals by syncs with missing pages.
    #[must_use]
    pub fn changes_in_effect(&self, mut changes: Vec<SegmentChange>) -> Vec<SegmentChange> {
        let syncs: HashMap<u64, &SegmentSync> =
            self.syncs.iter().map(|sync| (sync_hash(&sync.id), sync)).collect();
        changes.retain_mut(|change| {
            let Some(sync) = syncs.get(&change.sync) else { return true };
            (change.signed, change.order) = (sync.signed, sync.order);
            change.op == ChangeOp::Add || sync.removes_count()
        });
        changes
    }

    /// Returns a fingerprint of the members: equal fingerprints imply equal members.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let parts = self.in_effect().into_iter().map(|part| format!("{}{}", part.op.as_str(), part.id));
        let changes = self.changes.iter().map(|file| file.id.to_string());
        // Removals by these syncs take effect without a new file.
        let settled = self.syncs.iter().filter(|sync| sync.removes_count()).map(|sync| sync.id.clone());
        parts.chain(changes).chain(settled).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the hash by which changes refer to a sync.
#[must_use]
pub fn sync_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

pub(super) fn entry_of(connection: &ConnectionName) -> String {
    format!("segments/{connection}")
}

impl StateReader {
    /// Returns the Heap connections that have delivered anything.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn heaps(&self) -> Result<Vec<ConnectionName>, StateError> {
        self.ids("segments", |name| ConnectionName::new(name).ok())
    }

    /// Returns the segment tables of a Heap connection.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn segments(&self, connection: &ConnectionName) -> Result<HeapSegments, StateError> {
        Ok(self.newest(&entry_of(connection), HeapSegments::numbered)?.unwrap_or_default())
    }

    /// Opens a cursor over the members of a segment, in key order.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn segment_members(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
    ) -> Result<SegmentCursor, StateError> {
        let changes = segment.changes_in_effect(self.segment_changes(connection, segment)?);
        self.merged_members(connection, segment, changes)
    }

    /// Opens a cursor over the members by a segment's parts and the given changes.
    fn merged_members(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
        changes: Vec<SegmentChange>,
    ) -> Result<SegmentCursor, StateError> {
        let (parts, signed) = (segment.in_effect(), segment.signed_of_parts());
        let parts =
            MembershipCursor::of_parts(&self.store, PartFolder::Segments(connection), &parts, self.seed())?;
        Ok(SegmentCursor::new(parts, signed, changes::last_of_each(changes)))
    }

    /// Returns the parts and the files of changes that a version names.
    pub(super) fn segment_files(
        &self,
        connection: &ConnectionName,
        number: u64,
    ) -> Result<(Vec<PartRef>, Vec<ImmutableFile>), StateError> {
        let versions = entry::versions(&self.store, &entry_of(connection));
        let segments = versions.read(number, HeapSegments::numbered)?;
        let parts = segments.by_id.values().flat_map(SegmentTable::parts).cloned().collect();
        Ok((parts, segments.by_id.values().flat_map(|segment| &segment.changes).cloned().collect()))
    }
}

impl StateWriter {
    /// Creates a part for a segment.
    ///
    /// # Errors
    /// When the write fails.
    pub fn segment_part(&self, connection: &ConnectionName, op: ChangeOp) -> Result<PartWriter, StateError> {
        let reader = self.reader();
        PartWriter::create(&reader.store, PartFolder::Segments(connection), op, reader.seed())
    }

    /// Commits a version of the segment tables.
    ///
    /// # Errors
    /// When the write fails, or another process committed first.
    pub fn commit_segments(
        &self,
        connection: &ConnectionName,
        segments: &HeapSegments,
    ) -> Result<(), StateError> {
        self.commit_entry(&entry_of(connection), segments.number, segments, Retention::All)?;
        // Written immediately: Heap does not send again what was acknowledged, so a later loss must be detected.
        self.note_heads();
        Ok(())
    }

    /// Merges parts, and writes the users who are added by them in total, or removed, as one part.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge_parts(
        &self,
        connection: &ConnectionName,
        parts: &[PartRef],
        op: ChangeOp,
    ) -> Result<Option<PartRef>, StateError> {
        let reader = self.reader();
        let folder = PartFolder::Segments(connection);
        let mut members = MembershipCursor::of_parts(&reader.store, folder, parts, reader.seed())?;
        let mut writer = self.segment_part(connection, op)?;
        let mut rows = 0;
        while let Some((_, standing)) = members.advance_any()? {
            if standing.is_some() == (op == ChangeOp::Add) {
                writer.push(members.packed()?)?;
                rows += 1;
            }
        }
        if rows == 0 { Ok(None) } else { writer.finish().map(|part| Some(acknowledge_all(part))) }
    }

    /// Writes the members by a segment's parts and the given changes as its new base. `None`: there are no members.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge_segment(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
        changes: Vec<SegmentChange>,
    ) -> Result<Option<PartRef>, StateError> {
        let mut members = self.reader().merged_members(connection, segment, changes)?;
        let mut writer = self.segment_part(connection, ChangeOp::Add)?;
        let mut rows = 0;
        while members.advance()?.is_some() {
            writer.push(members.packed())?;
            rows += 1;
        }
        if rows == 0 { Ok(None) } else { writer.finish().map(|part| Some(acknowledge_all(part))) }
    }
}

/// Marks all rows as acknowledged: deliveries from Heap are never in doubt.
#[must_use]
pub fn acknowledge_all(part: PartRef) -> PartRef {
    PartRef { acknowledged: RowSet::all(part.rows), ..part }
}
