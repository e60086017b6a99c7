//! The shape of `exports:`: engagement events from Braze to Heap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScheduleSpec, SecretSpec};
use crate::config::text::{
    Identity, Length, OneOrMany, OptionalLength, Since, Slug, Text, UrlPath, WholeNumber,
};

/// An export of engagement events from Braze Currents to Heap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ExportSpec {
    /// Stable id. The state records progress by it; never reuse it for another source.
    #[schemars(example = &"engagement")]
    pub(in crate::config) id: Slug,
    /// Source of the events.
    #[schemars(example = serde_json::json!({ "kind": "currents_storage", "url": "s3://acme-currents/braze" }))]
    pub(in crate::config) source: ExportSourceSpec,
    /// Heap connection that receives the events.
    #[schemars(example = &"heap")]
    pub(in crate::config) to: Slug,
    /// Event types to export. All if absent.
    #[serde(default)]
    pub(in crate::config) events: EventsSpec,
    /// Field that becomes the Heap identity: `external_user_id`, `braze_user_id`, or `property:<name>`. In a list, the first non-empty field applies.
    #[serde(default = "default_identity")]
    #[schemars(example = &"external_user_id")]
    #[schemars(example = ["external_user_id", "property:custom_properties.email"])]
    pub(in crate::config) identity: OneOrMany<Identity>,
    /// Handling of events without an identity.
    #[serde(default)]
    pub(in crate::config) anonymous: AnonymousSpec,
    /// Limits of held events, with `anonymous: hold`.
    #[serde(default)]
    pub(in crate::config) hold: HoldSpec,
    /// Names of events and properties in Heap.
    #[serde(default)]
    pub(in crate::config) naming: NamingSpec,
    /// Properties to export and their names.
    #[serde(default)]
    pub(in crate::config) properties: PropertiesSpec,
    /// Fields that Braze marks as personal data: `drop`, `keep`, or a list of globs of fields to keep.
    #[serde(default = "default_pii")]
    #[schemars(example = &"drop")]
    #[schemars(example = ["email_address"])]
    pub(in crate::config) pii: OneOrMany<Text>,
    /// `true` sends `users.profile.Update` as user properties instead of an event.
    #[serde(default)]
    pub(in crate::config) profiles: bool,
    /// How far in the future an event's time may be, or `off` for no limit.
    #[serde(default = "default_future_max")]
    pub(in crate::config) future_max: OptionalLength,
    /// Prefix of Heap's idempotency keys. Required only if several Currents connectors may use the same event ids.
    #[schemars(example = &"eu")]
    pub(in crate::config) connector_id: Option<Text>,
    /// Maximum number of events per request. Heap accepts at most 1,000.
    #[serde(default = "default_batch")]
    pub(in crate::config) batch: WholeNumber<1, 1000>,
    /// How long `watch` collects posted events before it sends them.
    #[serde(default = "default_flush_every")]
    pub(in crate::config) flush_every: Length,
    /// How long rejected events are kept for `syncline replay`.
    #[serde(default = "default_keep_rejects")]
    pub(in crate::config) keep_rejects: Length,
    /// Earliest time of events. Older files are not read.
    #[schemars(example = &"2026-01-01")]
    pub(in crate::config) since: Option<Since>,
    /// Schedule of export runs in `syncline watch`, in addition to runs on changes of the source.
    #[schemars(example = serde_json::json!({ "every": "15m" }))]
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

/// Source of engagement events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ExportSourceSpec {
    /// Avro files of Braze Currents, in a bucket or a folder.
    CurrentsStorage(StorageSourceSpec),
    /// HTTP posts of Braze Currents to `syncline watch`.
    CurrentsHttp(HttpSourceSpec),
}

