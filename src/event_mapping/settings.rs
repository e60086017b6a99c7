//! What a person may decide about the way of an event, as plain values. Nothing here knows of YAML.

/// All settings of one export. The default takes every event, drops personal data and names people by
/// their `external_user_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingSettings {
    /// Globs over the event type; empty: all. `*` stands for anything within a segment, `**` for anything.
    pub include: Vec<String>,
    /// Globs over the event type that are left out of what `include` takes.
    pub exclude: Vec<String>,
    /// Names of events and properties.
    pub naming: EventNaming,
    /// Which properties go along.
    pub properties: PropertyFilter,
    /// What becomes of fields that Braze tags as personal data.
    pub pii: Pii,
    /// Where Heap's `identity` is taken from; the first that is not empty decides.
    pub identity: Vec<IdentityFrom>,
    /// What becomes of the events of people without an identity.
    pub anonymous: AnonymousPolicy,
    /// Put before the event's id in `idempotency_key`, with a colon, when several connectors may share ids.
    pub connector_id: Option<String>,
    /// How far ahead of the clock an event's time may be; none: any time goes.
    pub future_seconds_max: Option<u32>,
    /// `users.profile.Update` becomes user properties instead of an event.
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

/// How things are named in Heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventNaming {
    /// Before the readable name of every event: `Braze ` gives `Braze Email Open`, `braze-` as Heap's own
    /// integration has it gives `braze-Email Open`.
    pub event_prefix: String,
    /// Before the name of every property.
    pub property_prefix: String,
    /// How a custom event is named.
    pub custom_events: CustomEventNaming,
    /// Event types with the whole name that each is to have; no prefix is added.
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
    /// `Custom Event: <name>`: nobody takes it for the event of that name that Heap has seen itself.
    #[default]
    Labeled,
    /// `<name>`.
    Bare,
}

/// Which properties go along, by globs over their names: `timezone`, `custom_properties.**`. A glob that
/// matches a name matches what is below it too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyFilter {
    /// Only these; empty: all.
    pub keep: Vec<String>,
    /// All but these.
    pub drop: Vec<String>,
    /// From and to, without the prefix; the first that matches. One wildcard in both carries over what it
    /// stood for: `custom_properties.**` to `**`.
    pub rename: Vec<(String, String)>,
}

/// What becomes of fields that Braze tags as personal data. A field that is tagged in one event type
/// counts as tagged in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pii {
    /// They are left out.
    #[default]
    Drop,
    /// They go along like any other.
    Keep,
    /// Those that these globs match go along.
    Only(Vec<String>),
}

/// Where an identity is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityFrom {
    /// The customer's own id of the person.
    ExternalUserId,
    /// Braze's id of the person.
    BrazeUserId,
    /// A property with an alias, by its name: `custom_properties.email`.
    Property(String),
}

/// What becomes of the events of people without an identity, whose owner nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousPolicy {
    /// They are left out.
    #[default]
    Drop,
    /// They go to the anonymous Heap user whose number is a hash of Braze's `user_id`, or of `device_id`.
    Hash,
    /// They wait until the person is known.
    Hold,
}
