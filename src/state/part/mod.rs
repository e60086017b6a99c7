//! Parts: members sorted by key, as Parquet that any tool reads.
//!
//! | column | type | |
//! |---|---|---|
//! | `key_high`, `key_low` | unsigned 64 bit | the halves of the member's key; the part is sorted by both |
//! | `op` | text | `add` or `remove`, one and the same in the whole part |
//! | `kind` | text | `external_id`, `alias` or `device_id` |
//! | `alias_label` | text or null | |
//! | `identifier` | text | |
//!
//! Keys and identifiers are plain and uncompressed, so that walking a part costs little more than reading it:
//! at a hundredth of change nearly every page has an identifier that someone asks for, and unpacking them all
//! took longer than all else in a walk. Parts of earlier versions, whose identifiers are compressed, are read
//! alike.

mod page;
mod read;
mod seal;
mod write;

pub(super) use read::{PartCursor, Word};
pub use seal::Footer;
pub(super) use seal::FooterShape;
pub use write::PartWriter;

use crate::model::{CohortId, ConnectionName};

// The columns that are read, by their place in the schema.
const KEY_HIGH: usize = 0;
const KEY_LOW: usize = 1;
const KIND: usize = 3;
const LABEL: usize = 4;
const IDENTIFIER: usize = 5;

/// What parts belong to.
#[derive(Clone, Copy, Debug)]
pub(super) enum PartFolder<'a> {
    /// The record of a cohort.
    Cohort(&'a CohortId),
    /// What a Heap has told of its segments.
    Segments(&'a ConnectionName),
}

impl<'a> From<&'a CohortId> for PartFolder<'a> {
    fn from(cohort: &'a CohortId) -> Self {
        Self::Cohort(cohort)
    }
}

/// Where the parts of a home are in the state.
pub(super) fn folder_of<'a>(home: impl Into<PartFolder<'a>>) -> String {
    match home.into() {
        PartFolder::Cohort(cohort) => format!("cohorts/{cohort}/parts"),
        PartFolder::Segments(connection) => format!("segments/{connection}/parts"),
    }
}

/// Where a part is in the state.
pub(super) fn path_of<'a>(home: impl Into<PartFolder<'a>>, id: &str) -> String {
    format!("{}/{id}.parquet", folder_of(home))
}
