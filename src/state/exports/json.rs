//! The JSON form of an export's progress.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DayProgress, ExportProgress, HeldEventsFile, PartialFile};
use crate::model::{Day, RowSet, Timestamp, timestamp_text};
use crate::state::format;
use crate::state::immutable_file::ImmutableFileJson;

#[derive(Serialize, Deserialize)]
pub(super) struct ExportProgressJson {
    format: u64,
    version: u64,
    written_at: Option<String>,
    listed_whole: Option<String>,
    days: BTreeMap<String, DayProgressJson>,
    parts: BTreeMap<String, PartialFileJson>,
    waiting: Vec<HeldEventsJson>,
    counts: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unknown_types: BTreeMap<String, u64>,
}

/// Fingerprints are strings, because many JSON readers lose bits of large numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DayProgressJson {
    Open { prints: Vec<String>, latest: String },
    Settled { files: u64, sum: String, seen_until: String },
}

#[derive(Serialize, Deserialize)]
struct PartialFileJson {
    print: String,
    offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut_since: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct HeldEventsJson {
    file: ImmutableFileJson,
    oldest: String,
    persons: u64,
    settled: Vec<[u64; 2]>,
}

fn hex(print: u64) -> String {
    format!("{print:016x}")
}

fn number(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex, 16).ok()
}

fn time(text: Option<String>) -> Option<Option<Timestamp>> {
    text.map_or(Some(None), |text| text.parse().ok().map(Some))
}

impl ExportProgressJson {
    pub(super) fn from_record(record: &ExportProgress) -> Self {
        let day = |(day, record): (&Day, &DayProgress)| {
            let shape = match record {
                DayProgress::Open { prints, latest } => DayProgressJson::Open {
                    prints: prints.iter().copied().map(hex).collect(),
                    latest: latest.to_string(),
                },
                DayProgress::Settled { files, sum, seen_until } => DayProgressJson::Settled {
                    files: *files,
                    sum: hex(*sum),
                    seen_until: seen_until.to_string(),
                },
            };
            (day.to_string(), shape)
        };
        let part = |(path, part): (&String, &PartialFile)| {
            let cut_since = part.cut_since.map(timestamp_text);
            (path.clone(), PartialFileJson { print: hex(part.print), offset: part.offset, cut_since })
        };
        let room = |room: &HeldEventsFile| HeldEventsJson {
            file: ImmutableFileJson::from_file(&room.file),
            oldest: timestamp_text(room.oldest),
            persons: room.persons,
            settled: room.settled.ranges().iter().map(|range| [range.start, range.end]).collect(),
        };
        Self {
            format: format::KNOWN,
            version: record.number,
            written_at: record.written_at.map(timestamp_text),
            listed_whole: record.listed_whole.map(timestamp_text),
            days: record.days.iter().map(day).collect(),
            parts: record.parts.iter().map(part).collect(),
            waiting: record.waiting.iter().map(room).collect(),
            counts: record.counts.clone(),
            unknown_types: record.unknown_types.clone(),
        }
    }

    /// `None`: a value is out of range.
    pub(super) fn into_record(self) -> Option<ExportProgress> {
        let day = |(day, shape): (String, DayProgressJson)| {
            let record = match shape {
                DayProgressJson::Open { prints, latest } => DayProgress::Open {
                    prints: prints.iter().map(|print| number(print)).collect::<Option<_>>()?,
                    latest: latest.parse().ok()?,
                },
                DayProgressJson::Settled { files, sum, seen_until } => {
                    DayProgress::Settled { files, sum: number(&sum)?, seen_until: seen_until.parse().ok()? }
                }
            };
            Some((Day::parse(&day)?, record))
        };
        let part = |(path, shape): (String, PartialFileJson)| {
            Some((
                path,
                PartialFile {
                    print: number(&shape.print)?,
                    offset: shape.offset,
                    cut_since: time(shape.cut_since)?,
                },
            ))
        };
        Some(ExportProgress {
            number: self.version,
            written_at: time(self.written_at)?,
            listed_whole: time(self.listed_whole)?,
            days: self.days.into_iter().map(day).collect::<Option<_>>()?,
            parts: self.parts.into_iter().map(part).collect::<Option<_>>()?,
            waiting: self.waiting.into_iter().map(HeldEventsJson::into_room).collect::<Option<_>>()?,
            counts: self.counts,
            unknown_types: self.unknown_types,
        })
    }
}

impl HeldEventsJson {
    fn into_room(self) -> Option<HeldEventsFile> {
        let file = self.file.into_file()?;
        let settled = RowSet::from_ranges(self.settled.iter().map(|[start, end]| *start..*end));
        let is_within = settled.ranges().last().is_none_or(|last| last.end <= file.rows);
        let oldest = self.oldest.parse().ok()?;
        is_within.then_some(HeldEventsFile { file, oldest, persons: self.persons, settled })
    }
}
