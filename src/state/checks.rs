//! What the last check of each segment found: the evidence that the next one is compared with.
//!
//! ```text
//! checks/<segment>/versions/000000000012.json   put-if-absent, as the versions of cohorts
//! ```
//!
//! What a finding means is decided by `targeting`; here it is only written down and read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::membership::number_of;
use super::{StateError, StateReader, StateWriter};
use super::{checked, format};
use crate::model::{SegmentId, Timestamp, timestamp_text};

/// Versions that are kept, for whoever wants to see how things came about.
const VERSIONS_KEPT: usize = 10;

/// A time, written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckTime(pub Timestamp);

impl TryFrom<String> for CheckTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is no time"))
    }
}

impl From<CheckTime> for String {
    fn from(stamp: CheckTime) -> Self {
        timestamp_text(stamp.0)
    }
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// The segment is as the config has it, as far as Braze tells.
    InStep,
    /// Braze does not tell enough.
    Unknown,
    /// It is not.
    Drifted,
}

impl CheckVerdict {
    /// The verdict in a word, as JSON and metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Unknown => "unknown",
            Self::Drifted => "drifted",
        }
    }
}

/// What a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// Worth knowing, and nothing is wrong.
    Note,
    /// Something that cannot be known.
    Unknown,
    /// Something that is not as the config has it.
    Drift,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFinding {
    /// What kind of thing, in a word.
    pub code: String,
    /// What it is about: the segment itself if empty, or a campaign, say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The name of the evidence that shows it.
    pub evidence: String,
    /// How bad it is.
    pub level: CheckLevel,
    /// It, in words.
    pub text: String,
    /// The first check that found it.
    pub since: CheckTime,
    /// The last check before that which saw the evidence, and did not find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fine_at: Option<CheckTime>,
}

/// A segment as Braze told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSegment {
    /// Braze's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was last changed, as Braze writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Whether Braze's words for its filters have named all its cohorts.
    pub named_all: bool,
}

/// A campaign or a Canvas as Braze told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenUse {
    /// How the config names it, with its kind.
    pub about: String,
    /// Braze's id of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was last changed, as Braze writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

/// A size on a day, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenSize {
    /// The day, `2026-11-25`.
    pub day: String,
    /// People.
    pub size: u64,
}

/// How many people were expected on a day: from the least to the most of all checks of the day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The day, `2026-11-25`.
    pub day: String,
    /// The least.
    pub least: u64,
    /// The most.
    pub most: u64,
}

/// One check of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentCheck {
    /// Its number, from 1.
    pub number: u64,
    /// When it was made.
    pub at: CheckTime,
    /// What it came to.
    pub verdict: CheckVerdict,
    /// Since when it comes to this.
    pub since: CheckTime,
    /// The last time that all was well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_step_at: Option<CheckTime>,
    /// What it found.
    pub findings: Vec<CheckFinding>,
    /// What earlier checks found, and whose evidence this one did not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unasked: Vec<CheckFinding>,
    /// When each kind of evidence was last seen, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seen: BTreeMap<String, CheckTime>,
    /// The segment, when it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SeenSegment>,
    /// Its newest size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SeenSize>,
    /// How many were expected, lately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Expectation>,
    /// Campaigns and Canvases, when they were last seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<SeenUse>,
}

#[derive(Serialize, Deserialize)]
struct CheckJson {
    format: u64,
    #[serde(flatten)]
    check: SegmentCheck,
}

fn folder_of(segment: &SegmentId) -> String {
    format!("checks/{segment}/versions")
}

fn path_of(segment: &SegmentId, number: u64) -> String {
    format!("{}/{number:012}.json", folder_of(segment))
}

impl StateReader {
    /// The last check of a segment.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn check_of(&self, segment: &SegmentId) -> Result<Option<SegmentCheck>, StateError> {
        let names = self.store.list(&folder_of(segment))?;
        let Some(newest) = names.iter().filter_map(|name| number_of(name)).max() else { return Ok(None) };
        let file = path_of(segment, newest);
        let shape: CheckJson = checked::existing(&self.store, &file)?;
        if shape.check.number == newest {
            Ok(Some(shape.check))
        } else {
            Err(StateError::Damaged { path: self.store.at(&file), what: "it is another".to_owned() })
        }
    }
}

impl StateWriter {
    /// Makes this the last check of a segment, and lets go of those that are long past.
    ///
    /// # Errors
    /// When the disk does not take it, or another process was first.
    pub fn commit_check(&self, segment: &SegmentId, check: &SegmentCheck) -> Result<(), StateError> {
        self.check_lease()?;
        let store = &self.reader().store;
        let shape = CheckJson { format: format::KNOWN, check: check.clone() };
        if !checked::put_new(store, &path_of(segment, check.number), &shape)? {
            return Err(StateError::Lost);
        }
        let mut numbers: Vec<u64> =
            store.list(&folder_of(segment))?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        let past = numbers.len().saturating_sub(VERSIONS_KEPT);
        numbers[..past].iter().try_for_each(|number| Ok(store.remove(&path_of(segment, *number))?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Holder, Location};
    use super::*;
    use crate::model::Clock;

    #[test]
    fn the_newest_check_is_remembered_and_old_ones_go() {
        let home = tempfile::tempdir().unwrap();
        let location = Location::Folder(home.path().to_owned());
        let holder = Holder { host: "h".to_owned(), process: 1, since: Timestamp::UNIX_EPOCH, heard: None };
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        let state = StateWriter::open(&location, &holder, clock, 7).unwrap();
        let id = SegmentId::new("win_back").unwrap();
        assert_eq!(state.reader().check_of(&id).unwrap(), None);
        let stamp = CheckTime(Timestamp::UNIX_EPOCH);
        let check = |number| SegmentCheck {
            number,
            at: stamp,
            verdict: CheckVerdict::InStep,
            since: stamp,
            in_step_at: Some(stamp),
            findings: Vec::new(),
            unasked: Vec::new(),
            seen: BTreeMap::new(),
            segment: None,
            size: None,
            expectations: vec![Expectation { day: "2026-11-25".to_owned(), least: 1, most: 2 }],
            uses: Vec::new(),
        };
        for number in 1..=12 {
            state.commit_check(&id, &check(number)).unwrap();
        }
        assert_eq!(state.reader().check_of(&id).unwrap(), Some(check(12)));
        assert!(state.commit_check(&id, &check(12)).is_err());
        assert_eq!(state.reader().store.list(&folder_of(&id)).unwrap().len(), VERSIONS_KEPT);
    }
}
