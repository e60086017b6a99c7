//! Preflight: asks Braze which users it knows, because Braze silently drops identifiers that have no profile.
//!
//! # Expected flow
//! Before members are sent, Braze is asked for the entering users, and for unknown users once `retry_unknown` has
//! passed. The answers are recorded. The next plan adds the users again that have become known, and shows it.
//!
//! # Caveats
//! An answer is as old as its question. When Braze cannot be asked, the report says so, members are sent all the same,
//! and the next run asks for them.

mod plan;
mod run;

pub use plan::PreflightPlan;
pub(super) use plan::{known_now, plan};
pub use run::PreflightReport;
pub(super) use run::PreflightRun;
