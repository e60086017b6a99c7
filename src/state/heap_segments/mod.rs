//! What a Heap has told of its segments: for each one who is in it, made of the differences that were told.
//!
//! ```text
//! segments/<connection>/versions/000000000012.json   put-if-absent, as the versions of cohorts
//! segments/<connection>/parts/<uuid>.parquet          who entered or left, sorted by key
//! segments/<connection>/parts/<uuid>.changes          the same of small syncs, one file per segment and batch
//! ```
//!
//! A segment is a *base* and, on top of it, *syncs*, which Heap sends in pages. The sync that was signed later
//! counts, whenever its pages arrive, as long as it is not merged into the base. A large sync has parts of its own;
//! the users of small ones are *changes*, each with the time it was signed for. Which syncs remove members, and
//! when they are merged, is decided by `fold`; this module only writes and reads.

mod changes;
mod cursor;
mod json;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use xxhash_rust::xxh3::xxh3_64;

use super::checked;
use super::immutable_file::ImmutableFile;
use super::membership::{PartRef, number_of};
use super::part::PartFolder;
use super::{MembershipCursor, PartWriter, StateError, StateReader, StateWriter};
use crate::model::{ChangeOp, ConnectionName, RowSet, Timestamp};
use json::HeapSegmentsJson;

pub use changes::Change;
pub(super) use changes::SUFFIX;
pub use cursor::SegmentCursor;

/// What one Heap has told, as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapSegments {
    /// The number of the commit, from 1; 0: nothing was ever told.
    pub number: u64,
    /// The segments by Heap's number.
    pub by_id: BTreeMap<u64, SegmentTable>,
    /// Deliveries that could not be understood, ever.
    pub put_aside: u64,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTable {
    /// Heap's name of it, as last told.
    pub name: String,
    /// When Heap last told of it.
    pub told_at: Timestamp,
    /// Syncs signed before this are over: the segment was drained.
    pub drained: Option<i64>,
    /// Syncs signed before this are merged.
    pub merged_to: Option<i64>,
    /// Everybody who was told by syncs that are merged. None: nobody.
    pub base: Option<PartRef>,
    /// Syncs that are not merged and have parts or wait for pages, in the order in which Heap signed them.
    pub syncs: Vec<SegmentSync>,
    /// How many syncs have arrived: the place of the next one.
    pub arrived: u64,
    /// The changes of small syncs, the oldest file first.
    pub changes: Vec<ImmutableFile>,
    /// The last syncs that were merged, the newest last.
    pub merged: Vec<Merged>,
    /// Syncs that were merged with pages missing.
    pub gaps: Vec<SyncGap>,
}

/// What Heap told in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSync {
    /// Heap's name of it, or one of our own where Heap gives none.
    pub id: String,
    /// The earliest time that any of its pages was signed for: its place among the syncs.
    pub signed: i64,
    /// Its place in the order of arrival, which decides between syncs that are signed for the same time.
    pub order: u64,
    /// When the last of its pages came.
    pub last_page: Timestamp,
    /// How many pages it has.
    pub pages: u32,
    /// The pages that have come, each with the hashes of what was told under its number.
    pub seen: BTreeMap<u32, BTreeSet<u64>>,
    /// Its missing pages are not waited for any more.
    pub given_up: bool,
    /// Who entered.
    pub adds: Vec<PartRef>,
    /// Who left.
    pub removes: Vec<PartRef>,
}

/// A sync that is merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// Heap's name of it.
    pub sync: String,
    /// Whether all of its pages had come.
    pub whole: bool,
}

/// A sync whose missing pages never came: whoever was told of in them, nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncGap {
    /// Heap's name of the sync.
    pub sync: String,
    /// The pages that are missing.
    pub missing: Vec<u32>,
    /// How many there should be.
    pub pages: u32,
    /// When it was given up, in UTC.
    pub at: String,
}

impl SegmentSync {
    /// Whether every page has come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.seen.len() >= self.pages as usize
    }

    /// Whether those who left in it have left: not while a page that may say otherwise is missing.
    #[must_use]
    pub fn removes_count(&self) -> bool {
        self.is_whole() || self.given_up
    }

    /// The pages that have not come. Heap counts them from 1.
    #[must_use]
    pub fn missing(&self) -> Vec<u32> {
        let first = u32::from(!self.seen.contains_key(&0));
        (first..first + self.pages).filter(|page| !self.seen.contains_key(page)).collect()
    }
}

