//! `plan`: what `reconcile` would do. It opens the state to read and has nothing to write with.

use crate::cli::args::{Format, Global, PlanArgs, PlanFormat};
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::{err, out};
use crate::cli::progress::progress;
use crate::cli::view::{json, markdown, plan as human};
use crate::reconcile::{self, Inputs, PassPlan};

pub(in crate::cli) fn run(global: &Global, args: &PlanArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let ceilings = super::ceilings(&args.pass, &config)?;
    let state = super::reader(&config)?;
    let watched = if args.format == PlanFormat::Human { Format::Human } else { Format::Json };
    let inputs = Inputs {
        config: &config,
        state: &state,
        ceilings: &ceilings,
        only: &args.pass.cohorts,
        retry_refused: args.pass.retry_refused,
        pass: &environment::new_pass(),
        clock: environment::clock(),
        progress: &*progress(watched),
    };
    let mut plan = reconcile::plan(inputs)?;
    if let Some(file) = &args.out {
        reconcile::save(&mut plan, file)?;
        err(&format!("saved to {}; it holds people's identifiers", file.display()));
    }
    let (exit, result) = verdict(&plan, args.detailed_exitcode);
    out(&match args.format {
        PlanFormat::Human => human::human(&plan, args.show_identifiers),
        PlanFormat::Json => json::plan(&plan, result, args.show_identifiers),
        PlanFormat::Markdown => markdown::markdown(&plan, args.show_identifiers),
    });
    Ok(exit)
}

/// The exit code and the result in a word: what a person must look at comes first.
fn verdict(plan: &PassPlan, detailed: bool) -> (Exit, &'static str) {
    let refused = plan.cohorts.iter().any(|cohort| !cohort.verdict.refusals.is_empty());
    match (plan.failed.is_empty(), refused, plan.is_in_step()) {
        (false, ..) => (Exit::Failed, "failed"),
        (true, true, _) => (Exit::Refused, "refused"),
        (true, false, true) => (Exit::Done, "in_step"),
        (true, false, false) => (if detailed { Exit::Pending } else { Exit::Done }, "changes"),
    }
}
