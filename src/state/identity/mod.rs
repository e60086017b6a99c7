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
mod handles;
mod known;
mod learn;
mod map_part;
mod merge;
mod owners;
mod source_state;
mod sources;
mod table;

use super::entry;
use super::immutable_file::ImmutableFile;
use super::store::Store;
use super::{StateError, StateReader};
use serde::{Deserialize, Serialize};

pub use handles::KnownHandles;
pub use known::{IdentityKey, IdentityKeyKind};
pub use learn::IdentityMap;
pub(super) use map_part::MapPart;
pub use owners::{IdentityOwners, OwnerAnswers, OwnerEvidence, OwnerQuery};
use source_state::SourceState;
pub use source_state::{SourceBookmark, SourceName, SourceStats, SourceTable};
pub use table::{FinishedTable, ReplayTable};

pub(super) const ENTRY: &str = "identity";
pub(super) const PARTS: &str = "identity/parts";
pub(super) const SUFFIX: &str = map_part::SUFFIX;

/// Returns the parts of a version.
pub(super) fn parts_at(store: &Store, number: u64) -> Result<Vec<ImmutableFile>, StateError> {
    let version = entry::versions(store, ENTRY).read(number, |map: MapVersion, _| Some(map))?;
    Ok(version.files().cloned().collect())
}

/// A version of the map.
#[derive(Default, Serialize, Deserialize)]
struct MapVersion {
    /// 0: the map is empty and was never written.
    #[serde(skip)]
    number: u64,
    /// How often a key was observed with another owner than before.
    #[serde(default)]
    conflicts: u64,
    /// Oldest first.
    parts: Vec<ImmutableFile>,
    /// State of the sources that are imported as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceState>,
}

impl MapVersion {
    /// Returns all files.
    fn files(&self) -> impl Iterator<Item = &ImmutableFile> {
        self.parts.iter().chain(self.sources.iter().flat_map(SourceState::files))
    }
}

/// Reads the newest version.
fn newest(state: &StateReader) -> Result<MapVersion, StateError> {
    let found = state.newest(ENTRY, |map, number| Some(MapVersion { number, ..map }))?;
    Ok(found.unwrap_or_default())
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
        let number = entry::versions(&self.store, ENTRY).newest_number()?;
        self.heads.check(&self.store, ENTRY, number)?;
        Ok(number)
    }

    /// Opens the identity map for lookups. `None`: it was never written.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn owners(&self) -> Result<Option<IdentityOwners>, StateError> {
        IdentityOwners::open(self)
    }
}
