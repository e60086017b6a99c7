//! `reconcile`: one run, planned and applied. It asks nothing: a merge has already said yes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::stop::Stop;
use crate::apply::ApplyStop;
use crate::cli::args::ReconcileArgs;
use crate::cli::error::{CommandError, unusable_plan};
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::logging::notify;
use crate::cli::output::{OutputLost, out, wrapped};
use crate::cli::progress::progress;
use crate::cli::render::guard_violation::reasons_of;
use crate::cli::render::target::RunTarget;
use crate::cli::render::{ReportOptions, json, plan as plan_view, report as human};
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::{access, environment, workspace};
use crate::config::{Config, SourceAccess};
use crate::connector::braze::WorkspaceKeySet;
use crate::export::{Days, ExportReport};
use crate::model::{ConnectionName, Progress, RunId};
use crate::reconcile::{
    self, ApplyResources, ExportJob, FailedKind, PlanInputs, RecordedEnd, RunPlan, RunRecorder, RunReport,
};
use crate::state::StateWriter;

pub(in crate::cli) fn run(global: &Global, args: &ReconcileArgs) -> Result<Exit, CommandError> {
    let stop = Stop::listen()?;
    let config = super::run_config("reconcile", global)?;
    let state = Arc::new(super::writer(&config)?);
    let run = environment::process_run().clone();
    let span = tracing::info_span!("run", %run);
    let _entered = span.enter();
    tracing::info!("the run begins");
    super::recorded("reconcile", &run, &config, &state, |recorder| {
        reconcile_once(global, args, &config, &state, recorder, stop)
    })
}

fn reconcile_once(
    global: &Global,
    args: &ReconcileArgs,
    config: &Config,
    state: &Arc<StateWriter>,
    recorder: &RunRecorder,
    stop: Stop,
) -> Result<Exit, CommandError> {
    stop.record_early(recorder.early_stop());
    let (keys, secrets) = (access::keys(config)?, Arc::new(access::sources(config)?));
    // A saved plan, and single cohorts, are about cohorts alone.
    let all = args.run.cohorts.is_empty() && args.plan.is_none();
    let exports = if all { super::export::chosen(config, &[])? } else { Vec::new() };
    let ids = access::app_ids(config, &exports)?;
    let (progress, run) = (progress(), environment::process_run().clone());
    let again = SuggestedCommand::new(global).run(&args.run, args.plan.as_ref());
    workspace::check_workspace(config, state.reader(), &keys, &again)?;
    let unread = read_news(args, config, state, &secrets, recorder)?;
    let plan = plan(args, config, &secrets, state, &run, &*progress, &again)?;
    if let Some(expected) = args.expect.filter(|expected| *expected != plan.digest()) {
        let message = format!("the plan is {}, and not the expected {expected}", plan.digest());
        return Err(CommandError::new(Exit::Stale, message)
            .hint(format!("review the new plan: {}", again.command("plan"))));
    }
    if args.plan.is_some() && plan.is_blocked() {
        let target = RunTarget::new(global, config);
        let showing = ReportOptions { target: &target, again: &again };
        return blocked(&plan, (&run, recorder, config), args.format, showing);
    }
    let jobs = exports.iter().map(|export| super::export::job(export, Days::default(), state.reader()));
    let jobs = jobs.collect::<Result<_, _>>()?;
    let format = args.format;
    let run =
        ReconcileRun { global, config, id: run, recorder, progress, format, again, ids, jobs, secrets, stop };
    let exit = apply(plan, &keys, state, run)?;
    Ok(unread.filter(|_| exit == Exit::Done).unwrap_or(exit))
}

/// Ingests received deliveries and imports identity data. Returns the exit code if some of it could not be read.
fn read_news(
    args: &ReconcileArgs,
    config: &Config,
    state: &Arc<StateWriter>,
    secrets: &SourceAccess,
    recorder: &RunRecorder,
) -> Result<Option<Exit>, CommandError> {
    let uningested =
        reconcile::ingest_deliveries(config, state, environment::process_run(), environment::clock())?;
    for (heap, error) in &uningested {
        let text = format!("the deliveries of connection `{heap}` wait in the inbox: {error}");
        notify(&text);
        recorder.note_error(&text);
    }
    // A saved plan is about what was known when it was made.
    let failed_import = match &args.plan {
        None => super::identity::import_sources(config, &secrets.stores, state, &args.run.cohorts)?,
        Some(_) => None,
    };
    if failed_import.is_some() {
        recorder.note_error("identity data could not be imported; cohorts use the identity map as it is");
    }
    Ok(failed_import.or((!uningested.is_empty()).then_some(Exit::Failed)))
}

