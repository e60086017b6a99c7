//! Reverse look-up in the identity map: the devices, aliases and Braze ids of users with known external ids.
//!
//! The map is sorted by the hash of a device or an alias, so a reverse look-up reads all of it, once for many users.

use std::collections::{BTreeMap, BTreeSet};

use super::known::{IdentityKey, KnownIdentity, MapKey};
use super::map_part::MapPart;
use super::merge::MapMerge;
use super::newest;
use crate::model::{Identifier, KeySeed};
use crate::state::immutable_file::ImmutableFile;
use crate::state::store::Store;
use crate::state::{StateError, StateReader};

/// Keys, each with the indexes of the users that any entry of the map assigns it to.
type UsersByKey = BTreeMap<MapKey, BTreeSet<usize>>;

/// The devices, aliases and Braze ids of some users in the identity map. It knows their hashes only.
#[derive(Clone, Debug)]
pub struct KnownHandles {
    /// Entries of the map may name several owners of a key. The newest evidence decides, and it is not known here.
    users: UsersByKey,
    seed: KeySeed,
}

impl KnownHandles {
    /// Whether an identifier is one of them. Newer evidence may name another owner.
    #[must_use]
    pub fn contains(&self, identifier: &Identifier<'_>) -> bool {
        !self.users.is_empty()
            && IdentityKey::of_member(identifier)
                .is_some_and(|handle| self.users.contains_key(&handle.key(self.seed)))
    }

    /// How many belong to each user, by the index of the user.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<usize, u64> {
        let mut counts = BTreeMap::new();
        self.users.values().flatten().for_each(|user| *counts.entry(*user).or_default() += 1);
        counts
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl StateReader {
    /// Returns what the identity map assigns to the users with these external ids, including aliases merged into theirs.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn handles_of(&self, ids: &[&str]) -> Result<KnownHandles, StateError> {
        let (version, seed, mut users) = (newest(self)?, self.seed(), BTreeMap::new());
        let by_id: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let owner = |known: &KnownIdentity| match known {
            KnownIdentity::Owner(owner, ..) => by_id.get(&**owner).copied().into_iter().collect(),
            _ => BTreeSet::new(),
        };
        collect(&opened(&self.store, &version.parts)?, &mut users, |known, _| owner(known))?;
        for source in &version.sources {
            let owners = opened(&self.store, &source.users)?;
            let joins = opened(&self.store, &source.joins)?;
            collect(&owners, &mut users, |known, _| owner(known))?;
            let label = &source.name.label;
            let joined = |known: &KnownIdentity, users: &UsersByKey| match known {
                KnownIdentity::Merged(into) => {
                    let alias = IdentityKey::Alias { label, name: into };
                    users.get(&alias.key(seed)).cloned().unwrap_or_default()
                }
                _ => BTreeSet::new(),
            };
            // Merges may be chained, so this repeats until no alias is added.
            while !users.is_empty() && collect(&joins, &mut users, joined)? {}
        }
        Ok(KnownHandles { users, seed })
    }
}

fn opened(store: &Store, files: &[ImmutableFile]) -> Result<Vec<MapPart>, StateError> {
    files.iter().map(|file| MapPart::open(store, file)).collect()
}

/// Adds the users of each entry to its key. Returns whether one was new.
fn collect(
    parts: &[MapPart],
    users: &mut UsersByKey,
    users_of: impl Fn(&KnownIdentity, &UsersByKey) -> BTreeSet<usize>,
) -> Result<bool, StateError> {
    let (mut all, mut is_changed) = (MapMerge::new(parts)?, false);
    while let Some((key, known)) = all.advance()? {
        let found = users_of(&known, users);
        if !found.is_empty() {
            let before = users.entry(key).or_default();
            let len = before.len();
            before.extend(found);
            is_changed |= before.len() > len;
        }
    }
    Ok(is_changed)
}
