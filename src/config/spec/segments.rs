//! The shape of `segments:`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ScheduleSpec;
use crate::config::text::{NonEmpty, Percent, Slug, Text};

/// A Braze segment that cohorts are used by. People make it in Braze's dashboard; `syncline check` says whether it is as this entry has it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SegmentSpec {
    /// The stable id, for commands and reports.
    #[schemars(example = &"win_back")]
    pub(in crate::config) id: Slug,
    /// The Braze connection that it is in.
    #[schemars(example = &"braze")]
    pub(in crate::config) connection: Slug,
    /// The segment in Braze.
    pub(in crate::config) segment: BrazeObjectSpec,
    /// Cohorts whose people are in it: filters `Heap Cohorts includes …`.
    pub(in crate::config) include: NonEmpty<Slug, 50>,
    /// Whether somebody must be in any of the included cohorts, or in all of them.
    #[serde(default)]
    pub(in crate::config) r#match: CombinationSpec,
    /// Cohorts whose people are not in it.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub(in crate::config) exclude: Vec<Slug>,
    /// What is sent to it.
    #[serde(default)]
    pub(in crate::config) used_by: UsedBySpec,
    /// How large it may be, beside what the record says of its cohorts.
    #[serde(default)]
    pub(in crate::config) size: SizeSpec,
    /// External ids of people who are in its cohorts, and of whom Braze is asked whether it knows them: people whom Braze does not know are never in a cohort.
    #[serde(default)]
    #[schemars(example = ["qa-anna", "qa-ben"])]
    pub(in crate::config) canaries: Vec<Text>,
    /// When `syncline watch` checks it, if not as often as it looks at everything.
    pub(in crate::config) check: Option<ScheduleSpec>,
}

/// Something in Braze, by its API identifier or by a name that nothing else of its kind has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum BrazeObjectSpec {
    /// Its API identifier, as its page in Braze's dashboard shows it.
    #[schemars(example = &"3aca937b-9bbc-4e42-9370-05e411967b2b")]
    Id(Text),
    /// Its name in Braze's dashboard.
    #[schemars(example = &"Win back")]
    Name(Text),
}

/// Whether somebody must be in any of the included cohorts, or in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum CombinationSpec {
    /// In at least one.
    #[default]
    Any,
    /// In every one.
    All,
}

/// What is sent to a segment. That it really targets the segment, Braze tells nobody: what is checked is that it is there and running.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct UsedBySpec {
    /// Campaigns that must be running.
    #[serde(skip_serializing)]
    pub(in crate::config) campaigns: Vec<BrazeObjectSpec>,
    /// Canvases that must be running.
    #[serde(skip_serializing)]
    pub(in crate::config) canvases: Vec<BrazeObjectSpec>,
    /// A tag that these campaigns and Canvases must have: of what a person sets in the dashboard, it is what Braze tells of all of them.
    #[schemars(example = &"heap")]
    pub(in crate::config) tag: Option<Text>,
}

/// How large a segment may be, beside what the record says of its cohorts. Braze estimates sizes, and ignores people whom it does not know.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct SizeSpec {
    /// Whether sizes are compared at all. A segment needs analytics tracking for it.
    pub(in crate::config) compare: bool,
    /// The smallest share of the expected people. Less than that, and the segment has another filter, or Braze does not know the people.
    pub(in crate::config) min: Percent,
    /// The largest share of the expected people. More than that, and the segment has another filter.
    pub(in crate::config) max: Percent,
    /// So many people more or less never matter.
    pub(in crate::config) slack: u64,
}

impl Default for SizeSpec {
    fn default() -> Self {
        let size = crate::config::segment::SizeLimits::default();
        Self { compare: size.compare, min: Percent(size.min), max: Percent(size.max), slack: size.slack }
    }
}
