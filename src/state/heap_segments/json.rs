//! The JSON form of segment tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{HeapSegments, MergedSync, SegmentSync, SegmentTable, SyncGap};
use crate::model::{ChangeOp, RowSet, timestamp_text};
use crate::state::format_number;
use crate::state::immutable_file::ImmutableFileJson;
use crate::state::part::{FooterShape, PartRef};

/// The file format.
#[derive(Serialize, Deserialize)]
pub(super) struct HeapSegmentsJson {
    format: u64,
    version: u64,
    invalid: u64,
    segments: Vec<SegmentTableJson>,
}

#[derive(Serialize, Deserialize)]
struct SegmentTableJson {
    id: u64,
    name: String,
    delivered_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drained: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merged_to: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<SegmentPartJson>,
    syncs: Vec<SegmentSyncJson>,
    arrived: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ImmutableFileJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<MergedSync>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<SyncGap>,
}

#[derive(Serialize, Deserialize)]
struct SegmentSyncJson {
    id: String,
    signed: i64,
    order: u64,
    last_page: String,
    pages: u32,
    seen: BTreeMap<u32, Vec<String>>,
    given_up: bool,
    adds: Vec<SegmentPartJson>,
    removes: Vec<SegmentPartJson>,
}

#[derive(Serialize, Deserialize)]
struct SegmentPartJson {
    id: Box<str>,
    rows: u64,
    bytes: u64,
    xxh3: String,
    footer: FooterShape,
}

impl SegmentPartJson {
    fn from_part(part: &PartRef) -> Self {
        let (xxh3, footer) = (format!("{:032x}", part.checksum), FooterShape::from_footer(part.footer));
        Self { id: part.id.clone(), rows: part.rows, bytes: part.bytes, xxh3, footer }
    }

    fn into_part(self, op: ChangeOp) -> Option<PartRef> {
        let checksum = u128::from_str_radix(&self.xxh3, 16).ok()?;
        let (acknowledged, rejected) = (RowSet::all(self.rows), RowSet::default());
        let (id, rows, bytes, footer) = (self.id, self.rows, self.bytes, self.footer.into_footer()?);
        Some(PartRef { id, op, rows, bytes, checksum, footer, acknowledged, rejected, noted: false })
    }
}

fn from_parts(parts: &[PartRef]) -> Vec<SegmentPartJson> {
    parts.iter().map(SegmentPartJson::from_part).collect()
}

fn into_parts(shapes: Vec<SegmentPartJson>, op: ChangeOp) -> Option<Vec<PartRef>> {
    shapes.into_iter().map(|shape| shape.into_part(op)).collect()
}

impl HeapSegmentsJson {
    pub(super) fn from_segments(segments: &HeapSegments) -> Self {
        let each = segments.by_id.iter().map(|(id, segment)| SegmentTableJson::from_segment(*id, segment));
        Self {
            format: format_number::SUPPORTED,
            version: segments.number,
            invalid: segments.invalid,
            segments: each.collect(),
        }
    }

    pub(super) fn into_segments(self) -> Option<HeapSegments> {
        let each = self.segments.into_iter().map(|shape| Some((shape.id, shape.into_segment()?)));
        Some(HeapSegments {
            number: self.version,
            invalid: self.invalid,
            by_id: each.collect::<Option<_>>()?,
        })
    }
}

impl SegmentTableJson {
    fn from_segment(id: u64, segment: &SegmentTable) -> Self {
        Self {
            id,
            name: segment.name.clone(),
            delivered_at: timestamp_text(segment.delivered_at),
            drained: segment.drained,
            merged_to: segment.merged_to,
            base: segment.base.as_ref().map(SegmentPartJson::from_part),
            syncs: segment.syncs.iter().map(SegmentSyncJson::from_sync).collect(),
            arrived: segment.arrived,
            changes: segment.changes.iter().map(ImmutableFileJson::from_file).collect(),
            merged: segment.merged.clone(),
            gaps: segment.gaps.clone(),
        }
    }

    fn into_segment(self) -> Option<SegmentTable> {
        let base = match self.base {
            Some(shape) => Some(shape.into_part(ChangeOp::Add)?),
            None => None,
        };
        Some(SegmentTable {
            name: self.name,
            delivered_at: self.delivered_at.parse().ok()?,
            drained: self.drained,
            merged_to: self.merged_to,
            base,
            syncs: self.syncs.into_iter().map(SegmentSyncJson::into_sync).collect::<Option<_>>()?,
            arrived: self.arrived,
            changes: self.changes.into_iter().map(ImmutableFileJson::into_file).collect::<Option<_>>()?,
            merged: self.merged,
            gaps: self.gaps,
        })
    }
}

impl SegmentSyncJson {
    fn from_sync(sync: &SegmentSync) -> Self {
        let hashes = |hashes: &BTreeSet<u64>| hashes.iter().map(|hash| format!("{hash:016x}")).collect();
        Self {
            id: sync.id.clone(),
            signed: sync.signed,
            order: sync.order,
            last_page: timestamp_text(sync.last_page),
            pages: sync.pages,
            seen: sync.seen.iter().map(|(page, seen)| (*page, hashes(seen))).collect(),
            given_up: sync.given_up,
            adds: from_parts(&sync.adds),
            removes: from_parts(&sync.removes),
        }
    }

    fn into_sync(self) -> Option<SegmentSync> {
        let hashes = |texts: Vec<String>| -> Option<BTreeSet<u64>> {
            texts.iter().map(|text| u64::from_str_radix(text, 16).ok()).collect()
        };
        let seen = self.seen.into_iter().map(|(page, texts)| Some((page, hashes(texts)?)));
        Some(SegmentSync {
            id: self.id,
            signed: self.signed,
            order: self.order,
            last_page: self.last_page.parse().ok()?,
            pages: self.pages,
            seen: seen.collect::<Option<_>>()?,
            given_up: self.given_up,
            adds: into_parts(self.adds, ChangeOp::Add)?,
            removes: into_parts(self.removes, ChangeOp::Remove)?,
        })
    }
}
