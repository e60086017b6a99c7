//! One cohort: reads its source and its record, compares them, and holds the result to its policy.

use super::choose_triggers::{self, Transitions};
use super::compare::{DiffExtras, DiffResult, compare};
use super::cursors::WantedMembers;
use super::plan_error::PlanError;
use super::policy::{self, CohortNames};
use super::preflight;
use super::read_source::{SourceRead, gather};
use super::report::CohortPlan;
use super::{PlanInputs, delivery_change};
use crate::config::{BrazeConfig, CohortConfig};
use crate::model::{Ceilings, CohortId, ConnectionName, DeliveryMethod, GuardLimits, MatchTally, Timestamp};
use crate::plan::{
    self, ChangeSide, CohortNaming, GuardPolicy, GuardVerdict, MembershipPlan, PlanDigest, SourceTally, guard,
};
use crate::source::{self, SourceReader as _};
use crate::state::{Membership, RecordedWorkspace, SourceMark, Spool};

/// Plans a cohort that the config declares.
pub(super) fn declared(
    cohort: &CohortConfig,
    names: &CohortNames,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let braze = connection(&cohort.to, inputs)?;
    let previous = inputs.state.version(&cohort.id)?.map(|record| policy::at_home(record, cohort, braze));
    let previous = match previous {
        Some(record) if delivery_change::is_due(cohort, &record) => {
            return delivery_change::plan(cohort, record, inputs);
        }
        previous => previous,
    };
    let crossings = Transitions::watched(cohort, inputs)?;
    let known = preflight::known(cohort, inputs)?;
    let unchanged =
        if known.is_empty() { unchanged_source(cohort, previous.as_ref(), inputs)? } else { None };
    if let Some(mark) = unchanged {
        let source = tally_of(&mark.matched, None);
        let (matched, diff) = (mark.matched.clone(), DiffResult::none(previous.as_ref(), mark.refused));
        let plan = judged(cohort, names, previous.clone(), diff, Some(source), inputs)?;
        let plan = CohortPlan { matched: Some(matched), ..plan.marked(Some(mark)) };
        return choose_triggers::acting(cohort, crossings, plan, inputs);
    }
    let rules = rules_text(cohort, inputs)?;
    // Taken before the first byte is read: only then does a file's age say that it will not change unseen.
    let began = inputs.clock.now();
    let mut gathered = gather(cohort, previous.as_ref(), inputs)?;
    let beside = DiffExtras { moved: gathered.moved.take(), crossings, again: known };
    let mut diff = compare(&cohort.id, &mut gathered.wanted, previous.as_ref(), beside, inputs)?;
    let (matched, spelled) = gathered.matched()?;
    let SourceRead { permit, reading, fingerprint, rejects, compared, .. } = gathered;
    drop(permit); // the members are compared; their changes are in spools
    let mark = fingerprint.and_then(|print| print.text(&rules, began));
    let mark = mark.filter(|_| reading.headerless_file.is_none()).map(|fingerprint| SourceMark {
        fingerprint,
        matched: matched.clone(),
        refused: diff.tally.refused,
    });
    let source = tally_of(&matched, reading.headerless_file);
    let crossings = diff.changes.crossings.take();
    let plan = judged(cohort, names, previous, diff, Some(source), inputs)?;
    let (matched, rejects) = (Some(matched), Some(rejects));
    let plan = CohortPlan { matched, source_read: true, rejects, spelled, compared, ..plan.marked(mark) };
    choose_triggers::acting(cohort, crossings, plan, inputs)
}

pub(super) fn tally_of(matched: &MatchTally, hollow: Option<String>) -> SourceTally {
    let MatchTally { rows, duplicates, unreadable, shapes, .. } = *matched;
    let rejects = matched.rejects.clone();
    let named = rows.saturating_sub(rejects.values().sum());
    SourceTally { rows, duplicates, unreadable, matched: named, shapes, rejects, hollow }
}

/// Everything but the files themselves that decides who is in a cohort, and by which name.
fn rules_text(cohort: &CohortConfig, inputs: PlanInputs<'_>) -> Result<String, PlanError> {
    let identity = if source::may_rekey(cohort) { inputs.state.identity_version()? } else { 0 };
    let (source, rules, delivery) = (&cohort.source, &cohort.rules, cohort.delivery.code());
    Ok(format!("{} {source:?} {rules:?} {delivery} {identity}", env!("CARGO_PKG_VERSION")))
}

