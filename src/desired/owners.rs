//! Members known by a device or an alias → the customer's own id of whoever that is, where the identity map knows it.
//!
//! Those whom the map may know are put aside, many at a time, and asked for in the map's order, so that each part
//! of the map is read once for all of them. It decides nothing else about a member.

use std::io;

use super::SortedSet;
use crate::model::{EXTERNAL_ID_LEN_MAX, Identifier, IdentifierError, KeySeed, Kind, usable};
use crate::state::{Asked, Handle, Owners, StateError};

/// One part in so many of the memory is for members that are put aside, and one for those that were moved.
const MEMORY_SHARE: usize = 8;
/// What a question takes besides the member.
const QUESTION_LEN: usize = size_of::<(Asked, usize)>();

/// Why members cannot be moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum MoveError {
    /// A temporary file failed.
    #[error(transparent)]
    Scratch(#[from] io::Error),
    /// The identity map cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<IdentifierError> for MoveError {
    fn from(error: IdentifierError) -> Self {
        Self::Scratch(io::Error::other(error))
    }
}

/// Moves members to their owners.
pub(super) struct Movers<'a> {
    owners: &'a Owners,
    /// Members that the map may know, packed.
    aside: Vec<u8>,
    asked: Vec<(Asked, usize)>,
    aside_max: usize,
    moved: SortedSet,
    rows: u64,
    packed: Vec<u8>,
}

impl<'a> Movers<'a> {
    pub(super) fn new(owners: &'a Owners, seed: KeySeed, memory_max: usize) -> Self {
        let aside_max = memory_max / MEMORY_SHARE;
        let moved = SortedSet::new(seed, memory_max / MEMORY_SHARE);
        let (aside, asked, packed) = (Vec::new(), Vec::new(), Vec::new());
        Self { owners, aside, asked, aside_max, moved, rows: 0, packed }
    }

    /// The memory that is left for members.
    pub(super) fn rest_of(memory_max: usize) -> usize {
        memory_max - 2 * (memory_max / MEMORY_SHARE)
    }

    /// Takes the last member of a batch, which begins at `from`, out of it if the map may know whose it is.
    #[inline]
    pub(super) fn take(&mut self, batch: &mut Vec<u8>, from: usize) -> Result<(), MoveError> {
        if batch.get(from).copied().and_then(Kind::from_byte) == Some(Kind::ExternalId) {
            return Ok(());
        }
        let (identifier, _) = Identifier::unpack(&batch[from..])?;
        let handle = Handle::of_member(&identifier);
        if let Some(asked) = handle.and_then(|handle| self.owners.may_know(handle)) {
            self.asked.push((asked, self.aside.len()));
            self.aside.extend_from_slice(&batch[from..]);
            batch.truncate(from);
        }
        Ok(())
    }

    /// Whether so many are put aside that they should be asked for.
    pub(super) fn are_many(&self) -> bool {
        self.aside.len() + self.asked.len() * QUESTION_LEN >= self.aside_max
    }

    /// Asks for those who were put aside, and gives back each: by their owner's id, or as they are. Whether `each`
    /// took all of them.
    pub(super) fn settle(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> Result<bool, MoveError> {
        let mut asked = std::mem::take(&mut self.asked);
        asked.sort_unstable();
        let mut answers = self.owners.answers();
        for (question, at) in asked.drain(..) {
            let (identifier, len) = Identifier::unpack(&self.aside[at..])?;
            let packed = &self.aside[at..at + len];
            let owner = match Handle::of_member(&identifier) {
                Some(handle) => answers.owner(question, handle)?.map(str::as_bytes),
                None => None,
            };
            let owner = owner.and_then(|owner| usable(owner, EXTERNAL_ID_LEN_MAX, &[]).ok().flatten());
            let is_taken = match owner {
                Some(owner) => {
                    self.packed.clear();
                    Identifier::pack(Kind::ExternalId, "", owner, &mut self.packed);
                    self.moved.push(packed)?;
                    self.rows += 1;
                    each(&self.packed)
                }
                None => each(packed),
            };
            if !is_taken {
                return Ok(false);
            }
        }
        self.asked = asked;
        self.aside.clear();
        Ok(true)
    }

    /// The identifiers that owners were found for, and the rows that they stood in.
    pub(super) fn finish(self) -> (SortedSet, u64) {
        (self.moved, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, IdentityMap, Location, StateWriter};

    fn packed(kind: Kind, value: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier::pack(kind, "", value.as_bytes(), &mut packed);
        packed
    }

    /// A map in many runs, asked in small batches.
    #[test]
    fn every_member_comes_back_once_by_the_owner_that_was_told_last() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, heard: None };
        let location = Location::Folder(home.path().to_owned());
        let state =
            Arc::new(StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap());
        let mut map = IdentityMap::open(&state).unwrap();
        for round in 0..5 {
            for n in (round..3_000).step_by(2 + round) {
                let seen = Timestamp::from_second(i64::try_from(round).unwrap()).unwrap();
                map.tie(Handle::DeviceId(&format!("d{n}")), &format!("u{n}-{round}"), seen).unwrap();
            }
            map.commit().unwrap();
        }
        let owners = state.reader().owners().unwrap().unwrap();
        let mut movers = Movers::new(&owners, state.reader().seed(), 256 << 10);
        let (mut found, mut settled, mut unknown) = (Vec::new(), 0, 0);
        for n in 0..6_000 {
            let mut batch = packed(Kind::DeviceId, &format!("d{n}"));
            movers.take(&mut batch, 0).unwrap();
            unknown += usize::from(!batch.is_empty());
            found.extend((!batch.is_empty()).then_some(batch));
            if movers.are_many() {
                settled += 1;
                assert!(movers.settle(|packed| (found.push(packed.to_vec()), true).1).unwrap());
            }
        }
        movers.settle(|packed| (found.push(packed.to_vec()), true).1).unwrap();
        assert!(settled >= 2 && unknown > 2_800, "{settled} {unknown}");
        let owner = |n: usize| {
            (0..5).rev().find(|round| n < 3_000 && n >= *round && (n - round).is_multiple_of(2 + round))
        };
        let mut expected: Vec<Vec<u8>> = (0..6_000)
            .map(|n| match owner(n) {
                Some(round) => packed(Kind::ExternalId, &format!("u{n}-{round}")),
                None => packed(Kind::DeviceId, &format!("d{n}")),
            })
            .collect();
        let moved = (0..6_000).filter(|n| owner(*n).is_some()).count() as u64;
        found.sort_unstable();
        expected.sort_unstable();
        assert!(found == expected);
        let (set, rows) = movers.finish();
        let (mut members, mut distinct) = (set.into_members(), 0);
        while members.advance().unwrap().is_some() {
            distinct += 1;
        }
        assert_eq!((rows, distinct), (moved, moved));
    }
}