/// What an apply is asked for by.
pub(super) struct ReconcileRun<'a> {
    pub(super) global: &'a Global,
    pub(super) config: &'a Config,
    pub(super) id: RunId,
    /// The record of the run.
    pub(super) recorder: &'a RunRecorder,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) format: OutputFormat,
    pub(super) again: SuggestedCommand,
    /// The environment ids of the Heaps that exports send to.
    pub(super) ids: BTreeMap<ConnectionName, String>,
    /// The exports that follow.
    pub(super) jobs: Vec<ExportJob>,
    /// What it takes to reach databases.
    pub(super) secrets: Arc<SourceAccess>,
    /// Signals to stop.
    pub(super) stop: Stop,
}

/// Applies a plan, runs the exports, reports, and says how it ended.
pub(super) fn apply(
    plan: RunPlan,
    keys: &BTreeMap<ConnectionName, WorkspaceKeySet>,
    state: &Arc<StateWriter>,
    run: ReconcileRun<'_>,
) -> Result<Exit, CommandError> {
    let ReconcileRun { global, config, recorder, progress, format, again, ids, jobs, secrets, stop, .. } =
        run;
    let (failed, run, journal) = (plan_view::unplanned(&plan), run.id, recorder.journal());
    let applied = stop.run(async |interrupt| {
        let sandboxes = access::Sandboxes::default();
        let reached = sandboxes.reach(config, keys, |name| plan.sends_to(name)).await?;
        let clock = environment::clock();
        let clients = reconcile::connect_braze(config, &reached, clock)?;
        let means = ApplyResources {
            state: Arc::clone(state),
            clients,
            run: run.clone(),
            journal,
            clock,
            progress,
            interrupt: interrupt.clone(),
            secrets,
        };
        let report = reconcile::apply(plan, config, means).await?;
        if jobs.is_empty() {
            return Ok((report, Vec::new()));
        }
        let not_run = super::export::not_run(&jobs);
        let record = (run, recorder);
        let exported =
            super::export::exported(config, &ids, state, jobs, &sandboxes, interrupt, record).await;
        let failed = |error: CommandError| {
            recorder.note_error(&format!("the exports did not run: {}", error.message()));
            not_run(error)
        };
        // The cohorts are sent: their report must not be lost with this error.
        Ok::<_, CommandError>((report, exported.unwrap_or_else(failed)))
    });
    let (mut report, exports) = applied.unwrap_or_else(|| {
        Err(CommandError::stopped_at_once()
            .hint("requests in flight are in doubt; the next run settles them"))
    })?;
    if let Err(error) = recorder.end(&end_of(&report, &exports, &again), config) {
        report.journal_error.get_or_insert_with(|| error.into());
    }
    let exit = exit(&report, &exports);
    let target = RunTarget::new(global, config);
    let showing = ReportOptions { target: &target, again: &again };
    tracing::info!(result = report.result(), requests = report.requests, "the run ends");
    let shown = out(&match format {
        OutputFormat::Human => wrapped(&human::human(&report, &failed, &exports, exit, showing)),
        OutputFormat::Json => json::report(&report, &exports, showing),
    });
    shown.map_err(|error| done_unseen(&error, global, exit))?;
    Ok(exit)
}

/// The end of a run, for its record.
fn end_of(report: &RunReport, exports: &[ExportReport], again: &SuggestedCommand) -> RecordedEnd {
    RecordedEnd {
        result: json::result(report, exports).to_owned(),
        requests: report.requests + exports.iter().map(|export| export.tally.requests()).sum::<u64>(),
        cohorts: report.run_outcomes(&|cohort| reasons_of(cohort, again)),
        exports: reconcile::export_outcomes(exports),
    }
}

/// Reports a saved plan that the guard blocks. It is applied as a whole or not at all: then the same file can be
/// applied once it is approved.
fn blocked(
    plan: &RunPlan,
    (run, recorder, config): (&RunId, &RunRecorder, &Config),
    format: OutputFormat,
    showing: ReportOptions<'_>,
) -> Result<Exit, CommandError> {
    let failed = plan_view::unplanned(plan);
    let report = RunReport::blocked(plan, run);
    recorder.end(&end_of(&report, &[], showing.again), config)?;
    let exit = exit(&report, &[]);
    tracing::info!(result = report.result(), requests = 0, "the run ends");
    out(&match format {
        OutputFormat::Human => wrapped(&human::human(&report, &failed, &[], exit, showing)),
        OutputFormat::Json => json::report(&report, &[], showing),
    })?;
    Ok(exit)
}

