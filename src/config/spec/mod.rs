//! The file's shape: what serde reads and what the JSON Schema is made from.
//!
//! These types mirror the YAML letter by letter and go no further than this module; `lower` turns
//! them into the `Config` that the rest of the program knows. Their doc comments are the schema's
//! descriptions, so they are written for the person who edits the file.

mod action;
mod deliver;
mod export;
mod guard;
mod heap;
mod identity;
mod segments;
mod sql;
mod state;
mod watch;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(in crate::config) use action::{QuietHoursSpec, TriggerSpec};
pub(in crate::config) use deliver::{AttributeSpec, DeliverSpec, PreflightSpec};
pub(in crate::config) use export::{
    AnonymousSpec, CustomEventsSpec, ExportSourceSpec, ExportSpec, NamingSpec, PropertiesSpec,
    StorageSourceSpec,
};
pub(in crate::config) use guard::{GuardSpec, IdDamage};
pub(in crate::config) use heap::{HeapSegmentSourceSpec, HeapSpec, RegionSpec};
pub(in crate::config) use identity::{
    IdentityDumpsSpec, IdentityFileSpec, IdentitySourceSpec, TableSourceSpec,
};
pub(in crate::config) use segments::{BrazeObjectSpec, CombinationSpec, SegmentSpec, SizeSpec};
pub(in crate::config) use sql::{
    AdbcSpec, DatabaseTlsSpec, DiffSpec, PostgresSpec, QuoteSpec, SqlSourceSpec,
};
pub(in crate::config) use state::State;
pub(in crate::config) use watch::{
    EndpointLimitsSpec, NotifyFormatSpec, NotifyOnSpec, NotifySpec, ScheduleSpec, WatchSpec,
};

use super::text::{
    Delimiter, Label, Length, Memory, NonEmpty, PascalCase, PathPart, Place, Slug, Text, Variable,
    WholeNumber,
};

/// A syncline config: which cohorts of people are kept in Braze, and where they come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "syncline config")]
pub(in crate::config) struct ConfigFile {
    /// The version of this format.
    pub(in crate::config) version: FormatVersion,
    /// What remembers whom Braze has accepted: a folder, relative to this file's, or a bucket. Keep it: without it, nobody can be removed.
    #[serde(default = "default_state")]
    #[schemars(example = ".syncline")]
    #[schemars(example = "s3://acme-syncline/production")]
    #[schemars(example = serde_json::json!({ "path": "s3://acme-syncline/production", "must_exist": true }))]
    pub(in crate::config) state: State,
    /// How the bucket in `state` is reached, where the vendor's environment variables do not say it all.
    #[serde(default)]
    pub(in crate::config) bucket: BucketSpec,
    /// More files to read, as globs relative to this file's folder. They may hold `connections`, `cohorts`, `identity`, `segments`, `exports` and `removed`. At most 256 entries, 4,096 files and 16 MiB in all.
    #[serde(default)]
    #[schemars(example = ["cohorts/*.yaml"])]
    pub(in crate::config) include: Vec<String>,
    /// Folders outside this file's folder that sources may be read from.
    #[serde(default)]
    #[schemars(example = ["/data/exports"])]
    pub(in crate::config) roots: Vec<String>,
    /// Servers that may be named although they are not a vendor's own: by scheme, host and port. Needed for endpoints of connections and buckets outside the vendors' domains, for plain HTTP off this machine, and for web sources with private or link-local addresses.
    #[serde(default)]
    #[schemars(example = ["https://minio.acme.internal:9000"])]
    pub(in crate::config) allow_endpoint: Vec<Text>,
    /// How much memory plans, saved plans and their changes may take in the whole process. As many cohorts are planned
    /// at once as it allows; what is beyond it goes into temporary files.
    #[serde(default = "default_memory")]
    #[schemars(example = "256MiB")]
    pub(in crate::config) memory: Memory,
    /// How long the state keeps the journal of runs and the rejects of cohorts and webhooks, at least one hour. A journal
    /// of more than 64 MiB loses its oldest runs before that. Of a cohort's rejects the 32 newest runs are kept at most.
    /// Rejects of an export have their own `keep_rejects`.
    #[serde(default = "default_retention")]
    #[schemars(example = "30d")]
    pub(in crate::config) retention: Length,
    /// The vendor accounts, by a name of your choice.
    #[serde(default)]
    pub(in crate::config) connections: BTreeMap<Slug, ConnectionSpec>,
    /// The cohorts to keep in sync.
    #[serde(default)]
    pub(in crate::config) cohorts: Vec<CohortSpec>,
    /// Where it is told who is who.
    #[serde(default)]
    pub(in crate::config) identity: Vec<IdentitySourceSpec>,
    /// Braze segments that use the cohorts, and that are checked.
    #[serde(default)]
    pub(in crate::config) segments: Vec<SegmentSpec>,
    /// The flows of engagement events from Braze to Heap.
    #[serde(default)]
    pub(in crate::config) exports: Vec<ExportSpec>,
    /// Cohorts that left the config and whose members shall leave Braze.
    #[serde(default)]
    pub(in crate::config) removed: Vec<RemovedSpec>,
    /// How `syncline watch` runs on a server.
    #[serde(default)]
    pub(in crate::config) watch: WatchSpec,
    /// Overlays, chosen by `--env NAME`: maps are merged into the config, lists and values replace what it says.
    #[serde(default)]
    #[allow(dead_code, reason = "laid over the tree before shapes exist; here for the schema")]
    pub(in crate::config) environments: BTreeMap<Slug, super::overlay::EnvironmentOverlay>,
}

