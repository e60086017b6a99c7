//! What is triggered for people who enter a cohort or leave it: chosen with the plan, sent after the members.
//!
//! # Guarantees
//! Once for each person and entry: what is to be triggered is on disk before members are sent, and is taken out, on
//! disk, before its request. A request without an answer is never repeated. Nothing is triggered unless everything
//! that the run sent was settled. Whoever comes with the first fill of a cohort triggers nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::SignedDuration;

use super::report::CohortPlan;
use super::{Inputs, PlanError, renamed, strangers};
use crate::config::{Action, Cohort};
use crate::desired;
use crate::model::{Identifier, Kind, Op, Timestamp};
use crate::state::{Crossing, Due, Outbox, Person, Recent, Stamp, StateError, Workspace};

/// So many who cross at once are no entries of single people.
pub(super) const CROSSING_MAX: usize = 10_000;
/// So many more are looked at, some of whom may only get another name.
const RENAMED_MAX: usize = 20 * CROSSING_MAX;

/// Who crosses in a run, as the diff finds them.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossings {
    pub(super) sides: BTreeMap<Crossing, Vec<Person>>,
    /// Sides on which there were too many.
    pub(super) too_many: BTreeSet<Crossing>,
    /// People who are due, and whom this plan sends the other way.
    pub(super) back: BTreeSet<(Crossing, Person)>,
    /// Devices and aliases that make room for their owners' ids.
    pub(super) renamed: Vec<Person>,
    /// People who stay by their own ids, while other names of theirs leave.
    pub(super) staying: Vec<Person>,
    /// People who are sent by their own ids, while others are due by devices or aliases.
    pub(super) sent: Vec<Person>,
    /// Whom to look for among the changes.
    due: HashSet<Box<[u8]>>,
    /// Somebody of those is known by a device or an alias.
    may_be_renamed: bool,
    /// What was chosen when the plan was saved, properties and all.
    saved: Vec<Due>,
}

impl Crossings {
    /// None where nothing is ever triggered.
    pub(super) fn watched(cohort: &Cohort, inputs: Inputs<'_>) -> Result<Option<Self>, StateError> {
        if cohort.on_enter.is_none() && cohort.on_exit.is_none() {
            return Ok(None);
        }
        let outbox = inputs.state.outbox(&cohort.id)?;
        let packed = |due: &Due| {
            let mut bytes = Vec::new();
            due.who.identifier().pack_into(&mut bytes);
            bytes.into_boxed_slice()
        };
        let may_be_renamed = outbox.due.iter().any(|due| due.who.identifier().kind != Kind::ExternalId);
        let due = outbox.due.iter().map(packed).collect();
        Ok(Some(Self { due, may_be_renamed, ..Self::default() }))
    }

    /// The crossings of a plan that was saved.
    pub(super) fn known(self, saved: Vec<Due>) -> Self {
        Self { saved, ..self }
    }

    /// Somebody who was not there enters, or a member leaves.
    pub(super) fn crossed(&mut self, op: Op, packed: &[u8]) {
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
            self.too_many.insert(Crossing::Enter);
        }
    }

    /// Somebody stays, while an alias of theirs leaves.
    pub(super) fn stays(&mut self, packed: &[u8]) {
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        if self.staying.len() < RENAMED_MAX {
            self.staying.push(who.into());
        } else {
            // Whose exit is one and whose is not cannot be told any more.
            self.too_many.insert(Crossing::Exit);
        }
    }

    /// Somebody is sent, for whatever reason.
    pub(super) fn changed(&mut self, op: Op, packed: &[u8]) {
        let is_due = self.due.contains(packed);
        let is_name = op == Op::Add && self.may_be_renamed && self.sent.len() < RENAMED_MAX;
        if !is_due && !is_name {
            return;
        }
        let Ok((who, _)) = Identifier::unpack(packed) else { return };
        if is_name {
            self.sent.push(who.into());
        }
        if is_due {
            let other = match op {
                Op::Add => Crossing::Exit,
                Op::Remove => Crossing::Enter,
            };
            self.back.insert((other, who.into()));
        }
    }
}

