//! The shape of the config file: serde reads these types, and the JSON Schema is generated from them.
//!
//! The types mirror the YAML exactly and are private to `config`; `convert` turns them into the `Config` that the rest
//! of the program uses. Their doc comments are the descriptions of the schema: write them for the editor of the file.

mod deliver;
mod dumps;
mod export;
mod guard;
mod heap;
mod identity;
mod segments;
mod sql;
mod state;
mod triggers;
mod watch;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(in crate::config) use deliver::{AttributeSpec, DeliverSpec, PreflightSpec};
pub(in crate::config) use dumps::DumpTableSpec;
pub(in crate::config) use export::{
    AnonymousSpec, CustomEventsSpec, ExportSourceSpec, ExportSpec, NamingSpec, PropertiesSpec,
    StorageSourceSpec,
};
pub(in crate::config) use guard::{GuardSpec, IdDamage};
pub(in crate::config) use heap::{HeapSegmentSourceSpec, HeapSpec, RegionSpec};
pub(in crate::config) use identity::{IdentityDumpsSpec, IdentityFileSpec, IdentitySourceSpec};
pub(in crate::config) use segments::{BrazeObjectSpec, CombinationSpec, SegmentSpec, SizeSpec};
pub(in crate::config) use sql::{
    AdbcSpec, DatabaseTlsSpec, DiffSpec, PostgresSpec, QuoteSpec, SqlSourceSpec,
};
pub(in crate::config) use state::State;
pub(in crate::config) use triggers::{QuietHoursSpec, TriggerSpec};
pub(in crate::config) use watch::{
    EndpointLimitsSpec, NotifyFormatSpec, NotifyOnSpec, NotifySpec, ScheduleSpec, WatchSpec,
};

use super::text::{
    Delimiter, Label, Length, Memory, NonEmpty, PascalCase, PathPart, Slug, StatePath, Text, Variable,
    WholeNumber,
};

/// A syncline config: the cohorts to keep in Braze, their sources, and the exports to Heap.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "syncline config")]
pub(in crate::config) struct ConfigFile {
    /// Version of the config format. Always 1.
    pub(in crate::config) version: FormatVersion,
    /// The state: a folder relative to this file, or a bucket. It records the members that Braze has accepted. Keep it: without it, no member can be removed.
    #[serde(default = "default_state")]
    #[schemars(example = ".syncline")]
    #[schemars(example = "s3://acme-syncline/production")]
    #[schemars(example = serde_json::json!({ "path": "s3://acme-syncline/production", "must_exist": true }))]
    pub(in crate::config) state: State,
    /// Options of the bucket in `state`, in addition to the vendor's environment variables.
    #[serde(default)]
    pub(in crate::config) bucket: BucketSpec,
    /// More config files, as globs relative to this file's folder. They may contain `connections`, `cohorts`, `identity`, `segments`, `exports` and `removed`; `syncline schema --include` prints their schema. At most 256 entries, 4,096 files and 16 MiB in total.
    #[serde(default)]
    #[schemars(example = ["cohorts/*.yaml"])]
    pub(in crate::config) include: Vec<String>,
    /// Folders outside this file's folder that sources may read from.
    #[serde(default)]
    #[schemars(example = ["/data/exports"])]
    pub(in crate::config) roots: Vec<String>,
    /// Servers that the config may name in addition to the vendors' own, by scheme, host and port. Required for endpoints outside the vendors' domains, for plain HTTP to other machines, and for web sources with private or link-local addresses.
    #[serde(default)]
    #[schemars(example = ["https://minio.acme.internal:9000"])]
    pub(in crate::config) allow_endpoint: Vec<Text>,
    /// Memory limit for plans, saved plans and their changes in the whole process. It limits how many cohorts are planned
    /// at once; larger data goes into temporary files.
    #[serde(default = "default_memory")]
    #[schemars(example = "256MiB")]
    pub(in crate::config) memory: Memory,
    /// How long the state keeps the journal and the rejects of cohorts and webhooks, at least one hour. A journal larger
    /// than 64 MiB loses its oldest runs earlier. Rejects are kept for at most 32 runs of a cohort. Exports have their own
    /// `keep_rejects`.
    #[serde(default = "default_retention")]
    #[schemars(example = "30d")]
    pub(in crate::config) retention: Length,
    /// Braze workspaces, Heap environments and databases, by a name that you choose.
    #[schemars(example = serde_json::json!({ "braze": { "kind": "braze", "instance": "sandbox" } }))]
    #[serde(default)]
    pub(in crate::config) connections: BTreeMap<Slug, ConnectionSpec>,
    /// The cohorts to keep in sync.
    #[serde(default)]
    pub(in crate::config) cohorts: Vec<CohortSpec>,
    /// Identity sources: files or dumps that map devices and aliases to external ids.
    #[serde(default)]
    pub(in crate::config) identity: Vec<IdentitySourceSpec>,
    /// Braze segments that use the cohorts. `syncline check` compares them with Braze.
    #[serde(default)]
    pub(in crate::config) segments: Vec<SegmentSpec>,
    /// Exports of engagement events from Braze Currents to Heap.
    #[serde(default)]
    pub(in crate::config) exports: Vec<ExportSpec>,
    /// Cohorts that were deleted from `cohorts`; their members must be removed from Braze.
    #[schemars(example = serde_json::json!([{ "cohort": "spring_promotion", "members": "remove" }]))]
    #[serde(default)]
    pub(in crate::config) removed: Vec<RemovedSpec>,
    /// Settings of `syncline watch`.
    #[serde(default)]
    pub(in crate::config) watch: WatchSpec,
    /// Overlays, selected by `--env NAME`. Mappings are merged into the config; lists and other values replace it.
    #[schemars(example = serde_json::json!({ "production": { "state": "s3://acme-syncline/production" } }))]
    #[serde(default)]
    #[allow(dead_code, reason = "merged into the tree before it is parsed; present for the schema")]
    pub(in crate::config) environments: BTreeMap<Slug, super::environment_schema::EnvironmentOverlay>,
}