impl SegmentTable {
    /// A segment of which nothing is known but that Heap has told of it.
    #[must_use]
    pub fn new(told_at: Timestamp) -> Self {
        Self {
            name: String::new(),
            told_at,
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

    /// The parts that say who is in the segment, the oldest first.
    #[must_use]
    pub fn in_effect(&self) -> Vec<PartRef> {
        let mut parts: Vec<PartRef> = self.base.iter().cloned().collect();
        for sync in &self.syncs {
            parts.extend(sync.adds.iter().cloned());
            parts.extend(sync.removes.iter().filter(|_| sync.removes_count()).cloned());
        }
        parts
    }

    /// The time that each part of [`Self::in_effect`] is signed for, and its sync's place in the order of arrival. The
    /// base is older than everything else.
    fn signed_of_parts(&self) -> Vec<(i64, u64)> {
        let mut signed: Vec<(i64, u64)> = self.base.iter().map(|_| (i64::MIN, 0)).collect();
        for sync in &self.syncs {
            let removes = if sync.removes_count() { sync.removes.len() } else { 0 };
            signed.extend(std::iter::repeat_n((sync.signed, sync.order), sync.adds.len() + removes));
        }
        signed
    }

    /// All its parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &PartRef> {
        let syncs = self.syncs.iter().flat_map(|sync| sync.adds.iter().chain(&sync.removes));
        self.base.iter().chain(syncs)
    }

    /// Each change with the time that its sync is signed for, without removals by syncs that wait for pages.
    #[must_use]
    pub fn changes_in_effect(&self, mut changes: Vec<Change>) -> Vec<Change> {
        let syncs: HashMap<u64, &SegmentSync> =
            self.syncs.iter().map(|sync| (sync_hash(&sync.id), sync)).collect();
        changes.retain_mut(|change| {
            let Some(sync) = syncs.get(&change.sync) else { return true };
            (change.signed, change.order) = (sync.signed, sync.order);
            change.op == ChangeOp::Add || sync.removes_count()
        });
        changes
    }

    /// Identifies the members: two states of a segment with the same fingerprint have the same members.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let parts = self.in_effect().into_iter().map(|part| format!("{}{}", part.op.as_str(), part.id));
        let changes = self.changes.iter().map(|file| file.id.to_string());
        // Removals by these take effect without a new file.
        let settled = self.syncs.iter().filter(|sync| sync.removes_count()).map(|sync| sync.id.clone());
        parts.chain(changes).chain(settled).collect::<Vec<_>>().join(" ")
    }
}

/// What changes name a sync by.
#[must_use]
pub fn sync_hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

pub(super) fn folder_of(connection: &ConnectionName) -> String {
    format!("segments/{connection}/versions")
}

fn path_of(connection: &ConnectionName, number: u64) -> String {
    format!("{}/{number:012}.json", folder_of(connection))
}

impl StateReader {
    /// The Heap connections that have told of anything.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn heaps(&self) -> Result<Vec<ConnectionName>, StateError> {
        let names = self.store.list("segments")?;
        Ok(names.iter().filter_map(|name| ConnectionName::new(name).ok()).collect())
    }

    /// What a Heap has told.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn segments(&self, connection: &ConnectionName) -> Result<HeapSegments, StateError> {
        let names = self.store.list(&folder_of(connection))?;
        let newest = names.iter().filter_map(|name| number_of(name)).max();
        self.heads.check(&self.store, &format!("segments/{connection}"), newest.unwrap_or(0))?;
        match newest {
            Some(newest) => self.segments_at(connection, newest),
            None => Ok(HeapSegments::default()),
        }
    }

    fn segments_at(&self, connection: &ConnectionName, number: u64) -> Result<HeapSegments, StateError> {
        let file = path_of(connection, number);
        let path = self.store.at(&file);
        let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
        let shape: HeapSegmentsJson = checked::existing(&self.store, &file)?;
        let segments = shape.into_segments().ok_or_else(|| damaged("a value is out of range".to_owned()))?;
        if segments.number == number {
            Ok(segments)
        } else {
            Err(damaged("it is another version".to_owned()))
        }
    }

    /// Who is in a segment, in the order of the keys.
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

    /// Who is in by a segment's parts and these changes.
    fn merged_members(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
        changes: Vec<Change>,
    ) -> Result<SegmentCursor, StateError> {
        let (parts, signed) = (segment.in_effect(), segment.signed_of_parts());
        let parts =
            MembershipCursor::of_parts(&self.store, PartFolder::Segments(connection), &parts, self.seed())?;
        Ok(SegmentCursor::new(parts, signed, changes::last_of_each(changes)))
    }

    /// The parts and the files of changes that a commit names.
    pub(super) fn segment_files(
        &self,
        connection: &ConnectionName,
        number: u64,
    ) -> Result<(Vec<PartRef>, Vec<ImmutableFile>), StateError> {
        let segments = self.segments_at(connection, number)?;
        let parts = segments.by_id.values().flat_map(SegmentTable::parts).cloned().collect();
        Ok((parts, segments.by_id.values().flat_map(|segment| &segment.changes).cloned().collect()))
    }
}

