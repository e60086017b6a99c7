//! Segment check: compares declared segments, campaigns and Canvases with what Braze's API reports.
//!
//! # Expected flow
//! [`EvidenceRequest`] caches the lists of a workspace. [`check()`] gathers the evidence of one segment, computes the
//! expected size from the recorded memberships, and judges. The state keeps [`CheckedSegment::check`], so that the next
//! check knows since when a finding exists.
//!
//! # Guarantees
//! Missing evidence is a finding, never a pass. A segment is in sync only without drift and without unknown evidence.
//!
//! # Caveats
//! Braze's API returns a segment's filters only as an undocumented text, and does not return the segments that a campaign
//! or a Canvas targets (Braze, "Export segment details", "Export campaign details", "Export Canvas details").

mod expect;
mod finding;
mod gather;
mod judge;

pub use expect::{ExpectedSegment, expected};
pub use finding::{CheckedObject, ComparedSize, EvidenceGap, MessagingTarget, SegmentFinding, SizeUnknown};
pub use gather::EvidenceRequest;

use std::collections::BTreeSet;

use crate::blocking;
use crate::config::{BrazeObject, Config, SegmentConfig};
use crate::connector::braze::BrazeKeyKind;
use crate::connector::braze::rest::{MessagingKind, RestError};
use crate::model::{ConnectionName, DeliveryMethod, Timestamp};
use crate::state::{
    CheckFinding, CheckLevel, CheckTime, CheckVerdict, KeyFingerprints, ObservedUse, SeenSegment,
    SegmentCheck, StateError, StateReader, StateWriter,
};
use finding::{CANARIES, FILTERS, RECORD, SEGMENT, SIZE, details_of};
use gather::{LookupResult, SegmentEvidence};
use judge::{CohortName, JudgedSegment, SegmentCase};

/// The number of days for which expected sizes are kept.
const DAYS_KEPT: usize = 9;

/// The result of checking one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedSegment {
    /// The record for the state.
    pub check: SegmentCheck,
    /// The findings, the worst first.
    pub findings: Vec<SegmentFinding>,
    /// The expected size.
    pub expected: ExpectedSegment,
}

impl CheckedSegment {
    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> CheckVerdict {
        self.check.verdict
    }
}

/// Checks one segment. Changes nothing, here or in Braze.
///
/// # Errors
/// When the state cannot be read. Missing evidence from Braze is a finding.
pub async fn check(
    segment: &SegmentConfig,
    config: &Config,
    state: &StateReader,
    asking: &EvidenceRequest<'_>,
    now: Timestamp,
) -> Result<CheckedSegment, StateError> {
    let last = state.check_of(&segment.id)?;
    let expected = blocking::in_place(|| expected(segment, state))?;
    let evidence = match is_known(&segment.connection, config, state, asking)? {
        Some(false) => gather::nothing(segment, &RestError::OtherWorkspace),
        Some(true) | None => gather::gather(asking, segment, last.as_ref()).await,
    };
    let cohorts = names(segment, config);
    let case = SegmentCase { segment, cohorts: &cohorts, expected: &expected, last: last.as_ref(), now };
    let mut judged = judge::judge(&case, &evidence);
    judged.findings.sort_by_key(|what| std::cmp::Reverse(what.level()));
    let findings: Vec<SegmentFinding> =
        judged.findings.iter().map(|what| dated(what, last.as_ref(), now)).collect();
    let check = remembered(&case, &evidence, &judged, &findings);
    Ok(CheckedSegment { check, findings, expected })
}

/// Whether the REST key is the one recorded in the state; `None` if none is recorded.
fn is_known(
    name: &ConnectionName,
    config: &Config,
    state: &StateReader,
    asking: &EvidenceRequest<'_>,
) -> Result<Option<bool>, StateError> {
    let Some(marks) = state.key_fingerprints(names_of(name, config))? else { return Ok(None) };
    Ok(marks.keys.get(BrazeKeyKind::Rest.code()).map(|known| *known == asking.mark(&marks.salt)))
}

/// The current and former names of a connection.
fn names_of<'a>(name: &'a ConnectionName, config: &'a Config) -> impl Iterator<Item = &'a ConnectionName> {
    let formerly = config.braze.get(name).map(|braze| braze.formerly.as_slice()).unwrap_or_default();
    std::iter::once(name).chain(formerly)
}