fn default_state() -> State {
    State::standard()
}

/// Options of the bucket in `state`. Credentials come from the vendor's environment variables or the machine's identity.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct BucketSpec {
    /// Address of the object store, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// Lease time: how long the state stays locked after its holder stops responding. The holder renews the lease three times in this period.
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

/// Version of the config format. Only 1 exists.
#[derive(Debug, Deserialize)]
#[serde(try_from = "u64")]
pub(in crate::config) struct FormatVersion;

impl TryFrom<u64> for FormatVersion {
    type Error = &'static str;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if number == 1 { Ok(Self) } else { Err("this program supports only version 1") }
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

/// A connection to Braze, Heap or a database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum ConnectionSpec {
    /// A Braze workspace.
    Braze(BrazeSpec),
    /// A Heap environment. It receives events from exports and sends its segments by webhook to `syncline watch`.
    Heap(HeapSpec),
    /// A PostgreSQL database or Amazon Redshift. Only read, unless `pushdown` is set.
    Postgres(PostgresSpec),
    /// Another database, through an installed Arrow Database Connectivity (ADBC) driver: Snowflake, BigQuery, Databricks, Flight SQL, DuckDB, SQLite. Only read.
    Adbc(AdbcSpec),
}

/// A Braze workspace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct BrazeSpec {
    /// The Braze instance, as in the address of the dashboard. `sandbox` is a local simulation that needs no keys.
    pub(in crate::config) instance: Option<super::braze_instance::Instance>,
    /// The REST endpoint. Use either this or `instance`.
    #[schemars(example = "https://rest.iad-01.braze.com")]
    pub(in crate::config) endpoint: Option<String>,
    /// Former names of this connection. The state records the connection of each cohort; without this, a renamed connection counts as another workspace.
    #[serde(default)]
    #[schemars(example = ["braze_eu"])]
    pub(in crate::config) formerly: Vec<Slug>,
    /// Partner name in the path of the cohort import endpoints.
    #[serde(default = "default_partner")]
    pub(in crate::config) partner: PathPart,
    /// Data import key, from the Braze dashboard: Partner Integrations > Technology Partners > Heap.
    pub(in crate::config) data_import_key: Option<SecretSpec>,
    /// Partner API key, issued by Braze to the partner.
    pub(in crate::config) partner_api_key: Option<SecretSpec>,
    /// REST API key of the workspace. `deliver: attribute` needs the permission `users.track`; triggers need `campaigns.trigger.send` or `canvas.trigger.send`; `preflight` and canaries need `users.export.ids`; segment checks need `segments.list`, `segments.details`, `segments.data_series`, `campaigns.list`, `campaigns.details`, `canvas.list` and `canvas.details`.
    pub(in crate::config) rest_api_key: Option<SecretSpec>,
    /// Organization in the `User-Agent` header that Braze requires of partners: `partner-<organization>-Syncline/<version>`.
    #[serde(default = "default_organization")]
    pub(in crate::config) organization: PascalCase,
    /// How many cohorts are sent concurrently. Each cohort has at most one request at a time.
    #[serde(default = "default_cohorts_at_once")]
    pub(in crate::config) cohorts_at_once: WholeNumber<1, 64>,
    /// Maximum number of elements of an array attribute, for `deliver: attribute`. Braze cuts off further elements. Its default is 25; Braze raises it on request.
    #[serde(default = "default_array_elements")]
    pub(in crate::config) array_elements: WholeNumber<1, 100>,
    /// Maximum number of identifiers per request. Braze accepts at most 1,000.
    #[serde(default = "default_batch")]
    pub(in crate::config) batch: WholeNumber<1, 1000>,
    /// Braze's hourly limit of cohort import requests. Plans use it to estimate the duration.
    #[serde(default = "default_requests_per_hour")]
    pub(in crate::config) requests_per_hour: WholeNumber<1, 1_000_000_000>,
    /// Timeout of one request.
    #[serde(default = "default_timeout")]
    pub(in crate::config) timeout: Length,
    /// Retries of failed requests.
    #[serde(default)]
    pub(in crate::config) retry: RetrySpec,
    /// How long Braze may take to process a request without a response, for example after a run was killed. The first run
    /// after that period sends the members and names of such requests again.
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

