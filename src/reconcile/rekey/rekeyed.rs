//! Finds the removals that only re-key a member: its owner replaces a device or an alias.

use crate::model::{KeySeed, MemberKey};
use crate::reconcile::plan_error::PlanError;
use crate::source::{DesiredError, SortedMembers, SortedSet};

/// Devices and aliases that the source lists by the ids of their owners, in the order of their keys.
pub(in crate::reconcile) struct RekeyedMembers {
    members: SortedMembers,
    next: Option<MemberKey>,
    seed: KeySeed,
}

impl RekeyedMembers {
    pub(in crate::reconcile) fn new(set: SortedSet, seed: KeySeed) -> Self {
        Self { members: set.into_members(), next: Some(MemberKey::from_halves(0, 0)), seed }
    }

    /// Whether this identifier is re-keyed. Calls must come in ascending order of the keys.
    pub(in crate::reconcile) fn contains(&mut self, packed: &[u8]) -> Result<bool, PlanError> {
        let key = MemberKey::of(self.seed, packed);
        while self.next.is_some_and(|next| next < key) {
            self.next = self.members.advance().map_err(DesiredError::Scratch)?;
        }
        Ok(self.next == Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Identifier, IdentifierKind};

    fn packed(device: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        Identifier { kind: IdentifierKind::DeviceId, label: "", value: device }.pack_into(&mut packed);
        packed
    }

    #[test]
    fn only_listed_identifiers_are_rekeyed() {
        let seed = KeySeed(7);
        let mut set = SortedSet::new(seed, 1 << 20);
        ["b", "d"].iter().for_each(|device| set.push(&packed(device)).unwrap());
        let mut rekeyed = RekeyedMembers::new(set, seed);
        let mut asked: Vec<&str> = vec!["a", "b", "c", "d", "e"];
        asked.sort_by_key(|device| MemberKey::of(seed, &packed(device)));
        let mut found: Vec<&str> =
            asked.into_iter().filter(|device| rekeyed.contains(&packed(device)).unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, ["b", "d"]);
    }
}
