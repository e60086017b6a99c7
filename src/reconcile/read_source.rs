//! Reads the source of a cohort: all of it, only the difference that a database computes, or nothing if it is unchanged.

use super::context::PlanInputs;
use super::cursors::{AllMembers, WantedMembers};
use super::plan_error::PlanError;
use super::rekey::RekeyedMembers;
use crate::config::CohortConfig;
use crate::connector::rows::ReadSummary;
use crate::model::MatchTally;
use crate::plan::SourceTally;
use crate::source::{
    self, DesiredError, DesiredMembers, MatchedRows, PackedList, PushdownFallback, PushdownResult,
    RowRejects, SourceFingerprint, SourceReader as _,
};
use crate::state::{Membership, SourceMark};

/// How a source with `diff: pushdown` was compared with the recorded membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushdownReport {
    /// In the database.
    InDatabase {
        /// Members and rows that were read.
        transferred: u64,
        /// Rows of the source.
        rows: u64,
    },
    /// In this process, with every row read.
    InFull {
        /// Why the database was not used.
        reason: PushdownFallback,
    },
}

/// What reading a source found, besides the members.
#[derive(Default)]
pub(super) struct SourceFindings {
    /// How the rows were matched; `None` without a source.
    pub(super) matched: Option<MatchTally>,
    /// `false` if its files did not change since the last run.
    pub(super) is_read: bool,
    pub(super) rejects: Option<RowRejects>,
    /// A few members that differ from another member only by case, packed.
    pub(super) case_variants: PackedList,
    /// Lets the next run skip an unchanged source.
    pub(super) mark: Option<SourceMark>,
    /// `None` without `diff: pushdown`.
    pub(super) pushdown: Option<PushdownReport>,
}

/// A source with its desired members, ready to be compared.
pub(super) struct SourceRead {
    pub(super) wanted: WantedMembers,
    summary: ReadSummary,
    fingerprint: Option<SourceFingerprint>,
    matched: MatchedRows,
    /// Devices and aliases that the source lists by the ids of their owners.
    pub(super) rekeyed: Option<RekeyedMembers>,
    pushdown: Option<PushdownReport>,
}

impl SourceRead {
    /// What the source says, after its members were compared: the findings, a file without a header row if there is
    /// one, and the fingerprint of the files. Releases the memory of the members.
    pub(super) fn finish(
        self,
    ) -> Result<(SourceFindings, Option<String>, Option<SourceFingerprint>), PlanError> {
        let duplicates = self.wanted.duplicates(self.summary.rows, self.matched.rejects.rows());
        let mut matched = self.matched.tally(&self.summary, duplicates);
        let mut case_variants = Vec::new();
        // Pushdown reads only the difference, so it finds no case variants.
        if let WantedMembers::All(all) = self.wanted {
            let (count, some) = all.case_variants.finish().map_err(DesiredError::Scratch)?;
            (matched.case_colliding, case_variants) = (Some(count), some);
        }
        drop(self.matched.permit);
        let findings = SourceFindings {
            matched: Some(matched),
            is_read: true,
            rejects: Some(self.matched.rejects),
            case_variants,
            mark: None,
            pushdown: self.pushdown,
        };
        Ok((findings, self.summary.headerless_file, self.fingerprint))
    }
}

/// Reads the source. `previous` is the membership that it will be compared with.
pub(super) fn read(
    cohort: &CohortConfig,
    previous: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<SourceRead, PlanError> {
    let Some(source) = source::pushdown_source(cohort, inputs.config) else {
        return read_in_full(cohort, None, inputs);
    };
    let difference = source::read_difference(cohort, source, previous, inputs.of_source(), inputs.progress)?;
    let PushdownResult { members, rows, transferred, mut matched } = match difference {
        Ok(difference) => difference,
        Err(reason) => return read_in_full(cohort, Some(PushdownReport::InFull { reason }), inputs),
    };
    Ok(SourceRead {
        wanted: WantedMembers::Overlay(Box::new(members)),
        summary: ReadSummary { rows, ..ReadSummary::default() },
        fingerprint: None,
        rekeyed: rekeyed(&mut matched, inputs),
        matched,
        pushdown: Some(PushdownReport::InDatabase { transferred, rows }),
    })
}

/// Reads every row of the source.
pub(super) fn read_in_full(
    cohort: &CohortConfig,
    pushdown: Option<PushdownReport>,
    inputs: PlanInputs<'_>,
) -> Result<SourceRead, PlanError> {
    let read = source::read(cohort, inputs.of_source(), inputs.progress)?;
    let DesiredMembers { set, case_variants, summary, fingerprint, mut matched } = read;
    let all = AllMembers { members: set.into_members(), case_variants };
    Ok(SourceRead {
        wanted: WantedMembers::All(Box::new(all)),
        summary,
        fingerprint,
        rekeyed: rekeyed(&mut matched, inputs),
        matched,
        pushdown,
    })
}

/// Takes the re-keyed members out of the result.
fn rekeyed(matched: &mut MatchedRows, inputs: PlanInputs<'_>) -> Option<RekeyedMembers> {
    matched.rekeyed.take().map(|rekeyed| RekeyedMembers::new(rekeyed, inputs.state.seed()))
}

/// The recorded mark of a source that need not be read: its files, its rules and the membership are unchanged.
pub(super) fn unchanged_mark(
    cohort: &CohortConfig,
    previous: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<Option<SourceMark>, PlanError> {
    let now = inputs.clock.now();
    let is_settled = |membership: &&Membership| {
        let is_certain = membership.resend_at().is_none_or(|at| at > now);
        membership.in_doubt == 0 && membership.members.is_some() && !membership.removed && is_certain
    };
    let Some(mark) = previous.filter(is_settled).and_then(|membership| membership.source.as_ref()) else {
        return Ok(None);
    };
    if inputs.retry_rejected && mark.rejected > 0 {
        return Ok(None);
    }
    let found = cohort.source.fingerprint(inputs.of_source())?;
    let rules = rules_text(cohort, inputs)?;
    let found = found.and_then(|found| found.text(&rules, inputs.clock.now()));
    Ok((found.as_ref() == Some(&mark.fingerprint)).then(|| mark.clone()))
}

/// Everything besides the files that decides the members and their identifiers: program version, source, rules,
/// delivery method, and the version of the identity map.
pub(super) fn rules_text(cohort: &CohortConfig, inputs: PlanInputs<'_>) -> Result<String, PlanError> {
    let identity = if source::may_rekey(cohort) { inputs.state.identity_version()? } else { 0 };
    let (source, rules, delivery) = (&cohort.source, &cohort.rules, cohort.delivery.code());
    Ok(format!("{} {source:?} {rules:?} {delivery} {identity}", env!("CARGO_PKG_VERSION")))
}

/// The numbers of a source for the guard.
pub(super) fn tally_of(matched: &MatchTally, headerless_file: Option<String>) -> SourceTally {
    let MatchTally { rows, duplicates, unreadable, shapes, .. } = *matched;
    let rejects = matched.rejects.clone();
    let named = rows.saturating_sub(rejects.values().sum());
    SourceTally { rows, duplicates, unreadable, matched: named, shapes, rejects, headerless_file }
}
