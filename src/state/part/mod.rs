//! Parts: members sorted by key, as Parquet that any tool reads.
//!
//! | column | type | |
//! |---|---|---|
//! | `key_high`, `key_low` | unsigned 64 bit | the halves of the member's key; the part is sorted by both |
//! | `op` | text | `add` or `remove`, one and the same in the whole part |
//! | `kind` | text | `external_id`, `alias` or `device_id` |
//! | `alias_label` | text or null | |
//! | `identifier` | text | |
//! | `run` | text or null | the run since which the member has its status; null in segment tables and if unknown |
//!
//! Keys and identifiers are plain and uncompressed. Even at one percent of change nearly every page has an identifier
//! that the plan needs, and decompression took longer than everything else. Parts with compressed identifiers, from
//! earlier versions, can still be read.

mod page;
mod read;
mod reference;
mod seal;
mod write;

pub(super) use read::{PartCursor, RowOutcome};
pub use reference::PartRef;
pub use seal::PartFooter;
pub use write::PartWriter;

use crate::model::{CohortId, ConnectionName};

// Indices of the columns that are read.
const KEY_HIGH: usize = 0;
const KEY_LOW: usize = 1;
const KIND: usize = 3;
const LABEL: usize = 4;
const IDENTIFIER: usize = 5;
const RUN: usize = 6;

/// The folder that a part belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum PartFolder<'a> {
    /// The recorded membership of a cohort.
    Cohort(&'a CohortId),
    /// The segment tables of a Heap connection.
    Segments(&'a ConnectionName),
}

impl<'a> From<&'a CohortId> for PartFolder<'a> {
    fn from(cohort: &'a CohortId) -> Self {
        Self::Cohort(cohort)
    }
}

/// The folder of an entry's parts.
pub(super) fn folder_of<'a>(folder: impl Into<PartFolder<'a>>) -> String {
    match folder.into() {
        PartFolder::Cohort(cohort) => format!("cohorts/{cohort}/parts"),
        PartFolder::Segments(connection) => format!("segments/{connection}/parts"),
    }
}

/// The path of a part in the state.
pub(super) fn path_of<'a>(folder: impl Into<PartFolder<'a>>, id: &str) -> String {
    format!("{}/{id}.parquet", folder_of(folder))
}
