//! `approve`: approves a plan that the guard blocks. It needs no lease on the state, so it works while `watch` runs.

use serde_json::json;

use crate::cli::args::ApproveArgs;
use crate::cli::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::operator::operator;
use crate::cli::output::{green, out, yellow};
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
    let state = super::reader(&config)?;
    if !state.exists() {
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
    // It explains the approval and does not change it, so a damaged record is no reason to fail.
    let blocked = state.last_outcomes().ok().and_then(|outcomes| outcomes.cohort(&args.cohort)?.plan.clone());
    Approvals::open(&super::location(&config))?.put(&approval)?;
    let warning = unrecorded(&approval, blocked.as_deref());
    out(&match args.format {
        OutputFormat::Human => {
            let approved = format!(
                "{} {} of {}: a run with exactly this plan applies it; the approval expires at {}",
                green("approved"),
                approval.plan,
                approval.cohort,
                time_text(approval.expires_at()),
            );
            let warning = warning.map(|warning| format!("{} {warning}", yellow("!")));
            std::iter::once(approved).chain(warning).collect::<Vec<_>>().join("\n")
        }
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
                "recorded_plan": blocked,
                "warning": warning,
            }),
        ),
    })?;
    Ok(Exit::Done)
}

/// A warning about a plan that the last run has not recorded as blocked. It may be the plan of `syncline plan`, which records
/// nothing, or a digest that no plan has.
fn unrecorded(approval: &Approval, blocked: Option<&str>) -> Option<String> {
    let known = match blocked {
        Some(blocked) if blocked == approval.plan => return None,
        Some(blocked) => format!("the last run of {} blocked another plan, {blocked}", approval.cohort),
        None => format!("the last run has recorded no blocked plan of {}", approval.cohort),
    };
    Some(format!("{known}; the approval has no effect unless the next run has exactly the approved plan"))
}
