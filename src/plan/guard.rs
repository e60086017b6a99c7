//! The check before running. Each rule is a small predicate beside its reason; all of them run, and
//! each says which side of the plan it withholds.
//!
//! A refusal is a value with its numbers. `cli` puts it into words and names the way out.

use std::collections::BTreeMap;

use super::digest::PlanDigest;
use super::{CohortNaming, Cost, MembershipPlan, Sides};
use crate::model::{Ceilings, ChangeOp, CohortId, GuardLimits, Percentage};

/// What a plan is held to.
#[derive(Clone, Debug, Default)]
pub struct GuardPolicy {
    /// The config's limits.
    pub limits: GuardLimits,
    /// What a person has allowed for this run.
    pub ceilings: Ceilings,
    /// The cohort must not be emptied.
    pub protected: bool,
    /// How many members there were when removals were first withheld, if they still are.
    pub share_base: Option<u64>,
    /// The array attribute has no room for one more cohort.
    pub array_full: Option<ArrayFull>,
    /// Another cohort in the same Braze that has the name already.
    pub name_taken_by: Option<CohortId>,
    /// Where the record's members are, and where the config would send: set when they differ.
    pub moved: Option<(String, String)>,
    /// Plans that a person has approved although they are refused, each by all that it would send.
    pub approved: Vec<PlanDigest>,
}

/// An array attribute that would have more elements than Braze keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayFull {
    /// The attribute.
    pub attribute: String,
    /// How many cohorts would be in it.
    pub cohorts: u64,
    /// How many elements it may have.
    pub limit: u64,
}

/// Why a plan, or a part of it, must not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardViolation {
    /// Too large a share of the members would leave or enter.
    Share {
        /// Leave or enter.
        op: ChangeOp,
        /// How many would.
        changes: u64,
        /// How many members there are.
        members: u64,
        /// The limit.
        limit: Percentage,
    },
    /// Too many would leave or enter, by the config's count.
    Count {
        /// Leave or enter.
        op: ChangeOp,
        /// How many would.
        changes: u64,
        /// The limit.
        limit: u64,
    },
    /// More would leave or enter than was allowed for this run.
    Ceiling {
        /// Leave or enter.
        op: ChangeOp,
        /// How many would.
        changes: u64,
        /// The ceiling.
        limit: u64,
    },
    /// The source names nobody.
    Emptied {
        /// Members that would leave.
        members: u64,
    },
    /// The source is empty, and the cohort was never filled.
    EmptyAtFirst,
    /// The source has rows and every one of them is rejected, and the cohort has no members.
    NoneUsable {
        /// How many rows there are.
        rows: u64,
        /// Why they are rejected.
        rejects: BTreeMap<String, u64>,
    },
    /// A file of the source has not even a header row.
    Hollow {
        /// The file.
        file: String,
    },
    /// Rows could not be read, and the people in them may be members.
    Unreadable {
        /// How many.
        rows: u64,
        /// How many may be.
        limit: u64,
    },
    /// The identifiers look as if a spreadsheet or a data frame had changed them.
    Damaged {
        /// How they look.
        damage: Damage,
        /// How many rows look so.
        rows: u64,
        /// How many rows name a user.
        of: u64,
    },
    /// The cohort is protected and would be emptied.
    Protected {
        /// Members that would leave.
        members: u64,
    },
    /// Braze would cut off elements of the array attribute, and with them people out of cohorts.
    ArrayFull(ArrayFull),
    /// Another cohort in the same Braze has the name.
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        by: CohortId,
    },
    /// The record is of another workspace than the config's.
    Moved {
        /// Where the record's members are.
        from: String,
        /// Where the config would send.
        to: String,
    },
}

/// A sign that identifiers were changed on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They end in `.0`.
    DecimalIds,
    /// They are numbers in exponent notation.
    ExponentIds,
    /// Nearly all rows repeat an identifier.
    Duplicates,
}

/// What a refusal withholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeSide {
    /// The removals.
    Removes,
    /// The additions.
    Adds,
    /// The new name.
    Naming,
    /// Everything.
    All,
}

impl GuardViolation {
    /// What it withholds by itself.
    #[must_use]
    pub fn side(&self) -> ChangeSide {
        match self {
            Self::Share { op, .. } | Self::Count { op, .. } | Self::Ceiling { op, .. } => match op {
                ChangeOp::Remove => ChangeSide::Removes,
                ChangeOp::Add => ChangeSide::Adds,
            },
            Self::Emptied { .. } | Self::Hollow { .. } | Self::Unreadable { .. } | Self::Protected { .. } => {
                ChangeSide::Removes
            }
            Self::ArrayFull(_) => ChangeSide::Adds,
            Self::NameTaken { .. } => ChangeSide::Naming,
            Self::EmptyAtFirst | Self::NoneUsable { .. } | Self::Damaged { .. } | Self::Moved { .. } => {
                ChangeSide::All
            }
        }
    }

