//! Results of segment checks: the evidence with which the next check of a segment is compared.
//!
//! ```text
//! checks/<segment>/versions/000000000012.json   put-if-absent, like the versions of cohorts
//! ```
//!
//! `segment_check` interprets the findings; this file only stores them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::versioned_json::Retention;
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{SegmentId, Timestamp, timestamp_text};

/// How many checks of a segment are kept as its history.
const VERSIONS_KEPT: u64 = 10;

/// A time, serialized as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckTime(pub Timestamp);

impl TryFrom<String> for CheckTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is not a timestamp"))
    }
}

impl From<CheckTime> for String {
    fn from(stamp: CheckTime) -> Self {
        timestamp_text(stamp.0)
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// The segment is as the config declares it, by all evidence that Braze exposes.
    InSync,
    /// Braze does not expose enough evidence.
    Unknown,
    /// The segment differs from the config.
    Drifted,
}

impl CheckVerdict {
    /// The verdict as JSON and metrics spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::InSync => "in_sync",
            Self::Unknown => "unknown",
            Self::Drifted => "drifted",
        }
    }
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Information; nothing is wrong.
    Note,
    /// Evidence is missing.
    Unknown,
    /// The segment differs from the config.
    Drift,
}

/// One finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// The kind of finding, as a stable code.
    pub code: String,
    /// The campaign or Canvas concerned. Empty: the segment itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The name of the evidence for it.
    pub evidence: String,
    /// Its severity.
    pub level: CheckLevel,
    /// Its description.
    pub text: String,
    /// The first check that found it.
    pub since: CheckTime,
    /// The last earlier check that saw the evidence without this finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_at: Option<CheckTime>,
}

/// A segment as Braze described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSegment {
    /// Braze's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was last changed, as Braze writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Whether Braze's description of its filters named all its cohorts.
    pub named_all: bool,
}

/// A campaign or a Canvas as Braze described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedUse {
    /// Its kind and its name in the config.
    pub about: String,
    /// Braze's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was last changed, as Braze writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

/// The size of a segment on one UTC day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSize {
    /// The day, `2026-11-25`.
    pub day: String,
    /// Number of users.
    pub size: u64,
}

/// How many users all checks of one day expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedUsers {
    /// The day, `2026-11-25`.
    pub day: String,
    /// The minimum.
    pub min: u64,
    /// The maximum.
    pub max: u64,
}

/// One check of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentCheck {
    /// Its version number, from 1.
    #[serde(skip)]
    pub number: u64,
    /// When it ran.
    pub at: CheckTime,
    /// Its result.
    pub verdict: CheckVerdict,
    /// Since when the result is the same.
    pub since: CheckTime,
    /// The last time the segment was in sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_sync_at: Option<CheckTime>,
    /// Its findings.
    pub findings: Vec<CheckFinding>,
    /// Findings of earlier checks that this check had no evidence for or against.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unverified: Vec<CheckFinding>,
    /// When each kind of evidence was last seen, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, CheckTime>,
    /// The segment, when it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SeenSegment>,
    /// Its newest known size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SeenSize>,
    /// Recently expected sizes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<ExpectedUsers>,
    /// Campaigns and Canvases as last seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<ObservedUse>,
}

fn entry_of(segment: &SegmentId) -> String {
    format!("checks/{segment}")
}

impl StateReader {
    /// Returns the last check of a segment.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn check_of(&self, segment: &SegmentId) -> Result<Option<SegmentCheck>, StateError> {
        let found = entry::versions(&self.store, &entry_of(segment))
            .newest(|check, number| Some(SegmentCheck { number, ..check }))?;
        Ok(found.map(|(_, check)| check))
    }
}

impl StateWriter {
    /// Commits a check of a segment, and removes checks beyond a fixed number.
    ///
    /// # Errors
    /// When the write fails, or another process committed first.
    pub fn commit_check(&self, segment: &SegmentId, check: &SegmentCheck) -> Result<(), StateError> {
        self.check_lease()?;
        let versions = entry::versions(&self.reader().store, &entry_of(segment));
        match versions.put(check.number, check, Retention::Newest(VERSIONS_KEPT))? {
            true => Ok(()),
            false => Err(StateError::LeaseLost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Holder, Location};
    use super::*;
    use crate::model::Clock;

    #[test]
    fn the_newest_check_is_current_and_old_ones_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let location = Location::Folder(home.path().to_owned());
        let holder = Holder { host: "h".to_owned(), process: 1, since: Timestamp::UNIX_EPOCH, renewal: None };
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let state = StateWriter::open(&location, &holder, clock, 7).unwrap();
        let id = SegmentId::new("win_back").unwrap();
        assert_eq!(state.reader().check_of(&id).unwrap(), None);
        let stamp = CheckTime(Timestamp::UNIX_EPOCH);
        let check = |number| SegmentCheck {
            number,
            at: stamp,
            verdict: CheckVerdict::InSync,
            since: stamp,
            in_sync_at: Some(stamp),
            findings: Vec::new(),
            unverified: Vec::new(),
            seen: BTreeMap::new(),
            segment: None,
            size: None,
            expectations: vec![ExpectedUsers { day: "2026-11-25".to_owned(), min: 1, max: 2 }],
            uses: Vec::new(),
        };
        for number in 1..=12 {
            state.commit_check(&id, &check(number)).unwrap();
        }
        assert_eq!(state.reader().check_of(&id).unwrap(), Some(check(12)));
        assert!(state.commit_check(&id, &check(12)).is_err());
        let versions = entry::versions(&state.reader().store, &entry_of(&id));
        assert_eq!(versions.numbers().unwrap(), Vec::from_iter(3..=12));
    }
}
