//! When the next run is due, from the config and the recorded outcomes. Pure: it reads no clock. The process that runs
//! `watch` has the exact times; another process only has the state.

use super::exports;
use super::schedule;
use crate::config::{
    CohortConfig, Config, ExportConfig, ExportSource, ScheduleConfig, SourceConfig, StorageLocation,
};
use crate::model::{CohortId, Timestamp};
use crate::state::{Holder, LastOutcome, LastOutcomes, OutcomeResult};

/// The next run of a cohort or an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRun {
    /// `watch` does not run, so a command starts it.
    OnCommand,
    /// `watch` runs it.
    Watched {
        /// At this time at the latest; `None`: the schedule has no further time.
        at: Option<Timestamp>,
        /// Also when its source changes or a delivery arrives.
        on_change: bool,
    },
}

/// What is known of the runs of `watch`.
#[derive(Clone, Copy, Debug)]
pub struct WatchSchedule<'a> {
    /// The config.
    pub config: &'a Config,
    /// The last outcomes.
    pub outcomes: &'a LastOutcomes,
    /// The process that holds the state.
    pub holder: Option<&'a Holder>,
    /// The time now.
    pub now: Timestamp,
}

impl WatchSchedule<'_> {
    /// Whether a process runs `watch`: the holder of the state has recorded an outcome of it. Only the holder writes.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.holder.is_some_and(|holder| {
            self.outcomes.all().any(|last| last.command == "watch" && last.at.0 >= holder.since)
        })
    }

    /// The next run of a cohort.
    #[must_use]
    pub fn next_of_cohort(&self, cohort: &CohortConfig) -> NextRun {
        let schedule = cohort.schedule.as_ref().unwrap_or(&self.config.watch.schedule);
        let on_change =
            cohort.source.watched_path().is_some() || matches!(cohort.source, SourceConfig::HeapSegment(_));
        self.next(schedule, self.outcomes.cohort(&cohort.id), on_change)
    }

    /// The next run of a cohort that is not declared: it is emptied, or orphaned.
    #[must_use]
    pub fn next_of_removed(&self, id: &CohortId) -> Option<NextRun> {
        let is_removed = self.config.removed.contains(id);
        is_removed.then(|| self.next(&self.config.watch.schedule, self.outcomes.cohort(id), false))
    }

    /// The next run of an export.
    #[must_use]
    pub fn next_of_export(&self, export: &ExportConfig) -> NextRun {
        let schedule = exports::schedule_of(Some(export), self.config.watch.poll);
        let on_change = match &export.source {
            ExportSource::Http(_) => true,
            ExportSource::Storage(source) => matches!(source.location, StorageLocation::Folder { .. }),
        };
        self.next(&schedule, self.outcomes.export(&export.id), on_change)
    }

    fn next(&self, schedule: &ScheduleConfig, last: Option<&LastOutcome>, on_change: bool) -> NextRun {
        if !self.is_watched() {
            return NextRun::OnCommand;
        }
        let after = match schedule {
            ScheduleConfig::Every(_) => last.map_or(self.now, |last| last.at.0),
            ScheduleConfig::Cron { .. } => self.now,
        };
        let scheduled = schedule::next(schedule, after);
        let failed = last.filter(|last| last.result == OutcomeResult::Failed);
        let retry = failed.and_then(|last| last.at.0.checked_add(self.config.watch.longest_wait).ok());
        NextRun::Watched { at: [scheduled, retry].into_iter().flatten().min(), on_change }
    }
}
