//! One run over the cohorts of the config: plans them, applies the plan, and reports the result.
//!
//! # Expected flow
//! [`plan()`] reads the sources and the recorded memberships and changes nothing. Its [`RunPlan`] can be shown, saved,
//! approved or dropped. [`apply()`] sends the part of it that the guard allows. Both work on several cohorts at once;
//! `plan_cohort.rs` and `apply_cohort.rs` have the stages of one cohort in their order.
//!
//! # Guarantees
//! A cohort that cannot be planned stops no other cohort. Apply sends what was planned and chooses nothing.

mod apply_cohort;
mod apply_run;
mod apply_stages;
mod compare;
mod context;
mod cursors;
mod delivery_change;
mod diff_result;
mod end_of_run;
mod export_run;
mod guard_changes;
mod key_check;
mod lanes;
mod mirror_tables;
mod plan_cohort;
mod plan_error;
mod plan_file;
mod plan_recorded;
mod plan_run;
mod plan_saved;
mod policy;
mod preflight;
mod read_source;
mod rekey;
mod report;
mod resync;
mod run_plan;
mod run_recorder;
mod triggers;

#[cfg(test)]
mod apply_cohort_tests;
#[cfg(test)]
mod run_fixture;

pub use apply_run::apply;
pub use context::{ApplyResources, BrazeAccess, BrazeClients, PlanInputs, connect_braze};
pub use end_of_run::log_retention;
pub use export_run::{ExportJob, ExportResources, export, export_outcomes, result as exports_result};
pub use lanes::Lane;
pub use plan_error::{FailedKind, PlanError};
pub use plan_file::PlanFileError;
pub use plan_run::{first_membership, ingest_deliveries, orphaned, plan, resume, resync, save};
pub use policy::OrphanedCohort;
pub use preflight::{PreflightPlan, PreflightReport};
pub use read_source::PushdownReport;
pub use report::{CohortReport, RunReport};
pub use run_plan::{CohortPlan, FailedCohort, RunPlan};
pub use run_recorder::{RecordedEnd, RunRecorder};
pub use triggers::{TriggerPlan, TriggersPlan};
