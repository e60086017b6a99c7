//! `identity`: shows the identity map, and imports identity data from files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::identity_args::{
    IdentityArgs, IdentityCommand, IdentityImportArgs, IdentityLayoutArg as Known,
};
use crate::cli::identity_errors::of_import;
use crate::cli::logging::notify;
use crate::cli::output::{count, counted, counted_as, out, wrapped, yellow};
use crate::cli::render::json::envelope;
use crate::cli::render::reasons;
use crate::cli::{access, environment};
use crate::config::{CohortConfig, Config, DumpFolder, FileSource, IdentityDumpSource, IdentitySource};
use crate::connector::file;
use crate::foreign::escaped;
use crate::identity::{
    self, DumpImport, HandleColumn, IdentityImport, IdentityLayout, ImportError, ImportSummary, import_file,
};
use crate::model::{CohortId, timestamp_text};
use crate::source;
use crate::state::{
    IdentityKey, IdentityMap, IdentityOwners, OwnerEvidence, SourceName, SourceStats, StateReader,
    StateWriter,
};

pub(in crate::cli) fn run(global: &Global, args: &IdentityArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let (text, value) = match &args.command {
        IdentityCommand::Show { identifiers, .. } => show(&config, identifiers)?,
        IdentityCommand::Import(args) => import(&config, args)?,
        IdentityCommand::Stats(_) => stats(&super::reader(&config)?)?,
        IdentityCommand::Drop { address, label, .. } => drop_source(&config, address, label)?,
    };
    out(&match args.command.format() {
        OutputFormat::Human => wrapped(&text),
        OutputFormat::Json => envelope("identity", args.command.name(), &value),
    })?;
    Ok(Exit::Done)
}

type ShownIdentity = (String, Value);

fn show(config: &Config, ids: &[String]) -> Result<ShownIdentity, CommandError> {
    let Some(owners) = super::reader(config)?.owners()? else {
        let ids = ids.join(", ");
        return Ok((
            format!("no owner is known for {ids}: the identity map is empty"),
            json!({ "known": [] }),
        ));
    };
    let rules = config.cohorts.iter().flat_map(|cohort| &cohort.rules);
    let declared = config.identity.iter().filter_map(IdentitySource::label);
    let mut labels: Vec<&str> = rules.map(|rule| &*rule.label).chain(declared).collect();
    labels.push(HEAP_LABEL);
    labels.retain(|label| !label.is_empty());
    labels.sort_unstable();
    labels.dedup();
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for id in ids {
        let (more, known) = entries_of(&owners, id.trim(), &labels)?;
        lines.extend(more);
        values.extend(known);
    }
    Ok((lines.join("\n"), json!({ "known": values })))
}

/// The entries of one id, under all labels.
fn entries_of(
    owners: &IdentityOwners,
    id: &str,
    labels: &[&str],
) -> Result<(Vec<String>, Vec<Value>), CommandError> {
    let aliases = labels.iter().map(|label| IdentityKey::Alias { label, name: id });
    let (mut lines, mut values, mut answers) = (Vec::new(), Vec::new(), owners.answers());
    for handle in [IdentityKey::DeviceId(id), IdentityKey::BrazeId(id)].into_iter().chain(aliases) {
        let Some(evidence) = answers.evidence(handle)? else { continue };
        let kind = match handle {
            IdentityKey::DeviceId(_) => "device".to_owned(),
            IdentityKey::BrazeId(_) => "Braze's id".to_owned(),
            IdentityKey::Alias { label, .. } => format!("alias {label}"),
        };
        match evidence {
            OwnerEvidence::Owner { owner, seen, is_contested } => {
                let seen = timestamp_text(seen);
                let other = if is_contested { "; other evidence names another owner" } else { "" };
                lines.push(escaped(&format!("{kind} {id} is {owner}, seen {seen}{other}")).into_owned());
                values.push(json!({
                    "kind": kind, "id": id, "external_id": owner, "seen": seen, "ambiguous": is_contested,
                }));
            }
            OwnerEvidence::Gone => {
                lines.push(format!("{kind} {id} was deleted"));
                values.push(json!({ "kind": kind, "id": id, "deleted": true }));
            }
        }
    }
    if lines.is_empty() {
        lines.push(format!("no owner is known for {id}: no event and no imported file names one"));
    }
    Ok((lines, values))
}

/// Default label of the alias that holds Heap's user ids.
const HEAP_LABEL: &str = "heap_user_id";

