//! People who are members by their own id and by an alias that leaves: to Braze both are one person, so taking out the
//! alias takes them out, and they are sent once more after it. A device is no matter here: Braze passes over one whose
//! owner is identified.

use super::PlanError;
use super::observe::Diff;
use crate::desired::{DesiredError, SortedSet};
use crate::model::{EXTERNAL_ID_LEN_MAX, Identifier, Key, KeySeed, Kind, Op, Standing, usable};
use crate::state::{Asked, Batch, Batches, Handle, Owners, RecordCursor, Spool, StateError, StateReader};

/// Aliases that are asked for at once.
const ASKED_MAX: usize = 100_000;
/// Memory for their owners; those beyond it lie in a temporary file.
const MEMORY: usize = 16 << 20;
/// Changes that are read at once.
const BATCH_LEN: usize = 1_000;

/// Adds those people to what a diff with this record would send.
pub(super) fn send_again(
    mut diff: Diff,
    mut record: RecordCursor,
    state: &StateReader,
) -> Result<Diff, PlanError> {
    if diff.changes.aliases_removed() == 0 {
        return Ok(diff);
    }
    let Some(owners) = state.owners()? else { return Ok(diff) };
    let seed = state.seed();
    let named = owners_of_aliases(diff.changes.spool_mut(Op::Remove), &owners, seed)?;
    let mut adds = std::mem::take(diff.changes.spool_mut(Op::Add));
    let mut again = Spool::default();
    {
        let mut named = named.into_members();
        let mut leaving = Walk::new(diff.changes.spool_mut(Op::Remove), seed)?;
        let mut sent = Walk::new(&mut adds, seed)?;
        let mut known = record.advance()?;
        while let Some(key) = named.advance().map_err(DesiredError::Scratch)? {
            while known.is_some_and(|(known, _)| known < key) {
                known = record.advance()?;
            }
            let is_member = known == Some((key, Standing::Member));
            if is_member && !leaving.has(key)? && !sent.has(key)? {
                again.push(named.packed())?;
            }
        }
    }
    let count = again.len();
    let (mut old, mut new) = (Walk::new(&mut adds, seed)?, Walk::new(&mut again, seed)?);
    loop {
        match (old.key(), new.key()) {
            (None, None) => break,
            (Some(key), other) if other.is_none_or(|other| key < other) => {
                diff.changes.spool_mut(Op::Add).push(old.packed())?;
                old.advance()?;
            }
            _ => {
                diff.changes.send_again(new.packed())?;
                new.advance()?;
            }
        }
    }
    diff.tally.sent_again += count;
    diff.tally.unchanged -= count;
    Ok(diff)
}

/// Who owns the aliases among these, by their own ids.
fn owners_of_aliases(removed: &mut Spool, owners: &Owners, seed: KeySeed) -> Result<SortedSet, PlanError> {
    let (mut found, mut asked, mut packed) = (SortedSet::new(seed, MEMORY), Vec::new(), Vec::new());
    let mut settle = |asked: &mut Vec<(Asked, Box<str>, Box<str>)>| -> Result<(), PlanError> {
        asked.sort_unstable();
        let mut answers = owners.answers();
        for (question, label, name) in asked.drain(..) {
            let owner = answers.owner(question, Handle::Alias { label: &label, name: &name })?;
            let owner =
                owner.and_then(|(owner, _)| usable(owner.as_bytes(), EXTERNAL_ID_LEN_MAX, &[]).ok()?);
            if let Some(owner) = owner {
                packed.clear();
                Identifier::pack(Kind::ExternalId, "", owner, &mut packed);
                found.push(&packed).map_err(DesiredError::Scratch)?;
            }
        }
        Ok(())
    };
    let mut batches = removed.batches(BATCH_LEN)?;
    while let Some(batch) = batches.next_batch()? {
        for at in 0..batch.len() {
            let (who, _) = Identifier::unpack(batch.packed(at))
                .map_err(|e| DesiredError::Scratch(std::io::Error::other(e)))?;
            let handle = Handle::Alias { label: who.label, name: who.value };
            if who.kind == Kind::Alias
                && let Some(question) = owners.may_know(handle)
            {
                asked.push((question, who.label.into(), who.value.into()));
            }
        }
        if asked.len() >= ASKED_MAX {
            settle(&mut asked)?;
        }
    }
    settle(&mut asked)?;
    Ok(found)
}

/// A walk over changes, in the order of their keys.
struct Walk<'a> {
    batches: Batches<'a>,
    batch: Option<Batch>,
    at: usize,
    seed: KeySeed,
}

impl<'a> Walk<'a> {
    /// A walk that stands at the first of them.
    fn new(spool: &'a mut Spool, seed: KeySeed) -> Result<Self, StateError> {
        let mut batches = spool.batches(BATCH_LEN)?;
        let batch = batches.next_batch()?;
        Ok(Self { batches, batch, at: 0, seed })
    }

    fn packed(&self) -> &[u8] {
        self.batch.as_ref().map_or(&[], |batch| batch.packed(self.at))
    }

    fn key(&self) -> Option<Key> {
        self.batch.as_ref().map(|batch| Key::of(self.seed, batch.packed(self.at)))
    }

    fn advance(&mut self) -> Result<(), StateError> {
        self.at += 1;
        if self.batch.as_ref().is_some_and(|batch| self.at == batch.len()) {
            (self.batch, self.at) = (self.batches.next_batch()?, 0);
        }
        Ok(())
    }

    /// Whether one of them has this key. They are asked for in ascending order.
    fn has(&mut self, key: Key) -> Result<bool, StateError> {
        while self.key().is_some_and(|own| own < key) {
            self.advance()?;
        }
        Ok(self.key() == Some(key))
    }
}
