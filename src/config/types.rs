//! The config as the rest of the program knows it: checked, resolved, typed. It holds no secret, only
//! where each one is to be found.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::Trigger;
use super::connect::{DumpQuery, IdentitySource, TableSource};
use super::export::{ExportConfig, ExportSource};
use super::secret::SecretRef;
use super::segment::SegmentConfig;
use super::server::{ScheduleConfig, WatchConfig};
use super::sql::{SqlConfig, SqlSource};
use crate::model::{CohortId, ConnectionName, DeliveryMethod, GuardLimits, MatchRule};

/// A whole config.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the main file. Relative paths start here.
    pub folder: PathBuf,
    /// Where the state is.
    pub state: StateLocation,
    /// Whether a state that is not there is an error.
    pub state_must_exist: bool,
    /// Folders that sources may be read from; the config's own is the first.
    pub roots: Vec<PathBuf>,
    /// Servers that may be named although they are not a vendor's own, without a slash at the end.
    pub allow_endpoint: Vec<String>,
    /// Bytes of memory that plans, saved plans and their changes may take in the process.
    pub memory_max: usize,
    /// How long journal and rejects are kept.
    pub retention: Duration,
    /// The Braze connections by name.
    pub braze: BTreeMap<ConnectionName, BrazeConfig>,
    /// The Heap connections by name.
    pub heap: BTreeMap<ConnectionName, HeapConfig>,
    /// The SQL connections by name.
    pub sql: BTreeMap<ConnectionName, SqlConfig>,
    /// The cohorts in the order of the file.
    pub cohorts: Vec<CohortConfig>,
    /// Where it is told who is who, in the order of the file.
    pub identity: Vec<IdentitySource>,
    /// The segments that are to be checked, in the order of the file.
    pub segments: Vec<SegmentConfig>,
    /// The exports in the order of the file.
    pub exports: Vec<ExportConfig>,
    /// Cohorts that left the config and are to be emptied.
    pub removed: Vec<CohortId>,
    /// How `watch` runs.
    pub watch: WatchConfig,
    /// Every file that the config was read from, the main one first.
    pub files: Vec<PathBuf>,
    /// The globs under `include:`.
    pub includes: Vec<String>,
    /// Hidden or temporary entries that these globs skip.
    pub skipped_includes: u64,
    /// SHA-256 of what the config says, in hex: comments and layout do not count.
    pub digest: String,
}

impl Config {
    /// How many connections there are, of all kinds.
    #[must_use]
    pub fn connections_len(&self) -> usize {
        self.braze.len() + self.heap.len() + self.sql.len()
    }

    /// Whether a Heap tells of its segments here: it has a secret for that, or a cohort is one of them, or there is
    /// nothing else that it could be for.
    #[must_use]
    pub fn heap_has_door(&self, name: &ConnectionName) -> bool {
        let is_of = |source: &SourceConfig| matches!(source, SourceConfig::HeapSegment(source) if source.connection == *name);
        let Some(heap) = self.heap.get(name) else { return false };
        !heap.webhook_secrets.is_empty()
            || self.cohorts.iter().any(|cohort| is_of(&cohort.source))
            || self.exports.iter().all(|export| export.to != *name)
    }

    /// Whether anything is received over HTTP.
    #[must_use]
    pub fn has_doors(&self) -> bool {
        self.heap.keys().any(|name| self.heap_has_door(name))
            || self.exports.iter().any(|export| matches!(export.source, ExportSource::Http(_)))
    }

    /// The folder on this machine that belongs to the state: all of it, or where the sandbox keeps its memory
    /// if the state is in a bucket.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        match &self.state {
            StateLocation::Folder(path) => path.clone(),
            StateLocation::Bucket { .. } => self.folder.join(".syncline"),
        }
    }
}

/// Where the state is.
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
        /// How long a process that is not heard of keeps the state.
        lease: Duration,
    },
}

/// A Braze workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeConfig {
    /// Where it is.
    pub endpoint: VendorEndpoint,
    /// Names that the connection had before.
    pub formerly: Vec<ConnectionName>,
    /// The partner's name in the path.
    pub partner: String,
    /// The organization in the `User-Agent`.
    pub organization: String,
    /// Where the keys are; none for the sandbox, which has its own.
    pub keys: Option<BrazeKeys>,
    /// Where the key of its REST side is, if it has one; the sandbox has its own.
    pub rest_key: Option<SecretRef>,
    /// Requests under way at once, each for another cohort.
    pub cohorts_at_once: usize,
    /// Elements that an array attribute may have.
    pub array_elements_max: usize,
    /// Identifiers in one request.
    pub batch_len_max: usize,
    /// Requests that the rate limit allows in an hour.
    pub requests_per_hour: u64,
    /// How long one request may take.
    pub timeout: Duration,
    /// When to give up.
    pub retry: RetryPolicy,
    /// How long Braze may take to handle a request that had no answer.
    pub settle_again_after: Duration,
}

/// A Heap environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapConfig {
    /// Where its API is, if the config says so. The sandbox has a secret of its own.
    pub endpoint: Option<VendorEndpoint>,
    /// The environment that events go to.
    pub app_id: Option<AppId>,
    /// Where the key of its deletion API is.
    pub api_key: Option<SecretRef>,
    /// Events of one identity in a window.
    pub identity_events_max: Option<u64>,
    /// Events in a window.
    pub app_events_max: Option<u64>,
    /// The window.
    pub window: Duration,
    /// Requests with events under way at once.
    pub requests_at_once: usize,
    /// Bytes of a request with events.
    pub request_len_max: usize,
    /// How long one request may take.
    pub timeout: Duration,
    /// When to give up.
    pub retry: RetryPolicy,
    /// Where the secrets are that its webhook may be signed with, the newest first.
    pub webhook_secrets: Vec<SecretRef>,
    /// The path of its door.
    pub path: String,
    /// How old a signature may be.
    pub max_age: Duration,
    /// How far in the future a signature may be.
    pub max_ahead: Duration,
    /// How long the missing pages of a sync are waited for.
    pub incomplete_after: Duration,
}

