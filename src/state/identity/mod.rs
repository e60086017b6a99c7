//! Who is who, as events and files have told: which person a Braze id, a device or an alias belongs to, and who
//! was merged into whom.
//!
//! ```text
//! identity/versions/000000000012.json   put-if-absent, as the versions of cohorts
//! identity/parts/<uuid>.map              entries sorted by key; a later part has the last word
//! ```
//!
//! What single rows and events tell is learned and stays. A source that is read as a whole, such as Heap Connect's
//! dumps, has tables of its own beside it, as they stand at its newest dump: what is in them no more is known no
//! more. A version names both, with how far each source was read, so that one commit moves them together.
//!
//! Keys are hashes with the state's seed, so the map names the customer's ids and no device. What is learned is
//! gathered in memory and written as a part now and then; parts are merged when there are many. Memory is bounded
//! whatever the size of the map. Where two are told to own one key, the newest evidence has the last word, and
//! that there were two is counted.

mod by_key;
mod forget;
mod known;
mod learn;
mod map_part;
mod merge;
mod owners;
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
pub use sources::{SourceBookmark, SourceName, SourceStats, SourceTable};
use sources::{SourceState, SourceStateJson};
pub use table::{Finished, ReplayTable};

pub(super) const VERSIONS: &str = "identity/versions";
pub(super) const PARTS: &str = "identity/parts";
pub(super) const SUFFIX: &str = map_part::SUFFIX;

/// The file, letter by letter.
#[derive(Serialize, Deserialize)]
struct MapVersionJson {
    format: u64,
    version: u64,
    /// How often somebody else was said to own a key than before.
    #[serde(default)]
    conflicts: u64,
    parts: Vec<ImmutableFileJson>,
    /// What sources say that are read as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<SourceStateJson>,
}

/// The parts of a version.
pub(super) fn parts_at(store: &Store, number: u64) -> Result<Vec<ImmutableFile>, StateError> {
    version_at(store, number).map(|version| version.files().cloned().collect())
}

/// A version of the map.
#[derive(Default)]
struct MapVersion {
    /// 0 if nothing was ever learned.
    number: u64,
    conflicts: u64,
    /// The oldest first.
    parts: Vec<ImmutableFile>,
    /// What sources say that are read as a whole.
    sources: Vec<SourceState>,
}

impl MapVersion {
    /// All files.
    fn files(&self) -> impl Iterator<Item = &ImmutableFile> {
        self.parts.iter().chain(self.sources.iter().flat_map(SourceState::files))
    }
}

fn version_at(store: &Store, number: u64) -> Result<MapVersion, StateError> {
    let file = path_of(number);
    let path = store.at(&file);
    let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
    let shape: MapVersionJson = checked::existing(store, &file)?;
    let (version, conflicts) = (shape.version, shape.conflicts);
    let parts = shape.parts.into_iter().map(ImmutableFileJson::into_file).collect::<Option<_>>();
    let sources = shape.sources.into_iter().map(SourceStateJson::into_taught).collect::<Option<_>>();
    let found = parts.zip(sources).filter(|_| version == number);
    let (parts, sources) = found.ok_or_else(|| damaged("a value is out of range".to_owned()))?;
    Ok(MapVersion { number, conflicts, parts, sources })
}

fn path_of(number: u64) -> String {
    format!("{VERSIONS}/{number:012}.json")
}

/// The newest version.
fn newest(state: &StateReader) -> Result<MapVersion, StateError> {
    match newest_number(state)? {
        0 => Ok(MapVersion::default()),
        number => version_at(&state.store, number),
    }
}

/// The newest version's number; 0 if nothing was ever learned.
fn newest_number(state: &StateReader) -> Result<u64, StateError> {
    let names = state.store.list(VERSIONS)?;
    let number = names.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
    state.heads.check(&state.store, "identity", number)?;
    Ok(number)
}

/// What is known of the map as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentityStats {
    /// Its version; 0 if nothing was ever learned.
    pub number: u64,
    /// Entries; those of one key in several parts count several times.
    pub entries: u64,
    /// Files.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How often somebody else was said to own a key than before.
    pub conflicts: u64,
    /// The sources that are read as a whole.
    pub sources: Vec<SourceStats>,
}

impl StateReader {
    /// How many entries the identity map has; those of one key in several parts count several times.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn identity_len(&self) -> Result<u64, StateError> {
        self.identity_stats().map(|stats| stats.entries)
    }

    /// What is known of the identity map as a whole.
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

    /// How far a source was read; none if it never was.
    ///
    /// # Errors
    /// When the map cannot be read or is damaged.
    pub fn bookmark(&self, name: &SourceName) -> Result<Option<SourceBookmark>, StateError> {
        let known = newest(self)?.sources.into_iter().find(|taught| taught.name == *name);
        Ok(known.map(|taught| taught.bookmark))
    }

    /// The version of the identity map; 0 if nothing was ever learned.
    ///
    /// # Errors
    /// When the state cannot be listed.
    pub fn identity_version(&self) -> Result<u64, StateError> {
        newest_number(self)
    }

    /// The identity map, to ask it who owns what. None if nothing was ever learned.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn owners(&self) -> Result<Option<IdentityOwners>, StateError> {
        IdentityOwners::open(self)
    }
}
