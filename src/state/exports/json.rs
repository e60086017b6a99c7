//! The JSON form of an export's progress.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DayProgress, ExportProgress, HeldEventsFile, PartialFile};
use crate::model::{Day, RowSet, Timestamp, timestamp_text};
use crate::state::format_number;
use crate::state::immutable_file::ImmutableFileJson;

#[derive(Serialize, Deserialize)]
pub(super) struct ExportProgressJson {
    format: u64,
    version: u64,
    written_at: Option<String>,
    fully_listed_at: Option<String>,
    days: BTreeMap<String, DayProgressJson>,
    parts: BTreeMap<String, PartialFileJson>,
    held: Vec<HeldEventsJson>,
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
    truncated_since: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct HeldEventsJson {
    file: ImmutableFileJson,
    oldest: String,
    awaiting_user: u64,
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
            let truncated_since = part.truncated_since.map(timestamp_text);
            (path.clone(), PartialFileJson { print: hex(part.print), offset: part.offset, truncated_since })
        };
        let file = |file: &HeldEventsFile| HeldEventsJson {
            file: ImmutableFileJson::from_file(&file.file),
            oldest: timestamp_text(file.oldest),
            awaiting_user: file.awaiting_user,
            settled: file.settled.ranges().iter().map(|range| [range.start, range.end]).collect(),
        };
        Self {
            format: format_number::SUPPORTED,
            version: record.number,
            written_at: record.written_at.map(timestamp_text),
            fully_listed_at: record.fully_listed_at.map(timestamp_text),
            days: record.days.iter().map(day).collect(),
            parts: record.parts.iter().map(part).collect(),
            held: record.held.iter().map(file).collect(),
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
                    truncated_since: time(shape.truncated_since)?,
                },
            ))
        };
        Some(ExportProgress {
            number: self.version,
            written_at: time(self.written_at)?,
            fully_listed_at: time(self.fully_listed_at)?,
            days: self.days.into_iter().map(day).collect::<Option<_>>()?,
            parts: self.parts.into_iter().map(part).collect::<Option<_>>()?,
            held: self.held.into_iter().map(HeldEventsJson::into_held).collect::<Option<_>>()?,
            counts: self.counts,
            unknown_types: self.unknown_types,
        })
    }
}

impl HeldEventsJson {
    fn into_held(self) -> Option<HeldEventsFile> {
        let file = self.file.into_file()?;
        let settled = RowSet::from_ranges(self.settled.iter().map(|[start, end]| *start..*end));
        let is_within = settled.ranges().last().is_none_or(|last| last.end <= file.rows);
        let oldest = self.oldest.parse().ok()?;
        is_within.then_some(HeldEventsFile { file, oldest, awaiting_user: self.awaiting_user, settled })
    }
}
