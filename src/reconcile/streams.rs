//! What a diff walks over, as the planner knows it: desired members and the record.

use std::collections::BTreeSet;

use super::PlanError;
use crate::desired::{DesiredError, Members, Spelled};
use crate::model::{Key, Kind, Standing};
use crate::plan;
use crate::state::{RecordCursor, Spool};

/// Who should be there; perhaps nobody.
pub(super) struct Wanted<'a>(pub(super) Option<(&'a mut Members, &'a mut Spelled)>);

impl plan::Desired for Wanted<'_> {
    type Error = PlanError;

    fn advance(&mut self) -> Result<Option<Key>, PlanError> {
        match &mut self.0 {
            Some((members, spelled)) => {
                let key = members.advance().map_err(DesiredError::Scratch)?;
                spelled.pass(key.as_slice());
                Ok(key)
            }
            None => Ok(None),
        }
    }

    fn pass(&mut self, keys: &[Key]) -> usize {
        let Some((members, spelled)) = &mut self.0 else { return 0 };
        let count = members.pass(keys);
        spelled.pass(&keys[..count]);
        count
    }

    fn packed(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |(members, _)| members.packed())
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
