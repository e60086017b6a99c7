//! Triggers: the campaigns and Canvases of `on_enter` and `on_exit`, chosen with the plan and sent after the members.
//!
//! # Guarantees
//! - A trigger fires at most once for each user and entry. Due triggers are on disk before members are sent. Each one is
//!   taken off the list, on disk, before its request, and a request without an answer is not repeated.
//! - Nothing fires unless all changes of the run are settled.
//! - The first fill of a cohort fires no trigger.

mod choose;
mod follow_rekeys;
mod plan;
mod run;
mod transitions;

pub(super) use choose::choose;
pub use plan::{TriggerPlan, TriggersPlan};
pub(super) use run::TriggerRun;
pub(super) use transitions::Transitions;
