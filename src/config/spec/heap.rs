//! The shape of a Heap environment, and of a cohort that is defined in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetrySpec, SecretSpec};
use crate::config::text::{Amount, AppIdText, Bound, Length, Slug, UrlPath, WholeNumber};

/// A Heap environment. It takes events, and tells of its segments by a webhook that `syncline watch` answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeapSpec {
    /// Where Heap is: `us`, `eu`, or `sandbox` for a small Heap on this machine that needs no keys.
    pub(in crate::config) region: Option<RegionSpec>,
    /// The base address of Heap's API, instead of `region`.
    #[schemars(example = "https://heapanalytics.com")]
    pub(in crate::config) endpoint: Option<String>,
    /// The environment id, which events are sent with. It is no secret: every page that Heap is on shows it.
    pub(in crate::config) app_id: Option<AppIdText>,
    /// The API key of Heap's user deletion, for `syncline forget --heap`.
    pub(in crate::config) api_key: Option<SecretSpec>,
    /// How many events Heap takes. What is beyond waits.
    #[serde(default)]
    pub(in crate::config) limits: EventLimitsSpec,
    /// How many requests with events are under way at once.
    #[serde(default = "default_requests_at_once")]
    pub(in crate::config) requests_at_once: WholeNumber<1, 64>,
    /// The largest request with events.
    #[serde(default = "default_request_max")]
    pub(in crate::config) request_max: Amount,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub(in crate::config) timeout: Length,
    /// When to give up on a request that Heap does not take.
    #[serde(default)]
    pub(in crate::config) retry: RetrySpec,
    /// The secret that Heap signs its webhook with: Heap's Developer Hub shows it when the webhook is registered.
    pub(in crate::config) webhook_secret: Option<SecretSpec>,
    /// The secret before it, while it is being replaced: both are taken.
    pub(in crate::config) webhook_secret_previous: Option<SecretSpec>,
    /// How the webhook is answered.
    #[serde(default)]
    pub(in crate::config) webhook: WebhookSpec,
}

fn default_requests_at_once() -> WholeNumber<1, 64> {
    WholeNumber(4)
}

fn default_request_max() -> Amount {
    Amount(4 << 20)
}

fn default_timeout() -> Length {
    Length::from_secs(30)
}

/// How many events Heap takes in a time, as it documents it. What is beyond waits, and keeps nobody else waiting.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EventLimitsSpec {
    /// Of one person.
    pub(in crate::config) per_identity: Bound,
    /// Of all together.
    pub(in crate::config) per_app: Bound,
    /// The time.
    pub(in crate::config) window: Length,
}

impl Default for EventLimitsSpec {
    fn default() -> Self {
        Self { per_identity: Bound(Some(1_000)), per_app: Bound(Some(15_000)), window: Length::from_secs(60) }
    }
}

/// Where Heap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum RegionSpec {
    /// heapanalytics.com
    Us,
    /// c.eu.heap-api.com
    Eu,
    /// A small Heap on this machine.
    Sandbox,
}

/// How Heap's webhook is answered.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WebhookSpec {
    /// The path of the door, if not `/heap/<connection>`.
    #[schemars(example = "/heap/segments")]
    pub(in crate::config) path: Option<UrlPath>,
    /// How old a signature may be. Heap may repeat a delivery long after it signed it; a delivery that arrives twice
    /// changes nothing the second time.
    pub(in crate::config) max_age: Length,
    /// How far in the future a signature may be, by the clock of this machine.
    pub(in crate::config) max_ahead: Length,
    /// How long the missing pages of a sync are waited for. Until then the sync takes nobody out of the segment.
    pub(in crate::config) incomplete_after: Length,
}

impl Default for WebhookSpec {
    fn default() -> Self {
        Self {
            path: None,
            max_age: Length::from_secs(24 * 60 * 60),
            max_ahead: Length::from_secs(10),
            incomplete_after: Length::from_secs(60 * 60),
        }
    }
}

/// A segment that is defined in Heap and told by its webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeapSegmentSourceSpec {
    /// The Heap connection whose webhook tells of the segment.
    #[schemars(example = &"heap")]
    pub(in crate::config) connection: Slug,
    /// Heap's number of the segment. Its rows have one column, `id`: the identity that Heap was told to send.
    #[schemars(example = 1_338_065)]
    pub(in crate::config) segment_id: u64,
}
