//! What no document settles about Braze's REST side, what it takes for its key, and its limits.

use std::time::Duration;

use serde::Serialize;

/// Endpoints that share a limit (Braze, "API limits").
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
    /// Sends to everybody: 250 a minute. The further limit for one audience is not played.
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

/// How Braze's REST side behaves.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// The key that it takes, with every permission. The admin API makes others.
    pub api_key: String,
    /// Other limits than the documented ones.
    pub limits: Vec<(RestGroup, u64, Duration)>,
    /// Whether `/users/track` tells of its limit as it does to customers billed by active users: the reset
    /// in seconds, and on a 429 `x-ratelimit-retry-after` in place of the three headers.
    pub track_in_seconds: bool,
    /// Whether membership of cohorts moves along when a profile melts into another. Braze's list of what is
    /// merged does not have it.
    pub merge_keeps_membership: bool,
    /// The status for a segment, campaign or Canvas that nobody has. 400 was seen for an id of another shape.
    pub unknown_id: u16,
    /// How long an export of a segment takes.
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
