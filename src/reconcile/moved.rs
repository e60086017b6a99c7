//! Which removals only make room for another name: a device or an alias whose owner is the member now.

use super::failed::PlanError;
use crate::desired::{DesiredError, Members, SortedSet};
use crate::model::{Key, KeySeed};

/// Devices and aliases whose owners are the members now.
pub(super) struct Moved {
    members: Members,
    next: Option<Key>,
    seed: KeySeed,
}

impl Moved {
    pub(super) fn new(set: SortedSet, seed: KeySeed) -> Self {
        Self { members: set.into_members(), next: Some(Key::from_halves(0, 0)), seed }
    }

    /// Whether one of them is this. They are asked for in ascending order of their keys.
    pub(super) fn has(&mut self, packed: &[u8]) -> Result<bool, PlanError> {
        let key = Key::of(self.seed, packed);
        while self.next.is_some_and(|next| next < key) {
            self.next = self.members.advance().map_err(DesiredError::Scratch)?;
        }
        Ok(self.next == Some(key))
    }
}
