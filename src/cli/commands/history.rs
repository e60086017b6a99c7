//! `history`: earlier runs, from the journal.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::args::HistoryArgs;
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::output::{bold, count, counted, dim, out, red, width, wrapped_to, yellow};
use crate::cli::render::approval::approval_words;
use crate::cli::render::json::envelope;
use crate::cli::render::time::time_text;
use crate::cli::suggested_command::quoted;
use crate::foreign::escaped;
use crate::model::{CohortId, Timestamp, duration_text, timestamp_text};
use crate::state::{
    CohortRunSummary, ExportRunSummary, Holder, RunOrigin, RunRecord, RunSummary, StateReader, UsedApproval,
};

/// How much of a plan's digest is shown: `sha256:` and twelve digits.
const PLAN_SHOWN: usize = 19;

pub(in crate::cli) fn run(global: &Global, args: &HistoryArgs) -> Result<Exit, CommandError> {
    let (config, _) = super::config_or_state(global)?;
    let state = super::reader(&config)?;
    known_cohorts(args, &config, &state)?;
    let concerns = |record: &RunRecord| {
        args.cohorts.is_empty() || record.summary().cohorts.iter().any(|cohort| is_selected(cohort, args))
    };
    let (mut records, holder) =
        (state.runs_with(args.limit, &concerns)?, state.holder(environment::clock().now())?);
    // Cohorts write concurrently, so entries are sorted by time. The sort is stable.
    records.iter_mut().for_each(|run| run.entries.sort_by(|a, b| a.at.cmp(&b.at)));
    let runs = records.iter().map(|record| selected(record.summary(), args, holder.as_ref()));
    let runs: Vec<RunSummary> = runs.collect();
    out(&match args.format {
        OutputFormat::Human if runs.is_empty() && !args.cohorts.is_empty() => {
            "No run with changes, blocks or errors of this cohort yet.".to_owned()
        }
        OutputFormat::Human if runs.is_empty() => "No run yet.".to_owned(),
        OutputFormat::Human => wrapped_to(&runs.iter().map(human).collect::<Vec<_>>().join("\n\n"), width()),
        OutputFormat::Json => {
            let runs: Vec<Value> =
                runs.iter().zip(&records).map(|(run, record)| to_json(run, record)).collect();
            envelope("history", "history", &json!({ "runs": runs }))
        }
    })?;
    Ok(Exit::Done)
}

/// Fails for a cohort that is neither in the config nor in the state.
fn known_cohorts(
    args: &HistoryArgs,
    config: &crate::config::Config,
    state: &StateReader,
) -> Result<(), CommandError> {
    let Some(unknown) = super::first_unknown(&args.cohorts, config, state)? else { return Ok(()) };
    let in_state = state.cohorts()?;
    let known = config.cohort_ids().chain(&in_state).map(CohortId::as_str);
    Err(super::unknown("the history", "cohort", unknown.as_str(), known))
}

fn is_selected(cohort: &CohortRunSummary, args: &HistoryArgs) -> bool {
    args.cohorts.is_empty() || args.cohorts.iter().any(|id| id.as_str() == cohort.cohort)
}

/// The run with the selected cohorts only, and with its result: a run without an end is active or was killed.
fn selected(mut run: RunSummary, args: &HistoryArgs, holder: Option<&Holder>) -> RunSummary {
    if !args.cohorts.is_empty() {
        run.cohorts.retain(|cohort| is_selected(cohort, args));
        run.exports.clear();
    }
    // Only the holder of the state writes to it, so a run that began later is its own.
    let is_active = holder.is_some_and(|holder| run.began.is_some_and(|began| holder.since <= began));
    let result = if is_active { "running" } else { "interrupted" };
    run.result.get_or_insert_with(|| result.to_owned());
    run
}

fn human(run: &RunSummary) -> String {
    let began = run.began.map(time_text).unwrap_or_default();
    let mut lines = vec![format!("{}  {}", bold(&began), headline(run))];
    let id = dim(&run.run);
    lines.push(match &run.origin {
        Some(origin) => format!("    {id} by {}: {}", escaped(&origin.by.to_string()), command_line(origin)),
        None => format!("    {id}"),
    });
    let page = run.origin.as_ref().and_then(|origin| origin.by.ci_url.as_ref());
    lines.extend(page.map(|url| format!("    {}", escaped(url))));
    lines.extend(run.errors.iter().map(|error| format!("    {} {}", red("failed:"), escaped(error))));
    run.cohorts.iter().for_each(|cohort| lines.extend(cohort_lines(cohort)));
    lines.extend(run.exports.iter().filter(|export| has_work(export)).map(export_line));
    lines.join("\n")
}

/// `applied: 120 added, 45 removed, 5 requests, took 12 s`.
fn headline(run: &RunSummary) -> String {
    let words = run.result.as_deref().unwrap_or_default().replace('_', " ");
    let words = match words.as_str() {
        "failed" | "interrupted" => red(&words),
        "blocked" | "stopped" | "applied in part" | "exported in part" => yellow(&words),
        _ => words,
    };
    let mut parts = Vec::new();
    if run.cohorts.iter().any(|cohort| cohort.is_finished) {
        parts.push(format!("{} added, {} removed", count(run.added()), count(run.removed())));
    }
    parts.push(counted(run.requests, "request"));
    parts.extend(duration(run).map(|took| format!("took {}", duration_text(took))));
    format!("{words}: {}", parts.join(", "))
}

