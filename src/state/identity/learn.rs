//! The map while a run learns: parts on disk, what is not written yet in memory, and what was asked lately.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::by_key::ByKey;
use super::known::{IdentityKey, IdentityKeyKind, KnownIdentity, MapKey};
use super::map_part::{MapPart, MapWriter};
use super::sources::{SourceState, SourceStateJson};
use super::{MapVersion, MapVersionJson, newest, path_of};
use crate::model::{ExportId, KeySeed, Timestamp};
use crate::state::immutable_file::{ImmutableFile, ImmutableFileJson};
use crate::state::{StateError, StateWriter, checked, format};

/// Entries that are gathered before they are written.
const PENDING_MAX: usize = 150_000;
/// Answers that are remembered, of either kind.
const RECENT_MAX: usize = 100_000;
/// Parts before they are merged into one.
pub(super) const PARTS_MAX: usize = 8;
/// More merges than this in a row are a circle.
const HOPS_MAX: usize = 8;
/// Longest text that an entry can hold.
pub(super) const TEXT_LEN_MAX: usize = u16::MAX as usize;

/// The identity map, to ask and to teach. Only the process that holds the state has one.
pub struct IdentityMap {
    pub(super) state: Arc<StateWriter>,
    number: u64,
    conflicts: u64,
    pub(super) files: Vec<ImmutableFile>,
    pub(super) parts: Vec<MapPart>,
    /// What sources say that are read as a whole.
    pub(super) sources: Vec<SourceState>,
    /// Of each source, the parts that say whose something is.
    pub(super) people: Vec<Vec<MapPart>>,
    pending: ByKey<KnownIdentity>,
    /// Counts what was learned.
    learned: u64,
    /// How much had been learned when each export last looked.
    looked: BTreeMap<ExportId, u64>,
    /// What is known to stand there, as a hash: it need not be learned again.
    pub(super) taught: ByKey<u64>,
    /// What the parts have answered.
    pub(super) asked: ByKey<Option<KnownIdentity>>,
    /// People who are to be forgotten: the customer's ids.
    pub(super) forgotten: BTreeSet<Box<str>>,
    /// Somebody was deleted since the parts were last merged.
    pub(super) is_to_forget: bool,
    /// Braze's ids of people who were deleted while this map was open.
    pub(super) deleted: BTreeSet<MapKey>,
}

impl IdentityMap {
    /// Opens the map of a state.
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
            people: Vec::new(),
            pending: ByKey::default(),
            learned: 0,
            looked: BTreeMap::new(),
            taught: ByKey::default(),
            asked: ByKey::default(),
            forgotten: BTreeSet::new(),
            is_to_forget: false,
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

