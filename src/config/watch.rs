//! The settings of `watch`, typed: addresses, limits, schedules and notifications.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;

/// The settings of `watch`.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    /// Address of the webhook endpoints.
    pub listen: SocketAddr,
    /// Address of the health checks, the metrics and the dashboard.
    pub admin: SocketAddr,
    /// Additional host names that requests to the admin address may have.
    pub admin_hosts: Vec<String>,
    /// Base address of the webhook endpoints for Heap and Braze, without a slash at its end.
    pub public_url: Option<String>,
    /// TLS of the webhook endpoints.
    pub tls: Option<TlsFiles>,
    /// Limits of the webhook endpoints.
    pub limits: EndpointLimits,
    /// Time without further changes before a changed file is read.
    pub debounce: Duration,
    /// Interval in which files are polled.
    pub poll: Duration,
    /// Schedule of the cohorts that have none of their own.
    pub schedule: ScheduleConfig,
    /// The wait after the first failure.
    pub first_wait: Duration,
    /// The longest wait after a failure.
    pub longest_wait: Duration,
    /// How long a stop waits for requests in flight.
    pub grace: Duration,
    /// Time without a successful run after which a cohort is stale.
    pub stale_after: Duration,
    /// Webhooks for notifications.
    pub notify: Vec<NotifyConfig>,
}

/// Certificate and key for TLS, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Limits of the webhook endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Maximum size of a body, in bytes.
    pub body_len_max: usize,
    /// Maximum size of a request's headers, in bytes.
    pub headers_len_max: usize,
    /// Timeout for the headers.
    pub header_time: Duration,
    /// Timeout for a request.
    pub request_time: Duration,
    /// Timeout of an idle connection.
    pub idle_time: Duration,
    /// Maximum number of concurrent connections.
    pub connections_max: usize,
    /// Maximum number of concurrent requests of an HTTP/2 connection.
    pub streams_max: u32,
    /// Maximum nesting depth of JSON.
    pub json_depth_max: usize,
    /// Memory limit of all requests in progress, in bytes.
    pub memory_max: usize,
    /// Quota of the inbox on disk, in bytes.
    pub inbox_len_max: u64,
}

/// Minimum size of a connection's buffer, in bytes.
const BUFFER_LEN_MIN: usize = 8 << 10;
/// Memory of a request besides body, headers and buffer: decompression.
const OVERHEAD_LEN: usize = 64 << 10;

impl EndpointLimits {
    /// Size of a connection's read buffer in bytes. Headers must fit.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.headers_len_max.max(BUFFER_LEN_MIN)
    }

    /// Peak memory of the largest request: the compressed body, and the decompressed one twice while its buffer grows.
    #[must_use]
    pub fn largest_request_len(&self) -> usize {
        let besides = self.headers_len_max.saturating_add(self.buffer_len()).saturating_add(OVERHEAD_LEN);
        self.body_len_max.saturating_mul(3).saturating_add(besides)
    }
}

/// When a cohort or export runs without an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleConfig {
    /// In this interval.
    Every(Duration),
    /// At these times, in this time zone.
    Cron {
        /// The five fields of cron.
        at: String,
        /// Name of the time zone.
        time_zone: String,
    },
}

/// A webhook for notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Location of the address, which is a secret.
    pub url: SecretRef,
    /// Format of the body.
    pub format: NotifyFormat,
    /// Reasons to notify about.
    pub on: Vec<Notable>,
}

/// The body of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyFormat {
    /// An object with fields.
    Json,
    /// `{"text": …}`.
    Slack,
}

/// Reason of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notable {
    /// The guard blocked changes.
    Blocked,
    /// A run failed.
    Failure,
    /// A condition ended.
    Recovery,
    /// There was no successful run for too long.
    Staleness,
    /// A segment no longer matches the config.
    Drift,
}

impl Notable {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Blocked, Self::Failure, Self::Recovery, Self::Staleness, Self::Drift];

    /// The name in the body of a notification.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Staleness => "staleness",
            Self::Drift => "drift",
        }
    }
}
