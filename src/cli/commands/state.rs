//! `state`: lists, shows, verifies, repairs and cleans up the state, and shows which process holds its lease.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::output::{bold, count, counted, dim, green, out, red, wrapped, yellow};
use crate::cli::render::json::envelope;
use crate::cli::state_args::{StateArgs, StateCommand};
use crate::cli::suggested_command::suggested;
use crate::config::Config;
use crate::heap_segments;
use crate::model::{ChangeOp, CohortId, ConnectionName, EndpointName, timestamp_text};
use crate::reconcile;
use crate::state::{Garbage, Membership, OlderEntry, PartRef, StateReader, Verification};

pub(in crate::cli) fn run(global: &Global, args: &StateArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let format = args.command.format();
    let (text, value, exit) = match &args.command {
        StateCommand::Ls(_) => list(&config)?,
        StateCommand::Show { cohort, .. } => show(&super::reader(&config)?, cohort)?,
        StateCommand::Adopt { connection, .. } => super::adopt::adopt(&config, connection)?,
        StateCommand::Create(_) => created(&config)?,
        StateCommand::Accept { part, full_sync, .. } => accepted(&config, part, *full_sync)?,
        StateCommand::Verify(_) => verified(&super::reader(&config)?.verify()?),
        StateCommand::Gc { dry_run, .. } => collected(&config, *dry_run)?,
    };
    out(&match format {
        OutputFormat::Human => wrapped(&text),
        OutputFormat::Json => envelope("state", args.command.name(), &value),
    })?;
    Ok(exit)
}

type StateAnswer = (String, Value, Exit);

fn created(config: &Config) -> Result<StateAnswer, CommandError> {
    let location = super::location(config);
    if StateReader::exists_at(&location)? {
        return Err(CommandError::new(Exit::Usage, format!("{location} already contains a state")));
    }
    drop(super::create(config)?);
    let value = json!({ "state": location.to_string() });
    Ok((format!("created an empty state in {location}"), value, Exit::Done))
}

fn accepted(config: &Config, part: &str, full_sync: bool) -> Result<StateAnswer, CommandError> {
    let state = super::writer(config)?;
    let older = state.reader().older_entries()?;
    let Some(older_entry) = older.iter().find(|older| older.entry == part) else {
        let names: Vec<&str> = older.iter().map(|older| older.entry.as_str()).collect();
        let message = format!("`{part}` is not older than the last commit");
        return Err(CommandError::new(Exit::Usage, message).hint(if names.is_empty() {
            "no part of this state is".to_owned()
        } else {
            format!("these are: {}", names.join(", "))
        }));
    };
    let heap = part.strip_prefix("segments/").and_then(|name| ConnectionName::new(name).ok());
    if let Some(heap) = &heap {
        require_full_sync(config, heap, state.reader(), full_sync)?;
    }
    state.accept(older_entry)?;
    let OlderEntry { entry, found, committed } = older_entry;
    let text = match &heap {
        Some(heap) => format!("the segments of `{heap}` are rebuilt from the deliveries in the inbox"),
        None => {
            format!(
                "{entry}: version {found} is now the current one; version {committed}, which was committed later, is not expected any more"
            )
        }
    };
    Ok((text, json!({ "part": entry, "found": found, "committed": committed }), Exit::Done))
}

/// Fails if new segment tables of a Heap connection would start from deliveries that may be differences.
fn require_full_sync(
    config: &Config,
    heap: &ConnectionName,
    state: &StateReader,
    full_sync: bool,
) -> Result<(), CommandError> {
    let files = state.inbox(&EndpointName::of_heap(heap))?;
    let whole = heap_segments::drained_segments(&files, state)?;
    let used: BTreeSet<u64> =
        config.cohorts.iter().filter_map(|cohort| cohort.source.segment_of(heap)).collect();
    let unsure: Vec<String> = used.difference(&whole).map(u64::to_string).collect();
    let message = match (files.is_empty(), unsure.as_slice()) {
        (true, _) => format!("no delivery of `{heap}` waits in the inbox, so its segments would be empty"),
        (false, [_, ..]) if !full_sync => {
            format!(
                "the deliveries in the inbox may be only a part of segment {}: none of them is a drain",
                unsure.join(", ")
            )
        }
        _ => return Ok(()),
    };
    let blocked = CommandError::new(Exit::Blocked, message)
        .hint(
            "a partial delivery would be taken for the whole segment, and all other members would be removed",
        )
        .hint(crate::cli::hints::FULL_SYNC);
    Err(match files.is_empty() {
        true => blocked,
        false => blocked.hint(format!(
            "if Heap has sent all members of these segments and no drain: {} segments/{heap} --full-sync",
            suggested("state accept")
        )),
    })
}
fn list(config: &Config) -> Result<StateAnswer, CommandError> {
    let (state, location) = (super::reader(config)?, super::location(config));
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for id in state.cohorts()? {
        let Some(version) = state.version(&id)? else { continue };
        lines.push(line(&id, &version));
        values.push(summary(&id, &version));
    }
    let holder = state.holder(environment::clock().now())?.map(|holder| holder.to_string());
    lines.push(match (&holder, state.exists()) {
        (Some(holder), _) => format!("{location}, lease held by {holder}"),
        (None, true) => format!("{location}, no lease"),
        (None, false) => format!("{location}: no state yet"),
    });
    let value = json!({ "state": location.to_string(), "holder": holder, "cohorts": values });
    Ok((lines.join("\n"), value, Exit::Done))
}