    /// Whoever is known so is the person whom the customer calls `owner`, as was seen then. Evidence that is older
    /// than what is known of somebody else changes nothing.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn tie(&mut self, handle: IdentityKey<'_>, owner: &str, seen: Timestamp) -> Result<(), StateError> {
        let key = handle.key(self.seed());
        self.learn(key, (owner.len() <= TEXT_LEN_MAX).then(|| KnownIdentity::owner(owner, seen)))
    }

    /// Whoever has one alias is whoever has the other of the same label.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn join(&mut self, label: &str, from: &str, into: &str) -> Result<(), StateError> {
        let key = IdentityKey::Alias { label, name: from }.key(self.seed());
        self.learn(
            key,
            (into.len() <= TEXT_LEN_MAX && from != into).then(|| KnownIdentity::Merged(into.into())),
        )
    }

    /// Braze has merged one person into another.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn merge(&mut self, from: &str, into: &str) -> Result<(), StateError> {
        let key = self.key(IdentityKeyKind::BrazeId, from);
        self.learn(
            key,
            (into.len() <= TEXT_LEN_MAX && from != into).then(|| KnownIdentity::Merged(into.into())),
        )
    }

    /// This person is to be forgotten, with everything that leads to them.
    ///
    /// # Errors
    /// When a part cannot be read or written.
    pub fn delete(&mut self, user_id: &str) -> Result<(), StateError> {
        if let Some(owner) = self.owner(user_id, "")? {
            self.forgotten.insert(owner.into());
        }
        let key = self.key(IdentityKeyKind::BrazeId, user_id);
        self.is_to_forget |= self.deleted.insert(key);
        self.learn(key, Some(KnownIdentity::Gone))
    }

    /// Whether this person was deleted while this map was open.
    #[must_use]
    pub fn is_deleted(&self, user_id: &str) -> bool {
        !self.deleted.is_empty() && self.deleted.contains(&self.key(IdentityKeyKind::BrazeId, user_id))
    }

    /// Whether whoever the customer calls so, or Braze, is being forgotten.
    #[must_use]
    pub fn is_forgotten(&self, who: &str) -> bool {
        self.is_to_forget && (self.forgotten.contains(who) || self.is_deleted(who))
    }

    fn learn(&mut self, key: MapKey, known: Option<KnownIdentity>) -> Result<(), StateError> {
        let Some(mut known) = known else { return Ok(()) };
        let (kind, _, text) = known.parts();
        let print = xxh3_64(text.as_bytes()).wrapping_add(u64::from(kind));
        if self.taught.get(&key) == Some(&print) {
            return Ok(());
        }
        if let Some(before) = self.known(key)? {
            let is_contested = known.contradicts(&before);
            self.conflicts += u64::from(is_contested);
            if known.is_old_news(&before) {
                if !is_contested {
                    self.remember(key, print);
                    return Ok(());
                }
                if before.is_contested() {
                    return Ok(());
                }
                // Who it is stays, and that it was said to be somebody else is new.
                known = before.contested();
            } else if is_contested || before.is_contested() {
                known = known.contested();
            }
        }
        self.taught.remove(&key);
        self.pending.insert(key, known);
        self.learned += 1;
        if self.pending.len() >= PENDING_MAX { self.write() } else { Ok(()) }
    }

    /// This stands in the map: until it is another, it need not be looked up again.
    fn remember(&mut self, key: MapKey, print: u64) {
        if self.taught.len() >= RECENT_MAX {
            self.taught.clear();
        }
        self.taught.insert(key, print);
    }

    pub(super) fn has_learned(&mut self) {
        self.learned += 1;
    }

    /// Whether anything was learned since this was last asked for the same export, whoever has taught it.
    pub fn has_news_for(&mut self, export: &ExportId) -> bool {
        self.looked.insert(export.clone(), self.learned) != Some(self.learned)
    }

    fn in_parts(&mut self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        if self.parts.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.asked.get(&key) {
            return Ok(known.clone());
        }
        let mut found = None;
        for part in self.parts.iter().rev() {
            found = part.get(key)?;
            if found.is_some() {
                break;
            }
        }
        if self.asked.len() >= RECENT_MAX {
            self.asked.clear();
        }
        self.asked.insert(key, found.clone());
        Ok(found)
    }

    fn known(&mut self, key: MapKey) -> Result<Option<KnownIdentity>, StateError> {
        match self.pending.get(&key) {
            Some(known) => Ok(Some(known.clone())),
            None => self.in_parts(key),
        }
    }

    /// How often somebody else was said to own a key than before.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// The customer's id of whoever has this Braze id or this device; an empty one is none.
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
                    (Some(known), Some(said)) => Some(if said.counts_before(&known) { said } else { known }),
                    (known, said) => known.or(said),
                };
                match known {
                    Some(KnownIdentity::Owner(owner, ..)) if !self.forgotten.contains(&owner) => {
                        return Ok(Some(owner.into()));
                    }
                    Some(KnownIdentity::Merged(into)) => key = self.key(IdentityKeyKind::BrazeId, &into),
                    Some(KnownIdentity::Owner(..) | KnownIdentity::Gone) | None => break,
                }
            }
        }
        Ok(None)
    }

    /// Writes what was learned as a part. It lasts, and nobody finds it before [`IdentityMap::commit`].
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
        self.asked.clear();
        if self.parts.len() > 2 * PARTS_MAX { self.merge_small() } else { Ok(()) }
    }

    /// Makes what was learned last.
    ///
    /// # Errors
    /// When the disk does not take it, or the state is somebody else's.
    pub fn commit(&mut self) -> Result<(), StateError> {
        let before = self.files.clone();
        self.write()?;
        if self.files == before && self.is_committed()? { Ok(()) } else { self.put() }
    }

    fn is_committed(&self) -> Result<bool, StateError> {
        newest(self.state.reader()).map(|map| map.parts == self.files && map.sources == self.sources)
    }

    pub(super) fn put(&mut self) -> Result<(), StateError> {
        self.state.check_lease()?;
        let shape = MapVersionJson {
            format: format::KNOWN,
            version: self.number + 1,
            conflicts: self.conflicts,
            parts: self.files.iter().map(ImmutableFileJson::from_file).collect(),
            sources: self.sources.iter().map(SourceStateJson::from_taught).collect(),
        };
        let store = &self.state.reader().store;
        if !checked::put_new_compact(store, &path_of(self.number + 1), &shape)? {
            return Err(StateError::Lost);
        }
        self.number += 1;
        self.state.committed("identity", self.number);
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
        let holder = Holder { host: "h".to_owned(), process: 1, since: now(), heard: None };
        let location = Location::Folder(home.path().to_owned());
        Arc::new(StateWriter::open(&location, &holder, Clock::new(now), 7).unwrap())
    }

    #[test]
    fn ties_and_merges_last_and_the_deleted_are_gone() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let mut map = IdentityMap::open(&state).unwrap();
        map.tie(IdentityKey::BrazeId("b1"), "u1", now()).unwrap();
        map.tie(IdentityKey::DeviceId("d1"), "u1", now()).unwrap();
        map.merge("b0", "b1").unwrap();
        map.tie(IdentityKey::DeviceId("d2"), "u1", now()).unwrap();
        map.tie(IdentityKey::DeviceId("d2"), "u2", now()).unwrap();
        assert_eq!(map.owner("b0", "").unwrap().as_deref(), Some("u1"), "before it is written");
        map.commit().unwrap();
        map.commit().unwrap();
        assert_eq!(map.number, 1, "nothing new, no version");
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
        assert_eq!(map.owner("", "d1").unwrap(), None, "at once");
        assert!(map.is_deleted("b0") && !map.is_deleted("b1"));
        map.settle().unwrap();
        let mut map = IdentityMap::open(&state).unwrap();
        assert_eq!((map.owner("b1", "d1").unwrap(), map.owner("b0", "").unwrap()), (None, None));
        assert_eq!(map.owner("", "d2").unwrap().as_deref(), Some("u2"));
        assert_eq!(map.erase("u2").unwrap(), 1);
        assert_eq!(map.owner("", "d2").unwrap(), None);
        map.tie(IdentityKey::BrazeId("b5"), "u5", now()).unwrap();
        map.merge("b4", "b5").unwrap();
        assert_eq!(map.erase("u5").unwrap(), 2, "and whoever was merged into them");
    }

    #[test]
    fn many_parts_answer_as_one() {
        let home = tempfile::tempdir().unwrap();
        let state = state(&home);
        let mut map = IdentityMap::open(&state).unwrap();
        for round in 0..20 {
            for n in 0..500 {
                let owner = format!("u{}", (n + round) % 500);
                map.tie(IdentityKey::BrazeId(&format!("b{n}")), &owner, now()).unwrap();
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
    fn a_large_part_is_not_written_anew_for_a_few_entries() {
        let home = tempfile::tempdir().unwrap();
        let mut map = IdentityMap::open(&state(&home)).unwrap();
        for n in 0..2_000 {
            map.tie(IdentityKey::BrazeId(&format!("b{n}")), "u1", now()).unwrap();
        }
        map.settle().unwrap();
        let first = map.part_ids()[0].clone();
        for n in 0..30 {
            map.tie(IdentityKey::BrazeId(&format!("b{n}")), "u2", now()).unwrap();
            map.settle().unwrap();
            assert!(map.parts.len() <= PARTS_MAX && map.part_ids()[0] == first);
        }
        for n in 0..40 {
            let owner = map.owner(&format!("b{n}"), "").unwrap();
            assert_eq!(owner.as_deref(), Some(if n < 30 { "u2" } else { "u1" }), "{n}");
        }
        for n in 2_000..3_000 {
            map.tie(IdentityKey::BrazeId(&format!("b{n}")), "u1", now()).unwrap();
        }
        (0..PARTS_MAX).for_each(|n| {
            map.tie(IdentityKey::DeviceId(&format!("d{n}")), "u1", now()).unwrap();
            map.settle().unwrap();
        });
        assert!(map.part_ids()[0] != first, "they are a share of it by now");
    }

    #[test]
    fn a_circle_of_merges_ends() {
        let home = tempfile::tempdir().unwrap();
        let mut map = IdentityMap::open(&state(&home)).unwrap();
        map.merge("a", "b").unwrap();
        map.merge("b", "a").unwrap();
        assert_eq!(map.owner("a", "").unwrap(), None);
    }
}
