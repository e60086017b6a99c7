//! What is triggered for people who enter a cohort or leave it: chosen with the plan, sent after the members.
//!
//! # Guarantees
//! Once for each person and entry: what is to be triggered is on disk before members are sent, and is taken out, on
//! disk, before its request. A request without an answer is never repeated. Nothing is triggered unless everything
//! that the run sent was settled. Whoever comes with the first fill of a cohort triggers nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::SignedDuration;

use super::report::CohortPlan;
use super::{PlanError, PlanInputs, follow_rekeys, preflight};
use crate::config::{CohortConfig, Trigger};
use crate::model::{ChangeOp, Identifier, IdentifierKind, Timestamp};
use crate::source;
use crate::state::{
    CheckTime, DueTrigger, Outbox, OutboxUser, RecentTriggers, RecordedWorkspace, StateError, Transition,
};

/// So many who cross at once are no entries of single people.
pub(super) const CROSSING_MAX: usize = 10_000;
/// So many more are looked at, some of whom may only get another name.
const RENAMED_MAX: usize = 20 * CROSSING_MAX;

/// Who crosses in a run, as the diff finds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Transitions {
    pub(super) sides: BTreeMap<Transition, Vec<OutboxUser>>,
    /// Sides on which there were too many.
    pub(super) too_many: BTreeSet<Transition>,
    /// People who are due, and whom this plan sends the other way.
    pub(super) back: BTreeSet<(Transition, OutboxUser)>,
    /// Devices and aliases that make room for their owners' ids.
    pub(super) renamed: Vec<OutboxUser>,
    /// People who stay by their own ids, while other names of theirs leave.
    pub(super) staying: Vec<OutboxUser>,
    /// People who are sent by their own ids, while others are due by devices or aliases.
    pub(super) sent: Vec<OutboxUser>,
    /// Whom to look for among the changes.
    due: HashSet<Box<[u8]>>,
    /// Somebody of those is known by a device or an alias.
    may_be_renamed: bool,
    /// What was chosen when the plan was saved, properties and all.
    saved: Vec<DueTrigger>,
}

impl Transitions {
    /// None where nothing is ever triggered.
    pub(super) fn watched(cohort: &CohortConfig, inputs: PlanInputs<'_>) -> Result<Option<Self>, StateError> {
        if cohort.on_enter.is_none() && cohort.on_exit.is_none() {
            return Ok(None);
        }
        let outbox = inputs.state.outbox(&cohort.id)?;
        let packed = |due: &DueTrigger| {
            let mut bytes = Vec::new();
            due.who.identifier().pack_into(&mut bytes);
            bytes.into_boxed_slice()
        };
        let may_be_renamed =
            outbox.due.iter().any(|due| due.who.identifier().kind != IdentifierKind::ExternalId);
        let due = outbox.due.iter().map(packed).collect();
        Ok(Some(Self { due, may_be_renamed, ..Self::default() }))
    }

    /// The crossings of a plan that was saved.
    pub(super) fn known(self, saved: Vec<DueTrigger>) -> Self {
        Self { saved, ..self }
    }

    /// Somebody who was not there enters, or a member leaves.
    pub(super) fn crossed(&mut self, op: ChangeOp, packed: &[u8]) {
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        let crossing = of(op);
        let side = self.sides.entry(crossing).or_default();
        if side.len() < CROSSING_MAX + RENAMED_MAX {
            side.push(who.into());
        } else {
            self.too_many.insert(crossing);
        }
    }

    /// A device or an alias leaves, whose owner is the member now.
    pub(super) fn renames(&mut self, packed: &[u8]) {
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        if self.renamed.len() < RENAMED_MAX {
            self.renamed.push(who.into());
        } else {
            // Whose entry is one and whose is not cannot be told any more.
            self.too_many.insert(Transition::Enter);
        }
    }

