//! The shape of `guard:`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::text::Percent;

/// Limits on what one run may change. If a limit is exceeded, the guard blocks the removals or the additions.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct GuardSpec {
    /// Largest share of the members that may leave in one run, at most 100%.
    pub(in crate::config) max_removed: Percent,
    /// Largest share of new members in one run, relative to the current members.
    pub(in crate::config) max_added: Percent,
    /// Largest number of members that may leave in one run.
    #[schemars(example = 5000)]
    pub(in crate::config) max_removed_count: Option<u64>,
    /// Largest number of members that may enter in one run.
    #[schemars(example = 5000)]
    pub(in crate::config) max_added_count: Option<u64>,
    /// Number of unreadable rows that does not block removals. The user in an unreadable row may be a member.
    pub(in crate::config) max_unreadable: u64,
    /// Whether an empty source may empty the cohort, or create it empty. The same applies if every row is rejected.
    pub(in crate::config) allow_empty: bool,
    /// Signs of damaged identifiers that are normal in this cohort: `decimal_ids`, `exponent_ids`, `duplicates`. Any other sign blocks all changes.
    #[schemars(example = ["duplicates"])]
    pub(in crate::config) allow: Vec<IdDamage>,
    /// Whether to block all changes if one side (additions or removals) is blocked.
    pub(in crate::config) atomic: bool,
    /// Shares apply only to cohorts with at least this many members.
    pub(in crate::config) from_members: u64,
}

impl Default for GuardSpec {
    fn default() -> Self {
        let limits = crate::model::GuardLimits::default();
        Self {
            max_removed: Percent(limits.removed_share_max),
            max_added: Percent(limits.added_share_max),
            max_removed_count: limits.removed_max,
            max_added_count: limits.added_max,
            max_unreadable: limits.unreadable_max,
            allow_empty: limits.allow_empty,
            allow: Vec::new(),
            atomic: limits.atomic,
            from_members: limits.from_members,
        }
    }
}

/// A sign of damaged identifiers that the guard blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum IdDamage {
    /// More than half of the identifiers end in `.0`, as a data frame writes whole numbers in a column with gaps.
    DecimalIds,
    /// Identifiers are numbers in exponent notation, as a spreadsheet writes long numbers: `1.23457E+11`.
    ExponentIds,
    /// More than 90% of the rows repeat an identifier.
    Duplicates,
}
