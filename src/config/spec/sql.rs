//! The shape of SQL connections and SQL sources.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::SecretSpec;
use crate::config::text::{Length, Slug, TableName, Text, WholeNumber};

/// A PostgreSQL database or Amazon Redshift. Only read, unless `pushdown` is set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PostgresSpec {
    /// Host name, or the folder of the local socket.
    #[schemars(example = "analytics.acme.eu-west-1.redshift.amazonaws.com")]
    #[schemars(example = "/var/run/postgresql")]
    pub(in crate::config) host: Text,
    /// Port. Redshift uses 5439.
    #[serde(default = "default_port")]
    pub(in crate::config) port: WholeNumber<1, 65_535>,
    /// Name of the database.
    #[schemars(example = &"analytics")]
    pub(in crate::config) database: Text,
    /// Database user. Use one that can only read.
    #[schemars(example = &"syncline")]
    pub(in crate::config) user: Text,
    /// Password, if the server requires one.
    #[schemars(example = serde_json::json!({ "env": "PGPASSWORD" }))]
    pub(in crate::config) password: Option<SecretSpec>,
    /// Whether to encrypt the connection and verify the server's certificate.
    #[serde(default)]
    pub(in crate::config) tls: DatabaseTlsSpec,
    /// PEM file with additional trusted certificates, for example of Amazon RDS.
    #[schemars(example = "certs/rds-global-bundle.pem")]
    pub(in crate::config) ca: Option<Text>,
    /// Timeout of a query on the server.
    #[serde(default = "default_statement_timeout")]
    pub(in crate::config) statement_timeout: Length,
    /// Timeout of connecting, including retries while the server starts or has no free connection.
    #[serde(default = "default_connect_timeout")]
    pub(in crate::config) connect_timeout: Length,
    /// Schema for mirror tables, required by sources with `diff: pushdown`. PostgreSQL 12 or newer.
    #[schemars(example = serde_json::json!({ "schema": "syncline" }))]
    pub(in crate::config) pushdown: Option<PushdownSpec>,
}

/// Location of mirror tables: tables beside the source with the recorded members.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PushdownSpec {
    /// Schema in which the database user can create tables.
    #[schemars(example = &"syncline")]
    pub(in crate::config) schema: Text,
}

fn default_port() -> WholeNumber<1, 65_535> {
    WholeNumber(5432)
}

fn default_statement_timeout() -> Length {
    Length::from_secs(15 * 60)
}

fn default_connect_timeout() -> Length {
    Length::from_secs(15)
}

/// Another database, through an installed Arrow Database Connectivity (ADBC) driver: Snowflake, BigQuery, Databricks, Flight SQL, DuckDB, SQLite. Only read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AdbcSpec {
    /// Name of an installed driver, or its file, relative to the config's folder.
    #[schemars(example = &"snowflake")]
    #[schemars(example = "/usr/lib/libduckdb.so")]
    pub(in crate::config) driver: Text,
    /// Entry point of the driver file, if it is not the default. DuckDB uses `duckdb_adbc_init`.
    #[schemars(example = &"duckdb_adbc_init")]
    pub(in crate::config) entrypoint: Option<Text>,
    /// Options of the driver, by the names in its documentation.
    #[schemars(example = serde_json::json!({ "uri": "analytics.duckdb" }))]
    #[serde(default)]
    pub(in crate::config) options: BTreeMap<String, ScalarSpec>,
    /// Secret options of the driver: passwords, tokens, private keys, addresses that contain one.
    #[schemars(example = serde_json::json!({ "password": { "env": "SNOWFLAKE_PASSWORD" } }))]
    #[serde(default)]
    pub(in crate::config) secrets: BTreeMap<String, SecretSpec>,
    /// Quote character for names of columns and tables.
    #[serde(default)]
    pub(in crate::config) quote: QuoteSpec,
    /// Timeout of a query.
    #[serde(default = "default_statement_timeout")]
    pub(in crate::config) statement_timeout: Length,
}

/// Quote character for names in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum QuoteSpec {
    /// `"name"`: the standard, Snowflake, DuckDB, SQLite.
    #[default]
    Double,
    /// `` `name` ``: BigQuery, Databricks, MySQL.
    Backtick,
}

/// Encryption of a database connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DatabaseTlsSpec {
    /// Encrypted; the certificate must be valid for the host name.
    #[default]
    Verify,
    /// Not encrypted. Only for servers on this machine.
    Off,
}

/// A SQL query or table. Its rows are the whole cohort.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SqlSourceSpec {
    /// Connection of the database.
    #[schemars(example = &"warehouse")]
    pub(in crate::config) connection: Slug,
    /// SQL query. It runs in a read-only transaction.
    #[schemars(example = "select identity from funnels where left_at > now() - interval '30 days'")]
    pub(in crate::config) query: Option<Text>,
    /// File with the SQL query, relative to the config's folder.
    #[schemars(example = "sql/abandoned_checkout.sql")]
    #[allow(dead_code, reason = "read from the tree, which knows its span; present for the schema")]
    pub(in crate::config) query_file: Option<Text>,
    /// Table or view. Use either this or a query.
    #[schemars(example = &"analytics.abandoned_checkout")]
    pub(in crate::config) table: Option<TableName>,
    /// Values of the placeholders `$1`, `$2`, … in the query.
    #[serde(default)]
    #[schemars(example = [30])]
    pub(in crate::config) params: Vec<ScalarSpec>,
    /// Strings that mean "no value", in addition to the empty string.
    #[serde(default)]
    #[schemars(example = ["NULL"])]
    pub(in crate::config) null_values: Vec<Text>,
    /// Where rows are compared with the recorded members.
    #[serde(default)]
    pub(in crate::config) diff: DiffSpec,
}

/// Where rows are compared with the recorded members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DiffSpec {
    /// On this machine: every row is read.
    #[default]
    Local,
    /// In the database, with a mirror table: only differences are read. It needs `pushdown` of the connection.
    Pushdown,
}

/// A string, number or boolean, as text for a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub(in crate::config) struct ScalarSpec(pub(in crate::config) String);

impl TryFrom<serde_json::Value> for ScalarSpec {
    type Error = &'static str;

    fn try_from(value: serde_json::Value) -> Result<Self, Self::Error> {
        match value {
            serde_json::Value::String(text) => Ok(Self(text)),
            value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)) => {
                Ok(Self(value.to_string()))
            }
            _ => Err("expected a string, a number or a boolean"),
        }
    }
}

impl JsonSchema for ScalarSpec {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}
