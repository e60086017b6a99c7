//! Settings of the event mapping, as plain values without YAML.

/// All settings of one export. The default selects every event, drops personal data, and identifies users by their
/// `external_user_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSettings {
    /// Globs over event types; empty selects all. `*` matches within a segment, `**` across segments.
    pub include: Vec<String>,
    /// Globs over event types that are excluded.
    pub exclude: Vec<String>,
    /// Names of events and properties.
    pub naming: EventNaming,
    /// The properties to send.
    pub properties: PropertyFilter,
    /// The treatment of fields that Braze tags as personal data.
    pub pii: Pii,
    /// The sources of Heap's `identity`; the first non-empty one is used.
    pub identity: Vec<IdentityFrom>,
    /// The treatment of events without an identity.
    pub anonymous: AnonymousPolicy,
    /// A prefix for the event's id in `idempotency_key`, with a colon, for connectors that may share ids.
    pub connector_id: Option<String>,
    /// The largest lead of an event's time over the clock; `None` accepts any time.
    pub future_seconds_max: Option<u32>,
    /// Whether `users.profile.Update` becomes user properties instead of an event.
    pub profiles: bool,
}

impl Default for MappingSettings {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            naming: EventNaming::default(),
            properties: PropertyFilter::default(),
            pii: Pii::default(),
            identity: vec![IdentityFrom::ExternalUserId],
            anonymous: AnonymousPolicy::default(),
            connector_id: None,
            future_seconds_max: Some(7 * 24 * 60 * 60),
            profiles: false,
        }
    }
}

/// Names in Heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNaming {
    /// A prefix for every event's readable name: `Braze ` gives `Braze Email Open`. Heap's own integration uses `braze-`.
    pub event_prefix: String,
    /// A prefix for every property.
    pub property_prefix: String,
    /// The names of custom events.
    pub custom_events: CustomEventNaming,
    /// Complete names for event types; no prefix is added.
    pub overrides: Vec<(String, String)>,
}

impl Default for EventNaming {
    fn default() -> Self {
        Self {
            event_prefix: "Braze ".to_owned(),
            property_prefix: String::new(),
            custom_events: CustomEventNaming::default(),
            overrides: Vec::new(),
        }
    }
}

/// How `users.behaviors.CustomEvent` is named after its `name`, behind the prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CustomEventNaming {
    /// `Custom Event: <name>`, which differs from Heap's own event of that name.
    #[default]
    Labeled,
    /// `<name>`.
    Bare,
}

/// The properties to send, by globs over their names: `timezone`, `custom_properties.**`. A glob that matches a name
/// matches the names below it too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyFilter {
    /// Only these; empty selects all.
    pub keep: Vec<String>,
    /// All but these.
    pub drop: Vec<String>,
    /// Old and new names without the prefix; the first match is used. One wildcard in both carries over its text, for
    /// example `custom_properties.**` to `**`.
    pub rename: Vec<(String, String)>,
}

/// The treatment of fields that Braze tags as personal data. A field that is tagged in one event type counts as tagged
/// in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pii {
    /// They are dropped.
    #[default]
    Drop,
    /// They are sent like others.
    Keep,
    /// Fields that match these globs are sent.
    Only(Vec<String>),
}

/// A source of the identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityFrom {
    /// The customer's id of the user.
    ExternalUserId,
    /// Braze's id of the user.
    BrazeUserId,
    /// A property, by its name, for example `custom_properties.email`.
    Property(String),
}

/// The treatment of events of users without an identity or known owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// They are dropped.
    #[default]
    Drop,
    /// They are sent for the anonymous Heap user with a hash of Braze's `user_id` or of `device_id`.
    Hash,
    /// They are held until the user is identified.
    Hold,
}
