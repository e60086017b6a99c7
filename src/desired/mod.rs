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
mod told;
mod walk;

pub use rejects::Rejects;
pub use sort::SortedSet;
pub use walk::Members;

use std::thread;

use xxhash_rust::xxh3::xxh3_128;

use crate::config::{Cohort, Config, Source};
use crate::connector::file::{self, FileError};
use crate::matching::Matcher;
use crate::model::{Progress, Timestamp};
use crate::state::{StateError, StateReader};
use intake::Intake;

/// Who should be in a cohort, and what was found on the way there.
#[derive(Debug)]
pub struct Desired {
    /// The members, not yet sorted.
    pub set: SortedSet,
    /// Files and rows.
    pub reading: file::Reading,
    /// What tells this source from what it will be.
    pub fingerprint: Option<Fingerprint>,
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
    /// What Heap has told cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// Heap has told nothing of the segment.
    #[error("Heap has not told of segment {segment} yet{}", told::others(.known))]
    Untold {
        /// The segment.
        segment: u64,
        /// Segments of which it has, with their names.
        known: Vec<(u64, String)>,
    },
}

/// What tells a source from what it was, without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fingerprint {
    /// By its files.
    Files(file::Fingerprint),
    /// By what Heap has told.
    Told(String),
}

impl Fingerprint {
    /// The fingerprint as a version keeps it; none while files are too fresh to be told by it. `rules` is
    /// whatever else decides what the rows mean.
    #[must_use]
    pub fn text(&self, rules: &str, now: Timestamp) -> Option<String> {
        match self {
            Self::Files(files) => files.text(rules, now),
            Self::Told(told) => {
                let [told, rules] = [told, rules].map(|text| xxh3_128(text.as_bytes()));
                Some(format!("{told:032x}{rules:032x}"))
            }
        }
    }
}

/// The fingerprint of a cohort's source as it is now.
///
/// # Errors
/// As for reading it.
pub fn fingerprint(
    cohort: &Cohort,
    config: &Config,
    state: &StateReader,
) -> Result<Fingerprint, DesiredError> {
    match &cohort.source {
        Source::File(source) => {
            Ok(Fingerprint::Files(file::fingerprint(source, &config.folder, &config.roots)?))
        }
        Source::HeapSegment(source) => Ok(Fingerprint::Told(told::segment(source, state)?.fingerprint())),
    }
}

/// Reads a cohort's source.
///
/// # Errors
/// [`DesiredError`] when it cannot be read in full.
pub fn read(
    cohort: &Cohort,
    config: &Config,
    state: &StateReader,
    progress: &dyn Progress,
) -> Result<Desired, DesiredError> {
    let matcher = Matcher::new(&cohort.rules, cohort.source.null_values(), &cohort.delivery);
    let set = SortedSet::new(state.seed(), config.memory_max);
    thread::scope(|scope| {
        let (mut intake, partitioner) = Intake::start(scope, &cohort.id, &matcher, progress, set)?;
        let reading = rows(cohort, config, state, &matcher, &mut intake);
        let rejects = intake.finish();
        // Whatever stopped the partitioner or the rejects stopped the reading, and not the other way round.
        let set = partitioner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let rejects = rejects?;
        let (reading, fingerprint) = reading?;
        Ok(Desired { set, reading, fingerprint, rejects })
    })
}

fn rows(
    cohort: &Cohort,
    config: &Config,
    state: &StateReader,
    matcher: &Matcher,
    intake: &mut Intake<'_>,
) -> Result<(file::Reading, Option<Fingerprint>), DesiredError> {
    match &cohort.source {
        Source::File(source) => {
            let reading = file::read(source, &config.folder, &config.roots, matcher.columns(), intake)?;
            let fingerprint = reading.fingerprint.map(Fingerprint::Files);
            Ok((reading, fingerprint))
        }
        Source::HeapSegment(source) => {
            let segment = told::segment(source, state)?;
            let reading = told::read(source, &segment, state, intake)?;
            Ok((reading, Some(Fingerprint::Told(segment.fingerprint()))))
        }
    }
}