fn duration(run: &RunSummary) -> Option<Duration> {
    Duration::try_from(run.ended?.duration_since(run.began?)).ok()
}

/// The command as it was typed, without the name of the program.
fn command_line(origin: &RunOrigin) -> String {
    let words: Vec<String> = origin.arguments.iter().map(|word| quoted(&escaped(word))).collect();
    if words.is_empty() { escaped(&origin.command).into_owned() } else { words.join(" ") }
}

fn cohort_lines(cohort: &CohortRunSummary) -> Vec<String> {
    let id = &cohort.cohort;
    let mut lines = Vec::new();
    match (cohort.is_finished, cohort.planned, &cohort.error) {
        (true, _, error) => {
            let (added, removed) = (count(cohort.added), count(cohort.removed));
            let mut line = format!("    {id}: added {added}, removed {removed}");
            for (number, what) in [(cohort.rejected, "rejected by Braze"), (cohort.in_doubt, "in doubt")] {
                line.extend((number > 0).then(|| format!(", {} {what}", count(number))));
            }
            line.extend(error.as_ref().map(|error| end_text(error, cohort.is_stopped)));
            lines.push(line);
        }
        (false, _, Some(error)) => {
            lines.push(format!("    {id}: {} {}", red("not planned:"), escaped(error)));
        }
        (false, Some((adds, removes)), None) => lines.push(format!(
            "    {id}: planned to add {} and to remove {}, not finished",
            count(adds),
            count(removes)
        )),
        (false, None, None) => {}
    }
    lines.extend(cohort.blocked.iter().map(|reason| format!("    {id}: {}", yellow(&escaped(reason)))));
    lines.extend(cohort.approval.as_ref().map(|approval| format!("    {id}: {}", approval_line(approval))));
    lines
}

fn approval_line(used: &UsedApproval) -> String {
    let at = used.approved_at.parse().map(time_text).unwrap_or_default();
    let words = approval_words(&used.by, used.reason.as_deref());
    let plan: String = used.plan.chars().take(PLAN_SHOWN).collect();
    format!("plan approved at {at}{words} {}", dim(&plan))
}

/// Whether an export read, sent or rejected anything, or failed.
fn has_work(export: &ExportRunSummary) -> bool {
    let ExportRunSummary { files, events, sent, rejected, error, .. } = export;
    files + events + sent + rejected > 0 || error.is_some()
}

fn export_line(export: &ExportRunSummary) -> String {
    let ExportRunSummary { export, files, events, sent, rejected, waiting, error, is_stopped } = export;
    let mut line = format!("    {export}: {} sent of {} read", counted(*sent, "event"), count(*events));
    let more = [(*files, "files read"), (*rejected, "rejected"), (*waiting, "waiting")];
    for (number, what) in more.into_iter().filter(|(number, _)| *number > 0) {
        line.push_str(&format!(", {} {what}", count(number)));
    }
    line.extend(error.iter().map(|error| end_text(error, *is_stopped)));
    line
}

/// Why the work ended early: `; stopped as requested`, `; stopped: Braze is not available`.
fn end_text(error: &str, is_stopped: bool) -> String {
    match is_stopped {
        true => format!("; {}", yellow(&escaped(error))),
        false => format!("; {} {}", red("stopped:"), escaped(error)),
    }
}

fn to_json(run: &RunSummary, record: &RunRecord) -> Value {
    let time = |time: Option<Timestamp>| time.map(timestamp_text);
    let by = run.origin.as_ref().map(|origin| &origin.by);
    json!({
        "run": run.run,
        "result": run.result,
        "began_at": time(run.began),
        "ended_at": time(run.ended),
        "duration_seconds": duration(run).map(|took| took.as_secs_f64()),
        "command": run.origin.as_ref().map(|origin| &origin.command),
        "arguments": run.origin.as_ref().map(|origin| &origin.arguments),
        "user": by.and_then(|by| by.user.as_ref()),
        "host": by.and_then(|by| by.host.as_ref()),
        "ci_url": by.and_then(|by| by.ci_url.as_ref()),
        "added": run.added(),
        "removed": run.removed(),
        "requests": run.requests,
        "errors": run.errors,
        "cohorts": run.cohorts.iter().map(cohort_json).collect::<Vec<_>>(),
        "exports": run.exports.iter().map(export_json).collect::<Vec<_>>(),
        "entries": record.entries,
    })
}

fn cohort_json(cohort: &CohortRunSummary) -> Value {
    let approval = cohort.approval.as_ref().map(|used| {
        json!({ "plan": used.plan, "approved_at": used.approved_at, "by": used.by, "reason": used.reason })
    });
    json!({
        "id": cohort.cohort,
        "added": cohort.added,
        "removed": cohort.removed,
        "rejected_by_braze": cohort.rejected,
        "in_doubt": cohort.in_doubt,
        "blocked": cohort.blocked,
        "approval": approval,
        "error": cohort.error,
    })
}

fn export_json(export: &ExportRunSummary) -> Value {
    json!({
        "id": export.export,
        "files": export.files,
        "events": export.events,
        "sent": export.sent,
        "rejected": export.rejected,
        "waiting": export.waiting,
        "error": export.error,
    })
}
