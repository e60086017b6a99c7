//! A hash map for keys that already are hashes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

use super::known::MapKey;

/// Uses the lower half of a key, which already is a hash.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

pub(super) type ByKey<T> = HashMap<MapKey, T, BuildHasherDefault<KeyHasher>>;
