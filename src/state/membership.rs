//! Recorded membership of a cohort: who is a member in Braze, as of one committed version.
//!
//! A version names parts in the order in which they were sent. For each part it lists the rows that Braze has accepted
//! and those that it has rejected; all other rows are in doubt. For each member the latest part decides, unless it was
//! rejected.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::StateError;
use super::part::{FooterShape, PartRef};
use super::store::Store;
use super::{checked, format_number};
use crate::model::{
    ChangeOp, CohortId, DeliveryMethod, MatchTally, RowSet, RunId, Timestamp, timestamp_text,
};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateRequest {
    /// The part. The version may no longer name it among its own.
    pub part: PartRef,
    /// The rows.
    pub rows: RowSet,
    /// When the requests can no longer arrive.
    pub until: Timestamp,
}

/// A cohort name that was in a request without an answer. Braze may handle it after a later run has sent another name,
/// and so restore this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateName {
    /// The name.
    pub name: String,
    /// When the request can no longer arrive. `None`: no other name was sent since, so the current name is in doubt.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The version number, from 1.
    pub number: u64,
    /// The run that wrote it.
    pub run: Box<str>,
    /// When it was written.
    pub written_at: Timestamp,
    /// The workspace with the members.
    pub workspace: RecordedWorkspace,
    /// When the cohort was first planned. Braze requires it in each request that sets the name.
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
    pub share_base: Option<u64>,
    /// The source, if the membership equals it.
    pub source: Option<SourceMark>,
    /// The parts, oldest first.
    pub parts: Vec<PartRef>,
    /// Requests that Braze may handle late.
    pub late: Vec<LateRequest>,
    /// Names in requests that Braze may handle late.
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

    /// Whether the late requests behind every row in doubt are noted, so that parts may be merged.
    pub(super) fn has_noted_doubt(&self) -> bool {
        self.parts.iter().all(|part| part.in_doubt() == 0 || part.noted)
    }
}

pub(super) fn folder_of(cohort: &CohortId) -> String {
    format!("cohorts/{cohort}/versions")
}

/// The path of a version.
pub(super) fn path_of(cohort: &CohortId, number: u64) -> String {
    format!("{}/{number:012}.json", folder_of(cohort))
}

/// The version number in a file name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".json")?.parse().ok()
}

/// Reads the newest version. `None`: there is none.
pub(super) fn newest(store: &Store, cohort: &CohortId) -> Result<Option<Membership>, StateError> {
    let names = store.list(&folder_of(cohort))?;
    let Some(newest) = names.iter().filter_map(|name| number_of(name)).max() else { return Ok(None) };
    read(store, cohort, newest).map(Some)
}

/// Reads a version that must exist.
pub(super) fn read(store: &Store, cohort: &CohortId, number: u64) -> Result<Membership, StateError> {
    let file = path_of(cohort, number);
    let path = store.at(&file);
    let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
    let shape: MembershipJson = checked::existing(store, &file)?;
    let version = shape.into_version().ok_or_else(|| damaged("a value is out of range".to_owned()))?;
    if version.number == number { Ok(version) } else { Err(damaged("it is another version".to_owned())) }
}

/// Writes a version, unless its number is taken.
pub(super) fn commit(store: &Store, cohort: &CohortId, version: &Membership) -> Result<(), StateError> {
    let file = path_of(cohort, version.number);
    if checked::put_new(store, &file, &MembershipJson::from_version(version))? {
        Ok(())
    } else {
        Err(StateError::Conflict { cohort: cohort.clone(), version: version.number })
    }
}

/// The file format.
#[derive(Serialize, Deserialize)]
struct MembershipJson {
    format: u64,
    version: u64,
    run: Box<str>,
    written_at: String,
    workspace: RecordedWorkspace,
    created_at: String,
    name: Option<String>,
    protected: bool,
    removed: bool,
    members: Option<u64>,
    in_doubt: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share_base: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<SourceMark>,
    parts: Vec<PartRefJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    late: Vec<LateShape>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    late_names: Vec<LateNameShape>,
}

#[derive(Serialize, Deserialize)]
struct LateNameShape {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct LateShape {
    #[serde(flatten)]
    part: PartRefJson,
    late: Vec<[u64; 2]>,
    until: String,
}

#[derive(Serialize, Deserialize)]
struct PartRefJson {
    id: Box<str>,
    op: ChangeOpJson,
    rows: u64,
    bytes: u64,
    xxh3: String,
    footer: FooterShape,
    acknowledged: Vec<[u64; 2]>,
    rejected: Vec<[u64; 2]>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    noted: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChangeOpJson {
    Add,
    Remove,
}

impl MembershipJson {
    fn from_version(version: &Membership) -> Self {
        Self {
            format: format_number::SUPPORTED,
            version: version.number,
            run: version.run.clone(),
            written_at: timestamp_text(version.written_at),
            workspace: version.workspace.clone(),
            created_at: timestamp_text(version.created_at),
            name: version.name.clone(),
            protected: version.protected,
            removed: version.removed,
            members: version.members,
            in_doubt: version.in_doubt,
            share_base: version.share_base,
            source: version.source.clone(),
            parts: version.parts.iter().map(PartRefJson::from_part).collect(),
            late: version.late.iter().map(LateShape::from_late).collect(),
            late_names: version.late_names.iter().map(LateNameShape::from_late).collect(),
        }
    }

