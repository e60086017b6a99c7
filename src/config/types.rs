//! The config: checked, resolved and typed. It contains locations of secrets, not the secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::dumps::{DumpQuery, DumpTableSource};
use super::export::{ExportConfig, ExportSource};
use super::file_source::FileSource;
use super::identity::IdentitySource;
use super::key_lines::KeyLines;
use super::secret::SecretRef;
use super::segment::SegmentConfig;
use super::sql::{SqlConfig, SqlSource};
use super::triggers::Trigger;
use super::watch::{ScheduleConfig, WatchConfig};
use crate::model::{CohortId, ConnectionName, DeliveryMethod, GuardLimits, MatchRule};
use crate::retry::RetryPolicy;

/// A whole config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the main file. Relative paths start here.
    pub folder: PathBuf,
    /// Location of the state.
    pub state: StateLocation,
    /// Whether a missing state is an error.
    pub state_must_exist: bool,
    /// Folders that sources may read from, starting with the config's folder.
    pub roots: Vec<PathBuf>,
    /// Additionally allowed servers, without a trailing slash.
    pub allow_endpoint: Vec<String>,
    /// Memory limit of plans, saved plans and their changes in the process, in bytes.
    pub memory_max: usize,
    /// Retention of journal and rejects.
    pub retention: Duration,
    /// The Braze connections by name.
    pub braze: BTreeMap<ConnectionName, BrazeConfig>,
    /// The Heap connections by name.
    pub heap: BTreeMap<ConnectionName, HeapConfig>,
    /// The SQL connections by name.
    pub sql: BTreeMap<ConnectionName, SqlConfig>,
    /// The cohorts in the order of the file.
    pub cohorts: Vec<CohortConfig>,
    /// Identity sources, in the order of the file.
    pub identity: Vec<IdentitySource>,
    /// Segments to check, in the order of the file.
    pub segments: Vec<SegmentConfig>,
    /// The exports in the order of the file.
    pub exports: Vec<ExportConfig>,
    /// Cohorts to empty.
    pub removed: Vec<CohortId>,
    /// Settings of `watch`.
    pub watch: WatchConfig,
    /// Every file that the config was read from, the main one first.
    pub files: Vec<PathBuf>,
    /// The globs under `include:`.
    pub includes: Vec<String>,
    /// Number of hidden or temporary entries that these globs skip.
    pub skipped_includes: u64,
    /// SHA-256 of the config without comments and layout, in hex.
    pub digest: String,
}

impl Config {
    /// The ids of all cohorts: the declared ones in their order, then those under `removed:`.
    pub fn cohort_ids(&self) -> impl Iterator<Item = &CohortId> {
        self.cohorts.iter().map(|cohort| &cohort.id).chain(&self.removed)
    }

    /// The segments that can be checked. The sandbox inside the program has no dashboard to create one in.
    pub fn checked_segments(&self) -> impl Iterator<Item = &SegmentConfig> {
        self.segments.iter().filter(|segment| !self.is_in_sandbox(&segment.connection))
    }

    /// Whether a Braze connection is the sandbox inside the program.
    #[must_use]
    pub fn is_in_sandbox(&self, braze: &ConnectionName) -> bool {
        self.braze.get(braze).is_some_and(|braze| braze.endpoint == VendorEndpoint::Sandbox)
    }

    /// Number of connections of all kinds.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.braze.len() + self.heap.len() + self.sql.len()
    }

    /// Whether a Heap connection has a webhook endpoint: it has a signing secret, is the source of a cohort, or has no
    /// other use.
    #[must_use]
    pub fn has_webhook_endpoint(&self, name: &ConnectionName) -> bool {
        let is_of = |source: &SourceConfig| matches!(source, SourceConfig::HeapSegment(source) if source.connection == *name);
        let Some(heap) = self.heap.get(name) else { return false };
        !heap.webhook_secrets.is_empty()
            || self.cohorts.iter().any(|cohort| is_of(&cohort.source))
            || self.exports.iter().all(|export| export.to != *name)
    }

    /// Whether anything is received over HTTP.
    #[must_use]
    pub fn has_endpoints(&self) -> bool {
        self.heap.keys().any(|name| self.has_webhook_endpoint(name))
            || self.exports.iter().any(|export| matches!(export.source, ExportSource::Http(_)))
    }

    /// The local folder of the state, or of the sandbox's memory if the state is in a bucket.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        match &self.state {
            StateLocation::Folder(path) => path.clone(),
            StateLocation::Bucket { .. } => self.folder.join(".syncline"),
        }
    }
}

