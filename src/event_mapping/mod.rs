//! One event of Braze's Currents → one event of Heap, or the reason why there is none.
//!
//! Pure: no I/O, no clock, and nothing here knows of buckets or of doors. Whoever reads events hands
//! them over one by one; what is made of them is appended to a buffer of theirs.
//!
//! # Expected flow
//! [`Settings`] become [`Rules`] once. Each thread has a [`Mapper`]. A file's records go to
//! [`Mapper::record`] with the [`Layout`] of their schema; a body that came over HTTP is split by
//! [`pieces`], and each piece goes to [`Mapper::http`]. What is [`Outcome::Held`] is sent later, when
//! [`complete`] has added who it is about. [`Mapped::link`] feeds the identity map whatever the outcome.
//!
//! # Guarantees
//! - The same event gives the same bytes whichever way it came, as far as both ways have its fields:
//!   properties stand in the order of their names, numbers in their shortest form, and fields have the
//!   names that they have over HTTP (`properties` of a custom event is `custom_properties` in both).
//! - What is written is one JSON object that Heap takes: texts and numbers only, flat, names and texts of
//!   at most 1,023 characters. `{"event","timestamp","idempotency_key","properties","identity"}`, with
//!   `user_id` instead of `identity` for a hashed anonymous person; `{"properties","identity"}` for a
//!   profile.
//! - Without [`Outcome::Made`] or [`Outcome::Held`], nothing is written.
//! - An unknown type or field is no error. It goes the way of the known ones.
//!
//! # Values
//! Objects are flattened with `.`, lists joined by `||`, `true` and `false` are texts, null and empty lists
//! are left out. Whole numbers beyond 2^53 are texts, since Heap reads numbers as doubles. JSON inside a
//! text is opened in the fields that Braze documents so; where it is none, the text stays as it is.

mod catalogue;
mod collect;
mod glob;
mod http;
mod json;
mod layout;
mod mapper;
mod outcome;
mod person;
mod rules;
mod settings;
mod time;

pub use catalogue::{TYPES, is_known, readable};
pub use glob::GlobError;
pub use json::{JsonError, has_pieces, pieces};
pub use layout::EventLayout;
pub use mapper::{EventMapper, MappingContext, complete};
pub use outcome::{
    AnonymousIds, EventKind, EventRejectReason, EventUser, IdentityLink, IgnoredReason, Mapped,
    MappingOutcome, OwnerLookup, Rejection,
};
pub use person::heap_user_id;
pub use rules::{Rules, RulesError, check_glob, check_rename, matches_type};
pub use settings::{
    AnonymousPolicy, CustomEventNaming, EventNaming, IdentityFrom, MappingSettings, Pii, PropertyFilter,
};