    /// Whether a person's approval of the plan lifts it: it was a matter of judgement.
    #[must_use]
    pub fn can_be_approved(&self) -> bool {
        match self {
            Self::Share { .. }
            | Self::Count { .. }
            | Self::Emptied { .. }
            | Self::EmptyAtFirst
            | Self::NoneUsable { .. }
            | Self::Hollow { .. }
            | Self::Damaged { .. }
            | Self::Unreadable { .. } => true,
            Self::Ceiling { .. }
            | Self::Protected { .. }
            | Self::ArrayFull(_)
            | Self::NameTaken { .. }
            | Self::Moved { .. } => false,
        }
    }
}

/// A plan that passed the guard, in whole or in part: the only thing that can be applied.
#[derive(Debug)]
pub struct Approved<C> {
    plan: MembershipPlan<C>,
    naming: bool,
    sides: Sides<bool>,
}

impl<C> Approved<C> {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &MembershipPlan<C> {
        &self.plan
    }

    /// The name to send, unless there is none or it is withheld.
    #[must_use]
    pub fn naming(&self) -> Option<&CohortNaming> {
        self.plan.naming.as_ref().filter(|_| self.naming)
    }

    /// Which sides may be sent.
    #[must_use]
    pub fn sides(&self) -> Sides<bool> {
        self.sides
    }

    /// How many members of this side will be sent.
    #[must_use]
    pub fn changes(&self, op: ChangeOp) -> u64 {
        match (op, *self.sides.of(op)) {
            (_, false) => 0,
            (ChangeOp::Remove, true) => self.plan.tally.removes(),
            (ChangeOp::Add, true) => self.plan.tally.adds(),
        }
    }

    /// Whether nothing would be sent.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.naming().is_none() && self.changes(ChangeOp::Remove) == 0 && self.changes(ChangeOp::Add) == 0
    }

    /// What it costs.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.plan.cost(self.naming, self.sides)
    }

    /// The fingerprint of what would be sent.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        let sum = |op| if *self.sides.of(op) { *self.plan.sums.of(op) } else { Default::default() };
        PlanDigest::of(
            &self.plan.target,
            &self.plan.cohort,
            self.naming(),
            Sides { removes: sum(ChangeOp::Remove), adds: sum(ChangeOp::Add) },
        )
    }

    /// The list of one side's changes, to read it: lists on disk move as they are read.
    pub fn list_mut(&mut self, op: ChangeOp) -> &mut C {
        self.plan.changes.of_mut(op)
    }

    /// Takes the changes out, to send them.
    #[must_use]
    pub fn into_plan(self) -> MembershipPlan<C> {
        self.plan
    }
}

/// What the guard decided.
#[derive(Debug)]
pub struct GuardVerdict<C> {
    /// What may run. Its sides are withheld as the refusals demand, perhaps all of them.
    pub approved: Approved<C>,
    /// Why the rest may not.
    pub refusals: Vec<GuardViolation>,
}

/// Holds a plan to the policy.
#[must_use]
pub fn guard<C>(plan: MembershipPlan<C>, policy: &GuardPolicy) -> GuardVerdict<C> {
    let refusals = refusals(&plan, policy);
    let hit = |side| refusals.iter().any(|refusal| refusal.side() == side);
    let both = plan.tally.removes() > 0 && plan.tally.adds() > 0;
    let stop = hit(ChangeSide::All)
        || (policy.limits.atomic && !refusals.is_empty())
        // One person may be in both sides under two identifiers: half of that would lose them.
        || (plan.mixed && both && (hit(ChangeSide::Removes) || hit(ChangeSide::Adds)))
        // A cohort is named before it is filled.
        || (hit(ChangeSide::Naming) && matches!(plan.naming, Some(CohortNaming::Create { .. })));
    let sides = Sides { removes: !stop && !hit(ChangeSide::Removes), adds: !stop && !hit(ChangeSide::Adds) };
    GuardVerdict { approved: Approved { plan, naming: !stop && !hit(ChangeSide::Naming), sides }, refusals }
}

/// Why a plan, or a part of it, must not run, whatever else is approved.
#[must_use]
pub fn refusals<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Vec<GuardViolation> {
    let mut found = Vec::new();
    found.extend(policy.moved.clone().map(|(from, to)| GuardViolation::Moved { from, to }));
    found.extend(name_taken(plan, policy));
    found.extend(array_full(plan, policy));
    found.extend(emptied(plan, policy));
    found.extend(nothing_at_first(plan, policy));
    found.extend(hollow(plan));
    found.extend(unreadable(plan, policy));
    found.extend(damaged(plan, policy));
    found.extend([ChangeOp::Remove, ChangeOp::Add].into_iter().filter_map(|op| too_many(plan, policy, op)));
    if policy.approved.contains(&plan.whole_digest()) {
        found.retain(|refusal| !refusal.can_be_approved());
    }
    found
}

/// Braze's segment filter shows names only: two cohorts with one name cannot be told apart in it.
fn name_taken<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let name = plan.naming.as_ref()?.name().to_owned();
    policy.name_taken_by.clone().map(|by| GuardViolation::NameTaken { name, by })
}