/// Records the result in the state, and the fingerprint of the REST key if none is recorded yet.
///
/// # Errors
/// When the state cannot be written, or another process wrote it first.
pub fn remember(
    segment: &SegmentConfig,
    checked: &CheckedSegment,
    config: &Config,
    state: &StateWriter,
    asking: &EvidenceRequest<'_>,
) -> Result<(), StateError> {
    state.commit_check(&segment.id, &checked.check)?;
    let is_reported =
        !checked.findings.iter().any(|finding| matches!(finding.what, CheckedObject::NotReported { .. }));
    let name = &segment.connection;
    if !is_reported || is_known(name, config, state.reader(), asking)?.is_some() {
        return Ok(());
    }
    let now = checked.check.at.0;
    let mut marks = match state.reader().key_fingerprints(names_of(name, config))? {
        Some(marks) => marks.next(now),
        None => KeyFingerprints::first(now)?,
    };
    marks.keys.insert(BrazeKeyKind::Rest.code().to_owned(), asking.mark(&marks.salt));
    state.adopt(name, &marks)
}

/// All cohorts of the segment's workspace, with the names that Braze's filter text may contain.
fn names(segment: &SegmentConfig, config: &Config) -> Vec<CohortName> {
    let cohorts = config.cohorts.iter().filter(|cohort| cohort.to == segment.connection);
    let name = |cohort: &crate::config::CohortConfig| CohortName {
        id: cohort.id.to_string(),
        // A filter shows the cohort's name, an array element, or an attribute.
        name: match &cohort.delivery {
            DeliveryMethod::CohortImport => cohort.name.clone(),
            DeliveryMethod::Array(_) => cohort.id.to_string(),
            DeliveryMethod::Boolean(attribute) => attribute.to_string(),
        },
        wanted: segment.cohorts().any(|id| *id == cohort.id),
    };
    cohorts.map(name).collect()
}

/// A campaign or a Canvas in messages: `campaign "We miss you"`.
fn about(of: MessagingKind, named: &BrazeObject) -> String {
    let kind = match of {
        MessagingKind::Campaign => "campaign",
        MessagingKind::Canvas => "Canvas",
    };
    match named {
        BrazeObject::Name(name) => format!("{kind} \"{name}\""),
        BrazeObject::Id(id) => format!("{kind} {id}"),
    }
}

/// Adds the dates of a finding from the last check.
fn dated(what: &CheckedObject, last: Option<&SegmentCheck>, now: Timestamp) -> SegmentFinding {
    let (code, about) = (what.code(), what.about());
    let earlier = last.and_then(|last| {
        let known = last.findings.iter().chain(&last.unverified);
        known.into_iter().find(|known| known.code == code && known.about == about)
    });
    let (since, absent_at) = match earlier {
        Some(earlier) => (earlier.since.0, earlier.absent_at.map(|at| at.0)),
        None => (now, last.and_then(|last| last.seen.get(&what.evidence())).map(|at| at.0)),
    };
    SegmentFinding { what: what.clone(), since, absent_at }
}

fn verdict(findings: &[SegmentFinding]) -> CheckVerdict {
    match findings.iter().map(|finding| finding.what.level()).max() {
        Some(CheckLevel::Drift) => CheckVerdict::Drifted,
        Some(CheckLevel::Unknown) => CheckVerdict::Unknown,
        Some(CheckLevel::Note) | None => CheckVerdict::InSync,
    }
}

/// The record of a check for the next one.
fn remembered(
    case: &SegmentCase<'_>,
    evidence: &SegmentEvidence,
    judged: &JudgedSegment,
    findings: &[SegmentFinding],
) -> SegmentCheck {
    let (last, now) = (case.last, CheckTime(case.now));
    let verdict = verdict(findings);
    let is_same = last.filter(|last| last.verdict == verdict);
    let found: Vec<CheckFinding> = findings.iter().map(to_state).collect();
    let seen_now = seen_evidence(evidence, findings);
    let wanted = wanted_evidence(evidence);
    let before = last.into_iter().flat_map(|last| last.findings.iter().chain(&last.unverified));
    let unverified = before
        .filter(|before| wanted.contains(&before.evidence) && !seen_now.contains(&before.evidence))
        .filter(|before| is_worth(before, &found));
    let unverified = unverified.cloned().collect();
    let mut seen = last.map(|last| last.seen.clone()).unwrap_or_default();
    seen.retain(|evidence, _| wanted.contains(evidence));
    seen.extend(seen_now.into_iter().map(|evidence| (evidence, now)));
    SegmentCheck {
        number: last.map_or(1, |last| last.number + 1),
        at: now,
        verdict,
        since: is_same.map_or(now, |last| last.since),
        in_sync_at: match verdict {
            CheckVerdict::InSync => Some(now),
            _ => last.and_then(|last| last.in_sync_at),
        },
        findings: found,
        unverified,
        seen,
        segment: seen_segment(evidence, judged, last),
        size: judged.size.clone().or_else(|| last.and_then(|last| last.size.clone())),
        expectations: judge::expectations(case),
        uses: seen_uses(evidence, last),
    }
}

