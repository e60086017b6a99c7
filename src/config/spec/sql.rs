//! The shape of a SQL warehouse, and of a cohort that is a query in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::SecretSpec;
use crate::config::text::{Length, Slug, TableName, Text, WholeNumber};

/// A PostgreSQL database, or Amazon Redshift, which speaks the same protocol. Sources are only ever read from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PostgresSpec {
    /// The host, or the folder of its socket on this machine.
    #[schemars(example = "analytics.acme.eu-west-1.redshift.amazonaws.com")]
    #[schemars(example = "/var/run/postgresql")]
    pub(in crate::config) host: Text,
    /// The port; Redshift's is 5439.
    #[serde(default = "default_port")]
    pub(in crate::config) port: WholeNumber<1, 65_535>,
    /// The database.
    #[schemars(example = &"analytics")]
    pub(in crate::config) database: Text,
    /// The user; one that can do nothing but read is best.
    #[schemars(example = &"syncline")]
    pub(in crate::config) user: Text,
    /// The password, if the server asks for one.
    pub(in crate::config) password: Option<SecretSpec>,
    /// Whether the connection is encrypted and the server's certificate checked.
    #[serde(default)]
    pub(in crate::config) tls: DatabaseTlsSpec,
    /// Certificates to trust besides the machine's, PEM: those of Amazon RDS, say.
    pub(in crate::config) ca: Option<Text>,
    /// How long a query may take before the server ends it.
    #[serde(default = "default_statement_timeout")]
    pub(in crate::config) statement_timeout: Length,
    /// How long connecting may take, with further attempts while the server has no free connection or is starting.
    #[serde(default = "default_connect_timeout")]
    pub(in crate::config) connect_timeout: Length,
    /// Where tables of members are kept, for sources with `diff: pushdown`. PostgreSQL 12 or newer.
    pub(in crate::config) pushdown: Option<PushdownSpec>,
}

/// Where tables of members are kept in a database.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct PushdownSpec {
    /// The schema: the only one in which the user must be able to create tables.
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

/// Any other warehouse, through a driver of Arrow Database Connectivity that is installed on this machine: Snowflake, BigQuery, Databricks, Flight SQL, DuckDB, SQLite. It is only ever read from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AdbcSpec {
    /// The driver: its name among those that are installed, or its file, relative to the config's folder.
    #[schemars(example = &"snowflake")]
    #[schemars(example = "/usr/lib/libduckdb.so")]
    pub(in crate::config) driver: Text,
    /// The function of the file that makes the driver, if it is not the usual one; DuckDB's is `duckdb_adbc_init`.
    pub(in crate::config) entrypoint: Option<Text>,
    /// What the driver is told, by the names that its documentation gives.
    #[serde(default)]
    pub(in crate::config) options: BTreeMap<String, ScalarSpec>,
    /// The same for what must not be shown: secrets, tokens, private keys, addresses that hold one.
    #[serde(default)]
    pub(in crate::config) secrets: BTreeMap<String, SecretSpec>,
    /// What stands around the names of columns and tables in a query.
    #[serde(default)]
    pub(in crate::config) quote: QuoteSpec,
    /// How long a query may take before it is given up.
    #[serde(default = "default_statement_timeout")]
    pub(in crate::config) statement_timeout: Length,
}

/// What stands around names in a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum QuoteSpec {
    /// `"name"`: the standard, Snowflake, DuckDB, SQLite.
    #[default]
    Double,
    /// `` `name` ``: BigQuery, Databricks, MySQL.
    Backtick,
}

/// How a database is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DatabaseTlsSpec {
    /// Encrypted, and only to a server whose certificate is good for its name.
    #[default]
    Verify,
    /// In the open: on this machine only.
    Off,
}

/// A query, or a table: what it gives is the whole cohort.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct SqlSourceSpec {
    /// The connection to ask.
    #[schemars(example = &"warehouse")]
    pub(in crate::config) connection: Slug,
    /// The query. It runs in a transaction that can only read.
    #[schemars(example = "select identity from funnels where left_at > now() - interval '30 days'")]
    pub(in crate::config) query: Option<Text>,
    /// A file with the query, relative to the config's folder.
    #[schemars(example = "sql/abandoned_checkout.sql")]
    #[allow(dead_code, reason = "read from the tree, which knows its place; here for the schema")]
    pub(in crate::config) query_file: Option<Text>,
    /// A table or view, instead of a query.
    #[schemars(example = &"analytics.abandoned_checkout")]
    pub(in crate::config) table: Option<TableName>,
    /// Values for `$1`, `$2` and so on in the query.
    #[serde(default)]
    #[schemars(example = [30])]
    pub(in crate::config) params: Vec<ScalarSpec>,
    /// Texts that stand for "no value", besides the empty one.
    #[serde(default)]
    pub(in crate::config) null_values: Vec<Text>,
    /// Where the rows are compared with the members.
    #[serde(default)]
    pub(in crate::config) diff: DiffSpec,
}

/// Where the rows of a query are compared with the members of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum DiffSpec {
    /// On this machine: every row is read.
    #[default]
    Local,
    /// In the database, with a table of the members beside the source: only what differs is read. Needs `pushdown:` of the connection.
    Pushdown,
}

/// A text, a number, or `true` or `false`, as the text that a database reads it from.
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
            _ => Err("must be a text, a number, or `true` or `false`"),
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
