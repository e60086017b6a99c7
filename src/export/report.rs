//! The report of an export run, as values that `cli` renders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::ExportStop;
use crate::config;
use crate::model::{ConnectionName, ExportId};
use crate::state::{ClosedFile, JournalEvent, RunFailure, RunOutcome};

/// The events of a run, counted by outcome.
#[derive(Clone, Debug, Default)]
pub struct EventCounts {
    /// Files read to their end.
    pub files: u64,
    /// Events read.
    pub events: u64,
    /// Events that Heap accepted.
    pub sent: u64,
    /// User property updates that Heap accepted.
    pub profiles: u64,
    /// Ignored events, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// Rejected events and files, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Events that this run holds until their user is identified.
    pub held: u64,
    /// Incomplete files; the next run reads their rest.
    pub cut: u64,
    /// Files that the store could not read, as messages.
    pub unread: Vec<String>,
    /// Unknown event types with their counts.
    pub unknown_types: BTreeMap<String, u64>,
    /// Number of requests by outcome code.
    pub requests_by_outcome: BTreeMap<&'static str, u64>,
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

    /// Requests, with and without a response.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests_by_outcome.values().sum()
    }

    /// The number of rejects.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.values().sum()
    }
}

/// The report of an export run.
#[derive(Clone, Debug)]
pub struct ExportReport {
    /// The id of the export.
    pub id: ExportId,
    /// Its source, as in the config.
    pub source: String,
    /// The Heap connection.
    pub to: ConnectionName,
    /// The counts of events by outcome.
    pub tally: EventCounts,
    /// Held events, which wait for their user or for Heap's rate limit.
    pub waiting: u64,
    /// Files in the source without the extension of Avro files.
    pub others: u64,
    /// The file with the rejects.
    pub rejects_file: Option<PathBuf>,
    /// Processed files of the inbox.
    pub used: Vec<ClosedFile>,
    /// Time until the rate limit allows more held events.
    pub next: Option<Duration>,
    /// The reason for an early stop.
    pub stop_reason: Option<ExportStop>,
}

impl ExportReport {
    /// An empty report.
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
            stop_reason: None,
        }
    }

    /// Whether the run was not stopped and read the whole source.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.stop_reason.is_none() && self.tally.unread.is_empty()
    }

    /// The journal's event of this report.
    #[must_use]
    pub fn exported(&self) -> JournalEvent {
        JournalEvent::Exported {
            export: self.id.to_string(),
            files: self.tally.files,
            events: self.tally.events,
            sent: self.tally.sent,
            rejected: self.tally.rejected(),
            waiting: self.waiting,
            error: self.failure(),
            stopped: self.is_stopped(),
        }
    }

    /// Why the run is not complete.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let stop = self.stop_reason.as_ref().map(ToString::to_string);
        stop.or_else(|| self.tally.unread.first().cloned())
    }

    /// The outcome of the run.
    #[must_use]
    pub fn run_outcome(&self) -> RunOutcome {
        let needs_operator = self.stop_reason.as_ref().is_none_or(ExportStop::needs_operator);
        match self.failure() {
            None => RunOutcome::InSync,
            Some(reason) if self.is_stopped() => RunOutcome::Stopped(reason),
            Some(reason) => RunOutcome::Failed(RunFailure { reason, needs_operator }),
        }
    }

    /// Whether the operator stopped the run.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop_reason.as_ref().is_some_and(ExportStop::is_requested)
    }

    /// Whether Heap accepted anything.
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
