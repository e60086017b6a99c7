//! What a diff walks over, as the planner knows it: desired members and the record.

use std::collections::BTreeSet;

use super::PlanError;
use crate::desired::{DesiredError, Members, Overlay, Spelled};
use crate::model::{Key, Kind, Standing};
use crate::plan;
use crate::state::{RecordCursor, Spool};

/// Who should be there.
pub(super) enum Wanted {
    Nobody,
    /// Everybody whom the source names.
    All(Box<All>),
    /// The record's members, and what differs.
    Overlay(Box<Overlay>),
}

/// Members, and a look at how they are written.
pub(super) struct All {
    pub(super) members: Members,
    pub(super) spelled: Spelled,
}

impl Wanted {
    /// How many rows name somebody whom another row has named, once the walk is over. So many `rows` the source has, and
    /// so many of them are rejected.
    pub(super) fn duplicates(&self, rows: u64, rejected: u64) -> u64 {
        match self {
            Self::Nobody => 0,
            Self::All(all) => all.members.duplicates(),
            Self::Overlay(members) => rows.saturating_sub(rejected + members.walked()),
        }
    }
}

impl plan::Desired for Wanted {
    type Error = PlanError;

    #[inline]
    fn advance(&mut self) -> Result<Option<Key>, PlanError> {
        match self {
            Self::Nobody => Ok(None),
            Self::All(all) => {
                let key = all.members.advance().map_err(DesiredError::Scratch)?;
                all.spelled.pass(key.as_slice());
                Ok(key)
            }
            Self::Overlay(members) => Ok(members.advance()?),
        }
    }

    #[inline]
    fn pass(&mut self, keys: &[Key]) -> usize {
        match self {
            Self::Nobody => 0,
            Self::All(all) => {
                let count = all.members.pass(keys);
                all.spelled.pass(&keys[..count]);
                count
            }
            Self::Overlay(members) => members.pass(keys),
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
pub(super) struct Known {
    pub(super) cursor: RecordCursor,
    pub(super) forget_refused: bool,
    /// Members whom Braze did not know when they were sent, and knows now: in or out, nobody can tell.
    pub(super) again: BTreeSet<Key>,
    /// Takes note of devices that Braze was told to let go.
    pub(super) let_go: Option<Spool>,
}

impl Known {
    #[cold]
    fn note(&mut self) -> Result<(), PlanError> {
        let Some(let_go) = &mut self.let_go else { return Ok(()) };
        let packed = self.cursor.packed()?;
        if packed.first().copied().and_then(Kind::from_byte) == Some(Kind::DeviceId) {
            let_go.push(packed)?;
        }
        Ok(())
    }
}

impl plan::Record for Known {
    type Error = PlanError;

    fn advance(&mut self) -> Result<Option<(Key, Standing)>, PlanError> {
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

    fn ahead(&self) -> &[Key] {
        let ahead = self.cursor.ahead();
        let is_again = |key: &Key| self.again.contains(key);
        let count = if self.again.is_empty() { None } else { ahead.iter().position(is_again) };
        &ahead[..count.unwrap_or(ahead.len())]
    }

    fn skip(&mut self, count: usize) {
        self.cursor.skip(count);
    }

    fn packed(&mut self) -> Result<&[u8], PlanError> {
        Ok(self.cursor.packed()?)
    }
}
