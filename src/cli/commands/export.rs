//! `export`: one run over exports, or a dry run that shows input and cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::Instrument as _;

use super::stop::Stop;

use crate::apply::{Interrupt, StopCause};
use crate::cli::args::ExportArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::output::{OutputLost, bold, out, wrapped};
use crate::cli::progress::progress;
use crate::cli::render::{export as view, json::envelope};
use crate::cli::resources::storage_access;
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::{access, environment};
use crate::config::{Config, ExportConfig, ExportSource};
use crate::export::{self, Days, ExportPatience, ExportReport, ExportStop};
use crate::model::{ConnectionName, EndpointName, ExportId, RunId};
use crate::reconcile::{self, ExportJob, ExportResources, RecordedEnd, RunRecorder};
use crate::state::{IdentityMap, StateReader, StateWriter};

pub(in crate::cli) fn run(global: &Global, args: &ExportArgs) -> Result<Exit, CommandError> {
    let config = super::run_config("export", global)?;
    let exports = chosen(&config, &args.exports)?;
    let days = Days { since: args.since, until: args.until };
    if args.dry_run {
        return survey(&config, &exports, days, false, args.format);
    }
    let state = Arc::new(super::writer(&config)?);
    let jobs = |state: &StateReader| exports.iter().map(|export| job(export, days, state)).collect();
    let reports = run_jobs("export", &config, &exports, &state, jobs)?;
    finish(global, "export", &reports, args.format)
}

/// The selected exports, or all exports without a selection.
pub(super) fn chosen<'a>(
    config: &'a Config,
    ids: &[ExportId],
) -> Result<Vec<&'a ExportConfig>, CommandError> {
    let have: Vec<&str> = config.exports.iter().map(|export| export.id.as_str()).collect();
    if let Some(unknown) = ids.iter().find(|id| !have.contains(&id.as_str())) {
        return Err(super::unknown("the config", "export", unknown.as_str(), have.into_iter()));
    }
    Ok(config.exports.iter().filter(|export| ids.is_empty() || ids.contains(&export.id)).collect())
}

/// The clients and settings of an export run.
pub(super) fn job(export: &ExportConfig, days: Days, state: &StateReader) -> Result<ExportJob, CommandError> {
    let posted = match export.source {
        ExportSource::Http(_) => state.inbox(&EndpointName::of_export(&export.id))?,
        ExportSource::Storage(_) => Vec::new(),
    };
    Ok(ExportJob { export: export.clone(), posted, again: None, days, access: storage_access(export) })
}

/// Runs exports until they are complete or stop, as one run of a command.
pub(super) fn run_jobs(
    command: &str,
    config: &Config,
    exports: &[&ExportConfig],
    state: &Arc<StateWriter>,
    jobs: impl FnOnce(&StateReader) -> Result<Vec<ExportJob>, CommandError>,
) -> Result<Vec<ExportReport>, CommandError> {
    let (stop, run) = (Stop::listen()?, environment::process_run());
    super::recorded(command, run, config, state, |recorder| {
        stop.record_early(recorder.early_stop());
        let ids = access::app_ids(config, exports)?;
        let (jobs, sandboxes) = (jobs(state.reader())?, access::Sandboxes::default());
        let work = stop.run(async |interrupt| {
            exported(config, &ids, state, jobs, &sandboxes, interrupt, (run.clone(), recorder)).await
        });
        let mut reports = work.unwrap_or_else(|| Err(stopped_at_once()))?;
        let end = RecordedEnd {
            result: reconcile::exports_result(&reports).to_owned(),
            requests: reports.iter().map(|report| report.tally.requests()).sum(),
            cohorts: Vec::new(),
            exports: reconcile::export_outcomes(&reports),
        };
        if let Err(error) = recorder.end(&end, config) {
            let stop = ExportStop::from(error);
            for report in reports.iter_mut().filter(|report| report.stop_reason.is_none()) {
                report.stop_reason = Some(stop.clone());
            }
        }
        Ok(reports)
    })
}

fn stopped_at_once() -> CommandError {
    CommandError::stopped_at_once()
        .hint("the next run sends unfinished batches again; Heap ignores repeated events by their id")
}

/// Runs exports as a part of a run, with resources that the command has already opened.
pub(super) async fn exported(
    config: &Config,
    ids: &BTreeMap<ConnectionName, String>,
    state: &Arc<StateWriter>,
    jobs: Vec<ExportJob>,
    sandboxes: &access::Sandboxes,
    interrupt: Interrupt,
    (run, recorder): (RunId, &RunRecorder),
) -> Result<Vec<ExportReport>, CommandError> {
    let wanted: BTreeSet<&ConnectionName> = jobs.iter().map(|job| &job.export.to).collect();
    let reached = sandboxes.reach_heaps(config, ids, |name| wanted.contains(name)).await?;
    let clock = environment::clock();
    let means = ExportResources {
        identity: Arc::new(Mutex::new(IdentityMap::open(state)?)),
        clients: export::link(config, &reached, clock)?,
        state: Arc::clone(state),
        run,
        journal: recorder.journal(),
        clock,
        interrupt,
        patience: ExportPatience::UntilSent,
        progress: progress(),
    };
    let span = tracing::info_span!("run", run = %means.run);
    let reports = reconcile::export(jobs, config, means).instrument(span.clone()).await;
    span.in_scope(|| reports.iter().for_each(log_report));
    Ok(reports)
}

