//! The guard: checks a plan against its policy before it runs.
//!
//! Each rule is a small predicate beside its reason. All rules run, and each violation blocks a side of the plan. A
//! violation is a value with its numbers; `cli` renders it with its remedies.

use std::collections::BTreeMap;

use super::block_code::BlockCode;
use super::digest::PlanDigest;
use super::{CohortNaming, Cost, DiffTally, MembershipPlan, Sides};
use crate::model::{Ceilings, ChangeOp, CohortId, GuardLimits, Percentage};

/// The policy that a plan is checked against.
#[derive(Clone, Debug, Default)]
pub struct GuardPolicy {
    /// The limits of the config.
    pub limits: GuardLimits,
    /// The limits that you allowed for this run.
    pub ceilings: Ceilings,
    /// The cohort must not be emptied.
    pub protected: bool,
    /// The number of members when removals were first blocked, if they still are.
    pub share_base: Option<u64>,
    /// Set if the array attribute has too many cohorts already.
    pub array_full: Option<ArrayFull>,
    /// Another cohort with the same name in the workspace.
    pub name_taken_by: Option<CohortId>,
    /// The workspace of the recorded members and that of the config, if they differ.
    pub workspace_change: Option<(String, String)>,
    /// The digests of approved plans, each of the whole plan.
    pub approved: Vec<PlanDigest>,
}

/// An array attribute that would have more elements than Braze keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayFull {
    /// The attribute.
    pub attribute: String,
    /// The number of cohorts that it would have.
    pub cohorts: u64,
    /// The limit of elements.
    pub limit: u64,
}

/// Why the guard blocks a plan or a side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardViolation {
    /// Too large a share of the members would leave or enter.
    Share {
        /// Leave or enter.
        op: ChangeOp,
        /// The number of changes.
        changes: u64,
        /// The number of members.
        members: u64,
        /// The number of members that the share is computed from: fewer, if additions have continued beside blocked
        /// removals.
        base: u64,
        /// The limit.
        limit: Percentage,
    },
    /// Too many members would leave or enter, by the count of the config.
    Count {
        /// Leave or enter.
        op: ChangeOp,
        /// The number of changes.
        changes: u64,
        /// The limit.
        limit: u64,
    },
    /// More members would leave or enter than you allowed for this run.
    Ceiling {
        /// Leave or enter.
        op: ChangeOp,
        /// The number of changes.
        changes: u64,
        /// The limit that you allowed.
        limit: u64,
    },
    /// Most members would leave, most users of the source are new, and a limit blocks one side.
    Exchanged {
        /// Members that would leave.
        leaving: u64,
        /// The number of members.
        members: u64,
        /// Users that would enter.
        entering: u64,
        /// The number of users of the source.
        desired: u64,
    },
    /// The source has no members, and all recorded members would leave.
    Emptied {
        /// Members that would leave.
        members: u64,
    },
    /// The source is empty, and the cohort was never filled.
    EmptyAtFirst,
    /// The source has rows and every one of them is rejected, and the cohort has no members.
    NoneUsable {
        /// The number of rows.
        rows: u64,
        /// Rejected rows by reason.
        rejects: BTreeMap<String, u64>,
    },
    /// A file of the source has no header row.
    HeaderMissing {
        /// The file.
        file: String,
    },
    /// Rows could not be read, and each may name a member.
    Unreadable {
        /// The number of unreadable rows.
        rows: u64,
        /// The number of rows that may be unreadable.
        limit: u64,
    },
    /// A spreadsheet or a data frame has probably changed the identifiers.
    Damaged {
        /// The sign of it.
        damage: Damage,
        /// The number of rows with this sign.
        rows: u64,
        /// The number of rows that name a user.
        of: u64,
    },
    /// The cohort is protected and would be emptied.
    Protected {
        /// Members that would leave.
        members: u64,
    },
    /// Braze would truncate the array attribute, and users would leave cohorts.
    ArrayFull(ArrayFull),
    /// Another cohort in the workspace has the same name.
    NameTaken {
        /// The name.
        name: String,
        /// The other cohort.
        by: CohortId,
    },
    /// The recorded members are in another workspace than the config's.
    WorkspaceChanged {
        /// The workspace of the recorded members.
        from: String,
        /// The workspace of the config.
        to: String,
    },
}