    /// Somebody stays, while an alias of theirs leaves.
    pub(super) fn stays(&mut self, packed: &[u8]) {
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        if self.staying.len() < RENAMED_MAX {
            self.staying.push(who.into());
        } else {
            // Whose exit is one and whose is not cannot be told any more.
            self.too_many.insert(Transition::Exit);
        }
    }

    /// Somebody is sent, for whatever reason.
    pub(super) fn changed(&mut self, op: ChangeOp, packed: &[u8]) {
        let is_due = self.due.contains(packed);
        let is_name = op == ChangeOp::Add && self.may_be_renamed && self.sent.len() < RENAMED_MAX;
        if !is_due && !is_name {
            return;
        }
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        if is_name {
            self.sent.push(who.into());
        }
        if is_due {
            let other = match op {
                ChangeOp::Add => Transition::Exit,
                ChangeOp::Remove => Transition::Enter,
            };
            self.back.insert((other, who.into()));
        }
    }
}

fn of(op: ChangeOp) -> Transition {
    match op {
        ChangeOp::Add => Transition::Enter,
        ChangeOp::Remove => Transition::Exit,
    }
}

/// What a run will trigger in a cohort.
#[derive(Clone, Debug)]
pub struct TriggersPlan {
    /// Each action with its numbers.
    pub each: Vec<TriggerPlan>,
    /// What is written down before members are sent.
    pub(super) outbox: Outbox,
    /// What an earlier run had no answer for: never sent again.
    pub lost: Vec<DueTrigger>,
    /// What the members' changes would add to what is due, to be taken back should nothing be sent.
    pub(super) new: Vec<DueTrigger>,
    /// Whether other people are due than were.
    is_changed: bool,
}

/// One action of a cohort in a run.
#[derive(Clone, Debug)]
pub struct TriggerPlan {
    /// Which way people go.
    pub crossing: Transition,
    /// What is triggered.
    pub action: Trigger,
    /// For whom now, the oldest entry first.
    pub now: Vec<DueTrigger>,
    /// Who waits for a later run.
    pub waiting: u64,
    /// Until when nothing is triggered.
    pub quiet_until: Option<Timestamp>,
    /// For whom something was triggered too lately.
    pub cooled: u64,
    /// Whose entry is too old.
    pub expired: u64,
    /// Who cannot be named to a campaign: known by device only.
    pub unreachable: u64,
    /// Who comes with the first fill.
    pub first_fill: u64,
    /// More crossed at once than single people do, so nothing is triggered for them.
    pub too_many: bool,
}

impl TriggerPlan {
    /// Properties that are left out of what is sent now, because their values are over the limits or no scalars, and
    /// for how many users.
    #[must_use]
    pub fn left_out(&self) -> BTreeMap<&str, u64> {
        left_out(&self.now)
    }
}

impl TriggersPlan {
    /// Whether nothing is to be done or written down.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lost.is_empty() && !self.is_changed && self.people() == 0
    }

    /// For how many people something would be triggered.
    #[must_use]
    pub fn people(&self) -> u64 {
        self.each.iter().map(|one| one.now.len() as u64).sum()
    }
}

/// Chooses what is triggered for those who cross.
pub(super) fn acting(
    cohort: &CohortConfig,
    crossings: Option<Transitions>,
    plan: CohortPlan,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let plan = preflight::plan(cohort, plan, inputs)?;
    let Some(crossings) = crossings else { return Ok(plan) };
    let actions = self::plan(cohort, crossings, &plan, inputs)?;
    Ok(CohortPlan { actions, ..plan })
}

/// The same for a plan that was saved: who crosses was found when it was made.
pub(super) fn acting_on(
    cohort: &CohortConfig,
    due: Vec<DueTrigger>,
    mut plan: CohortPlan,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let mut crossings = Transitions::watched(cohort, inputs)?.map(|crossings| crossings.known(due));
    if let Some(crossings) = &mut crossings {
        for op in [ChangeOp::Remove, ChangeOp::Add] {
            plan.verdict.approved.list_mut(op).for_each(|packed| {
                crossings.changed(op, packed);
                Ok(())
            })?;
        }
    }
    acting(cohort, crossings, plan, inputs)
}