/// An environment of Heap's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppId {
    /// Its digits.
    Plain(String),
    /// Where they are to be found.
    Ref(SecretRef),
}

/// Where a vendor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VendorEndpoint {
    /// The local sandbox, started when it is needed.
    Sandbox,
    /// A base URL without a slash at its end.
    Url(String),
}

impl VendorEndpoint {
    /// The endpoint as reports and the record name it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Url(url) => url,
        }
    }
}

/// Where the two keys of the cohort import are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrazeKeys {
    /// The customer's data import key.
    pub data_import: SecretRef,
    /// The partner's API key.
    pub partner_api: SecretRef,
}

/// When to give up on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub attempts: u32,
    /// The wait after the first failure.
    pub first_wait: Duration,
    /// The longest single wait.
    pub longest_wait: Duration,
}

/// A cohort to keep in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CohortConfig {
    /// Its stable id.
    pub id: CohortId,
    /// Its name in Braze.
    pub name: String,
    /// The connection that it is sent to.
    pub to: ConnectionName,
    /// Where its people come from.
    pub source: SourceConfig,
    /// How rows are matched, in order.
    pub rules: Vec<MatchRule>,
    /// How they reach Braze.
    pub delivery: DeliveryMethod,
    /// What is triggered for whoever enters.
    pub on_enter: Option<Trigger>,
    /// What is triggered for whoever leaves.
    pub on_exit: Option<Trigger>,
    /// Whether Braze is asked whom of those who enter it knows.
    pub preflight: Option<PreflightConfig>,
    /// What one run may change.
    pub limits: GuardLimits,
    /// Whether it may be emptied; none leaves that as the record has it.
    pub protect: Option<bool>,
    /// When `watch` looks at it again, if not when it looks at all of them.
    pub schedule: Option<ScheduleConfig>,
    /// Where the config declares it, for messages: file and line.
    pub declared_at: String,
}

/// Whether Braze is asked whom it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreflightConfig {
    /// For how many of those who enter in a run; none: for all of them.
    pub sample: Option<u64>,
    /// After how long it is asked again for those whom it did not know.
    pub retry_unknown: Duration,
}

/// Where the people of a cohort come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Files.
    File(FileSource),
    /// A segment of Heap's.
    HeapSegment(HeapSegmentSource),
    /// A query.
    Sql(SqlSource),
    /// A table of Heap Connect's dumps.
    HeapConnect(TableSource),
    /// A query over tables of Heap Connect's dumps.
    DumpQuery(DumpQuery),
}

impl SourceConfig {
    /// The segment, if it is one of this Heap's.
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
            Self::DumpQuery(source) => Some(&source.asked.connection),
            Self::File(_) | Self::HeapSegment(_) | Self::HeapConnect(_) => None,
        }
    }

    /// The path or address of files or dumps.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::File(source) => Some(&source.pattern),
            Self::HeapConnect(source) => Some(&source.place.path),
            Self::DumpQuery(source) => Some(&source.place.path),
            Self::HeapSegment(_) | Self::Sql(_) => None,
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

    /// Texts that stand for "no value".
    #[must_use]
    pub fn null_values(&self) -> &[String] {
        match self {
            Self::File(source) => &source.null_values,
            Self::HeapSegment(_) | Self::HeapConnect(_) | Self::DumpQuery(_) => &[],
            Self::Sql(source) => &source.null_values,
        }
    }
}

/// A segment that Heap tells of by its webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapSegmentSource {
    /// The Heap connection.
    pub connection: ConnectionName,
    /// Heap's number of the segment.
    pub segment: u64,
}

/// Files that hold a whole cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSource {
    /// The path, glob or address as the config has it.
    pub pattern: String,
    /// The store's address, if it is in a bucket and that is not the vendor's own.
    pub endpoint: Option<String>,
    /// The bucket's region, for S3.
    pub region: Option<String>,
    /// Whether a web server may be in a private network.
    pub is_allowed: bool,
    /// The format, if the config says it.
    pub format: Option<Format>,
    /// What separates CSV fields.
    pub delimiter: u8,
    /// Texts that stand for "no value".
    pub null_values: Vec<String>,
    /// Whether a file must end with a line break.
    pub final_newline: FinalNewline,
}

impl FileSource {
    /// Whether the files are in a bucket or on a web server, and not on this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.pattern.contains("://")
    }
}

/// The format of a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated with a header row (RFC 4180).
    Csv,
    /// Tab-separated with a header row.
    Tsv,
    /// One JSON object a line.
    Ndjson,
    /// Apache Parquet.
    Parquet,
    /// Avro object container files.
    Avro,
}

impl Format {
    /// The format that a file's name tells, under any compression suffix.
    #[must_use]
    pub fn from_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            "avro" => Some(Self::Avro),
            _ => None,
        }
    }
}

/// Whether a file must end with a line break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinalNewline {
    /// A file that does not is taken for cut short.
    #[default]
    Required,
    /// The last row may end with the file.
    Optional,
}