/// A sign that identifiers were changed by an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// They end in `.0`.
    DecimalIds,
    /// They are numbers in exponent notation.
    ExponentIds,
    /// Nearly all rows repeat an identifier.
    Duplicates,
}

/// What a violation blocks.
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
    /// The side that it blocks.
    #[must_use]
    pub fn side(&self) -> ChangeSide {
        match self {
            Self::Share { op, .. } | Self::Count { op, .. } | Self::Ceiling { op, .. } => match op {
                ChangeOp::Remove => ChangeSide::Removes,
                ChangeOp::Add => ChangeSide::Adds,
            },
            Self::Emptied { .. }
            | Self::HeaderMissing { .. }
            | Self::Unreadable { .. }
            | Self::Protected { .. } => ChangeSide::Removes,
            Self::ArrayFull(_) => ChangeSide::Adds,
            Self::NameTaken { .. } => ChangeSide::Naming,
            Self::Exchanged { .. }
            | Self::EmptyAtFirst
            | Self::NoneUsable { .. }
            | Self::Damaged { .. }
            | Self::WorkspaceChanged { .. } => ChangeSide::All,
        }
    }

    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> BlockCode {
        match self {
            Self::Share { op: ChangeOp::Remove, .. } => BlockCode::RemovedShare,
            Self::Share { op: ChangeOp::Add, .. } => BlockCode::AddedShare,
            Self::Count { op: ChangeOp::Remove, .. } => BlockCode::RemovedCount,
            Self::Count { op: ChangeOp::Add, .. } => BlockCode::AddedCount,
            Self::Ceiling { op: ChangeOp::Remove, .. } => BlockCode::RemovedCeiling,
            Self::Ceiling { op: ChangeOp::Add, .. } => BlockCode::AddedCeiling,
            Self::Exchanged { .. } => BlockCode::Exchanged,
            Self::Emptied { .. } => BlockCode::Emptied,
            Self::EmptyAtFirst => BlockCode::EmptySource,
            Self::NoneUsable { .. } => BlockCode::AllRejected,
            Self::HeaderMissing { .. } => BlockCode::NoHeader,
            Self::Unreadable { .. } => BlockCode::Unreadable,
            Self::Damaged { damage: Damage::DecimalIds, .. } => BlockCode::DecimalIds,
            Self::Damaged { damage: Damage::ExponentIds, .. } => BlockCode::ExponentIds,
            Self::Damaged { damage: Damage::Duplicates, .. } => BlockCode::Duplicates,
            Self::Protected { .. } => BlockCode::Protected,
            Self::ArrayFull(_) => BlockCode::ArrayFull,
            Self::NameTaken { .. } => BlockCode::NameTaken,
            Self::WorkspaceChanged { .. } => BlockCode::WorkspaceChanged,
        }
    }

    /// Whether an approval of the plan lifts it.
    #[must_use]
    pub fn can_be_approved(&self) -> bool {
        self.code().can_be_approved()
    }
}

/// A plan that the guard allows in whole or in part. Only this can be applied.
#[derive(Debug)]
pub struct ApprovedPlan<C> {
    plan: MembershipPlan<C>,
    naming: bool,
    sides: Sides<bool>,
}

impl<C> ApprovedPlan<C> {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &MembershipPlan<C> {
        &self.plan
    }

    /// The naming request, unless it is blocked.
    #[must_use]
    pub fn naming(&self) -> Option<&CohortNaming> {
        self.plan.naming.as_ref().filter(|_| self.naming)
    }

    /// The sides that may be sent.
    #[must_use]
    pub fn sides(&self) -> Sides<bool> {
        self.sides
    }

    /// The number of changes of this side that are sent.
    #[must_use]
    pub fn changes(&self, op: ChangeOp) -> u64 {
        if *self.sides.of(op) { self.plan.tally.changes(op) } else { 0 }
    }

    /// The number of changes of this side that are blocked. `None`: the side may be sent.
    #[must_use]
    pub fn blocked(&self, op: ChangeOp) -> Option<u64> {
        (!self.sides.of(op)).then(|| self.plan.tally.changes(op))
    }

