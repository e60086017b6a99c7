//! Options of Braze's REST API: undocumented behavior, the accepted key, and rate limits.

use std::time::Duration;

use serde::Serialize;

/// Endpoints that share a rate limit (Braze, "API limits").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestGroup {
    /// Lists, details, series, sends to recipients, exports of segments: 250,000 an hour.
    Shared,
    /// `/users/track`: 3,000 in 3 seconds.
    Track,
    /// `/users/export/ids`: 250 a minute.
    ExportIds,
    /// Aliases, identifying, merging, deleting: 20,000 a minute.
    Identity,
    /// Broadcasts: 250 a minute. The further limit per audience is not simulated.
    Broadcast,
}

impl RestGroup {
    /// Every group with its limit.
    pub(super) const ALL: [(Self, u64, Duration); 5] = [
        (Self::Shared, 250_000, Duration::from_secs(3600)),
        (Self::Track, 3_000, Duration::from_secs(3)),
        (Self::ExportIds, 250, Duration::from_secs(60)),
        (Self::Identity, 20_000, Duration::from_secs(60)),
        (Self::Broadcast, 250, Duration::from_secs(60)),
    ];
}

/// How Braze's REST API behaves.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// The accepted key, with every permission. The admin API creates others.
    pub api_key: String,
    /// Rate limits that replace the documented ones.
    pub limits: Vec<(RestGroup, u64, Duration)>,
    /// Whether `/users/track` reports its limit as for customers billed by active users: the reset in seconds,
    /// and on a 429 `x-ratelimit-retry-after` instead of the three headers.
    pub track_in_seconds: bool,
    /// Whether the remaining profile of a merge gets the cohort membership of the merged one. Braze's list of
    /// merged data does not mention it.
    pub merge_keeps_membership: bool,
    /// The status for an unknown segment, campaign or Canvas. 400 was seen for an id of another form.
    pub unknown_id: u16,
    /// Duration of a segment export.
    pub export_takes: Duration,
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            api_key: "sandbox-rest-api-key".to_owned(),
            limits: Vec::new(),
            track_in_seconds: false,
            merge_keeps_membership: false,
            unknown_id: 400,
            export_takes: Duration::ZERO,
        }
    }
}
