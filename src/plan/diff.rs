//! Two ordered walks in step: who should be in the cohort, and what the record says of everybody.
//!
//! The law: apply the changes to the members of the record, in any order within a side, and you have
//! the desired members, whatever the truth about those in doubt is. Order is checked as it is used; a
//! stream that runs backwards is an error and never a wrong answer.

use crate::model::{ChangeOp, MemberKey, Standing};

/// The desired members, in strictly ascending order of their keys.
pub trait DesiredCursor {
    /// Why the stream can fail.
    type Error;
    /// Moves on to the next member, if there is one.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn advance(&mut self) -> Result<Option<MemberKey>, Self::Error>;
    /// Moves on over the members that follow as long as they are these keys, one by one; how many they were.
    fn pass(&mut self, keys: &[MemberKey]) -> usize;
    /// The packed identifier of the current member. Asked for only where it is needed.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn packed(&mut self) -> Result<&[u8], Self::Error>;
}

/// What the record says, in strictly ascending order of the keys.
pub trait RecordedCursor {
    /// Why the stream can fail.
    type Error;
    /// Moves on to the next member, if there is one. Without a standing it is no member, but a late request may have
    /// added it: if it is not desired, it is removed once more.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn advance(&mut self) -> Result<Option<(MemberKey, Option<Standing>)>, Self::Error>;
    /// Whether a late request may have removed the current member: if it is desired, it is added once more.
    fn is_late(&self) -> bool {
        false
    }
    /// The keys that follow the current one and stand as it does, as far as they are in hand.
    fn ahead(&self) -> &[MemberKey];
    /// Moves on over so many of the keys ahead.
    fn skip(&mut self, count: usize);
    /// The packed identifier of the current member. Asked for only where it is needed, since it costs
    /// more than the key.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn packed(&mut self) -> Result<&[u8], Self::Error>;
}

/// Takes the changes, in ascending order of the keys within each side.
pub trait ChangeSink {
    /// Why taking one can fail.
    type Error;
    /// Takes one change.
    ///
    /// # Errors
    /// When the change cannot be kept.
    fn change(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), Self::Error>;
    /// Is told before a change that somebody enters who was not there, or that a member leaves: not of those in
    /// doubt, nor of those who are sent once more.
    ///
    /// # Errors
    /// When it cannot be told whether that is one.
    fn crossing(&mut self, _op: ChangeOp, _packed: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// How many of what a diff found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffTally {
    /// Members by the record, settled ones only.
    pub members: u64,
    /// Members that are desired: nothing to do.
    pub unchanged: u64,
    /// New members.
    pub added: u64,
    /// Members that are not desired any more.
    pub removed: u64,
    /// In doubt and desired: added again.
    pub doubt_added: u64,
    /// In doubt and not desired: removed to be sure.
    pub doubt_removed: u64,
    /// Desired, but refused by Braze before: not sent again.
    pub refused: u64,
    /// Members that are added once more: `resync` asks for it, an alias of theirs leaves, or a late request may have
    /// removed them.
    pub sent_again: u64,
    /// Users that were removed and are removed once more: `resync` asks for it, they were known by a device then and have
    /// another identifier by now, or a late request may have added them.
    pub let_go_again: u64,
    /// Those of the two whom a late request may have added or removed.
    pub settled_again: u64,
    /// Removals of a device or an alias whose owner is the member now, instead of it.
    pub rekeyed: u64,
    /// In doubt, and not touched by this plan.
    pub left_in_doubt: u64,
}

impl DiffTally {
    /// Members that will be sent as additions.
    #[must_use]
    pub fn adds(&self) -> u64 {
        self.added + self.doubt_added + self.sent_again
    }

    /// Members that will be sent as removals.
    #[must_use]
    pub fn removes(&self) -> u64 {
        self.removed + self.doubt_removed + self.let_go_again
    }

    /// Removals and additions that only re-key a member: no user leaves or enters by them. Each needs both, so if
    /// several members become one, the others count as leaving.
    #[must_use]
    pub fn renamed(&self) -> u64 {
        self.rekeyed.min(self.removed + self.doubt_removed).min(self.added + self.doubt_added)
    }

