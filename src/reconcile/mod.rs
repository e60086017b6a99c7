//! One run over everything, in its order: read, match, diff, guard, then apply and record.
//!
//! # Expected flow
//! [`plan()`] reads sources and record and changes nothing; its [`PassPlan`] can be shown, saved, compared
//! with what a person has approved, or dropped. [`apply()`] takes it and does what the guard left of it,
//! several cohorts at once.
//!
//! # Guarantees
//! A cohort that cannot be planned stops no other. What was planned is what is sent.

mod at_once;
mod choose_triggers;
mod clients;
mod compare;
mod cursors;
mod delivery_change;
mod exports;
mod follow_rekeys;
mod mirror_tables;
mod plan_cohort;
mod plan_error;
mod plan_file;
mod policy;
mod preflight;
mod read_source;
mod rekey_followups;
mod rekeyed;
mod report;
mod resync;
mod run_triggers;
mod signed;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mirror_tables::MirrorTables;
use preflight::PreflightRun;
use run_triggers::TriggerRun;
use tokio::task::JoinSet;
use tracing::Instrument as _;

pub use at_once::Lane;
pub use choose_triggers::{TriggerPlan, TriggersPlan};
pub use clients::{BrazeAccess, BrazeClients, link};
pub use exports::{ExportJob, Exporting, export, word as exports_word};
pub use plan_error::{FailedKind, PlanError};
pub use plan_file::PlanFileError;
pub use preflight::{PreflightPlan, PreflightReport};
pub use read_source::PushdownReport;
pub use report::{CohortPlan, CohortReport, FailedCohort, OrphanedCohort, RunPlan, RunReport};

use crate::apply::{self, ApplyContext, ApplyStop, ConnectionHealth, Interrupt};
use crate::config::{CohortConfig, Config, RetryPolicy, SourceAccess};
use crate::connector::braze::{BrazeClient, BrazeKeyKind};
use crate::contained::{Panicked, contained, contained_task};
use crate::heap_segments::{self, IngestContext};
use crate::model::{Ceilings, ChangeOp, Clock, CohortId, ConnectionName, EndpointName, Progress, RunId};
use crate::source;
use crate::state::{Journal, JournalEvent, LogRetention, Memory, StateError, StateReader, StateWriter};

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct PlanInputs<'a> {
    /// The config.
    pub config: &'a Config,
    /// The record.
    pub state: &'a StateReader,
    /// The secrets of databases.
    pub secrets: &'a SourceAccess,
    /// What a person has allowed for this run.
    pub ceilings: &'a BTreeMap<CohortId, Ceilings>,
    /// Plan these cohorts only; all of them if empty.
    pub only: &'a [CohortId],
    /// Ask again for those whom Braze has refused before.
    pub retry_rejected: bool,
    /// The run.
    pub run: &'a RunId,
    /// The time.
    pub clock: Clock,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl<'a> PlanInputs<'a> {
    fn from(&self) -> source::SourceInputs<'a> {
        source::SourceInputs {
            access: source::ReadAccess { config: self.config, secrets: self.secrets },
            state: self.state,
            now: self.clock.now(),
        }
    }

    fn wants(&self, cohort: &CohortId) -> bool {
        self.only.is_empty() || self.only.contains(cohort)
    }
}

