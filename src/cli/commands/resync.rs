//! `resync`: sends all recorded adds and removes of a cohort again, after it has shown the cost.

use std::sync::Arc;

use super::reconcile::{ReconcileRun, apply};
use super::stop::Stop;
use crate::cli::args::ResyncArgs;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::logging::notify;
use crate::cli::output::{counted, out, wrapped};
use crate::cli::progress::progress;
use crate::cli::render::segments::SegmentReport;
use crate::cli::render::target::RunTarget;
use crate::cli::render::{RenderOptions, json, plan as plan_view};
use crate::cli::suggested_command::SuggestedCommand;
use crate::cli::{access, environment, workspace};
use crate::config::{Config, SourceAccess};
use crate::model::Progress;
use crate::reconcile::{self, PlanInputs, RunPlan};
use crate::state::{StateReader, StateWriter};

pub(in crate::cli) fn run(global: &Global, args: &ResyncArgs) -> Result<Exit, CommandError> {
    let config = super::run_config("resync", global)?;
    let again = SuggestedCommand::new(global).resync(&args.cohort);
    let segments = SegmentReport { looked: &[], config: &config, again: &again };
    let target = RunTarget::new(global, &config);
    let showing = RenderOptions {
        target: &target,
        again: &again,
        show_identifiers: false,
        unknown: &[],
        missing_keys: &[],
        segments,
    };
    if !args.yes {
        let plan = plan(args, &config, &super::reader(&config)?, &*progress())?;
        out(&match args.format {
            OutputFormat::Human => wrapped(&plan_view::human(&plan, &showing)),
            OutputFormat::Json => json::plan(&plan, "changes", &showing),
        })?;
        if !args.dry_run && args.format == OutputFormat::Human {
            notify(&format!("nothing was sent; to send it: {}", again.command("reconcile")));
        }
        return Ok(Exit::Done);
    }
    let stop = Stop::listen()?;
    let (state, id, format) =
        (Arc::new(super::writer(&config)?), environment::process_run().clone(), args.format);
    super::recorded("resync", &id.clone(), &config, &state, |recorder| {
        stop.record_early(recorder.early_stop());
        let keys = access::keys(&config)?;
        workspace::check_workspace(&config, state.reader(), &keys, &again)?;
        recover(args, &config, &state)?;
        let progress = progress();
        let plan = plan(args, &config, state.reader(), &*progress)?;
        notify(&wrapped(&plan_view::human(&plan, &showing)));
        let (again, ids, jobs) = (again.clone(), std::collections::BTreeMap::new(), Vec::new());
        // Without the secrets the mirror tables are not updated. The next plan detects that.
        let secrets = Arc::new(access::sources(&config).unwrap_or_default());
        let config = &config;
        let run =
            ReconcileRun { global, config, id, recorder, progress, format, again, ids, jobs, secrets, stop };
        apply(plan, &keys, &state, run)
    })
}

/// Recovers a cohort if its state is older than the last committed version.
fn recover(args: &ResyncArgs, config: &Config, state: &StateWriter) -> Result<(), CommandError> {
    let (run, now) = (environment::new_run(), environment::clock().now());
    let first = reconcile::first_membership(&args.cohort, config, &run, now);
    if let Some(recovered) = state.recover(&args.cohort, first)? {
        notify(&format!(
            "{}: the state is older than the last commit; {} of its parts are in doubt, and the next \
             `syncline reconcile` adds or removes them",
            args.cohort,
            counted(recovered.in_doubt, "member")
        ));
    }
    Ok(())
}

fn plan(
    args: &ResyncArgs,
    config: &Config,
    state: &StateReader,
    progress: &dyn Progress,
) -> Result<RunPlan, CommandError> {
    // Only the recorded membership counts; the source is not read.
    let inputs = PlanInputs {
        secrets: &SourceAccess::default(),
        config,
        state,
        ceilings: &std::collections::BTreeMap::new(),
        only: &[],
        retry_rejected: false,
        run: &environment::new_run(),
        clock: environment::clock(),
        progress,
    };
    let failed = |error: reconcile::PlanError| CommandError::new(Exit::Failed, error.to_string());
    if let Some(plan) = reconcile::resync(&args.cohort, inputs).map_err(failed)? {
        return Ok(plan);
    }
    let known = state.cohorts()?;
    Err(super::unknown(
        "the state",
        "cohort",
        args.cohort.as_str(),
        known.iter().map(crate::model::CohortId::as_str),
    ))
}