    /// Removals that may take a user out of the cohort: of settled members, and of members in doubt, who may well be in
    /// Braze.
    #[must_use]
    pub fn leaving(&self) -> u64 {
        (self.removed + self.doubt_removed).saturating_sub(self.renamed())
    }

    /// Members by the record, settled and in doubt.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.members + self.doubt_added + self.doubt_removed + self.left_in_doubt
    }

    /// Members that should be in the cohort.
    #[must_use]
    pub fn desired(&self) -> u64 {
        self.unchanged + self.adds() + self.refused
    }
}

/// Why a diff failed.
#[derive(Debug, thiserror::Error)]
pub enum DiffError<E> {
    /// A stream or the sink failed.
    #[error(transparent)]
    Stream(#[from] E),
    /// A stream is not sorted: its data is damaged.
    #[error("the {0} is not in order; its data is damaged")]
    OutOfOrder(&'static str),
}

/// Compares desired members with the record.
///
/// # Errors
/// [`DiffError`] when a stream fails or is out of order; the sink's changes are then of no use.
pub fn diff<E>(
    desired: &mut impl DesiredCursor<Error = E>,
    record: &mut impl RecordedCursor<Error = E>,
    sink: &mut impl ChangeSink<Error = E>,
) -> Result<DiffTally, DiffError<E>> {
    let mut tally = DiffTally::default();
    let mut wanted = next_desired(desired, None)?;
    let mut known = next_record(record, None)?;
    loop {
        match (wanted, known) {
            (None, None) => return Ok(tally),
            (Some(key), entry) if entry.is_none_or(|(other, _)| key < other) => {
                tally.added += 1;
                sink.crossing(ChangeOp::Add, desired.packed()?)?;
                sink.change(ChangeOp::Add, desired.packed()?)?;
                wanted = next_desired(desired, Some(key))?;
            }
            (Some(key), Some((other, None))) if key == other => {
                tally.added += 1;
                sink.crossing(ChangeOp::Add, desired.packed()?)?;
                sink.change(ChangeOp::Add, desired.packed()?)?;
                wanted = next_desired(desired, Some(key))?;
                known = next_record(record, Some(key))?;
            }
            (Some(key), Some((other, Some(standing)))) if key == other => {
                if settle_desired(standing, record.is_late(), &mut tally) {
                    sink.change(ChangeOp::Add, desired.packed()?)?;
                }
                let last = pass_unchanged(desired, record, standing, &mut tally).unwrap_or(key);
                wanted = next_desired(desired, Some(last))?;
                known = next_record(record, Some(last))?;
            }
            (_, Some((other, None))) => {
                tally.let_go_again += 1;
                tally.settled_again += 1;
                sink.change(ChangeOp::Remove, record.packed()?)?;
                known = next_record(record, Some(other))?;
            }
            (_, Some((other, Some(standing)))) => {
                if standing == Standing::Member {
                    sink.crossing(ChangeOp::Remove, record.packed()?)?;
                }
                if settle_undesired(standing, &mut tally) {
                    sink.change(ChangeOp::Remove, record.packed()?)?;
                }
                known = next_record(record, Some(other))?;
            }
            (Some(_), None) => return Ok(tally), // covered above; the compiler cannot see it
        }
    }
}

/// Moves on over the members that are in both, nearly all of them, without looking at each alone. The last.
fn pass_unchanged(
    desired: &mut impl DesiredCursor,
    record: &mut impl RecordedCursor,
    standing: Standing,
    tally: &mut DiffTally,
) -> Option<MemberKey> {
    let ahead = if standing == Standing::Member { record.ahead() } else { &[] };
    let count = desired.pass(ahead);
    let last = ahead[..count].last().copied();
    record.skip(count);
    tally.members += count as u64;
    tally.unchanged += count as u64;
    last
}

/// Counts a desired member that the record knows; whether it must be added.
fn settle_desired(standing: Standing, is_late: bool, tally: &mut DiffTally) -> bool {
    match standing {
        Standing::Member if is_late => {
            tally.members += 1;
            tally.sent_again += 1;
            tally.settled_again += 1;
        }
        Standing::Member => {
            tally.members += 1;
            tally.unchanged += 1;
        }
        Standing::InDoubt => tally.doubt_added += 1,
        Standing::Refused | Standing::Disputed => tally.refused += 1,
    }
    standing == Standing::InDoubt || (standing == Standing::Member && is_late)
}

/// Counts a member that is not desired; whether it must be removed.
fn settle_undesired(standing: Standing, tally: &mut DiffTally) -> bool {
    match standing {
        Standing::Member => {
            tally.members += 1;
            tally.removed += 1;
        }
        Standing::InDoubt | Standing::Disputed => tally.doubt_removed += 1,
        Standing::Refused => {}
    }
    standing != Standing::Refused
}

fn next_desired<D: DesiredCursor>(
    desired: &mut D,
    last: Option<MemberKey>,
) -> Result<Option<MemberKey>, DiffError<D::Error>> {
    let next = desired.advance()?;
    match (last, next) {
        (Some(last), Some(next)) if next <= last => Err(DiffError::OutOfOrder("sorted source")),
        _ => Ok(next),
    }
}

/// A recorded member, and its standing if it has one.
type Recorded = (MemberKey, Option<Standing>);

fn next_record<R: RecordedCursor>(
    record: &mut R,
    last: Option<MemberKey>,
) -> Result<Option<Recorded>, DiffError<R::Error>> {
    let next = record.advance()?;
    match (last, next) {
        (Some(last), Some((next, _))) if next <= last => Err(DiffError::OutOfOrder("record")),
        _ => Ok(next),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    struct Keys<'a> {
        rest: std::slice::Iter<'a, u8>,
        now: [u8; 1],
    }

    /// How many keys the record has in hand at most.
    const AHEAD_MAX: usize = 3;

    impl DesiredCursor for Keys<'_> {
        type Error = Infallible;
        fn advance(&mut self) -> Result<Option<MemberKey>, Infallible> {
            Ok(self.rest.next().map(|key| {
                self.now = [*key];
                MemberKey(u128::from(*key))
            }))
        }
        fn pass(&mut self, keys: &[MemberKey]) -> usize {
            let same = |(key, own): &(&MemberKey, &u8)| key.0 == u128::from(**own);
            let count = keys.iter().zip(self.rest.clone()).take_while(same).count();
            self.now = count.checked_sub(1).and_then(|at| self.rest.nth(at)).map_or(self.now, |key| [*key]);
            count
        }
        fn packed(&mut self) -> Result<&[u8], Infallible> {
            Ok(&self.now)
        }
    }

    struct Known<'a> {
        rest: std::slice::Iter<'a, (u8, Standing)>,
        now: [u8; 1],
        ahead: Vec<MemberKey>,
    }

