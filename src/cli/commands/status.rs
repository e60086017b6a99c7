//! `status`: the recorded membership of all cohorts. It reads the state only and sends no requests.

use serde_json::json;

use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{FormatArgs, Global, OutputFormat};
use crate::cli::output::{bold, count, counted, dim, out, wrapped, yellow};
use crate::cli::render::json::envelope;
use crate::cli::render::plan::uncertain_line;
use crate::cli::render::{export as export_view, heap_segments, segments};
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::Config;
use crate::foreign::escaped;
use crate::model::{CohortId, MemberStanding, SegmentId, timestamp_text};
use crate::state::{Holder, Location, Membership, SegmentCheck, StateError, StateReader};

/// One cohort of the config or of the state.
struct StatusRow {
    id: CohortId,
    name: String,
    declared: bool,
    /// `None` if nothing was ever sent.
    record: Option<StatusMembership>,
}

struct StatusMembership {
    version: Membership,
    members: u64,
}

pub(in crate::cli) fn run(global: &Global, args: &FormatArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let state = super::reader(&config)?;
    let (location, holder) = (super::location(&config), state.holder(environment::clock().now())?);
    let (rows, heaps) = (rows(&config, &state)?, heap_segments::reports(&config, &state)?);
    let last = last_checks(&config, &state)?;
    let exports = config.exports.iter().map(|export| Ok((export, state.export(&export.id)?)));
    let exports = exports.collect::<Result<Vec<_>, StateError>>()?;
    out(&match args.format {
        OutputFormat::Human => {
            let now = environment::clock().now();
            let mut more = heap_segments::lines(&heaps, &config, now);
            for (export, record) in &exports {
                let (source, to) = (export.source.name(), export.to.as_str());
                more.extend(export_view::status_lines(export.id.as_str(), &source, to, record));
            }
            more.extend(segments::last_lines(&last, now));
            wrapped(&human(&rows, more, &state, &location, holder.as_ref(), &SuggestedCommand::new(global)))
        }
        OutputFormat::Json => {
            let cohorts: Vec<serde_json::Value> = rows.iter().map(to_json).collect();
            let exports = exports.iter().map(|(export, record)| {
                let (source, to) = (export.source.name(), export.to.as_str());
                export_view::status_json(export.id.as_str(), &source, to, record)
            });
            let exports: Vec<serde_json::Value> = exports.collect();
            envelope(
                "status",
                "status",
                &json!({ "state": location.to_string(), "holder": holder.as_ref().map(ToString::to_string), "cohorts": cohorts, "heap_connections": heap_segments::to_json(&heaps, &config), "exports": exports, "segments": segments::last_json(&last) }),
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

fn rows(config: &Config, state: &StateReader) -> Result<Vec<StatusRow>, StateError> {
    let mut rows = Vec::new();
    for cohort in &config.cohorts {
        let record = record(&cohort.id, state)?;
        rows.push(StatusRow { id: cohort.id.clone(), name: cohort.name.clone(), declared: true, record });
    }
    for id in state.cohorts()? {
        if rows.iter().any(|row| row.id == id) {
            continue;
        }
        if let Some(record) = record(&id, state)?.filter(|record| !record.version.removed) {
            let name = record.version.name.clone().unwrap_or_default();
            rows.push(StatusRow { id, name, declared: false, record: Some(record) });
        }
    }
    Ok(rows)
}

fn record(id: &CohortId, state: &StateReader) -> Result<Option<StatusMembership>, StateError> {
    let Some(version) = state.version(id)? else { return Ok(None) };
    let members = match version.members {
        Some(members) => members,
        None => counted_members(id, &version, state)?,
    };
    Ok(Some(StatusMembership { version, members }))
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

fn human(
    rows: &[StatusRow],
    more: Vec<String>,
    state: &StateReader,
    location: &Location,
    holder: Option<&Holder>,
    again: &SuggestedCommand,
) -> String {
    let mut lines = Vec::new();
    for row in rows {
        let head = format!("{}  \"{}\"", bold(row.id.as_str()), escaped(&row.name));
        lines.push(match &row.record {
            None => format!("{head}: nothing sent yet"),
            Some(StatusMembership { version, members }) => {
                let target = format!("in {} ({})", version.workspace.connection, version.workspace.endpoint);
                format!("{head}: {} {target}", counted(*members, "member"))
            }
        });
        let Some(StatusMembership { version, .. }) = &row.record else { continue };
        lines.push(dim(&format!("    version {} of {}", version.number, timestamp_text(version.written_at))));
        if version.in_doubt > 0 {
            lines.push(format!(
                "    {} {} in doubt; the next run settles them",
                yellow("!"),
                count(version.in_doubt)
            ));
        }
        if let Some(until) = version.uncertain_until() {
            lines.push(format!("    {} {}", yellow("!"), uncertain_line(until)));
        }
        if version.protected {
            lines.push("    protected".to_owned());
        }
        if !row.declared {
            lines.push(format!("    {} orphaned: not in the config, its members stay in Braze", yellow("!")));
        }
    }
    lines.extend(more);
    lines.push(String::new());
    lines.push(if state.exists() {
        format!("State: {location}")
    } else {
        format!("State: none yet in {location}; the first `{}` creates it", again.command("reconcile"))
    });
    lines.extend(holder.map(|holder| format!("Held by {holder}.")));
    lines.join("\n")
}

fn to_json(row: &StatusRow) -> serde_json::Value {
    let record = row.record.as_ref().map(|StatusMembership { version, members }| {
        json!({
            "version": version.number,
            "written_at": timestamp_text(version.written_at),
            "run": version.run,
            "connection": version.workspace.connection,
            "endpoint": version.workspace.endpoint,
            "name": version.name,
            "members": members,
            "in_doubt": version.in_doubt,
            "uncertain": version.late_members(),
            "uncertain_until": version.uncertain_until().map(timestamp_text),
            "protected": version.protected,
            "parts": version.parts.len(),
        })
    });
    json!({ "id": row.id.as_str(), "name": row.name, "declared": row.declared, "membership": record })
}