fn default_state() -> State {
    State::standard()
}

/// How the bucket in `state` is reached. Credentials come from where the vendor's own tools take them: environment variables, and the identity of the machine.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct BucketSpec {
    /// The store's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// How long a process that is not heard of any more keeps the state to itself. It says three times in this time that it is there.
    pub(in crate::config) lease: Length,
}

impl Default for BucketSpec {
    fn default() -> Self {
        Self { endpoint: None, region: None, lease: Length::from_secs(30) }
    }
}

fn default_memory() -> Memory {
    Memory::from_mebibytes(256)
}

fn default_retention() -> Length {
    Length::from_secs(30 * 24 * 60 * 60)
}

/// The version of the config format; 1 is the only one.
#[derive(Debug, Deserialize)]
#[serde(try_from = "u64")]
pub(in crate::config) struct FormatVersion;

impl TryFrom<u64> for FormatVersion {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number == 1 { Ok(Self) } else { Err("this program knows version 1 only") }
    }
}

impl JsonSchema for FormatVersion {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "enum": [1] })
    }
}

/// A vendor account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ConnectionSpec {
    /// A Braze workspace, reached by the partner cohort import endpoints.
    Braze(BrazeSpec),
    /// A Heap environment. It takes events, and tells of its segments by a webhook that `syncline watch` answers.
    Heap(HeapSpec),
    /// A PostgreSQL database, or Amazon Redshift, which speaks the same protocol. It is only ever read from.
    Postgres(PostgresSpec),
    /// Any other warehouse, through a driver of Arrow Database Connectivity that is installed on this machine: Snowflake, BigQuery, Databricks, Flight SQL, DuckDB, SQLite. It is only ever read from.
    Adbc(AdbcSpec),
}