/// Location of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket.
    Bucket {
        /// `s3://bucket/prefix`, `gs://…` or `az://…`.
        url: String,
        /// The store's address, if it is not the vendor's own.
        endpoint: Option<String>,
        /// The bucket's region, for S3.
        region: Option<String>,
        /// Lease time.
        lease: Duration,
    },
}

/// A Braze workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeConfig {
    /// Endpoint of its API.
    pub endpoint: VendorEndpoint,
    /// Former names of the connection.
    pub formerly: Vec<ConnectionName>,
    /// The partner's name in the path.
    pub partner: String,
    /// The organization in the `User-Agent`.
    pub organization: String,
    /// Locations of the import keys; `None` for the sandbox, which has its own.
    pub keys: Option<BrazeKeys>,
    /// Location of the REST API key; the sandbox has its own.
    pub rest_key: Option<SecretRef>,
    /// Number of cohorts that are sent concurrently.
    pub cohorts_at_once: usize,
    /// Maximum number of elements of an array attribute.
    pub array_elements_max: usize,
    /// Maximum number of identifiers per request.
    pub batch_len_max: usize,
    /// Rate limit: requests per hour.
    pub requests_per_hour: u64,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Retries.
    pub retry: RetryPolicy,
    /// How long Braze may take to process a request without a response.
    pub settle_again_after: Duration,
}

/// A Heap environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapConfig {
    /// Location of its API, if configured. The sandbox has its own secret.
    pub endpoint: Option<VendorEndpoint>,
    /// The environment that events go to.
    pub app_id: Option<AppId>,
    /// Location of the key for its deletion API.
    pub api_key: Option<SecretRef>,
    /// Events of one identity in a window.
    pub identity_events_max: Option<u64>,
    /// Events in a window.
    pub app_events_max: Option<u64>,
    /// The window.
    pub window: Duration,
    /// Number of concurrent requests with events.
    pub requests_at_once: usize,
    /// Maximum size of a request with events, in bytes.
    pub request_len_max: usize,
    /// Timeout of a request.
    pub timeout: Duration,
    /// Retries.
    pub retry: RetryPolicy,
    /// Locations of the signing secrets of its webhook, newest first.
    pub webhook_secrets: Vec<SecretRef>,
    /// Path of its webhook endpoint.
    pub path: String,
    /// Maximum age of a signature.
    pub max_age: Duration,
    /// How far in the future a signature may be.
    pub max_ahead: Duration,
    /// How long to wait for missing pages of a sync.
    pub incomplete_after: Duration,
}

/// An environment of Heap's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppId {
    /// Its digits.
    Plain(String),
    /// Location of the digits.
    Ref(SecretRef),
}

/// Endpoint of a vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VendorEndpoint {
    /// The local sandbox, started when it is needed.
    Sandbox,
    /// A base URL without a trailing slash.
    Url(String),
}

impl VendorEndpoint {
    /// The endpoint in reports and in the state.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Url(url) => url,
        }
    }
}

/// Locations of the keys of the cohort import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeKeys {
    /// The customer's data import key.
    pub data_import: SecretRef,
    /// The partner's API key.
    pub partner_api: SecretRef,
}

