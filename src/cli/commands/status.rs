//! `status`: the recorded membership of all cohorts, their last outcomes and their next runs. It reads the state only and
//! sends no requests.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{FormatArgs, Global, OutputFormat};
use crate::cli::output::{out, width, wrapped_to};
use crate::cli::render::json::envelope;
use crate::cli::render::status::{
    CohortStatusRow, ExportStatusRow, MembershipSize, StatusReport, cohort_json, export_json, failed_run_json,
};
use crate::cli::render::{heap_segments, segments};
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{CohortConfig, Config};
use crate::model::{CohortId, MemberStanding, SegmentId};
use crate::state::{
    Approval, LastOutcome, LastOutcomes, Membership, OutcomeResult, SegmentCheck, StateError, StateReader,
};
use crate::watch::WatchSchedule;

pub(in crate::cli) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, CommandError> {
    let (config, is_valid) = super::config_or_state(global)?;
    let (state, now) = (super::reader(&config)?, environment::clock().now());
    let (location, holder) = (super::location(&config), state.holder(now)?);
    let (outcomes, outcomes_error) = match state.last_outcomes() {
        Ok(outcomes) => (outcomes, None),
        Err(error) if error.is_of_one_file() => (LastOutcomes::default(), Some(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let schedule = WatchSchedule { config: &config, outcomes: &outcomes, holder: holder.as_ref(), now };
    let again = SuggestedCommand::new(global);
    let report = StatusReport {
        cohorts: match is_valid {
            true => cohort_rows(&config, &state, &schedule)?,
            false => recorded_rows(&state, &schedule)?,
        },
        exports: export_rows(&config, &state, &schedule)?,
        is_watched: schedule.is_watched(),
        failed_run: outcomes.failed_run.as_ref(),
        outcomes_error,
        again: &again,
        now,
    };
    let (heaps, last) = (heap_segments::reports(&config, &state)?, last_checks(&config, &state)?);
    out(&match args.format {
        OutputFormat::Human => {
            let width = width();
            let mut lines = report.lines(width);
            lines.extend(heap_segments::lines(&heaps, &config, now));
            lines.extend(segments::last_lines(&last, now));
            lines.push(String::new());
            lines.extend(report.summary());
            lines.push(match state.exists() {
                true => format!("State: {location}"),
                false => {
                    format!(
                        "State: none yet in {location}; the first `{}` creates it",
                        again.command("reconcile")
                    )
                }
            });
            lines.extend(holder.map(|holder| format!("Held by {holder}.")));
            wrapped_to(lines.join("\n").trim_start_matches('\n'), width)
        }
        OutputFormat::Json => {
            let cohorts: Vec<_> = report.cohorts.iter().map(cohort_json).collect();
            let exports: Vec<_> = report.exports.iter().map(export_json).collect();
            envelope(
                "status",
                "status",
                &json!({
                    "state": location.to_string(),
                    "holder": holder.as_ref().map(ToString::to_string),
                    "is_config_valid": is_valid,
                    "is_watched": report.is_watched,
                    "failed_run": report.failed_run.map(failed_run_json),
                    "outcomes_error": report.outcomes_error,
                    "cohorts": cohorts,
                    "heap_connections": heap_segments::to_json(&heaps, &config),
                    "exports": exports,
                    "segments": segments::last_json(&last),
                }),
            )
        }
    })?;
    Ok(Exit::Done)
}

/// The last check of each segment.
fn last_checks<'a>(
    config: &'a Config,
    state: &StateReader,
) -> Result<Vec<(&'a SegmentId, Option<SegmentCheck>)>, StateError> {
    config.checked_segments().map(|segment| Ok((&segment.id, state.check_of(&segment.id)?))).collect()
}

fn cohort_rows(
    config: &Config,
    state: &StateReader,
    schedule: &WatchSchedule<'_>,
) -> Result<Vec<CohortStatusRow>, StateError> {
    let mut rows = Vec::new();
    for cohort in &config.cohorts {
        rows.push(declared_row(cohort, state, schedule)?);
    }
    for id in state.cohorts()? {
        if rows.iter().any(|row: &CohortStatusRow| row.id == id) {
            continue;
        }
        let Some(recorded) = recorded(&id, state)?.filter(|recorded| !recorded.version.removed) else {
            continue;
        };
        rows.push(CohortStatusRow {
            name: recorded.version.name.clone().unwrap_or_default(),
            is_declared: Some(false),
            is_removed: config.removed.contains(&id),
            recorded: Some(recorded),
            outcome: schedule.outcomes.cohort(&id).cloned(),
            approvals: Vec::new(),
            next_run: schedule.next_of_removed(&id),
            id,
        });
    }
    Ok(rows)
}

/// The cohorts of the state, whether the config declares them or not: it is invalid.
fn recorded_rows(
    state: &StateReader,
    schedule: &WatchSchedule<'_>,
) -> Result<Vec<CohortStatusRow>, StateError> {
    let mut ids: BTreeSet<CohortId> = state.cohorts()?.into_iter().collect();
    ids.extend(schedule.outcomes.cohort_ids());
    let mut rows = Vec::new();
    for id in ids {
        let recorded = recorded(&id, state)?.filter(|recorded| !recorded.version.removed);
        let outcome = schedule.outcomes.cohort(&id).cloned();
        if recorded.is_none() && outcome.is_none() {
            continue;
        }
        let name = recorded.as_ref().and_then(|recorded| recorded.version.name.clone()).unwrap_or_default();
        let approvals = approvals(&id, outcome.as_ref(), state, schedule)?;
        rows.push(CohortStatusRow {
            id,
            name,
            is_declared: None,
            is_removed: false,
            recorded,
            outcome,
            approvals,
            next_run: None,
        });
    }
    Ok(rows)
}

/// The approvals of a blocked cohort. An approval outlives the plan that it is for, until it expires.
fn approvals(
    id: &CohortId,
    outcome: Option<&LastOutcome>,
    state: &StateReader,
    schedule: &WatchSchedule<'_>,
) -> Result<Vec<Approval>, StateError> {
    match outcome.is_some_and(|outcome| outcome.result == OutcomeResult::Blocked) {
        true => state.approvals(id, schedule.now),
        false => Ok(Vec::new()),
    }
}

fn declared_row(
    cohort: &CohortConfig,
    state: &StateReader,
    schedule: &WatchSchedule<'_>,
) -> Result<CohortStatusRow, StateError> {
    let outcome = schedule.outcomes.cohort(&cohort.id).cloned();
    let approvals = approvals(&cohort.id, outcome.as_ref(), state, schedule)?;
    Ok(CohortStatusRow {
        id: cohort.id.clone(),
        name: cohort.name.clone(),
        is_declared: Some(true),
        is_removed: false,
        recorded: recorded(&cohort.id, state)?,
        outcome,
        approvals,
        next_run: Some(schedule.next_of_cohort(cohort)),
    })
}

fn export_rows<'a>(
    config: &'a Config,
    state: &StateReader,
    schedule: &WatchSchedule<'_>,
) -> Result<Vec<ExportStatusRow<'a>>, StateError> {
    let row = |export: &'a crate::config::ExportConfig| {
        Ok(ExportStatusRow {
            export,
            progress: state.export(&export.id)?,
            outcome: schedule.outcomes.export(&export.id).cloned(),
            next_run: schedule.next_of_export(export),
        })
    };
    config.exports.iter().map(row).collect()
}

fn recorded(id: &CohortId, state: &StateReader) -> Result<Option<MembershipSize>, StateError> {
    let Some(version) = state.version(id)? else { return Ok(None) };
    let members = match version.members {
        Some(members) => members,
        None => counted_members(id, &version, state)?,
    };
    Ok(Some(MembershipSize { version, members }))
}

/// Counts the members if the recorded membership has no count.
fn counted_members(id: &CohortId, version: &Membership, state: &StateReader) -> Result<u64, StateError> {
    let mut cursor = state.members(id, Some(version))?;
    let mut members = 0;
    while let Some((_, standing)) = cursor.advance()? {
        members += u64::from(standing == MemberStanding::Member);
    }
    Ok(members)
}
