//! `discover`: which tables of a database could be cohorts, and what to write for them. It looks at names of
//! columns, and reads no row.

use serde_json::json;

use crate::cli::access;
use crate::cli::discovered::Candidates;
use crate::cli::error::{CommandError, of_sql};
use crate::cli::exit::Exit;
use crate::cli::find_args::DiscoverArgs;
use crate::cli::global_args::{Global, OutputFormat};
use crate::cli::logging::notify;
use crate::cli::output::{counted, out};
use crate::cli::render::json::envelope;
use crate::config::Config;
use crate::connector::sql::{self, Database};
use crate::model::ConnectionName;

pub(in crate::cli) fn run(global: &Global, args: &DiscoverArgs) -> Result<Exit, CommandError> {
    let config = super::config(global)?;
    let mut candidates = Candidates::new(&config, std::iter::empty());
    for name in wanted(&config, args.connection.as_ref())? {
        let (all, with_users) = tables(&config, name, &mut candidates)?;
        notify(&format!(
            "{name}: {} of {} could be cohorts by the names of their columns; no row was read",
            with_users,
            counted(all, "table")
        ));
    }
    out(&match args.format {
        OutputFormat::Human if candidates.list.is_empty() => {
            "# no table has a column that looks like user ids".to_owned()
        }
        OutputFormat::Human => candidates.yaml()?,
        OutputFormat::Json => envelope("discover", "found", &json!({ "cohorts": candidates.json()? })),
    })?;
    Ok(Exit::Done)
}

fn wanted<'a>(
    config: &'a Config,
    only: Option<&ConnectionName>,
) -> Result<Vec<&'a ConnectionName>, CommandError> {
    let all: Vec<&ConnectionName> = config.sql.keys().collect();
    let Some(only) = only else {
        if all.is_empty() {
            let none = CommandError::new(Exit::Usage, "the config has no database");
            return Err(none.hint("add one under `connections:`, of `kind: postgres` or `kind: adbc`"));
        }
        return Ok(all);
    };
    let found: Vec<_> = all.iter().copied().filter(|name| *name == only).collect();
    if found.is_empty() {
        let known = all.iter().map(|name| name.as_str());
        return Err(super::unknown("the config", "database", only.as_str(), known));
    }
    Ok(found)
}

/// Adds the tables of a database. How many there are, and how many could be cohorts.
pub(super) fn tables(
    config: &Config,
    name: &ConnectionName,
    candidates: &mut Candidates,
) -> Result<(u64, u64), CommandError> {
    let Some(settings) = config.sql.get(name) else { return Ok((0, 0)) };
    let secrets = access::secrets_of(name, settings)?;
    let tables =
        sql::tables(Database { name, settings, secrets: &secrets }).map_err(|error| of_sql(&error))?;
    let with_users = tables.iter().filter(|table| candidates.table(name, table)).count() as u64;
    Ok((tables.len() as u64, with_users))
}