fn import(config: &Config, args: &IdentityImportArgs) -> Result<ShownIdentity, CommandError> {
    // The path comes from the command line, not from a config, so no root restricts it.
    let (stores, roots) = (access::stores(), [PathBuf::from("/")]);
    let from = file::FileAccess { folder: Path::new("."), roots: &roots, stores: &stores };
    if args.layout == Known::HeapConnect {
        return import_dumps(config, args, from);
    }
    let layout = layout(args)?;
    let state = Arc::new(super::writer(config)?);
    let source = FileSource {
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        is_allowed: true,
        ..FileSource::new(args.files.clone())
    };
    let mut map = IdentityMap::open(&state)?;
    let imported =
        import_file(&source, from, &layout, &mut map, environment::clock().now()).map_err(of_import)?;
    Ok((summary_text(&imported), summary_json(&imported)))
}

fn import_dumps(
    config: &Config,
    args: &IdentityImportArgs,
    from: file::FileAccess<'_>,
) -> Result<ShownIdentity, CommandError> {
    if !args.device_ids.is_empty() || !args.aliases.is_empty() {
        let what = "--device-id and --alias do not apply to Heap Connect's dumps, which identify users by Heap's user id";
        return Err(CommandError::new(Exit::Usage, what));
    }
    let (path, endpoint, region) = (args.files.clone(), args.endpoint.clone(), args.region.clone());
    let source = IdentityDumpSource {
        address: address(&path),
        folder: DumpFolder { path, endpoint, region },
        label: args.label.clone(),
        owner: args.external_id.clone().unwrap_or_else(|| "identity".to_owned()),
    };
    let state = Arc::new(super::writer(config)?);
    let map = Mutex::new(IdentityMap::open(&state)?);
    let dumped = identity::import_dumps(&source, from, &map).map_err(of_import)?;
    let map = map.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.tidy_identity(&map, environment::clock().now())?;
    let value = json!({
        "dump": dumped.newest, "read": dumped.read, "anew": dumped.is_anew, "imported": summary_json(&dumped.summary),
    });
    Ok((dumped_text(&dumped), value))
}

/// The canonical address of a folder of dumps, so that one folder has one source state.
fn address(path: &str) -> String {
    if path.contains("://") {
        return path.trim_end_matches('/').to_owned();
    }
    Path::new(path).canonicalize().map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

fn dumped_text(dumped: &DumpImport) -> String {
    let newest = dumped.newest;
    let dumps = match dumped.read.as_slice() {
        [] => return format!("nothing new: the newest dump, {newest}, was imported before"),
        [only] => format!("dump {only}"),
        [first, .., last] => {
            format!("{} from {first} to {last}", counted(dumped.read.len() as u64, "dump"))
        }
    };
    let anew = if dumped.is_anew { "; their earlier data is replaced" } else { "" };
    format!("{dumps}{anew}\n{}", summary_text(&dumped.summary))
}

fn drop_source(config: &Config, address: &str, label: &str) -> Result<ShownIdentity, CommandError> {
    let state = Arc::new(super::writer(config)?);
    let name = SourceName { address: address.to_owned(), label: label.to_owned() };
    let is_known = IdentityMap::open(&state)?.remove_source(&name)?;
    if !is_known {
        let what = format!("no dump in {address} was imported with the label {label}");
        return Err(CommandError::new(Exit::Failed, what).hint("`identity stats` shows the sources"));
    }
    Ok((format!("dropped the identity data of dumps in {address}"), json!({ "dropped": address })))
}

/// The identity sources of the config, if one of these cohorts, or of all cohorts, uses the identity map.
fn declared<'a>(config: &'a Config, only: &[CohortId]) -> &'a [IdentitySource] {
    let chosen = |cohort: &&CohortConfig| only.is_empty() || only.contains(&cohort.id);
    let is_of_use = config.cohorts.iter().filter(chosen).any(source::may_rekey)
        || (only.is_empty() && !config.exports.is_empty());
    if is_of_use { &config.identity } else { &[] }
}

/// Imports the identity sources of the config. A source that cannot be read removes nothing from the map, and cohorts
/// use the map as it is. Returns the exit code of a failed import, or `None` if all imports succeeded.
pub(super) fn import_sources(
    config: &Config,
    stores: &[(String, String)],
    state: &Arc<StateWriter>,
    only: &[CohortId],
) -> Result<Option<Exit>, CommandError> {
    let (sources, mut worst, mut is_more) = (declared(config, only), None, false);
    if sources.is_empty() {
        return Ok(None);
    }
    let map = match IdentityMap::open(state) {
        Ok(map) => Mutex::new(map),
        // Only the cohorts that need the map fail.
        Err(error) if error.is_of_one_file() => {
            notify(&format!("identity data was not imported: {error}"));
            return Ok(Some(Exit::Failed));
        }
        Err(error) => return Err(error.into()),
    };
    for source in sources {
        let now = environment::clock().now();
        match identity::import_source(source, identity::from(config, stores), &map, now) {
            Ok(IdentityImport::Unchanged) => {}
            Ok(import) => {
                is_more = true;
                notify(&format!("{}: {}", source.path(), import_text(&import)));
            }
            Err(error) => worst = worst.max(Some(report_failure(source, error))),
        }
    }
    if is_more {
        let map = map.into_inner().unwrap_or_else(PoisonError::into_inner);
        state.tidy_identity(&map, environment::clock().now())?;
    }
    Ok(worst)
}

