//! Compares the changes of a plan file with the recorded membership, so that the guard sees the numbers of the state.

use super::file::PlanFileCohort;
use crate::model::{ChangeOp, CohortId, MemberKey, MemberStanding};
use crate::plan::{ChangeSink as _, DiffTally, Sides};
use crate::reconcile::context::PlanInputs;
use crate::reconcile::diff_result::{ChangeSpools, DiffResult};
use crate::reconcile::plan_error::PlanError;
use crate::source::{DesiredError, SortedMembers, SortedSet};
use crate::state::{Membership, MembershipCursor};

/// Compares the saved changes with the recorded membership, and counts them like a diff.
pub(in crate::reconcile) fn recount(
    id: &CohortId,
    head: &PlanFileCohort,
    sides: Sides<SortedSet>,
    previous: Option<&Membership>,
    inputs: PlanInputs<'_>,
) -> Result<DiffResult, PlanError> {
    let (mut changes, mut tally) = (ChangeSpools::default(), DiffTally::default());
    let cursor = inputs.state.members(id, previous)?;
    let mut recorded = RecordedBeside { cursor, at: None, is_changed: false };
    recorded.advance(&mut tally)?;
    let mut removes = sides.removes.into_members();
    let mut adds = sides.adds.into_members();
    let (mut remove, mut add) = (next(&mut removes)?, next(&mut adds)?);
    loop {
        let (op, key) = match (remove, add) {
            (None, None) => break,
            (Some(key), other) if other.is_none_or(|other| key <= other) => (ChangeOp::Remove, key),
            (_, Some(key)) => (ChangeOp::Add, key),
            (Some(key), None) => (ChangeOp::Remove, key),
        };
        let standing = recorded.standing_of(key, &mut tally)?;
        count(op, standing, &mut tally);
        match op {
            ChangeOp::Remove => {
                changes.change(op, removes.packed())?;
                remove = next(&mut removes)?;
            }
            ChangeOp::Add => {
                changes.change(op, adds.packed())?;
                add = next(&mut adds)?;
            }
        }
    }
    while recorded.at.is_some() {
        recorded.advance(&mut tally)?;
    }
    tally.unchanged = tally.members.saturating_sub(tally.removed + tally.added_again);
    (tally.rejected, tally.rekeyed) = (head.rejected, head.rekeyed.min(tally.removed));
    Ok(DiffResult { tally, changes, settles: None })
}

fn next(members: &mut SortedMembers) -> Result<Option<MemberKey>, PlanError> {
    Ok(members.advance().map_err(DesiredError::Scratch)?)
}

fn count(op: ChangeOp, standing: Option<MemberStanding>, tally: &mut DiffTally) {
    let counted = match (op, standing) {
        (ChangeOp::Remove, Some(MemberStanding::Member)) => &mut tally.removed,
        (ChangeOp::Remove, Some(MemberStanding::InDoubt | MemberStanding::Disputed)) => {
            &mut tally.doubt_removed
        }
        (ChangeOp::Remove, Some(MemberStanding::Rejected) | None) => &mut tally.removed_again,
        (ChangeOp::Add, Some(MemberStanding::Member)) => &mut tally.added_again,
        (ChangeOp::Add, Some(MemberStanding::InDoubt | MemberStanding::Disputed)) => &mut tally.doubt_added,
        (ChangeOp::Add, Some(MemberStanding::Rejected) | None) => &mut tally.added,
    };
    *counted += 1;
}

/// Cursor over the recorded members beside the saved changes.
struct RecordedBeside {
    cursor: MembershipCursor,
    at: Option<(MemberKey, Option<MemberStanding>)>,
    /// Whether the plan changes the current member.
    is_changed: bool,
}

impl RecordedBeside {
    fn advance(&mut self, tally: &mut DiffTally) -> Result<(), PlanError> {
        let is_left = matches!(self.at, Some((_, Some(MemberStanding::InDoubt)))) && !self.is_changed;
        tally.left_in_doubt += u64::from(is_left);
        (self.at, self.is_changed) = (self.cursor.advance_any()?, false);
        tally.members += u64::from(matches!(self.at, Some((_, Some(MemberStanding::Member)))));
        Ok(())
    }

    /// The recorded standing of this key. Calls must come in ascending order of the keys.
    fn standing_of(
        &mut self,
        key: MemberKey,
        tally: &mut DiffTally,
    ) -> Result<Option<MemberStanding>, PlanError> {
        while self.at.is_some_and(|(at, _)| at < key) {
            self.advance(tally)?;
        }
        let found = self.at.filter(|(at, _)| *at == key);
        self.is_changed |= found.is_some();
        Ok(found.and_then(|(_, standing)| standing))
    }
}