/// The error for a report that could not be written after the run has changed Braze.
fn done_unseen(OutputLost(error): &OutputLost, global: &Global, exit: Exit) -> CommandError {
    let message = format!("the run has ended, but its report could not be written to stdout: {error}");
    let history = SuggestedCommand::new(global).command("history");
    CommandError::new(Exit::Failed, message)
        .hint(format!("with the report, the exit code would have been {}", exit as u8))
        .hint(format!("its result: {history} -n 1"))
}

fn plan(
    args: &ReconcileArgs,
    config: &Config,
    secrets: &SourceAccess,
    state: &StateWriter,
    run: &crate::model::RunId,
    progress: &dyn Progress,
    again: &SuggestedCommand,
) -> Result<RunPlan, CommandError> {
    let ceilings = super::ceilings(&args.run, config)?;
    let (state, clock, only) = (state.reader(), environment::clock(), args.run.cohorts.as_slice());
    let retry_rejected = args.run.retry_rejected;
    let ceilings = &ceilings;
    let inputs = PlanInputs { config, state, secrets, ceilings, only, retry_rejected, run, clock, progress };
    Ok(match &args.plan {
        Some(file) => reconcile::resume(file, inputs).map_err(|error| unusable_plan(error, again))?,
        None => reconcile::plan(inputs)?,
    })
}

/// The exit code of a run: the most urgent problem. A vendor failure after accepted changes is "in part". An unreadable
/// or blocked cohort determines the code even if other cohorts succeeded.
fn exit(report: &RunReport, exports: &[ExportReport]) -> Exit {
    let of_exports =
        exports.iter().filter_map(|export| export.stop_reason.as_ref()).map(super::export::exit_of_stop);
    let stops: Vec<Exit> = report.stop_reasons().map(exit_of_stop).chain(of_exports).collect();
    if stops.contains(&Exit::Bug) || report.failed_kind == Some(FailedKind::Internal) {
        return Exit::Bug; // a bug takes precedence over every other result
    }
    let changed = report.changed_anything() || exports.iter().any(ExportReport::changed_anything);
    let sent = report.requests + exports.iter().map(|export| export.tally.requests()).sum::<u64>();
    if let Some(worst) = stops.iter().min() {
        let changed = changed || (*worst == Exit::Stopped && sent > 0);
        return if changed && *worst != Exit::Stale { Exit::Part } else { *worst };
    }
    let is_blocked = report.cohorts.iter().any(|cohort| !cohort.violations.is_empty());
    let are_read = exports.iter().all(|export| export.tally.unread.is_empty());
    let failed = report.failed_kind.or((!are_read).then_some(FailedKind::Other));
    match (failed, is_blocked, report.is_complete()) {
        (Some(kind), ..) => of_failed(kind),
        (None, true, _) => Exit::Blocked,
        (None, false, true) => Exit::Done,
        (None, false, false) => Exit::Part,
    }
}

/// The code of a cohort that could not be planned.
pub(super) fn of_failed(kind: FailedKind) -> Exit {
    match kind {
        FailedKind::Credentials => Exit::Credentials,
        FailedKind::Unavailable => Exit::Unavailable,
        FailedKind::Other => Exit::Failed,
        FailedKind::Internal => Exit::Bug,
    }
}

fn exit_of_stop(stop: &ApplyStop) -> Exit {
    match stop {
        ApplyStop::Unauthorized(_) | ApplyStop::NoKeys => Exit::Credentials,
        ApplyStop::OtherWorkspace { .. } | ApplyStop::Blocked => Exit::Blocked,
        ApplyStop::Unavailable(_) | ApplyStop::RateLimited(_) | ApplyStop::Locked => Exit::Unavailable,
        ApplyStop::Stale => Exit::Stale,
        ApplyStop::Foreign(..) => Exit::Part,
        ApplyStop::Local(cause) => Exit::of_cause(cause),
        ApplyStop::Unexpected(..) | ApplyStop::Rejected(_) | ApplyStop::Unsettled => Exit::Failed,
    }
}
