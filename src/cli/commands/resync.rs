//! `resync`: sends a cohort again by its record, adds and removes, and says first what that costs.

use std::sync::Arc;

use crate::cli::args::{Format, Global, ResyncArgs};
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::output::{err, out};
use crate::cli::progress::progress;
use crate::cli::view::{json, plan as plan_view};
use crate::config::Config;
use crate::model::Progress;
use crate::reconcile::{self, Inputs, PassPlan};
use crate::state::StateReader;

pub(in crate::cli) fn run(global: &Global, args: &ResyncArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    if args.dry_run {
        let plan = plan(args, &config, &super::reader(&config)?, &*progress(args.format))?;
        out(&match args.format {
            Format::Human => plan_view::human(&plan, false),
            Format::Json => json::plan(&plan, "changes", false),
        });
        return Ok(Exit::Done);
    }
    let keys = crate::cli::access::keys(&config)?;
    let state = Arc::new(super::writer(&config)?);
    let progress = progress(args.format);
    let plan = plan(args, &config, state.reader(), &*progress)?;
    err(&plan_view::human(&plan, false));
    super::reconcile::apply(plan, &config, keys, state, environment::new_pass(), progress, args.format)
}

fn plan(
    args: &ResyncArgs,
    config: &Config,
    state: &StateReader,
    progress: &dyn Progress,
) -> Result<PassPlan, CommandError> {
    let inputs = Inputs {
        config,
        state,
        ceilings: &std::collections::BTreeMap::new(),
        only: &[],
        retry_refused: false,
        pass: &environment::new_pass(),
        clock: environment::clock(),
        progress,
    };
    let failed = |error: reconcile::PlanError| CommandError::new(Exit::Failed, error.to_string());
    reconcile::resync(&args.cohort, inputs).map_err(failed)?.ok_or_else(|| {
        let unknown =
            CommandError::new(Exit::Usage, format!("the state has nothing of cohort `{}`", args.cohort));
        unknown.hint("`syncline status` lists what it has")
    })
}