/// The mark of a source that need not be read: the record is exactly what it names.
fn unchanged_source(
    cohort: &CohortConfig,
    previous: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<Option<SourceMark>, PlanError> {
    let now = inputs.clock.now();
    let settled = |record: &&Membership| {
        let is_certain = record.settles_again_at().is_none_or(|at| at > now);
        record.in_doubt == 0 && record.members.is_some() && !record.removed && is_certain
    };
    let Some(mark) = previous.filter(settled).and_then(|record| record.source.as_ref()) else {
        return Ok(None);
    };
    if inputs.retry_rejected && mark.refused > 0 {
        return Ok(None);
    }
    let found = cohort.source.fingerprint(inputs.from())?;
    let rules = rules_text(cohort, inputs)?;
    let found = found.and_then(|found| found.text(&rules, inputs.clock.now()));
    Ok((found.as_ref() == Some(&mark.fingerprint)).then(|| mark.clone()))
}

/// Makes a plan of a declared cohort's changes and holds it to its policy.
pub(super) fn judged(
    cohort: &CohortConfig,
    names: &CohortNames,
    previous: Option<Membership>,
    diff: DiffResult,
    source: Option<SourceTally>,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let braze = connection(&cohort.to, inputs)?;
    let workspace = policy::workspace(&cohort.to, braze, &cohort.delivery);
    let moved = previous.as_ref().and_then(|record| policy::moved(&record.workspace, &workspace, braze));
    let naming = naming(cohort, previous.as_ref(), inputs.clock.now());
    let by = (braze, &cohort.delivery);
    let plan = diff.into_plan(&cohort.id, previous.as_ref(), naming, source, by);
    let again = plan.tally.sent_again + plan.tally.let_go_again;
    let mixed = cohort.rules.len() > 1 || plan.tally.rekeyed > 0 || again > plan.tally.settled_again;
    let plan = MembershipPlan { mixed, target: choose_triggers::target(cohort, &workspace), ..plan };
    let mut record = previous
        .clone()
        .unwrap_or_else(|| Membership::first(inputs.run, inputs.clock.now(), workspace.clone()));
    if moved.is_none() {
        record.workspace = workspace;
        record.protected = cohort.protect.unwrap_or(record.protected);
        record.removed = false;
    }
    let policy = GuardPolicy {
        limits: cohort.limits,
        ceilings: ceilings(&cohort.id, inputs),
        protected: record.protected,
        share_base: record.share_base,
        array_full: names.array_full(cohort, braze),
        name_taken_by: names.taken_by(cohort),
        moved,
        approved: Vec::new(),
    };
    let (policy, is_approved) = with_approvals(&plan, policy, inputs)?;
    let verdict = guard(plan, &policy);
    let withheld = verdict.refusals.iter().any(|refusal| refusal.side() == ChangeSide::Removes);
    let members = verdict.approved.plan().tally.known();
    record.share_base = withheld.then(|| record.share_base.unwrap_or(members));
    forget_late(&mut record, &verdict);
    // The base of the share is recorded with what is sent beside the blocked removals. If nothing is, the members
    // stay as many as they are, and a blocked run changes nothing.
    let share_base =
        if withheld { previous.as_ref().and_then(|known| known.share_base) } else { record.share_base };
    let compared = Membership { share_base, ..record.clone() };
    Ok(CohortPlan {
        id: cohort.id.clone(),
        name: cohort.name.clone(),
        connection: cohort.to.clone(),
        declared_at: cohort.declared_at.clone(),
        verdict,
        matched: None,
        source_read: false,
        rejects: None,
        spelled: Vec::new(),
        mark: None,
        record_changed: previous.is_some_and(|previous| previous != compared),
        record,
        empties: false,
        is_approved,
        actions: None,
        compared: None,
        strangers: None,
    })
}

/// Late requests that the plan has looked for are over, if nothing is to be sent because of them. If something is, the
/// apply notes that. Whether the record is changed.
pub(super) fn forget_late(record: &mut Membership, verdict: &GuardVerdict<Spool>) -> bool {
    let plan = verdict.approved.plan();
    let is_over = verdict.refusals.is_empty() && verdict.approved.is_in_step();
    let Some(at) = plan.settles.filter(|_| is_over) else { return false };
    record.forget_late(at)
}

/// Looks for a person's approval, if it would make a difference.
pub(super) fn with_approvals(
    plan: &MembershipPlan<Spool>,
    policy: GuardPolicy,
    inputs: PlanInputs<'_>,
) -> Result<(GuardPolicy, bool), PlanError> {
    let refused = plan::refusals(plan, &policy);
    if !refused.iter().any(plan::GuardViolation::can_be_approved) {
        return Ok((policy, false));
    }
    let given = inputs.state.approvals(&plan.cohort, inputs.clock.now())?;
    let approved: Vec<PlanDigest> = given.iter().filter_map(|approval| approval.plan.parse().ok()).collect();
    let policy = GuardPolicy { approved, ..policy };
    let is_approved = plan::refusals(plan, &policy).len() < refused.len();
    Ok((policy, is_approved))
}

pub(super) fn connection<'a>(
    name: &ConnectionName,
    inputs: PlanInputs<'a>,
) -> Result<&'a BrazeConfig, PlanError> {
    inputs.config.braze.get(name).ok_or_else(|| PlanError::NoConnection(name.to_string()))
}

