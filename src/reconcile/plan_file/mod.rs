//! Plan files: `plan --out` saves a plan, so that `reconcile --plan` sends exactly what you reviewed.
//!
//! The file is NDJSON, compressed and signed with a key of the state. It has a head with the numbers of every cohort, a
//! line for each change, and an end with their count. It contains identifiers of users and no key, and only its owner
//! can read it.
//!
//! The signature is checked before anything is unpacked, so damage and edits are errors. The changes are then sorted
//! again and compared with the state: the guard sees the numbers of the state, not those of the file.
//!
//! # Caveats
//! A plan made before there is a state is signed with a public key, which finds damage but not edits. It is only
//! accepted while the state is empty.

mod file;
mod recount;
mod signing;

pub use file::PlanFileError;
pub(super) use file::{PlanFileCohort, SavedCohort, load, save};
pub(super) use recount::recount;
