//! Chooses the users that each trigger fires for in a run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::follow_rekeys;
use super::plan::{TriggerPlan, TriggersPlan, omitted_properties};
use super::transitions::Transitions;
use crate::config::{CohortConfig, Trigger};
use crate::model::{ChangeOp, IdentifierKind, Timestamp};
use crate::plan::Sides;
use crate::reconcile::context::PlanInputs;
use crate::reconcile::plan_error::PlanError;
use crate::source;
use crate::state::{CheckTime, DueTrigger, Outbox, OutboxUser, RecentTriggers, Transition};

/// Chooses the triggers of a cohort. `sides` are the sides that the guard allows. A first fill makes no trigger due.
pub(in crate::reconcile) fn choose(
    cohort: &CohortConfig,
    mut transitions: Transitions,
    sides: Sides<bool>,
    is_first_fill: bool,
    inputs: PlanInputs<'_>,
) -> Result<TriggersPlan, PlanError> {
    let now = inputs.clock.now();
    let mut outbox = inputs.state.outbox(&cohort.id)?;
    let (unanswered, before) = (std::mem::take(&mut outbox.in_flight), outbox.due.clone());
    // A request without an answer may have fired, so its users are in cool-down.
    let fired = |due: &DueTrigger| RecentTriggers {
        transition: due.transition,
        user: due.user.clone(),
        at: CheckTime(now),
    };
    outbox.recent.extend(unanswered.iter().map(fired));
    follow_rekeys::follow(&mut transitions, &mut outbox, inputs)?;
    outbox.due.retain(|due| !transitions.reversed.contains(&(due.transition, due.user.clone())));
    let (mut choices, mut new) = (Vec::new(), Vec::new());
    let configured = [(Transition::Enter, &cohort.on_enter), (Transition::Exit, &cohort.on_exit)];
    for (transition, trigger) in configured {
        let Some(trigger) = trigger else {
            outbox.due.retain(|due| due.transition != transition);
            continue;
        };
        let op = if transition == Transition::Enter { ChangeOp::Add } else { ChangeOp::Remove };
        let users = transitions.sides.get(&transition).map(Vec::as_slice).unwrap_or_default();
        let users = if *sides.of(op) { users } else { &[] };
        let too_many = transitions.too_many.contains(&transition);
        let mut choice = TriggerChoice::new(transition, trigger, now);
        if is_first_fill {
            choice.plan.first_fill = users.len() as u64;
        } else if !too_many {
            new.extend(choice.newly_due(users, &outbox));
        }
        choice.plan.too_many = too_many && !is_first_fill;
        choices.push(choice);
    }
    read_properties(cohort, &mut new, inputs)?;
    new.extend(transitions.saved);
    outbox.due.extend(new.iter().cloned());
    let triggers = choices.into_iter().map(|choice| choice.choose(&mut outbox)).collect();
    let is_changed = outbox.due != before;
    Ok(TriggersPlan { triggers, outbox, unanswered, new, is_changed })
}

/// Reads the configured properties of the entering users from the source.
fn read_properties(
    cohort: &CohortConfig,
    new: &mut [DueTrigger],
    inputs: PlanInputs<'_>,
) -> Result<(), PlanError> {
    let Some(trigger) = cohort.on_enter.as_ref().filter(|trigger| !trigger.properties.is_empty()) else {
        return Ok(());
    };
    let entering = new.iter().filter(|due| due.transition == Transition::Enter);
    let users: BTreeSet<OutboxUser> = entering.map(|due| due.user.clone()).collect();
    if users.is_empty() {
        return Ok(());
    }
    let mut found = source::read_properties(cohort, inputs.of_source(), &trigger.properties, |user| {
        users.contains(&OutboxUser::from(user))
    })?;
    for due in new.iter_mut() {
        let mut packed = Vec::new();
        due.user.identifier().pack_into(&mut packed);
        let properties = found.remove(packed.as_slice()).unwrap_or_default();
        (due.properties, due.omitted) = (properties.values, properties.omitted);
    }
    for (property, users) in omitted_properties(new) {
        tracing::warn!(cohort = %cohort.id, property, users, "values of a property are omitted");
    }
    Ok(())
}

/// One trigger while its users are chosen.
struct TriggerChoice {
    plan: TriggerPlan,
    now: Timestamp,
}

impl TriggerChoice {
    fn new(transition: Transition, trigger: &Trigger, now: Timestamp) -> Self {
        let plan = TriggerPlan {
            transition,
            trigger: trigger.clone(),
            now: Vec::new(),
            waiting: 0,
            quiet_until: trigger.quiet.as_ref().and_then(|quiet| quiet.until(now)),
            in_cool_down: 0,
            expired: 0,
            unreachable: 0,
            first_fill: 0,
            too_many: false,
        };
        Self { plan, now }
    }

    fn is_in_cool_down(&self, recent: &RecentTriggers) -> bool {
        recent.transition == self.plan.transition && self.is_within(recent.at.0, self.plan.trigger.cool_down)
    }

