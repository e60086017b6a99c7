//! Compares who should be in a cohort with the record: what would be sent, counted and kept.

use std::collections::BTreeSet;

use super::choose_triggers::Transitions;
use super::cursors::{Late, RecordedMembers, WantedMembers};
use super::plan_error::PlanError;
use super::rekeyed::RekeyedMembers;
use super::{PlanInputs, rekey_followups};
use crate::config::BrazeConfig;
use crate::connector::braze::RequestLimits;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, IdentifierKind, MemberKey, Timestamp};
use crate::plan::{
    self, ChangeSink, CohortNaming, DiffError, DiffTally, Draft, MembershipPlan, Sides, SourceTally,
};
use crate::state::{Membership, Spool, StateError};

/// What a diff found.
pub(super) struct DiffResult {
    pub(super) tally: DiffTally,
    pub(super) changes: ChangeSpools,
    /// Late requests up to this time are looked for.
    pub(super) settles: Option<Timestamp>,
}

impl DiffResult {
    /// What comparing would find if everybody is where they should be.
    pub(super) fn none(record: Option<&Membership>, refused: u64) -> Self {
        let members = record.and_then(|record| record.members).unwrap_or(0);
        let tally = DiffTally { members, unchanged: members, refused, ..DiffTally::default() };
        Self { tally, changes: ChangeSpools::default(), settles: None }
    }

    pub(super) fn into_plan(
        self,
        id: &CohortId,
        previous: Option<&Membership>,
        naming: Option<CohortNaming>,
        source: Option<SourceTally>,
        (braze, delivery): (&BrazeConfig, &DeliveryMethod),
    ) -> MembershipPlan<Spool> {
        let ChangeSpools { draft, spools, .. } = self.changes;
        let limits = RequestLimits::of(braze, delivery);
        MembershipPlan {
            cohort: id.clone(),
            base: previous.map_or(0, |record| record.number),
            naming,
            tally: self.tally,
            source,
            samples: draft.samples,
            sums: draft.sums,
            changes: spools,
            settles: self.settles,
            mixed: false,
            target: String::new(),
            batch_len_max: limits.batch_len_max as u64,
            requests_per_hour: limits.requests_per_hour,
            delivery: delivery.clone(),
            moves_to: None,
        }
    }
}

/// What a comparison is told besides the members and the record.
#[derive(Default)]
pub(super) struct DiffExtras {
    /// Devices and aliases whose owners are the members now.
    pub(super) moved: Option<RekeyedMembers>,
    /// Who is watched entering and leaving.
    pub(super) crossings: Option<Transitions>,
    /// Members who are to be sent again.
    pub(super) again: BTreeSet<MemberKey>,
}

/// Walks those who should be there and the record in sync.
pub(super) fn compare(
    id: &CohortId,
    wanted: &mut WantedMembers,
    previous: Option<&Membership>,
    beside: DiffExtras,
    inputs: PlanInputs<'_>,
) -> Result<DiffResult, PlanError> {
    let DiffExtras { moved, crossings, again } = beside;
    let cursor = inputs.state.members(id, previous)?;
    let let_go = moved.as_ref().map(|_| Spool::default());
    let now = inputs.clock.now();
    let late = |op| previous.map_or(Ok(None), |version| inputs.state.late(id, version, op, now));
    let late = Late::new(late(ChangeOp::Add)?, late(ChangeOp::Remove)?)?;
    let mut record = RecordedMembers { cursor, forget_refused: inputs.retry_rejected, again, let_go, late };
    let mut changes = ChangeSpools { crossings, moved, ..ChangeSpools::default() };
    let tally = plan::diff(wanted, &mut record, &mut changes).map_err(|error| match error {
        DiffError::Stream(error) => error,
        DiffError::OutOfOrder(what) => PlanError::Order(what),
    })?;
    let tally = DiffTally { rekeyed: changes.rekeyed, ..tally };
    let members = || inputs.state.members(id, previous);
    let diff = DiffResult { tally, changes, settles: Some(now) };
    rekey_followups::complete(diff, record.let_go.unwrap_or_default(), members, inputs.state)
}

/// Changes, noted and kept.
#[derive(Default)]
pub(super) struct ChangeSpools {
    draft: Draft,
    spools: Sides<Spool>,
    /// Who crosses, where something is triggered for them.
    pub(super) crossings: Option<Transitions>,
    moved: Option<RekeyedMembers>,
    /// Removals that only make room for another name.
    rekeyed: u64,
    names_removed: u64,
}

impl ChangeSpools {
    pub(super) fn spool_mut(&mut self, op: ChangeOp) -> &mut Spool {
        self.spools.of_mut(op)
    }

    /// How many of those who leave are known by an alias or a device.
    pub(super) fn names_removed(&self) -> u64 {
        self.names_removed
    }

    /// Whether something is triggered for those who cross.
    pub(super) fn is_watched(&self) -> bool {
        self.crossings.is_some()
    }

    /// These stay, though other names of theirs leave.
    pub(super) fn stay(&mut self, people: &mut Spool) -> Result<(), StateError> {
        let Some(crossings) = &mut self.crossings else { return Ok(()) };
        people.for_each(|packed| {
            crossings.stays(packed);
            Ok(())
        })
    }

    /// Those who leave, and those who enter.
    pub(super) fn spools_mut(&mut self) -> (&mut Spool, &mut Spool) {
        (&mut self.spools.removes, &mut self.spools.adds)
    }
}

impl ChangeSink for ChangeSpools {
    type Error = PlanError;

    fn change(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), PlanError> {
        if op == ChangeOp::Remove
            && let Some(moved) = &mut self.moved
        {
            self.rekeyed += u64::from(moved.has(packed)?);
        }
        let kind = packed.first().copied().and_then(IdentifierKind::from_byte);
        self.names_removed += u64::from(op == ChangeOp::Remove && kind != Some(IdentifierKind::ExternalId));
        self.draft.note(op, packed);
        if let Some(crossings) = &mut self.crossings {
            crossings.changed(op, packed);
        }
        Ok(self.spools.of_mut(op).push(packed)?)
    }

    fn crossing(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), PlanError> {
        let Some(crossings) = &mut self.crossings else { return Ok(()) };
        let is_renamed = match &mut self.moved {
            Some(moved) if op == ChangeOp::Remove => moved.has(packed)?,
            _ => false,
        };
        if is_renamed {
            crossings.renames(packed);
        } else {
            crossings.crossed(op, packed);
        }
        Ok(())
    }
}
