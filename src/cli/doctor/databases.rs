//! Databases: driver, reach, credentials, rights, clock and connections.

use std::sync::Arc;

use super::sql_errors::failed;
use super::vendors::blocking;
use super::{DoctorFindings, tables};
use crate::cli::access;
use crate::cli::output::count;
use crate::config::{Config, Secrets, SqlConfig};
use crate::connector::sql::{self, Database, DatabaseInfo};
use crate::model::ConnectionName;

/// Share of used connections that is reported.
const CONNECTIONS_SHARE_MAX: f64 = 0.9;

pub(super) async fn check(config: &Config, findings: &mut DoctorFindings) {
    for (name, settings) in &config.sql {
        findings.about(format!("connection {name} ({})", location(settings)));
        let Some(secrets) = findings.check("secrets", access::secrets_of(name, settings)) else { continue };
        let (name, settings) = (name.clone(), Arc::new((settings.clone(), secrets)));
        let (database, with) = (name.clone(), Arc::clone(&settings));
        let seen = blocking(move || {
            let (settings, secrets): &(SqlConfig, Secrets) = &with;
            sql::inspect_database(Database { name: &database, settings, secrets })
        });
        match seen.await {
            Some(Ok(seen)) => {
                report(&name, &settings.0, &seen, findings);
                tables::check(&name, &settings, findings).await;
            }
            Some(Err(error)) => failed(&error, findings),
            None => {}
        }
    }
}

fn location(settings: &SqlConfig) -> String {
    match settings {
        SqlConfig::Postgres(postgres) => format!("{}:{}/{}", postgres.host, postgres.port, postgres.database),
        SqlConfig::Adbc(adbc) => format!("driver {}", adbc.driver),
    }
}

fn report(name: &ConnectionName, settings: &SqlConfig, seen: &DatabaseInfo, findings: &mut DoctorFindings) {
    let server =
        seen.server.clone().unwrap_or_else(|| "the driver is installed and opens the database".to_owned());
    findings.passed("credentials", server);
    findings.clock(seen.clock);
    if seen.pooled {
        findings.passed(
            "pooling",
            "connected through a transaction pooler such as PgBouncer; no setting and no prepared statement stays on its \
             server connections",
        );
    }
    match seen.may_write {
        Some(true) if !tables::are_kept(settings) => findings.note(
            "permission",
            "the user has write permissions",
            format!("queries run in read-only transactions; a user with only `select` for connection `{name}` is safer"),
        ),
        Some(false) => findings.passed("permission", "the user has only read permissions"),
        Some(true) | None => {}
    }
    if let Some((used, most)) = seen.connections {
        let says =
            format!("{} of {} connections are used", count(used.unsigned_abs()), count(most.unsigned_abs()));
        #[allow(clippy::cast_precision_loss, reason = "some hundred connections")]
        if used as f64 > most as f64 * CONNECTIONS_SHARE_MAX {
            findings.note(
                "limits",
                says,
                "raise `max_connections` of the server, or close unused connections",
            );
        } else {
            findings.passed("limits", says);
        }
    }
}