/// A cohort to keep in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortConfig {
    /// Its stable id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: String,
    /// Connection that receives it.
    pub to: ConnectionName,
    /// Source of its members.
    pub source: SourceConfig,
    /// Matching rules, in order.
    pub rules: Vec<MatchRule>,
    /// Delivery method.
    pub delivery: DeliveryMethod,
    /// Trigger for users who enter.
    pub on_enter: Option<Trigger>,
    /// Trigger for users who leave.
    pub on_exit: Option<Trigger>,
    /// Check for unknown users before sending.
    pub preflight: Option<PreflightConfig>,
    /// Limits of the guard.
    pub limits: GuardLimits,
    /// Whether emptying is prevented; `None` keeps the recorded setting.
    pub protect: Option<bool>,
    /// Schedule in `watch`. Default: the schedule of `watch`.
    pub schedule: Option<ScheduleConfig>,
    /// File and line of the declaration, for messages.
    pub declared_at: String,
    /// File and line of its keys.
    pub key_lines: KeyLines,
}

impl CohortConfig {
    /// File and line of the first of these keys that it has, or of the declaration.
    #[must_use]
    pub fn line_of(&self, keys: &[&str]) -> &str {
        keys.iter().find_map(|key| self.key_lines.get(key)).unwrap_or(&self.declared_at)
    }
}

/// Check for unknown users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreflightConfig {
    /// Maximum number of entering users to check per run; `None`: all.
    pub sample: Option<u64>,
    /// Time until unknown users are checked again.
    pub retry_unknown: Duration,
}

/// Source of the members of a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Files.
    File(FileSource),
    /// A Heap segment.
    HeapSegment(HeapSegmentSource),
    /// A query.
    Sql(SqlSource),
    /// A table of Heap Connect dumps.
    HeapConnect(DumpTableSource),
    /// A query over tables of Heap Connect dumps.
    DumpQuery(DumpQuery),
}

impl SourceConfig {
    /// The kind, as the config names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::HeapSegment(_) => "heap_segment",
            Self::Sql(_) => "sql",
            Self::HeapConnect(_) | Self::DumpQuery(_) => "heap_connect",
        }
    }

    /// The segment id, if the source is a segment of this Heap connection.
    #[must_use]
    pub fn segment_of(&self, heap: &ConnectionName) -> Option<u64> {
        match self {
            Self::HeapSegment(source) if source.connection == *heap => Some(source.segment),
            _ => None,
        }
    }

    /// The database connection of a query.
    #[must_use]
    pub fn database(&self) -> Option<&ConnectionName> {
        match self {
            Self::Sql(source) => Some(&source.connection),
            Self::DumpQuery(source) => Some(&source.query.connection),
            Self::File(_) | Self::HeapSegment(_) | Self::HeapConnect(_) => None,
        }
    }

    /// The path or address of files or dumps.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::File(source) => Some(&source.pattern),
            Self::HeapConnect(source) => Some(&source.folder.path),
            Self::DumpQuery(source) => Some(&source.folder.path),
            Self::HeapSegment(_) | Self::Sql(_) => None,
        }
    }

    /// The path or glob of local files that `watch` observes. None: a run by schedule, or a delivery, finds changes.
    #[must_use]
    pub fn watched_path(&self) -> Option<&str> {
        match self {
            Self::File(source) => (!source.is_remote()).then_some(&source.pattern),
            Self::HeapSegment(_) | Self::Sql(_) | Self::HeapConnect(_) | Self::DumpQuery(_) => None,
        }
    }

    /// The Heap connection that sends a segment.
    #[must_use]
    pub fn heap(&self) -> Option<&ConnectionName> {
        match self {
            Self::HeapSegment(source) => Some(&source.connection),
            Self::File(_) | Self::Sql(_) | Self::HeapConnect(_) | Self::DumpQuery(_) => None,
        }
    }

    /// Texts that mean "no value".
    #[must_use]
    pub fn null_values(&self) -> &[String] {
        match self {
            Self::File(source) => &source.null_values,
            Self::HeapSegment(_) | Self::HeapConnect(_) | Self::DumpQuery(_) => &[],
            Self::Sql(source) => &source.null_values,
        }
    }
}

/// A Heap segment, received by webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapSegmentSource {
    /// The Heap connection.
    pub connection: ConnectionName,
    /// Segment id in Heap.
    pub segment: u64,
}
