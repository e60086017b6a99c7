//! The shape of `identity:` and of Heap Connect sources.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sql::ScalarSpec;
use super::{AliasSpec, Delimiter, Label, Length, Slug, Text};
use crate::config::file_source;

/// An identity source: it maps devices and aliases to external ids. Runs import it before they plan cohorts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum IdentitySourceSpec {
    /// The tables `users` and `user_migrations` of the newest Heap Connect dump.
    HeapConnect(IdentityDumpsSpec),
    /// Files with external ids and their devices, aliases or both.
    File(IdentityFileSpec),
}

/// The tables `users` and `user_migrations` of the newest Heap Connect dump.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityDumpsSpec {
    /// Bucket of Heap Connect, or a folder with a copy of it. It contains `manifests/`.
    #[schemars(example = "s3://heap-rs3-acme")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// Alias label in Braze for Heap's user ids.
    #[serde(default = "default_label")]
    pub(in crate::config) label: Label,
    /// Column of `users` with the external id.
    #[serde(default = "default_owner")]
    pub(in crate::config) external_id: Text,
}

fn default_label() -> Label {
    Label("heap_user_id".to_owned())
}

fn default_owner() -> Text {
    Text("identity".to_owned())
}

/// Files with external ids and their devices, aliases or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityFileSpec {
    /// Path or glob, relative to the config's folder, in a bucket, or a URL of a web server.
    #[schemars(example = "exports/devices.csv")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// File format. Default: by the extension.
    pub(in crate::config) format: Option<file_source::FileFormat>,
    /// Field separator of a CSV file, if it is not a comma.
    #[schemars(example = ";")]
    pub(in crate::config) delimiter: Option<Delimiter>,
    /// Whether a file must end with a line break.
    #[serde(default)]
    pub(in crate::config) final_newline: file_source::FinalNewline,
    /// Column with the external id.
    #[schemars(example = &"identity")]
    pub(in crate::config) external_id: Text,
    /// Column with Braze's device id.
    #[schemars(example = &"device_id")]
    pub(in crate::config) device_id: Option<Text>,
    /// User alias: its label and the column with its name.
    #[schemars(example = serde_json::json!({ "label": "heap_user_id", "name": "user_id" }))]
    pub(in crate::config) alias: Option<AliasSpec>,
}

/// A table of the newest Heap Connect dump, optionally only its recent rows; or a query over such tables, which are loaded as temporary tables into a database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TableSourceSpec {
    /// Bucket of Heap Connect, or a folder with a copy of it. It contains `manifests/`.
    #[schemars(example = "s3://heap-rs3-acme")]
    pub(in crate::config) path: Text,
    /// Address of the bucket, if it is not the vendor's.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// Region of the bucket, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// Table: `users`, or the table of an event. Use either this or a query.
    #[schemars(example = &"checkout_abandoned")]
    pub(in crate::config) table: Option<Text>,
    /// Maximum age of rows, by their column `time`, when the cohort is planned.
    #[schemars(example = "30d")]
    pub(in crate::config) within: Option<Length>,
    /// Database that runs the query: a connection of `kind: adbc`, for example DuckDB or SQLite. The tables are temporary tables in it.
    #[schemars(example = &"duck")]
    pub(in crate::config) connection: Option<Slug>,
    /// Tables that the query uses. Each has all its columns, and all values are text.
    #[serde(default)]
    #[schemars(example = ["checkout", "users"])]
    pub(in crate::config) tables: Vec<Text>,
    /// SQL query. It can only read.
    #[schemars(
        example = "select u.identity from checkout c join users u using (user_id) where c.price::double > 100"
    )]
    pub(in crate::config) query: Option<Text>,
    /// File with the SQL query, relative to the config's folder.
    #[schemars(example = "sql/abandoned_checkout.sql")]
    #[allow(dead_code, reason = "read from the tree, which knows its place; present for the schema")]
    pub(in crate::config) query_file: Option<Text>,
    /// Values of the placeholders in the query.
    #[serde(default)]
    #[schemars(example = [30])]
    pub(in crate::config) params: Vec<ScalarSpec>,
}
