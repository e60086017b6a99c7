//! A source → the desired members of a cohort: rows are read once, matched to users, and sorted externally.
//!
//! [`SourceReader`] is the interface of a source kind. `registry` lists the kinds. `desired` is the pipeline. It uses
//! two threads: one reads and matches, the other partitions the members. Later, one thread sorts a partition while
//! the other compares the previous one.
//!
//! # Guarantees
//! Memory is bounded regardless of the source's size; the rest spills to a temporary file. Every row is counted: as a
//! member, as a duplicate of a member, or as a reject with its reason.
//!
//! # Errors
//! A source that cannot be read in full yields no members.

mod case_variants;
mod caseless;
mod desired;
mod dump_query;
mod dump_replay;
mod error;
mod files;
mod heap_connect;
mod heap_segment;
mod match_rows;
mod matching;
mod overlay;
mod owners;
mod properties;
mod pushdown;
mod reader;
mod registry;
mod rejects;
mod sorted_members;
mod sorted_set;
mod spill;
mod sql_query;

pub use case_variants::{CaseVariants, PackedList};
pub use desired::{DesiredMembers, check, read};
pub use error::DesiredError;
pub use heap_connect::check_dumps;
pub use match_rows::{MatchedRows, may_rekey};
pub use matching::{Matcher, RejectReason, Unmatched};
pub use overlay::MembersOverlay;
pub use properties::{PROPERTIES_LEN_MAX, UserProperties, VALUE_LEN_MAX, read_properties};
pub use pushdown::{PushdownFallback, PushdownResult, mirror_table_of, pushdown_source, read_difference};
pub use reader::{ReadAccess, SourceCheck, SourceFingerprint, SourceInputs, SourceReader, SourceRows};
pub use rejects::RowRejects;
pub use sorted_members::SortedMembers;
pub use sorted_set::SortedSet;
