//! Mapping of Currents events from Braze to Heap events.
//!
//! Pure: no I/O, no clock, no knowledge of buckets or endpoints. The caller passes events one by one and owns the output
//! buffer.
//!
//! # Expected flow
//! [`MappingSettings`] become [`MappingRules`] once. Each thread has an [`EventMapper`]. Records of a file go to
//! [`EventMapper::record`] with the [`EventLayout`] of their schema. A body over HTTP is split by [`pieces`], and each
//! piece goes to [`EventMapper::http`]. A [`MappingOutcome::Held`] event is sent later, after [`complete`] has added its
//! user. [`MappedEvent::link`] feeds the identity map for every outcome.
//!
//! # Guarantees
//! - An event gives the same bytes from a file and over HTTP, if both have its fields: properties are sorted by name,
//!   numbers have their shortest form, and fields have their HTTP names (`properties` of a custom event is
//!   `custom_properties` in both).
//! - The output is one JSON object that Heap accepts: flat, texts and numbers only, names and texts of at most 1,023
//!   characters. Events: `{"event","timestamp","idempotency_key","properties","identity"}`, with `user_id` instead of
//!   `identity` for a hashed anonymous user. Profiles: `{"properties","identity"}`.
//! - Only [`MappingOutcome::Made`] and [`MappingOutcome::Held`] write output.
//! - Unknown types and fields are no error and are mapped like known ones.
//!
//! # Values
//! Objects are flattened with `.`, lists are joined by `||`, booleans become texts, nulls and empty lists are left out.
//! Whole numbers beyond 2^53 become texts, because Heap reads numbers as doubles. JSON inside a text is opened in the
//! fields that Braze documents as JSON; a text that is not JSON stays a text.

mod catalogue;
mod collect;
mod glob;
mod http;
mod json;
mod layout;
mod mapper;
mod outcome;
mod rules;
mod settings;
mod time;
mod user;

pub use catalogue::{TYPES, is_known, readable};
pub use glob::{NameGlobError, NameGlobs};
pub use http::EventSummary;
pub use json::{JsonError, has_pieces, pieces};
pub use layout::EventLayout;
pub use mapper::{EventMapper, MappingContext, complete};
pub use outcome::{
    AnonymousIds, EventKind, EventRejectReason, EventUser, IdentityLink, IgnoredReason, MappedEvent,
    MappingOutcome, OwnerLookup, Rejection,
};

pub use rules::{MappingRules, RulesError, check_glob, check_rename};
pub use settings::{
    AnonymousPolicy, CustomEventNaming, EventNaming, IdentityFrom, MappingSettings, Pii, PropertyFilter,
};
pub use user::heap_user_id;