/// Where members are sent, and what is triggered for them: what was approved with one is not without.
pub(super) fn target(cohort: &CohortConfig, workspace: &RecordedWorkspace) -> String {
    let action = |(what, action): (&str, &Option<Trigger>)| {
        action.as_ref().map_or_else(String::new, |action| format!("; {what}: {action}"))
    };
    let (enter, exit) = (action(("on_enter", &cohort.on_enter)), action(("on_exit", &cohort.on_exit)));
    format!("{workspace}{enter}{exit}")
}

/// Chooses for whom something is triggered. `plan` is the cohort's plan after the guard.
fn plan(
    cohort: &CohortConfig,
    mut crossings: Transitions,
    plan: &CohortPlan,
    inputs: PlanInputs<'_>,
) -> Result<Option<TriggersPlan>, PlanError> {
    let now = inputs.clock.now();
    let mut outbox = inputs.state.outbox(&cohort.id)?;
    let (lost, before) = (std::mem::take(&mut outbox.under_way), outbox.due.clone());
    // Whoever may have got it is left alone for as long as if they had.
    let left_alone = |due: &DueTrigger| RecentTriggers {
        crossing: due.crossing,
        who: due.who.clone(),
        at: CheckTime(now),
    };
    outbox.recent.extend(lost.iter().map(left_alone));
    follow_rekeys::follow(&mut crossings, &mut outbox, inputs)?;
    outbox.due.retain(|due| !crossings.back.contains(&(due.crossing, due.who.clone())));
    let approved = &plan.verdict.approved;
    // Nothing was ever sent in this way: there is no name that Braze took, nor anybody whom it let go.
    let (record, members) = (&plan.record, approved.plan().tally.members);
    let is_first = record.is_vacant() && record.name.is_none() && record.parts.is_empty() && members == 0;
    let (mut each, mut new) = (Vec::new(), Vec::new());
    let actions = [(Transition::Enter, &cohort.on_enter), (Transition::Exit, &cohort.on_exit)];
    for (crossing, action) in actions {
        let Some(action) = action else {
            outbox.due.retain(|due| due.crossing != crossing);
            continue;
        };
        let op = if crossing == Transition::Enter { ChangeOp::Add } else { ChangeOp::Remove };
        let crossed = crossings.sides.get(&crossing).map(Vec::as_slice).unwrap_or_default();
        let crossed = if *approved.sides().of(op) { crossed } else { &[] };
        let too_many = crossings.too_many.contains(&crossing);
        let mut choice = TriggerChoice::new(crossing, action, now);
        if is_first {
            choice.one.first_fill = crossed.len() as u64;
        } else if !too_many {
            new.extend(choice.enter(crossed, &outbox));
        }
        choice.one.too_many = too_many && !is_first;
        each.push(choice);
    }
    fill(cohort, &mut new, inputs)?;
    new.extend(crossings.saved);
    outbox.due.extend(new.iter().cloned());
    let each = each.into_iter().map(|choice| choice.choose(&mut outbox)).collect();
    let is_changed = outbox.due != before;
    Ok(Some(TriggersPlan { each, outbox, lost, new, is_changed }))
}

/// Properties with values that cannot be sent, and for how many users.
fn left_out(dues: &[DueTrigger]) -> BTreeMap<&str, u64> {
    let mut users = BTreeMap::new();
    for property in dues.iter().flat_map(|due| &due.left_out) {
        *users.entry(property.as_str()).or_default() += 1;
    }
    users
}

