//! What becomes of one event: the answers that the caller counts, keeps and sends.

use std::borrow::Cow;

/// What mapping one event gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped<'a> {
    /// What becomes of it.
    pub outcome: MappingOutcome<'a>,
    /// What it says of who is who, whatever becomes of it.
    pub link: Option<IdentityLink<'a>>,
    /// When it happened, in seconds since 1970, if it has a link and says so.
    pub seen: Option<i64>,
    /// Whether its type is in the catalogue.
    pub is_known: bool,
}

/// What becomes of one event. Bytes are written with the first two only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingOutcome<'a> {
    /// A JSON object has been written, to go to Heap.
    Made {
        /// What the object is.
        what: EventKind,
        /// Whom it is about, as the object says it too.
        who: EventUser<'a>,
    },
    /// A JSON object has been written that names nobody yet; [`super::complete`] adds who it is.
    Held {
        /// What the object is.
        what: EventKind,
        /// By what the person may become known.
        keys: AnonymousIds<'a>,
    },
    /// It is not wanted.
    Ignored(IgnoredReason),
    /// It cannot be used.
    Rejected(Rejection),
}

/// What a written object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// One event, for `/api/track`.
    Event,
    /// One user, for `/api/add_user_properties`.
    Profile,
}

/// The person whom Heap is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventUser<'a> {
    /// Heap's `identity`.
    Identity(Cow<'a, str>),
    /// Heap's `user_id`, of an anonymous person.
    UserId(u64),
}

/// By what Braze knows a person who has no identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnonymousIds<'a> {
    /// Braze's own id.
    pub user_id: Option<Cow<'a, str>>,
    /// The device.
    pub device_id: Option<Cow<'a, str>>,
}

impl AnonymousIds<'_> {
    /// Whether there is nothing to look up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.user_id.is_none() && self.device_id.is_none()
    }
}

/// What an event says of who is who.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityLink<'a> {
    /// One person: the customer's id with Braze's id, the device, or both.
    Tie {
        /// The customer's id.
        external_user_id: Cow<'a, str>,
        /// The keys, of which there is at least one.
        keys: AnonymousIds<'a>,
    },
    /// `users.UserOrphan`: Braze has merged one person into another. Both are Braze's ids.
    Merge {
        /// Who is no more.
        from: Cow<'a, str>,
        /// Whom they are now.
        into: Cow<'a, str>,
    },
    /// `users.UserDeleteRequest`: this person is to be forgotten.
    Deletion {
        /// Braze's id.
        user_id: Cow<'a, str>,
    },
}

/// Who an anonymous person is, as far as anybody knows.
pub trait OwnerLookup {
    /// The identity of whoever has these keys.
    fn owner(&self, keys: &AnonymousIds<'_>) -> Option<Cow<'_, str>>;
}

/// Nobody is known.
impl OwnerLookup for () {
    fn owner(&self, _: &AnonymousIds<'_>) -> Option<Cow<'_, str>> {
        None
    }
}

/// Why an event is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IgnoredReason {
    /// Its type is not among those that go to Heap.
    NotSelected,
    /// Its person has no identity, and such events are dropped.
    Anonymous,
    /// It is about nobody: there is no id of any kind.
    Nobody,
}

impl IgnoredReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NotSelected, Self::Anonymous, Self::Nobody];

    /// The stable word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSelected => "not_selected",
            Self::Anonymous => "anonymous",
            Self::Nobody => "nobody",
        }
    }
}

/// An event that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub reason: EventRejectReason,
    /// What stands there, or where.
    pub detail: String,
}

impl Rejection {
    pub(super) fn new(reason: EventRejectReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Why an event cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventRejectReason {
    /// It is not JSON.
    NotJson,
    /// It is JSON, but no object.
    NotAnObject,
    /// Nothing says of what type it is.
    NoEventType,
    /// Its id is missing or empty: it could not be told from its own repetition.
    NoId,
    /// Its id is a placeholder, too long, or no text.
    BadId,
    /// It has no time.
    NoTime,
    /// Its time is no number.
    BadTime,
    /// Its time is not within the years 1 to 9999: milliseconds, perhaps, where seconds belong.
    TimeOutOfRange,
    /// Its time is further ahead of the clock than the settings allow.
    TimeInFuture,
    /// Its identity stands for "nobody", as `[REDACTED]` does.
    IdentityPlaceholder,
    /// Its identity is longer than Heap takes.
    IdentityTooLong,
    /// Its identity holds a control character.
    IdentityControlCharacter,
    /// Its identity is not UTF-8.
    IdentityNotUtf8,
    /// Its properties take more than 16 MiB when each has its name in full.
    TooLarge,
}

impl EventRejectReason {
    /// Whether it is no event at all: nothing in it could be used, whatever the settings.
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

    /// The stable word for it, in rejects and reports.
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
