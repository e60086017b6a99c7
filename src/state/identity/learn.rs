//! The identity map for writing: parts on disk, pending entries in memory, and caches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::by_key::ByKey;
use super::known::{IdentityKey, IdentityKeyKind, KnownIdentity, MapKey};
use super::map_part::{MapPart, MapWriter};
use super::source_state::SourceState;
use super::{ENTRY, MapVersion, newest};
use crate::model::{ExportId, KeySeed, Timestamp};
use crate::state::immutable_file::ImmutableFile;
use crate::state::versioned_json::Retention;
use crate::state::{StateError, StateWriter};

/// How many pending entries are gathered before they are written.
const PENDING_MAX: usize = 150_000;
/// How many lookups each cache remembers.
const RECENT_MAX: usize = 100_000;
/// How many parts may exist before they are merged.
pub(super) const PARTS_MAX: usize = 8;
/// More merges than this in a chain are a cycle.
const HOPS_MAX: usize = 8;
/// Maximum length of an entry's text.
pub(super) const TEXT_LEN_MAX: usize = u16::MAX as usize;

/// The identity map, to query and to update. Only the process with the lease has one.
pub struct IdentityMap {
    pub(super) state: Arc<StateWriter>,
    number: u64,
    conflicts: u64,
    pub(super) files: Vec<ImmutableFile>,
    pub(super) parts: Vec<MapPart>,
    /// State of the sources that are imported as a whole.
    pub(super) sources: Vec<SourceState>,
    /// For each source, the parts of its table of owners.
    pub(super) users: Vec<Vec<MapPart>>,
    pending: ByKey<KnownIdentity>,
    /// Counts updates.
    updates: u64,
    /// The value of `learned` when each export last checked it.
    checked: BTreeMap<ExportId, u64>,
    /// Hashes of entries that are known to be in the map, to skip repeated updates.
    pub(super) recent: ByKey<u64>,
    /// Cached lookups in the parts.
    pub(super) cached: ByKey<Option<KnownIdentity>>,
    /// External ids of deleted users. Their entries must be removed.
    pub(super) deleted_owners: BTreeSet<Box<str>>,
    /// Whether a user was deleted since the parts were last merged.
    pub(super) has_deletions: bool,
    /// Keys of the Braze ids that were deleted while this map was open.
    pub(super) deleted: BTreeSet<MapKey>,
}

