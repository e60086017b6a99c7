//! The file of what a Heap has told, letter by letter, and its way to and from the types.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Gap, Merged, Segment, Segments, Sync};
use crate::model::{Op, RowSet, timestamp_text};
use crate::state::format;
use crate::state::run::FooterShape;
use crate::state::sealed::SealedShape;
use crate::state::version::RunRef;

/// The file, letter by letter.
#[derive(Serialize, Deserialize)]
pub(super) struct Shape {
    format: u64,
    version: u64,
    put_aside: u64,
    segments: Vec<SegmentShape>,
}

#[derive(Serialize, Deserialize)]
struct SegmentShape {
    id: u64,
    name: String,
    told_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    drained: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    merged_to: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<RunShape>,
    syncs: Vec<SyncShape>,
    arrived: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changes: Vec<SealedShape>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<Merged>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<Gap>,
}

#[derive(Serialize, Deserialize)]
struct SyncShape {
    id: String,
    signed: i64,
    order: u64,
    last_page: String,
    pages: u32,
    seen: BTreeMap<u32, Vec<String>>,
    given_up: bool,
    adds: Vec<RunShape>,
    removes: Vec<RunShape>,
}

#[derive(Serialize, Deserialize)]
struct RunShape {
    id: Box<str>,
    rows: u64,
    bytes: u64,
    xxh3: String,
    footer: FooterShape,
}

impl RunShape {
    fn from_part(part: &RunRef) -> Self {
        let (xxh3, footer) = (format!("{:032x}", part.checksum), FooterShape::from_footer(part.footer));
        Self { id: part.id.clone(), rows: part.rows, bytes: part.bytes, xxh3, footer }
    }

    fn into_part(self, op: Op) -> Option<RunRef> {
        let checksum = u128::from_str_radix(&self.xxh3, 16).ok()?;
        let (acknowledged, refused) = (RowSet::all(self.rows), RowSet::default());
        let (id, rows, bytes, footer) = (self.id, self.rows, self.bytes, self.footer.into_footer()?);
        Some(RunRef { id, op, rows, bytes, checksum, footer, acknowledged, refused, noted: false })
    }
}

fn from_parts(parts: &[RunRef]) -> Vec<RunShape> {
    parts.iter().map(RunShape::from_part).collect()
}

fn into_parts(shapes: Vec<RunShape>, op: Op) -> Option<Vec<RunRef>> {
    shapes.into_iter().map(|shape| shape.into_part(op)).collect()
}

impl Shape {
    pub(super) fn from_segments(segments: &Segments) -> Self {
        let each = segments.by_id.iter().map(|(id, segment)| SegmentShape::from_segment(*id, segment));
        Self {
            format: format::KNOWN,
            version: segments.number,
            put_aside: segments.put_aside,
            segments: each.collect(),
        }
    }

    pub(super) fn into_segments(self) -> Option<Segments> {
        let each = self.segments.into_iter().map(|shape| Some((shape.id, shape.into_segment()?)));
        Some(Segments {
            number: self.version,
            put_aside: self.put_aside,
            by_id: each.collect::<Option<_>>()?,
        })
    }
}

impl SegmentShape {
    fn from_segment(id: u64, segment: &Segment) -> Self {
        Self {
            id,
            name: segment.name.clone(),
            told_at: timestamp_text(segment.told_at),
            drained: segment.drained,
            merged_to: segment.merged_to,
            base: segment.base.as_ref().map(RunShape::from_part),
            syncs: segment.syncs.iter().map(SyncShape::from_sync).collect(),
            arrived: segment.arrived,
            changes: segment.changes.iter().map(SealedShape::from_file).collect(),
            merged: segment.merged.clone(),
            gaps: segment.gaps.clone(),
        }
    }

    fn into_segment(self) -> Option<Segment> {
        let base = match self.base {
            Some(shape) => Some(shape.into_part(Op::Add)?),
            None => None,
        };
        Some(Segment {
            name: self.name,
            told_at: self.told_at.parse().ok()?,
            drained: self.drained,
            merged_to: self.merged_to,
            base,
            syncs: self.syncs.into_iter().map(SyncShape::into_sync).collect::<Option<_>>()?,
            arrived: self.arrived,
            changes: self.changes.into_iter().map(SealedShape::into_file).collect::<Option<_>>()?,
            merged: self.merged,
            gaps: self.gaps,
        })
    }
}

impl SyncShape {
    fn from_sync(sync: &Sync) -> Self {
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

    fn into_sync(self) -> Option<Sync> {
        let hashes = |texts: Vec<String>| -> Option<BTreeSet<u64>> {
            texts.iter().map(|text| u64::from_str_radix(text, 16).ok()).collect()
        };
        let seen = self.seen.into_iter().map(|(page, texts)| Some((page, hashes(texts)?)));
        Some(Sync {
            id: self.id,
            signed: self.signed,
            order: self.order,
            last_page: self.last_page.parse().ok()?,
            pages: self.pages,
            seen: seen.collect::<Option<_>>()?,
            given_up: self.given_up,
            adds: into_parts(self.adds, Op::Add)?,
            removes: into_parts(self.removes, Op::Remove)?,
        })
    }
}
