//! The diff: compares the desired members with the recorded members by a merge of two sorted streams.
//!
//! The law: applied to the recorded members, in any order within a side, the changes give the desired members, even if
//! any member in doubt is or is not in Braze. A stream that is not sorted is an error.

use super::Sides;
use crate::model::{ChangeOp, MemberKey, MemberStanding};

/// The desired members, in strictly ascending order of their keys.
pub trait DesiredCursor {
    /// The error of the stream.
    type Error;
    /// Advances to the next member. Returns `None` at the end.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn advance(&mut self) -> Result<Option<MemberKey>, Self::Error>;
    /// Advances while the next members equal `keys`. Returns how many matched.
    fn advance_while_equal(&mut self, keys: &[MemberKey]) -> usize;
    /// The packed identifier of the current member.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn packed(&mut self) -> Result<&[u8], Self::Error>;
}

/// The recorded members, in strictly ascending order of their keys.
pub trait RecordedCursor {
    /// The error of the stream.
    type Error;
    /// Advances to the next member. Returns `None` at the end. A user without a standing is not a member, but a late
    /// request may have added it: if it is not desired, it is removed again.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn advance(&mut self) -> Result<Option<(MemberKey, Option<MemberStanding>)>, Self::Error>;
    /// Whether a late request may have removed the current member: if it is desired, it is added again.
    fn is_late(&self) -> bool {
        false
    }
    /// The following keys in the buffer that have the same standing as the current one.
    fn ahead(&self) -> &[MemberKey];
    /// Skips `count` of the keys ahead.
    fn skip(&mut self, count: usize);
    /// The packed identifier of the current member. Reading it costs more than the key.
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn packed(&mut self) -> Result<&[u8], Self::Error>;
}