    impl RecordedCursor for Known<'_> {
        type Error = Infallible;
        fn advance(&mut self) -> Result<Option<(MemberKey, Option<Standing>)>, Infallible> {
            let Some((key, standing)) = self.rest.next() else { return Ok(None) };
            self.now = [*key];
            let alike = self.rest.clone().take_while(|(_, other)| other == standing).take(AHEAD_MAX);
            self.ahead = alike.map(|(key, _)| MemberKey(u128::from(*key))).collect();
            Ok(Some((MemberKey(u128::from(*key)), Some(*standing))))
        }
        fn ahead(&self) -> &[MemberKey] {
            &self.ahead
        }
        fn skip(&mut self, count: usize) {
            self.now =
                count.checked_sub(1).and_then(|at| self.rest.nth(at)).map_or(self.now, |(key, _)| [*key]);
            self.ahead.drain(..count);
        }
        fn packed(&mut self) -> Result<&[u8], Infallible> {
            Ok(&self.now)
        }
    }

    #[derive(Default)]
    struct Changes(Vec<(ChangeOp, u8)>);

    impl ChangeSink for Changes {
        type Error = Infallible;
        fn change(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), Infallible> {
            self.0.push((op, packed[0]));
            Ok(())
        }
    }

    type Found = (DiffTally, Vec<(ChangeOp, u8)>);

    fn run(desired: &[u8], record: &[(u8, Standing)]) -> Result<Found, DiffError<Infallible>> {
        let mut changes = Changes::default();
        let tally = diff(
            &mut Keys { rest: desired.iter(), now: [0] },
            &mut Known { rest: record.iter(), now: [0], ahead: Vec::new() },
            &mut changes,
        )?;
        Ok((tally, changes.0))
    }

    /// The law, for one case: whatever Braze really holds of those in doubt, it ends up right.
    fn check(desired: &BTreeSet<u8>, record: &BTreeMap<u8, Standing>, truth: u32) {
        let wanted: Vec<u8> = desired.iter().copied().collect();
        let known: Vec<(u8, Standing)> = record.iter().map(|(k, s)| (*k, *s)).collect();
        let (tally, changes) = run(&wanted, &known).unwrap();

        let holds = |key: u8, standing: Standing| match standing {
            Standing::Member => true,
            Standing::InDoubt | Standing::Disputed => truth >> (key % 32) & 1 == 1,
            Standing::Refused => false,
        };
        let mut braze: BTreeSet<u8> = known.iter().filter(|(k, s)| holds(*k, *s)).map(|(k, _)| *k).collect();
        // In any order within a side: reversed is as good as any.
        for (op, key) in changes.iter().filter(|(op, _)| *op == ChangeOp::Remove).rev() {
            let known = record[key];
            assert!(braze.remove(key) || known != Standing::Member, "{op:?} {key}");
        }
        for (_, key) in changes.iter().filter(|(op, _)| *op == ChangeOp::Add).rev() {
            braze.insert(*key);
        }
        let refused = |key: &u8| matches!(record.get(key), Some(Standing::Refused | Standing::Disputed));
        let disputed =
            |key: &u8| record.get(key) == Some(&Standing::Disputed) && holds(*key, Standing::Disputed);
        let expected: BTreeSet<u8> =
            desired.iter().filter(|key| !refused(key) || disputed(key)).copied().collect();
        assert_eq!(braze, expected);

        let count = |op| changes.iter().filter(|(o, _)| *o == op).count() as u64;
        assert_eq!((tally.adds(), tally.removes()), (count(ChangeOp::Add), count(ChangeOp::Remove)));
        assert_eq!(tally.desired(), desired.len() as u64);
        let after: Vec<(u8, Standing)> = desired
            .iter()
            .map(|key| (*key, if refused(key) { Standing::Refused } else { Standing::Member }))
            .collect();
        assert_eq!(run(&wanted, &after).unwrap().1, [], "a second plan is empty");
    }

    #[test]
    fn every_case_over_three_members() {
        let standings = [
            None,
            Some(Standing::Member),
            Some(Standing::InDoubt),
            Some(Standing::Refused),
            Some(Standing::Disputed),
        ];
        for wanted in 0u32..8 {
            for known in 0usize..125 {
                for truth in 0..8 {
                    let desired = (0u8..3).filter(|key| wanted >> key & 1 == 1).collect();
                    let at = |key: u8| standings[known / 5usize.pow(u32::from(key)) % 5].map(|s| (key, s));
                    check(&desired, &(0u8..3).filter_map(at).collect(), truth);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn random_larger_cases(
            desired in proptest::collection::btree_set(any::<u8>(), 0..200),
            record in proptest::collection::btree_map(any::<u8>(), 0usize..4, 0..200),
            truth in any::<u32>(),
        ) {
            let standings = [Standing::Member, Standing::InDoubt, Standing::Refused, Standing::Disputed];
            check(&desired, &record.into_iter().map(|(key, at)| (key, standings[at])).collect(), truth);
        }
    }

    #[test]
    fn a_stream_that_runs_backwards_is_caught() {
        let member = |key| (key, Standing::Member);
        assert!(matches!(run(&[2, 1], &[]), Err(DiffError::OutOfOrder("sorted source"))));
        assert!(matches!(run(&[1, 1], &[]), Err(DiffError::OutOfOrder("sorted source"))));
        assert!(matches!(run(&[], &[member(2), member(1)]), Err(DiffError::OutOfOrder("record"))));
    }
}
