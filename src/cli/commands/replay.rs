//! `replay`: sends rejects, or the events of some days, again. It shows them first.

use std::sync::Arc;

use serde_json::json;

use super::export::{chosen, finish, job, run_jobs, survey};
use crate::cli::args::ReplayArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::logging::notify;
use crate::cli::output::{bold, count, counted, dim, out, wrapped};
use crate::cli::render::json::envelope;
use crate::cli::suggested_command::SuggestedCommand;
use crate::config::{Config, ExportConfig};
use crate::export::{self, Days, ReplayFilter, ReplaySelection, pick};
use crate::model::reason_words;
use crate::reconcile::ExportJob;
use crate::state::StateReader;

pub(in crate::cli) fn run(global: &Global, args: &ReplayArgs) -> Result<Exit, CommandError> {
    let config = super::run_config("replay", global)?;
    let exports = chosen(&config, &args.exports)?;
    let days = Days { since: args.since, until: args.until };
    if args.files {
        if !args.yes {
            let exit = survey(&config, &exports, days, true, args.format)?;
            return Ok(not_yet(global, args, exit));
        }
        return send(global, &config, &exports, args, |_| export::ReplayJob::Days(days));
    }
    let wanted = ReplayFilter {
        reasons: args.reasons.clone(),
        since: args.since,
        until: args.until,
        ..ReplayFilter::default()
    };
    let wanted = wanted
        .with_types(&args.types)
        .map_err(|error| CommandError::new(Exit::Usage, format!("`--type`: {error}")))?;
    let picked = picks(&super::reader(&config)?, &exports, &wanted)?;
    if !args.yes || picked.iter().all(ReplaySelection::is_empty) {
        show(&exports, &picked, args.format)?;
        let is_anything = picked.iter().any(|picked| !picked.is_empty());
        return Ok(if is_anything { not_yet(global, args, Exit::Done) } else { Exit::Done });
    }
    let of = |export: &ExportConfig| {
        let at = exports.iter().position(|other| other.id == export.id);
        export::ReplayJob::Rejects(at.map(|at| picked[at].clone()).unwrap_or_default())
    };
    send(global, &config, &exports, args, of)
}

fn picks(
    state: &StateReader,
    exports: &[&ExportConfig],
    wanted: &ReplayFilter,
) -> Result<Vec<ReplaySelection>, CommandError> {
    let each = exports.iter().map(|export| pick(state, &export.id, wanted));
    Ok(each.collect::<Result<_, _>>()?)
}

fn show(
    exports: &[&ExportConfig],
    picked: &[ReplaySelection],
    format: OutputFormat,
) -> Result<(), CommandError> {
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for (export, picked) in exports.iter().zip(picked) {
        let reasons: Vec<String> = picked
            .by_reason
            .iter()
            .map(|(reason, number)| {
                format!("{} {} ({reason})", count(*number), reason_words(reason, *number))
            })
            .collect();
        let what = if reasons.is_empty() { "nothing to replay".to_owned() } else { reasons.join(", ") };
        lines.push(format!("{}  {what}", bold(export.id.as_str())));
        if picked.without_event > 0 {
            let files = counted(picked.without_event, "reject");
            lines.push(dim(&format!("    plus {files} for files or blocks that could not be read")));
        }
        values.push(json!({
            "id": export.id.as_str(), "events": picked.len(), "by_reason": picked.by_reason,
            "without_event": picked.without_event,
        }));
    }
    Ok(out(&match format {
        OutputFormat::Human => wrapped(&lines.join("\n")),
        OutputFormat::Json => envelope("replay", "picked", &json!({ "exports": values })),
    })?)
}

fn not_yet(global: &Global, args: &ReplayArgs, exit: Exit) -> Exit {
    if !args.dry_run && args.format == OutputFormat::Human {
        notify(&format!(
            "nothing was sent; to send it: {} --yes, with the same options",
            SuggestedCommand::new(global).command("replay")
        ));
    }
    exit
}

fn send(
    global: &Global,
    config: &Config,
    exports: &[&ExportConfig],
    args: &ReplayArgs,
    again: impl Fn(&ExportConfig) -> export::ReplayJob,
) -> Result<Exit, CommandError> {
    let state = Arc::new(super::writer(config)?);
    let of = |export: &ExportConfig, state: &StateReader| {
        Ok(ExportJob { again: Some(again(export)), ..job(export, Days::default(), state)? })
    };
    let jobs = |state: &StateReader| exports.iter().map(|export| of(export, state)).collect();
    let reports = run_jobs("replay", config, exports, &state, jobs)?;
    finish(global, "replay", &reports, args.format)
}
