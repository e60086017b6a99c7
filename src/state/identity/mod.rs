//! Who is who, as events have told: which person a Braze id or a device belongs to, and who was merged into whom.
//!
//! ```text
//! identity/versions/000000000012.json   put-if-absent, as the versions of cohorts
//! identity/runs/<uuid>.map              entries sorted by key; a later run has the last word
//! ```
//!
//! Keys are hashes with the state's seed, so the map names the customer's ids and no device. What is learned is
//! gathered in memory and written as a run now and then; runs are merged when there are many. Memory is bounded
//! whatever the size of the map.

mod learn;
mod run;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::format;
use super::sealed::{SealedFile, SealedShape};
use super::store::Store;
use super::version::number_of;
use super::{StateError, StateReader};
use crate::model::KeySeed;

pub use learn::IdentityMap;
pub(super) use run::MapRun;

pub(super) const VERSIONS: &str = "identity/versions";
pub(super) const RUNS: &str = "identity/runs";
pub(super) const SUFFIX: &str = run::SUFFIX;

type MapKey = u128;

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Braze's own id.
    BrazeId,
    /// A device.
    DeviceId,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// The customer's id of the person.
    Owner(Box<str>),
    /// Braze's id of the person that this one was merged into.
    Merged(Box<str>),
    /// The person was deleted.
    Gone,
}

impl Known {
    fn parts(&self) -> (u8, &str) {
        match self {
            Self::Owner(owner) => (0, owner),
            Self::Merged(into) => (1, into),
            Self::Gone => (2, ""),
        }
    }

    fn from_parts(kind: u8, text: &str) -> Option<Self> {
        match kind {
            0 => Some(Self::Owner(text.into())),
            1 => Some(Self::Merged(text.into())),
            2 => Some(Self::Gone),
            _ => None,
        }
    }
}

fn key_of(seed: KeySeed, kind: KeyKind, value: &str) -> MapKey {
    // Other keys for other kinds of one text.
    let kind = match kind {
        KeyKind::BrazeId => 0x9e37_79b9_7f4a_7c15,
        KeyKind::DeviceId => 0xc2b2_ae3d_27d4_eb4f,
    };
    xxh3_128_with_seed(value.as_bytes(), seed.0 ^ kind)
}

/// The file, letter by letter.
#[derive(Serialize, Deserialize)]
struct Shape {
    format: u64,
    version: u64,
    runs: Vec<SealedShape>,
}

/// The runs of a version, the oldest first.
pub(super) fn runs_at(store: &Store, number: u64) -> Result<Vec<SealedFile>, StateError> {
    let file = path_of(number);
    let path = store.at(&file);
    let damaged = |what: String| StateError::Damaged { path: path.clone(), what };
    let bytes = store.read(&file)?.ok_or_else(|| damaged("it is gone".to_owned()))?;
    format::check_format(&bytes, &path)?;
    let shape: Shape = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let runs = shape.runs.into_iter().map(SealedShape::into_file).collect::<Option<_>>();
    runs.filter(|_| shape.version == number).ok_or_else(|| damaged("a value is out of range".to_owned()))
}

fn path_of(number: u64) -> String {
    format!("{VERSIONS}/{number:012}.json")
}

/// The newest version's number and runs; 0 and none if nothing was ever learned.
fn newest(store: &Store) -> Result<(u64, Vec<SealedFile>), StateError> {
    let names = store.list(VERSIONS)?;
    match names.iter().filter_map(|name| number_of(name)).max() {
        Some(newest) => runs_at(store, newest).map(|runs| (newest, runs)),
        None => Ok((0, Vec::new())),
    }
}

impl StateReader {
    /// How many entries the identity map has; those of one key in several runs count several times.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn identity_len(&self) -> Result<u64, StateError> {
        newest(&self.store).map(|(_, runs)| runs.iter().map(|run| run.rows).sum())
    }
}
