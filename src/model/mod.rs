//! Domain types: plain values, validated at construction.
//!
//! All other modules use them. This module reads no file, clock or network, and does not know YAML, Braze or Parquet.

mod avro_value;
mod build_feature;
mod counted;
mod delivery;
mod duration;
mod id;
mod id_shapes;
mod identifier;
mod key;
mod limits;
mod match_rule;
mod match_tally;
mod network_address;
mod normalize;
mod parser_panic;
mod percentage;
mod progress;
mod reason_words;
mod row_field;
mod row_set;
mod stable_codes;
mod table_checksum;
mod thrift_check;
mod time;

pub use avro_value::{AvroRecord, AvroValue};
pub use build_feature::BuildFeature;
pub use counted::{count, counted, counted_as};
pub use delivery::DeliveryMethod;
pub use duration::{duration_text, duration_words};
pub use id::{CohortId, ConnectionName, EndpointName, ExportId, IdError, RunId, SegmentId};
pub use id_shapes::{IdShapes, is_ambiguous, is_invisible, visible_form};
pub use identifier::{
    ALIAS_LEN_MAX, EXTERNAL_ID_LEN_MAX, Identifier, IdentifierError, IdentifierKind, PACKED_LEN_MAX,
};
pub use key::{KeySeed, MemberKey};
pub use limits::{Ceilings, GuardLimits};
pub use match_rule::MatchRule;
pub use match_tally::MatchTally;
pub use network_address::{is_loopback_host, is_private_address};
pub use normalize::{InvalidIdentifier, all_placeholders, normalize_identifier};
pub use parser_panic::{catch_parser_panic, is_parser_panic};
pub use percentage::{Percentage, PercentageError};
pub use progress::{ExportedAmount, NoProgress, Progress, Stage};
pub use reason_words::reason_words;
pub use row_field::{Field, Fields, NonIdentifier};
pub use row_set::RowSet;
pub(crate) use stable_codes::stable_codes;
pub use table_checksum::TableChecksum;
pub use thrift_check::{CheckedPages, has_plausible_lists};
pub use time::{Clock, ClockReading, Day, Timestamp, parse_time, timestamp_text};

/// The change of one member: entering or leaving a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
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
pub enum MemberStanding {
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
