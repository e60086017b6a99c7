//! Where deliveries go, and what becomes of them on the way: the settings of `POST /_sandbox/heap/webhook`.

use std::time::Duration;

use serde::Deserialize;

use super::members::Basis;
use super::sign::Unit;

/// Which timestamp a page carries when it comes again. No document says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Retry {
    /// Its own time; the page is signed anew.
    #[default]
    Fresh,
    /// That of the first attempt.
    First,
}

/// All but `url` and `secret` may be left out. Shares are of pages, 0.0 to 1.0.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Webhook {
    pub(super) url: String,
    pub(super) secret: String,
    /// Identifiers in a page.
    pub(super) page_len: usize,
    /// Who entered and who left stand in the same pages; otherwise each list has its own.
    pub(super) both_in_one_page: bool,
    /// A page is sent for a segment in which nothing changed.
    pub(super) empty: bool,
    /// What a sync counts from.
    pub(super) basis: Basis,
    pub(super) timestamps: Unit,
    /// Timestamps are so many seconds old; less than 0 puts them into the future.
    pub(super) age_seconds: i64,
    pub(super) retry_timestamps: Retry,
    /// The body stands under `heap`, as LaunchDarkly gets it.
    pub(super) wrapped: bool,
    pub(super) id_token: Option<String>,
    /// Pages come in any order.
    pub(super) shuffle: bool,
    /// Numbers of pages that are never sent, in every sync.
    pub(super) lose: Vec<usize>,
    /// Pages that are delivered twice.
    pub(super) duplicates: f64,
    /// Pages that the next sync delivers once more.
    pub(super) late_duplicates: f64,
    /// Pages beside which somebody else delivers a forged one, which must not be taken.
    pub(super) bad_signatures: f64,
    /// Pages that somebody who has seen them sends again, an hour old and rightly signed.
    pub(super) old_timestamps: f64,
    /// How often a page is sent before it is given up.
    pub(super) attempts: u32,
    /// Milliseconds before the second attempt; each further wait is twice as long.
    pub(super) first_wait: u64,
    pub(super) longest_wait: u64,
    /// Milliseconds after which an answer is no longer waited for.
    pub(super) timeout: u64,
    /// Deliveries at once.
    pub(super) at_once: usize,
    pub(super) seed: u64,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: String::new(),
            page_len: 1000,
            both_in_one_page: false,
            empty: false,
            basis: Basis::default(),
            timestamps: Unit::default(),
            age_seconds: 0,
            retry_timestamps: Retry::default(),
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

impl Webhook {
    /// The wait after this many attempts.
    pub(super) fn wait(&self, attempts: u32) -> Duration {
        let doubled = self.first_wait.saturating_mul(1 << (attempts.saturating_sub(1)).min(32));
        Duration::from_millis(doubled.min(self.longest_wait))
    }

    /// The time that a delivery says it is from.
    pub(super) fn stamp(&self, now: Duration) -> Duration {
        let age = Duration::from_secs(self.age_seconds.unsigned_abs());
        if self.age_seconds < 0 { now + age } else { now.saturating_sub(age) }
    }
}
