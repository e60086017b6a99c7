//! Domain types: plain values, validated at construction.
//!
//! All other modules use them. This module reads no file, clock or network, and does not know YAML, Braze or Parquet.

mod address;
mod avro_value;
mod build_feature;
mod delivery;
mod field;
mod guarded;
mod id;
mod id_shapes;
mod identifier;
mod key;
mod limits;
mod matched;
mod normalize;
mod percentage;
mod progress;
mod rows;
mod rule;
mod table_checksum;
mod time;

pub use address::{is_loopback_host, is_private_address};
pub use avro_value::{AvroRecord, AvroValue};
pub use build_feature::BuildFeature;
pub use delivery::DeliveryMethod;
pub use field::{Field, Fields, NonIdentifier};
pub use guarded::{guarded, is_guarded};
pub use id::{CohortId, ConnectionName, EndpointName, ExportId, IdError, RunId, SegmentId};
pub use id_shapes::{IdShapes, is_ambiguous, is_invisible, visible_form};
pub use identifier::{
    ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierError, IdentifierKind, PACKED_LEN_MAX,
};
pub use key::{KeySeed, MemberKey};
pub use limits::{Ceilings, GuardLimits};
pub use matched::MatchTally;
pub use normalize::{InvalidIdentifier, all_placeholders, normalize_identifier};
pub use percentage::{Percentage, PercentageError};
pub use progress::{NoProgress, Progress, Stage};
pub use rows::RowSet;
pub use rule::MatchRule;
pub use table_checksum::TableChecksum;
pub use time::{Clock, ClockReading, Day, Timestamp, parse_time, timestamp_text};

/// The change of one member: entering or leaving a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeOp {
    /// The member leaves.
    Remove,
    /// The member enters.
    Add,
}

impl ChangeOp {
    /// `add` or `remove`, as parts, plans and the journal write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Add => "add",
        }
    }
}

/// The status of a member in the recorded membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Braze has accepted it, and nothing was sent since.
    Member,
    /// A request was sent without an answer: the user may be a member or not.
    InDoubt,
    /// Braze has rejected the identifier.
    Rejected,
    /// Braze has rejected the identifier, but an earlier request may have added it. It is not added again, and is
    /// removed when it is no longer desired.
    Disputed,
}