impl StateWriter {
    /// Starts a part of a Heap's segments.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn segment_part(&self, connection: &ConnectionName, op: ChangeOp) -> Result<PartWriter, StateError> {
        let reader = self.reader();
        PartWriter::create(&reader.store, PartFolder::Segments(connection), op, reader.seed())
    }

    /// Makes this the newest that a Heap has told.
    ///
    /// # Errors
    /// When the disk does not take it, or another process was first.
    pub fn commit_segments(
        &self,
        connection: &ConnectionName,
        segments: &HeapSegments,
    ) -> Result<(), StateError> {
        self.check_lease()?;
        let file = path_of(connection, segments.number);
        let put = checked::put_new_compact(
            &self.reader().store,
            &file,
            &HeapSegmentsJson::from_segments(segments),
        )?;
        if !put {
            return Err(StateError::Lost);
        }
        self.committed(&format!("segments/{connection}"), segments.number);
        // At once: Heap does not send again what it has sent, so a table that is lost later must be noticed.
        self.note_heads();
        Ok(())
    }

    /// Writes one part of those whom some parts put in, all in all, or out.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge_told(
        &self,
        connection: &ConnectionName,
        parts: &[PartRef],
        op: ChangeOp,
    ) -> Result<Option<PartRef>, StateError> {
        let reader = self.reader();
        let home = PartFolder::Segments(connection);
        let mut members = MembershipCursor::of_parts(&reader.store, home, parts, reader.seed())?;
        let mut writer = self.segment_part(connection, op)?;
        let mut rows = 0;
        while let Some((_, standing)) = members.advance_any()? {
            if standing.is_some() == (op == ChangeOp::Add) {
                writer.push(members.packed()?)?;
                rows += 1;
            }
        }
        if rows == 0 { Ok(None) } else { writer.finish().map(|part| Some(told(part))) }
    }

    /// Writes the members by a segment's parts and these changes as one part: a new base. None: nobody is in.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge_segment(
        &self,
        connection: &ConnectionName,
        segment: &SegmentTable,
        changes: Vec<Change>,
    ) -> Result<Option<PartRef>, StateError> {
        let mut members = self.reader().merged_members(connection, segment, changes)?;
        let mut writer = self.segment_part(connection, ChangeOp::Add)?;
        let mut rows = 0;
        while members.advance()?.is_some() {
            writer.push(members.packed())?;
            rows += 1;
        }
        if rows == 0 { Ok(None) } else { writer.finish().map(|part| Some(told(part))) }
    }

    /// Removes superseded files of a Heap's segments, once in several versions. `number` is the newest version.
    ///
    /// # Errors
    /// When the state cannot be read, or a file cannot be removed.
    pub fn tidy_segments(
        &self,
        connection: &ConnectionName,
        number: u64,
        now: Timestamp,
    ) -> Result<(), StateError> {
        match self.is_to_be_collected(&folder_of(connection), number) {
            true => self.remove(&super::gc::of_segments(self.reader(), connection, now)?),
            false => Ok(()),
        }
    }
}

/// A part that is as good as acknowledged: Heap has said so.
#[must_use]
pub fn told(part: PartRef) -> PartRef {
    PartRef { acknowledged: RowSet::all(part.rows), ..part }
}