/// Retries of failed requests. The next run settles requests that still have no response.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct RetrySpec {
    /// Maximum number of attempts, including the first.
    pub(in crate::config) attempts: WholeNumber<1, 100>,
    /// Wait after the first failure. It doubles after each further failure, with jitter.
    pub(in crate::config) first_wait: Length,
    /// Longest single wait. A rate limit that resets later ends the run.
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

/// A secret: the name of an environment variable or the path of a file, never the value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum SecretSpec {
    /// Environment variable that contains the secret.
    #[schemars(example = &"BRAZE_DATA_IMPORT_KEY")]
    Env(Variable),
    /// File that contains the secret, relative to the config's folder. Only its owner and the process's group may read it, and only its owner may write it: mode 0600, or 0440 as Kubernetes mounts it with `fsGroup`.
    #[schemars(example = "secrets/braze_data_import_key")]
    File(Text),
}

/// A named set of users that is kept in sync in Braze.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct CohortSpec {
    /// Stable id, also the cohort id in Braze. Never reuse it for another cohort.
    #[schemars(example = &"abandoned_checkout")]
    pub(in crate::config) id: Slug,
    /// Name in Braze's segment filter. It may change.
    #[schemars(example = "Abandoned checkout")]
    pub(in crate::config) name: Text,
    /// Connection that receives the cohort.
    #[schemars(example = &"braze")]
    pub(in crate::config) to: Slug,
    /// Source of the members.
    #[schemars(example = serde_json::json!({ "kind": "file", "path": "exports/abandoned_checkout.csv" }))]
    pub(in crate::config) source: SourceSpec,
    /// Rules that turn a row into a Braze identifier. The first rule with a non-empty column applies.
    #[schemars(example = serde_json::json!([{ "external_id": "identity" }, { "device_id": "device_id" }]))]
    pub(in crate::config) r#match: NonEmpty<MatchRuleSpec, 16>,
    /// Delivery to Braze: cohort import or attribute.
    #[serde(default)]
    pub(in crate::config) deliver: DeliverSpec,
    /// With `deliver: attribute`: the attribute, if it is not the array `syncline_cohorts`.
    #[schemars(example = serde_json::json!({ "boolean": "in_abandoned_checkout" }))]
    pub(in crate::config) attribute: Option<AttributeSpec>,
    /// Checks before sending whether Braze knows the users: Braze silently drops identifiers without a profile. Off if absent.
    pub(in crate::config) preflight: Option<PreflightSpec>,
    /// Trigger: campaign or Canvas that Braze sends to users who enter the cohort.
    #[schemars(example = serde_json::json!({ "campaign": "3aca937b-9bbc-4e42-9370-05e411967b2b" }))]
    pub(in crate::config) on_enter: Option<TriggerSpec>,
    /// Trigger: campaign or Canvas that Braze sends to users who leave the cohort.
    pub(in crate::config) on_exit: Option<TriggerSpec>,
    /// Limits on what one run may change. Larger changes are blocked until you approve them.
    #[serde(default)]
    pub(in crate::config) guard: GuardSpec,
    /// `true` prevents emptying the cohort, by an empty source or under `removed`, until a run has seen `false`. Deleting the line changes nothing.
    #[serde(default)]
    pub(in crate::config) protect: Option<bool>,
    /// Schedule of runs of this cohort in `syncline watch`, in addition to runs on changes of its source.
    #[schemars(example = serde_json::json!({ "every": "15m" }))]
    pub(in crate::config) schedule: Option<ScheduleSpec>,
}

