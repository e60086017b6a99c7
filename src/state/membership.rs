//! Recorded membership of a cohort: who is a member in Braze, as of one committed version.
//!
//! A version names parts in the order in which they were sent. For each part it lists the rows that Braze has accepted
//! and those that it has rejected; all other rows are in doubt. For each member the latest part decides, unless it was
//! rejected.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::as_text::{optional_time, rows, time};
use super::part::PartRef;
use super::store::Store;
use super::versioned_json::{Retention, Versions};
use super::{StateError, StateReader, StateWriter, entry};
use crate::model::{CohortId, DeliveryMethod, MatchTally, RowSet, RunId, Timestamp};

/// The Braze workspace of a membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedWorkspace {
    /// The connection's name in the config.
    pub connection: String,
    /// Its endpoint, or `sandbox`.
    pub endpoint: String,
    /// The partner's name in the path.
    pub partner: String,
    /// How the members are delivered.
    #[serde(default, skip_serializing_if = "is_import")]
    pub delivery: DeliveryMethod,
}

fn is_import(delivery: &DeliveryMethod) -> bool {
    *delivery == DeliveryMethod::CohortImport
}

impl fmt::Display for RecordedWorkspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.delivery {
            DeliveryMethod::CohortImport => {
                write!(f, "`{}` ({}, partner `{}`)", self.connection, self.endpoint, self.partner)
            }
            by => write!(f, "`{}` ({}, {by})", self.connection, self.endpoint),
        }
    }
}

/// Rows of a part that were in requests without an answer.
///
/// Braze may handle such a request after a later part has settled the same members, and undo it. Once the request can no
/// longer arrive, members with a status other than the one it asked for are sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateRequest {
    /// The part. The version may no longer name it among its own.
    #[serde(flatten)]
    pub part: PartRef,
    /// The rows.
    #[serde(rename = "late", with = "rows")]
    pub rows: RowSet,
    /// When the requests can no longer arrive.
    #[serde(with = "time")]
    pub until: Timestamp,
}

/// A cohort name that was in a request without an answer. Braze may handle it after a later run has sent another name,
/// and so restore this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateName {
    /// The name.
    pub name: String,
    /// When the request can no longer arrive. `None`: no other name was sent since, so the current name is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_time")]
    pub until: Option<Timestamp>,
}

/// Marks a source that was read and applied in full. While its fingerprint is unchanged, its members equal the recorded
/// ones, and it need not be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMark {
    /// Fingerprint of the files and of the matching rules.
    pub fingerprint: String,
    /// Statistics of reading it.
    pub matched: MatchTally,
    /// Its members that Braze has rejected.
    pub rejected: u64,
}

/// The recorded membership of a cohort as of one commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The version number, from 1.
    #[serde(skip)]
    pub number: u64,
    /// The run that wrote it.
    pub run: Box<str>,
    /// When it was written.
    #[serde(with = "time")]
    pub written_at: Timestamp,
    /// The workspace with the members.
    pub workspace: RecordedWorkspace,
    /// When the cohort was first planned. Braze requires it in each request that sets the name.
    #[serde(with = "time")]
    pub created_at: Timestamp,
    /// The name that Braze has accepted.
    pub name: Option<String>,
    /// The cohort must not be emptied, even if the config no longer says so.
    pub protected: bool,
    /// The cohort was emptied by `removed:` and is no longer managed.
    pub removed: bool,
    /// How many members Braze has accepted, if known without counting.
    pub members: Option<u64>,
    /// How many members are in doubt.
    pub in_doubt: u64,
    /// How many members there were when the guard first blocked removals, while it still does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_base: Option<u64>,
    /// The source, if the membership equals it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceMark>,
    /// The parts, oldest first.
    pub parts: Vec<PartRef>,
    /// Requests that Braze may handle late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<LateRequest>,
    /// Names in requests that Braze may handle late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late_names: Vec<LateName>,
}

impl Membership {
    /// The first version of a cohort, before anything is sent.
    #[must_use]
    pub fn first(run: &RunId, now: Timestamp, workspace: RecordedWorkspace) -> Self {
        Self {
            number: 0,
            run: run.as_str().into(),
            written_at: now,
            workspace,
            created_at: now,
            name: None,
            protected: false,
            removed: false,
            members: Some(0),
            in_doubt: 0,
            share_base: None,
            source: None,
            parts: Vec::new(),
            late: Vec::new(),
            late_names: Vec::new(),
        }
    }

    /// Whether no member is, or may become, a member in Braze.
    #[must_use]
    pub fn is_vacant(&self) -> bool {
        let rejected = self.parts.iter().any(|part| !part.rejected.is_empty());
        let is_empty =
            self.members == Some(0) && self.in_doubt == 0 && !rejected && !self.may_gain_late_members();
        self.removed || is_empty
    }

    /// All parts that must be kept: its own, and those of late requests.
    pub fn all_parts(&self) -> impl Iterator<Item = &PartRef> {
        self.parts.iter().chain(self.late.iter().map(|late| &late.part))
    }

