//! Braze segments to check, typed.

use super::key_lines::KeyLines;
use super::watch::ScheduleConfig;
use crate::model::{CohortId, ConnectionName, Percentage, SegmentId};

/// A Braze segment to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// Its stable id.
    pub id: SegmentId,
    /// Its Braze connection.
    pub connection: ConnectionName,
    /// The segment in Braze.
    pub named: BrazeObject,
    /// Cohorts that it includes.
    pub include: Vec<CohortId>,
    /// Whether users must be in all included cohorts.
    pub all: bool,
    /// Cohorts that it excludes.
    pub exclude: Vec<CohortId>,
    /// Campaigns that must be running.
    pub campaigns: Vec<BrazeObject>,
    /// Canvases that must be running.
    pub canvases: Vec<BrazeObject>,
    /// A tag that these campaigns and Canvases must have.
    pub tag: Option<String>,
    /// Its allowed size.
    pub size: SizeLimits,
    /// External ids that must have a Braze profile.
    pub canaries: Vec<String>,
    /// Schedule in `watch`. Default: the schedule of `watch`.
    pub check: Option<ScheduleConfig>,
    /// File and line of the declaration, for messages.
    pub declared_at: String,
    /// File and line of its keys.
    pub key_lines: KeyLines,
}

impl SegmentConfig {
    /// File and line of a key, or of the declaration without that key.
    #[must_use]
    pub fn line_of(&self, key: &str) -> &str {
        self.key_lines.get(key).unwrap_or(&self.declared_at)
    }

    /// The cohorts that determine its size.
    pub fn cohorts(&self) -> impl Iterator<Item = &CohortId> {
        self.include.iter().chain(&self.exclude)
    }
}

/// A segment, campaign or Canvas, as the config names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrazeObject {
    /// By its API identifier.
    Id(String),
    /// By its name.
    Name(String),
}

/// Allowed size of a segment, relative to the recorded membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeLimits {
    /// Whether sizes are compared.
    pub compare: bool,
    /// Minimum size, as a share of the expected number of users.
    pub min: Percentage,
    /// Maximum size, as a share of the expected number of users.
    pub max: Percentage,
    /// A difference of up to this many users is ignored.
    pub slack: u64,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self {
            compare: true,
            min: Percentage::from_percent(80),
            max: Percentage::from_percent(120),
            slack: 10,
        }
    }
}
