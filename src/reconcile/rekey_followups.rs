//! What else must be sent because Braze knows a person by several identifiers:
//!
//! - To it an alias and its owner are one person: when an alias leaves whose owner is a member and stays, the owner is
//!   sent once more after it.
//! - It runs over a device whose owner is identified, in silence: whoever left by a device, and may have been identified
//!   by then, is taken out by their own id once that is known.

use super::PlanError;
use super::compare::{ChangeSpools, DiffResult};
use crate::model::{ChangeOp, Identifier, IdentifierError, IdentifierKind, KeySeed, MemberKey, Standing};
use crate::plan::ChangeSink;
use crate::source::{DesiredError, SortedSet};
use crate::state::{
    IdentityOwners, MembershipCursor, OwnerQuery, Spool, SpoolBatch, SpoolBatches, StateError, StateReader,
};

/// People who are asked for at once.
const ASKED_MAX: usize = 100_000;
/// Memory for their owners; those beyond it lie in a temporary file.
const MEMORY: usize = 16 << 20;
/// Changes that are read at once.
const BATCH_LEN: usize = 1_000;

/// Adds those people to what a diff with this record would send. `let_go` are devices that left before.
pub(super) fn complete(
    mut diff: DiffResult,
    mut let_go: Spool,
    mut record: impl FnMut() -> Result<MembershipCursor, StateError>,
    state: &StateReader,
) -> Result<DiffResult, PlanError> {
    if diff.changes.names_removed() == 0 && let_go.is_empty() {
        return Ok(diff);
    }
    let Some(owners) = state.owners()? else { return Ok(diff) };
    let seed = state.seed();
    let mut aliases = SortedSet::new(seed, MEMORY);
    owners_of(diff.changes.spool_mut(ChangeOp::Remove), &[IdentifierKind::Alias], &owners, &mut aliases)?;
    let members = |standing| standing == Some(Some(Standing::Member));
    let again = chosen(aliases, &mut record, &mut diff.changes, members, seed)?;
    if diff.changes.is_watched() {
        let mut named = SortedSet::new(seed, MEMORY);
        let kinds = [IdentifierKind::Alias, IdentifierKind::DeviceId];
        owners_of(diff.changes.spool_mut(ChangeOp::Remove), &kinds, &owners, &mut named)?;
        let mut staying = chosen(named, &mut record, &mut diff.changes, members, seed)?;
        diff.changes.stay(&mut staying)?;
    }
    let mut devices = SortedSet::new(seed, MEMORY);
    for left in [&mut let_go, diff.changes.spool_mut(ChangeOp::Remove)] {
        owners_of(left, &[IdentifierKind::DeviceId], &owners, &mut devices)?;
    }
    // Whoever was sent away by their own id is away, and whom Braze has refused it does not have.
    let strangers = |standing: Option<Option<Standing>>| standing.is_none();
    let away = chosen(devices, &mut record, &mut diff.changes, strangers, seed)?;
    diff.tally.sent_again += again.len();
    diff.tally.unchanged -= again.len();
    diff.tally.let_go_again += away.len();
    merge(&mut diff.changes, ChangeOp::Add, again, seed)?;
    merge(&mut diff.changes, ChangeOp::Remove, away, seed)?;
    Ok(diff)
}

/// Those whom the record has as is wanted, none of whom is among the changes.
fn chosen(
    people: SortedSet,
    record: impl FnOnce() -> Result<MembershipCursor, StateError>,
    changes: &mut ChangeSpools,
    is_wanted: impl Fn(Option<Option<Standing>>) -> bool,
    seed: KeySeed,
) -> Result<Spool, PlanError> {
    let mut chosen = Spool::default();
    let mut people = people.into_members();
    let Some(mut key) = people.advance().map_err(DesiredError::Scratch)? else { return Ok(chosen) };
    let mut record = record()?;
    let (removes, adds) = changes.spools_mut();
    let (mut leaving, mut entering) = (ChangeCursor::new(removes, seed)?, ChangeCursor::new(adds, seed)?);
    let mut known = record.advance_any()?;
    loop {
        while known.is_some_and(|(known, _)| known < key) {
            record.skip(record.ahead().partition_point(|ahead| *ahead < key));
            known = record.advance_any()?;
        }
        let standing = known.filter(|(known, _)| *known == key).map(|(_, standing)| standing);
        if is_wanted(standing) && !leaving.has(key)? && !entering.has(key)? {
            chosen.push(people.packed())?;
        }
        match people.advance().map_err(DesiredError::Scratch)? {
            Some(next) => key = next,
            None => return Ok(chosen),
        }
    }
}

