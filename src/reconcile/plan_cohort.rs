//! Plans one cohort of the config, stage by stage: membership, source, identities, diff, guard, preflight, triggers.

use std::collections::BTreeSet;

use super::compare::{DiffExtras, compare};
use super::context::PlanInputs;
use super::delivery_change::DeliveryChange;
use super::diff_result::DiffResult;
use super::guard_changes::{GuardedChanges, guard_declared};
use super::plan_error::PlanError;
use super::policy::{self, CohortNames};
use super::preflight;
use super::read_source::{self, SourceFindings, tally_of};
use super::run_plan::{CohortHeader, CohortPlan};
use super::triggers::{self, Transitions};
use crate::config::CohortConfig;
use crate::model::MemberKey;
use crate::plan::SourceTally;
use crate::state::{Membership, SourceMark};

/// Plans a cohort that the config declares.
pub(super) fn plan_declared(
    cohort: &CohortConfig,
    names: &CohortNames,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let previous = recorded_membership(cohort, inputs)?;
    if let Some(change) = DeliveryChange::due(cohort, previous.as_ref()) {
        let (findings, changes) = change.plan(cohort, inputs)?;
        return Ok(CohortPlan::new(CohortHeader::declared(cohort), changes, findings));
    }
    let transitions = Transitions::watched(cohort, inputs)?;
    let known_now = preflight::known_now(cohort, inputs)?;
    let unchanged = match known_now.is_empty() {
        true => read_source::unchanged_mark(cohort, previous.as_ref(), inputs)?,
        false => None,
    };
    let compared = match unchanged {
        Some(mark) => skip_source(mark, previous.as_ref(), transitions),
        None => read_and_compare(cohort, previous.as_ref(), transitions, known_now, inputs)?,
    };
    let ComparedSource { mut findings, tally, diff, mark, transitions } = compared;
    let mut changes = guard_declared(cohort, names, previous, diff, Some(tally), inputs)?;
    findings.mark = changes.record_source_mark(mark);
    with_stages(cohort, changes, findings, transitions, inputs)
}

/// A source, compared with the recorded membership.
struct ComparedSource {
    findings: SourceFindings,
    tally: SourceTally,
    diff: DiffResult,
    /// Lets the next run skip the source if nothing is blocked.
    mark: Option<SourceMark>,
    transitions: Option<Transitions>,
}

/// The recorded membership. It starts anew if it is empty and belongs to another workspace or delivery method.
fn recorded_membership(
    cohort: &CohortConfig,
    inputs: PlanInputs<'_>,
) -> Result<Option<Membership>, PlanError> {
    let braze = policy::connection(&cohort.to, inputs.config)?;
    Ok(inputs
        .state
        .version(&cohort.id)?
        .map(|membership| policy::in_configured_workspace(membership, cohort, braze)))
}

/// The result for an unchanged source: no changes.
fn skip_source(
    mark: SourceMark,
    previous: Option<&Membership>,
    transitions: Option<Transitions>,
) -> ComparedSource {
    ComparedSource {
        findings: SourceFindings { matched: Some(mark.matched.clone()), ..SourceFindings::default() },
        tally: tally_of(&mark.matched, None),
        diff: DiffResult::unchanged(previous, mark.rejected),
        mark: Some(mark),
        transitions,
    }
}

/// Reads the source, maps identities, and compares the result with the recorded membership.
fn read_and_compare(
    cohort: &CohortConfig,
    previous: Option<&Membership>,
    transitions: Option<Transitions>,
    add_again: BTreeSet<MemberKey>,
    inputs: PlanInputs<'_>,
) -> Result<ComparedSource, PlanError> {
    let rules = read_source::rules_text(cohort, inputs)?;
    // Before the first byte is read: only then the age of a file proves that it will not change unnoticed.
    let began = inputs.clock.now();
    let mut source = read_source::read(cohort, previous, inputs)?;
    let extras = DiffExtras { rekeyed: source.rekeyed.take(), transitions, add_again };
    let mut diff = compare(&cohort.id, &mut source.wanted, previous, extras, inputs)?;
    let transitions = diff.changes.transitions.take();
    let (findings, headerless_file, fingerprint) = source.finish()?;
    let matched = findings.matched.clone().unwrap_or_default();
    let tally = tally_of(&matched, headerless_file.clone());
    let fingerprint = fingerprint.and_then(|fingerprint| fingerprint.text(&rules, began));
    let mark = fingerprint.filter(|_| headerless_file.is_none()).map(|fingerprint| SourceMark {
        fingerprint,
        matched,
        rejected: diff.tally.rejected,
    });
    Ok(ComparedSource { findings, tally, diff, mark, transitions })
}

/// Adds the optional stages to the guarded changes: preflight, then triggers.
pub(super) fn with_stages(
    cohort: &CohortConfig,
    mut changes: GuardedChanges,
    findings: SourceFindings,
    transitions: Option<Transitions>,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let preflight = preflight::plan(cohort, &mut changes.verdict.approved, inputs)?;
    let (sides, is_first_fill) = (changes.verdict.approved.sides(), changes.is_first_fill());
    let triggers = match transitions {
        Some(transitions) => Some(triggers::choose(cohort, transitions, sides, is_first_fill, inputs)?),
        None => None,
    };
    let plan = CohortPlan::new(CohortHeader::declared(cohort), changes, findings);
    Ok(CohortPlan { preflight, triggers, ..plan })
}
