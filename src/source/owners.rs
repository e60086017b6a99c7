//! Members known by a device or an alias → the customer's own id of whoever that is, where the identity map knows it.
//!
//! Those whom the map may know are put aside, many at a time, and asked for in the map's order, so that each part
//! of the map is read once for all of them. It decides nothing else about a member.

use std::io;

use super::SortedSet;
use crate::connector::file::RowLocation;
use crate::model::{Identifier, IdentifierError, IdentifierKind, KeySeed};
use crate::state::{Growth, IdentityOwners, OwnerQuery, StateError};

/// One part in so many of the memory is for members that are put aside, and one for those that were moved.
const MEMORY_SHARE: usize = 8;
/// Bytes that may be put aside at first, and by how much that grows.
const ASIDE_FREE: usize = 1 << 20;
const ASIDE_STEP: usize = 4 << 20;
/// What a question takes besides the member.
const QUESTION_LEN: usize = size_of::<OwnerQuestion>();

/// Why members cannot be moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum RekeyError {
    /// A temporary file failed.
    #[error(transparent)]
    Scratch(#[from] io::Error),
    /// The identity map cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<IdentifierError> for RekeyError {
    fn from(error: IdentifierError) -> Self {
        Self::Scratch(io::Error::other(error))
    }
}

/// Whose a member is that was put aside, and where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OwnerQuestion {
    asked: OwnerQuery,
    at: usize,
    line: u64,
    file: u32,
}

/// What becomes of a member that was put aside.
pub(super) enum SettledRekeys<'a> {
    /// Its owner's id, packed.
    Owner(&'a [u8]),
    /// Nobody is known to own it: itself, packed, and where it stood.
    AsItIs(&'a [u8], RowLocation<'a>),
}

/// What was found of members that were put aside.
#[derive(Debug)]
pub(super) struct RekeyedRows {
    /// The identifiers that owners were found for.
    pub(super) set: SortedSet,
    /// The rows that they stood in.
    pub(super) rows: u64,
    /// Rows of them where somebody else was said to be the owner as well.
    pub(super) ambiguous: u64,
}

/// Moves members to their owners.
pub(super) struct RekeyMap<'a> {
    owners: &'a IdentityOwners,
    /// Members that the map may know, packed.
    aside: Vec<u8>,
    asked: Vec<OwnerQuestion>,
    /// The files that members stood in.
    files: Vec<Box<str>>,
    aside_max: usize,
    /// Bytes that may be put aside now: it grows as long as there is memory.
    aside_len: usize,
    growth: Growth,
    moved: SortedSet,
    rows: u64,
    ambiguous: u64,
    packed: Vec<u8>,
}