/// Source of the members of a cohort.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum SourceSpec {
    /// Files. Together they contain the whole cohort; every run reads them again.
    File(FileSourceSpec),
    /// A segment in Heap, received by webhook.
    HeapSegment(HeapSegmentSourceSpec),
    /// A SQL query or table. Its rows are the whole cohort.
    Sql(SqlSourceSpec),
    /// A table of the newest Heap Connect dump, or a query over such tables.
    HeapConnect(DumpTableSpec),
}

/// Files. Together they contain the whole cohort; every run reads them again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FileSourceSpec {
    /// Path or glob, relative to the config's folder, in a bucket, or a URL of a web server. `.gz` and `.zst` files are decompressed.
    #[schemars(example = "exports/abandoned_checkout.csv")]
    #[schemars(example = "exports/part-*.ndjson.zst")]
    #[schemars(example = "s3://acme-exports/carts/*.parquet")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// File format. Default: by the extension (`.csv`, `.tsv`, `.ndjson`, `.jsonl`, `.parquet`, `.avro`).
    pub(in crate::config) format: Option<super::file_source::FileFormat>,
    /// Field separator of a CSV file, if it is not a comma.
    #[schemars(example = ";")]
    pub(in crate::config) delimiter: Option<Delimiter>,
    /// Strings that mean "no value", in addition to the empty string.
    #[serde(default)]
    #[schemars(example = ["\\N", "NULL"])]
    pub(in crate::config) null_values: Vec<Text>,
    /// Whether a file must end with a line break. `required` treats a file without one as truncated and does not use it.
    #[serde(default)]
    pub(in crate::config) final_newline: super::file_source::FinalNewline,
}

/// A rule that turns a row into a Braze identifier. Values are column names of the source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum MatchRuleSpec {
    /// Column with Braze's external id, for identified users.
    #[schemars(example = &"identity")]
    ExternalId(Text),
    /// User alias, for identified users.
    Alias(AliasSpec),
    /// Column with Braze's device id, for anonymous users only. It must be the last rule.
    #[schemars(example = &"device_id")]
    DeviceId(Text),
}

/// A user alias in Braze.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "label": "heap_user_id", "name": "user_id" }))]
pub(in crate::config) struct AliasSpec {
    /// Label of the alias, a constant.
    #[schemars(example = &"heap_user_id")]
    pub(in crate::config) label: Label,
    /// Column with the alias name.
    #[schemars(example = &"user_id")]
    pub(in crate::config) name: Text,
}

/// A cohort that was deleted from `cohorts`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RemovedSpec {
    /// Id of the cohort.
    #[schemars(example = &"spring_promotion")]
    pub(in crate::config) cohort: Slug,
    /// What happens to its members. `remove` removes all of them from the cohort in Braze.
    #[allow(dead_code, reason = "the only choice, which the config must state explicitly")]
    pub(in crate::config) members: MembersSpec,
}

/// What happens to the members of a deleted cohort.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum MembersSpec {
    /// Removes all members from the cohort in Braze.
    Remove,
}
