//! Maps due triggers and transitions from a device or an alias to the external id of its owner.
//!
//! A re-key is not a transition, so it must not fire `on_enter` or `on_exit`. A trigger that is due for a device or an
//! alias fires for its owner.

use std::collections::{BTreeMap, BTreeSet};

use super::transitions::{TRANSITIONS_MAX, Transitions};
use crate::model::IdentifierKind;
use crate::reconcile::context::PlanInputs;
use crate::state::{Outbox, OutboxUser, OwnerQuery, StateError, Transition};

/// Owners by their devices and aliases.
type OutboxOwners = BTreeMap<OutboxUser, OutboxUser>;

/// Replaces users by their owners, and drops transitions that are only re-keys.
pub(super) fn follow(
    transitions: &mut Transitions,
    outbox: &mut Outbox,
    inputs: PlanInputs<'_>,
) -> Result<(), StateError> {
    let users = outbox.due.iter().map(|due| &due.user).chain(outbox.recent.iter().map(|recent| &recent.user));
    let users = users.chain(&transitions.rekeyed).chain(transitions.reversed.iter().map(|(_, user)| user));
    let users = users.chain(transitions.sides.get(&Transition::Exit).into_iter().flatten());
    let owners = owners_of(users, inputs)?;
    rekey_outbox(transitions, outbox, &owners);
    drop_rekeys(transitions, &owners);
    let full = transitions.sides.iter().filter(|(_, users)| users.len() > TRANSITIONS_MAX);
    transitions.too_many.extend(full.map(|(transition, _)| *transition));
    Ok(())
}

/// Replaces the users of the outbox by their owners.
fn rekey_outbox(transitions: &mut Transitions, outbox: &mut Outbox, owners: &OutboxOwners) {
    if !owners.is_empty() {
        outbox.due.iter_mut().for_each(|due| replace(&mut due.user, owners));
        outbox.recent.iter_mut().for_each(|recent| replace(&mut recent.user, owners));
        // Several identifiers of one owner are due once, by the first entry.
        let mut seen = BTreeSet::new();
        outbox.due.retain(|due| seen.insert((due.transition, due.user.clone())));
        let reversed = std::mem::take(&mut transitions.reversed).into_iter();
        transitions.reversed = reversed
            .map(|(transition, mut user)| {
                replace(&mut user, owners);
                (transition, user)
            })
            .collect();
    }
    // An owner who is added by the own id in the same run was only re-keyed.
    let added: BTreeSet<OutboxUser> = transitions.added.iter().cloned().collect();
    transitions
        .reversed
        .retain(|(transition, user)| *transition == Transition::Exit || !added.contains(user));
    outbox.due.retain(|due| due.transition == Transition::Enter || !added.contains(&due.user));
}

/// Drops the entry and the exit of each user who is only re-keyed.
fn drop_rekeys(transitions: &mut Transitions, owners: &OutboxOwners) {
    let mut exit = transitions.sides.remove(&Transition::Exit).unwrap_or_default();
    let mut enter = transitions.sides.remove(&Transition::Enter).unwrap_or_default();
    let members: BTreeSet<&OutboxUser> = enter.iter().chain(&transitions.staying).collect();
    let member_of = |user: &OutboxUser| owners.get(user).filter(|owner| members.contains(owner));
    let rekeyed: BTreeSet<OutboxUser> =
        exit.iter().chain(&transitions.rekeyed).filter_map(member_of).cloned().collect();
    exit.iter_mut().for_each(|user| replace(user, owners));
    enter.retain(|user| !rekeyed.contains(user));
    let mut seen = BTreeSet::new();
    exit.retain(|user| !rekeyed.contains(user) && seen.insert(user.clone()));
    transitions.sides = BTreeMap::from([(Transition::Enter, enter), (Transition::Exit, exit)]);
}

fn replace(user: &mut OutboxUser, owners: &OutboxOwners) {
    if let Some(owner) = owners.get(user) {
        *user = owner.clone();
    }
}

