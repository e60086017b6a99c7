//! What a diff walks over, as the planner knows it: desired members and the record.

use std::collections::BTreeSet;

use super::PlanError;
use crate::model::{IdentifierKind, MemberKey, Standing};
use crate::plan;
use crate::source::{CaseVariants, DesiredError, MembersOverlay, SortedMembers};
use crate::state::{MembershipCursor, Spool, StateError};

/// Who should be there.
pub(super) enum WantedMembers {
    Nobody,
    /// Everybody whom the source names.
    All(Box<All>),
    /// The record's members, and what differs.
    Overlay(Box<MembersOverlay>),
}

/// Members, and a look at how they are written.
pub(super) struct All {
    pub(super) members: SortedMembers,
    pub(super) case_variants: CaseVariants,
}

impl WantedMembers {
    /// How many rows name somebody whom another row has named, once the walk is over. So many `rows` the source has, and
    /// so many of them are rejected.
    pub(super) fn duplicates(&self, rows: u64, rejected: u64) -> u64 {
        match self {
            Self::Nobody => 0,
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
            Self::Nobody => Ok(None),
            Self::All(all) => {
                let key = all.members.advance().map_err(DesiredError::Scratch)?;
                all.case_variants.visit(key.as_slice());
                Ok(key)
            }
            Self::Overlay(members) => Ok(members.advance()?),
        }
    }

    #[inline]
    fn pass(&mut self, keys: &[MemberKey]) -> usize {
        match self {
            Self::Nobody => 0,
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
            Self::Nobody => Ok(&[]),
            Self::All(all) => Ok(all.members.packed()),
            Self::Overlay(members) => Ok(members.packed()?),
        }
    }
}

/// The record, perhaps as if Braze had never refused anybody.
pub(super) struct RecordedMembers {
    pub(super) cursor: MembershipCursor,
    pub(super) forget_refused: bool,
    /// Members whom Braze did not know when they were sent, and knows now: in or out, nobody can tell.
    pub(super) again: BTreeSet<MemberKey>,
    /// Takes note of devices that Braze was told to let go.
    pub(super) let_go: Option<Spool>,
    /// Members that late requests may have changed. None: there are none, as nearly always.
    pub(super) late: Option<Late>,
}

/// Members that were in requests which Braze may have handled after a later run had settled them. Only those that stand
/// otherwise than such a request asked for can have been changed by it.
pub(super) struct Late {
    adds: LateKeys,
    removes: LateKeys,
    /// The record's next member, where a late addition comes before it.
    peeked: Option<Option<(MemberKey, Standing)>>,
    /// The packed identifier of the current one, if the record does not have it as a member.
    packed: Option<Vec<u8>>,
    /// The current one is a member that a late request may have removed.
    is_removed: bool,
}

impl Late {
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

    /// The smallest key that is still to come.
    fn next(&self) -> Option<MemberKey> {
        [self.adds.at, self.removes.at].into_iter().flatten().min()
    }

    /// Puts late additions of users who are no members among the members. `known` is the record's next member.
    fn merge(
        &mut self,
        known: Option<(MemberKey, Standing)>,
    ) -> Result<Option<(MemberKey, Option<Standing>)>, StateError> {
        (self.packed, self.is_removed) = (None, false);
        if let Some(add) = self.adds.at.filter(|add| known.is_none_or(|(key, _)| *add < key)) {
            self.peeked = Some(known);
            self.packed = Some(self.adds.packed()?);
            self.adds.advance()?;
            return Ok(Some((add, None)));
        }
        let Some((key, standing)) = known else { return Ok(None) };
        self.adds.skip_to(key)?;
        self.is_removed = self.removes.skip_to(key)? && standing == Standing::Member;
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

    /// Passes over all keys up to this one. Whether it is among them.
    fn skip_to(&mut self, key: MemberKey) -> Result<bool, StateError> {
        while self.at.is_some_and(|at| at < key) {
            self.advance()?;
        }
        let is_there = self.at == Some(key);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn packed(&mut self) -> Result<Vec<u8>, StateError> {
        self.cursor.as_mut().map_or(Ok(Vec::new()), |cursor| Ok(cursor.packed()?.to_vec()))
    }
}

impl RecordedMembers {
    #[cold]
    fn note(&mut self) -> Result<(), PlanError> {
        let Some(let_go) = &mut self.let_go else { return Ok(()) };
        let packed = self.cursor.packed()?;
        if packed.first().copied().and_then(IdentifierKind::from_byte) == Some(IdentifierKind::DeviceId) {
            let_go.push(packed)?;
        }
        Ok(())
    }

    fn advance_record(&mut self) -> Result<Option<(MemberKey, Standing)>, PlanError> {
        loop {
            let Some((key, standing)) = self.cursor.advance_any()? else { return Ok(None) };
            let Some(standing) = standing else {
                self.note()?;
                continue;
            };
            match Some((key, standing)) {
                Some((_, Standing::Refused)) if self.forget_refused => {}
                Some((key, Standing::Disputed)) if self.forget_refused => {
                    return Ok(Some((key, Standing::InDoubt)));
                }
                Some((key, Standing::Member)) if self.again.contains(&key) => {
                    return Ok(Some((key, Standing::InDoubt)));
                }
                other => return Ok(other),
            }
        }
    }
}

impl plan::RecordedCursor for RecordedMembers {
    type Error = PlanError;

    fn advance(&mut self) -> Result<Option<(MemberKey, Option<Standing>)>, PlanError> {
        let peeked = self.late.as_mut().and_then(|late| late.peeked.take());
        let known = match peeked {
            Some(known) => known,
            None => self.advance_record()?,
        };
        match &mut self.late {
            Some(late) => Ok(late.merge(known)?),
            None => Ok(known.map(|(key, standing)| (key, Some(standing)))),
        }
    }

    fn is_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.is_removed)
    }

    fn ahead(&self) -> &[MemberKey] {
        let ahead = self.cursor.ahead();
        let is_again = |key: &MemberKey| self.again.contains(key);
        let count = if self.again.is_empty() { None } else { ahead.iter().position(is_again) };
        let ahead = &ahead[..count.unwrap_or(ahead.len())];
        let late = self.late.as_ref().and_then(Late::next);
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
