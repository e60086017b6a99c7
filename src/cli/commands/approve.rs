//! `approve`: approves a plan that the guard blocks. It needs no lease on the state, so it works while `watch` runs.

use serde_json::json;

use crate::cli::args::ApproveArgs;
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::operator::operator;
use crate::cli::output::{green, out};
use crate::cli::render::json::envelope;
use crate::cli::render::time::time_text;
use crate::foreign::without_secrets;
use crate::model::timestamp_text;
use crate::state::{Approval, Approvals, recorded_text};

pub(in crate::cli) fn run(global: &Global, args: &ApproveArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let known = config.cohorts.iter().any(|cohort| cohort.id == args.cohort);
    if !known {
        return Err(super::unknown_cohort(&args.cohort, &config));
    }
    if !super::reader(&config)?.exists() {
        let none = CommandError::new(Exit::Usage, "there is no state yet, so no plan is blocked");
        return Err(none.hint("`syncline plan` shows blocked changes"));
    }
    let given = environment::clock().now();
    let reason = args.reason.as_ref().map(|reason| recorded_text(&without_secrets(reason)));
    let approval = Approval {
        cohort: args.cohort.clone(),
        plan: args.plan.to_string(),
        approved_at: given,
        by: operator(),
        reason: reason.filter(|reason| !reason.is_empty()),
    };
    Approvals::open(&super::location(&config))?.put(&approval)?;
    out(&match args.format {
        OutputFormat::Human => format!(
            "{} {} of {}: a run with exactly this plan applies it; the approval expires at {}",
            green("approved"),
            approval.plan,
            approval.cohort,
            time_text(approval.expires_at()),
        ),
        OutputFormat::Json => envelope(
            "approve",
            "approved",
            &json!({
                "cohort": approval.cohort.as_str(),
                "plan": approval.plan,
                "given_at": timestamp_text(given),
                "expires_at": timestamp_text(approval.expires_at()),
                "reason": approval.reason,
                "by": approval.by,
            }),
        ),
    })?;
    Ok(Exit::Done)
}
