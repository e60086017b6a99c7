//! Re-keys devices and aliases to their owners' external ids, where the identity map knows the owner.
//!
//! Members that the map may know are deferred and looked up together in the map's order. So each part of the map is
//! read once for many members.

use std::io;

use super::{DesiredError, SortedSet};
use crate::connector::rows::RowLocation;
use crate::model::{Identifier, IdentifierError, IdentifierKind, KeySeed};
use crate::state::{IdentityOwners, MemoryGrowth, OwnerQuery, StateError};

/// Divisor: deferred members and re-keyed identifiers each get this fraction of the memory.
const MEMORY_SHARE: usize = 8;
/// Initial limit of deferred bytes, and the step by which it grows.
const DEFERRED_FREE: usize = 1 << 20;
const DEFERRED_STEP: usize = 4 << 20;
/// Memory that a deferred member needs besides its identifier.
const DEFERRED_LEN: usize = size_of::<DeferredMember>();

/// The reason why owners cannot be looked up.
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

impl From<RekeyError> for DesiredError {
    fn from(error: RekeyError) -> Self {
        match error {
            RekeyError::Scratch(error) => Self::Scratch(error),
            RekeyError::State(error) => Self::State(error),
        }
    }
}

/// A deferred member: its lookup, its start in the buffer, and the location of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DeferredMember {
    query: OwnerQuery,
    start: usize,
    line: u64,
    file: u32,
}

/// Result of the lookup of a deferred member.
pub(super) enum OwnerResult<'a> {
    /// The owner's external id, packed.
    Owner(&'a [u8]),
    /// No owner is known: the unchanged identifier, packed, and the location of its row.
    NoOwner(&'a [u8], RowLocation<'a>),
}

/// Identifiers that were re-keyed.
pub(super) struct RekeyedRows {
    /// The identifiers, before the re-key.
    pub(super) set: SortedSet,
    /// Number of their rows.
    pub(super) rows: u64,
    /// Number of their rows with several owners of the identifier.
    pub(super) ambiguous: u64,
}

/// Looks up the owners of devices and aliases.
pub(super) struct OwnerQueries<'a> {
    owners: &'a IdentityOwners,
    /// Deferred identifiers, packed.
    buffer: Vec<u8>,
    deferred: Vec<DeferredMember>,
    /// The files of the deferred rows.
    files: Vec<Box<str>>,
    limit_max: usize,
    /// Current limit of deferred bytes. It grows while there is memory.
    limit: usize,
    growth: MemoryGrowth,
    rekeyed: SortedSet,
    rows: u64,
    ambiguous: u64,
    packed: Vec<u8>,
}

impl<'a> OwnerQueries<'a> {
    pub(super) fn new(owners: &'a IdentityOwners, seed: KeySeed, memory_max: usize) -> Self {
        let limit_max = memory_max / MEMORY_SHARE;
        Self {
            owners,
            buffer: Vec::new(),
            deferred: Vec::new(),
            files: Vec::new(),
            limit_max,
            limit: limit_max.min(DEFERRED_FREE),
            growth: MemoryGrowth::default(),
            rekeyed: SortedSet::new(seed, memory_max / MEMORY_SHARE),
            rows: 0,
            ambiguous: 0,
            packed: Vec::new(),
        }
    }

    /// The memory that is left for members.
    pub(super) fn memory_left(memory_max: usize) -> usize {
        memory_max - 2 * (memory_max / MEMORY_SHARE)
    }

    /// Moves the last member of a batch, which starts at `start`, to the deferred ones if the map may know its owner.
    #[inline]
    pub(super) fn defer(
        &mut self,
        batch: &mut Vec<u8>,
        start: usize,
        location: RowLocation<'_>,
    ) -> Result<(), RekeyError> {
        if batch.get(start).copied().and_then(IdentifierKind::from_byte) == Some(IdentifierKind::ExternalId) {
            return Ok(());
        }
        let (identifier, _) = Identifier::unpack(&batch[start..])?;
        if let Some(query) = self.owners.query(&identifier) {
            if self.files.last().is_none_or(|file| **file != *location.file) {
                self.files.push(location.file.into());
            }
            let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
            let member = DeferredMember { query, start: self.buffer.len(), line: location.line, file };
            self.deferred.push(member);
            self.buffer.extend_from_slice(&batch[start..]);
            batch.truncate(start);
        }
        Ok(())
    }

    /// Whether the deferred members fill their memory, so that they must be resolved.
    pub(super) fn is_full(&mut self) -> bool {
        if self.buffer.len() + self.deferred.len() * DEFERRED_LEN < self.limit {
            return false;
        }
        let may_grow = self.limit < self.limit_max && self.growth.try_more(DEFERRED_STEP);
        self.limit += if may_grow { DEFERRED_STEP } else { 0 };
        !may_grow
    }