    /// Returns it with its number. `None`: it names rows outside a part, or a row both as accepted and as rejected.
    fn numbered(self, number: u64) -> Option<Self> {
        let is_late_sound = |late: &LateRequest| late.part.is_sound() && late.rows.is_within(late.part.rows);
        let is_sound = self.parts.iter().all(PartRef::is_sound) && self.late.iter().all(is_late_sound);
        is_sound.then_some(Self { number, ..self })
    }

    /// Whether the late requests behind every row in doubt are noted, so that parts may be merged.
    pub(super) fn has_noted_doubt(&self) -> bool {
        self.parts.iter().all(|part| part.in_doubt() == 0 || part.noted)
    }
}

pub(super) fn entry_of(cohort: &CohortId) -> String {
    format!("cohorts/{cohort}")
}

fn versions<'a>(store: &'a Store, cohort: &CohortId) -> Versions<'a> {
    entry::versions(store, &entry_of(cohort))
}

/// Reads the newest version, even if it is older than the last commit. `None`: there is none.
pub(super) fn newest(store: &Store, cohort: &CohortId) -> Result<Option<Membership>, StateError> {
    let found = versions(store, cohort).newest(Membership::numbered)?;
    Ok(found.map(|(_, version)| version))
}

/// Reads a version that must exist.
pub(super) fn read(store: &Store, cohort: &CohortId, number: u64) -> Result<Membership, StateError> {
    versions(store, cohort).read(number, Membership::numbered)
}

impl StateReader {
    /// Returns the newest version of a cohort.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is older than the last commit.
    pub fn version(&self, cohort: &CohortId) -> Result<Option<Membership>, StateError> {
        self.newest(&entry_of(cohort), Membership::numbered)
    }

    /// Returns the numbers of a cohort's existing versions, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn versions(&self, cohort: &CohortId) -> Result<Vec<u64>, StateError> {
        versions(&self.store, cohort).numbers()
    }
}

impl StateWriter {
    /// Commits `version` as the newest of its cohort. Each version number can be committed once.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the version exists already, [`StateError::LeaseLost`] when another process may be
    /// writing.
    pub fn commit(&self, cohort: &CohortId, version: &Membership) -> Result<(), StateError> {
        match self.put_entry(&entry_of(cohort), version.number, version, Retention::All)? {
            true => Ok(()),
            false => Err(StateError::Conflict { cohort: cohort.clone(), version: version.number }),
        }
    }
}

/// Writes a version without a lease.
#[cfg(test)]
pub(super) fn put(store: &Store, cohort: &CohortId, version: &Membership) -> Result<bool, StateError> {
    versions(store, cohort).put(version.number, version, Retention::All)
}

#[cfg(test)]
mod tests {
    use super::super::part::PartFooter;
    use super::*;
    use crate::model::ChangeOp;

    fn version(number: u64) -> Membership {
        let workspace = RecordedWorkspace {
            connection: "braze".to_owned(),
            endpoint: "sandbox".to_owned(),
            partner: "heap".to_owned(),
            delivery: DeliveryMethod::CohortImport,
        };
        let run = RunId::new("2026-11-23T19:16:11Z".parse().unwrap(), 1);
        let part = PartRef {
            id: "r1".into(),
            op: ChangeOp::Remove,
            rows: 10,
            bytes: 999,
            checksum: u128::MAX,
            footer: PartFooter { bytes: 9, checksum: u64::MAX },
            acknowledged: RowSet::from_ranges([0..4, 6..8]),
            rejected: RowSet::from_ranges(std::iter::once(4..5)),
            noted: true,
        };
        let late = LateRequest {
            part: PartRef { acknowledged: RowSet::default(), rejected: RowSet::default(), ..part.clone() },
            rows: RowSet::from_ranges(std::iter::once(8..10)),
            until: "2026-11-23T19:31:11Z".parse().unwrap(),
        };
        Membership {
            number,
            name: Some("A".to_owned()),
            parts: vec![part],
            late: vec![late],
            late_names: vec![
                LateName { name: "B".to_owned(), until: Some("2026-11-23T19:31:11Z".parse().unwrap()) },
                LateName { name: "A".to_owned(), until: None },
            ],
            ..Membership::first(&run, "2026-11-23T19:16:11.25Z".parse().unwrap(), workspace)
        }
    }

    #[test]
    fn a_version_is_read_as_written_and_each_number_is_committed_once() {
        let (store, cohort) = (Store::in_memory(), CohortId::new("c").unwrap());
        assert_eq!(newest(&store, &cohort).unwrap(), None);
        for number in [1, 2, 10] {
            assert!(put(&store, &cohort, &version(number)).unwrap());
        }
        assert_eq!(newest(&store, &cohort).unwrap(), Some(version(10)));
        assert_eq!(version(10).parts[0].in_doubt(), 3);
        assert!(!put(&store, &cohort, &version(2)).unwrap());
    }

    #[test]
    fn rows_outside_a_part_are_damage() {
        let (store, cohort) = (Store::in_memory(), CohortId::new("c").unwrap());
        let mut bad = version(1);
        bad.parts[0].rows = 7;
        assert!(put(&store, &cohort, &bad).unwrap());
        let error = newest(&store, &cohort).unwrap_err().to_string();
        assert!(
            error.ends_with("cohorts/c/versions/000000000001.json is damaged: a value is out of range"),
            "{error}"
        );
    }
}
