//! Cursors that a diff compares: the desired members of a source, and the recorded members of the state.

use std::collections::BTreeSet;

use super::plan_error::PlanError;
use crate::model::{IdentifierKind, MemberKey, MemberStanding};
use crate::plan;
use crate::source::{CaseVariants, DesiredError, MembersOverlay, SortedMembers};
use crate::state::{MembershipCursor, Spool, StateError};

/// The desired members.
pub(super) enum WantedMembers {
    None,
    /// All members of the source.
    All(Box<AllMembers>),
    /// The recorded members with the differences that the database found.
    Overlay(Box<MembersOverlay>),
}

/// All members of a source, and the search for identifiers that differ only by case.
pub(super) struct AllMembers {
    pub(super) members: SortedMembers,
    pub(super) case_variants: CaseVariants,
}

impl WantedMembers {
    /// The number of rows that name a member again, after the last member. The source has `rows` rows, and `rejected` of
    /// them are rejected.
    pub(super) fn duplicates(&self, rows: u64, rejected: u64) -> u64 {
        match self {
            Self::None => 0,
            Self::All(all) => all.members.duplicates(),
            Self::Overlay(members) => rows.saturating_sub(rejected + members.count()),
        }
    }
}

impl plan::DesiredCursor for WantedMembers {
    type Error = PlanError;

    #[inline]
    fn advance(&mut self) -> Result<Option<MemberKey>, PlanError> {
        match self {
            Self::None => Ok(None),
            Self::All(all) => {
                let key = all.members.advance().map_err(DesiredError::Scratch)?;
                all.case_variants.visit(key.as_slice());
                Ok(key)
            }
            Self::Overlay(members) => Ok(members.advance()?),
        }
    }

    #[inline]
    fn advance_while_equal(&mut self, keys: &[MemberKey]) -> usize {
        match self {
            Self::None => 0,
            Self::All(all) => {
                let count = all.members.advance_while_equal(keys);
                all.case_variants.visit(&keys[..count]);
                count
            }
            Self::Overlay(members) => members.advance_while_equal(keys),
        }
    }

    fn packed(&mut self) -> Result<&[u8], PlanError> {
        match self {
            Self::None => Ok(&[]),
            Self::All(all) => Ok(all.members.packed()),
            Self::Overlay(members) => Ok(members.packed()?),
        }
    }
}

/// The recorded members.
pub(super) struct RecordedMembers {
    pub(super) cursor: MembershipCursor,
    /// Whether members that Braze rejected are sent again, as if they were not recorded.
    pub(super) forget_rejected: bool,
    /// Unknown users that Braze knows by now. Whether they are members is unknown, so they are in doubt.
    pub(super) add_again: BTreeSet<MemberKey>,
    /// Collects the devices that earlier runs removed.
    pub(super) released_devices: Option<Spool>,
    /// Members that late requests may have changed; usually `None`.
    pub(super) late: Option<LateMembers>,
}

/// Members of late requests: Braze may have processed them after a later run had settled the members. Such a request can
/// only have changed a member that is recorded with the opposite standing.
pub(super) struct LateMembers {
    adds: LateKeys,
    removes: LateKeys,
    /// The next recorded member, if a late addition comes before it.
    peeked: Option<Option<(MemberKey, MemberStanding)>>,
    /// The packed identifier of the current user, if it is not recorded as a member.
    packed: Option<Vec<u8>>,
    /// Whether a late request may have removed the current member.
    is_removed: bool,
}

impl LateMembers {
    pub(super) fn new(
        adds: Option<MembershipCursor>,
        removes: Option<MembershipCursor>,
    ) -> Result<Option<Self>, StateError> {
        if adds.is_none() && removes.is_none() {
            return Ok(None);
        }
        let (adds, removes) = (LateKeys::new(adds)?, LateKeys::new(removes)?);
        Ok(Some(Self { adds, removes, peeked: None, packed: None, is_removed: false }))
    }

    /// The smallest key that follows.
    fn next(&self) -> Option<MemberKey> {
        [self.adds.at, self.removes.at].into_iter().flatten().min()
    }