/// A Braze workspace, reached by the partner cohort import endpoints.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BrazeSpec {
    /// The Braze instance as the dashboard's address shows it. `sandbox` runs a small Braze on this machine that needs no keys.
    pub(in crate::config) instance: Option<super::instance::Instance>,
    /// The REST endpoint, instead of `instance`.
    #[schemars(example = "https://rest.iad-01.braze.com")]
    pub(in crate::config) endpoint: Option<String>,
    /// Names that this connection had before. Records say which connection they belong to; without this, a renamed connection is taken for another workspace.
    #[serde(default)]
    pub(in crate::config) formerly: Vec<Slug>,
    /// The partner's name in the path of the cohort endpoints.
    #[serde(default = "default_partner")]
    pub(in crate::config) partner: PathPart,
    /// The data import key: Braze dashboard, Partner Integrations > Technology Partners > Heap.
    pub(in crate::config) data_import_key: Option<SecretSpec>,
    /// The partner API key that Braze gave to the partner.
    pub(in crate::config) partner_api_key: Option<SecretSpec>,
    /// A REST API key of the workspace, to check segments with and for cohorts with `deliver: attribute`. The latter needs the permission `users.track`, `on_enter` and `on_exit` need `campaigns.trigger.send` or `canvas.trigger.send`, and the former the permissions `segments.list`, `segments.details`, `segments.data_series`, `campaigns.list`, `campaigns.details`, `canvas.list` and `canvas.details`, and `users.export.ids` for canaries.
    pub(in crate::config) rest_api_key: Option<SecretSpec>,
    /// The organization in the `User-Agent` that Braze requires of partners: `partner-<organization>-Syncline/<version>`.
    #[serde(default = "default_organization")]
    pub(in crate::config) organization: PascalCase,
    /// How many requests are under way at once, each for another cohort. Cohorts take turns; within one there is always one request at a time.
    #[serde(default = "default_cohorts_at_once")]
    pub(in crate::config) cohorts_at_once: WholeNumber<1, 64>,
    /// How many elements an array attribute may have, for cohorts with `deliver: attribute`. Braze cuts off what is over; 25 is its default, which it raises on request.
    #[serde(default = "default_array_elements")]
    pub(in crate::config) array_elements: WholeNumber<1, 100>,
    /// How many identifiers go into one request. Braze takes at most 1,000.
    #[serde(default = "default_batch")]
    pub(in crate::config) batch: WholeNumber<1, 1000>,
    /// Braze's hourly limit on cohort import requests, for the estimate in plans.
    #[serde(default = "default_requests_per_hour")]
    pub(in crate::config) requests_per_hour: WholeNumber<1, 1_000_000_000>,
    /// How long one request may take.
    #[serde(default = "default_timeout")]
    pub(in crate::config) timeout: Length,
    /// When to give up on a request that Braze does not take.
    #[serde(default)]
    pub(in crate::config) retry: RetrySpec,
    /// How long Braze may take to handle a request that had no answer, for example of a run that was killed. The first run
    /// after that sends members and names of such requests once more, where a late request may have changed them.
    #[serde(default = "default_settle_again_after")]
    pub(in crate::config) settle_again_after: Length,
}

fn default_settle_again_after() -> Length {
    Length::from_secs(15 * 60)
}

fn default_partner() -> PathPart {
    PathPart("heap".to_owned())
}

fn default_organization() -> PascalCase {
    PascalCase("Syncline".to_owned())
}

fn default_cohorts_at_once() -> WholeNumber<1, 64> {
    WholeNumber(4)
}

fn default_array_elements() -> WholeNumber<1, 100> {
    WholeNumber(25)
}

fn default_batch() -> WholeNumber<1, 1000> {
    WholeNumber(1000)
}

fn default_requests_per_hour() -> WholeNumber<1, 1_000_000_000> {
    WholeNumber(250_000)
}

fn default_timeout() -> Length {
    Length::from_secs(30)
}

/// When to give up on a request that Braze does not take. What has no answer by then is settled by the next run.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RetrySpec {
    /// How often a request is tried in all.
    pub(in crate::config) attempts: WholeNumber<1, 100>,
    /// The wait after the first failure. It doubles with each further one, with some jitter.
    pub(in crate::config) first_wait: Length,
    /// The longest single wait. A rate limit that resets later than this ends the run instead.
    pub(in crate::config) longest_wait: Length,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: WholeNumber(8),
            first_wait: Length::from_millis(500),
            longest_wait: Length::from_secs(15 * 60),
        }
    }
}

/// A key, never written in the config itself: the name of an environment variable, or a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum SecretSpec {
    /// The environment variable that holds it.
    #[schemars(example = &"BRAZE_DATA_IMPORT_KEY")]
    Env(Variable),
    /// The file that holds it, relative to the config's folder. Only its owner and the process's own group may read it, and only its owner may write it: mode 0600, or 0440 as Kubernetes mounts it with `fsGroup`.
    #[schemars(example = "secrets/braze_data_import_key")]
    File(Text),
}

