//! A source → the desired members of a cohort: read once, matched, sorted, each member once.
//!
//! # Guarantees
//! Memory stays within a bound whatever the source's size; what is beyond it lies in a temporary file.
//! Every row is accounted for: it is a member, a duplicate of one, or a reject with its reason.
//!
//! # Errors
//! A source that cannot be read in full gives no members at all.

mod rejects;
mod sort;

pub use rejects::Rejects;
pub use sort::{Members, SortedSet};

use crate::config::{Cohort, Config};
use crate::connector::file::{self, FileError, Place, Row};
use crate::matching::Matcher;
use crate::model::{KeySeed, Progress, Stage};

/// Bytes of identifiers that are held in memory while a source is read.
pub const MEMORY_MAX: usize = 256 << 20;
/// Rows between two signs of life.
const PROGRESS_EVERY: u64 = 16 << 10;

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
    let mut intake = Intake {
        matcher: &matcher,
        set: SortedSet::new(seed, MEMORY_MAX),
        rejects: Rejects::default(),
        packed: Vec::new(),
    };
    let (mut rows, mut failed) = (0u64, None);
    let reading =
        file::read(&cohort.source, &config.folder, &config.roots, matcher.columns(), &mut |row, place| {
            rows += 1;
            if rows.is_multiple_of(PROGRESS_EVERY) {
                progress.at(&cohort.id, Stage::Reading, rows);
            }
            intake.take(row, place).map_err(|error| {
                failed = Some(error);
                FileError::Stopped
            })
        });
    match (reading, failed) {
        (_, Some(error)) => Err(error.into()),
        (Err(error), None) => Err(error.into()),
        (Ok(reading), None) => Ok(Desired { set: intake.set, reading, rejects: intake.rejects }),
    }
}

/// Takes row after row, without allocating for one.
struct Intake<'a> {
    matcher: &'a Matcher,
    set: SortedSet,
    rejects: Rejects,
    packed: Vec<u8>,
}

impl Intake<'_> {
    fn take(&mut self, row: Row<'_>, place: Place<'_>) -> std::io::Result<()> {
        let fields = match row {
            Row::Fields(fields) => fields,
            Row::Unreadable(reason, detail) => return self.rejects.unreadable(reason, detail, place),
        };
        match self.matcher.identify(fields) {
            Ok(identifier) => {
                self.packed.clear();
                identifier.pack_into(&mut self.packed);
                self.set.push(&self.packed)
            }
            Err(unmatched) => self.rejects.unmatched(&unmatched, place),
        }
    }
}