/// The evidence that the checks of a segment can use.
fn wanted_evidence(evidence: &SegmentEvidence) -> BTreeSet<String> {
    let own = [SEGMENT, FILTERS, SIZE, CANARIES, RECORD].map(str::to_owned);
    let uses = evidence.uses.iter().map(|one| about(one.of, &one.named));
    let uses = uses.flat_map(|about| [details_of(&about), about]);
    own.into_iter().chain([details_of(SEGMENT)]).chain(uses).collect()
}

/// The evidence that this check saw, without failed requests and impossible comparisons.
fn seen_evidence(evidence: &SegmentEvidence, findings: &[SegmentFinding]) -> BTreeSet<String> {
    let has = |is_it: fn(&CheckedObject) -> bool| findings.iter().any(|finding| is_it(&finding.what));
    let mut seen = BTreeSet::from([RECORD.to_owned()]);
    if let Ok(found) = &evidence.segment {
        seen.insert(SEGMENT.to_owned());
        if matches!(found, LookupResult::One(_)) {
            seen.insert(details_of(SEGMENT));
            if !has(|what| matches!(what, CheckedObject::FilterUnreadable | CheckedObject::FilterBySize)) {
                seen.insert(FILTERS.to_owned());
            }
        }
    }
    if matches!(evidence.sizes, Some(Ok(_))) && !has(|what| matches!(what, CheckedObject::SizeUnknown(_))) {
        seen.insert(SIZE.to_owned());
    }
    if evidence.unknown.is_ok() {
        seen.insert(CANARIES.to_owned());
    }
    for one in &evidence.uses {
        let about = about(one.of, &one.named);
        if matches!(one.found, Ok(LookupResult::One(_))) {
            seen.insert(details_of(&about));
        }
        if one.found.is_ok() {
            seen.insert(about);
        }
    }
    seen
}

/// Whether an earlier finding is kept while its evidence is missing.
fn is_worth(before: &CheckFinding, found: &[CheckFinding]) -> bool {
    let is_found = found.iter().any(|now| now.code == before.code && now.about == before.about);
    before.level == CheckLevel::Drift && !is_found
}

fn to_state(finding: &SegmentFinding) -> CheckFinding {
    CheckFinding {
        code: finding.what.code().to_owned(),
        about: finding.what.about(),
        evidence: finding.what.evidence(),
        level: finding.what.level(),
        text: finding.what.to_string(),
        since: CheckTime(finding.since),
        absent_at: finding.absent_at.map(CheckTime),
    }
}

/// The segment as Braze reports it now, or reported it last. `named_all` stays true once it was.
fn seen_segment(
    evidence: &SegmentEvidence,
    judged: &JudgedSegment,
    last: Option<&SegmentCheck>,
) -> Option<SeenSegment> {
    let last = last.and_then(|last| last.segment.as_ref());
    let Ok(LookupResult::One(seen)) = &evidence.segment else { return last.cloned() };
    let named_before = last.is_some_and(|last| last.id == seen.id && last.named_all);
    Some(SeenSegment {
        id: seen.id.clone(),
        name: seen.details.name.clone(),
        updated_at: seen.details.updated_at.clone(),
        named_all: judged.named_all || named_before,
    })
}

/// Each campaign and Canvas as Braze reports it now, or reported it last.
fn seen_uses(evidence: &SegmentEvidence, last: Option<&SegmentCheck>) -> Vec<ObservedUse> {
    let seen = |one: &gather::MessagingUse| {
        let about = about(one.of, &one.named);
        match &one.found {
            Ok(LookupResult::One((id, details))) => Some(ObservedUse {
                about,
                id: id.clone(),
                name: details.name.clone(),
                updated_at: details.updated_at.clone(),
            }),
            _ => last?.uses.iter().find(|last| last.about == about).cloned(),
        }
    };
    evidence.uses.iter().filter_map(seen).collect()
}
