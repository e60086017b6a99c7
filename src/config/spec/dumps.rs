//! The shape of a source of `kind: heap_connect`: a table of the newest Heap Connect dump, or a query over such tables.

use schemars::JsonSchema;
use serde::Deserialize;

use super::sql::ScalarSpec;
use super::{Length, Slug, Text};

/// A table of the newest Heap Connect dump, optionally only its recent rows; or a query over such tables, which are loaded as temporary tables into a database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct DumpTableSpec {
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
    #[allow(dead_code, reason = "read from the tree, which knows its span; present for the schema")]
    pub(in crate::config) query_file: Option<Text>,
    /// Values of the placeholders in the query.
    #[serde(default)]
    #[schemars(example = [30])]
    pub(in crate::config) params: Vec<ScalarSpec>,
}
