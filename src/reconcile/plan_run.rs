//! Plans a run: every cohort of the config, in parallel, or a plan that was saved to a file.

use std::collections::BTreeSet;
use std::path::Path;

use super::context::PlanInputs;
use super::key_check;
use super::lanes::{self, Lane};
use super::plan_cohort;
use super::plan_error::PlanError;
use super::plan_file::{self, PlanFileError};
use super::plan_recorded;
use super::plan_saved;
use super::policy::{self, CohortNames, OrphanedCohort};
use super::run_plan::RunPlan;
use crate::config::{CohortConfig, Config};
use crate::contained::contained;
use crate::heap_segments::{self, IngestContext};
use crate::model::{Clock, CohortId, ConnectionName, EndpointName, RunId, Timestamp};
use crate::state::{Membership, MemoryBudget, StateError, StateReader, StateWriter};

/// Plans the cohorts of the config. The plan lists them in the order of the config. Changes nothing.
///
/// # Errors
/// When the state cannot be read. An error of one cohort is in the plan and stops no other cohort.
pub fn plan(inputs: PlanInputs<'_>) -> Result<RunPlan, StateError> {
    MemoryBudget::of_process().set_limit(inputs.config.memory_max);
    let names = CohortNames::read(inputs.config, inputs.state)?;
    let mut plan = RunPlan::new(inputs.config.digest.clone());
    plan_declared(&names, inputs, &mut plan);
    for id in inputs.config.removed.iter().filter(|id| inputs.includes(id)) {
        let planned = contained(|| plan_recorded::plan_removed(id, inputs));
        if let Some(planned) = planned.unwrap_or_else(|panicked| Err(panicked.into())).transpose() {
            plan.add(id, planned);
        }
    }
    if inputs.only.is_empty() {
        plan.orphaned = names.orphaned;
        let is_removed = |id: &CohortId| inputs.config.removed.contains(id);
        for (id, error) in names.unreadable.into_iter().filter(|(id, _)| !is_removed(id)) {
            plan.add(&id, Err(error.into()));
        }
    }
    plan.locate(inputs.config);
    Ok(plan)
}

/// Plans the cohorts under `cohorts:`, several at once.
fn plan_declared(names: &CohortNames, inputs: PlanInputs<'_>, plan: &mut RunPlan) {
    let included = inputs.config.cohorts.iter().filter(|cohort| inputs.includes(&cohort.id));
    let cohorts: Vec<&CohortConfig> = included.collect();
    let connections: BTreeSet<&ConnectionName> = cohorts.iter().map(|cohort| &cohort.to).collect();
    let is_unreadable = |name: &&ConnectionName| key_check::check_readable(name, inputs).is_err();
    let unreadable: BTreeSet<&ConnectionName> = connections.into_iter().filter(is_unreadable).collect();
    let planned = lanes::map_in_lanes(
        &cohorts,
        |cohort| Lane::of(cohort, inputs.config),
        |cohort| {
            let _entered = tracing::info_span!("plan", cohort = %cohort.id).entered();
            let planned = contained(|| {
                if unreadable.contains(&cohort.to) {
                    key_check::check_readable(&cohort.to, inputs)?;
                }
                plan_cohort::plan_declared(cohort, names, inputs)
            });
            inputs.progress.finished(&cohort.id);
            planned.unwrap_or_else(|panicked| Err(panicked.into()))
        },
    );
    cohorts.iter().zip(planned).for_each(|(cohort, planned)| plan.add(&cohort.id, planned));
}

/// Loads a plan that [`save`] wrote and checks it against the state, instead of reading the sources.
///
/// # Errors
/// [`PlanFileError`] when the file cannot be read, or when the config or the state has changed since.
pub fn resume(path: &Path, inputs: PlanInputs<'_>) -> Result<RunPlan, PlanFileError> {
    MemoryBudget::of_process().set_limit(inputs.config.memory_max);
    let saved = plan_file::load(path, inputs)?;
    let names = CohortNames::read(inputs.config, inputs.state)?;
    let mut plan = RunPlan::new(saved.config);
    for cohort in saved.cohorts {
        plan.cohorts.push(plan_saved::plan_saved(path, cohort, &names, inputs)?);
    }
    for (id, why) in saved.failed {
        plan.add(&id, Err(PlanError::Saved(why)));
    }
    plan.orphaned = names.orphaned;
    plan.locate(inputs.config);
    Ok(plan)
}

/// Saves a plan with all its changes to a file that only its owner can read, signed with a key of the state.
///
/// # Errors
/// [`PlanFileError`] when the file cannot be written.
pub fn save(plan: &mut RunPlan, path: &Path, state: &StateReader) -> Result<(), PlanFileError> {
    plan_file::save(plan, path, state)
}

/// Plans to send all recorded members of a cohort again. `None` if the state does not have the cohort.
///
/// # Errors
/// [`PlanError`] when the membership cannot be read, or the config no longer has its connection.
pub fn resync(cohort: &CohortId, inputs: PlanInputs<'_>) -> Result<Option<RunPlan>, PlanError> {
    let Some(membership) = inputs.state.version(cohort)? else { return Ok(None) };
    let mut plan = RunPlan::new(inputs.config.digest.clone());
    plan.cohorts.push(plan_recorded::plan_resync(cohort, membership, inputs)?);
    Ok(Some(plan))
}

/// Ingests the webhook deliveries in the inbox of every Heap connection. Returns the connections with
/// damaged segment tables, each with the error. They stop no other connection.
///
/// # Errors
/// When the state cannot be read or written.
pub fn ingest_deliveries(
    config: &Config,
    state: &StateWriter,
    run: &RunId,
    clock: Clock,
) -> Result<Vec<(ConnectionName, StateError)>, StateError> {
    let mut damaged = Vec::new();
    for (heap, settings) in &config.heap {
        let incomplete_after = settings.incomplete_after;
        let context = IngestContext { state, heap, run, now: clock.now(), incomplete_after };
        match heap_segments::ingest(&state.reader().inbox(&EndpointName::of_heap(heap))?, context) {
            Ok(_) => {}
            Err(error) if error.is_of_one_file() => damaged.push((heap.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}

/// Orphaned cohorts: they are in the state, and not in the config.
///
/// # Errors
/// When the state cannot be read.
pub fn orphaned(config: &Config, state: &StateReader) -> Result<Vec<OrphanedCohort>, StateError> {
    Ok(CohortNames::read(config, state)?.orphaned)
}

/// The first version of a declared cohort's membership.
#[must_use]
pub fn first_membership(id: &CohortId, config: &Config, run: &RunId, now: Timestamp) -> Option<Membership> {
    let cohort = config.cohorts.iter().find(|cohort| cohort.id == *id)?;
    let workspace = policy::workspace(&cohort.to, config.braze.get(&cohort.to)?, &cohort.delivery);
    Some(Membership::first(run, now, workspace))
}