fn log_report(report: &ExportReport) {
    let tally = &report.tally;
    let (requests, complete) = (tally.requests(), report.is_complete());
    match &report.stop_reason {
        None => tracing::info!(export = %report.id, events = tally.events, requests, complete, "exported"),
        Some(stop) => tracing::warn!(export = %report.id, events = tally.events, requests, "stopped: {stop}"),
    }
}

/// Reports of exports that an error prevented from starting.
pub(super) fn not_run(jobs: &[ExportJob]) -> impl FnOnce(CommandError) -> Vec<ExportReport> + use<> {
    let reports: Vec<ExportReport> = jobs.iter().map(|job| ExportReport::new(&job.export)).collect();
    move |error| {
        let stop = ExportStop::Local(StopCause::State(error.in_one_line()));
        let stopped = |report| ExportReport { stop_reason: Some(stop.clone()), ..report };
        reports.into_iter().map(stopped).collect()
    }
}

/// Shows what a run would read.
pub(super) fn survey(
    config: &Config,
    exports: &[&ExportConfig],
    days: Days,
    again: bool,
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let state = super::reader(config)?;
    let (mut lines, mut values, mut exit) = (Vec::new(), Vec::new(), Exit::Done);
    for export in exports {
        let limit = config.heap.get(&export.to).and_then(|heap| Some((heap.app_events_max?, heap.window)));
        let access = storage_access(export);
        let found = export::survey(export, &state, days, again, &access, environment::clock());
        match &found {
            Ok(survey) => {
                let line = view::survey_line(survey, export.batch_len_max, limit);
                lines.push(format!("{}  {line}", bold(export.id.as_str())));
                values.push(json!({
                    "id": export.id.as_str(), "files": survey.files, "bytes": survey.bytes, "events": survey.events,
                    "days": survey.days, "waiting": survey.waiting, "unreadable": survey.unreadable,
                    "has_more": survey.more,
                    "min_seconds": view::min_time(survey.events + survey.waiting, limit).map(|time| time.as_secs()),
                }));
            }
            Err(stop) => {
                exit = exit_of_stop(stop);
                lines.push(format!("{}  {stop}", bold(export.id.as_str())));
                values.push(json!({ "id": export.id.as_str(), "error": stop.to_string() }));
            }
        }
    }
    if lines.is_empty() {
        lines.push("The config has no exports.".to_owned());
    }
    out(&match format {
        OutputFormat::Human => wrapped(&lines.join("\n")),
        OutputFormat::Json => envelope("export", "survey", &json!({ "exports": values })),
    })?;
    Ok(exit)
}

/// Prints the reports and returns the exit code.
pub(super) fn finish(
    global: &Global,
    command: &str,
    reports: &[ExportReport],
    format: OutputFormat,
) -> Result<Exit, CommandError> {
    let exit = exit(reports);
    let shown = out(&match format {
        OutputFormat::Human if reports.is_empty() => "The config has no exports.".to_owned(),
        OutputFormat::Human => {
            let mut lines = view::lines(reports);
            lines.push(String::new());
            lines.push(summary(reports, exit));
            wrapped(&lines.join("\n"))
        }
        OutputFormat::Json => {
            let exports = view::to_json(reports);
            envelope(command, reconcile::exports_result(reports), &json!({ "exports": exports }))
        }
    });
    shown.map_err(|OutputLost(error)| {
        let message = format!("the run has ended, but its report could not be written to stdout: {error}");
        let history = SuggestedCommand::new(global).command("history");
        CommandError::new(Exit::Failed, message).hint(format!("its result: {history} -n 1"))
    })?;
    Ok(exit)
}

fn summary(reports: &[ExportReport], exit: Exit) -> String {
    use crate::cli::output::{green, red, yellow};
    let changed = reports.iter().any(ExportReport::changed_anything);
    let head = match (exit, changed) {
        (Exit::Done, false) => green("In sync:"),
        (Exit::Done, true) => green("Exported:"),
        (_, true) => yellow("Exported in part:"),
        (_, false) => red("Failed:"),
    };
    format!("{head} {}.", view::in_short(reports))
}

/// The exit code of all exports: the worst stop, or 7 if anything was sent as well.
pub(super) fn exit(reports: &[ExportReport]) -> Exit {
    let stops = reports.iter().filter_map(|report| report.stop_reason.as_ref()).map(exit_of_stop);
    let changed = reports.iter().any(ExportReport::changed_anything);
    let stops: Vec<Exit> = stops.collect();
    match stops.iter().copied().min() {
        _ if stops.contains(&Exit::Bug) => Exit::Bug, // a bug takes precedence over every other result
        Some(_) if changed => Exit::Part,
        Some(worst) => worst,
        None if reports.iter().all(ExportReport::is_complete) => Exit::Done,
        None if changed => Exit::Part,
        None => Exit::Failed,
    }
}

pub(super) fn exit_of_stop(stop: &ExportStop) -> Exit {
    match stop {
        ExportStop::Unauthorized(_) | ExportStop::NoKeys => Exit::Credentials,
        ExportStop::Unavailable(_) | ExportStop::RateLimited(_) => Exit::Unavailable,
        ExportStop::Unexpected(..)
        | ExportStop::Rejected(_)
        | ExportStop::Source(_)
        | ExportStop::SourceUnavailable(_) => Exit::Failed,
        ExportStop::Local(cause) => Exit::of_cause(cause),
    }
}
