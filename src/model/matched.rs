//! How a source was matched, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::IdShapes;

/// What reading and matching a source gave, members apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchTally {
    /// Rows read.
    pub rows: u64,
    /// Files read.
    pub files: u64,
    /// Hidden or temporary entries that the source's glob would name otherwise.
    #[serde(default)]
    pub skipped_files: u64,
    /// Rows that named somebody again.
    pub duplicates: u64,
    /// Rows with a device or an alias whose owner is known: they stand for the owner.
    #[serde(default)]
    pub moved: u64,
    /// Rows of those where somebody else was said to be the owner as well: the newest evidence has decided.
    #[serde(default)]
    pub ambiguous: u64,
    /// What the identifiers of the rows look like.
    #[serde(default)]
    pub shapes: IdShapes,
    /// Members whose identifiers differ from others only by upper and lower case, invisible characters or Unicode
    /// composition; none if that was not looked at.
    #[serde(default)]
    pub case_colliding: Option<u64>,
    /// Rows in which there may be a person whom we could not read; part of the rejects.
    pub unreadable: u64,
    /// Rows that name nobody, by reason.
    pub rejects: BTreeMap<String, u64>,
    /// The first few of them: file, line and reason, never what stood there.
    pub samples: Vec<String>,
}
