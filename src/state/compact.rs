//! Merging the runs of a record: all of them into one once the small ones have grown to a share of the large
//! one, and the small ones among themselves when there are many.
//!
//! A pass writes what changed and no more, and a plan walks all runs: merging now and then keeps both cheap. A
//! merged record says of every member what the runs said.

use super::StateError;
use super::late::Late;
use super::record::RecordCursor;
use super::run::RunWriter;
use super::store::Store;
use super::version::{RunRef, Version};
use crate::model::{CohortId, KeySeed, Op, RowSet, Standing};

/// Small runs may hold one part in so many of the rows of the largest.
const SHARE: u64 = 4;
/// Fewer rows than this in small runs are not worth a merge.
const ROWS_MIN: u64 = 4096;
/// Runs of late requests, of which only few rows may matter.
const LATE_MAX: usize = 6;
/// Each run is an open file while the record is read.
const RUNS_MAX: usize = 24;

/// The version with fewer runs, if its runs are due to be merged. Nobody sees it until it is committed.
pub(super) fn tidied(
    store: &Store,
    cohort: &CohortId,
    version: &Version,
    seed: KeySeed,
) -> Result<Option<Version>, StateError> {
    if version.late.len() > LATE_MAX {
        return late_merged(store, cohort, version, seed).map(Some);
    }
    // A merged run does not say what was asked for its rows in doubt.
    if !version.knows_its_doubt() {
        return Ok(None);
    }
    let largest = version.runs.iter().map(|run| run.rows).max().unwrap_or(0);
    let all: u64 = version.runs.iter().map(|run| run.rows).sum();
    if all - largest > (largest / SHARE).max(ROWS_MIN) {
        return merged(store, cohort, version, seed).map(Some);
    }
    if version.runs.len() <= RUNS_MAX {
        return Ok(None);
    }
    let fewer = small_merged(store, cohort, version, seed)?;
    if fewer.runs.len() <= RUNS_MAX / 2 {
        Ok(Some(fewer))
    } else {
        merged(store, cohort, version, seed).map(Some)
    }
}

/// Writes the members of late requests into one run for each side: those alone, so that the runs that they were part of
/// can go.
fn late_merged(
    store: &Store,
    cohort: &CohortId,
    version: &Version,
    seed: KeySeed,
) -> Result<Version, StateError> {
    let mut merged = Version { number: version.number + 1, late: Vec::new(), ..version.clone() };
    for op in [Op::Remove, Op::Add] {
        let side: Vec<&Late> = version.late.iter().filter(|late| late.run.op == op).collect();
        let Some(until) = side.iter().map(|late| late.until).max() else { continue };
        let runs: Vec<RunRef> = side.iter().map(|late| late.in_doubt()).collect();
        let mut members = RecordCursor::of_runs(store, cohort, &runs, seed)?;
        let mut writer = RunWriter::create(store, cohort, op, seed)?;
        while members.advance()?.is_some() {
            writer.push(members.packed()?)?;
        }
        let run = writer.finish()?;
        let rows = RowSet::all(run.rows);
        merged.late.push(Late { run, rows, until });
    }
    Ok(merged)
}

/// Merges the runs after the largest among themselves: those that are wholly acknowledged, so that the last
/// word on each of their members is either in or out.
fn small_merged(
    store: &Store,
    cohort: &CohortId,
    version: &Version,
    seed: KeySeed,
) -> Result<Version, StateError> {
    let largest = (0..version.runs.len()).max_by_key(|at| version.runs[*at].rows).unwrap_or(0);
    let is_settled = |run: &RunRef| run.acknowledged.len() == run.rows;
    let mut runs: Vec<RunRef> = version.runs[..=largest].to_vec();
    for group in version.runs[largest + 1..].chunk_by(|a, b| is_settled(a) && is_settled(b)) {
        match group {
            [_, _, _, ..] => runs.extend(last_words(store, cohort, version, group, seed)?),
            few => runs.extend_from_slice(few),
        }
    }
    Ok(Version { number: version.number + 1, runs, ..version.clone() })
}

/// Writes a run of those whom the group leaves out and one of those whom it leaves in.
fn last_words(
    store: &Store,
    cohort: &CohortId,
    version: &Version,
    group: &[RunRef],
    seed: KeySeed,
) -> Result<Vec<RunRef>, StateError> {
    let group = Version { runs: group.to_vec(), ..version.clone() };
    let mut record = RecordCursor::open(store, cohort, Some(&group), seed)?;
    let mut out = RunWriter::create(store, cohort, Op::Remove, seed)?;
    let mut into = RunWriter::create(store, cohort, Op::Add, seed)?;
    while let Some((_, standing)) = record.advance_any()? {
        let side = if standing.is_some() { &mut into } else { &mut out };
        side.push(record.packed()?)?;
    }
    let mut runs = Vec::new();
    for side in [out, into] {
        let run = side.finish()?;
        if run.rows > 0 {
            runs.push(RunRef { acknowledged: RowSet::all(run.rows), ..run });
        }
    }
    Ok(runs)
}

/// Writes one run that says what all runs of the version say. Those whom Braze has let go are in it no more.
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
    (run.acknowledged, run.refused, run.noted) = (acknowledged, refused, true);
    let (members, in_doubt) = (Some(run.acknowledged.len()), run.in_doubt());
    let runs = if rows == 0 { Vec::new() } else { vec![run] };
    Ok(Version { number: version.number + 1, members, in_doubt, runs, ..version.clone() })
}
