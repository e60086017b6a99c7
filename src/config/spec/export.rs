//! The shape of `exports:`: engagement events that go from Braze to Heap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScheduleSpec, SecretSpec};
use crate::config::text::{
    Identity, Length, OneOrMany, OptionalLength, Since, Slug, Text, UrlPath, WholeNumber,
};

/// A flow of engagement events from Braze to Heap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExportSpec {
    /// The stable id. What has been sent is remembered under it; never use it for another source.
    #[schemars(example = &"engagement")]
    pub(in crate::config) id: Slug,
    /// Where the events come from.
    pub(in crate::config) source: ExportSourceSpec,
    /// The Heap connection that they are sent to.
    #[schemars(example = &"heap")]
    pub(in crate::config) to: Slug,
    /// Which events go.
    #[serde(default)]
    pub(in crate::config) events: EventsSpec,
    /// What names a person in Heap: `external_user_id`, `braze_user_id`, or `property:<name>` for an alias in a property. Of several, the first that is not empty.
    #[serde(default = "default_identity")]
    #[schemars(example = &"external_user_id")]
    #[schemars(example = ["external_user_id", "property:custom_properties.email"])]
    pub(in crate::config) identity: OneOrMany<Identity>,
    /// What becomes of the events of people who have none of these.
    #[serde(default)]
    pub(in crate::config) anonymous: AnonymousSpec,
    /// How long, and how many, events are held with `anonymous: hold`.
    #[serde(default)]
    pub(in crate::config) hold: HoldSpec,
    /// How events and properties are named in Heap.
    #[serde(default)]
    pub(in crate::config) naming: NamingSpec,
    /// Which properties go along, and under which names.
    #[serde(default)]
    pub(in crate::config) properties: PropertiesSpec,
    /// Fields that Braze tags as personal data: `drop` leaves them out, `keep` sends them, and a list of globs sends those that it matches.
    #[serde(default = "default_pii")]
    #[schemars(example = &"drop")]
    #[schemars(example = ["email_address"])]
    pub(in crate::config) pii: OneOrMany<Text>,
    /// `true`: `users.profile.Update` becomes user properties instead of an event.
    #[serde(default)]
    pub(in crate::config) profiles: bool,
    /// How far ahead of the clock an event's time may be, or `off` for any distance.
    #[serde(default = "default_future_max")]
    pub(in crate::config) future_max: OptionalLength,
    /// Put before each event's id in Heap's idempotency key, with a colon. Needed only when several of Braze's connectors could give one id to two events.
    pub(in crate::config) connector_id: Option<Text>,
    /// How many events go into one request. Heap takes at most 1,000.
    #[serde(default = "default_batch")]
    pub(in crate::config) batch: WholeNumber<1, 1000>,
    /// How long `watch` gathers what is posted before it sends it.
    #[serde(default = "default_flush_every")]
    pub(in crate::config) flush_every: Length,
    /// How long events that could not be used are kept for `syncline replay`.
    #[serde(default = "default_keep_rejects")]
    pub(in crate::config) keep_rejects: Length,
    /// Events before this are left out, and files of earlier days are not read.
    pub(in crate::config) since: Option<Since>,
    /// When `syncline watch` looks at the source again, whatever it was told of it.
    pub(in crate::config) schedule: Option<ScheduleSpec>,
}

fn default_identity() -> OneOrMany<Identity> {
    OneOrMany(vec![Identity("external_user_id".to_owned())])
}

fn default_pii() -> OneOrMany<Text> {
    OneOrMany(vec![Text("drop".to_owned())])
}

fn default_future_max() -> OptionalLength {
    OptionalLength(Some(Length::from_secs(7 * 24 * 60 * 60)))
}

fn default_batch() -> WholeNumber<1, 1000> {
    WholeNumber(1000)
}

fn default_flush_every() -> Length {
    Length::from_secs(5)
}

fn default_keep_rejects() -> Length {
    Length::from_secs(30 * 24 * 60 * 60)
}

/// Where engagement events come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ExportSourceSpec {
    /// Braze Currents as Avro files, in a bucket or a folder.
    CurrentsStorage(StorageSourceSpec),
    /// Braze Currents posted over HTTP to `syncline watch`.
    CurrentsHttp(HttpSourceSpec),
}