fn import_text(import: &IdentityImport) -> String {
    match import {
        IdentityImport::Unchanged => String::new(),
        IdentityImport::Dumps(dumped) => dumped_text(dumped),
        IdentityImport::Files(imported) => summary_text(imported),
    }
}

/// Reports the identity sources with data that a run would import first. Returns the exit code of a source that cannot
/// be read, or `None`.
pub(super) fn report_news(
    config: &Config,
    stores: &[(String, String)],
    state: &StateReader,
    only: &[CohortId],
) -> Option<Exit> {
    let mut worst = None;
    for source in declared(config, only) {
        let now = environment::clock().now();
        match identity::has_changes(source, identity::from(config, stores), state, now) {
            Ok(false) => {}
            Ok(true) => notify(&format!(
                "{} has new identity data: `reconcile` imports it first, so its plan may differ",
                source.path()
            )),
            Err(error) => worst = worst.max(Some(report_failure(source, error))),
        }
    }
    worst
}

fn report_failure(source: &IdentitySource, error: ImportError) -> Exit {
    let error = of_import(error);
    let what =
        format!("! identity {}: {}; cohorts use the identity map as it is", source.path(), error.message());
    notify(&what);
    error.exit
}

fn layout(args: &IdentityImportArgs) -> Result<IdentityLayout, CommandError> {
    let label = || args.label.as_str().into();
    if args.layout == Known::HeapUserMigrations {
        let (from, into) = ("from_user_id".into(), "to_user_id".into());
        return Ok(IdentityLayout::Joins { label: label(), from, into });
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
    let owner = owner.ok_or_else(|| usage("--external-id is missing: the column of the external id"))?;
    if handles.is_empty() {
        return Err(usage("--device-id or --alias is missing: the column of a device or an alias"));
    }
    Ok(IdentityLayout::Ties { owner: owner.into(), handles })
}

fn summary_text(summary: &ImportSummary) -> String {
    let mut parts = vec![format!("read {}", counted(summary.rows, "row"))];
    parts.extend((summary.ties > 0).then(|| format!("{} with an owner", count(summary.ties))));
    parts.extend((summary.joins > 0).then(|| format!("{} merged", count(summary.joins))));
    let mut lines = vec![parts.join(", ")];
    if summary.conflicts > 0 {
        let times = if summary.conflicts == 1 {
            "once".to_owned()
        } else {
            format!("{} times", count(summary.conflicts))
        };
        lines
            .push(format!("  {} {times} another owner than before; the newest evidence counts", yellow("!")));
    }
    if !summary.unused.is_empty() {
        let rows = counted(summary.unused.values().sum(), "row");
        lines.push(format!("  {} {rows} rejected: {}", yellow("!"), reasons(&summary.unused)));
    }
    lines.join("\n")
}

fn summary_json(summary: &ImportSummary) -> Value {
    json!({
        "rows": summary.rows, "ties": summary.ties, "merged": summary.joins,
        "conflicts": summary.conflicts, "rejected": summary.unused,
    })
}

fn stats(state: &StateReader) -> Result<ShownIdentity, CommandError> {
    let stats = state.identity_stats()?;
    let entries = counted_as(stats.entries, "entry", "entries");
    let mut text = format!("{entries} in {}, {}", counted(stats.parts, "file"), counted(stats.bytes, "byte"));
    for SourceStats { name, dump, users, joins } in &stats.sources {
        let SourceName { address, label } = name;
        let (users, joins) = (count(*users), count(*joins));
        text.push_str(&format!(
            "\n{address}, {label}: {users} with an owner and {joins} merged, as of dump {dump}"
        ));
    }
    if stats.conflicts > 0 {
        text.push_str(&format!(
            "\n{} by another owner than before; the newest evidence counted",
            counted(stats.conflicts, "claim")
        ));
    }
    let source = |source: &SourceStats| {
        json!({
            "address": source.name.address, "label": source.name.label, "dump": source.dump,
            "users": source.users, "merged": source.joins,
        })
    };
    let value = json!({
        "sources": stats.sources.iter().map(source).collect::<Vec<_>>(),
        "version": stats.number, "entries": stats.entries, "files": stats.parts,
        "bytes": stats.bytes, "conflicts": stats.conflicts,
    });
    Ok((text, value))
}
