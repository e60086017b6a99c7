//! Compares the desired members of a cohort with the recorded membership.

use std::collections::BTreeSet;

use super::context::PlanInputs;
use super::cursors::{LateMembers, RecordedMembers, WantedMembers};
use super::diff_result::{ChangeSpools, DiffResult};
use super::plan_error::PlanError;
use super::rekey::{self, RekeyedMembers};
use super::triggers::Transitions;
use crate::model::{ChangeOp, CohortId, MemberKey};
use crate::plan::{self, DiffError, DiffTally};
use crate::state::{Membership, Spool};

/// Optional inputs of a comparison.
#[derive(Default)]
pub(super) struct DiffExtras {
    /// Devices and aliases that the source lists by the ids of their owners.
    pub(super) rekeyed: Option<RekeyedMembers>,
    /// Collects the users who enter or leave.
    pub(super) transitions: Option<Transitions>,
    /// Recorded members that must be added again.
    pub(super) add_again: BTreeSet<MemberKey>,
}

/// Compares the desired members with the recorded membership. Both are read once, in the order of their keys.
pub(super) fn compare(
    id: &CohortId,
    wanted: &mut WantedMembers,
    previous: Option<&Membership>,
    extras: DiffExtras,
    inputs: PlanInputs<'_>,
) -> Result<DiffResult, PlanError> {
    let DiffExtras { rekeyed, transitions, add_again } = extras;
    let now = inputs.clock.now();
    let late = |op| previous.map_or(Ok(None), |version| inputs.state.late(id, version, op, now));
    let mut recorded = RecordedMembers {
        cursor: inputs.state.members(id, previous)?,
        forget_rejected: inputs.retry_rejected,
        add_again,
        released_devices: rekeyed.as_ref().map(|_| Spool::default()),
        late: LateMembers::new(late(ChangeOp::Add)?, late(ChangeOp::Remove)?)?,
    };
    let mut changes = ChangeSpools::new(transitions, rekeyed);
    let tally = plan::diff(wanted, &mut recorded, &mut changes).map_err(|error| match error {
        DiffError::Stream(error) => error,
        DiffError::OutOfOrder(stream) => PlanError::Order(stream),
    })?;
    let tally = DiffTally { rekeyed: changes.rekeyed_count, ..tally };
    let mut diff = DiffResult { tally, changes, settles: Some(now) };
    let released = recorded.released_devices.unwrap_or_default();
    if diff.changes.names_removed > 0 || !released.is_empty() {
        let members = || inputs.state.members(id, previous);
        let is_watched = diff.changes.transitions.is_some();
        let followups =
            rekey::plan_followups(&mut diff.changes.spools, released, is_watched, members, inputs.state)?;
        if let Some(followups) = followups {
            diff.add_followups(followups, inputs.state.seed())?;
        }
    }
    Ok(diff)
}