    /// Whether nothing is sent.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.naming().is_none() && self.changes(ChangeOp::Remove) == 0 && self.changes(ChangeOp::Add) == 0
    }

    /// The cost of the allowed sides.
    #[must_use]
    pub fn cost(&self) -> Cost {
        self.plan.cost(self.naming, self.sides)
    }

    /// The digest of the allowed sides.
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

    /// The changes of one side. Mutable, because reading a list on disk moves its position.
    pub fn list_mut(&mut self, op: ChangeOp) -> &mut C {
        self.plan.changes.of_mut(op)
    }

    /// Returns the plan with its changes, to send them.
    #[must_use]
    pub fn into_plan(self) -> MembershipPlan<C> {
        self.plan
    }
}

/// The verdict of the guard.
#[derive(Debug)]
pub struct GuardVerdict<C> {
    /// The plan with its allowed sides, perhaps none.
    pub approved: ApprovedPlan<C>,
    /// Why the other sides are blocked.
    pub violations: Vec<GuardViolation>,
    /// Set if the share that leaves exceeds its limit and is not checked: the size from which it is.
    pub unchecked_share: Option<u64>,
}

/// Checks a plan against its policy.
#[must_use]
pub fn guard<C>(plan: MembershipPlan<C>, policy: &GuardPolicy) -> GuardVerdict<C> {
    let violations = violations(&plan, policy);
    let unchecked_share = unchecked_share(&plan, policy);
    let is_blocked = |side| violations.iter().any(|violation| violation.side() == side);
    let both = plan.tally.removes() > 0 && plan.tally.adds() > 0;
    let blocks_all = is_blocked(ChangeSide::All)
        || (policy.limits.atomic && !violations.is_empty())
        // One user may be on both sides under two identifiers, and one side alone would remove the user.
        || (plan.mixed && both && (is_blocked(ChangeSide::Removes) || is_blocked(ChangeSide::Adds)))
        // A cohort must be created before it is filled.
        || (is_blocked(ChangeSide::Naming) && matches!(plan.naming, Some(CohortNaming::Create { .. })));
    let sides = Sides {
        removes: !blocks_all && !is_blocked(ChangeSide::Removes),
        adds: !blocks_all && !is_blocked(ChangeSide::Adds),
    };
    GuardVerdict {
        approved: ApprovedPlan { plan, naming: !blocks_all && !is_blocked(ChangeSide::Naming), sides },
        violations,
        unchecked_share,
    }
}

/// Why the guard blocks a plan or a side of it, without the violations that an approval lifts.
#[must_use]
pub fn violations<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Vec<GuardViolation> {
    let mut found = Vec::new();
    found.extend(
        policy.workspace_change.clone().map(|(from, to)| GuardViolation::WorkspaceChanged { from, to }),
    );
    found.extend(name_taken(plan, policy));
    found.extend(array_full(plan, policy));
    found.extend(emptied(plan, policy));
    found.extend(nothing_at_first(plan, policy));
    found.extend(header_missing(plan));
    found.extend(unreadable(plan, policy));
    found.extend(damaged(plan, policy));
    found.extend([ChangeOp::Remove, ChangeOp::Add].into_iter().filter_map(|op| too_many(plan, policy, op)));
    if policy.approved.contains(&plan.whole_digest()) {
        found.retain(|violation| !violation.can_be_approved());
    }
    found.extend(exchanged(plan, &found));
    found
}

/// A source that has mostly other users is a wrong column or a wrong file far more often than a new audience. Half of
/// such a change is never right: it adds the wrong users to the members, and the limits then block their removal too.
fn exchanged<C>(plan: &MembershipPlan<C>, found: &[GuardViolation]) -> Option<GuardViolation> {
    let is_limit = |violation: &GuardViolation| {
        matches!(
            violation,
            GuardViolation::Share { .. } | GuardViolation::Count { .. } | GuardViolation::Ceiling { .. }
        )
    };
    let tally = &plan.tally;
    let (leaving, members) = (tally.leaving(), tally.recorded());
    let (entering, desired) = (added(tally), tally.desired());
    let most_change = leaving > members / 2 && entering > desired / 2;
    (most_change && found.iter().any(is_limit)).then_some(GuardViolation::Exchanged {
        leaving,
        members,
        entering,
        desired,
    })
}

/// The segment filter of Braze shows only names, so two cohorts with one name cannot be distinguished.
fn name_taken<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let name = plan.naming.as_ref()?.name().to_owned();
    policy.name_taken_by.clone().map(|by| GuardViolation::NameTaken { name, by })
}

