//! What was sent and what came of it, counted.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of one run, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Pages that there were to deliver.
    pub(super) pages: u64,
    /// Who entered and left by them.
    pub(super) add: u64,
    pub(super) remove: u64,
    /// Requests, whatever came of them.
    pub(super) sent: u64,
    /// Pages that were answered with 200.
    pub(super) acknowledged: u64,
    /// Requests beyond the first for a page.
    pub(super) retried: u64,
    /// Pages without a 200 after all attempts.
    pub(super) given_up: u64,
    /// Pages that were never sent, as the settings say.
    pub(super) lost: u64,
    /// Deliveries of a page beyond the one that is due.
    pub(super) duplicates: u64,
    /// Forged deliveries, and those of them that were answered as if they were good.
    pub(super) forged: u64,
    pub(super) forged_accepted: u64,
    /// Deliveries with an old timestamp.
    pub(super) old: u64,
    /// Answers by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, and why the last of them had none.
    pub(super) unanswered: u64,
    pub(super) last_error: Option<String>,
}
