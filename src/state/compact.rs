//! Merging the parts of a record: all of them into one once the small ones have grown to a share of the large
//! one, and the small ones among themselves when there are many.
//!
//! A run writes what changed and no more, and a plan walks all parts: merging now and then keeps both cheap. A
//! merged record says of every member what the parts said.

use super::StateError;
use super::late::Late;
use super::membership::{Membership, PartRef};
use super::membership_cursor::MembershipCursor;
use super::part::PartWriter;
use super::store::Store;
use crate::model::{ChangeOp, CohortId, KeySeed, RowSet, Standing};

/// Small parts may hold one part in so many of the rows of the largest.
const SHARE: u64 = 4;
/// Fewer rows than this in small parts are not worth a merge.
const ROWS_MIN: u64 = 4096;
/// Parts of late requests, of which only few rows may matter.
const LATE_MAX: usize = 6;
/// Each part is an open file while the record is read.
const PARTS_MAX: usize = 24;

/// The version with fewer parts, if its parts are due to be merged. Nobody sees it until it is committed.
pub(super) fn tidied(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Option<Membership>, StateError> {
    if version.late.len() > LATE_MAX {
        return late_merged(store, cohort, version, seed).map(Some);
    }
    // A merged part does not say what was asked for its rows in doubt.
    if !version.knows_its_doubt() {
        return Ok(None);
    }
    let largest = version.parts.iter().map(|part| part.rows).max().unwrap_or(0);
    let all: u64 = version.parts.iter().map(|part| part.rows).sum();
    if all - largest > (largest / SHARE).max(ROWS_MIN) {
        return merged(store, cohort, version, seed).map(Some);
    }
    if version.parts.len() <= PARTS_MAX {
        return Ok(None);
    }
    let fewer = small_merged(store, cohort, version, seed)?;
    if fewer.parts.len() <= PARTS_MAX / 2 {
        Ok(Some(fewer))
    } else {
        merged(store, cohort, version, seed).map(Some)
    }
}

/// Writes the members of late requests into one part for each side: those alone, so that the parts that they were part of
/// can go.
fn late_merged(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Membership, StateError> {
    let mut merged = Membership { number: version.number + 1, late: Vec::new(), ..version.clone() };
    for op in [ChangeOp::Remove, ChangeOp::Add] {
        let side: Vec<&Late> = version.late.iter().filter(|late| late.part.op == op).collect();
        let Some(until) = side.iter().map(|late| late.until).max() else { continue };
        let parts: Vec<PartRef> = side.iter().map(|late| late.in_doubt()).collect();
        let mut members = MembershipCursor::of_parts(store, cohort, &parts, seed)?;
        let mut writer = PartWriter::create(store, cohort, op, seed)?;
        while members.advance()?.is_some() {
            writer.push(members.packed()?)?;
        }
        let part = writer.finish()?;
        let rows = RowSet::all(part.rows);
        merged.late.push(Late { part, rows, until });
    }
    Ok(merged)
}

/// Merges the parts after the largest among themselves: those that are wholly acknowledged, so that the last
/// word on each of their members is either in or out.
fn small_merged(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Membership, StateError> {
    let largest = (0..version.parts.len()).max_by_key(|at| version.parts[*at].rows).unwrap_or(0);
    let is_settled = |part: &PartRef| part.acknowledged.len() == part.rows;
    let mut parts: Vec<PartRef> = version.parts[..=largest].to_vec();
    for group in version.parts[largest + 1..].chunk_by(|a, b| is_settled(a) && is_settled(b)) {
        match group {
            [_, _, _, ..] => parts.extend(last_words(store, cohort, version, group, seed)?),
            few => parts.extend_from_slice(few),
        }
    }
    Ok(Membership { number: version.number + 1, parts, ..version.clone() })
}

/// Writes a part of those whom the group leaves out and one of those whom it leaves in.
fn last_words(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    group: &[PartRef],
    seed: KeySeed,
) -> Result<Vec<PartRef>, StateError> {
    let group = Membership { parts: group.to_vec(), ..version.clone() };
    let mut record = MembershipCursor::open(store, cohort, Some(&group), seed)?;
    let mut out = PartWriter::create(store, cohort, ChangeOp::Remove, seed)?;
    let mut into = PartWriter::create(store, cohort, ChangeOp::Add, seed)?;
    while let Some((_, standing)) = record.advance_any()? {
        let side = if standing.is_some() { &mut into } else { &mut out };
        side.push(record.packed()?)?;
    }
    let mut parts = Vec::new();
    for side in [out, into] {
        let part = side.finish()?;
        if part.rows > 0 {
            parts.push(PartRef { acknowledged: RowSet::all(part.rows), ..part });
        }
    }
    Ok(parts)
}

/// Writes one part that says what all parts of the version say. Those whom Braze has let go are in it no more.
pub(super) fn merged(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Membership, StateError> {
    let mut record = MembershipCursor::open(store, cohort, Some(version), seed)?;
    let mut writer = PartWriter::create(store, cohort, ChangeOp::Add, seed)?;
    let (mut rows, mut acknowledged, mut refused) = (0, RowSet::default(), RowSet::default());
    while let Some((_, standing)) = record.advance()? {
        writer.push(record.packed()?)?;
        match standing {
            Standing::Member => acknowledged.insert(rows..rows + 1),
            Standing::Refused => refused.insert(rows..rows + 1),
            // Disputed members are asked for once more: one part cannot say both.
            Standing::InDoubt | Standing::Disputed => {}
        }
        rows += 1;
    }
    let mut part = writer.finish()?;
    (part.acknowledged, part.refused, part.noted) = (acknowledged, refused, true);
    let (members, in_doubt) = (Some(part.acknowledged.len()), part.in_doubt());
    let parts = if rows == 0 { Vec::new() } else { vec![part] };
    Ok(Membership { number: version.number + 1, members, in_doubt, parts, ..version.clone() })
}
