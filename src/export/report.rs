//! The report of an export run, as values that `cli` renders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::ExportStop;
use crate::config;
use crate::model::{ConnectionName, ExportId};
use crate::state::ClosedFile;

/// The events of a run, counted by outcome.
#[derive(Clone, Debug, Default)]
pub struct EventCounts {
    /// Files read to their end.
    pub files: u64,
    /// Events read.
    pub events: u64,
    /// Events that Heap has taken.
    pub sent: u64,
    /// User property updates that Heap accepted.
    pub profiles: u64,
    /// Events that are not wanted, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Events, and files, that could not be used, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events that wait for their person since this run.
    pub held: u64,
    /// Incomplete files; the next run reads their rest.
    pub cut: u64,
    /// Files that the store did not give, in words.
    pub unread: Vec<String>,
    /// Unknown event types with their counts.
    pub unknown_types: BTreeMap<String, u64>,
    /// What Heap answered, in a word for each request.
    pub answers: BTreeMap<&'static str, u64>,
}

/// The number of unknown event types that are counted by name. Braze has about a hundred types.
pub(super) const TYPES_LEN_MAX: usize = 1_000;

impl EventCounts {
    pub(super) fn ignored(&mut self, reason: &str) {
        match self.ignored.get_mut(reason) {
            Some(number) => *number += 1,
            None => drop(self.ignored.insert(reason.to_owned(), 1)),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.held += other.held;
        for (reason, number) in other.ignored {
            *self.ignored.entry(reason).or_default() += number;
        }
        for (of, number) in other.unknown_types {
            if self.unknown_types.contains_key(&of) || self.unknown_types.len() < TYPES_LEN_MAX {
                *self.unknown_types.entry(of).or_default() += number;
            }
        }
    }

    /// Requests, with and without an answer.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.answers.values().sum()
    }

    /// How many could not be used.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// The report of an export run.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// Which.
    pub id: ExportId,
    /// Its source, as the config has it.
    pub source: String,
    /// Where it sends.
    pub to: ConnectionName,
    /// What became of events.
    pub tally: EventCounts,
    /// Events that wait now, for their person or for Heap's limit.
    pub waiting: u64,
    /// Files in the source that are no Avro files by their names.
    pub others: u64,
    /// The list of what could not be used.
    pub rejects_file: Option<PathBuf>,
    /// Files of the inbox that were used.
    pub used: Vec<ClosedFile>,
    /// When more of what waits may go, if that is what it waits for.
    pub next: Option<Duration>,
    /// Why it stopped early, if it did.
    pub halt: Option<ExportStop>,
}

impl ExportReport {
    /// A report of nothing yet.
    #[must_use]
    pub fn new(export: &config::ExportConfig) -> Self {
        Self {
            id: export.id.clone(),
            source: export.source.name(),
            to: export.to.clone(),
            tally: EventCounts::default(),
            waiting: 0,
            others: 0,
            rejects_file: None,
            used: Vec::new(),
            next: None,
            halt: None,
        }
    }

    /// Whether nothing stopped it and the source gave all that it has.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.halt.is_none() && self.tally.unread.is_empty()
    }

    /// Whether Heap has taken anything.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.tally.sent + self.tally.profiles > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_types_are_counted_by_name_up_to_a_limit() {
        let of = |range: std::ops::Range<usize>| EventCounts {
            unknown_types: range.map(|n| (format!("t{n}"), 1)).collect(),
            ..EventCounts::default()
        };
        let mut tally = of(0..1);
        tally.add(of(0..TYPES_LEN_MAX));
        tally.add(of(0..2 * TYPES_LEN_MAX));
        assert_eq!((tally.unknown_types.len(), tally.unknown_types["t0"]), (TYPES_LEN_MAX, 3));
    }
}
