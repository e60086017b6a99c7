//! The shape of `segments:`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ScheduleSpec;
use crate::config::text::{NonEmpty, Percent, Slug, Text};

/// A Braze segment that uses cohorts. You create it in Braze's dashboard; `syncline check` compares it with this entry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SegmentSpec {
    /// Stable id, used in commands and reports.
    #[schemars(example = &"win_back")]
    pub(in crate::config) id: Slug,
    /// Braze connection that contains the segment.
    #[schemars(example = &"braze")]
    pub(in crate::config) connection: Slug,
    /// The segment in Braze, by name or API identifier.
    #[schemars(example = serde_json::json!({ "name": "Win back" }))]
    pub(in crate::config) segment: BrazeObjectSpec,
    /// Cohorts that the segment includes: filters `Heap Cohorts`, includes …, or `Custom Attributes`, includes value …, as the cohort is delivered.
    #[schemars(example = serde_json::json!(["abandoned_checkout"]))]
    pub(in crate::config) include: NonEmpty<Slug, 50>,
    /// Whether users must be in `any` or in `all` of the included cohorts.
    #[serde(default)]
    pub(in crate::config) r#match: CombinationSpec,
    /// Cohorts that the segment excludes.
    #[serde(default)]
    #[schemars(example = ["free_customers"])]
    #[schemars(length(max = 50))]
    pub(in crate::config) exclude: Vec<Slug>,
    /// Campaigns and Canvases that target the segment.
    #[schemars(example = serde_json::json!({ "campaigns": [{ "name": "Win back" }] }))]
    #[serde(default)]
    pub(in crate::config) used_by: UsedBySpec,
    /// Allowed size of the segment, relative to its cohorts.
    #[serde(default)]
    pub(in crate::config) size: SizeSpec,
    /// External ids of test users in the cohorts. The check asks Braze whether these users exist, because Braze silently drops unknown users.
    #[serde(default)]
    #[schemars(example = ["qa-anna", "qa-ben"])]
    pub(in crate::config) canaries: Vec<Text>,
    /// Schedule of checks in `syncline watch`. Default: the schedule of `watch`.
    #[schemars(example = serde_json::json!({ "every": "6h" }))]
    pub(in crate::config) check: Option<ScheduleSpec>,
}

/// A segment, campaign or Canvas in Braze, by API identifier or unique name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum BrazeObjectSpec {
    /// API identifier, shown on its page in Braze's dashboard.
    #[schemars(example = &"3aca937b-9bbc-4e42-9370-05e411967b2b")]
    Id(Text),
    /// Name in Braze's dashboard.
    #[schemars(example = &"Win back")]
    Name(Text),
}

/// Whether users must be in `any` or in `all` of the included cohorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum CombinationSpec {
    /// In at least one of them.
    #[default]
    Any,
    /// In all of them.
    All,
}

/// Campaigns and Canvases that target a segment. The check verifies that they exist and run. Braze's API does not expose which segments they target.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct UsedBySpec {
    /// Campaigns that must be running.
    #[schemars(example = serde_json::json!([{ "name": "Win back" }]))]
    #[serde(skip_serializing)]
    pub(in crate::config) campaigns: Vec<BrazeObjectSpec>,
    /// Canvases that must be running.
    #[schemars(example = serde_json::json!([{ "id": "3aca937b-9bbc-4e42-9370-05e411967b2b" }]))]
    #[serde(skip_serializing)]
    pub(in crate::config) canvases: Vec<BrazeObjectSpec>,
    /// Tag that these campaigns and Canvases must have. Tags are set in the dashboard and visible in Braze's API.
    #[schemars(example = &"heap")]
    pub(in crate::config) tag: Option<Text>,
}

/// Allowed size of a segment, relative to the recorded members of its cohorts. Braze estimates sizes and does not count unknown users.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct SizeSpec {
    /// Whether to compare sizes. The segment needs analytics tracking.
    pub(in crate::config) compare: bool,
    /// Smallest share of the expected members. A smaller segment probably has another filter, or Braze does not know the users.
    pub(in crate::config) min: Percent,
    /// Largest share of the expected members. A larger segment probably has another filter.
    pub(in crate::config) max: Percent,
    /// Tolerance: a difference of at most this many users is ignored.
    pub(in crate::config) slack: u64,
}

impl Default for SizeSpec {
    fn default() -> Self {
        let size = crate::config::segment::SizeLimits::default();
        Self { compare: size.compare, min: Percent(size.min), max: Percent(size.max), slack: size.slack }
    }
}
