//! Compaction: merges the parts of a recorded membership.
//!
//! A run writes only parts with its changes, and a plan reads all parts, so occasional merges keep both cheap. All
//! parts are merged once the small ones have grown to a share of the largest. Many small parts are merged with each
//! other. A merge does not change the status of any member.

use super::StateError;
use super::membership::{LateRequest, Membership};
use super::membership_cursor::MembershipCursor;
use super::part::{PartRef, PartWriter};
use super::store::Store;
use crate::model::{ChangeOp, CohortId, KeySeed, MemberStanding, RowSet};

/// All parts are merged once the small ones hold more than 1/SHARE of the rows of the largest.
const SHARE: u64 = 4;
/// The minimum of rows in small parts that is worth a merge.
const ROWS_MIN: u64 = 4096;
/// How many parts of late requests are kept before they are merged.
const LATE_MAX: usize = 6;
/// How many parts are kept: each is an open file while the membership is read.
const PARTS_MAX: usize = 24;

/// Returns an uncommitted version with fewer parts, if a merge is due.
pub(super) fn compacted(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Option<Membership>, StateError> {
    if version.late.len() > LATE_MAX {
        return merge_late(store, cohort, version, seed).map(Some);
    }
    // A merged part does not record the operation that its rows in doubt were sent with.
    if !version.has_noted_doubt() {
        return Ok(None);
    }
    let largest = version.parts.iter().map(|part| part.rows).max().unwrap_or(0);
    let all: u64 = version.parts.iter().map(|part| part.rows).sum();
    if all - largest > (largest / SHARE).max(ROWS_MIN) {
        return merge_all(store, cohort, version, seed).map(Some);
    }
    if version.parts.len() <= PARTS_MAX {
        return Ok(None);
    }
    let fewer = merge_small(store, cohort, version, seed)?;
    if fewer.parts.len() <= PARTS_MAX / 2 {
        Ok(Some(fewer))
    } else {
        merge_all(store, cohort, version, seed).map(Some)
    }
}

/// Merges the members of late requests into one part per operation, so that the original parts can be removed.
fn merge_late(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Membership, StateError> {
    let mut merged = Membership { number: version.number + 1, late: Vec::new(), ..version.clone() };
    for op in [ChangeOp::Remove, ChangeOp::Add] {
        let side: Vec<&LateRequest> = version.late.iter().filter(|late| late.part.op == op).collect();
        let Some(until) = side.iter().map(|late| late.until).max() else { continue };
        let parts: Vec<PartRef> = side.iter().map(|late| late.in_doubt()).collect();
        let mut members = MembershipCursor::of_parts(store, cohort, &parts, seed)?;
        let mut writer = PartWriter::create(store, cohort, op, seed)?;
        while members.advance()?.is_some() {
            writer.set_run(members.run()?);
            writer.push(members.packed()?)?;
        }
        let part = writer.finish()?;
        let rows = RowSet::all(part.rows);
        merged.late.push(LateRequest { part, rows, until });
    }
    Ok(merged)
}

/// Merges consecutive small parts that are fully acknowledged: each of their members is either in or out.
fn merge_small(
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
            [_, _, _, ..] => parts.extend(merge_settled(store, cohort, version, group, seed)?),
            few => parts.extend_from_slice(few),
        }
    }
    Ok(Membership { number: version.number + 1, parts, ..version.clone() })
}

/// Writes one part with the members that the group removes, and one with those that it adds.
fn merge_settled(
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
        side.set_run(record.run()?);
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

/// Merges all parts of the version into one. Removed members are dropped.
pub(super) fn merge_all(
    store: &Store,
    cohort: &CohortId,
    version: &Membership,
    seed: KeySeed,
) -> Result<Membership, StateError> {
    let mut record = MembershipCursor::open(store, cohort, Some(version), seed)?;
    let mut writer = PartWriter::create(store, cohort, ChangeOp::Add, seed)?;
    let (mut rows, mut acknowledged, mut rejected) = (0, RowSet::default(), RowSet::default());
    while let Some((_, standing)) = record.advance()? {
        writer.set_run(record.run()?);
        writer.push(record.packed()?)?;
        match standing {
            MemberStanding::Member => acknowledged.insert(rows..rows + 1),
            MemberStanding::Rejected => rejected.insert(rows..rows + 1),
            // One part cannot record both states of a disputed member, so it is sent again.
            MemberStanding::InDoubt | MemberStanding::Disputed => {}
        }
        rows += 1;
    }
    let mut part = writer.finish()?;
    (part.acknowledged, part.rejected, part.noted) = (acknowledged, rejected, true);
    let (members, in_doubt) = (Some(part.acknowledged.len()), part.in_doubt());
    let parts = if rows == 0 { Vec::new() } else { vec![part] };
    Ok(Membership { number: version.number + 1, members, in_doubt, parts, ..version.clone() })
}