/// Braze silently drops elements beyond the limit (Braze, "User attributes object").
fn array_full<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    policy.array_full.clone().filter(|_| plan.tally.adds() > 0).map(GuardViolation::ArrayFull)
}

/// An empty source is far more often a broken export than a cohort without members.
fn emptied<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let members = plan.tally.removes() - plan.tally.removed_again;
    if plan.tally.unchanged + plan.tally.adds() > 0 || members == 0 {
        return None;
    }
    if policy.protected {
        return Some(GuardViolation::Protected { members });
    }
    let has_rows = plan.next_delivery.is_some() && plan.source.as_ref().is_some_and(|source| source.rows > 0);
    let is_intended = plan.source.is_none() || policy.limits.allow_empty || has_rows;
    (!is_intended).then_some(GuardViolation::Emptied { members })
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

/// An export that failed before its first byte looks like this, so it is checked also with `allow_empty`.
fn header_missing<C>(plan: &MembershipPlan<C>) -> Option<GuardViolation> {
    let file = plan.source.as_ref()?.headerless_file.clone()?;
    (plan.tally.removes() > 0).then_some(GuardViolation::HeaderMissing { file })
}

/// An unreadable row may name a member, who must not be removed.
fn unreadable<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<GuardViolation> {
    let rows = plan.source.as_ref()?.unreadable;
    let limit = policy.limits.unreadable_max;
    (rows > limit && plan.tally.removes() > 0).then_some(GuardViolation::Unreadable { rows, limit })
}

/// Identifiers that a spreadsheet or a data frame has changed name other users or none.
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

/// Limits by share and by count. Re-keyed members do not count. Removals of members in doubt count, because they may be
/// in Braze, and a source that breaks while members are in doubt must not empty the cohort. Additions of members in doubt
/// do not count, because an earlier run was allowed to send them.
fn too_many<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy, op: ChangeOp) -> Option<GuardViolation> {
    let (tally, limits) = (&plan.tally, &policy.limits);
    let (changes, count, ceiling) = match op {
        ChangeOp::Remove => (tally.leaving(), limits.removed_max, policy.ceilings.removes),
        ChangeOp::Add => (added(tally), limits.added_max, policy.ceilings.adds),
    };
    if let Some(limit) = ceiling {
        return (changes > limit).then_some(GuardViolation::Ceiling { op, changes, limit });
    }
    if op == ChangeOp::Remove && plan.source.is_none() {
        return None; // `removed:` asks to remove all members
    }
    if let Some(limit) = count.filter(|limit| changes > *limit) {
        return Some(GuardViolation::Count { op, changes, limit });
    }
    too_large_share(plan, policy, op).filter(|_| tally.recorded() >= limits.from_members)
}

/// The limit by share, also for a cohort that is too small for it.
fn too_large_share<C>(
    plan: &MembershipPlan<C>,
    policy: &GuardPolicy,
    op: ChangeOp,
) -> Option<GuardViolation> {
    let (tally, recorded) = (&plan.tally, plan.tally.recorded());
    let (changes, limit, base) = match op {
        // `emptied` checks whether all members may leave, except in a delivery change.
        ChangeOp::Remove if tally.desired() == 0 && plan.next_delivery.is_none() => return None,
        // Additions while removals are blocked must not lower the share of the removals in the next run.
        ChangeOp::Remove => {
            let base = policy.share_base.map_or(recorded, |base| base.min(recorded));
            (tally.leaving(), policy.limits.removed_share_max, base)
        }
        ChangeOp::Add => (added(tally), policy.limits.added_share_max, recorded),
    };
    limit.is_exceeded_by(changes, base).then_some(GuardViolation::Share {
        op,
        changes,
        members: recorded,
        base,
        limit,
    })
}

fn added(tally: &DiffTally) -> u64 {
    tally.added.saturating_sub(tally.rekeys())
}

/// The size from which the share is checked, if the share that leaves exceeds its limit only because the cohort is
/// smaller.
fn unchecked_share<C>(plan: &MembershipPlan<C>, policy: &GuardPolicy) -> Option<u64> {
    let from = policy.limits.from_members;
    let is_limited =
        plan.source.is_some() && policy.ceilings.removes.is_none() && plan.tally.recorded() < from;
    let exceeds = is_limited && too_large_share(plan, policy, ChangeOp::Remove).is_some();
    exceeds.then_some(from)
}
