//! Which removals only make room for another name: a device or an alias whose owner is the member now.

use super::plan_error::PlanError;
use crate::model::{KeySeed, MemberKey};
use crate::source::{DesiredError, SortedMembers, SortedSet};

/// Devices and aliases whose owners are the members now.
pub(super) struct RekeyedMembers {
    members: SortedMembers,
    next: Option<MemberKey>,
    seed: KeySeed,
}

impl RekeyedMembers {
    pub(super) fn new(set: SortedSet, seed: KeySeed) -> Self {
        Self { members: set.into_members(), next: Some(MemberKey::from_halves(0, 0)), seed }
    }

    /// Whether one of them is this. They are asked for in ascending order of their keys.
    pub(super) fn has(&mut self, packed: &[u8]) -> Result<bool, PlanError> {
        let key = MemberKey::of(self.seed, packed);
        while self.next.is_some_and(|next| next < key) {
            self.next = self.members.advance().map_err(DesiredError::Scratch)?;
        }
        Ok(self.next == Some(key))
    }
}
