//! The shape of `watch:` and of schedules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretSpec;
use crate::config::text::{Amount, Cron, Length, NonEmpty, SocketAddress, Text, TimeZone, WholeNumber};

/// How `syncline watch` runs on a server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct WatchSpec {
    /// Where the doors for webhooks are. Beyond this machine it needs `tls`, or `behind_proxy`.
    #[schemars(example = &"0.0.0.0:8443")]
    pub(in crate::config) listen: SocketAddress,
    /// Where health, metrics and the dashboard are.
    pub(in crate::config) admin: SocketAddress,
    /// Names by which the admin address is reached, besides its own: any other `Host` is refused.
    #[schemars(example = ["syncline.acme.internal"])]
    pub(in crate::config) admin_hosts: Vec<Text>,
    /// A proxy in front of the doors speaks TLS.
    pub(in crate::config) behind_proxy: bool,
    /// The doors speak TLS themselves.
    pub(in crate::config) tls: Option<TlsSpec>,
    /// What the doors take.
    pub(in crate::config) limits: EndpointLimitsSpec,
    /// How long a changed file must be left alone before it is read.
    pub(in crate::config) debounce: Length,
    /// How often files are looked at where the system does not tell of changes.
    pub(in crate::config) poll: Length,
    /// When cohorts without a schedule of their own are looked at again, whatever was told of them.
    pub(in crate::config) schedule: ScheduleSpec,
    /// When something that failed is tried again. The wait doubles each time.
    pub(in crate::config) retry: RetryScheduleSpec,
    /// How long a stop waits for what is under way.
    pub(in crate::config) grace: Length,
    /// After how long without a good run a cohort is called stale.
    pub(in crate::config) stale_after: Length,
    /// Who is told when something is refused, fails, recovers or becomes stale.
    pub(in crate::config) notify: Vec<NotifySpec>,
}

impl Default for WatchSpec {
    fn default() -> Self {
        Self {
            listen: SocketAddress("127.0.0.1:8080".to_owned()),
            admin: SocketAddress("127.0.0.1:9090".to_owned()),
            admin_hosts: Vec::new(),
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

/// TLS by files, which are read again when they change.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TlsSpec {
    /// The certificate chain, PEM.
    #[schemars(example = "tls/tls.crt")]
    pub(in crate::config) certificate: Text,
    /// The private key, PEM. Only its owner and the process's own group may read it, and only its owner may write it.
    #[schemars(example = "tls/tls.key")]
    pub(in crate::config) key: Text,
}

/// What the doors take before they say no.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct EndpointLimitsSpec {
    /// The largest body, unpacked as well.
    pub(in crate::config) body: Amount,
    /// The largest headers of a request.
    pub(in crate::config) headers: Amount,
    /// How long the headers of a request may take.
    pub(in crate::config) header_time: Length,
    /// How long a whole request may take.
    pub(in crate::config) request_time: Length,
    /// How long a connection may be idle between two requests.
    pub(in crate::config) idle_time: Length,
    /// Connections at once. When there are more, the one that has owed a request, or the rest of one, for longest
    /// gives way.
    pub(in crate::config) connections: WholeNumber<8, 65_536>,
    /// Requests at once on one HTTP/2 connection.
    pub(in crate::config) streams: WholeNumber<1, 1000>,
    /// How deep JSON may be nested.
    pub(in crate::config) json_depth: WholeNumber<8, 127>,
    /// Memory for all requests that are being received: buffers, headers, and bodies, packed and unpacked. When it is
    /// used up, further requests are answered with 503 and `Retry-After`. At least what one request of the largest kind
    /// takes.
    pub(in crate::config) memory: Amount,
    /// What the inbox may hold on disk. When it is full, the doors answer 503.
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

/// When to look again.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ScheduleSpec {
    /// At least this often.
    #[schemars(example = &"15m")]
    Every(Length),
    /// At these times.
    Cron(CronScheduleSpec),
}

/// Times as cron writes them.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CronScheduleSpec {
    /// Minute, hour, day of the month, month, day of the week.
    #[schemars(example = &"0 */4 * * *")]
    pub(in crate::config) at: Cron,
    /// The time zone in which they are meant.
    #[serde(default = "utc")]
    #[schemars(example = &"Europe/Berlin")]
    pub(in crate::config) time_zone: TimeZone,
}

fn utc() -> TimeZone {
    TimeZone("UTC".to_owned())
}

/// When something that failed is tried again.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RetryScheduleSpec {
    /// The wait after the first failure.
    pub(in crate::config) first_wait: Length,
    /// The longest wait.
    pub(in crate::config) longest_wait: Length,
}

impl Default for RetryScheduleSpec {
    fn default() -> Self {
        Self { first_wait: Length::from_secs(5), longest_wait: Length::from_secs(10 * 60) }
    }
}

/// A webhook of yours that is told when something changes its state: once, not again and again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct NotifySpec {
    /// Its address. Such addresses often hold a token, so it is a secret.
    pub(in crate::config) url: SecretSpec,
    /// The body: plain JSON, or what Slack takes.
    #[serde(default)]
    pub(in crate::config) format: NotifyFormatSpec,
    /// What is told; everything if not given.
    pub(in crate::config) on: Option<NonEmpty<NotifyOnSpec, 5>>,
}

/// The body of a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum NotifyFormatSpec {
    /// An object with fields for programs.
    #[default]
    Json,
    /// `{"text": …}`, as Slack and those that follow it take.
    Slack,
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum NotifyOnSpec {
    /// The guard refused something.
    Refusal,
    /// Something failed, and will be tried again.
    Failure,
    /// What was refused, had failed, was stale or had drifted is well again.
    Recovery,
    /// There was no good run for too long.
    Staleness,
    /// A segment is no longer as the config has it.
    Drift,
}
