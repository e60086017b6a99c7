//! Shrinking the identity map: merging parts, and removing users who were deleted or must be erased.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use super::known::{IdentityKey, IdentityKeyKind, KnownIdentity, MapKey};
use super::learn::{IdentityMap, PARTS_MAX};
use super::map_part::MapPart;
use super::merge::merged;
use super::source_state::SourceState;
use crate::state::{KnownHandles, StateError};

/// All parts are merged once the small ones hold at least 1/SHARE of the entries of the largest.
pub(super) const SHARE: u64 = 4;

impl IdentityMap {
    /// Returns the devices and aliases of the user with this id, including aliases merged into theirs.
    ///
    /// # Errors
    /// When a part cannot be read or is damaged.
    pub fn handles_of(&mut self, id: &str) -> Result<KnownHandles, StateError> {
        self.commit()?;
        self.state.reader().handles_of(&[id])
    }

    /// Commits new entries, removes deleted users, and merges parts when there are many.
    ///
    /// # Errors
    /// As [`IdentityMap::commit`].
    pub fn settle(&mut self) -> Result<(), StateError> {
        if !self.has_deletions && self.parts.len() < PARTS_MAX {
            return self.commit();
        }
        self.write()?;
        if !self.has_deletions {
            return self.merge_small().and_then(|()| self.put());
        }
        let (deleted_owners, deleted, seed) =
            (self.deleted_owners.clone(), self.deleted.clone(), self.seed());
        let keeps = |_: MapKey, known: &KnownIdentity| match known {
            KnownIdentity::Owner(owner, ..) => !deleted_owners.contains(owner),
            KnownIdentity::Merged(into) => !deleted.contains(&IdentityKey::BrazeId(into).key(seed)),
            KnownIdentity::Gone => true,
        };
        self.merge_all(&keeps)?;
        self.keep_in_sources(
            &|_, _, known| !matches!(known, KnownIdentity::Owner(owner, ..) if deleted_owners.contains(owner)),
        )?;
        self.put()?;
        self.deleted_owners.clear();
        self.has_deletions = false;
        self.recent.clear();
        Ok(())
    }

    /// Merges the small parts, or all parts if the small ones have grown to a share of the largest, which is first.
    pub(super) fn merge_small(&mut self) -> Result<(), StateError> {
        let large = self.files.first().map_or(0, |file| file.rows);
        let small: u64 = self.files.iter().skip(1).map(|file| file.rows).sum();
        let from = usize::from(small < large / SHARE);
        self.merge_from(from, &|_, _| true).map(drop)
    }

    /// Erases all entries of the user with this id, of any kind. Returns how many entries were erased.
    ///
    /// # Errors
    /// As [`IdentityMap::commit`].
    pub fn erase(&mut self, id: &str) -> Result<u64, StateError> {
        self.write()?;
        if self.files.is_empty() && self.sources.is_empty() {
            return Ok(0);
        }
        let keys = [IdentityKeyKind::BrazeId, IdentityKeyKind::DeviceId].map(|kind| self.key(kind, id));
        // Users merged into this one are erased as well, because their entry contains the id.
        let (theirs, seed) = (RefCell::new(BTreeSet::from(keys)), self.seed());
        self.merge_all(&|key, known| {
            if matches!(known, KnownIdentity::Owner(owner, ..) if **owner == *id) {
                theirs.borrow_mut().insert(key);
            }
            true
        })?;
        let theirs = theirs.into_inner();
        let keeps = |key: MapKey, known: &KnownIdentity| match known {
            _ if keys.contains(&key) => false,
            KnownIdentity::Owner(text, ..) => **text != *id,
            KnownIdentity::Merged(into) => !theirs.contains(&IdentityKey::BrazeId(into).key(seed)),
            KnownIdentity::Gone => true,
        };
        // The parts are rewritten even if nothing was erased, because superseded parts may contain the user.
        let erased = self.merge_all(&keeps)? + self.erase_in_sources(id)?;
        self.put()?;
        self.recent.clear();
        Ok(erased)
    }

    /// The ids of all parts of the map.
    pub(in crate::state) fn part_ids(&self) -> Vec<Box<str>> {
        let source = self.sources.iter().flat_map(SourceState::files);
        self.files.iter().chain(source).map(|file| file.id.clone()).collect()
    }

    /// Merges all parts into one. Returns how many entries were dropped.
    fn merge_all(&mut self, keeps: &dyn Fn(MapKey, &KnownIdentity) -> bool) -> Result<u64, StateError> {
        self.merge_from(0, keeps)
    }

    /// Merges the parts from index `from` on. Returns how many entries were dropped.
    fn merge_from(
        &mut self,
        from: usize,
        keeps: &dyn Fn(MapKey, &KnownIdentity) -> bool,
    ) -> Result<u64, StateError> {
        let store = &self.state.reader().store;
        let (file, erased) = merged(store, &self.parts[from..], keeps)?;
        let part = file.as_ref().map(|file| MapPart::open(store, file)).transpose()?;
        self.parts.truncate(from);
        self.files.truncate(from);
        self.parts.extend(part);
        self.files.extend(file);
        self.cached.clear();
        Ok(erased)
    }

    /// Erases the user with this id from the source tables, and aliases merged into theirs.
    fn erase_in_sources(&mut self, id: &str) -> Result<u64, StateError> {
        let (theirs, seed) = (RefCell::new(BTreeSet::new()), self.seed());
        let is_theirs = |label: &str, into: &str| {
            theirs.borrow().contains(&IdentityKey::Alias { label, name: into }.key(seed))
        };
        // The owners of each source are visited before its merges.
        self.keep_in_sources(&|label, key, known| match known {
            KnownIdentity::Owner(owner, ..) if **owner == *id => !theirs.borrow_mut().insert(key),
            KnownIdentity::Merged(into) => !is_theirs(label, into),
            _ => true,
        })
    }

    /// Rewrites the source tables with the entries to keep. Returns how many entries were dropped.
    fn keep_in_sources(
        &mut self,
        keeps: &dyn Fn(&str, MapKey, &KnownIdentity) -> bool,
    ) -> Result<u64, StateError> {
        let store = &self.state.reader().store;
        let erased = Cell::new(0);
        for source in &mut self.sources {
            let label = &source.name.label;
            for files in [&mut source.users, &mut source.joins] {
                let parts: Vec<MapPart> =
                    files.iter().map(|file| MapPart::open(store, file)).collect::<Result<_, _>>()?;
                let keeps = |key: MapKey, known: &KnownIdentity| {
                    let is_kept = keeps(label, key, known);
                    erased.set(erased.get() + u64::from(!is_kept));
                    is_kept && *known != KnownIdentity::Gone
                };
                *files = merged(store, &parts, &keeps)?.0.into_iter().collect();
            }
        }
        self.open_sources()?;
        Ok(erased.get())
    }
}
