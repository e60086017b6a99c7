//! A source → the desired members of a cohort: read once, matched, sorted, each member once.
//!
//! Two threads share the work: one reads and matches, the other partitions what was matched; later one
//! sorts a partition while the other compares the one before.
//!
//! # Guarantees
//! Memory stays within a bound whatever the source's size; what is beyond it lies in a temporary file.
//! Every row is accounted for: it is a member, a duplicate of one, or a reject with its reason.
//!
//! # Errors
//! A source that cannot be read in full gives no members at all.

mod intake;
mod log;
mod rejects;
mod sort;
mod walk;

pub use rejects::Rejects;
pub use sort::SortedSet;
pub use walk::Members;

use std::thread;

use crate::config::{Cohort, Config};
use crate::connector::file::{self, FileError};
use crate::matching::Matcher;
use crate::model::{KeySeed, Progress};
use intake::Intake;

/// Who should be in a cohort, and what was found on the way there.
#[derive(Debug)]
pub struct Desired {
    /// The members, not yet sorted.
    pub set: SortedSet,
    /// Files and rows.
    pub reading: file::Reading,
    /// Rows that name nobody.
    pub rejects: Rejects,
}

/// Why there are no desired members.
#[derive(Debug, thiserror::Error)]
pub enum DesiredError {
    /// The source cannot be read in full.
    #[error(transparent)]
    Source(#[from] FileError),
    /// A temporary file failed.
    #[error("a temporary file failed: {0}")]
    Scratch(#[from] std::io::Error),
}

/// Reads a cohort's source.
///
/// # Errors
/// [`DesiredError`] when it cannot be read in full.
pub fn read(
    cohort: &Cohort,
    config: &Config,
    seed: KeySeed,
    progress: &dyn Progress,
) -> Result<Desired, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, &cohort.source.null_values);
    let set = SortedSet::new(seed, config.memory_max);
    thread::scope(|scope| {
        let (mut intake, partitioner) = Intake::start(scope, &cohort.id, &matcher, progress, set)?;
        let reading =
            file::read(&cohort.source, &config.folder, &config.roots, matcher.columns(), &mut intake);
        let rejects = intake.finish();
        // Whatever stopped the partitioner or the rejects stopped the reading, and not the other way round.
        let set = partitioner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Desired { set, rejects: rejects?, reading: reading? })
    })
}
