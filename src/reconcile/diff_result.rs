//! The result of a diff: the changes of a cohort, counted, digested, and kept on disk.

use super::plan_error::PlanError;
use super::rekey::{RekeyFollowups, RekeyedMembers, SpoolCursor};
use super::triggers::Transitions;
use crate::config::BrazeConfig;
use crate::connector::braze::RequestLimits;
use crate::model::{ChangeOp, CohortId, DeliveryMethod, IdentifierKind, KeySeed, Timestamp};
use crate::plan::{ChangeSink, CohortNaming, DiffTally, MembershipPlan, PlanDraft, Sides, SourceTally};
use crate::state::{Membership, Spool, StateError};

/// The result of a diff.
pub(super) struct DiffResult {
    pub(super) tally: DiffTally,
    pub(super) changes: ChangeSpools,
    /// The members that late requests up to this time may have changed are among the changes.
    pub(super) settles: Option<Timestamp>,
}

impl DiffResult {
    /// The result of a diff without changes.
    pub(super) fn unchanged(previous: Option<&Membership>, rejected: u64) -> Self {
        let members = previous.and_then(|membership| membership.members).unwrap_or(0);
        let tally = DiffTally { members, unchanged: members, rejected, ..DiffTally::default() };
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
            base: previous.map_or(0, |membership| membership.number),
            naming,
            tally: self.tally,
            source,
            sums: draft.sums,
            samples: draft.into_samples(),
            changes: spools,
            settles: self.settles,
            mixed: false,
            target: String::new(),
            batch_len_max: limits.batch_len_max as u64,
            requests_per_hour: limits.requests_per_hour,
            delivery: delivery.clone(),
            next_delivery: None,
        }
    }

    /// Adds the changes that follow from re-keys.
    pub(super) fn add_followups(
        &mut self,
        followups: RekeyFollowups,
        seed: KeySeed,
    ) -> Result<(), PlanError> {
        let RekeyFollowups { mut staying, owners_to_add, owners_to_remove } = followups;
        self.changes.note_staying(&mut staying)?;
        self.tally.added_again += owners_to_add.len();
        self.tally.unchanged -= owners_to_add.len();
        self.tally.removed_again += owners_to_remove.len();
        self.changes.merge(ChangeOp::Add, owners_to_add, seed)?;
        self.changes.merge(ChangeOp::Remove, owners_to_remove, seed)
    }
}

/// The changes of a cohort, spooled to disk and counted as they stream by.
#[derive(Default)]
pub(super) struct ChangeSpools {
    draft: PlanDraft,
    pub(super) spools: Sides<Spool>,
    /// The users who enter or leave, if the cohort has triggers.
    pub(super) transitions: Option<Transitions>,
    rekeyed: Option<RekeyedMembers>,
    /// Removals that only re-key a member.
    pub(super) rekeyed_count: u64,
    /// Removals of devices and aliases.
    pub(super) names_removed: u64,
}

impl ChangeSpools {
    pub(super) fn new(transitions: Option<Transitions>, rekeyed: Option<RekeyedMembers>) -> Self {
        Self { transitions, rekeyed, ..Self::default() }
    }

    /// These members stay, although a device or an alias of theirs leaves.
    fn note_staying(&mut self, members: &mut Spool) -> Result<(), StateError> {
        let Some(transitions) = &mut self.transitions else { return Ok(()) };
        members.for_each(|packed| {
            transitions.note_staying(packed);
            Ok(())
        })
    }

    /// Merges more changes into one side, in the order of the keys.
    fn merge(&mut self, op: ChangeOp, mut more: Spool, seed: KeySeed) -> Result<(), PlanError> {
        if more.is_empty() {
            return Ok(());
        }
        let mut before = std::mem::take(self.spools.of_mut(op));
        let (mut old, mut new) = (SpoolCursor::new(&mut before, seed)?, SpoolCursor::new(&mut more, seed)?);
        loop {
            match (old.key(), new.key()) {
                (None, None) => return Ok(()),
                (Some(key), other) if other.is_none_or(|other| key < other) => {
                    self.spools.of_mut(op).push(old.packed())?;
                    old.advance()?;
                }
                _ => {
                    self.change(op, new.packed())?;
                    new.advance()?;
                }
            }
        }
    }
}

impl ChangeSink for ChangeSpools {
    type Error = PlanError;

    fn change(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), PlanError> {
        if op == ChangeOp::Remove
            && let Some(rekeyed) = &mut self.rekeyed
        {
            self.rekeyed_count += u64::from(rekeyed.contains(packed)?);
        }
        let kind = packed.first().copied().and_then(IdentifierKind::from_byte);
        self.names_removed += u64::from(op == ChangeOp::Remove && kind != Some(IdentifierKind::ExternalId));
        self.draft.note(op, packed);
        if let Some(transitions) = &mut self.transitions {
            transitions.note_change(op, packed);
        }
        Ok(self.spools.of_mut(op).push(packed)?)
    }

    fn transition(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), PlanError> {
        let Some(transitions) = &mut self.transitions else { return Ok(()) };
        let is_rekeyed = match &mut self.rekeyed {
            Some(rekeyed) if op == ChangeOp::Remove => rekeyed.contains(packed)?,
            _ => false,
        };
        if is_rekeyed {
            transitions.note_rekeyed(packed);
        } else {
            transitions.note(op, packed);
        }
        Ok(())
    }
}
