//! Progress reporting of a long run. The engine calls it; only `cli` displays it.

use super::CohortId;

/// The stages of a run that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the source. The unit is rows; the total is unknown.
    Reading,
    /// Sending changes. The unit is members.
    Sending {
        /// How many members will be sent.
        total: u64,
    },
}

/// Receives the progress of a run. Calls are frequent and must be cheap.
pub trait Progress: Send + Sync {
    /// `done` units of this stage of this cohort are done.
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64);
    /// The cohort is finished, successfully or not.
    fn finished(&self, cohort: &CohortId);
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn at(&self, _cohort: &CohortId, _stage: Stage, _done: u64) {}
    fn finished(&self, _cohort: &CohortId) {}
}