fn of(op: Op) -> Crossing {
    match op {
        Op::Add => Crossing::Enter,
        Op::Remove => Crossing::Exit,
    }
}

/// What a run will trigger in a cohort.
#[derive(Clone, Debug)]
pub struct ActionPlan {
    /// Each action with its numbers.
    pub each: Vec<OneAction>,
    /// What is written down before members are sent.
    pub(super) outbox: Outbox,
    /// What an earlier run had no answer for: never sent again.
    pub lost: Vec<Due>,
    /// What the members' changes would add to what is due, to be taken back should nothing be sent.
    pub(super) new: Vec<Due>,
    /// Whether other people are due than were.
    is_changed: bool,
}

/// One action of a cohort in a run.
#[derive(Clone, Debug)]
pub struct OneAction {
    /// Which way people go.
    pub crossing: Crossing,
    /// What is triggered.
    pub action: Action,
    /// For whom now, the oldest entry first.
    pub now: Vec<Due>,
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

impl OneAction {
    /// Properties that are left out of what is sent now, because their values are over the limits or no scalars, and
    /// for how many users.
    #[must_use]
    pub fn left_out(&self) -> BTreeMap<&str, u64> {
        left_out(&self.now)
    }
}

impl ActionPlan {
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
    cohort: &Cohort,
    crossings: Option<Crossings>,
    plan: CohortPlan,
    inputs: Inputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let plan = strangers::plan(cohort, plan, inputs)?;
    let Some(crossings) = crossings else { return Ok(plan) };
    let actions = self::plan(cohort, crossings, &plan, inputs)?;
    Ok(CohortPlan { actions, ..plan })
}

/// The same for a plan that was saved: who crosses was found when it was made.
pub(super) fn acting_on(
    cohort: &Cohort,
    due: Vec<Due>,
    mut plan: CohortPlan,
    inputs: Inputs<'_>,
) -> Result<CohortPlan, PlanError> {
    let mut crossings = Crossings::watched(cohort, inputs)?.map(|crossings| crossings.known(due));
    if let Some(crossings) = &mut crossings {
        for op in [Op::Remove, Op::Add] {
            plan.verdict.approved.list_mut(op).for_each(|packed| {
                crossings.changed(op, packed);
                Ok(())
            })?;
        }
    }
    acting(cohort, crossings, plan, inputs)
}

/// Where members are sent, and what is triggered for them: what was approved with one is not without.
pub(super) fn target(cohort: &Cohort, workspace: &Workspace) -> String {
    let action = |(what, action): (&str, &Option<Action>)| {
        action.as_ref().map_or_else(String::new, |action| format!("; {what}: {action}"))
    };
    let (enter, exit) = (action(("on_enter", &cohort.on_enter)), action(("on_exit", &cohort.on_exit)));
    format!("{workspace}{enter}{exit}")
}

/// Chooses for whom something is triggered. `plan` is the cohort's plan after the guard.
fn plan(
    cohort: &Cohort,
    mut crossings: Crossings,
    plan: &CohortPlan,
    inputs: Inputs<'_>,
) -> Result<Option<ActionPlan>, PlanError> {
    let now = inputs.clock.now();
    let mut outbox = inputs.state.outbox(&cohort.id)?;
    let (lost, before) = (std::mem::take(&mut outbox.under_way), outbox.due.clone());
    // Whoever may have got it is left alone for as long as if they had.
    let left_alone = |due: &Due| Recent { crossing: due.crossing, who: due.who.clone(), at: Stamp(now) };
    outbox.recent.extend(lost.iter().map(left_alone));
    renamed::follow(&mut crossings, &mut outbox, inputs)?;
    outbox.due.retain(|due| !crossings.back.contains(&(due.crossing, due.who.clone())));
    let approved = &plan.verdict.approved;
    // Nothing was ever sent in this way: there is no name that Braze took, nor anybody whom it let go.
    let (record, members) = (&plan.record, approved.plan().tally.members);
    let is_first = record.is_vacant() && record.name.is_none() && record.parts.is_empty() && members == 0;
    let (mut each, mut new) = (Vec::new(), Vec::new());
    let actions = [(Crossing::Enter, &cohort.on_enter), (Crossing::Exit, &cohort.on_exit)];
    for (crossing, action) in actions {
        let Some(action) = action else {
            outbox.due.retain(|due| due.crossing != crossing);
            continue;
        };
        let op = if crossing == Crossing::Enter { Op::Add } else { Op::Remove };
        let crossed = crossings.sides.get(&crossing).map(Vec::as_slice).unwrap_or_default();
        let crossed = if *approved.sides().of(op) { crossed } else { &[] };
        let too_many = crossings.too_many.contains(&crossing);
        let mut choice = Choice::new(crossing, action, now);
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
    Ok(Some(ActionPlan { each, outbox, lost, new, is_changed }))
}

/// Properties with values that cannot be sent, and for how many users.
fn left_out(dues: &[Due]) -> BTreeMap<&str, u64> {
    let mut users = BTreeMap::new();
    for property in dues.iter().flat_map(|due| &due.left_out) {
        *users.entry(property.as_str()).or_default() += 1;
    }
    users
}

/// Looks up what is told of those who enter.
fn fill(cohort: &Cohort, new: &mut [Due], inputs: Inputs<'_>) -> Result<(), PlanError> {
    let Some(action) = cohort.on_enter.as_ref().filter(|action| !action.properties.is_empty()) else {
        return Ok(());
    };
    let wanted: BTreeSet<Person> =
        new.iter().filter(|due| due.crossing == Crossing::Enter).map(|due| due.who.clone()).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut found = desired::properties(cohort, inputs.from(), &action.properties, |who| {
        wanted.contains(&Person::from(who))
    })?;
    for due in new.iter_mut() {
        let mut packed = Vec::new();
        due.who.identifier().pack_into(&mut packed);
        let properties = found.remove(packed.as_slice()).unwrap_or_default();
        (due.properties, due.left_out) = (properties.values, properties.left_out);
    }
    for (property, users) in left_out(new) {
        tracing::warn!(cohort = %cohort.id, property, users, "values of a property are left out");
    }
    Ok(())
}

/// One action while it is chosen.
struct Choice {
    one: OneAction,
    now: Timestamp,
}

impl Choice {
    fn new(crossing: Crossing, action: &Action, now: Timestamp) -> Self {
        let one = OneAction {
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

    fn is_recent(&self, recent: &Recent) -> bool {
        recent.crossing == self.one.crossing && is_within(self.now, recent.at.0, self.one.action.cool_down)
    }

    /// Who of those who cross is newly due.
    fn enter(&mut self, crossed: &[Person], outbox: &Outbox) -> Vec<Due> {
        let recent: BTreeSet<&Person> =
            outbox.recent.iter().filter(|recent| self.is_recent(recent)).map(|recent| &recent.who).collect();
        let known: BTreeSet<&Person> =
            outbox.due.iter().filter(|due| due.crossing == self.one.crossing).map(|due| &due.who).collect();
        let mut due = Vec::new();
        for who in crossed {
            if who.identifier().kind == Kind::DeviceId {
                self.one.unreachable += 1;
            } else if recent.contains(who) {
                self.one.cooled += 1;
            } else if !known.contains(who) {
                let (crossing, at) = (self.one.crossing, Stamp(self.now));
                let (who, properties, left_out) = (who.clone(), BTreeMap::new(), Vec::new());
                due.push(Due { crossing, who, at, properties, left_out });
            }
        }
        due
    }

    /// Takes what is too old out of what is due, and chooses from the rest.
    fn choose(mut self, outbox: &mut Outbox) -> OneAction {
        let (crossing, within) = (self.one.crossing, self.one.action.within);
        let before = outbox.due.len();
        outbox.due.retain(|due| due.crossing != crossing || is_within(self.now, due.at.0, within));
        self.one.expired = (before - outbox.due.len()) as u64;
        let cool_down = self.one.action.cool_down;
        outbox
            .recent
            .retain(|recent| recent.crossing != crossing || is_within(self.now, recent.at.0, cool_down));
        let due: Vec<&Due> = outbox.due.iter().filter(|due| due.crossing == crossing).collect();
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
