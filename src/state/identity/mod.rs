//! The identity map: which user a Braze id, a device or an alias belongs to, and which users were merged.
//!
//! ```text
//! identity/versions/000000000012.json   put-if-absent, like the versions of cohorts
//! identity/parts/<uuid>.map             entries sorted by key; the latest part wins
//! ```
//!
//! Single rows and events add entries permanently. A source that is imported as a whole, such as the dumps of Heap
//! Connect, has its own tables beside them, which always equal its newest dump. A version names both, and how far each
//! source was read, so that one commit updates them together.
//!
//! Keys are hashes with the state's seed: the map contains external ids, but no device ids. Updates are gathered in
//! memory and written as a part; parts are merged when there are many. Memory is bounded for any size of the map. If
//! two owners of one key are observed, the newest evidence wins, and the conflict is counted.

mod by_key;
mod forget;
mod known;
mod learn;
mod map_part;
mod merge;
mod owners;
mod source_state;
mod sources;
mod table;

use super::checked;
use super::immutable_file::{ImmutableFile, ImmutableFileJson};
use super::membership::number_of;
use super::store::Store;
use super::{StateError, StateReader};
use serde::{Deserialize, Serialize};

pub use forget::KnownHandles;
pub use known::{IdentityKey, IdentityKeyKind};
pub use learn::IdentityMap;
pub(super) use map_part::MapPart;
pub use owners::{IdentityOwners, OwnerAnswers, OwnerEvidence, OwnerQuery};
pub use source_state::{SourceBookmark, SourceName, SourceStats, SourceTable};
use source_state::{SourceState, SourceStateJson};
pub use table::{FinishedTable, ReplayTable};

pub(super) const VERSIONS: &str = "identity/versions";
pub(super) const PARTS: &str = "identity/parts";
pub(super) const SUFFIX: &str = map_part::SUFFIX;

/// The file format.
#[derive(Serialize, Deserialize)]
struct MapVersionJson {
    format: u64,
    version: u64,
    /// How often a key was observed with another owner than before.
    #[serde(default)]
    conflicts: u64,
    parts: Vec<ImmutableFileJson>,
    /// State of the sources that are imported as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceStateJson>,
}

/// Returns the parts of a version.
pub(super) fn parts_at(store: &Store, number: u64) -> Result<Vec<ImmutableFile>, StateError> {
    version_at(store, number).map(|version| version.files().cloned().collect())
}

/// A version of the map.
#[derive(Default)]
struct MapVersion {
    /// 0: the map is empty and was never written.
    number: u64,
    conflicts: u64,
    /// Oldest first.
    parts: Vec<ImmutableFile>,
    /// State of the sources that are imported as a whole.
    sources: Vec<SourceState>,
}

impl MapVersion {
    /// Returns all files.
    fn files(&self) -> impl Iterator<Item = &ImmutableFile> {
        self.parts.iter().chain(self.sources.iter().flat_map(SourceState::files))
    }
}

fn version_at(store: &Store, number: u64) -> Result<MapVersion, StateError> {
    let file = path_of(number);
    let path = store.at(&file);
    let damaged = |problem: String| StateError::Damaged { path: path.clone(), problem };
    let shape: MapVersionJson = checked::existing(store, &file)?;
    let (version, conflicts) = (shape.version, shape.conflicts);
    let parts = shape.parts.into_iter().map(ImmutableFileJson::into_file).collect::<Option<_>>();
    let sources = shape.sources.into_iter().map(SourceStateJson::into_state).collect::<Option<_>>();
    let found = parts.zip(sources).filter(|_| version == number);
    let (parts, sources) = found.ok_or_else(|| damaged("a value is out of range".to_owned()))?;
    Ok(MapVersion { number, conflicts, parts, sources })
}

fn path_of(number: u64) -> String {
    format!("{VERSIONS}/{number:012}.json")
}

/// Reads the newest version.
fn newest(state: &StateReader) -> Result<MapVersion, StateError> {
    match newest_number(state)? {
        0 => Ok(MapVersion::default()),
        number => version_at(&state.store, number),
    }
}

/// Returns the newest version number. 0: the map was never written.
fn newest_number(state: &StateReader) -> Result<u64, StateError> {
    let names = state.store.list(VERSIONS)?;
    let number = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
    state.heads.check(&state.store, "identity", number)?;
    Ok(number)
}

/// Statistics of the identity map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityStats {
    /// Its version. 0: it was never written.
    pub number: u64,
    /// Entries. Keys in several parts count several times.
    pub entries: u64,
    /// Files.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How often a key was observed with another owner than before.
    pub conflicts: u64,
    /// The sources that are imported as a whole.
    pub sources: Vec<SourceStats>,
}

impl StateReader {
    /// Returns how many entries the identity map has. Keys in several parts count several times.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn identity_len(&self) -> Result<u64, StateError> {
        self.identity_stats().map(|stats| stats.entries)
    }

    /// Returns statistics of the identity map.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn identity_stats(&self) -> Result<IdentityStats, StateError> {
        let version = newest(self)?;
        let (number, conflicts) = (version.number, version.conflicts);
        let (entries, bytes) =
            (version.files().map(|part| part.rows).sum(), version.files().map(|part| part.bytes).sum());
        let parts = version.files().count() as u64;
        let sources = version.sources.iter().map(SourceState::stats).collect();
        Ok(IdentityStats { number, entries, parts, bytes, conflicts, sources })
    }

    /// Returns how far a source was read. `None`: it was never imported.
    ///
    /// # Errors
    /// When the map cannot be read or is damaged.
    pub fn bookmark(&self, name: &SourceName) -> Result<Option<SourceBookmark>, StateError> {
        let known = newest(self)?.sources.into_iter().find(|source| source.name == *name);
        Ok(known.map(|source| source.bookmark))
    }

    /// Returns the version of the identity map. 0: it was never written.
    ///
    /// # Errors
    /// When the state cannot be listed.
    pub fn identity_version(&self) -> Result<u64, StateError> {
        newest_number(self)
    }

    /// Opens the identity map for lookups. `None`: it was never written.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn owners(&self) -> Result<Option<IdentityOwners>, StateError> {
        IdentityOwners::open(self)
    }
}