impl<'a> RekeyMap<'a> {
    pub(super) fn new(owners: &'a IdentityOwners, seed: KeySeed, memory_max: usize) -> Self {
        let aside_max = memory_max / MEMORY_SHARE;
        let moved = SortedSet::new(seed, memory_max / MEMORY_SHARE);
        let (aside, asked, files, packed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (aside_len, growth) = (aside_max.min(ASIDE_FREE), Growth::default());
        Self {
            owners,
            aside,
            asked,
            files,
            aside_max,
            aside_len,
            growth,
            moved,
            rows: 0,
            ambiguous: 0,
            packed,
        }
    }

    /// The memory that is left for members.
    pub(super) fn rest_of(memory_max: usize) -> usize {
        memory_max - 2 * (memory_max / MEMORY_SHARE)
    }

    /// Takes the last member of a batch, which begins at `from`, out of it if the map may know whose it is.
    #[inline]
    pub(super) fn take(
        &mut self,
        batch: &mut Vec<u8>,
        from: usize,
        place: RowLocation<'_>,
    ) -> Result<(), RekeyError> {
        if batch.get(from).copied().and_then(IdentifierKind::from_byte) == Some(IdentifierKind::ExternalId) {
            return Ok(());
        }
        let (identifier, _) = Identifier::unpack(&batch[from..])?;
        if let Some(asked) = self.owners.question(&identifier) {
            if self.files.last().is_none_or(|file| **file != *place.file) {
                self.files.push(place.file.into());
            }
            let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
            self.asked.push(OwnerQuestion { asked, at: self.aside.len(), line: place.line, file });
            self.aside.extend_from_slice(&batch[from..]);
            batch.truncate(from);
        }
        Ok(())
    }

    /// Whether so many are put aside that they should be asked for.
    pub(super) fn are_many(&mut self) -> bool {
        if self.aside.len() + self.asked.len() * QUESTION_LEN < self.aside_len {
            return false;
        }
        let may_grow = self.aside_len < self.aside_max && self.growth.try_more(ASIDE_STEP);
        self.aside_len += if may_grow { ASIDE_STEP } else { 0 };
        !may_grow
    }

    /// Asks for those who were put aside, and gives back each. Whether `each` took all of them.
    pub(super) fn settle(
        &mut self,
        mut each: impl FnMut(SettledRekeys<'_>) -> bool,
    ) -> Result<bool, RekeyError> {
        let mut asked = std::mem::take(&mut self.asked);
        asked.sort_unstable();
        let mut answers = self.owners.answers();
        for OwnerQuestion { asked, at, line, file } in asked.drain(..) {
            let (identifier, len) = Identifier::unpack(&self.aside[at..])?;
            let packed = &self.aside[at..at + len];
            let is_taken = match answers.owner(asked, &identifier)? {
                Some((owner, is_contested)) => {
                    self.packed.clear();
                    owner.pack_into(&mut self.packed);
                    self.moved.push(packed)?;
                    self.rows += 1;
                    self.ambiguous += u64::from(is_contested);
                    each(SettledRekeys::Owner(&self.packed))
                }
                None => {
                    let file = self.files.get(file as usize).map_or("", |file| file);
                    each(SettledRekeys::AsItIs(packed, RowLocation { file, line }))
                }
            };
            if !is_taken {
                return Ok(false);
            }
        }
        self.asked = asked;
        self.aside.clear();
        self.files.clear();
        Ok(true)
    }

    pub(super) fn finish(self) -> RekeyedRows {
        RekeyedRows { set: self.moved, rows: self.rows, ambiguous: self.ambiguous }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, IdentityKey, IdentityMap, Location, StateWriter};

    fn packed(kind: IdentifierKind, value: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier::pack(kind, "", value.as_bytes(), &mut packed);
        packed
    }

    fn keep(found: &mut Vec<Vec<u8>>, one: &SettledRekeys<'_>) -> bool {
        found.push(match one {
            SettledRekeys::Owner(packed) => packed.to_vec(),
            SettledRekeys::AsItIs(packed, place) => {
                let (who, _) = Identifier::unpack(packed).unwrap();
                assert_eq!(who.value, format!("d{}", place.line), "it is told where it stood");
                assert_eq!(place.file == "a", place.line.is_multiple_of(7));
                packed.to_vec()
            }
        });
        true
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
                map.tie(IdentityKey::DeviceId(&format!("d{n}")), &format!("u{n}-{round}"), seen).unwrap();
            }
            map.commit().unwrap();
        }
        let owners = state.reader().owners().unwrap().unwrap();
        let mut movers = RekeyMap::new(&owners, state.reader().seed(), 256 << 10);
        let (mut found, mut settled, mut unknown) = (Vec::new(), 0, 0);
        for n in 0..6_000 {
            let mut batch = packed(IdentifierKind::DeviceId, &format!("d{n}"));
            movers
                .take(&mut batch, 0, RowLocation { file: if n % 7 == 0 { "a" } else { "b" }, line: n })
                .unwrap();
            unknown += usize::from(!batch.is_empty());
            found.extend((!batch.is_empty()).then_some(batch));
            if movers.are_many() {
                settled += 1;
                assert!(movers.settle(|one| keep(&mut found, &one)).unwrap());
            }
        }
        movers.settle(|one| keep(&mut found, &one)).unwrap();
        assert!(settled >= 2 && unknown > 2_800, "{settled} {unknown}");
        let owner = |n: usize| {
            (0..5).rev().find(|round| n < 3_000 && n >= *round && (n - round).is_multiple_of(2 + round))
        };
        let mut expected: Vec<Vec<u8>> = (0..6_000)
            .map(|n| match owner(n) {
                Some(round) => packed(IdentifierKind::ExternalId, &format!("u{n}-{round}")),
                None => packed(IdentifierKind::DeviceId, &format!("d{n}")),
            })
            .collect();
        let moved = (0..6_000).filter(|n| owner(*n).is_some()).count() as u64;
        found.sort_unstable();
        expected.sort_unstable();
        assert!(found == expected);
        let RekeyedRows { set, rows, ambiguous } = movers.finish();
        let (mut members, mut distinct) = (set.into_members(), 0);
        while members.advance().unwrap().is_some() {
            distinct += 1;
        }
        assert_eq!((rows, distinct), (moved, moved));
        let told =
            |n: usize| (0..5).filter(|round| n >= *round && (n - round).is_multiple_of(2 + round)).count();
        assert_eq!(ambiguous, (0..3_000).filter(|n| told(*n) > 1).count() as u64);
    }
}
