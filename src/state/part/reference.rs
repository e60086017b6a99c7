//! Reference to a part: its file, and which of its rows Braze has accepted or rejected.

use serde::{Deserialize, Serialize};

use super::super::as_text::{count, hex, rows};
use super::super::immutable_file::ImmutableFile;
use super::seal::PartFooter;
use crate::model::{ChangeOp, RowSet};

/// A part that a version names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRef {
    /// Its file's name without `.parquet`.
    pub id: Box<str>,
    /// The operation that its members were sent with.
    pub op: ChangeOp,
    /// How many members it has.
    #[serde(with = "count")]
    pub rows: u64,
    /// Length of its file in bytes.
    #[serde(with = "count")]
    pub bytes: u64,
    /// XXH3-128 of its file.
    #[serde(rename = "xxh3", with = "hex")]
    pub checksum: u128,
    /// The end of its file.
    pub footer: PartFooter,
    /// Rows that Braze has accepted.
    #[serde(with = "rows")]
    pub acknowledged: RowSet,
    /// Rows that Braze has rejected.
    #[serde(with = "rows")]
    pub rejected: RowSet,
    /// Whether the version records which rows in doubt were in requests that may be handled late.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub noted: bool,
}

impl PartRef {
    /// How many rows are neither accepted nor rejected.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        self.rows - self.acknowledged.len() - self.rejected.len()
    }

    /// The part as a file without rows and outcomes.
    pub(in super::super) fn file(&self) -> ImmutableFile {
        let (id, checksum) = (self.id.clone(), self.checksum);
        ImmutableFile { id, rows: self.rows, bytes: self.bytes, checksum }
    }

    /// Whether its rows are within the part, and none is both accepted and rejected.
    pub(in super::super) fn is_sound(&self) -> bool {
        let ranges = self.acknowledged.ranges().iter().chain(self.rejected.ranges());
        let both = RowSet::from_ranges(ranges.cloned());
        both.is_within(self.rows) && both.len() == self.acknowledged.len() + self.rejected.len()
    }
}
