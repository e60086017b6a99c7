//! Housekeeping of the state at the end of a run: prunes the journal and the rejects.

use crate::config::Config;
use crate::model::Clock;
use crate::state::{LogRetention, StateWriter};

/// How long the state keeps the journal and the rejects.
#[must_use]
pub fn log_retention(config: &Config) -> LogRetention {
    let exports = config.exports.iter().map(|export| (export.id.clone(), export.rejects_kept));
    LogRetention { logs: config.retention, exports: exports.collect() }
}

/// Tidies the state. A failure is logged and does not change the result of the run.
pub(super) fn tidy_state(state: &StateWriter, config: &Config, clock: Clock) {
    state.note_heads();
    if let Err(error) = state.tidy_logs(&log_retention(config), clock.now()) {
        tracing::warn!("journal and rejects could not be merged or pruned: {error}");
    }
}
