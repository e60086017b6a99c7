//! Records one run of a command: its journal, with the outcome of each cohort, and the last outcomes for `status`.
//!
//! # Expected flow
//! [`RunRecorder::begin`] comes before anything that can fail. Then [`RunRecorder::end`] or [`RunRecorder::fail`]; without
//! either, `history` shows the run as interrupted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::end_of_run::tidy_state;
use crate::config::Config;
use crate::model::{Clock, CohortId, ExportId, RunId, Timestamp};
use crate::state::{Journal, JournalEvent, OutcomeRun, RunOrigin, RunOutcome, StateError, StateWriter};

/// The record of a run.
pub struct RunRecorder {
    state: Arc<StateWriter>,
    journal: Arc<Journal>,
    run: RunId,
    command: String,
    clock: Clock,
    has_ended: AtomicBool,
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct RecordedEnd {
    /// The result, as a stable code.
    pub result: String,
    /// Requests sent.
    pub requests: u64,
    /// The outcomes of cohorts.
    pub cohorts: Vec<(CohortId, RunOutcome)>,
    /// The outcomes of exports.
    pub exports: Vec<(ExportId, RunOutcome)>,
}

impl RunRecorder {
    /// Begins the journal of a run.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn begin(
        state: &Arc<StateWriter>,
        run: &RunId,
        clock: Clock,
        config: &Config,
        origin: RunOrigin,
    ) -> Result<Self, StateError> {
        let (now, syncline) = (clock.now(), env!("CARGO_PKG_VERSION").to_owned());
        let (journal, command) = (Arc::new(state.journal(run, now)?), origin.command.clone());
        let began = JournalEvent::Began { syncline, config: config.digest.clone(), origin: Some(origin) };
        journal.append(now, began)?;
        let (state, run) = (Arc::clone(state), run.clone());
        Ok(Self { state, journal, run, command, clock, has_ended: AtomicBool::new(false) })
    }

    /// Records a run that failed before it began. It does not tidy the state, because its config may be unknown.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn record_failed_start(
        state: &Arc<StateWriter>,
        run: &RunId,
        clock: Clock,
        config: &Config,
        (origin, error): (RunOrigin, &str),
    ) -> Result<(), StateError> {
        let recorder = Self::begin(state, run, clock, config, origin)?;
        recorder.note_error(error);
        let now = clock.now();
        recorder.journal_end(now, "failed", 0)?;
        state.record_failed_run(recorder.outcome_run(now), error)
    }

    /// The journal, for the parts of the run.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Records an error of the run that concerns no cohort and no export. A failure to record it is logged.
    pub fn note_error(&self, error: &str) {
        let failed = JournalEvent::Failed { error: error.to_owned() };
        if let Err(error) = self.journal.append(self.clock.now(), failed) {
            tracing::warn!("an error could not be written to the journal: {error}");
        }
    }

    /// Ends the run: records the outcomes, and tidies the state.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn end(&self, end: &RecordedEnd, config: &Config) -> Result<(), StateError> {
        let now = self.clock.now();
        let events = end.cohorts.iter().filter_map(|(cohort, outcome)| outcome.event(cohort));
        let journaled = events
            .into_iter()
            .try_for_each(|event| self.journal.append(now, event))
            .and_then(|()| self.journal_end(now, &end.result, end.requests));
        let recorded = self.state.record_outcomes(self.outcome_run(now), &end.cohorts, &end.exports);
        self.finish(recorded, config);
        journaled
    }

    /// Ends a run that failed as a whole. A run that has ended already is not changed. A failure to record it is logged.
    pub fn fail(&self, error: &str, config: &Config) {
        if self.has_ended.load(Ordering::SeqCst) {
            return;
        }
        self.note_error(error);
        let now = self.clock.now();
        let journaled = self.journal_end(now, "failed", 0);
        let recorded = self.state.record_failed_run(self.outcome_run(now), error);
        self.finish(journaled.and(recorded), config);
    }

    /// Ends the journal of a run that is stopped before it sends anything, from another thread.
    pub fn early_stop(&self) -> impl FnOnce() + Send + 'static {
        let (journal, clock) = (Arc::clone(&self.journal), self.clock);
        move || {
            let ended = JournalEvent::Ended { result: "stopped".to_owned(), requests: 0 };
            if let Err(error) = journal.append(clock.now(), ended).and_then(|()| journal.sync()) {
                tracing::debug!("the stop could not be written to the journal: {error}");
            }
        }
    }

    /// Ends a run that the operator stopped before it could report its cohorts. A failure to record it is logged.
    pub fn stop(&self, config: &Config) {
        let stopped = RecordedEnd { result: "stopped".to_owned(), ..RecordedEnd::default() };
        if let Err(error) = self.end(&stopped, config) {
            tracing::warn!("the end of the run could not be written to the journal: {error}");
        }
    }

    fn outcome_run(&self, at: Timestamp) -> OutcomeRun<'_> {
        OutcomeRun { run: &self.run, command: &self.command, at }
    }

    fn journal_end(&self, now: Timestamp, result: &str, requests: u64) -> Result<(), StateError> {
        self.has_ended.store(true, Ordering::SeqCst);
        self.journal.append(now, JournalEvent::Ended { result: result.to_owned(), requests })?;
        self.journal.sync()
    }

    fn finish(&self, recorded: Result<(), StateError>, config: &Config) {
        if let Err(error) = recorded {
            tracing::warn!("the outcome of the run could not be recorded: {error}");
        }
        tidy_state(&self.state, config, self.clock);
    }
}
