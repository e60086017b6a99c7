//! Compares who should be in a cohort with the record: what would be sent, counted and kept.

use std::collections::BTreeSet;

use super::actions::Crossings;
use super::failed::PlanError;
use super::moved::Moved;
use super::streams::{Known, Late, Wanted};
use super::{Inputs, by_owner, policy};
use crate::config::Braze;
use crate::model::{CohortId, Delivery, Key, Kind, Op, Timestamp};
use crate::plan::{self, DiffError, Draft, Naming, Plan, Sides, Sink, SourceTally, Tally};
use crate::state::{Spool, StateError, Version};

/// What a diff found.
pub(super) struct Diff {
    pub(super) tally: Tally,
    pub(super) changes: Changes,
    /// Late requests up to this time are looked for.
    pub(super) settles: Option<Timestamp>,
}

impl Diff {
    /// What comparing would find if everybody is where they should be.
    pub(super) fn none(record: Option<&Version>, refused: u64) -> Self {
        let members = record.and_then(|record| record.members).unwrap_or(0);
        let tally = Tally { members, unchanged: members, refused, ..Tally::default() };
        Self { tally, changes: Changes::default(), settles: None }
    }

    pub(super) fn into_plan(
        self,
        id: &CohortId,
        previous: Option<&Version>,
        naming: Option<Naming>,
        source: Option<SourceTally>,
        (braze, delivery): (&Braze, &Delivery),
    ) -> Plan<Spool> {
        let Changes { draft, spools, .. } = self.changes;
        Plan {
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
            batch_len_max: policy::batch_len_max(braze, delivery) as u64,
            requests_per_hour: policy::requests_per_hour(braze, delivery),
            delivery: delivery.clone(),
            moves_to: None,
        }
    }
}

/// What a comparison is told besides the members and the record.
#[derive(Default)]
pub(super) struct Beside {
    /// Devices and aliases whose owners are the members now.
    pub(super) moved: Option<Moved>,
    /// Who is watched entering and leaving.
    pub(super) crossings: Option<Crossings>,
    /// Members who are to be sent again.
    pub(super) again: BTreeSet<Key>,
}

/// Walks those who should be there and the record in step.
pub(super) fn compare(
    id: &CohortId,
    wanted: &mut Wanted,
    previous: Option<&Version>,
    beside: Beside,
    inputs: Inputs<'_>,
) -> Result<Diff, PlanError> {
    let Beside { moved, crossings, again } = beside;
    let cursor = inputs.state.members(id, previous)?;
    let let_go = moved.as_ref().map(|_| Spool::default());
    let now = inputs.clock.now();
    let late = |op| previous.map_or(Ok(None), |version| inputs.state.late(id, version, op, now));
    let late = Late::new(late(Op::Add)?, late(Op::Remove)?)?;
    let mut record = Known { cursor, forget_refused: inputs.retry_refused, again, let_go, late };
    let mut changes = Changes { crossings, moved, ..Changes::default() };
    let tally = plan::diff(wanted, &mut record, &mut changes).map_err(|error| match error {
        DiffError::Stream(error) => error,
        DiffError::OutOfOrder(what) => PlanError::Order(what),
    })?;
    let tally = Tally { rekeyed: changes.rekeyed, ..tally };
    let members = || inputs.state.members(id, previous);
    let diff = Diff { tally, changes, settles: Some(now) };
    by_owner::complete(diff, record.let_go.unwrap_or_default(), members, inputs.state)
}

/// Changes, noted and kept.
#[derive(Default)]
pub(super) struct Changes {
    draft: Draft,
    spools: Sides<Spool>,
    /// Who crosses, where something is triggered for them.
    pub(super) crossings: Option<Crossings>,
    moved: Option<Moved>,
    /// Removals that only make room for another name.
    rekeyed: u64,
    names_removed: u64,
}

impl Changes {
    pub(super) fn spool_mut(&mut self, op: Op) -> &mut Spool {
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

impl Sink for Changes {
    type Error = PlanError;

    fn change(&mut self, op: Op, packed: &[u8]) -> Result<(), PlanError> {
        if op == Op::Remove
            && let Some(moved) = &mut self.moved
        {
            self.rekeyed += u64::from(moved.has(packed)?);
        }
        let kind = packed.first().copied().and_then(Kind::from_byte);
        self.names_removed += u64::from(op == Op::Remove && kind != Some(Kind::ExternalId));
        self.draft.note(op, packed);
        if let Some(crossings) = &mut self.crossings {
            crossings.changed(op, packed);
        }
        Ok(self.spools.of_mut(op).push(packed)?)
    }

    fn crossing(&mut self, op: Op, packed: &[u8]) -> Result<(), PlanError> {
        let Some(crossings) = &mut self.crossings else { return Ok(()) };
        let is_renamed = match &mut self.moved {
            Some(moved) if op == Op::Remove => moved.has(packed)?,
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