impl IdentityMap {
    /// Opens the identity map of a state.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn open(state: &Arc<StateWriter>) -> Result<Self, StateError> {
        let store = &state.reader().store;
        let MapVersion { number, conflicts, parts: files, sources } = newest(state.reader())?;
        let parts = files.iter().map(|file| MapPart::open(store, file)).collect::<Result<_, _>>()?;
        let mut map = Self {
            state: Arc::clone(state),
            number,
            conflicts,
            files,
            parts,
            sources,
            users: Vec::new(),
            pending: ByKey::default(),
            updates: 0,
            checked: BTreeMap::new(),
            recent: ByKey::default(),
            cached: ByKey::default(),
            deleted_owners: BTreeSet::new(),
            has_deletions: false,
            deleted: BTreeSet::new(),
        };
        map.open_sources()?;
        Ok(map)
    }

    pub(super) fn seed(&self) -> KeySeed {
        self.state.reader().seed()
    }

    pub(super) fn key(&self, kind: IdentityKeyKind, value: &str) -> MapKey {
        IdentityKey::of(kind, value).key(self.seed())
    }

    /// Records that a device, alias or Braze id belongs to the user with external id `owner`, as observed at `seen`.
    /// Older evidence than an existing one for another owner changes nothing.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn link(&mut self, handle: IdentityKey<'_>, owner: &str, seen: Timestamp) -> Result<(), StateError> {
        let key = handle.key(self.seed());
        self.record(key, (owner.len() <= TEXT_LEN_MAX).then(|| KnownIdentity::owner(owner, seen)))
    }

    /// Records that one alias was merged into another one with the same label.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn join(&mut self, label: &str, from: &str, into: &str) -> Result<(), StateError> {
        let key = IdentityKey::Alias { label, name: from }.key(self.seed());
        self.record(
            key,
            (into.len() <= TEXT_LEN_MAX && from != into).then(|| KnownIdentity::Merged(into.into())),
        )
    }

    /// Records that Braze merged one user into another.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge(&mut self, from: &str, into: &str) -> Result<(), StateError> {
        let key = self.key(IdentityKeyKind::BrazeId, from);
        self.record(
            key,
            (into.len() <= TEXT_LEN_MAX && from != into).then(|| KnownIdentity::Merged(into.into())),
        )
    }

    /// Records that a user was deleted: all entries that lead to the user must be removed.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn delete(&mut self, user_id: &str) -> Result<(), StateError> {
        if let Some(owner) = self.owner(user_id, "")? {
            self.deleted_owners.insert(owner.into());
        }
        let key = self.key(IdentityKeyKind::BrazeId, user_id);
        self.has_deletions |= self.deleted.insert(key);
        self.record(key, Some(KnownIdentity::Gone))
    }

    /// Whether this user was deleted while this map was open.
    #[must_use]
    pub fn is_deleted(&self, user_id: &str) -> bool {
        !self.deleted.is_empty() && self.deleted.contains(&self.key(IdentityKeyKind::BrazeId, user_id))
    }

    /// Whether the user with this external id or Braze id is being removed.
    #[must_use]
    pub fn is_being_deleted(&self, who: &str) -> bool {
        self.has_deletions && (self.deleted_owners.contains(who) || self.is_deleted(who))
    }

    fn record(&mut self, key: MapKey, known: Option<KnownIdentity>) -> Result<(), StateError> {
        let Some(mut known) = known else { return Ok(()) };
        let (kind, _, text) = known.parts();
        let print = xxh3_64(text.as_bytes()).wrapping_add(u64::from(kind));
        if self.recent.get(&key) == Some(&print) {
            return Ok(());
        }
        if let Some(before) = self.known(key)? {
            let is_contested = known.contradicts(&before);
            self.conflicts += u64::from(is_contested);
            if known.is_superseded_by(&before) {
                if !is_contested {
                    self.remember(key, print);
                    return Ok(());
                }
                if before.is_contested() {
                    return Ok(());
                }
                // The owner stays, and the entry becomes contested.
                known = before.contested();
            } else if is_contested || before.is_contested() {
                known = known.contested();
            }
        }
        self.recent.remove(&key);
        self.pending.insert(key, known);
        self.updates += 1;
        if self.pending.len() >= PENDING_MAX { self.write() } else { Ok(()) }
    }

    /// Remembers that this entry is in the map, so that it need not be looked up again.
    fn remember(&mut self, key: MapKey, print: u64) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.clear();
        }
        self.recent.insert(key, print);
    }

    pub(super) fn count_update(&mut self) {
        self.updates += 1;
    }

    /// Whether the map was updated since the last call for the same export.
    pub fn has_updates_for(&mut self, export: &ExportId) -> bool {
        self.checked.insert(export.clone(), self.updates) != Some(self.updates)
    }

    fn in_parts(&mut self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        if self.parts.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.cached.get(&key) {
            return Ok(known.clone());
        }
        let mut found = None;
        for part in self.parts.iter().rev() {
            found = part.get(key)?;
            if found.is_some() {
                break;
            }
        }
        if self.cached.len() >= RECENT_MAX {
            self.cached.clear();
        }
        self.cached.insert(key, found.clone());
        Ok(found)
    }

    fn known(&mut self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        match self.pending.get(&key) {
            Some(known) => Ok(Some(known.clone())),
            None => self.in_parts(key),
        }
    }

    /// How often a key was observed with another owner than before.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Returns the external id of the user with this Braze id or device. An empty id is ignored.
    ///
    /// # Errors
    /// When a part cannot be read.
    pub fn owner(&mut self, user_id: &str, device_id: &str) -> Result<Option<String>, StateError> {
        for (kind, value) in [(IdentityKeyKind::BrazeId, user_id), (IdentityKeyKind::DeviceId, device_id)] {
            if value.is_empty() {
                continue;
            }
            let mut key = self.key(kind, value);
            for _ in 0..HOPS_MAX {
                let known = match (self.known(key)?, self.in_sources(key)?) {
                    (Some(known), Some(imported)) => {
                        Some(if imported.overrides(&known) { imported } else { known })
                    }
                    (known, imported) => known.or(imported),
                };
                match known {
                    Some(KnownIdentity::Owner(owner, ..)) if !self.deleted_owners.contains(&owner) => {
                        return Ok(Some(owner.into()));
                    }
                    Some(KnownIdentity::Merged(into)) => key = self.key(IdentityKeyKind::BrazeId, &into),
                    Some(KnownIdentity::Owner(..) | KnownIdentity::Gone) | None => break,
                }
            }
        }
        Ok(None)
    }

    /// Writes pending entries as a part. No version names it before [`IdentityMap::commit`].
    pub(super) fn write(&mut self) -> Result<(), StateError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let store = &self.state.reader().store;
        let mut writer = MapWriter::create(store, self.pending.len() as u64)?;
        let mut entries: Vec<(&MapKey, &KnownIdentity)> = self.pending.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| **key);
        for (key, known) in entries {
            writer.push(*key, known)?;
        }
        let file = writer.finish()?;
        self.parts.push(MapPart::open(store, &file)?);
        self.files.push(file);
        self.pending.clear();
        self.cached.clear();
        if self.parts.len() > 2 * PARTS_MAX { self.merge_small() } else { Ok(()) }
    }

    /// Commits the pending entries.
    ///
    /// # Errors
    /// When the write fails, or another process holds the state.
    pub fn commit(&mut self) -> Result<(), StateError> {
        let before = self.files.clone();
        self.write()?;
        if self.files == before && self.is_committed()? { Ok(()) } else { self.put() }
    }

    fn is_committed(&self) -> Result<bool, StateError> {
        newest(self.state.reader()).map(|map| map.parts == self.files && map.sources == self.sources)
    }

    pub(super) fn put(&mut self) -> Result<(), StateError> {
        let version = MapVersion {
            number: self.number + 1,
            conflicts: self.conflicts,
            parts: self.files.clone(),
            sources: self.sources.clone(),
        };
        self.state.commit_entry(ENTRY, version.number, &version, Retention::All)?;
        self.number += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clock, Timestamp};
    use crate::state::{Holder, Location};

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn state(home: &tempfile::TempDir) -> Arc<StateWriter> {
        let holder = Holder { host: "h".to_owned(), process: 1, since: now(), renewal: None };
        let location = Location::Folder(home.path().to_owned());
        Arc::new(StateWriter::open(&location, &holder, Clock::new(now), 7).unwrap())
    }

    #[test]
    fn links_and_merges_are_durable_and_deleted_users_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let mut map = IdentityMap::open(&state).unwrap();
        map.link(IdentityKey::BrazeId("b1"), "u1", now()).unwrap();
        map.link(IdentityKey::DeviceId("d1"), "u1", now()).unwrap();
        map.merge("b0", "b1").unwrap();
        map.link(IdentityKey::DeviceId("d2"), "u1", now()).unwrap();
        map.link(IdentityKey::DeviceId("d2"), "u2", now()).unwrap();
        assert_eq!(map.owner("b0", "").unwrap().as_deref(), Some("u1"), "before the commit");
        map.commit().unwrap();
        map.commit().unwrap();
        assert_eq!(map.number, 1, "an unchanged map is not committed again");
        let mut map = IdentityMap::open(&state).unwrap();
        for (user_id, device_id, owner) in [
            ("b1", "", Some("u1")),
            ("b0", "", Some("u1")),
            ("", "d1", Some("u1")),
            ("b9", "d2", Some("u2")),
            ("d1", "b1", None),
        ] {
            assert_eq!(map.owner(user_id, device_id).unwrap().as_deref(), owner, "{user_id} {device_id}");
        }
        map.delete("b0").unwrap();
        assert_eq!(map.owner("", "d1").unwrap(), None, "immediately");
        assert!(map.is_deleted("b0") && !map.is_deleted("b1"));
        map.settle().unwrap();
        let mut map = IdentityMap::open(&state).unwrap();
        assert_eq!((map.owner("b1", "d1").unwrap(), map.owner("b0", "").unwrap()), (None, None));
        assert_eq!(map.owner("", "d2").unwrap().as_deref(), Some("u2"));
        assert_eq!(map.erase("u2").unwrap(), 1);
        assert_eq!(map.owner("", "d2").unwrap(), None);
        map.link(IdentityKey::BrazeId("b5"), "u5", now()).unwrap();
        map.merge("b4", "b5").unwrap();
        assert_eq!(map.erase("u5").unwrap(), 2, "including the user merged into it");
    }

    #[test]
    fn many_parts_answer_as_one() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let mut map = IdentityMap::open(&state).unwrap();
        for round in 0..20 {
            for n in 0..500 {
                let owner = format!("u{}", (n + round) % 500);
                map.link(IdentityKey::BrazeId(&format!("b{n}")), &owner, now()).unwrap();
            }
            map.settle().unwrap();
        }
        assert!(map.parts.len() <= PARTS_MAX);
        let mut map = IdentityMap::open(&state).unwrap();
        for n in 0..500 {
            let owner = map.owner(&format!("b{n}"), "").unwrap();
            assert_eq!(owner, Some(format!("u{}", (n + 19) % 500)));
        }
        assert_eq!(map.owner("b500", "").unwrap(), None);
    }

    #[test]
    fn a_large_part_is_not_rewritten_for_a_few_entries() {
        let home = tempfile::tempdir().unwrap();
        let mut map = IdentityMap::open(&state(&home)).unwrap();
        for n in 0..2_000 {
            map.link(IdentityKey::BrazeId(&format!("b{n}")), "u1", now()).unwrap();
        }
        map.settle().unwrap();
        let first = map.part_ids()[0].clone();
        for n in 0..30 {
            map.link(IdentityKey::BrazeId(&format!("b{n}")), "u2", now()).unwrap();
            map.settle().unwrap();
            assert!(map.parts.len() <= PARTS_MAX && map.part_ids()[0] == first);
        }
        for n in 0..40 {
            let owner = map.owner(&format!("b{n}"), "").unwrap();
            assert_eq!(owner.as_deref(), Some(if n < 30 { "u2" } else { "u1" }), "{n}");
        }
        for n in 2_000..3_000 {
            map.link(IdentityKey::BrazeId(&format!("b{n}")), "u1", now()).unwrap();
        }
        (0..PARTS_MAX).for_each(|n| {
            map.link(IdentityKey::DeviceId(&format!("d{n}")), "u1", now()).unwrap();
            map.settle().unwrap();
        });
        assert!(map.part_ids()[0] != first, "the small parts have grown to a share of it");
    }

    #[test]
    fn a_cycle_of_merges_terminates() {
        let home = tempfile::tempdir().unwrap();
        let mut map = IdentityMap::open(&state(&home)).unwrap();
        map.merge("a", "b").unwrap();
        map.merge("b", "a").unwrap();
        assert_eq!(map.owner("a", "").unwrap(), None);
    }
}