/// A named set of people that is kept in Braze.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CohortSpec {
    /// The stable id. It becomes Braze's cohort id; never use it for another cohort.
    #[schemars(example = &"abandoned_checkout")]
    pub(in crate::config) id: Slug,
    /// The name that Braze's segment filter shows. It may change.
    #[schemars(example = "Abandoned checkout")]
    pub(in crate::config) name: Text,
    /// The connection that the cohort is sent to.
    #[schemars(example = &"braze")]
    pub(in crate::config) to: Slug,
    /// Where the people come from.
    pub(in crate::config) source: SourceSpec,
    /// How a row names a person. The first rule whose column is not empty decides.
    pub(in crate::config) r#match: NonEmpty<MatchRuleSpec, 16>,
    /// How they reach Braze.
    #[serde(default)]
    pub(in crate::config) deliver: DeliverSpec,
    /// With `deliver: attribute`: the attribute, if it is not the array `syncline_cohorts`.
    pub(in crate::config) attribute: Option<AttributeSpec>,
    /// Ask Braze whom of those who enter it knows: it takes in nobody else, and does not say so. Without this, nobody is asked.
    pub(in crate::config) preflight: Option<PreflightSpec>,
    /// What is triggered in Braze for whoever enters.
    pub(in crate::config) on_enter: Option<TriggerSpec>,
    /// What is triggered in Braze for whoever leaves.
    pub(in crate::config) on_exit: Option<TriggerSpec>,
    /// What one run may change without asking.
    #[serde(default)]
    pub(in crate::config) guard: GuardSpec,
    /// `true`: the cohort is never emptied, neither by an empty source nor under `removed:`, until a run has seen `false` here. Deleting the line changes nothing.
    #[serde(default)]
    pub(in crate::config) protect: Option<bool>,
    /// When `syncline watch` looks at the cohort again, whatever it was told of it.
    pub(in crate::config) schedule: Option<ScheduleSpec>,
}

/// Where the people of a cohort come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum SourceSpec {
    /// Files: the whole cohort, read again on every run.
    File(FileSourceSpec),
    /// A segment that is defined in Heap and told by its webhook.
    HeapSegment(HeapSegmentSourceSpec),
    /// A query, or a table: what it gives is the whole cohort.
    Sql(SqlSourceSpec),
    /// A table of Heap Connect's dumps as it stands at the newest one, or a query over such tables.
    HeapConnect(TableSourceSpec),
}

/// Files: the whole cohort, read again on every run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FileSourceSpec {
    /// A path or a glob, relative to the config's folder; or one in a bucket, or a file on a web server. `.gz` and `.zst` files are unpacked as they are read.
    #[schemars(example = "exports/abandoned_checkout.csv")]
    #[schemars(example = "exports/part-*.ndjson.zst")]
    #[schemars(example = "s3://acme-exports/carts/*.parquet")]
    pub(in crate::config) path: Text,
    /// The bucket's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// The format; told from the name (`.csv`, `.tsv`, `.ndjson`, `.jsonl`, `.parquet`, `.avro`) if not given.
    pub(in crate::config) format: Option<super::types::Format>,
    /// What separates the fields of a CSV file, if not a comma.
    #[schemars(example = ";")]
    pub(in crate::config) delimiter: Option<Delimiter>,
    /// Texts that stand for "no value", besides the empty one.
    #[serde(default)]
    #[schemars(example = ["\\N", "NULL"])]
    pub(in crate::config) null_values: Vec<Text>,
    /// Whether a file must end with a line break. `required`: a file that does not is taken for cut short and not used.
    #[serde(default)]
    pub(in crate::config) final_newline: super::types::FinalNewline,
}

/// How a row names a person in Braze. Right-hand sides are columns of the source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum MatchRuleSpec {
    /// The column with Braze's external id: for people who are identified.
    #[schemars(example = &"identity")]
    ExternalId(Text),
    /// A user alias: for people who are identified.
    Alias(AliasSpec),
    /// The column with Braze's device id: only for people who are still anonymous, so it must be the last rule.
    #[schemars(example = &"device_id")]
    DeviceId(Text),
}

/// A Braze user alias.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AliasSpec {
    /// The alias label, as it is.
    #[schemars(example = &"heap_user_id")]
    pub(in crate::config) label: Label,
    /// The column with the alias name.
    #[schemars(example = &"user_id")]
    pub(in crate::config) name: Text,
}

/// A cohort that left the config.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RemovedSpec {
    /// The id that it had.
    pub(in crate::config) cohort: Slug,
    /// What becomes of its members: `remove` takes them all out of the cohort in Braze.
    #[allow(dead_code, reason = "the only choice there is, but one that a person has to spell out")]
    pub(in crate::config) members: MembersSpec,
}

/// What becomes of the members of a cohort that left the config.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum MembersSpec {
    /// All of them leave the cohort in Braze.
    Remove,
}
