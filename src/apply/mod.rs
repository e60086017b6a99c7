//! Sends an approved plan to its destination and records the outcome.
//!
//! # Expected flow
//! 1. Write all changes as parts in doubt, and commit a version that names them.
//! 2. Name the cohort, if the plan says so.
//! 3. Send the removals, then the additions.
//! 4. Commit a checkpoint of the accepted changes every hundred batches or five seconds, and at the end.
//!
//! # Guarantees
//! - Only a response of the destination changes the recorded membership.
//! - A crash between two checkpoints leaves members in doubt, which the next plan settles. An apply that stops before its
//!   first request leaves none.
//! - Removals are sent first, in requests of their own. One user may have two identifiers, and a removal after an
//!   addition would take that user out.
//! - A destination is a [`crate::connector::destination::Destination`]; this module uses nothing else of Braze.
//!
//! # Late requests
//! Braze may handle a request without a response after a later run has settled its members. The recorded membership keeps
//! the rows of such requests until none can be in progress any more. The first run after that sends the members again
//! that differ from the request. The same rule applies to a cohort name. Triggers are different: a trigger without a
//! response is never repeated.
//!
//! # Caveats
//! Writes to the state block the thread, so the runtime must have several threads.

mod context;
mod health;
mod ledger;
mod members;
mod sender;
mod stop;
mod triggers;

#[cfg(test)]
pub(crate) mod fake_destination;
#[cfg(test)]
mod members_tests;

pub use context::{ApplyContext, ApplyOutcome};
pub use health::ConnectionHealth;
pub use members::apply;
pub use stop::{ApplyStop, Interrupt, StopCause};
pub use triggers::{TriggerOutcome, TriggerRequest, trigger};
