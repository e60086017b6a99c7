//! How `watch` runs, and when it looks, as the rest of the program knows it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::secret::SecretRef;

/// How `watch` runs.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchConfig {
    /// Where the doors are.
    pub listen: SocketAddr,
    /// Where health, metrics and the dashboard are.
    pub admin: SocketAddr,
    /// Names by which the admin address is reached, besides its own.
    pub admin_hosts: Vec<String>,
    /// TLS at the doors.
    pub tls: Option<TlsFiles>,
    /// What the doors take.
    pub limits: EndpointLimits,
    /// How long a changed file must be left alone before it is read.
    pub debounce: Duration,
    /// How often files are looked at unasked.
    pub poll: Duration,
    /// When cohorts without a schedule of their own are looked at again.
    pub schedule: ScheduleConfig,
    /// The wait after the first failure.
    pub first_wait: Duration,
    /// The longest wait after a failure.
    pub longest_wait: Duration,
    /// How long a stop waits for what is under way.
    pub grace: Duration,
    /// After how long without a good run a cohort is stale.
    pub stale_after: Duration,
    /// Webhooks for notifications.
    pub notify: Vec<NotifyConfig>,
}

/// TLS by files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What the doors take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Bytes of a body.
    pub body_len_max: usize,
    /// Bytes of a request's headers.
    pub headers_len_max: usize,
    /// How long the headers may take.
    pub header_time: Duration,
    /// How long a request may take.
    pub request_time: Duration,
    /// How long a connection may be idle.
    pub idle_time: Duration,
    /// Connections at once.
    pub connections_max: usize,
    /// Requests at once on an HTTP/2 connection.
    pub streams_max: u32,
    /// How deep JSON may be nested.
    pub json_depth_max: usize,
    /// Bytes of memory of all requests that are being received.
    pub memory_max: usize,
    /// Bytes of the inbox on disk.
    pub inbox_len_max: u64,
}

/// The smallest buffer that a connection can have.
const BUFFER_LEN_MIN: usize = 8 << 10;
/// What a request takes besides its body, its headers and its buffer: what unpacking needs.
const OVERHEAD_LEN: usize = 64 << 10;

impl EndpointLimits {
    /// Bytes of the buffer that a connection is read into. Headers must fit.
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.headers_len_max.max(BUFFER_LEN_MIN)
    }

    /// What one request of the largest kind takes: packed, and unpacked while its memory is moved to grow.
    #[must_use]
    pub fn largest_request_len(&self) -> usize {
        let besides = self.headers_len_max.saturating_add(self.buffer_len()).saturating_add(OVERHEAD_LEN);
        self.body_len_max.saturating_mul(3).saturating_add(besides)
    }
}

/// When to look again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduleConfig {
    /// At least this often.
    Every(Duration),
    /// At these times, in this time zone.
    Cron {
        /// Five fields.
        at: String,
        /// Its name.
        time_zone: String,
    },
}

/// Webhooks for notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyConfig {
    /// Where the address is to be found.
    pub url: SecretRef,
    /// The body that it takes.
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

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notable {
    /// The guard blocked changes.
    Refusal,
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
    pub const ALL: [Self; 5] = [Self::Refusal, Self::Failure, Self::Recovery, Self::Staleness, Self::Drift];

    /// The name in the body of a notification.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refusal => "refusal",
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Staleness => "staleness",
            Self::Drift => "drift",
        }
    }
}