/// Looks up what is told of those who enter.
fn fill(cohort: &CohortConfig, new: &mut [DueTrigger], inputs: PlanInputs<'_>) -> Result<(), PlanError> {
    let Some(action) = cohort.on_enter.as_ref().filter(|action| !action.properties.is_empty()) else {
        return Ok(());
    };
    let wanted: BTreeSet<OutboxUser> =
        new.iter().filter(|due| due.crossing == Transition::Enter).map(|due| due.who.clone()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut found = source::read_properties(cohort, inputs.from(), &action.properties, |who| {
        wanted.contains(&OutboxUser::from(who))
    })?;
    for due in new.iter_mut() {
        let mut packed = Vec::new();
        due.who.identifier().pack_into(&mut packed);
        let properties = found.remove(packed.as_slice()).unwrap_or_default();
        (due.properties, due.left_out) = (properties.values, properties.omitted);
    }
    for (property, users) in left_out(new) {
        tracing::warn!(cohort = %cohort.id, property, users, "values of a property are left out");
    }
    Ok(())
}

/// One action while it is chosen.
struct TriggerChoice {
    one: TriggerPlan,
    now: Timestamp,
}

impl TriggerChoice {
    fn new(crossing: Transition, action: &Trigger, now: Timestamp) -> Self {
        let one = TriggerPlan {
            crossing,
            action: action.clone(),
            now: Vec::new(),
            waiting: 0,
            quiet_until: action.quiet.as_ref().and_then(|quiet| quiet.until(now)),
            cooled: 0,
            expired: 0,
            unreachable: 0,
            first_fill: 0,
            too_many: false,
        };
        Self { one, now }
    }

    fn is_recent(&self, recent: &RecentTriggers) -> bool {
        recent.crossing == self.one.crossing && is_within(self.now, recent.at.0, self.one.action.cool_down)
    }

    /// Who of those who cross is newly due.
    fn enter(&mut self, crossed: &[OutboxUser], outbox: &Outbox) -> Vec<DueTrigger> {
        let recent: BTreeSet<&OutboxUser> =
            outbox.recent.iter().filter(|recent| self.is_recent(recent)).map(|recent| &recent.who).collect();
        let known: BTreeSet<&OutboxUser> =
            outbox.due.iter().filter(|due| due.crossing == self.one.crossing).map(|due| &due.who).collect();
        let mut due = Vec::new();
        for who in crossed {
            if who.identifier().kind == IdentifierKind::DeviceId {
                self.one.unreachable += 1;
            } else if recent.contains(who) {
                self.one.cooled += 1;
            } else if !known.contains(who) {
                let (crossing, at) = (self.one.crossing, CheckTime(self.now));
                let (who, properties, left_out) = (who.clone(), BTreeMap::new(), Vec::new());
                due.push(DueTrigger { crossing, who, at, properties, left_out });
            }
        }
        due
    }

    /// Takes what is too old out of what is due, and chooses from the rest.
    fn choose(mut self, outbox: &mut Outbox) -> TriggerPlan {
        let (crossing, within) = (self.one.crossing, self.one.action.within);
        let before = outbox.due.len();
        outbox.due.retain(|due| due.crossing != crossing || is_within(self.now, due.at.0, within));
        self.one.expired = (before - outbox.due.len()) as u64;
        let cool_down = self.one.action.cool_down;
        outbox
            .recent
            .retain(|recent| recent.crossing != crossing || is_within(self.now, recent.at.0, cool_down));
        let due: Vec<&DueTrigger> = outbox.due.iter().filter(|due| due.crossing == crossing).collect();
        let at_most = usize::try_from(self.one.action.at_most).unwrap_or(usize::MAX);
        let count = if self.one.quiet_until.is_some() { 0 } else { due.len().min(at_most) };
        self.one.now = due[..count].iter().map(|due| (*due).clone()).collect();
        self.one.waiting = (due.len() - count) as u64;
        self.one
    }
}

fn is_within(now: Timestamp, then: Timestamp, length: std::time::Duration) -> bool {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    now.duration_since(then) < length
}
