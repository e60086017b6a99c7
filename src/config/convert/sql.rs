//! Converts SQL connections and sources, and reads query files, which are part of the config.

use std::path::{Path, PathBuf};

use super::{positive, secret};
use crate::config::allowed_files;
use crate::config::merge::CONFIG_LEN_MAX;
use crate::config::problem::{Problem, ProblemCode};
use crate::config::spec;
use crate::config::sql::{AdbcConfig, PostgresConfig, SqlQuery, SqlSource};
use crate::config::tree::{PathStep, TreeNode};
use crate::model::{ConnectionName, IdError};

/// Maximum size of a query file, in bytes.
const QUERY_LEN_MAX: u64 = 1 << 20;

pub(super) fn postgres(shape: spec::PostgresSpec, folder: &Path) -> PostgresConfig {
    PostgresConfig {
        host: shape.host.0.trim().to_owned(),
        port: u16::try_from(shape.port.0).unwrap_or(5432),
        database: shape.database.0,
        user: shape.user.0,
        password: shape.password.map(|shape| secret(shape, folder)),
        is_encrypted: shape.tls == spec::DatabaseTlsSpec::Verify,
        ca: shape.ca.map(|path| folder.join(path.0)),
        statement_timeout: positive(shape.statement_timeout.0),
        connect_timeout: positive(shape.connect_timeout.0),
        pushdown: shape.pushdown.map(|pushdown| pushdown.schema.0.trim().to_owned()),
    }
}

pub(super) fn adbc(shape: spec::AdbcSpec, folder: &Path) -> AdbcConfig {
    let driver = shape.driver.0.trim().to_owned();
    AdbcConfig {
        // A driver is a file only if it looks like a path; other names are installed drivers.
        driver: if driver.contains('/') { folder.join(&driver).display().to_string() } else { driver },
        entrypoint: shape.entrypoint.map(|name| name.0),
        options: shape.options.into_iter().map(|(name, value)| (name, value.0)).collect(),
        secrets: shape.secrets.into_iter().map(|(name, shape)| (name, secret(shape, folder))).collect(),
        quote: match shape.quote {
            spec::QuoteSpec::Double => '"',
            spec::QuoteSpec::Backtick => '`',
        },
        statement_timeout: positive(shape.statement_timeout.0),
    }
}

/// A SQL source. `text` is the content of `query_file`.
pub(super) fn source(shape: spec::SqlSourceSpec, text: Option<String>) -> Result<SqlSource, IdError> {
    let query = text.or(shape.query.map(|query| query.0));
    let query = match (query, shape.table) {
        (Some(query), _) => SqlQuery::Text(query.trim_end().trim_end_matches(';').to_owned()),
        (None, table) => {
            let name = table.map(|name| name.0).unwrap_or_default();
            SqlQuery::Table(name.split('.').map(str::to_owned).collect())
        }
    };
    Ok(SqlSource {
        connection: ConnectionName::new(&shape.connection.0)?,
        query,
        params: shape.params.into_iter().map(|value| value.0).collect(),
        null_values: shape.null_values.into_iter().map(|text| text.0).collect(),
        pushdown: shape.diff == spec::DiffSpec::Pushdown,
    })
}

/// The contents of the cohorts' query files, in the order of the cohorts, and the files.
pub(super) fn query_files(tree: &TreeNode, folder: &Path) -> Result<Vec<Option<(PathBuf, String)>>, Problem> {
    let cohorts = tree.items("cohorts").iter().enumerate();
    let mut total = 0;
    let each = cohorts.map(|(at, cohort)| {
        let Some((name, span)) = cohort.get("source").and_then(|source| source.text("query_file")) else {
            return Ok(None);
        };
        let found = read(tree, at, &folder.join(name), folder)?;
        total += found.1.len();
        if total > CONFIG_LEN_MAX {
            let message = format!("the query files together are larger than {} MiB", CONFIG_LEN_MAX >> 20);
            return Err(Problem::new(ProblemCode::TooLarge, message)
                .at(span, "exceeds the limit")
                .hint("split the config into several configs, each with a state of its own"));
        }
        Ok(Some(found))
    });
    each.collect()
}

fn read(tree: &TreeNode, at: usize, path: &Path, folder: &Path) -> Result<(PathBuf, String), Problem> {
    let steps = ["source", "query_file"].map(|key| PathStep::Key(key.to_owned()));
    let steps: Vec<PathStep> =
        [PathStep::Key("cohorts".to_owned()), PathStep::Index(at)].into_iter().chain(steps).collect();
    let problem = |what: String| {
        Problem::new(ProblemCode::UnreadableFile, what)
            .at(tree.nearest(&steps).span, "named here")
            .hint("correct the path; it is relative to the config's folder")
    };
    let name = path.display();
    allowed_files::check(path, folder).map_err(|error| problem(format!("cannot read {name}: {error}")))?;
    let len = std::fs::metadata(path).map_err(|e| problem(format!("cannot read {name}: {e}")))?.len();
    if len > QUERY_LEN_MAX {
        return Err(problem(format!("{name} is larger than 1 MiB, the limit of a query")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| problem(format!("cannot read {name}: {e}")))?;
    if text.trim().is_empty() {
        return Err(problem(format!("{name} contains no query")));
    }
    Ok((path.to_owned(), text))
}
