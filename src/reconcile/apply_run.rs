//! Applies the plan of a run: all cohorts in parallel, with the journal of the run.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::apply_cohort::apply_cohort;
use super::apply_stages::CohortContext;
use super::context::{ApplyResources, WorkspaceClient};
use super::key_check;
use super::mirror_tables::MirrorTables;
use super::report::{CohortReport, RunReport};
use super::run_plan::{CohortPlan, RunPlan};
use crate::apply::{ApplyStop, ConnectionHealth};
use crate::blocking;
use crate::config::Config;
use crate::connector::braze::BrazeKeyKind;
use crate::contained::{Panicked, contained_task};
use crate::model::ConnectionName;
use crate::state::StateError;

/// The clients of the workspaces that a plan sends to.
type WorkspaceClients = BTreeMap<ConnectionName, Arc<WorkspaceClient>>;

/// Applies the approved part of a plan.
///
/// # Errors
/// When the key fingerprints cannot be read, before the first request. Every later error is in the report, with the
/// counts of what was sent.
pub async fn apply(
    plan: RunPlan,
    config: &Config,
    resources: ApplyResources,
) -> Result<RunReport, StateError> {
    let workspaces = workspaces(&plan, config, &resources);
    let uses = plan.cohorts.iter().filter_map(CohortPlan::key_use);
    let mismatches = key_check::mismatches(uses, config, &resources.clients, resources.state.reader())?;
    let mut report = RunReport::new(&resources.run, &plan);
    let tables = Arc::new(MirrorTables::of(config));
    let mut tasks = JoinSet::new();
    for (position, cohort) in plan.cohorts.into_iter().enumerate() {
        let context = CohortContext {
            client: workspaces.get(&cohort.connection).cloned(),
            mismatch: mismatches.get(&(cohort.connection.clone(), cohort.delivery().clone())).cloned(),
            tables: Arc::clone(&tables),
            resources: resources.clone(),
        };
        let begun = CohortReport::new(&cohort);
        let span = tracing::info_span!("apply", cohort = %cohort.id);
        let task = async move {
            let applied = contained_task(apply_cohort(cohort, &context)).await;
            let report =
                applied.unwrap_or_else(|panicked| panicked_report(begun, panicked, &context.resources));
            (position, report)
        };
        tasks.spawn(task.instrument(span));
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok((position, cohort)) => report.insert(position, cohort),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    remember_keys(&report, config, &resources);
    report.requests = report.cohorts.iter().map(|cohort| cohort.outcome.requests()).sum();
    report.journal_error = resources.journal.sync().err().map(ApplyStop::from);
    Ok(report)
}

/// The report of a cohort after a panic in its apply. Requests without a recorded answer are in doubt, as after a crash.
fn panicked_report(mut report: CohortReport, panicked: Panicked, resources: &ApplyResources) -> CohortReport {
    let recorded = blocking::in_place(|| resources.state.reader().version(&report.id));
    report.outcome.in_doubt = recorded.ok().flatten().map_or(0, |version| version.in_doubt);
    report.outcome.stop_reason = Some(ApplyStop::Local(panicked.into()));
    let journaled = resources.journal.append(resources.clock.now(), report.outcome.finished(&report.id));
    report.outcome.stop(journaled.map_err(Into::into));
    resources.progress.finished(&report.id);
    report
}

fn workspaces(plan: &RunPlan, config: &Config, resources: &ApplyResources) -> WorkspaceClients {
    let used = config.braze.iter().filter(|(name, _)| plan.sends_to(name));
    let client = |(name, settings): (&ConnectionName, &crate::config::BrazeConfig)| {
        let workspace = WorkspaceClient {
            workspace: resources.clients.get(name).map(Arc::clone)?,
            health: ConnectionHealth::default(),
            retry: settings.retry,
            settle_again_after: settings.settle_again_after,
        };
        Some((name.clone(), Arc::new(workspace)))
    };
    used.filter_map(client).collect()
}

/// Records the fingerprints of the keys with which Braze accepted a request. A failure is logged: the members are sent.
fn remember_keys(report: &RunReport, config: &Config, resources: &ApplyResources) {
    let accepted =
        report.cohorts.iter().filter(|cohort| cohort.outcome.requests_by_outcome.contains_key("accepted"));
    for CohortReport { connection: name, delivery, .. } in accepted {
        let Some(braze) = resources.clients.get(name) else { continue };
        let key = (&**braze, BrazeKeyKind::of(delivery));
        let remembered = key_check::remember(config, name, key, &resources.state, resources.clock.now());
        if let Err(error) = remembered {
            tracing::warn!(connection = %name, "its key fingerprint could not be recorded: {error}");
        }
    }
}
