//! The shape of `watch:` and of schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretSpec;
use crate::config::text::{Amount, Cron, Length, NonEmpty, SocketAddress, Text, TimeZone, WholeNumber};

/// Settings of `syncline watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WatchSpec {
    /// Address of the endpoints for webhooks. Addresses other than loopback need `tls` or `behind_proxy`.
    #[schemars(example = &"0.0.0.0:8443")]
    pub(in crate::config) listen: SocketAddress,
    /// Address of health checks, metrics and the dashboard.
    #[schemars(example = &"127.0.0.1:9090")]
    pub(in crate::config) admin: SocketAddress,
    /// Additional host names of the admin address. Requests with another `Host` header are rejected.
    #[schemars(example = ["syncline.acme.internal"])]
    pub(in crate::config) admin_hosts: Vec<Text>,
    /// Base address of the endpoints as Heap and Braze reach them, shown by `watch`, `doctor` and the dashboard. Default: the address of `listen`.
    #[schemars(example = "https://syncline.example.com")]
    pub(in crate::config) public_url: Option<Text>,
    /// `true` if a proxy in front of the endpoints terminates TLS.
    pub(in crate::config) behind_proxy: bool,
    /// TLS of the endpoints.
    #[schemars(example = serde_json::json!({ "certificate": "tls/tls.crt", "key": "tls/tls.key" }))]
    pub(in crate::config) tls: Option<TlsSpec>,
    /// Limits of the endpoints.
    pub(in crate::config) limits: EndpointLimitsSpec,
    /// How long a changed file must stay unchanged before it is read.
    pub(in crate::config) debounce: Length,
    /// Interval for checking files on systems without change notifications.
    pub(in crate::config) poll: Length,
    /// Schedule of cohorts without a `schedule` of their own.
    #[schemars(example = serde_json::json!({ "every": "1h" }))]
    pub(in crate::config) schedule: ScheduleSpec,
    /// Retries of failed runs. The wait doubles each time.
    pub(in crate::config) retry: RetryScheduleSpec,
    /// How long a stop waits for running work.
    pub(in crate::config) grace: Length,
    /// Time without a successful run after which a cohort counts as stale.
    pub(in crate::config) stale_after: Length,
    /// Webhooks for notifications when runs are blocked, fail, recover or become stale.
    #[schemars(example = serde_json::json!([{ "url": { "env": "SLACK_WEBHOOK_URL" }, "format": "slack" }]))]
    pub(in crate::config) notify: Vec<NotifySpec>,
}

impl Default for WatchSpec {
    fn default() -> Self {
        Self {
            listen: SocketAddress("127.0.0.1:8080".to_owned()),
            admin: SocketAddress("127.0.0.1:9090".to_owned()),
            admin_hosts: Vec::new(),
            public_url: None,
            behind_proxy: false,
            tls: None,
            limits: EndpointLimitsSpec::default(),
            debounce: Length::from_millis(500),
            poll: Length::from_secs(30),
            schedule: ScheduleSpec::Every(Length::from_secs(60 * 60)),
            retry: RetryScheduleSpec::default(),
            grace: Length::from_secs(25),
            stale_after: Length::from_secs(24 * 60 * 60),
            notify: Vec::new(),
        }
    }
}

/// TLS files. They are read again when they change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TlsSpec {
    /// PEM file with the certificate chain.
    #[schemars(example = "tls/tls.crt")]
    pub(in crate::config) certificate: Text,
    /// PEM file with the private key. Only its owner and the process's group may read it, and only its owner may write it.
    #[schemars(example = "tls/tls.key")]
    pub(in crate::config) key: Text,
}

/// Limits of the endpoints.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EndpointLimitsSpec {
    /// Maximum size of a body, also after decompression.
    pub(in crate::config) body: Amount,
    /// Maximum size of the headers of a request.
    pub(in crate::config) headers: Amount,
    /// Timeout for the headers of a request.
    pub(in crate::config) header_time: Length,
    /// Timeout for a whole request.
    pub(in crate::config) request_time: Length,
    /// Timeout of idle connections.
    pub(in crate::config) idle_time: Length,
    /// Maximum number of connections. If there are more, the connection that has waited longest for a complete request is
    /// closed.
    pub(in crate::config) connections: WholeNumber<8, 65_536>,
    /// Maximum number of concurrent requests on an HTTP/2 connection.
    pub(in crate::config) streams: WholeNumber<1, 1000>,
    /// Maximum nesting depth of JSON.
    pub(in crate::config) json_depth: WholeNumber<8, 127>,
    /// Memory for all requests that are being received: buffers, headers and bodies. If it is used up, further requests
    /// get 503 with `Retry-After`. It must fit the largest possible request.
    pub(in crate::config) memory: Amount,
    /// Maximum size of the inbox on disk. If it is full, the endpoints respond 503.
    pub(in crate::config) inbox: Amount,
}

impl Default for EndpointLimitsSpec {
    fn default() -> Self {
        Self {
            body: Amount(8 << 20),
            headers: Amount(64 << 10),
            header_time: Length::from_secs(10),
            request_time: Length::from_secs(30),
            idle_time: Length::from_secs(60),
            connections: WholeNumber(256),
            streams: WholeNumber(64),
            json_depth: WholeNumber(64),
            memory: Amount(64 << 20),
            inbox: Amount(4 << 30),
        }
    }
}

/// A schedule of runs.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ScheduleSpec {
    /// Interval between runs.
    #[schemars(example = &"15m")]
    Every(Length),
    /// Times in cron format.
    Cron(CronScheduleSpec),
}

/// Times in cron format.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CronScheduleSpec {
    /// Minute, hour, day of month, month, day of week.
    #[schemars(example = &"0 */4 * * *")]
    pub(in crate::config) at: Cron,
    /// Time zone of the times.
    #[serde(default = "utc")]
    #[schemars(example = &"Europe/Berlin")]
    pub(in crate::config) time_zone: TimeZone,
}

fn utc() -> TimeZone {
    TimeZone("UTC".to_owned())
}

/// Retries of failed runs.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RetryScheduleSpec {
    /// Wait after the first failure.
    pub(in crate::config) first_wait: Length,
    /// Longest wait.
    pub(in crate::config) longest_wait: Length,
}

impl Default for RetryScheduleSpec {
    fn default() -> Self {
        Self { first_wait: Length::from_secs(5), longest_wait: Length::from_secs(10 * 60) }
    }
}

/// A webhook that receives one notification for each change of condition.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NotifySpec {
    /// Address of the webhook. It is a secret, because it often contains a token.
    #[schemars(example = serde_json::json!({ "env": "SLACK_WEBHOOK_URL" }))]
    pub(in crate::config) url: SecretSpec,
    /// Format of the body: `json` or `slack`.
    #[serde(default)]
    pub(in crate::config) format: NotifyFormatSpec,
    /// Events to notify about. All if absent.
    #[schemars(example = serde_json::json!(["failure", "blocked"]))]
    pub(in crate::config) on: Option<NonEmpty<NotifyOnSpec, 5>>,
}

/// Format of a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum NotifyFormatSpec {
    /// JSON object with one field for each value.
    #[default]
    Json,
    /// `{"text": …}`, as accepted by Slack and compatible services.
    Slack,
}

/// Reason of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum NotifyOnSpec {
    /// The guard blocked changes.
    Blocked,
    /// A run failed and will be retried.
    Failure,
    /// A cohort, export or segment that was blocked, failed, stale or drifted is in sync again.
    Recovery,
    /// There was no successful run for too long.
    Staleness,
    /// A segment no longer matches the config.
    Drift,
}
