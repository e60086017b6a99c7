//! `format.json`: the format number and the id of the state, and the seed of its keys.
//!
//! Nothing can be read without the seed, so `format.copy.json` has the same bytes. To repair `format.json`, copy it
//! back.

use serde::{Deserialize, Serialize};

use super::store::Store;
use super::{StateError, checked, format_number};
use crate::model::{KeySeed, Timestamp, timestamp_text};
use crate::random;

const FILE: &str = "format.json";
/// A copy with the same bytes.
pub(super) const COPY: &str = "format.copy.json";

#[derive(Clone, Debug)]
pub(super) struct StateFormat {
    pub(super) id: String,
    pub(super) seed: KeySeed,
}

/// The file format. The seed is a string, because many JSON readers lose bits of large numbers.
#[derive(Serialize, Deserialize)]
struct FormatJson {
    format: u64,
    id: String,
    key_seed: String,
    created_at: String,
}

impl StateFormat {
    pub(super) fn read(store: &Store) -> Result<Option<Self>, StateError> {
        let Some(shape) = checked::read::<FormatJson>(store, FILE)? else { return Ok(None) };
        let damaged = |problem: String| StateError::Damaged { path: store.at(FILE), problem };
        let seed = u64::from_str_radix(&shape.key_seed, 16).map_err(|e| damaged(e.to_string()))?;
        Ok(Some(Self { id: shape.id, seed: KeySeed(seed) }))
    }

    /// As [`Self::read`], but fails if only the copy exists: then the file was lost.
    pub(super) fn existing(store: &Store) -> Result<Option<Self>, StateError> {
        match Self::read(store)? {
            None if has_copy(store)? => Err(checked::gone(store, FILE)),
            found => Ok(found),
        }
    }

    /// Writes the copy if it is damaged or missing.
    pub(super) fn keep_copy(store: &Store) -> Result<(), StateError> {
        if has_copy(store)? {
            return Ok(());
        }
        if let Some(bytes) = store.read(FILE)?.filter(|bytes| checked::is_whole(FILE, bytes)) {
            store.remove(COPY)?;
            store.put_new(COPY, &bytes)?;
        }
        Ok(())
    }

    pub(super) fn create(store: &Store, seed: KeySeed, now: Timestamp) -> Result<Self, StateError> {
        let shape = FormatJson {
            format: format_number::SUPPORTED,
            id: random::unique_id().to_string(),
            key_seed: format!("{:016x}", seed.0),
            created_at: timestamp_text(now),
        };
        checked::put_new(store, FILE, &shape)?;
        // Another process may have created it first: the file on disk is authoritative.
        Self::read(store)?
            .ok_or_else(|| StateError::Damaged { path: store.at(FILE), problem: "it is missing".to_owned() })
    }
}

/// Whether the copy exists and is intact.
pub(super) fn has_copy(store: &Store) -> Result<bool, StateError> {
    Ok(store.read(COPY)?.is_some_and(|bytes| checked::is_whole(FILE, &bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        assert!(StateFormat::read(&store).unwrap().is_none());
        store.put_new(FILE, br#"{"format":3,"shape":"unknown"}"#).unwrap();
        assert!(matches!(StateFormat::read(&store), Err(StateError::Newer { found: 3, supported: 2, .. })));
    }

    #[test]
    fn the_key_seed_is_created_once() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::in_folder(home.path());
        let made = StateFormat::create(&store, KeySeed(u64::MAX - 1), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(made.seed, KeySeed(u64::MAX - 1));
        let again = StateFormat::create(&store, KeySeed(7), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(again.seed, made.seed, "the first seed stays");
    }
}