/// Elements beyond the limit are cut off without a word (Braze, "User attributes object").
fn array_full<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    policy.array_full.clone().filter(|_| plan.tally.adds() > 0).map(GuardViolation::ArrayFull)
}

/// An empty source is far more often a broken export than a cohort that nobody is in any more.
fn emptied<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let members = plan.tally.removes() - plan.tally.let_go_again;
    if plan.tally.unchanged + plan.tally.adds() > 0 || members == 0 {
        return None;
    }
    if policy.protected {
        return Some(GuardViolation::Protected { members });
    }
    let names_somebody =
        plan.moves_to.is_some() && plan.source.as_ref().is_some_and(|source| source.rows > 0);
    let asked_for = plan.source.is_none() || policy.limits.allow_empty || names_somebody;
    (!asked_for).then_some(GuardViolation::Emptied { members })
}

/// A cohort without members has nothing that [`emptied`] could compare with, so a broken source must not run for an
/// empty cohort. A row that is rejected may be a user at any time, an empty source only if the cohort was never filled.
fn nothing_at_first<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let source = plan.source.as_ref().filter(|_| !policy.limits.allow_empty)?;
    if plan.tally.members + plan.tally.desired() + plan.tally.removes() > 0 {
        return None;
    }
    let is_new = plan.base == 0 || matches!(plan.naming, Some(CohortNaming::Create { .. }));
    match source.rows {
        0 => is_new.then_some(GuardViolation::EmptyAtFirst),
        rows => Some(GuardViolation::NoneUsable { rows, rejects: source.rejects.clone() }),
    }
}

/// An export that died before its first byte looks like this, also where empty is allowed.
fn hollow<C>(plan: &MembershipPlan<C>) -> Option<GuardViolation> {
    let file = plan.source.as_ref()?.hollow.clone()?;
    (plan.tally.removes() > 0).then_some(GuardViolation::Hollow { file })
}

/// Could not read is not absent.
fn unreadable<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let rows = plan.source.as_ref()?.unreadable;
    let limit = policy.limits.unreadable_max;
    (rows > limit && plan.tally.removes() > 0).then_some(GuardViolation::Unreadable { rows, limit })
}

/// Identifiers that a spreadsheet or a data frame has changed are other users or none.
fn damaged<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Vec<GuardViolation> {
    let Some(source) = plan.source.as_ref().filter(|_| plan.tally.removes() + plan.tally.adds() > 0) else {
        return Vec::new();
    };
    let (limits, of, shapes) = (&policy.limits, source.matched, source.shapes);
    let signs = [
        (Damage::DecimalIds, shapes.decimal, !limits.allow_decimal_ids && shapes.decimal > of / 2),
        (Damage::ExponentIds, shapes.exponent, !limits.allow_exponent_ids && shapes.exponent > 0),
        (
            Damage::Duplicates,
            source.duplicates,
            !limits.allow_duplicates && source.duplicates.saturating_mul(10) > of.saturating_mul(9),
        ),
    ];
    let found = signs.into_iter().filter(|(_, _, is_damaged)| *is_damaged);
    found.map(|(damage, rows, _)| GuardViolation::Damaged { damage, rows, of }).collect()
}

/// Re-keyed members do not count. Removals count whatever the standing of their members: a member in doubt may well be in
/// Braze, and a source that breaks while members are in doubt must not empty the cohort. Additions of members in doubt do
/// not count: an earlier run was allowed to send them.
fn too_many<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy, op: ChangeOp) -> Option<GuardViolation> {
    let (tally, limits) = (&plan.tally, &policy.limits);
    let (changes, share, count, ceiling) = match op {
        ChangeOp::Remove => {
            (tally.leaving(), limits.removed_share_max, limits.removed_max, policy.ceilings.removes)
        }
        ChangeOp::Add => (
            tally.added.saturating_sub(tally.renamed()),
            limits.added_share_max,
            limits.added_max,
            policy.ceilings.adds,
        ),
    };
    if let Some(limit) = ceiling {
        return (changes > limit).then_some(GuardViolation::Ceiling { op, changes, limit });
    }
    if op == ChangeOp::Remove && plan.source.is_none() {
        return None; // `removed:` asks for all of them
    }
    if let Some(limit) = count.filter(|limit| changes > *limit) {
        return Some(GuardViolation::Count { op, changes, limit });
    }
    // Whether everybody may leave is said elsewhere, unless they leave only to enter elsewhere.
    let empty_is_fine = op == ChangeOp::Remove && tally.desired() == 0 && plan.moves_to.is_none();
    // Whoever enters while removals are withheld must not make their share smaller in the next run.
    let known = tally.known();
    let members = policy.share_base.filter(|_| op == ChangeOp::Remove).map_or(known, |base| base.min(known));
    let counts = known >= limits.from_members && !empty_is_fine;
    let exceeded = counts && share.is_exceeded_by(changes, members);
    exceeded.then_some(GuardViolation::Share { op, changes, members, limit: share })
}
