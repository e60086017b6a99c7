//! Statistics of reading and matching a source.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::IdShapes;

/// Statistics of reading and matching a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchTally {
    /// Rows read.
    pub rows: u64,
    /// Files read.
    pub files: u64,
    /// Hidden or temporary files that the source's glob would otherwise match.
    #[serde(default)]
    pub skipped_files: u64,
    /// Rows that repeat an earlier identifier.
    pub duplicates: u64,
    /// Rows with a device or alias of a known owner, which represent the owner.
    #[serde(default)]
    pub rekeyed: u64,
    /// Such rows with more than one observed owner. The newest evidence decides.
    #[serde(default)]
    pub ambiguous: u64,
    /// Suspicious forms of the identifiers.
    #[serde(default)]
    pub shapes: IdShapes,
    /// Members with identifiers that differ from others only by case, invisible characters or Unicode composition.
    /// `None`: this was not checked.
    #[serde(default)]
    pub case_colliding: Option<u64>,
    /// Rows that may contain a user but cannot be read; included in the rejects.
    pub unreadable: u64,
    /// Rejected rows, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// The first rejects: file, line and reason, without values.
    pub samples: Vec<String>,
}
