//! `identity`: who is who, as far as events and files have told; and learning it from files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::cli::args::{Format, Global};
use crate::cli::error::{CommandError, file_hint};
use crate::cli::exit::Exit;
use crate::cli::identity_args::{IdentityArgs, IdentityCommand, ImportArgs, Layout as Known};
use crate::cli::output::{count, counted, out, yellow};
use crate::cli::view::json::envelope;
use crate::cli::{access, environment};
use crate::config::{Config, FileSource, FinalNewline};
use crate::connector::file;
use crate::identity::{HandleColumn, Layout, Taught, TeachError, teach};
use crate::model::timestamp_text;
use crate::state::{Evidence, Handle, IdentityMap, StateReader};

pub(in crate::cli) fn run(global: &Global, args: &IdentityArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let (text, value) = match &args.command {
        IdentityCommand::Show { identifier, .. } => show(&config, identifier.trim())?,
        IdentityCommand::Import(args) => import(&config, args)?,
        IdentityCommand::Stats(_) => stats(&super::reader(&config)?)?,
    };
    out(&match args.command.format() {
        Format::Human => text,
        Format::Json => envelope("identity", args.command.name(), &value),
    })?;
    Ok(Exit::Done)
}

type Shown = (String, Value);

fn show(config: &Config, id: &str) -> Result<Shown, CommandError> {
    let Some(owners) = super::reader(config)?.owners()? else {
        return Ok((format!("nothing is known of {id}: nothing was ever learned"), json!({ "known": [] })));
    };
    let rules = config.cohorts.iter().flat_map(|cohort| &cohort.rules);
    let mut labels: Vec<&str> = rules.map(|rule| &*rule.label).filter(|label| !label.is_empty()).collect();
    labels.push(HEAP_LABEL);
    labels.sort_unstable();
    labels.dedup();
    let aliases = labels.iter().map(|label| Handle::Alias { label, name: id });
    let (mut lines, mut values, mut answers) = (Vec::new(), Vec::new(), owners.answers());
    for handle in [Handle::DeviceId(id), Handle::BrazeId(id)].into_iter().chain(aliases) {
        let Some(evidence) = answers.evidence(handle)? else { continue };
        let kind = match handle {
            Handle::DeviceId(_) => "device".to_owned(),
            Handle::BrazeId(_) => "Braze's id".to_owned(),
            Handle::Alias { label, .. } => format!("alias {label}"),
        };
        match evidence {
            Evidence::Owner { owner, seen, is_contested } => {
                let seen = timestamp_text(seen);
                let other = if is_contested { "; somebody else was said to be it as well" } else { "" };
                lines.push(format!("{kind} {id} is {owner}, seen {seen}{other}"));
                values.push(
                    json!({ "kind": kind, "external_id": owner, "seen": seen, "ambiguous": is_contested }),
                );
            }
            Evidence::Gone => {
                lines.push(format!("{kind} {id} was deleted"));
                values.push(json!({ "kind": kind, "deleted": true }));
            }
        }
    }
    if lines.is_empty() {
        lines.push(format!("nothing is known of {id}: no event and no file has told whose it is"));
    }
    Ok((lines.join("\n"), json!({ "known": values })))
}

/// The label of the alias that Heap's user ids are, unless told otherwise.
const HEAP_LABEL: &str = "heap_user_id";

