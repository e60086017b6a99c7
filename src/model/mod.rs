//! The nouns: plain values, checked when they are made.
//!
//! Everything else in the crate speaks in these types. Nothing here reads a file, a clock or the
//! network, and nothing here knows about YAML, Braze or Parquet.

mod address;
mod avro_value;
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
pub use delivery::DeliveryMethod;
pub use field::{Field, Fields, NonIdentifier};
pub use guarded::{guarded, is_guarded};
pub use id::{CohortId, ConnectionName, EndpointName, ExportId, IdError, RunId, SegmentId};
pub use id_shapes::{IdShapes, is_ambiguous, is_invisible, look};
pub use identifier::{
    ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierError, IdentifierKind, PACKED_LEN_MAX,
};
pub use key::{KeySeed, MemberKey};
pub use limits::{Ceilings, GuardLimits};
pub use matched::MatchTally;
pub use normalize::{InvalidIdentifier, all_placeholders, usable};
pub use percentage::{Percentage, PercentageError};
pub use progress::{NoProgress, Progress, Stage};
pub use rows::RowSet;
pub use rule::MatchRule;
pub use table_checksum::TableChecksum;
pub use time::{Clock, Day, Timestamp, moment, timestamp_text};

/// What happens to one member: it enters the cohort or leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeOp {
    /// The member leaves.
    Remove,
    /// The member enters.
    Add,
}

impl ChangeOp {
    /// `add` or `remove`, as runs, plans and the journal write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Add => "add",
        }
    }
}

/// What the record says of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Braze has accepted it, and nothing was sent since.
    Member,
    /// Something was sent and there is no answer: it may be in or out.
    InDoubt,
    /// Braze has refused to take this identifier.
    Refused,
    /// Braze has refused it, but an earlier request may have put it there: not added again, and removed
    /// when it is not desired any more.
    Disputed,
}