/// Receives the changes, in ascending order of the keys within each side.
pub trait ChangeSink {
    /// The error of the sink.
    type Error;
    /// Receives one change.
    ///
    /// # Errors
    /// When the change cannot be kept.
    fn change(&mut self, op: ChangeOp, packed: &[u8]) -> Result<(), Self::Error>;
    /// Called before a change by which a user enters or a settled member leaves. Not called for members in doubt and for
    /// members that are sent again.
    ///
    /// # Errors
    /// When re-keyed members cannot be read.
    fn transition(&mut self, _op: ChangeOp, _packed: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The counts of a diff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffTally {
    /// Recorded members that are settled.
    pub members: u64,
    /// Members that are desired and stay.
    pub unchanged: u64,
    /// New members.
    pub added: u64,
    /// Members that are no longer desired.
    pub removed: u64,
    /// Members in doubt that are desired and added again.
    pub doubt_added: u64,
    /// Members in doubt that are not desired and removed to be sure.
    pub doubt_removed: u64,
    /// Desired users that Braze rejected before. They are not sent again.
    pub rejected: u64,
    /// Members that are added again: by `resync`, because an alias of the user leaves, or because a late request may have
    /// removed them.
    pub added_again: u64,
    /// Removed users that are removed again: by `resync`, because they were removed by a device and have an id by now, or
    /// because a late request may have added them.
    pub removed_again: u64,
    /// Users of the two counts above that a late request may have added or removed.
    pub settled_again: u64,
    /// Removals of devices and aliases that are replaced by their owners.
    pub rekeyed: u64,
    /// Members in doubt that this plan does not change.
    pub left_in_doubt: u64,
}

impl DiffTally {
    /// All additions.
    #[must_use]
    pub fn adds(&self) -> u64 {
        self.added + self.doubt_added + self.added_again
    }

    /// All removals.
    #[must_use]
    pub fn removes(&self) -> u64 {
        self.removed + self.doubt_removed + self.removed_again
    }

    /// All changes of one side.
    #[must_use]
    pub fn changes(&self, op: ChangeOp) -> u64 {
        match op {
            ChangeOp::Remove => self.removes(),
            ChangeOp::Add => self.adds(),
        }
    }

    /// Pairs of a removal and an addition that only re-key a member. No user leaves or enters by them. If several members
    /// become one, the others count as leaving.
    #[must_use]
    pub fn rekeys(&self) -> u64 {
        self.rekeyed.min(self.removed + self.doubt_removed).min(self.added + self.doubt_added)
    }

    /// Removals by which a user may leave the cohort: of settled members, and of members in doubt, who may be in Braze.
    #[must_use]
    pub fn leaving(&self) -> u64 {
        (self.removed + self.doubt_removed).saturating_sub(self.rekeys())
    }

    /// New members, without those that are only re-keyed.
    #[must_use]
    pub fn entering(&self) -> u64 {
        self.added.saturating_sub(self.rekeys())
    }

    /// Recorded members, settled and in doubt.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.members + self.doubt_added + self.doubt_removed + self.left_in_doubt
    }

    /// Recorded members once the given sides of the plan are sent.
    #[must_use]
    pub fn recorded_after(&self, sent: Sides<bool>) -> u64 {
        let if_sent = |is_sent: bool, members: u64| if is_sent { members } else { 0 };
        (self.recorded() + if_sent(sent.adds, self.added))
            .saturating_sub(if_sent(sent.removes, self.removed + self.doubt_removed))
    }

    /// Desired members.
    #[must_use]
    pub fn desired(&self) -> u64 {
        self.unchanged + self.adds() + self.rejected
    }
}

/// Why a diff failed.
#[derive(Debug, thiserror::Error)]
pub enum DiffError<E> {
    /// A stream or the sink failed.
    #[error(transparent)]
    Stream(#[from] E),
    /// A stream is not sorted, so its data is damaged.
    #[error("the {0} is not sorted; its data is damaged")]
    OutOfOrder(&'static str),
}

/// Compares the desired members with the recorded members.
///
/// # Errors
/// [`DiffError`] when a stream fails or is not sorted. The sink then has an incomplete set of changes.
pub fn diff<E>(
    desired: &mut impl DesiredCursor<Error = E>,
    recorded: &mut impl RecordedCursor<Error = E>,
    sink: &mut impl ChangeSink<Error = E>,
) -> Result<DiffTally, DiffError<E>> {
    let mut tally = DiffTally::default();
    let mut wanted = next_desired(desired, None)?;
    let mut known = next_recorded(recorded, None)?;
    loop {
        match (wanted, known) {
            (None, None) => return Ok(tally),
            (Some(key), entry) if entry.is_none_or(|(other, _)| key < other) => {
                tally.added += 1;
                sink.transition(ChangeOp::Add, desired.packed()?)?;
                sink.change(ChangeOp::Add, desired.packed()?)?;
                wanted = next_desired(desired, Some(key))?;
            }
            (Some(key), Some((other, None))) if key == other => {
                tally.added += 1;
                sink.transition(ChangeOp::Add, desired.packed()?)?;
                sink.change(ChangeOp::Add, desired.packed()?)?;
                wanted = next_desired(desired, Some(key))?;
                known = next_recorded(recorded, Some(key))?;
            }
            (Some(key), Some((other, Some(standing)))) if key == other => {
                if settle_desired(standing, recorded.is_late(), &mut tally) {
                    sink.change(ChangeOp::Add, desired.packed()?)?;
                }
                let last = skip_unchanged(desired, recorded, standing, &mut tally).unwrap_or(key);
                wanted = next_desired(desired, Some(last))?;
                known = next_recorded(recorded, Some(last))?;
            }
            (_, Some((other, None))) => {
                tally.removed_again += 1;
                tally.settled_again += 1;
                sink.change(ChangeOp::Remove, recorded.packed()?)?;
                known = next_recorded(recorded, Some(other))?;
            }
            (_, Some((other, Some(standing)))) => {
                if standing == MemberStanding::Member {
                    sink.transition(ChangeOp::Remove, recorded.packed()?)?;
                }
                if settle_undesired(standing, &mut tally) {
                    sink.change(ChangeOp::Remove, recorded.packed()?)?;
                }
                known = next_recorded(recorded, Some(other))?;
            }
            (Some(_), None) => return Ok(tally), // unreachable: the second arm covers it
        }
    }
}

/// Skips members that are in both streams, usually nearly all of them, in bulk. Returns the last key.
fn skip_unchanged(
    desired: &mut impl DesiredCursor,
    recorded: &mut impl RecordedCursor,
    standing: MemberStanding,
    tally: &mut DiffTally,
) -> Option<MemberKey> {
    let ahead = if standing == MemberStanding::Member { recorded.ahead() } else { &[] };
    let count = desired.advance_while_equal(ahead);
    let last = ahead[..count].last().copied();
    recorded.skip(count);
    tally.members += count as u64;
    tally.unchanged += count as u64;
    last
}

/// Counts a desired member that is recorded. Returns whether it must be added.
fn settle_desired(standing: MemberStanding, is_late: bool, tally: &mut DiffTally) -> bool {
    match standing {
        MemberStanding::Member if is_late => {
            tally.members += 1;
            tally.added_again += 1;
            tally.settled_again += 1;
        }
        MemberStanding::Member => {
            tally.members += 1;
            tally.unchanged += 1;
        }
        MemberStanding::InDoubt => tally.doubt_added += 1,
        MemberStanding::Rejected | MemberStanding::Disputed => tally.rejected += 1,
    }
    standing == MemberStanding::InDoubt || (standing == MemberStanding::Member && is_late)
}

/// Counts a recorded member that is not desired. Returns whether it must be removed.
fn settle_undesired(standing: MemberStanding, tally: &mut DiffTally) -> bool {
    match standing {
        MemberStanding::Member => {
            tally.members += 1;
            tally.removed += 1;
        }
        MemberStanding::InDoubt | MemberStanding::Disputed => tally.doubt_removed += 1,
        MemberStanding::Rejected => {}
    }
    standing != MemberStanding::Rejected
}

fn next_desired<D: DesiredCursor>(
    desired: &mut D,
    last: Option<MemberKey>,
) -> Result<Option<MemberKey>, DiffError<D::Error>> {
    let next = desired.advance()?;
    match (last, next) {
        (Some(last), Some(next)) if next <= last => Err(DiffError::OutOfOrder("list of desired members")),
        _ => Ok(next),
    }
}

/// A recorded member and its standing, if it has one.
type RecordedMember = (MemberKey, Option<MemberStanding>);

fn next_recorded<R: RecordedCursor>(
    recorded: &mut R,
    last: Option<MemberKey>,
) -> Result<Option<RecordedMember>, DiffError<R::Error>> {
    let next = recorded.advance()?;
    match (last, next) {
        (Some(last), Some((next, _))) if next <= last => Err(DiffError::OutOfOrder("recorded membership")),
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

    /// The most keys in the buffer of the recorded members.
    const AHEAD_MAX: usize = 3;

    impl DesiredCursor for Keys<'_> {
        type Error = Infallible;
        fn advance(&mut self) -> Result<Option<MemberKey>, Infallible> {
            Ok(self.rest.next().map(|key| {
                self.now = [*key];
                MemberKey(u128::from(*key))
            }))
        }
        fn advance_while_equal(&mut self, keys: &[MemberKey]) -> usize {
            let same = |(key, own): &(&MemberKey, &u8)| key.0 == u128::from(**own);
            let count = keys.iter().zip(self.rest.clone()).take_while(same).count();
            self.now = count.checked_sub(1).and_then(|at| self.rest.nth(at)).map_or(self.now, |key| [*key]);
            count
        }
        fn packed(&mut self) -> Result<&[u8], Infallible> {
            Ok(&self.now)
        }
    }

    struct Recorded<'a> {
        rest: std::slice::Iter<'a, (u8, MemberStanding)>,
        now: [u8; 1],
        ahead: Vec<MemberKey>,
    }

    impl RecordedCursor for Recorded<'_> {
        type Error = Infallible;
        fn advance(&mut self) -> Result<Option<(MemberKey, Option<MemberStanding>)>, Infallible> {
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

    fn run(desired: &[u8], record: &[(u8, MemberStanding)]) -> Result<Found, DiffError<Infallible>> {
        let mut changes = Changes::default();
        let tally = diff(
            &mut Keys { rest: desired.iter(), now: [0] },
            &mut Recorded { rest: record.iter(), now: [0], ahead: Vec::new() },
            &mut changes,
        )?;
        Ok((tally, changes.0))
    }

    /// Checks the law for one case. `truth` says which members in doubt are in Braze.
    fn check(desired: &BTreeSet<u8>, record: &BTreeMap<u8, MemberStanding>, truth: u32) {
        let wanted: Vec<u8> = desired.iter().copied().collect();
        let known: Vec<(u8, MemberStanding)> = record.iter().map(|(k, s)| (*k, *s)).collect();
        let (tally, changes) = run(&wanted, &known).unwrap();

        let holds = |key: u8, standing: MemberStanding| match standing {
            MemberStanding::Member => true,
            MemberStanding::InDoubt | MemberStanding::Disputed => truth >> (key % 32) & 1 == 1,
            MemberStanding::Rejected => false,
        };
        let mut braze: BTreeSet<u8> = known.iter().filter(|(k, s)| holds(*k, *s)).map(|(k, _)| *k).collect();
        // The order within a side is arbitrary, so it is reversed here.
        for (op, key) in changes.iter().filter(|(op, _)| *op == ChangeOp::Remove).rev() {
            let known = record[key];
            assert!(braze.remove(key) || known != MemberStanding::Member, "{op:?} {key}");
        }
        for (_, key) in changes.iter().filter(|(op, _)| *op == ChangeOp::Add).rev() {
            braze.insert(*key);
        }
        let is_rejected =
            |key: &u8| matches!(record.get(key), Some(MemberStanding::Rejected | MemberStanding::Disputed));
        let disputed = |key: &u8| {
            record.get(key) == Some(&MemberStanding::Disputed) && holds(*key, MemberStanding::Disputed)
        };
        let expected: BTreeSet<u8> =
            desired.iter().filter(|key| !is_rejected(key) || disputed(key)).copied().collect();
        assert_eq!(braze, expected);

        let count = |op| changes.iter().filter(|(o, _)| *o == op).count() as u64;
        assert_eq!((tally.adds(), tally.removes()), (count(ChangeOp::Add), count(ChangeOp::Remove)));
        assert_eq!(tally.desired(), desired.len() as u64);
        let after: Vec<(u8, MemberStanding)> = desired
            .iter()
            .map(|key| {
                (*key, if is_rejected(key) { MemberStanding::Rejected } else { MemberStanding::Member })
            })
            .collect();
        assert_eq!(run(&wanted, &after).unwrap().1, [], "a second plan is empty");
    }

    #[test]
    fn the_law_holds_for_every_case_of_three_members() {
        let standings = [
            None,
            Some(MemberStanding::Member),
            Some(MemberStanding::InDoubt),
            Some(MemberStanding::Rejected),
            Some(MemberStanding::Disputed),
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
        fn the_law_holds_for_random_larger_cases(
            desired in proptest::collection::btree_set(any::<u8>(), 0..200),
            record in proptest::collection::btree_map(any::<u8>(), 0usize..4, 0..200),
            truth in any::<u32>(),
        ) {
            let standings = [MemberStanding::Member, MemberStanding::InDoubt, MemberStanding::Rejected, MemberStanding::Disputed];
            check(&desired, &record.into_iter().map(|(key, at)| (key, standings[at])).collect(), truth);
        }
    }

    #[test]
    fn an_unsorted_stream_is_an_error() {
        let member = |key| (key, MemberStanding::Member);
        assert!(matches!(run(&[2, 1], &[]), Err(DiffError::OutOfOrder("list of desired members"))));
        assert!(matches!(run(&[1, 1], &[]), Err(DiffError::OutOfOrder("list of desired members"))));
        assert!(matches!(
            run(&[], &[member(2), member(1)]),
            Err(DiffError::OutOfOrder("recorded membership"))
        ));
    }
}
