//! What a long run tells whoever watches it. The engine calls; only `cli` shows.

use super::CohortId;

/// The two parts of a run that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the source; the unit is rows, and the end is not known.
    Reading,
    /// Sending changes; the unit is members, out of a known total.
    Sending {
        /// How many members will be sent.
        total: u64,
    },
}

/// Watches a run. Calls are cheap and come often; an implementation that draws does so seldom.
pub trait Progress: Send + Sync {
    /// `done` units of this stage of this cohort are behind us.
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64);
    /// The cohort is finished, well or not.
    fn finished(&self, cohort: &CohortId);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn at(&self, _cohort: &CohortId, _stage: Stage, _done: u64) {}
    fn finished(&self, _cohort: &CohortId) {}
}
