//! Counters of webhook deliveries.

use serde::Serialize;

use crate::client::ResponseCounters;

/// Counters of one sync, or of all.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct DeliveryCounters {
    /// Pages to deliver.
    pub(super) pages: u64,
    /// Users in `add` and in `remove` of these pages.
    pub(super) add: u64,
    pub(super) remove: u64,
    /// Requests with any outcome.
    pub(super) sent: u64,
    /// Pages that got 200.
    pub(super) acknowledged: u64,
    /// Requests beyond the first for a page.
    pub(super) retried: u64,
    /// Pages without a 200 after all attempts.
    pub(super) given_up: u64,
    /// Pages that the settings lose on purpose.
    pub(super) lost: u64,
    /// Duplicate deliveries of a page.
    pub(super) duplicates: u64,
    /// Forged deliveries, and those that got 2xx.
    pub(super) forged: u64,
    pub(super) forged_accepted: u64,
    /// Deliveries with an old timestamp.
    pub(super) old: u64,
    #[serde(flatten)]
    pub(super) responses: ResponseCounters,
}
