//! Segments that cohorts are used by, as the rest of the program knows them.

use super::server::ScheduleConfig;
use crate::model::{CohortId, ConnectionName, Percentage, SegmentId};

/// A Braze segment that is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// Its stable id.
    pub id: SegmentId,
    /// The Braze connection that it is in.
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
    /// A tag that they must have.
    pub tag: Option<String>,
    /// How large it may be.
    pub size: SizeLimits,
    /// External ids of people who are to be known to Braze.
    pub canaries: Vec<String>,
    /// When `watch` checks it, if not when it looks at everything.
    pub check: Option<ScheduleConfig>,
    /// Where the config declares it, for messages: file and line.
    pub declared_at: String,
}

impl SegmentConfig {
    /// The cohorts that its size is made of.
    pub fn cohorts(&self) -> impl Iterator<Item = &CohortId> {
        self.include.iter().chain(&self.exclude)
    }
}

/// Something in Braze, as the config names it.
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
    /// Whether sizes are compared at all.
    pub compare: bool,
    /// The smallest share of the expected people.
    pub min: Percentage,
    /// The largest share of the expected people.
    pub max: Percentage,
    /// So many people more or less never matter.
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