    /// Merges late additions of users who are not members into the members. `recorded` is the next recorded member.
    fn merge(
        &mut self,
        recorded: Option<(MemberKey, MemberStanding)>,
    ) -> Result<Option<(MemberKey, Option<MemberStanding>)>, StateError> {
        (self.packed, self.is_removed) = (None, false);
        if let Some(add) = self.adds.at.filter(|add| recorded.is_none_or(|(key, _)| *add < key)) {
            self.peeked = Some(recorded);
            self.packed = Some(self.adds.packed()?);
            self.adds.advance()?;
            return Ok(Some((add, None)));
        }
        let Some((key, standing)) = recorded else { return Ok(None) };
        self.adds.skip_to(key)?;
        self.is_removed = self.removes.skip_to(key)? && standing == MemberStanding::Member;
        Ok(Some((key, Some(standing))))
    }
}

/// Keys of late requests, in ascending order.
struct LateKeys {
    cursor: Option<MembershipCursor>,
    at: Option<MemberKey>,
}

impl LateKeys {
    fn new(cursor: Option<MembershipCursor>) -> Result<Self, StateError> {
        let mut keys = Self { cursor, at: None };
        keys.advance()?;
        Ok(keys)
    }

    fn advance(&mut self) -> Result<(), StateError> {
        let next = self.cursor.as_mut().map_or(Ok(None), MembershipCursor::advance)?;
        self.at = next.map(|(key, _)| key);
        Ok(())
    }

    /// Skips all keys up to this one. Returns whether it was found.
    fn skip_to(&mut self, key: MemberKey) -> Result<bool, StateError> {
        while self.at.is_some_and(|at| at < key) {
            self.advance()?;
        }
        let is_found = self.at == Some(key);
        if is_found {
            self.advance()?;
        }
        Ok(is_found)
    }

    fn packed(&mut self) -> Result<Vec<u8>, StateError> {
        self.cursor.as_mut().map_or(Ok(Vec::new()), |cursor| Ok(cursor.packed()?.to_vec()))
    }
}

impl RecordedMembers {
    #[cold]
    fn note_released(&mut self) -> Result<(), PlanError> {
        let Some(released) = &mut self.released_devices else { return Ok(()) };
        let packed = self.cursor.packed()?;
        if packed.first().copied().and_then(IdentifierKind::from_byte) == Some(IdentifierKind::DeviceId) {
            released.push(packed)?;
        }
        Ok(())
    }

    fn advance_recorded(&mut self) -> Result<Option<(MemberKey, MemberStanding)>, PlanError> {
        loop {
            let Some((key, standing)) = self.cursor.advance_any()? else { return Ok(None) };
            let Some(standing) = standing else {
                self.note_released()?;
                continue;
            };
            match Some((key, standing)) {
                Some((_, MemberStanding::Rejected)) if self.forget_rejected => {}
                Some((key, MemberStanding::Disputed)) if self.forget_rejected => {
                    return Ok(Some((key, MemberStanding::InDoubt)));
                }
                Some((key, MemberStanding::Member)) if self.add_again.contains(&key) => {
                    return Ok(Some((key, MemberStanding::InDoubt)));
                }
                other => return Ok(other),
            }
        }
    }
}

impl plan::RecordedCursor for RecordedMembers {
    type Error = PlanError;

    fn advance(&mut self) -> Result<Option<(MemberKey, Option<MemberStanding>)>, PlanError> {
        let peeked = self.late.as_mut().and_then(|late| late.peeked.take());
        let recorded = match peeked {
            Some(recorded) => recorded,
            None => self.advance_recorded()?,
        };
        match &mut self.late {
            Some(late) => Ok(late.merge(recorded)?),
            None => Ok(recorded.map(|(key, standing)| (key, Some(standing)))),
        }
    }

    fn is_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.is_removed)
    }

    fn ahead(&self) -> &[MemberKey] {
        let ahead = self.cursor.ahead();
        let is_again = |key: &MemberKey| self.add_again.contains(key);
        let count = if self.add_again.is_empty() { None } else { ahead.iter().position(is_again) };
        let ahead = &ahead[..count.unwrap_or(ahead.len())];
        let late = self.late.as_ref().and_then(LateMembers::next);
        &ahead[..late.map_or(ahead.len(), |late| ahead.partition_point(|key| *key < late))]
    }

    fn skip(&mut self, count: usize) {
        self.cursor.skip(count);
    }

    fn packed(&mut self) -> Result<&[u8], PlanError> {
        match self.late.as_ref().and_then(|late| late.packed.as_deref()) {
            Some(packed) => Ok(packed),
            None => Ok(self.cursor.packed()?),
        }
    }
}
