//! `plan`: what `reconcile` would do. It opens the state to read and has nothing to write with.

use super::reconcile::of_failed;
use crate::cli::args::{PlanArgs, PlanFormat};
use crate::cli::error::{CommandError, unusable_plan};
use crate::cli::exit::Exit;
use crate::cli::global_args::Global;
use crate::cli::logging::notify;
use crate::cli::output::{out, wrapped};
use crate::cli::progress::progress;
use crate::cli::render::segments::SegmentReport;
use crate::cli::render::target::RunTarget;
use crate::cli::render::{RenderOptions, json, markdown, plan as human};
use crate::cli::segments;
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::{access, environment, workspace};
use crate::config::{Config, HeapConfig};
use crate::model::{CohortId, ConnectionName};
use crate::reconcile::{self, PlanInputs, RunPlan};
use crate::state::{StateError, StateReader};

pub(in crate::cli) fn run(global: &Global, args: &PlanArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let ceilings = super::ceilings(&args.run, &config)?;
    let state = super::reader(&config)?;
    let run = environment::process_run().clone();
    let span = tracing::info_span!("run", %run);
    let _entered = span.enter();
    tracing::info!("the run begins; it only plans");
    let secrets = access::sources(&config)?;
    let inputs = PlanInputs {
        config: &config,
        secrets: &secrets,
        state: &state,
        ceilings: &ceilings,
        only: &args.run.cohorts,
        retry_rejected: args.run.retry_rejected,
        run: &run,
        clock: environment::clock(),
        progress: &*progress(),
    };
    let again = SuggestedCommand::new(global).run(&args.run, args.out.as_ref());
    // A plan needs no keys. Where there are some, they must be those of the state's workspace.
    let (keys, mut missing_keys) = access::available_keys(&config);
    workspace::check_workspace(&config, &state, &keys, &again)?;
    let failed_import = super::identity::report_news(&config, &secrets.stores, &state, &args.run.cohorts);
    let mut plan = reconcile::plan(inputs)?;
    if let Some(file) = &args.out {
        reconcile::save(&mut plan, file, &state).map_err(|error| unusable_plan(error, &again))?;
        notify(&format!("saved to {}; it contains user identifiers", file.display()));
    }
    if args.run.cohorts.is_empty() && args.out.is_none() {
        missing_keys
            .extend(config.heap.iter().filter_map(|(name, heap)| missing_app_id(&config, name, heap)));
    }
    let unknown = unknown(&config, &state, &args.run.cohorts)?;
    let looked = segments::look_along(&config, &state, &args.run.cohorts)?;
    let target = RunTarget::new(global, &config);
    let showing = RenderOptions {
        target: &target,
        again: &again,
        show_identifiers: args.show_identifiers,
        unknown: &unknown,
        missing_keys: &missing_keys,
        segments: SegmentReport { looked: &looked, config: &config, again: &again },
    };
    let (exit, result) = verdict(&plan, args.detailed_exitcode);
    let is_good = matches!(exit, Exit::Done | Exit::Pending);
    let exit = failed_import.filter(|_| is_good).unwrap_or(exit);
    tracing::info!(result, "the run ends");
    out(&match args.format {
        PlanFormat::Human => wrapped(&human::human(&plan, &showing)),
        PlanFormat::Json => json::plan(&plan, result, &showing),
        PlanFormat::Markdown => markdown::markdown(&plan, &showing),
    })?;
    Ok(exit)
}

/// Why `reconcile` would fail before its exports to this Heap.
fn missing_app_id(config: &Config, name: &ConnectionName, heap: &HeapConfig) -> Option<String> {
    let is_used = config.exports.iter().any(|export| export.to == *name);
    let error = access::app_id(name, heap).err().filter(|_| is_used)?;
    Some(error.message().to_owned())
}

/// Ids under `removed:` that have no cohort in the state: a typo, or an obsolete entry.
fn unknown(config: &Config, state: &StateReader, only: &[CohortId]) -> Result<Vec<CohortId>, StateError> {
    let mut unknown = Vec::new();
    for id in config.removed.iter().filter(|id| only.is_empty() || only.contains(id)) {
        if state.version(id)?.is_none() {
            unknown.push(id.clone());
        }
    }
    Ok(unknown)
}

/// The exit code and the result code. The most urgent problem determines both.
fn verdict(plan: &RunPlan, detailed: bool) -> (Exit, &'static str) {
    let is_blocked = plan.cohorts.iter().any(|cohort| !cohort.verdict.violations.is_empty());
    match (plan.failed_kind(), is_blocked, plan.is_in_sync()) {
        (Some(kind), ..) => (of_failed(kind), "failed"),
        (None, true, _) => (Exit::Blocked, "blocked"),
        (None, false, true) => (Exit::Done, "in_sync"),
        (None, false, false) => (if detailed { Exit::Pending } else { Exit::Done }, "changes"),
    }
}
