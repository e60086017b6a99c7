//! Transitions: the users who enter or leave a cohort, collected while the diff streams by.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::config::CohortConfig;
use crate::model::{ChangeOp, Identifier, IdentifierKind};
use crate::plan::ApprovedPlan;
use crate::reconcile::context::PlanInputs;
use crate::state::{DueTrigger, OutboxUser, Spool, StateError, Transition};

/// More transitions at once are a bulk change, for which nothing fires.
pub(super) const TRANSITIONS_MAX: usize = 10_000;
/// Further transitions that are kept, because some of them may turn out to be re-keys.
const REKEYED_MAX: usize = 20 * TRANSITIONS_MAX;

/// The transitions of a plan.
#[derive(Clone, Debug, Default)]
pub(in crate::reconcile) struct Transitions {
    pub(super) sides: BTreeMap<Transition, Vec<OutboxUser>>,
    /// Sides with too many transitions.
    pub(super) too_many: BTreeSet<Transition>,
    /// Users with a due trigger that this plan sends the other way.
    pub(super) reversed: BTreeSet<(Transition, OutboxUser)>,
    /// Removed devices and aliases that their owners replace.
    pub(super) rekeyed: Vec<OutboxUser>,
    /// Members who stay by their own ids, while other identifiers of theirs leave.
    pub(super) staying: Vec<OutboxUser>,
    /// Added users, collected while triggers are due for devices or aliases.
    pub(super) added: Vec<OutboxUser>,
    /// Packed identifiers with a due trigger.
    pub(super) due: HashSet<Box<[u8]>>,
    /// Whether a trigger is due for a device or an alias, which may be re-keyed.
    pub(super) may_be_rekeyed: bool,
    /// The new triggers of a saved plan.
    pub(super) saved: Vec<DueTrigger>,
}

impl Transitions {
    /// Watches the transitions of a cohort. `None` if it has no triggers.
    pub(in crate::reconcile) fn watched(
        cohort: &CohortConfig,
        inputs: PlanInputs<'_>,
    ) -> Result<Option<Self>, StateError> {
        if cohort.on_enter.is_none() && cohort.on_exit.is_none() {
            return Ok(None);
        }
        let outbox = inputs.state.outbox(&cohort.id)?;
        let packed = |due: &DueTrigger| {
            let mut bytes = Vec::new();
            due.user.identifier().pack_into(&mut bytes);
            bytes.into_boxed_slice()
        };
        let may_be_rekeyed =
            outbox.due.iter().any(|due| due.user.identifier().kind != IdentifierKind::ExternalId);
        let due = outbox.due.iter().map(packed).collect();
        Ok(Some(Self { due, may_be_rekeyed, ..Self::default() }))
    }

    /// The transitions of a saved plan. Its file names the new triggers.
    pub(in crate::reconcile) fn saved(
        cohort: &CohortConfig,
        saved: Vec<DueTrigger>,
        approved: &mut ApprovedPlan<Spool>,
        inputs: PlanInputs<'_>,
    ) -> Result<Option<Self>, StateError> {
        let Some(watched) = Self::watched(cohort, inputs)? else { return Ok(None) };
        let mut transitions = Self { saved, ..watched };
        for op in [ChangeOp::Remove, ChangeOp::Add] {
            approved.list_mut(op).for_each(|packed| {
                transitions.note_change(op, packed);
                Ok(())
            })?;
        }
        Ok(Some(transitions))
    }

    /// A user enters who was not a member, or a member leaves.
    pub(in crate::reconcile) fn note(&mut self, op: ChangeOp, packed: &[u8]) {
        let Ok((user, _)) = Identifier::unpack(packed) else { return };
        let transition = match op {
            ChangeOp::Add => Transition::Enter,
            ChangeOp::Remove => Transition::Exit,
        };
        let side = self.sides.entry(transition).or_default();
        if side.len() < TRANSITIONS_MAX + REKEYED_MAX {
            side.push(user.into());
        } else {
            self.too_many.insert(transition);
        }
    }

    /// A device or an alias leaves because its owner is the member now.
    pub(in crate::reconcile) fn note_rekeyed(&mut self, packed: &[u8]) {
        let Ok((user, _)) = Identifier::unpack(packed) else { return };
        if self.rekeyed.len() < REKEYED_MAX {
            self.rekeyed.push(user.into());
        } else {
            // An entry can no longer be distinguished from a re-key.
            self.too_many.insert(Transition::Enter);
        }
    }

    /// A member stays, while a device or an alias of the same user leaves.
    pub(in crate::reconcile) fn note_staying(&mut self, packed: &[u8]) {
        let Ok((user, _)) = Identifier::unpack(packed) else { return };
        if self.staying.len() < REKEYED_MAX {
            self.staying.push(user.into());
        } else {
            // An exit can no longer be distinguished from a re-key.
            self.too_many.insert(Transition::Exit);
        }
    }

    /// A user is sent, with or without a transition.
    pub(in crate::reconcile) fn note_change(&mut self, op: ChangeOp, packed: &[u8]) {
        let is_due = self.due.contains(packed);
        let may_rekey = op == ChangeOp::Add && self.may_be_rekeyed && self.added.len() < REKEYED_MAX;
        if !is_due && !may_rekey {
            return;
        }
        let Ok((user, _)) = Identifier::unpack(packed) else { return };
        if may_rekey {
            self.added.push(user.into());
        }
        if is_due {
            let reversed = match op {
                ChangeOp::Add => Transition::Exit,
                ChangeOp::Remove => Transition::Enter,
            };
            self.reversed.insert((reversed, user.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(kind: IdentifierKind, value: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier { kind, label: "", value }.pack_into(&mut packed);
        packed
    }

    #[test]
    fn a_due_user_who_is_sent_the_other_way_is_noted() {
        let ada = packed(IdentifierKind::ExternalId, "ada");
        let due = HashSet::from([ada.clone().into_boxed_slice()]);
        let mut transitions = Transitions { due, ..Transitions::default() };
        transitions.note_change(ChangeOp::Remove, &ada);
        transitions.note_change(ChangeOp::Remove, &packed(IdentifierKind::ExternalId, "bob"));
        let user = OutboxUser::from(Identifier { kind: IdentifierKind::ExternalId, label: "", value: "ada" });
        assert_eq!(transitions.reversed, BTreeSet::from([(Transition::Enter, user)]));
        assert_eq!(transitions.added, []);
    }

    #[test]
    fn added_users_are_kept_only_while_a_due_user_may_be_rekeyed() {
        let ada = packed(IdentifierKind::ExternalId, "ada");
        for may_be_rekeyed in [false, true] {
            let mut transitions = Transitions { may_be_rekeyed, ..Transitions::default() };
            transitions.note_change(ChangeOp::Add, &ada);
            assert_eq!(transitions.added.len(), usize::from(may_be_rekeyed));
        }
    }
}