/// Ingests the webhook deliveries of every Heap that wait in the inbox. Returns the connections whose segment tables
/// are damaged, each with the error: they stop no other connection.
///
/// # Errors
/// When the state cannot be read or written.
pub fn fold_all(
    config: &Config,
    state: &StateWriter,
    run: &RunId,
    clock: Clock,
) -> Result<Vec<(ConnectionName, StateError)>, StateError> {
    let mut damaged = Vec::new();
    for (heap, settings) in &config.heap {
        let incomplete_after = settings.incomplete_after;
        let folding = IngestContext { state, heap, run, now: clock.now(), incomplete_after };
        match heap_segments::fold(&state.reader().inbox(&EndpointName::of_heap(heap))?, folding) {
            Ok(_) => {}
            Err(error) if error.is_of_one_file() => damaged.push((heap.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}

/// Cohorts of the state that the config does not know.
///
/// # Errors
/// When the state cannot be read.
pub fn orphaned(config: &Config, state: &StateReader) -> Result<Vec<OrphanedCohort>, StateError> {
    Ok(policy::CohortNames::read(config, state)?.orphaned)
}

/// The first version of a cohort that the config declares.
#[must_use]
pub fn first_version(
    id: &CohortId,
    config: &Config,
    run: &RunId,
    now: crate::model::Timestamp,
) -> Option<crate::state::Membership> {
    let cohort = config.cohorts.iter().find(|cohort| cohort.id == *id)?;
    let workspace = policy::workspace(&cohort.to, config.braze.get(&cohort.to)?, &cohort.delivery);
    Some(crate::state::Membership::first(run, now, workspace))
}

/// Plans every cohort, many at once; the plan has them in the order of the config. Reads, and changes nothing.
///
/// # Errors
/// When the state as a whole cannot be read; a single cohort's trouble is in the plan.
pub fn plan(inputs: PlanInputs<'_>) -> Result<RunPlan, StateError> {
    Memory::of_process().set_limit(inputs.config.memory_max);
    let names = policy::CohortNames::read(inputs.config, inputs.state)?;
    let mut plan = RunPlan::new(inputs.config.digest.clone());
    let wanted = inputs.config.cohorts.iter().filter(|cohort| inputs.wants(&cohort.id));
    let cohorts: Vec<&CohortConfig> = wanted.collect();
    let connections: BTreeSet<&ConnectionName> = cohorts.iter().map(|cohort| &cohort.to).collect();
    let unreadable: BTreeSet<&ConnectionName> =
        connections.into_iter().filter(|name| workspace::readable(name, inputs).is_err()).collect();
    let planned = at_once::each(
        &cohorts,
        |cohort| Lane::of(cohort, inputs.config),
        |cohort| {
            let planned = contained(|| match unreadable.contains(&cohort.to) {
                true => workspace::readable(&cohort.to, inputs)
                    .and_then(|()| plan_cohort::declared(cohort, &names, inputs)),
                false => plan_cohort::declared(cohort, &names, inputs),
            });
            inputs.progress.finished(&cohort.id);
            planned.unwrap_or_else(|panicked| Err(panicked.into()))
        },
    );
    cohorts.iter().zip(planned).for_each(|(cohort, planned)| plan.add(&cohort.id, planned));
    for id in inputs.config.removed.iter().filter(|id| inputs.wants(id)) {
        let planned = contained(|| plan_cohort::removed(id, inputs));
        if let Some(planned) = planned.unwrap_or_else(|panicked| Err(panicked.into())).transpose() {
            plan.add(id, planned);
        }
    }
    if inputs.only.is_empty() {
        plan.orphaned = names.orphaned;
        for (id, error) in names.unreadable.into_iter().filter(|(id, _)| !inputs.config.removed.contains(id))
        {
            plan.add(&id, Err(error.into()));
        }
    }
    Ok(plan)
}

/// Plans from a file that `plan` has saved, instead of from the sources.
///
/// # Errors
/// [`SavedError`] when the file cannot be read, or what it starts from is no longer so.
pub fn resume(path: &std::path::Path, inputs: PlanInputs<'_>) -> Result<RunPlan, PlanFileError> {
    plan_file::load(path, inputs)
}

/// Plans to send a cohort again, all of it, by its record. None: the record has nothing of it.
///
/// # Errors
/// [`PlanError`] when the record cannot be read, or its connection is gone.
pub fn resync(cohort: &CohortId, inputs: PlanInputs<'_>) -> Result<Option<RunPlan>, PlanError> {
    resync::plan(cohort, inputs)
}

/// Saves a plan, changes and all, to a file that only its owner can read. It is signed with a key of the state.
///
/// # Errors
/// [`SavedError`] when the disk does not take it.
pub fn save(plan: &mut RunPlan, path: &std::path::Path, state: &StateReader) -> Result<(), PlanFileError> {
    plan_file::save(plan, path, state)
}

/// The report of a plan that the guard blocks, when it may be applied only as a whole: nothing is sent, and
/// nothing in the state changes.
#[must_use]
pub fn blocked(plan: &RunPlan, run: &RunId) -> RunReport {
    let mut report = RunReport::new(run, plan);
    for (place, cohort) in plan.cohorts.iter().enumerate() {
        let mut unsent = CohortReport::new(cohort);
        unsent.outcome.halt = cohort.sends().then_some(ApplyStop::Blocked);
        report.put(place, unsent);
    }
    report
}

/// What an apply works with.
#[derive(Clone)]
pub struct ApplyResources {
    /// The store.
    pub state: Arc<StateWriter>,
    /// The clients of the connections that can be reached.
    pub links: BrazeClients,
    /// The run.
    pub run: RunId,
    /// The time.
    pub clock: Clock,
    /// Who watches.
    pub progress: Arc<dyn Progress>,
    /// Whether a person wants to stop.
    pub interrupt: Interrupt,
    /// The secrets of databases, for the tables beside sources.
    pub secrets: Arc<SourceAccess>,
}

/// A workspace, shared by the cohorts that are sent to it.
#[derive(Debug)]
struct WorkspaceClient {
    braze: Arc<BrazeClient>,
    health: ConnectionHealth,
    retry: RetryPolicy,
    settle_again_after: Duration,
}

/// Applies what the guard left of a plan.
///
/// # Errors
/// When the journal cannot be written, before anything is sent. Every later error is in the report: what was sent is
/// never lost with it.
pub async fn apply(plan: RunPlan, config: &Config, means: ApplyResources) -> Result<RunReport, StateError> {
    let began = means.clock.now();
    let journal = Arc::new(means.state.journal(&means.run, began)?);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    journal.append(began, JournalEvent::Began { syncline: version, config: plan.config.clone() })?;
    let workspaces = workspaces(&plan, config, &means);
    let refusals = workspace::refusals(&plan, config, &means)?;
    let mut report = RunReport::new(&means.run, &plan);
    let tables = Arc::new(MirrorTables::of(config));
    let mut tasks = JoinSet::new();
    for (place, cohort) in plan.cohorts.into_iter().enumerate() {
        let workspace = workspaces.get(&cohort.connection).cloned();
        let refusal = refusals.get(&(cohort.connection.clone(), cohort.delivery().clone())).cloned();
        let (means, journal, tables) = (means.clone(), Arc::clone(&journal), Arc::clone(&tables));
        let begun = CohortReport::new(&cohort);
        let task = async move {
            let work = one(cohort, workspace, refusal, &tables, &means, &journal);
            let done = contained_task(work).await;
            (place, done.unwrap_or_else(|panicked| stopped_by_bug(begun, panicked, &means)))
        };
        tasks.spawn(task.in_current_span());
    }
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok((place, cohort)) => report.put(place, cohort),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    adopt(&report, &workspaces, config, &means);
    report.requests = report.cohorts.iter().map(|cohort| cohort.outcome.requests()).sum();
    let ended = JournalEvent::Ended { result: report.word().to_owned(), requests: report.requests };
    let journaled = journal.append(means.clock.now(), ended).and_then(|()| journal.sync());
    report.halt = journaled.err().map(ApplyStop::from);
    tokio::task::block_in_place(|| end(&means.state, config, means.clock));
    Ok(report)
}

/// How long the state keeps journal and rejects.
#[must_use]
pub fn log_retention(config: &Config) -> LogRetention {
    let exports = config.exports.iter().map(|export| (export.id.clone(), export.rejects_kept));
    LogRetention { logs: config.retention, exports: exports.collect() }
}

/// What a run does for the state at its end. It has no influence on the run's result.
fn end(state: &StateWriter, config: &Config, clock: Clock) {
    state.note_heads();
    if let Err(error) = state.tidy_logs(&log_retention(config), clock.now()) {
        tracing::warn!("journal and rejects could not be merged or pruned: {error}");
    }
}

/// The report of a cohort whose apply panicked. What was sent without a recorded answer is in doubt, as after a crash.
fn stopped_by_bug(mut report: CohortReport, panicked: Panicked, means: &ApplyResources) -> CohortReport {
    let recorded = tokio::task::block_in_place(|| means.state.reader().version(&report.id));
    report.outcome.in_doubt = recorded.ok().flatten().map_or(0, |version| version.in_doubt);
    report.outcome.halt = Some(ApplyStop::Local(panicked.into()));
    means.progress.finished(&report.id);
    report
}

/// The workspaces that the plan sends to, as they are for this run.
fn workspaces(
    plan: &RunPlan,
    config: &Config,
    means: &ApplyResources,
) -> BTreeMap<ConnectionName, Arc<WorkspaceClient>> {
    let mut workspaces = BTreeMap::new();
    for (name, settings) in config.braze.iter().filter(|(name, _)| plan.sends_to(name)) {
        let Some(braze) = means.links.get(name).map(Arc::clone) else { continue };
        let (health, retry, settle_again_after) =
            (ConnectionHealth::default(), settings.retry, settings.settle_again_after);
        workspaces
            .insert(name.clone(), Arc::new(WorkspaceClient { braze, health, retry, settle_again_after }));
    }
    workspaces
}

/// Remembers the keys with which Braze has taken something. What was sent is told, whatever becomes of this.
fn adopt(
    report: &RunReport,
    workspaces: &BTreeMap<ConnectionName, Arc<WorkspaceClient>>,
    config: &Config,
    means: &ApplyResources,
) {
    let took = report.cohorts.iter().filter(|cohort| cohort.outcome.answers.contains_key("accepted"));
    for CohortReport { connection: name, delivery, .. } in took {
        let Some(workspace) = workspaces.get(name) else { continue };
        let now = means.clock.now();
        if let Err(error) =
            workspace::adopt(config, name, (&workspace.braze, BrazeKeyKind::of(delivery)), &means.state, now)
        {
            tracing::warn!(connection = %name, "its workspace could not be remembered: {error}");
        }
    }
}

/// Applies one cohort's plan, and keeps what could not be used.
async fn one(
    cohort: CohortPlan,
    workspace: Option<Arc<WorkspaceClient>>,
    refusal: Option<ApplyStop>,
    tables: &MirrorTables,
    means: &ApplyResources,
    journal: &Journal,
) -> CohortReport {
    let mut report = CohortReport::new(&cohort);
    let (id, sends) = (cohort.id.clone(), cohort.sends());
    let changed = !cohort.verdict.approved.is_in_step() || cohort.record_changed;
    let before = mirror_tables::MirrorBefore::of(&cohort.record, cohort.compared.as_ref());
    if refusal.is_some() && sends {
        report.outcome.halt = refusal;
    } else {
        let sent = send(cohort, workspace.as_deref(), means, journal, &mut report).await;
        report.outcome.stop(sent);
        tokio::task::block_in_place(|| {
            report.table_trouble = tables.keep(&id, &before, means);
            // After the table, which is brought up to date by the runs that the run has written.
            if changed && let Err(error) = mirror_tables::tidy(&id, means) {
                tracing::warn!(cohort = %id, "the record could not be tidied: {error}");
            }
        });
    }
    if sends || report.outcome.halt.is_some() {
        let finished = report.outcome.finished(&id);
        let journaled = journal.append(means.clock.now(), finished);
        report.outcome.stop(journaled.map_err(Into::into));
    }
    means.progress.finished(&id);
    report
}

/// Sends one cohort's members and triggers. What was done before an error is in the report.
async fn send(
    mut cohort: CohortPlan,
    workspace: Option<&WorkspaceClient>,
    means: &ApplyResources,
    journal: &Journal,
    report: &mut CohortReport,
) -> Result<(), ApplyStop> {
    let mut rejects = means.state.rejects(&means.run, cohort.id.as_str());
    if let Some(found) = &mut cohort.rejects {
        found.copy_to(&mut rejects)?;
    }
    let mut approved = cohort.verdict.approved;
    let (adds, removes) = (approved.changes(ChangeOp::Add), approved.changes(ChangeOp::Remove));
    let refusals = cohort.verdict.refusals.len() as u64;
    let (id, is_approved) = (cohort.id.clone(), cohort.is_approved);
    let braze = workspace.map(|workspace| &*workspace.braze);
    let asking = match cohort.strangers {
        Some(plan) => Some(PreflightRun::begin(&cohort.id, plan, &mut approved, braze, means).await?),
        None => None,
    };
    let acts = cohort.actions.filter(|actions| !actions.is_idle());
    let acting = match acts {
        Some(actions) => Some(TriggerRun::begin(&cohort.id, actions, refusals > 0, means)?),
        None => None,
    };
    if !approved.is_in_step() {
        let delivery = &approved.plan().delivery;
        let workspace = workspace.ok_or(ApplyStop::NoKeys)?;
        let delivery = delivery.clone();
        let destination = workspace.braze.destination(&delivery).ok_or(ApplyStop::NoKeys)?;
        let planned = JournalEvent::planned(&cohort.id, approved.plan().base, adds, removes, refusals);
        journal.append(means.clock.now(), planned)?;
        let context = context(workspace, means, journal);
        report.outcome =
            apply::apply(approved, cohort.record, cohort.mark, &mut rejects, &*destination, context).await;
    } else if cohort.record_changed {
        let mut record = cohort.record;
        record.number += 1;
        tokio::task::block_in_place(|| means.state.commit(&cohort.id, &record))?;
    }
    // From here on something may have been sent: an error stops what follows, and loses nothing.
    let outcome = &mut report.outcome;
    if let Some(asking) = asking {
        let (asked, ended) = asking.end(outcome);
        report.asked = Some(asked);
        outcome.stop(ended.map_err(Into::into));
    }
    if let Some(mut acting) = acting {
        let context = workspace.map(|workspace| context(workspace, means, journal));
        let acted =
            acting.carry_out(&cohort.id, outcome, braze, context, &mut rejects, &mut report.triggered).await;
        outcome.stop(acted);
    }
    if cohort.empties && outcome.is_whole() && refusals == 0 {
        outcome.stop(close(&cohort.id, means).map_err(Into::into));
    }
    let forget = || tokio::task::block_in_place(|| means.state.forget_approvals(&id));
    if is_approved
        && outcome.is_whole()
        && let Err(error) = forget()
    {
        // It is good for that plan alone, so it does no harm.
        tracing::warn!(cohort = %id, "could not delete the used approval: {error}");
    }
    match rejects.finish() {
        Ok(file) => report.rejects_file = file,
        Err(error) => outcome.stop(Err(error.into())),
    }
    Ok(())
}

fn context<'a>(
    workspace: &'a WorkspaceClient,
    means: &'a ApplyResources,
    journal: &'a Journal,
) -> ApplyContext<'a> {
    ApplyContext {
        health: &workspace.health,
        retry: workspace.retry,
        settle_again_after: workspace.settle_again_after,
        state: &means.state,
        journal,
        run: &means.run,
        clock: means.clock,
        progress: &*means.progress,
        interrupt: &means.interrupt,
    }
}

/// A cohort that was to be emptied is empty, and no late request can fill it again: it is of no interest from now on.
fn close(cohort: &CohortId, means: &ApplyResources) -> Result<(), StateError> {
    let Some(mut record) = means
        .state
        .reader()
        .version(cohort)?
        .filter(|record| !record.removed && !record.may_be_filled_late())
    else {
        return Ok(());
    };
    record.number += 1;
    record.removed = true;
    record.run = means.run.as_str().into();
    record.written_at = means.clock.now();
    means.state.commit(cohort, &record)
}