/// Braze Currents as Avro files, in a bucket or a folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StorageSourceSpec {
    /// The folder, relative to the config's.
    #[schemars(example = "examples/data/currents")]
    pub(in crate::config) path: Option<Text>,
    /// The bucket with the prefix under which Braze writes. Credentials come from the vendor's environment variables and the identity of the machine.
    #[schemars(example = &"s3://acme-currents/braze")]
    pub(in crate::config) url: Option<BucketUrl>,
    /// The store's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// How long the rest of a file that ends too early is waited for.
    #[serde(default = "default_incomplete_after")]
    pub(in crate::config) incomplete_after: Length,
}

fn default_incomplete_after() -> Length {
    Length::from_secs(60 * 60)
}

pub(in crate::config) use crate::config::text::BucketUrl;

/// Braze Currents posted over HTTP to `syncline watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HttpSourceSpec {
    /// The token that Braze was told to send.
    pub(in crate::config) token: Option<SecretSpec>,
    /// The token before it, while it is being replaced: both are taken.
    pub(in crate::config) token_previous: Option<SecretSpec>,
    /// The path of the door, if not `/currents/<id>`.
    #[schemars(example = "/braze/currents")]
    pub(in crate::config) path: Option<UrlPath>,
}

/// Which events go, by globs over their types: `*` stands for anything between two dots, `**` for anything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EventsSpec {
    /// These; all of them if not given.
    #[schemars(example = ["users.messages.**"])]
    pub(in crate::config) include: Vec<Text>,
    /// But not these.
    #[schemars(example = ["users.messages.*.Abort"])]
    pub(in crate::config) exclude: Vec<Text>,
}

/// What becomes of the events of people who have no identity.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum AnonymousSpec {
    /// They are left out.
    #[default]
    Drop,
    /// They go to an anonymous Heap user whose number is a hash of Braze's id of the person.
    Hash,
    /// They wait until another event tells who the person is.
    Hold,
}

/// How long, and how many, events wait for a person to become known. What is beyond that is a reject.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct HoldSpec {
    /// The longest time.
    pub(in crate::config) age: Length,
    /// The largest number; the oldest give way.
    pub(in crate::config) count: WholeNumber<1, 10_000_000>,
}

impl Default for HoldSpec {
    fn default() -> Self {
        Self { age: Length::from_secs(30 * 24 * 60 * 60), count: WholeNumber(1_000_000) }
    }
}

/// How events and properties are named in Heap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct NamingSpec {
    /// Before the readable name of every event: `Braze ` gives `Braze Email Open`, and `braze-` what Heap's own integration gives.
    #[schemars(example = "braze-")]
    pub(in crate::config) prefix: String,
    /// Before the name of every property.
    #[schemars(example = "braze-")]
    pub(in crate::config) property_prefix: String,
    /// How a custom event is named, behind the prefix.
    pub(in crate::config) custom_events: CustomEventsSpec,
    /// Whole names for single event types; no prefix is added.
    pub(in crate::config) overrides: std::collections::BTreeMap<String, Text>,
}

impl Default for NamingSpec {
    fn default() -> Self {
        let defaults = crate::event_mapping::EventNaming::default();
        Self {
            prefix: defaults.event_prefix,
            property_prefix: defaults.property_prefix,
            custom_events: CustomEventsSpec::default(),
            overrides: std::collections::BTreeMap::new(),
        }
    }
}

/// How a custom event is named.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum CustomEventsSpec {
    /// `Custom Event: <name>`
    #[default]
    Labeled,
    /// `<name>`
    Bare,
}

/// Which properties go along, by globs over their names. A glob that matches a name matches what is below it too.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct PropertiesSpec {
    /// Only these; all of them if not given.
    #[schemars(example = ["campaign_*", "custom_properties.**"])]
    pub(in crate::config) keep: Vec<Text>,
    /// But not these.
    #[schemars(example = ["dispatch_id"])]
    pub(in crate::config) drop: Vec<Text>,
    /// Other names; the first that matches decides.
    pub(in crate::config) rename: Vec<RenameSpec>,
}

/// Another name for a property. One wildcard in both carries over what it stood for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RenameSpec {
    /// The name as Braze has it.
    #[schemars(example = "custom_properties.**")]
    pub(in crate::config) from: Text,
    /// The name in Heap, without the prefix.
    #[schemars(example = "**")]
    pub(in crate::config) to: Text,
}
