//! Checks the server's version and the user's rights, without writing.

use super::super::runtime::runtime;
use super::super::session::PostgresSession;
use super::query;
use crate::config::PostgresConfig;
use crate::connector::sql::database::Database;
use crate::connector::sql::error::SqlError;
use crate::connector::sql::pushdown::Rights;
use crate::connector::sql::pushdown::mirror_table::VERSION_MIN;

/// Reads the user's rights in a schema; none if the server does not report them.
///
/// # Errors
/// [`SqlError`] when the connection fails.
pub fn rights(
    database: Database<'_>,
    settings: &PostgresConfig,
    schema: &str,
) -> Result<Option<Rights>, SqlError> {
    runtime(database)?.block_on(async {
        let session = PostgresSession::open(database, settings).await?;
        let unfit = unsupported_server(&session).await;
        let nothing = Rights {
            unfit,
            exists: false,
            may_make: false,
            may_use: false,
            may_create: false,
            may_make_temporary: false,
        };
        if nothing.unfit.is_some() {
            return Ok(Some(nothing));
        }
        let rows = session.rows(&query::rights(schema)).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let says = |at: usize| row.try_get::<_, bool>(at).unwrap_or(false);
        Ok(Some(Rights {
            exists: says(0),
            may_make: says(1),
            may_use: says(2),
            may_create: says(3),
            may_make_temporary: says(4),
            ..nothing
        }))
    })
}

/// Product, version and encoding of a server that pushdown does not support; none if it is supported.
pub(super) async fn unsupported_server(session: &PostgresSession<'_>) -> Option<String> {
    let version: String = session.query_one("select version()").await?;
    if let Some(description) = unsupported_version(&version) {
        return Some(description);
    }
    let encoding: String = session.query_one("select current_setting('server_encoding')").await?;
    (encoding != "UTF8").then(|| format!("{} in {encoding}", short(&version)))
}

/// `PostgreSQL 15.3` from the server's version text.
fn short(version: &str) -> &str {
    version.split(" on ").next().unwrap_or_default()
}

/// The description of an unsupported server; none if it is supported.
fn unsupported_version(version: &str) -> Option<String> {
    if version.contains("Redshift") {
        return Some("Amazon Redshift".to_owned());
    }
    let number = short(version).strip_prefix("PostgreSQL ").unwrap_or_default();
    let major = number.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let is_new = major.parse::<u32>().is_ok_and(|major| major >= VERSION_MIN);
    (!is_new).then(|| short(version).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::sql::pushdown::MirrorUnusable;

    #[test]
    fn unsupported_servers_are_recognized_by_their_version() {
        for fit in [
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, 64-bit",
            "PostgreSQL 17beta1 on x",
        ] {
            assert_eq!(unsupported_version(fit), None, "{fit}");
        }
        for (unfit, what) in [
            (
                "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc, Redshift 1.0.57014",
                "Amazon Redshift",
            ),
            ("PostgreSQL 11.22 on x86_64", "PostgreSQL 11.22"),
            ("CockroachDB CCL v23.1.2 on x", "CockroachDB CCL v23.1.2"),
        ] {
            assert_eq!(unsupported_version(unfit).as_deref(), Some(what));
        }
        assert_eq!(
            MirrorUnusable::Server("Amazon Redshift".to_owned()).to_string(),
            "pushdown needs PostgreSQL 12 in UTF-8, and this is Amazon Redshift"
        );
    }
}
