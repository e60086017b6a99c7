//! Settings of the webhook, from `POST /_sandbox/heap/webhook`: target, page format, and faults of deliveries.

use std::time::Duration;

use serde::Deserialize;

use super::members::SyncBasis;
use super::sign::TimestampUnit;

/// Timestamp of a page that is sent again. No document settles it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RetryTimestamp {
    /// The time of the attempt; the page is signed again.
    #[default]
    Fresh,
    /// The time of the first attempt.
    First,
}

/// Only `url` and `secret` are required. Shares of pages are from 0.0 to 1.0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebhookSettings {
    pub(super) url: String,
    pub(super) secret: String,
    /// Users in a page.
    pub(super) page_len: usize,
    /// Whether entered and left users share pages; otherwise each list has its own pages.
    pub(super) both_in_one_page: bool,
    /// Whether a segment without changes sends an empty page.
    pub(super) empty: bool,
    /// Baseline of the delta.
    pub(super) basis: SyncBasis,
    pub(super) timestamps: TimestampUnit,
    /// Age of timestamps in seconds; a negative age is in the future.
    pub(super) age_seconds: i64,
    pub(super) retry_timestamps: RetryTimestamp,
    /// Whether the body is under the key `heap`, as LaunchDarkly's gateway sends it.
    pub(super) wrapped: bool,
    pub(super) id_token: Option<String>,
    /// Whether pages are sent in random order.
    pub(super) shuffle: bool,
    /// Numbers of pages that no sync sends.
    pub(super) lose: Vec<usize>,
    /// Share of pages that are delivered twice.
    pub(super) duplicates: f64,
    /// Share of pages that the next sync delivers again.
    pub(super) late_duplicates: f64,
    /// Share of pages with an additional forged page, which the receiver must reject.
    pub(super) bad_signatures: f64,
    /// Share of pages with an additional replay: correctly signed, an hour old.
    pub(super) old_timestamps: f64,
    /// Attempts before a page is given up.
    pub(super) attempts: u32,
    /// Milliseconds before the second attempt; each further wait doubles.
    pub(super) first_wait: u64,
    pub(super) longest_wait: u64,
    /// Milliseconds to wait for a response.
    pub(super) timeout: u64,
    /// Concurrent deliveries.
    pub(super) at_once: usize,
    pub(super) seed: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: String::new(),
            page_len: 1000,
            both_in_one_page: false,
            empty: false,
            basis: SyncBasis::default(),
            timestamps: TimestampUnit::default(),
            age_seconds: 0,
            retry_timestamps: RetryTimestamp::default(),
            wrapped: false,
            id_token: None,
            shuffle: false,
            lose: Vec::new(),
            duplicates: 0.0,
            late_duplicates: 0.0,
            bad_signatures: 0.0,
            old_timestamps: 0.0,
            attempts: 10,
            first_wait: 100,
            longest_wait: 5_000,
            timeout: 30_000,
            at_once: 1,
            seed: 0,
        }
    }
}

impl WebhookSettings {
    /// The wait after this many attempts.
    pub(super) fn wait(&self, attempts: u32) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << (attempts.saturating_sub(1)).min(32));
        Duration::from_millis(doubled.min(self.longest_wait))
    }

    /// The time that a delivery claims to be from.
    pub(super) fn timestamp(&self, now: Duration) -> Duration {
        let age = Duration::from_secs(self.age_seconds.unsigned_abs());
        if self.age_seconds < 0 { now + age } else { now.saturating_sub(age) }
    }
}
