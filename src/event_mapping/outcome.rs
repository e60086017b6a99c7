//! Outcomes of mapping one event: made, held, ignored or rejected, and the identity link.

use std::borrow::Cow;

/// The result of mapping one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedEvent<'a> {
    /// The outcome.
    pub outcome: MappingOutcome<'a>,
    /// The identity link of the event, for every outcome.
    pub link: Option<IdentityLink<'a>>,
    /// The time of the event in seconds since 1970, if it has a link and a time.
    pub seen: Option<i64>,
    /// Whether the catalogue has its type.
    pub is_known: bool,
}

/// The outcome of one event. Only the first two write bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingOutcome<'a> {
    /// A JSON object for Heap was written.
    Made {
        /// The kind of the object.
        what: EventKind,
        /// The user of the object.
        who: EventUser<'a>,
    },
    /// A JSON object without a user was written; [`super::complete`] adds the user.
    Held {
        /// The kind of the object.
        what: EventKind,
        /// The ids by which the user may be identified later.
        keys: AnonymousIds<'a>,
    },
    /// The settings exclude it.
    Ignored(IgnoredReason),
    /// It cannot be mapped.
    Rejected(Rejection),
}

/// The kind of a written object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// One event, for `/api/track`.
    Event,
    /// One user, for `/api/add_user_properties`.
    Profile,
}

/// The user of an event in Heap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventUser<'a> {
    /// Heap's `identity`.
    Identity(Cow<'a, str>),
    /// Heap's `user_id` of an anonymous user.
    UserId(u64),
}

/// The ids of a user without an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnonymousIds<'a> {
    /// Braze's own id.
    pub user_id: Option<Cow<'a, str>>,
    /// The device id.
    pub device_id: Option<Cow<'a, str>>,
}

impl AnonymousIds<'_> {
    /// Whether there is no id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.user_id.is_none() && self.device_id.is_none()
    }
}

/// An identity link in an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityLink<'a> {
    /// The customer's id of a user with Braze's id, the device id, or both.
    Tie {
        /// The customer's id.
        external_user_id: Cow<'a, str>,
        /// The user's ids; at least one is set.
        keys: AnonymousIds<'a>,
    },
    /// `users.UserOrphan`: Braze merged a user into another. Both ids are Braze's.
    Merge {
        /// The id that no longer exists.
        from: Cow<'a, str>,
        /// The id that replaces it.
        into: Cow<'a, str>,
    },
    /// `users.UserDeleteRequest`: the user must be deleted.
    Deletion {
        /// Braze's id.
        user_id: Cow<'a, str>,
    },
}

/// A lookup of the identities of anonymous users.
pub trait OwnerLookup {
    /// The identity of the user with these ids, if it is known.
    fn owner(&self, keys: &AnonymousIds<'_>) -> Option<Cow<'_, str>>;
}

/// A lookup that knows no user.
impl OwnerLookup for () {
    fn owner(&self, _: &AnonymousIds<'_>) -> Option<Cow<'_, str>> {
        None
    }
}

/// Why an event is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IgnoredReason {
    /// The settings do not select its type.
    NotSelected,
    /// Its user has no identity, and the settings drop such events.
    Anonymous,
    /// It has no user id of any kind.
    NoUser,
}

impl IgnoredReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NotSelected, Self::Anonymous, Self::NoUser];

    /// The stable code of the reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::Anonymous => "anonymous",
            Self::NoUser => "no_user",
        }
    }
}

/// An event that cannot be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason.
    pub reason: EventRejectReason,
    /// The faulty value or its position.
    pub detail: String,
}

impl Rejection {
    pub(super) fn new(reason: EventRejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Why an event is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventRejectReason {
    /// It is not JSON.
    NotJson,
    /// It is JSON, but not an object.
    NotAnObject,
    /// It has no event type.
    NoEventType,
    /// Its id is missing or empty, so that repetitions could not be detected.
    NoId,
    /// Its id is a placeholder, too long, or not a text.
    BadId,
    /// It has no time.
    NoTime,
    /// Its time is not a number.
    BadTime,
    /// Its time is outside of the years 1 to 9999, perhaps milliseconds instead of seconds.
    TimeOutOfRange,
    /// Its time is further in the future than the settings allow.
    TimeInFuture,
    /// Its identity is a placeholder such as `[REDACTED]`.
    IdentityPlaceholder,
    /// Its identity is longer than Heap accepts.
    IdentityTooLong,
    /// Its identity holds a control character.
    IdentityControlCharacter,
    /// Its identity is not UTF-8.
    IdentityNotUtf8,
    /// Its properties exceed 16 MiB with their full names.
    TooLarge,
}

impl EventRejectReason {
    /// Whether the element is not an event at all, under any settings.
    #[must_use]
    pub fn is_shapeless(self) -> bool {
        matches!(self, Self::NotJson | Self::NotAnObject | Self::NoEventType)
    }

    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::NotJson,
        Self::NotAnObject,
        Self::NoEventType,
        Self::NoId,
        Self::BadId,
        Self::NoTime,
        Self::BadTime,
        Self::TimeOutOfRange,
        Self::TimeInFuture,
        Self::IdentityPlaceholder,
        Self::IdentityTooLong,
        Self::IdentityControlCharacter,
        Self::IdentityNotUtf8,
        Self::TooLarge,
    ];

    /// The stable code of the reason, in rejects and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NoEventType => "no_event_type",
            Self::NoId => "no_id",
            Self::BadId => "bad_id",
            Self::NoTime => "no_time",
            Self::BadTime => "bad_time",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::TimeInFuture => "time_in_future",
            Self::IdentityPlaceholder => "identity_placeholder",
            Self::IdentityTooLong => "identity_too_long",
            Self::IdentityControlCharacter => "identity_control_character",
            Self::IdentityNotUtf8 => "identity_not_utf8",
            Self::TooLarge => "too_large",
        }
    }
}