    /// Looks up the owners of all deferred members and calls `accept` for each. Stops and returns `false` when
    /// `accept` returns `false`.
    pub(super) fn resolve(
        &mut self,
        mut accept: impl FnMut(OwnerResult<'_>) -> bool,
    ) -> Result<bool, RekeyError> {
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.sort_unstable();
        let mut answers = self.owners.answers();
        for DeferredMember { query, start, line, file } in deferred.drain(..) {
            let (identifier, len) = Identifier::unpack(&self.buffer[start..])?;
            let packed = &self.buffer[start..start + len];
            let is_accepted = match answers.owner(query, &identifier)? {
                Some((owner, is_ambiguous)) => {
                    self.packed.clear();
                    owner.pack_into(&mut self.packed);
                    self.rekeyed.push(packed)?;
                    self.rows += 1;
                    self.ambiguous += u64::from(is_ambiguous);
                    accept(OwnerResult::Owner(&self.packed))
                }
                None => {
                    let file = self.files.get(file as usize).map_or("", |file| file);
                    accept(OwnerResult::NoOwner(packed, RowLocation { file, line }))
                }
            };
            if !is_accepted {
                return Ok(false);
            }
        }
        self.deferred = deferred;
        self.buffer.clear();
        self.files.clear();
        Ok(true)
    }

    pub(super) fn finish(self) -> RekeyedRows {
        RekeyedRows { set: self.rekeyed, rows: self.rows, ambiguous: self.ambiguous }
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

    fn keep(found: &mut Vec<Vec<u8>>, result: &OwnerResult<'_>) -> bool {
        found.push(match result {
            OwnerResult::Owner(packed) => packed.to_vec(),
            OwnerResult::NoOwner(packed, location) => {
                let (identifier, _) = Identifier::unpack(packed).unwrap();
                assert_eq!(identifier.value, format!("d{}", location.line), "the location is kept");
                assert_eq!(location.file == "a", location.line.is_multiple_of(7));
                packed.to_vec()
            }
        });
        true
    }

    /// A map of many parts, queried in small batches.
    #[test]
    fn every_member_is_returned_once_with_its_latest_owner() {
        let home = tempfile::tempdir().unwrap();
        let since = Timestamp::UNIX_EPOCH;
        let holder = Holder { host: String::new(), process: 1, since, renewal: None };
        let location = Location::Folder(home.path().to_owned());
        let state =
            Arc::new(StateWriter::open(&location, &holder, Clock::new(|| Timestamp::UNIX_EPOCH), 7).unwrap());
        let mut map = IdentityMap::open(&state).unwrap();
        for round in 0..5 {
            for n in (round..3_000).step_by(2 + round) {
                let seen = Timestamp::from_second(i64::try_from(round).unwrap()).unwrap();
                map.link(IdentityKey::DeviceId(&format!("d{n}")), &format!("u{n}-{round}"), seen).unwrap();
            }
            map.commit().unwrap();
        }
        let owners = state.reader().owners().unwrap().unwrap();
        let mut lookup = OwnerQueries::new(&owners, state.reader().seed(), 256 << 10);
        let (mut found, mut resolved, mut unknown) = (Vec::new(), 0, 0);
        for n in 0..6_000 {
            let mut batch = packed(IdentifierKind::DeviceId, &format!("d{n}"));
            lookup
                .defer(&mut batch, 0, RowLocation { file: if n % 7 == 0 { "a" } else { "b" }, line: n })
                .unwrap();
            unknown += usize::from(!batch.is_empty());
            found.extend((!batch.is_empty()).then_some(batch));
            if lookup.is_full() {
                resolved += 1;
                assert!(lookup.resolve(|result| keep(&mut found, &result)).unwrap());
            }
        }
        lookup.resolve(|result| keep(&mut found, &result)).unwrap();
        assert!(resolved >= 2 && unknown > 2_800, "{resolved} {unknown}");
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
        let RekeyedRows { set, rows, ambiguous } = lookup.finish();
        let (mut members, mut distinct) = (set.into_members(), 0);
        while members.advance().unwrap().is_some() {
            distinct += 1;
        }
        assert_eq!((rows, distinct), (moved, moved));
        let claims =
            |n: usize| (0..5).filter(|round| n >= *round && (n - round).is_multiple_of(2 + round)).count();
        assert_eq!(ambiguous, (0..3_000).filter(|n| claims(*n) > 1).count() as u64);
    }
}