fn import(config: &Config, args: &ImportArgs) -> Result<Shown, CommandError> {
    let layout = layout(args)?;
    let state = Arc::new(super::writer(config)?);
    let source = FileSource {
        pattern: args.files.clone(),
        endpoint: None,
        region: None,
        format: None,
        delimiter: b',',
        null_values: Vec::new(),
        final_newline: FinalNewline::Required,
    };
    // Whoever types the command says where the files are; there is no config that could be tricked.
    let (stores, roots) = (access::stores(), [PathBuf::from("/")]);
    let from = file::From { folder: Path::new("."), roots: &roots, stores: &stores };
    let mut map = IdentityMap::open(&state)?;
    let taught = teach(&source, from, &layout, &mut map, environment::clock().now());
    let taught = taught.map_err(|error| match error {
        TeachError::State(error) => error.into(),
        TeachError::File(error) => {
            let failed = CommandError::new(Exit::Failed, format!("nothing was learned: {error}"));
            match file_hint(&error) {
                Some(hint) => failed.hint(hint),
                None => failed,
            }
        }
    })?;
    Ok((taught_text(&taught), taught_json(&taught)))
}

fn layout(args: &ImportArgs) -> Result<Layout, CommandError> {
    let label = || args.label.as_str().into();
    if args.layout == Known::HeapUserMigrations {
        let (from, into) = ("from_user_id".into(), "to_user_id".into());
        return Ok(Layout::Joins { label: label(), from, into });
    }
    let mut handles: Vec<HandleColumn> =
        args.device_ids.iter().map(|column| HandleColumn::DeviceId(column.as_str().into())).collect();
    let alias =
        |label: &str, column: &str| HandleColumn::Alias { label: label.into(), column: column.into() };
    handles.extend(args.aliases.iter().map(|(label, column)| alias(label, column)));
    let mut owner = args.external_id.as_deref();
    if args.layout == Known::HeapUsers {
        handles.push(HandleColumn::Alias { label: label(), column: "user_id".into() });
        owner = owner.or(Some("identity"));
    }
    let usage = |what: &str| CommandError::new(Exit::Usage, what.to_owned());
    let owner = owner.ok_or_else(|| usage("which column is your own id? say it with --external-id"))?;
    if handles.is_empty() {
        return Err(usage("which column is a device or an alias? say it with --device-id or --alias"));
    }
    Ok(Layout::Ties { owner: owner.into(), handles })
}

fn taught_text(taught: &Taught) -> String {
    let mut parts = vec![format!("read {}", counted(taught.rows, "row"))];
    parts.extend((taught.ties > 0).then(|| format!("{} with an owner", count(taught.ties))));
    parts.extend((taught.joins > 0).then(|| format!("{} merged", count(taught.joins))));
    let mut lines = vec![parts.join(", ")];
    if taught.conflicts > 0 {
        let times = if taught.conflicts == 1 {
            "once".to_owned()
        } else {
            format!("{} times", count(taught.conflicts))
        };
        lines
            .push(format!("  {} {times} another owner than before; the newest evidence counts", yellow("!")));
    }
    if !taught.unused.is_empty() {
        let reasons: Vec<String> =
            taught.unused.iter().map(|(why, n)| format!("{} {why}", count(*n))).collect();
        let rows = counted(taught.unused.values().sum(), "row");
        lines.push(format!("  {} {rows} not used: {}", yellow("!"), reasons.join(", ")));
    }
    lines.join("\n")
}

fn taught_json(taught: &Taught) -> Value {
    json!({
        "rows": taught.rows, "ties": taught.ties, "merged": taught.joins,
        "conflicts": taught.conflicts, "unused": taught.unused,
    })
}

fn stats(state: &StateReader) -> Result<Shown, CommandError> {
    let stats = state.identity_stats()?;
    let entries =
        if stats.entries == 1 { "1 entry".to_owned() } else { format!("{} entries", count(stats.entries)) };
    let mut text = format!("{entries} in {}, {}", counted(stats.runs, "file"), counted(stats.bytes, "byte"));
    if stats.conflicts > 0 {
        text.push_str(&format!(
            "\n{} claims by another owner than before; the newest evidence counted",
            count(stats.conflicts)
        ));
    }
    let value = json!({
        "version": stats.number, "entries": stats.entries, "files": stats.runs,
        "bytes": stats.bytes, "conflicts": stats.conflicts,
    });
    Ok((text, value))
}