/// Puts more changes of one side among those that are there.
fn merge(changes: &mut ChangeSpools, op: ChangeOp, mut more: Spool, seed: KeySeed) -> Result<(), PlanError> {
    if more.is_empty() {
        return Ok(());
    }
    let mut before = std::mem::take(changes.spool_mut(op));
    let (mut old, mut new) = (ChangeCursor::new(&mut before, seed)?, ChangeCursor::new(&mut more, seed)?);
    loop {
        match (old.key(), new.key()) {
            (None, None) => return Ok(()),
            (Some(key), other) if other.is_none_or(|other| key < other) => {
                changes.spool_mut(op).push(old.packed())?;
                old.advance()?;
            }
            _ => {
                ChangeSink::change(changes, op, new.packed())?;
                new.advance()?;
            }
        }
    }
}

/// Finds who owns those of some kinds among these, by their own ids.
fn owners_of(
    people: &mut Spool,
    kinds: &[IdentifierKind],
    owners: &IdentityOwners,
    found: &mut SortedSet,
) -> Result<(), PlanError> {
    let mut asked = Vec::new();
    let mut batches = people.batches(BATCH_LEN)?;
    while let Some(batch) = batches.next_batch()? {
        for packed in (0..batch.len()).map(|at| batch.packed(at)) {
            let (who, _) = Identifier::unpack(packed).map_err(damaged)?;
            let question = if kinds.contains(&who.kind) { owners.question(&who) } else { None };
            asked.extend(question.map(|question| (question, packed.into())));
        }
        if asked.len() >= ASKED_MAX {
            settle(&mut asked, owners, found)?;
        }
    }
    settle(&mut asked, owners, found)
}

/// Asks for some of them, in the order in which the map answers.
fn settle(
    asked: &mut Vec<(OwnerQuery, Box<[u8]>)>,
    owners: &IdentityOwners,
    found: &mut SortedSet,
) -> Result<(), PlanError> {
    asked.sort_unstable();
    let (mut answers, mut packed) = (owners.answers(), Vec::new());
    for (question, who) in asked.drain(..) {
        let (who, _) = Identifier::unpack(&who).map_err(damaged)?;
        if let Some((owner, _)) = answers.owner(question, &who)? {
            packed.clear();
            owner.pack_into(&mut packed);
            found.push(&packed).map_err(DesiredError::Scratch)?;
        }
    }
    Ok(())
}

fn damaged(error: IdentifierError) -> PlanError {
    DesiredError::Scratch(std::io::Error::other(error)).into()
}

/// A walk over changes, in the order of their keys.
struct ChangeCursor<'a> {
    batches: SpoolBatches<'a>,
    batch: Option<SpoolBatch>,
    at: usize,
    seed: KeySeed,
}

impl<'a> ChangeCursor<'a> {
    /// A walk that stands at the first of them.
    fn new(spool: &'a mut Spool, seed: KeySeed) -> Result<Self, StateError> {
        let mut batches = spool.batches(BATCH_LEN)?;
        let batch = batches.next_batch()?;
        Ok(Self { batches, batch, at: 0, seed })
    }

    fn packed(&self) -> &[u8] {
        self.batch.as_ref().map_or(&[], |batch| batch.packed(self.at))
    }

    fn key(&self) -> Option<MemberKey> {
        self.batch.as_ref().map(|batch| MemberKey::of(self.seed, batch.packed(self.at)))
    }

    fn advance(&mut self) -> Result<(), StateError> {
        self.at += 1;
        if self.batch.as_ref().is_some_and(|batch| self.at == batch.len()) {
            (self.batch, self.at) = (self.batches.next_batch()?, 0);
        }
        Ok(())
    }

    /// Whether one of them has this key. They are asked for in ascending order.
    fn has(&mut self, key: MemberKey) -> Result<bool, StateError> {
        while self.key().is_some_and(|own| own < key) {
            self.advance()?;
        }
        Ok(self.key() == Some(key))
    }
}
