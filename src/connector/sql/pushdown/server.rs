//! What a server can do, and what it lets its user do. Nothing is written to find out.

use super::super::database::{Database, runtime};
use super::super::error::SqlError;
use super::super::session::PostgresSession;
use super::mirror_table::VERSION_MIN;
use super::query;
use crate::config::PostgresConfig;

/// What a user may do in the schema for tables of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What the server is, if it cannot do it at all.
    pub unfit: Option<String>,
    /// The schema is there.
    pub exists: bool,
    /// Schemas may be made.
    pub may_make: bool,
    /// The schema may be looked into.
    pub may_use: bool,
    /// Tables may be made in it.
    pub may_create: bool,
    /// Temporary tables may be made.
    pub may_make_temporary: bool,
}

/// Asks what the user may do in a schema; none if the server does not say.
///
/// # Errors
/// [`SqlError`] when there is no conversation at all.
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
    let version: String = session.one("select version()").await?;
    if let Some(description) = unsupported_version(&version) {
        return Some(description);
    }
    let encoding: String = session.one("select current_setting('server_encoding')").await?;
    (encoding != "UTF8").then(|| format!("{} in {encoding}", short(&version)))
}

/// `PostgreSQL 15.3` of what a server says of itself.
fn short(version: &str) -> &str {
    version.split(" on ").next().unwrap_or_default()
}

/// What a server is by its own words, if it cannot do it.
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
    use super::super::MirrorUnusable;
    use super::*;

    #[test]
    fn servers_are_told_by_their_words() {
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