/// Avro files of Braze Currents, in a bucket or a folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct StorageSourceSpec {
    /// Folder, relative to the config's folder.
    #[schemars(example = "examples/data/currents")]
    pub(in crate::config) path: Option<Text>,
    /// Bucket and prefix that Braze writes to. Credentials come from the vendor's environment variables or the machine's identity.
    #[schemars(example = &"s3://acme-currents/braze")]
    pub(in crate::config) url: Option<BucketUrl>,
    /// Address of the object store, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// How long to wait for the rest of a truncated file.
    #[serde(default = "default_incomplete_after")]
    pub(in crate::config) incomplete_after: Length,
}

fn default_incomplete_after() -> Length {
    Length::from_secs(60 * 60)
}

pub(in crate::config) use crate::config::text::BucketUrl;

/// HTTP posts of Braze Currents to `syncline watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HttpSourceSpec {
    /// Bearer token that Braze sends.
    pub(in crate::config) token: Option<SecretSpec>,
    /// Previous token, accepted while you rotate it.
    pub(in crate::config) token_previous: Option<SecretSpec>,
    /// Path of the endpoint. Default: `/currents/<id>`.
    #[schemars(example = "/braze/currents")]
    pub(in crate::config) path: Option<UrlPath>,
}

/// Globs of event types: `*` matches between two dots, `**` matches everything.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EventsSpec {
    /// Types to export. All if absent.
    #[schemars(example = ["users.messages.**"])]
    pub(in crate::config) include: Vec<Text>,
    /// Types to exclude.
    #[schemars(example = ["users.messages.*.Abort"])]
    pub(in crate::config) exclude: Vec<Text>,
}

/// Handling of events without an identity.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum AnonymousSpec {
    /// They are not exported.
    #[default]
    Drop,
    /// They are sent to an anonymous Heap user; its id is a hash of Braze's user id.
    Hash,
    /// They wait until another event identifies the user.
    Hold,
}

/// Limits of events that wait for an identity. Events beyond the limits are rejected.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct HoldSpec {
    /// Longest waiting time.
    pub(in crate::config) age: Length,
    /// Largest number of waiting events. The oldest are rejected first.
    pub(in crate::config) count: WholeNumber<1, 10_000_000>,
}

impl Default for HoldSpec {
    fn default() -> Self {
        Self { age: Length::from_secs(30 * 24 * 60 * 60), count: WholeNumber(1_000_000) }
    }
}

/// Names of events and properties in Heap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct NamingSpec {
    /// Prefix of event names: `Braze ` results in `Braze Email Open`. Heap's own integration uses `braze-`.
    #[schemars(example = "braze-")]
    pub(in crate::config) prefix: String,
    /// Prefix of property names.
    #[schemars(example = "braze-")]
    pub(in crate::config) property_prefix: String,
    /// Names of custom events, after the prefix.
    pub(in crate::config) custom_events: CustomEventsSpec,
    /// Complete names for single event types, without prefix.
    #[schemars(example = serde_json::json!({ "users.messages.email.Open": "Email opened" }))]
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

/// Names of custom events.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum CustomEventsSpec {
    /// `Custom Event: <name>`
    #[default]
    Labeled,
    /// `<name>`
    Bare,
}

/// Globs of property names. A glob that matches a name also matches the properties below it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct PropertiesSpec {
    /// Properties to export. All if absent.
    #[schemars(example = ["campaign_*", "custom_properties.**"])]
    pub(in crate::config) keep: Vec<Text>,
    /// Properties to exclude.
    #[schemars(example = ["dispatch_id"])]
    pub(in crate::config) drop: Vec<Text>,
    /// New names. The first match applies.
    #[schemars(example = serde_json::json!([{ "from": "custom_properties.**", "to": "**" }]))]
    pub(in crate::config) rename: Vec<RenameSpec>,
}

/// A new name for a property. A wildcard in `to` repeats the match of the wildcard in `from`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RenameSpec {
    /// Name in Braze.
    #[schemars(example = "custom_properties.**")]
    pub(in crate::config) from: Text,
    /// Name in Heap, without the prefix.
    #[schemars(example = "**")]
    pub(in crate::config) to: Text,
}
