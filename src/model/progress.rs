//! Progress reporting of a long run. The engine calls it; only `cli` displays it.

use super::{CohortId, ExportId};

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

/// How much of an export is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportedAmount {
    /// Events that Heap has accepted.
    pub events: u64,
    /// Bytes of the input with all events sent, held or rejected.
    pub bytes: u64,
    /// Bytes of the input that was found so far. 0 without files: held events and rejects.
    pub bytes_found: u64,
}

/// Receives the progress of a run. Calls are frequent and must be cheap.
pub trait Progress: Send + Sync {
    /// `done` units of this stage of this cohort are done.
    fn at(&self, cohort: &CohortId, stage: Stage, done: u64);
    /// The cohort is finished, successfully or not.
    fn finished(&self, cohort: &CohortId);
    /// So much of an export is done.
    fn exporting(&self, _export: &ExportId, _done: ExportedAmount) {}
    /// The export has ended, successfully or not.
    fn export_finished(&self, _export: &ExportId) {}
}

/// Ignores all progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn at(&self, _cohort: &CohortId, _stage: Stage, _done: u64) {}
    fn finished(&self, _cohort: &CohortId) {}
}