fn line(id: &CohortId, version: &Membership) -> String {
    let members = version.members.map_or("members not counted".to_owned(), |n| counted(n, "member"));
    let bytes: u64 = version.parts.iter().map(|part| part.bytes).sum();
    let mut line = format!("{}  {members} in {}", bold(id.as_str()), version.workspace);
    if version.in_doubt > 0 {
        line.push_str(&format!(", {} in doubt", count(version.in_doubt)));
    }
    let parts = counted(version.parts.len() as u64, "part");
    let written = timestamp_text(version.written_at);
    line + &dim(&format!(
        "\n    version {} of {written}, {parts}, {}",
        version.number,
        counted(bytes, "byte")
    ))
}

fn summary(id: &CohortId, version: &Membership) -> Value {
    json!({
        "cohort": id.as_str(),
        "name": version.name,
        "connection": version.workspace.connection,
        "endpoint": version.workspace.endpoint,
        "version": version.number,
        "written_at": timestamp_text(version.written_at),
        "run": version.run,
        "members": version.members,
        "in_doubt": version.in_doubt,
        "protected": version.protected,
        "removed": version.removed,
        "parts": version.parts.iter().map(part_value).collect::<Vec<_>>(),
    })
}

fn part_value(part: &PartRef) -> Value {
    json!({
        "id": part.id,
        "op": part.op.as_str(),
        "rows": part.rows,
        "acknowledged": part.acknowledged.len(),
        "rejected": part.rejected.len(),
        "in_doubt": part.in_doubt(),
        "bytes": part.bytes,
    })
}

fn show(state: &StateReader, id: &CohortId) -> Result<StateAnswer, CommandError> {
    let Some(version) = state.version(id)? else {
        let known = state.cohorts()?;
        return Err(super::unknown("the state", "cohort", id.as_str(), known.iter().map(CohortId::as_str)));
    };
    let mut lines = vec![line(id, &version)];
    lines.push(format!("    run {}", version.run));
    lines.extend(version.protected.then(|| "    protected".to_owned()));
    lines.extend(version.removed.then(|| "    emptied under `removed:`".to_owned()));
    let source = if version.source.is_some() { "file times are recorded" } else { "no file times recorded" };
    lines.push(format!("    source: {source}"));
    for part in &version.parts {
        let sign = if part.op == ChangeOp::Add { green("+") } else { red("-") };
        let mut text = format!("  {sign} {}  {}", part.id, counted(part.rows, "row"));
        for (number, what) in [(part.rejected.len(), "rejected"), (part.in_doubt(), "in doubt")] {
            if number > 0 {
                text.push_str(&format!(", {} {what}", count(number)));
            }
        }
        lines.push(text + &dim(&format!("  {}", counted(part.bytes, "byte"))));
    }
    let versions = state.versions(id)?;
    let older = versions.len().saturating_sub(1) as u64;
    lines.push(format!("    {} kept besides", counted(older, "older version")));
    let mut value = summary(id, &version);
    value["versions"] = json!(versions);
    Ok((lines.join("\n"), value, Exit::Done))
}

fn verified(found: &Verification) -> StateAnswer {
    let mut lines: Vec<String> = Vec::new();
    for finding in &found.findings {
        let sign = if finding.harmless { yellow("!") } else { red("✗") };
        lines.push(format!("{sign} {}: {}", finding.path, finding.problem));
    }
    let looked = format!(
        "{}, {}, {} ({})",
        counted(found.cohorts, "cohort"),
        counted(found.versions, "version"),
        counted(found.parts, "part"),
        counted(found.bytes, "byte")
    );
    let (word, exit) = match (found.is_clean(), found.findings.is_empty()) {
        (true, true) => (green("Intact:"), Exit::Done),
        (true, false) => (green("Intact, with garbage that `syncline state gc` removes:"), Exit::Done),
        (false, _) => (red("Damaged:"), Exit::Failed),
    };
    lines.push(format!("{word} {looked}."));
    let findings: Vec<Value> = found
        .findings
        .iter()
        .map(|f| json!({ "path": f.path, "what": f.problem, "harmless": f.harmless }))
        .collect();
    let value = json!({
        "clean": found.is_clean(), "cohorts": found.cohorts, "versions": found.versions,
        "parts": found.parts, "bytes": found.bytes, "findings": findings,
    });
    (lines.join("\n"), value, exit)
}

fn collected(config: &Config, dry_run: bool) -> Result<StateAnswer, CommandError> {
    let (now, retention) = (environment::clock().now(), reconcile::log_retention(config));
    let garbage = if dry_run {
        let state = super::reader(config)?;
        let mut garbage = state.garbage(now)?;
        garbage.extend(state.old_logs(&retention, now)?);
        garbage
    } else {
        let state = super::writer(config)?;
        // From here on commits may be known from `heads` alone.
        state.note_heads();
        let mut garbage = state.reader().garbage(now)?;
        garbage.extend(state.reader().old_logs(&retention, now)?);
        state.remove(&garbage)?;
        state.tidy_logs_now(&retention, now)?;
        garbage
    };
    let bytes: u64 = garbage.iter().map(|item| item.bytes).sum();
    let mut lines: Vec<String> = garbage
        .iter()
        .map(|Garbage { path, bytes, why }| format!("- {path}  {}, {why}", counted(*bytes, "byte")))
        .collect();
    let done = if dry_run { "would be removed" } else { "removed" };
    let files = counted(garbage.len() as u64, "file");
    let bytes_text = counted(bytes, "byte");
    lines.push(format!("{files} {done}, {bytes_text}. Replaced versions are kept for an hour."));
    let files: Vec<Value> = garbage
        .iter()
        .map(|item| json!({ "path": item.path, "bytes": item.bytes, "why": item.why }))
        .collect();
    Ok((lines.join("\n"), json!({ "dry_run": dry_run, "bytes": bytes, "files": files }), Exit::Done))
}
