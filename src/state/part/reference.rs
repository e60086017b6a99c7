//! Reference to a part: its file, and which of its rows Braze has accepted or rejected.

use super::seal::PartFooter;
use crate::model::{ChangeOp, RowSet};

/// A part that a version names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRef {
    /// Its file's name without `.parquet`.
    pub id: Box<str>,
    /// The operation that its members were sent with.
    pub op: ChangeOp,
    /// How many members it has.
    pub rows: u64,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// XXH3-128 of its file.
    pub checksum: u128,
    /// The end of its file.
    pub footer: PartFooter,
    /// Rows that Braze has accepted.
    pub acknowledged: RowSet,
    /// Rows that Braze has rejected.
    pub rejected: RowSet,
    /// Whether the version records which rows in doubt were in requests that may be handled late.
    pub noted: bool,
}

impl PartRef {
    /// How many rows are neither accepted nor rejected.
    #[must_use]
    pub fn in_doubt(&self) -> u64 {
        self.rows - self.acknowledged.len() - self.rejected.len()
    }
}