    fn is_within(&self, then: Timestamp, length: std::time::Duration) -> bool {
        let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
        self.now.duration_since(then) < length
    }

    /// The users among these that the trigger becomes due for.
    fn newly_due(&mut self, users: &[OutboxUser], outbox: &Outbox) -> Vec<DueTrigger> {
        let recent = outbox.recent.iter().filter(|recent| self.is_in_cool_down(recent));
        let recent: BTreeSet<&OutboxUser> = recent.map(|recent| &recent.user).collect();
        let listed = outbox.due.iter().filter(|due| due.transition == self.plan.transition);
        let listed: BTreeSet<&OutboxUser> = listed.map(|due| &due.user).collect();
        let mut due = Vec::new();
        for user in users {
            if user.identifier().kind == IdentifierKind::DeviceId {
                self.plan.unreachable += 1;
            } else if recent.contains(user) {
                self.plan.in_cool_down += 1;
            } else if !listed.contains(user) {
                due.push(DueTrigger {
                    transition: self.plan.transition,
                    user: user.clone(),
                    at: CheckTime(self.now),
                    properties: BTreeMap::new(),
                    omitted: Vec::new(),
                });
            }
        }
        due
    }

    /// Drops expired entries from the list of due triggers, and chooses from the rest.
    fn choose(mut self, outbox: &mut Outbox) -> TriggerPlan {
        let transition = self.plan.transition;
        let before = outbox.due.len();
        let within = self.plan.trigger.within;
        outbox.due.retain(|due| due.transition != transition || self.is_within(due.at.0, within));
        self.plan.expired = (before - outbox.due.len()) as u64;
        let is_kept =
            |recent: &RecentTriggers| recent.transition != transition || self.is_in_cool_down(recent);
        outbox.recent.retain(is_kept);
        let due: Vec<&DueTrigger> = outbox.due.iter().filter(|due| due.transition == transition).collect();
        let at_most = usize::try_from(self.plan.trigger.at_most).unwrap_or(usize::MAX);
        let count = if self.plan.quiet_until.is_some() { 0 } else { due.len().min(at_most) };
        self.plan.now = due[..count].iter().map(|due| (*due).clone()).collect();
        self.plan.waiting = (due.len() - count) as u64;
        self.plan
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::TriggerTarget;
    use crate::model::Identifier;

    const HOUR: Duration = Duration::from_secs(3600);

    fn trigger() -> Trigger {
        Trigger {
            of: TriggerTarget::Campaign,
            id: "welcome".to_owned(),
            properties: BTreeMap::new(),
            at_most: 2,
            cool_down: 2 * HOUR,
            within: HOUR,
            quiet: None,
        }
    }

    fn user(kind: IdentifierKind, value: &str) -> OutboxUser {
        Identifier { kind, label: "", value }.into()
    }

    fn id(value: &str) -> OutboxUser {
        user(IdentifierKind::ExternalId, value)
    }

    fn time(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600).unwrap()
    }

    fn due(value: &str, hour: i64) -> DueTrigger {
        DueTrigger {
            transition: Transition::Enter,
            user: id(value),
            at: CheckTime(time(hour)),
            properties: BTreeMap::new(),
            omitted: Vec::new(),
        }
    }

    #[test]
    fn devices_recent_users_and_listed_users_do_not_become_due() {
        let recent = |value, hour| RecentTriggers {
            transition: Transition::Enter,
            user: id(value),
            at: CheckTime(time(hour)),
        };
        let outbox = Outbox {
            due: vec![due("listed", 10)],
            recent: vec![recent("recent", 9), recent("cooled", 8)],
            ..Outbox::default()
        };
        let mut choice = TriggerChoice::new(Transition::Enter, &trigger(), time(10));
        let users = [user(IdentifierKind::DeviceId, "phone"), id("recent"), id("cooled"), id("listed")];
        assert_eq!(choice.newly_due(&users, &outbox), [due("cooled", 10)]);
        assert_eq!((choice.plan.unreachable, choice.plan.in_cool_down), (1, 1));
    }

    #[test]
    fn expired_entries_are_dropped_and_the_oldest_fire_first() {
        let listed = [due("old", 9), due("a", 10), due("b", 10), due("c", 10)];
        let mut outbox = Outbox { due: listed.to_vec(), ..Outbox::default() };
        let plan = TriggerChoice::new(Transition::Enter, &trigger(), time(10)).choose(&mut outbox);
        assert_eq!(plan.now, listed[1..3]);
        assert_eq!((plan.expired, plan.waiting), (1, 1));
        assert_eq!(outbox.due, listed[1..]);
    }

    #[test]
    fn triggers_of_the_other_transition_are_left_alone() {
        let listed = [due("old", 1)];
        let mut outbox = Outbox { due: listed.to_vec(), ..Outbox::default() };
        let plan = TriggerChoice::new(Transition::Exit, &trigger(), time(10)).choose(&mut outbox);
        assert_eq!((plan.now.len(), plan.expired), (0, 0));
        assert_eq!(outbox.due, listed);
    }
}