    fn into_version(self) -> Option<Membership> {
        Some(Membership {
            number: self.version,
            run: self.run,
            written_at: self.written_at.parse().ok()?,
            workspace: self.workspace,
            created_at: self.created_at.parse().ok()?,
            name: self.name,
            protected: self.protected,
            removed: self.removed,
            members: self.members,
            in_doubt: self.in_doubt,
            share_base: self.share_base,
            source: self.source,
            parts: self.parts.into_iter().map(PartRefJson::into_part).collect::<Option<_>>()?,
            late: self.late.into_iter().map(LateShape::into_late).collect::<Option<_>>()?,
            late_names: self.late_names.into_iter().map(LateNameShape::into_late).collect::<Option<_>>()?,
        })
    }
}

impl LateNameShape {
    fn from_late(late: &LateName) -> Self {
        Self { name: late.name.clone(), until: late.until.map(timestamp_text) }
    }

    fn into_late(self) -> Option<LateName> {
        let until = self.until.map(|text| text.parse()).transpose().ok()?;
        Some(LateName { name: self.name, until })
    }
}

impl LateShape {
    fn from_late(late: &LateRequest) -> Self {
        Self {
            part: PartRefJson::from_part(&late.part),
            late: pairs(&late.rows),
            until: timestamp_text(late.until),
        }
    }

    /// `None`: it names rows outside the part.
    fn into_late(self) -> Option<LateRequest> {
        let (part, rows) = (self.part.into_part()?, rows(&self.late));
        let is_within = rows.ranges().last().is_none_or(|last| last.end <= part.rows);
        is_within.then_some(())?;
        Some(LateRequest { part, rows, until: self.until.parse().ok()? })
    }
}

impl PartRefJson {
    fn from_part(part: &PartRef) -> Self {
        Self {
            id: part.id.clone(),
            op: match part.op {
                ChangeOp::Add => ChangeOpJson::Add,
                ChangeOp::Remove => ChangeOpJson::Remove,
            },
            rows: part.rows,
            bytes: part.bytes,
            xxh3: format!("{:032x}", part.checksum),
            footer: FooterShape::from_footer(part.footer),
            acknowledged: pairs(&part.acknowledged),
            rejected: pairs(&part.rejected),
            noted: part.noted,
        }
    }

    /// `None`: a value is out of range, for example rows outside the part or a row both accepted and rejected.
    fn into_part(self) -> Option<PartRef> {
        let (acknowledged, rejected) = (rows(&self.acknowledged), rows(&self.rejected));
        let within = |set: &RowSet| set.ranges().last().is_none_or(|last| last.end <= self.rows);
        let both = RowSet::from_ranges(acknowledged.ranges().iter().chain(rejected.ranges()).cloned());
        let sound =
            within(&acknowledged) && within(&rejected) && both.len() == acknowledged.len() + rejected.len();
        sound.then_some(())?;
        Some(PartRef {
            checksum: u128::from_str_radix(&self.xxh3, 16).ok()?,
            id: self.id,
            op: match self.op {
                ChangeOpJson::Add => ChangeOp::Add,
                ChangeOpJson::Remove => ChangeOp::Remove,
            },
            rows: self.rows,
            bytes: self.bytes,
            footer: self.footer.into_footer()?,
            acknowledged,
            rejected,
            noted: self.noted,
        })
    }
}

fn pairs(set: &RowSet) -> Vec<[u64; 2]> {
    set.ranges().iter().map(|range| [range.start, range.end]).collect()
}

fn rows(pairs: &[[u64; 2]]) -> RowSet {
    RowSet::from_ranges(pairs.iter().map(|[start, end]| Range { start: *start, end: *end }))
}

#[cfg(test)]
mod tests {
    use super::super::part::PartFooter;
    use super::*;

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
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        assert_eq!(newest(&store, &cohort).unwrap(), None);
        for number in [1, 2, 10] {
            commit(&store, &cohort, &version(number)).unwrap();
        }
        assert_eq!(newest(&store, &cohort).unwrap(), Some(version(10)));
        assert_eq!(version(10).parts[0].in_doubt(), 3);
        let again = commit(&store, &cohort, &version(2));
        assert!(matches!(again, Err(StateError::Conflict { version: 2, .. })));
    }

    #[test]
    fn damage_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let (store, cohort) = (Store::in_folder(home.path()), CohortId::new("c").unwrap());
        commit(&store, &cohort, &version(1)).unwrap();
        let text =
            String::from_utf8(store.read("cohorts/c/versions/000000000001.json").unwrap().unwrap()).unwrap();
        for (number, bad) in [
            (2, text.replace("\"rows\": 10", "\"rows\": 7")),
            (3, text.replace("\"format\": 2", "\"format\": 9")),
            (4, text[..text.len() / 2].to_owned()),
            (5, text.replace("2026-11-23T", "yesterday")),
        ] {
            store.put_new(&format!("cohorts/c/versions/{number:012}.json"), bad.as_bytes()).unwrap();
            assert!(newest(&store, &cohort).is_err(), "{number}");
        }
    }
}
