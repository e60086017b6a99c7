//! Merging the runs of a record into one, once the small ones have grown to a share of the large one.
//!
//! A pass writes what changed and no more, and a plan walks all runs: merging now and then keeps both cheap. A
//! merged record says of every member what the runs said; those whom Braze has let go are in it no more.

use super::StateError;
use super::record::RecordCursor;
use super::run::RunWriter;
use super::store::Store;
use super::version::Version;
use crate::model::{CohortId, KeySeed, Op, RowSet, Standing};

/// Small runs may hold one part in so many of the rows of the largest.
const SHARE: u64 = 4;
/// Fewer rows than this in small runs are not worth a merge.
const ROWS_MIN: u64 = 4096;
/// Each run is an open file while the record is read.
const RUNS_MAX: usize = 24;

/// Whether the runs should be merged.
pub(super) fn is_due(version: &Version) -> bool {
    let largest = version.runs.iter().map(|run| run.rows).max().unwrap_or(0);
    let all: u64 = version.runs.iter().map(|run| run.rows).sum();
    version.runs.len() > RUNS_MAX || all - largest > (largest / SHARE).max(ROWS_MIN)
}

/// Writes one run that says what all runs of the version say, and the version that names it. Nobody sees it
/// until that is committed.
pub(super) fn merged(
    store: &Store,
    cohort: &CohortId,
    version: &Version,
    seed: KeySeed,
) -> Result<Version, StateError> {
    let mut record = RecordCursor::open(store, cohort, Some(version), seed)?;
    let mut writer = RunWriter::create(store, cohort, Op::Add, seed)?;
    let (mut rows, mut acknowledged, mut refused) = (0, RowSet::default(), RowSet::default());
    while let Some((_, standing)) = record.advance()? {
        writer.push(record.packed()?)?;
        match standing {
            Standing::Member => acknowledged.insert(rows..rows + 1),
            Standing::Refused => refused.insert(rows..rows + 1),
            // Disputed members are asked for once more: one run cannot say both.
            Standing::InDoubt | Standing::Disputed => {}
        }
        rows += 1;
    }
    let mut run = writer.finish()?;
    (run.acknowledged, run.refused) = (acknowledged, refused);
    let (members, in_doubt) = (Some(run.acknowledged.len()), run.in_doubt());
    let runs = if rows == 0 { Vec::new() } else { vec![run] };
    Ok(Version { number: version.number + 1, members, in_doubt, runs, ..version.clone() })
}
