//! The shape of `identity:`, and of places of Heap Connect's dumps.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sql::ScalarSpec;
use super::{AliasSpec, Delimiter, Label, Length, Slug, Text};
use crate::config::types;

/// Where it is told who is who: by what people are known besides your own id. It is learned before cohorts are planned.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(in crate::config) enum IdentitySourceSpec {
    /// Heap Connect's dumps: `users` and `user_migrations` as they stand at the newest one.
    HeapConnect(IdentityDumpsSpec),
    /// Files with your own id beside a device, an alias, or both.
    File(IdentityFileSpec),
}

/// Heap Connect's dumps: `users` and `user_migrations` as they stand at the newest one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityDumpsSpec {
    /// The bucket, or a folder that is a copy of it: what has `manifests/` in it.
    #[schemars(example = "s3://heap-rs3-acme")]
    pub(in crate::config) path: Text,
    /// The bucket's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// The label of the alias that Heap's user ids are in Braze.
    #[serde(default = "default_label")]
    pub(in crate::config) label: Label,
    /// The column of `users` with your own id.
    #[serde(default = "default_owner")]
    pub(in crate::config) external_id: Text,
}

fn default_label() -> Label {
    Label("heap_user_id".to_owned())
}

fn default_owner() -> Text {
    Text("identity".to_owned())
}

/// Files with your own id beside a device, an alias, or both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct IdentityFileSpec {
    /// A path or a glob, relative to the config's folder; or one in a bucket, or a file on a web server.
    #[schemars(example = "exports/devices.csv")]
    pub(in crate::config) path: Text,
    /// The bucket's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// The format; told from the name if not given.
    pub(in crate::config) format: Option<types::Format>,
    /// What separates the fields of a CSV file, if not a comma.
    #[schemars(example = ";")]
    pub(in crate::config) delimiter: Option<Delimiter>,
    /// Whether a file must end with a line break.
    #[serde(default)]
    pub(in crate::config) final_newline: types::FinalNewline,
    /// The column with your own id.
    #[schemars(example = &"identity")]
    pub(in crate::config) external_id: Text,
    /// The column with Braze's device id.
    #[schemars(example = &"device_id")]
    pub(in crate::config) device_id: Option<Text>,
    /// A user alias.
    pub(in crate::config) alias: Option<AliasSpec>,
}

/// A table of Heap Connect's dumps as it stands at the newest one, or those of its rows that are not too old; or a query over such tables, asked of a database that they are lent to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct TableSourceSpec {
    /// The bucket, or a folder that is a copy of it: what has `manifests/` in it.
    #[schemars(example = "s3://heap-rs3-acme")]
    pub(in crate::config) path: Text,
    /// The bucket's address, if it is not the vendor's own.
    #[schemars(example = "https://minio.acme.internal:9000")]
    pub(in crate::config) endpoint: Option<String>,
    /// The bucket's region, for S3.
    #[schemars(example = "eu-central-1")]
    pub(in crate::config) region: Option<String>,
    /// The table: `users`, or that of an event. Either this or a query.
    #[schemars(example = &"checkout_abandoned")]
    pub(in crate::config) table: Option<Text>,
    /// Only rows whose `time` is no older than this when the cohort is planned.
    #[schemars(example = "30d")]
    pub(in crate::config) within: Option<Length>,
    /// The database that a query is asked of: a connection of `kind: adbc`, DuckDB or SQLite say. The tables are temporary there.
    #[schemars(example = &"duck")]
    pub(in crate::config) connection: Option<Slug>,
    /// The tables that the query names. Each has all its columns, and each value is text.
    #[serde(default)]
    #[schemars(example = ["checkout", "users"])]
    pub(in crate::config) tables: Vec<Text>,
    /// The query. It can only read.
    #[schemars(
        example = "select u.identity from checkout c join users u using (user_id) where c.price::double > 100"
    )]
    pub(in crate::config) query: Option<Text>,
    /// A file with the query, relative to the config's folder.
    #[schemars(example = "sql/abandoned_checkout.sql")]
    #[allow(dead_code, reason = "read from the tree, which knows its place; here for the schema")]
    pub(in crate::config) query_file: Option<Text>,
    /// Values for the placeholders of the query.
    #[serde(default)]
    #[schemars(example = [30])]
    pub(in crate::config) params: Vec<ScalarSpec>,
}
