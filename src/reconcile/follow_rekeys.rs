//! By what people are called now, of whom a device or an alias is known: a re-key is no entry and no exit, and whoever
//! something is due for may have got another name meanwhile. It sends nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::PlanInputs;
use super::choose_triggers::{CROSSING_MAX, Transitions};
use crate::model::IdentifierKind;
use crate::state::{Outbox, OutboxUser, OwnerQuery, StateError, Transition};

/// Follows those who are due, and those who cross, to their owners.
pub(super) fn follow(
    crossings: &mut Transitions,
    outbox: &mut Outbox,
    inputs: PlanInputs<'_>,
) -> Result<(), StateError> {
    let people = outbox.due.iter().map(|due| &due.who).chain(outbox.recent.iter().map(|recent| &recent.who));
    let people = people.chain(&crossings.renamed).chain(crossings.back.iter().map(|(_, who)| who));
    let people = people.chain(crossings.sides.get(&Transition::Exit).into_iter().flatten());
    let names = owners(people, inputs)?;
    if !names.is_empty() {
        outbox.due.iter_mut().for_each(|due| call(&mut due.who, &names));
        outbox.recent.iter_mut().for_each(|recent| call(&mut recent.who, &names));
        // Several who have become one are due once, by the first entry.
        let mut seen = BTreeSet::new();
        outbox.due.retain(|due| seen.insert((due.crossing, due.who.clone())));
        let back = std::mem::take(&mut crossings.back).into_iter();
        crossings.back = back
            .map(|(crossing, mut who)| {
                call(&mut who, &names);
                (crossing, who)
            })
            .collect();
    }
    // Who is sent by their own id in the same run has only changed the name.
    let sent: BTreeSet<OutboxUser> = crossings.sent.iter().cloned().collect();
    crossings.back.retain(|(crossing, who)| *crossing == Transition::Exit || !sent.contains(who));
    outbox.due.retain(|due| due.crossing == Transition::Enter || !sent.contains(&due.who));
    settle(crossings, &names);
    let many = crossings.sides.iter().filter(|(_, people)| people.len() > CROSSING_MAX);
    crossings.too_many.extend(many.map(|(crossing, _)| *crossing));
    Ok(())
}

/// Takes out of those who cross whoever only gets another name.
fn settle(crossings: &mut Transitions, names: &BTreeMap<OutboxUser, OutboxUser>) {
    let mut exit = crossings.sides.remove(&Transition::Exit).unwrap_or_default();
    let mut enter = crossings.sides.remove(&Transition::Enter).unwrap_or_default();
    let entering: BTreeSet<&OutboxUser> = enter.iter().chain(&crossings.staying).collect();
    let by_name = |who: &&OutboxUser| names.get(*who).filter(|owner| entering.contains(owner));
    let renamed: BTreeSet<OutboxUser> =
        exit.iter().chain(&crossings.renamed).filter_map(|who| by_name(&who)).cloned().collect();
    exit.iter_mut().for_each(|who| call(who, names));
    enter.retain(|who| !renamed.contains(who));
    let mut seen = BTreeSet::new();
    exit.retain(|who| !renamed.contains(who) && seen.insert(who.clone()));
    crossings.sides = BTreeMap::from([(Transition::Enter, enter), (Transition::Exit, exit)]);
}

fn call(who: &mut OutboxUser, names: &BTreeMap<OutboxUser, OutboxUser>) {
    if let Some(name) = names.get(who) {
        *who = name.clone();
    }
}

/// The owners of those whose owners are known.
fn owners<'a>(
    people: impl Iterator<Item = &'a OutboxUser>,
    inputs: PlanInputs<'_>,
) -> Result<BTreeMap<OutboxUser, OutboxUser>, StateError> {
    let mut people = people.filter(|who| who.identifier().kind != IdentifierKind::ExternalId).peekable();
    if people.peek().is_none() {
        return Ok(BTreeMap::new());
    }
    let Some(owners) = inputs.state.owners()? else { return Ok(BTreeMap::new()) };
    let question = |who: &'a OutboxUser| Some((owners.question(&who.identifier())?, who));
    let mut questions: Vec<(OwnerQuery, &OutboxUser)> = people.filter_map(question).collect();
    questions.sort_unstable();
    questions.dedup();
    let (mut answers, mut names) = (owners.answers(), BTreeMap::new());
    for (asked, who) in questions {
        if let Some((owner, _)) = answers.owner(asked, &who.identifier())? {
            names.insert(who.clone(), owner.into());
        }
    }
    Ok(names)
}
