//! The JSON form of an export's progress.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DayProgress, ExportProgress, HeldEventsFile, PartialFile};
use crate::model::{Day, Timestamp};
use crate::state::as_text::optional_time;

#[derive(Serialize, Deserialize)]
pub(super) struct ExportProgressJson {
    #[serde(with = "optional_time")]
    written_at: Option<Timestamp>,
    #[serde(with = "optional_time")]
    fully_listed_at: Option<Timestamp>,
    days: BTreeMap<String, DayProgressJson>,
    parts: BTreeMap<String, PartialFile>,
    held: Vec<HeldEventsFile>,
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

fn hex(print: u64) -> String {
    format!("{print:016x}")
}

fn print_of(hex: &str) -> Option<u64> {
    u64::from_str_radix(hex, 16).ok()
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
        Self {
            written_at: record.written_at,
            fully_listed_at: record.fully_listed_at,
            days: record.days.iter().map(day).collect(),
            parts: record.parts.clone(),
            held: record.held.clone(),
            counts: record.counts.clone(),
            unknown_types: record.unknown_types.clone(),
        }
    }

    /// `None`: a value is out of range.
    pub(super) fn into_record(self, number: u64) -> Option<ExportProgress> {
        let day = |(day, shape): (String, DayProgressJson)| {
            let record = match shape {
                DayProgressJson::Open { prints, latest } => DayProgress::Open {
                    prints: prints.iter().map(|print| print_of(print)).collect::<Option<_>>()?,
                    latest: latest.parse().ok()?,
                },
                DayProgressJson::Settled { files, sum, seen_until } => {
                    DayProgress::Settled { files, sum: print_of(&sum)?, seen_until: seen_until.parse().ok()? }
                }
            };
            Some((Day::parse(&day)?, record))
        };
        let is_sound = self.held.iter().all(|held| held.settled.is_within(held.file.rows));
        is_sound.then_some(())?;
        Some(ExportProgress {
            number,
            written_at: self.written_at,
            fully_listed_at: self.fully_listed_at,
            days: self.days.into_iter().map(day).collect::<Option<_>>()?,
            parts: self.parts,
            held: self.held,
            counts: self.counts,
            unknown_types: self.unknown_types,
        })
    }
}