/// Looks up the owners of devices and aliases in the identity map.
fn owners_of<'a>(
    users: impl Iterator<Item = &'a OutboxUser>,
    inputs: PlanInputs<'_>,
) -> Result<OutboxOwners, StateError> {
    let mut users = users.filter(|user| user.identifier().kind != IdentifierKind::ExternalId).peekable();
    if users.peek().is_none() {
        return Ok(OutboxOwners::new());
    }
    let Some(identity) = inputs.state.owners()? else { return Ok(OutboxOwners::new()) };
    let query = |user: &'a OutboxUser| Some((identity.query(&user.identifier())?, user));
    let mut queries: Vec<(OwnerQuery, &OutboxUser)> = users.filter_map(query).collect();
    queries.sort_unstable();
    queries.dedup();
    let (mut answers, mut owners) = (identity.answers(), OutboxOwners::new());
    for (query, user) in queries {
        if let Some((owner, _)) = answers.owner(query, &user.identifier())? {
            owners.insert(user.clone(), owner.into());
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identifier, Timestamp};
    use crate::state::{CheckTime, DueTrigger};

    fn user(kind: IdentifierKind, value: &str) -> OutboxUser {
        Identifier { kind, label: "", value }.into()
    }

    fn id(value: &str) -> OutboxUser {
        user(IdentifierKind::ExternalId, value)
    }

    fn device(value: &str) -> OutboxUser {
        user(IdentifierKind::DeviceId, value)
    }

    fn due(transition: Transition, who: OutboxUser) -> DueTrigger {
        let at = CheckTime(Timestamp::UNIX_EPOCH);
        DueTrigger { transition, user: who, at, properties: BTreeMap::new(), omitted: Vec::new() }
    }

    #[test]
    fn a_rekey_is_no_entry_and_no_exit() {
        let sides = [
            (Transition::Enter, vec![id("ada"), id("new")]),
            (Transition::Exit, vec![device("phone"), device("tablet"), id("gone")]),
        ];
        let mut transitions = Transitions { sides: BTreeMap::from(sides), ..Transitions::default() };
        let owners = OutboxOwners::from([(device("phone"), id("ada")), (device("tablet"), id("bob"))]);
        drop_rekeys(&mut transitions, &owners);
        assert_eq!(transitions.sides[&Transition::Enter], [id("new")]);
        assert_eq!(transitions.sides[&Transition::Exit], [id("bob"), id("gone")]);
    }

    #[test]
    fn a_member_who_stays_by_the_own_id_does_not_leave_with_a_device() {
        let sides = BTreeMap::from([(Transition::Exit, vec![device("phone")])]);
        let mut transitions = Transitions { sides, staying: vec![id("ada")], ..Transitions::default() };
        drop_rekeys(&mut transitions, &OutboxOwners::from([(device("phone"), id("ada"))]));
        assert_eq!(transitions.sides[&Transition::Exit], []);
    }

    #[test]
    fn due_triggers_of_one_owner_become_one() {
        let listed = [device("phone"), device("tablet")].map(|user| due(Transition::Enter, user));
        let mut outbox = Outbox { due: listed.to_vec(), ..Outbox::default() };
        let owners = OutboxOwners::from([(device("phone"), id("ada")), (device("tablet"), id("ada"))]);
        rekey_outbox(&mut Transitions::default(), &mut outbox, &owners);
        assert_eq!(outbox.due, [due(Transition::Enter, id("ada"))]);
    }

    #[test]
    fn a_due_exit_is_dropped_when_the_owner_is_added() {
        let mut outbox = Outbox { due: vec![due(Transition::Exit, device("phone"))], ..Outbox::default() };
        let mut transitions = Transitions { added: vec![id("ada")], ..Transitions::default() };
        rekey_outbox(&mut transitions, &mut outbox, &OutboxOwners::from([(device("phone"), id("ada"))]));
        assert_eq!(outbox.due, []);
    }
}
