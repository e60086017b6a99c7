//! Reverse look-up in the identity map: the devices, aliases and Braze ids of users with known external ids.
//!
//! The map is sorted by the hash of a device or an alias, so a reverse look-up reads all of it, once for many users.

use std::collections::BTreeMap;

use super::known::{IdentityKey, KnownIdentity, MapKey};
use super::map_part::MapPart;
use super::merge::MapMerge;
use super::newest;
use crate::model::{Identifier, KeySeed};
use crate::state::immutable_file::ImmutableFile;
use crate::state::store::Store;
use crate::state::{StateError, StateReader};

/// The devices, aliases and Braze ids of some users in the identity map. It knows their hashes only.
#[derive(Clone, Debug)]
pub struct KnownHandles {
    /// The index of the user that each belongs to.
    users: BTreeMap<MapKey, usize>,
    seed: KeySeed,
}

impl KnownHandles {
    /// Whether an identifier is one of them.
    #[must_use]
    pub fn contains(&self, identifier: &Identifier<'_>) -> bool {
        self.user_of(identifier).is_some()
    }

    /// Returns the index of the user that an identifier belongs to.
    #[must_use]
    pub fn user_of(&self, identifier: &Identifier<'_>) -> Option<usize> {
        if self.users.is_empty() {
            return None;
        }
        let handle = IdentityKey::of_member(identifier)?;
        self.users.get(&handle.key(self.seed)).copied()
    }

    /// How many belong to each user, by the index of the user.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<usize, u64> {
        let mut counts = BTreeMap::new();
        self.users.values().for_each(|user| *counts.entry(*user).or_default() += 1);
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
            KnownIdentity::Owner(owner, ..) => by_id.get(&**owner).copied(),
            _ => None,
        };
        collect(&opened(&self.store, &version.parts)?, &mut users, |known, _| owner(known))?;
        for source in &version.sources {
            let owners = opened(&self.store, &source.users)?;
            let joins = opened(&self.store, &source.joins)?;
            collect(&owners, &mut users, |known, _| owner(known))?;
            let label = &source.name.label;
            let joined = |known: &KnownIdentity, users: &BTreeMap<MapKey, usize>| match known {
                KnownIdentity::Merged(into) => {
                    users.get(&IdentityKey::Alias { label, name: into }.key(seed)).copied()
                }
                _ => None,
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

/// Adds the keys of the entries with a user. Returns whether one was new.
fn collect(
    parts: &[MapPart],
    users: &mut BTreeMap<MapKey, usize>,
    user: impl Fn(&KnownIdentity, &BTreeMap<MapKey, usize>) -> Option<usize>,
) -> Result<bool, StateError> {
    let (mut all, before) = (MapMerge::new(parts)?, users.len());
    while let Some((key, known)) = all.advance()? {
        if let Some(user) = user(&known, users) {
            users.insert(key, user);
        }
    }
    Ok(users.len() > before)
}
