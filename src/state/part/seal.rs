//! Checksums that are verified while a part is read, without a second reading: of the footer, and of all keys.
//!
//! Every identifier that is read is compared with its key, so everything that a plan uses is verified.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::super::as_text::hex;

/// The Parquet footer of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartFooter {
    /// Its length in bytes.
    pub bytes: u64,
    /// XXH3-64 of them.
    #[serde(rename = "xxh3", with = "hex")]
    pub checksum: u64,
}

impl PartFooter {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, checksum: xxh3_64(bytes) }
    }
}

/// Bytes at the end of every Parquet file: the length of its metadata, and `PAR1`.
pub(super) const FOOTER_END: usize = 8;

/// The key of the keys' checksum in a part's metadata.
pub(super) const KEYS: &str = "syncline_keys_xxh3";

/// A checksum of all keys, column by column, over their bytes in the file.
#[derive(Clone, Default)]
pub(super) struct KeySum {
    high: Box<Xxh3>,
    low: Box<Xxh3>,
}

impl KeySum {
    pub(super) fn update(&mut self, high: &[u8], low: &[u8]) {
        self.high.update(high);
        self.low.update(low);
    }

    pub(super) fn digest(&self) -> String {
        format!("{:016x}{:016x}", self.high.digest(), self.low.digest())
    }
}

impl std::fmt::Debug for KeySum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeySum")
    }
}
