//! The shape of a Heap connection and of a Heap segment source.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RetrySpec, SecretSpec};
use crate::config::text::{Amount, AppIdText, Bound, Length, Slug, UrlPath, WholeNumber};

/// A Heap environment. It receives events from exports and sends its segments by webhook to `syncline watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeapSpec {
    /// Region of Heap: `us`, `eu`, or `sandbox` for a local simulation that needs no keys.
    pub(in crate::config) region: Option<RegionSpec>,
    /// Base address of Heap's API. Use either this or `region`.
    #[schemars(example = "https://heapanalytics.com")]
    pub(in crate::config) endpoint: Option<String>,
    /// Environment id (app id) for events. It is not secret: every page with Heap contains it.
    #[schemars(example = &"1234567890")]
    pub(in crate::config) app_id: Option<AppIdText>,
    /// API key of Heap's user deletion, for `syncline forget --heap`.
    pub(in crate::config) api_key: Option<SecretSpec>,
    /// Rate limits of Heap. Further events wait.
    #[serde(default)]
    pub(in crate::config) limits: EventLimitsSpec,
    /// Number of concurrent requests with events.
    #[serde(default = "default_requests_at_once")]
    pub(in crate::config) requests_at_once: WholeNumber<1, 64>,
    /// Maximum size of a request with events.
    #[serde(default = "default_request_max")]
    pub(in crate::config) request_max: Amount,
    /// Timeout of one request.
    #[serde(default = "default_timeout")]
    pub(in crate::config) timeout: Length,
    /// Retries of failed requests.
    #[serde(default)]
    pub(in crate::config) retry: RetrySpec,
    /// Signing secret of the webhook, shown in Heap's Developer Hub when you register the webhook.
    pub(in crate::config) webhook_secret: Option<SecretSpec>,
    /// Previous signing secret, accepted while you rotate it.
    pub(in crate::config) webhook_secret_previous: Option<SecretSpec>,
    /// Settings of the webhook endpoint.
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

/// Rate limits of Heap, with the values that it documents. Events beyond a limit wait; events of other users do not.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EventLimitsSpec {
    /// Events per user in each window.
    pub(in crate::config) per_identity: Bound,
    /// Events of all users in each window.
    pub(in crate::config) per_app: Bound,
    /// Length of the window.
    pub(in crate::config) window: Length,
}

impl Default for EventLimitsSpec {
    fn default() -> Self {
        Self { per_identity: Bound(Some(1_000)), per_app: Bound(Some(15_000)), window: Length::from_secs(60) }
    }
}

/// Region of Heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum RegionSpec {
    /// heapanalytics.com
    Us,
    /// c.eu.heap-api.com
    Eu,
    /// A local simulation of Heap.
    Sandbox,
}

/// Settings of the endpoint for Heap's webhook.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WebhookSpec {
    /// Path of the endpoint. Default: `/heap/<connection>`.
    #[schemars(example = "/heap/segments")]
    pub(in crate::config) path: Option<UrlPath>,
    /// Maximum age of a signature. Heap may repeat a delivery long after it signed it; repeated deliveries have no
    /// effect.
    pub(in crate::config) max_age: Length,
    /// How far ahead of the local clock a signature may be.
    pub(in crate::config) max_ahead: Length,
    /// How long to wait for missing pages of a sync. Until then the sync removes no members.
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

/// A segment in Heap, received by webhook.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct HeapSegmentSourceSpec {
    /// Heap connection that receives the webhook.
    #[schemars(example = &"heap")]
    pub(in crate::config) connection: Slug,
    /// Segment id in Heap. The rows have one column, `id`: the identity that Heap sends.
    #[schemars(example = 1_338_065)]
    pub(in crate::config) segment_id: u64,
}