/// Plans the emptying of a cohort that left the config. None when there is nothing left to do.
pub(super) fn removed(id: &CohortId, inputs: PlanInputs<'_>) -> Result<Option<CohortPlan>, PlanError> {
    let Some(record) = inputs.state.version(id)?.filter(|record| !record.removed) else { return Ok(None) };
    let diff = compare(id, &mut WantedMembers::Nobody, Some(&record), DiffExtras::default(), inputs)?;
    emptying(id, record, diff, inputs).map(Some)
}

/// The connection that a record belongs to, by the name that it has now.
pub(super) fn at<'a>(
    record: &Membership,
    inputs: PlanInputs<'a>,
) -> Result<(ConnectionName, &'a BrazeConfig, RecordedWorkspace), PlanError> {
    let old = &record.workspace.connection;
    let name =
        policy::connection_of(old, inputs.config).ok_or_else(|| PlanError::NoConnection(old.clone()))?;
    let braze = connection(&name, inputs)?;
    let here = policy::workspace(&name, braze, &record.workspace.delivery);
    Ok((name, braze, here))
}

/// Makes a plan of a cohort's emptying and holds it to its policy.
pub(super) fn emptying(
    id: &CohortId,
    record: Membership,
    diff: DiffResult,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let (name, braze, here) = at(&record, inputs)?;
    let plan = diff.into_plan(id, Some(&record), None, None, (braze, &here.delivery));
    let plan = MembershipPlan { target: here.to_string(), ..plan };
    let policy = GuardPolicy {
        limits: GuardLimits::default(),
        ceilings: ceilings(id, inputs),
        protected: record.protected,
        moved: policy::moved(&record.workspace, &here, braze),
        ..GuardPolicy::default()
    };
    let verdict = guard(plan, &policy);
    let mut record = record;
    let record_changed = forget_late(&mut record, &verdict);
    Ok(CohortPlan {
        id: id.clone(),
        name: record.name.clone().unwrap_or_else(|| id.to_string()),
        connection: name,
        declared_at: "removed:".to_owned(),
        verdict,
        matched: None,
        source_read: false,
        rejects: None,
        spelled: Vec::new(),
        mark: None,
        record,
        record_changed,
        empties: true,
        is_approved: false,
        actions: None,
        compared: None,
        strangers: None,
    })
}

pub(super) fn ceilings(id: &CohortId, inputs: PlanInputs<'_>) -> Ceilings {
    inputs.ceilings.get(id).copied().unwrap_or_default()
}

/// What Braze must be told of the cohort itself. Of a cohort in an attribute there is nothing to be told.
fn naming(cohort: &CohortConfig, previous: Option<&Membership>, now: Timestamp) -> Option<CohortNaming> {
    if cohort.delivery != DeliveryMethod::CohortImport {
        return None;
    }
    match previous.and_then(|record| record.name.as_ref()) {
        None => Some(CohortNaming::Create { name: cohort.name.clone() }),
        Some(name) if *name != cohort.name => {
            Some(CohortNaming::Rename { from: name.clone(), name: cohort.name.clone() })
        }
        Some(name) => {
            let is_in_doubt = previous.is_some_and(|record| record.is_name_in_doubt(now));
            is_in_doubt.then(|| CohortNaming::Again { name: name.clone() })
        }
    }
}
