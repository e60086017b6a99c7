//! Cursor over the members of a segment: merges the sorted parts of its base and large syncs with its changes.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::super::{MembershipCursor, StateError};
use super::changes::SegmentChange;
use crate::model::{ChangeOp, MemberKey, MemberStanding};

/// A cursor over the members of a segment.
#[derive(Debug)]
pub struct SegmentCursor {
    parts: MembershipCursor,
    /// For each part the time that it was signed for, and its sync's arrival number.
    signed: Vec<(i64, u64)>,
    /// The last change of each user.
    changes: Peekable<IntoIter<SegmentChange>>,
    /// The next entry of the parts.
    ahead: Option<RunEntry>,
    is_started: bool,
    /// The packed identifier of the current member.
    packed: Vec<u8>,
}

/// A user's entry in the parts.
#[derive(Clone, Copy, Debug)]
struct RunEntry {
    key: MemberKey,
    signed: (i64, u64),
    is_in: bool,
}

impl RunEntry {
    /// Whether it takes precedence over a change of the same user. Within one sync, a removal does.
    fn is_after(&self, change: &SegmentChange) -> bool {
        let other = (change.signed, change.order);
        self.signed > other || (!self.is_in && self.signed == other)
    }
}

impl SegmentCursor {
    /// Merges `parts`, signed for the times in `signed`, with the last change of each user.
    pub(super) fn new(parts: MembershipCursor, signed: Vec<(i64, u64)>, changes: Vec<SegmentChange>) -> Self {
        let changes = changes.into_iter().peekable();
        Self { parts, signed, changes, ahead: None, is_started: false, packed: Vec::new() }
    }

    /// Advances to the next member.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn advance(&mut self) -> Result<Option<(MemberKey, MemberStanding)>, StateError> {
        if !self.is_started {
            self.is_started = true;
            self.next_of_parts()?;
        }
        loop {
            let (key, is_in) = match (self.ahead, self.changes.peek()) {
                (None, None) => return Ok(None),
                (Some(entry), change) if change.is_none_or(|change| entry.key < change.key) => {
                    (entry.key, self.take_part(entry)?)
                }
                (Some(entry), Some(change)) if entry.key == change.key && entry.is_after(change) => {
                    self.changes.next();
                    (entry.key, self.take_part(entry)?)
                }
                (entry, change) => {
                    let key = change.map_or(MemberKey(0), |change| change.key);
                    if entry.is_some_and(|entry| entry.key == key) {
                        self.next_of_parts()?;
                    }
                    (key, self.take_change())
                }
            };
            if is_in {
                return Ok(Some((key, MemberStanding::Member)));
            }
        }
    }

    /// The packed identifier of the current member.
    #[must_use]
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    fn take_change(&mut self) -> bool {
        let Some(change) = self.changes.next() else { return false };
        self.packed.clear();
        self.packed.extend_from_slice(&change.packed);
        change.op == ChangeOp::Add
    }

    /// Consumes the entry of the parts. Its identifier is read only if the user is a member.
    fn take_part(&mut self, entry: RunEntry) -> Result<bool, StateError> {
        if entry.is_in {
            let packed = self.parts.packed()?;
            self.packed.clear();
            self.packed.extend_from_slice(packed);
        }
        self.next_of_parts()?;
        Ok(entry.is_in)
    }

    fn next_of_parts(&mut self) -> Result<(), StateError> {
        self.ahead = self.parts.advance_any()?.map(|(key, standing)| {
            let of_part = self.parts.part().and_then(|part| self.signed.get(part)).copied();
            RunEntry { key, signed: of_part.unwrap_or((i64::MIN, 0)), is_in: standing.is_some() }
        });
        Ok(())
    }
}
