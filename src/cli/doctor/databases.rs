//! Databases: driver, reach, credentials, rights, clock and connections.

use std::sync::Arc;

use super::vendors::blocking;
use super::{DoctorFindings, tables};
use crate::cli::error::sql_hint;
use crate::cli::output::count;
use crate::cli::{access, environment};
use crate::config::{Config, Secrets, SqlConfig};
use crate::connector::sql::{self, Database, DatabaseInfo, SqlError, SqlErrorKind};
use crate::model::ConnectionName;

/// Share of used connections that is reported.
const CONNECTIONS_SHARE_MAX: f64 = 0.9;

pub(super) async fn check(config: &Config, findings: &mut DoctorFindings) {
    for (name, settings) in &config.sql {
        findings.about(format!("connection {name} ({})", place(settings)));
        let Some(secrets) = findings.check("secrets", access::secrets_of(name, settings)) else { continue };
        let (name, settings) = (name.clone(), Arc::new((settings.clone(), secrets)));
        let (asked, with) = (name.clone(), Arc::clone(&settings));
        let seen = blocking(move || {
            let (settings, secrets): &(SqlConfig, Secrets) = &with;
            sql::look(Database { name: &asked, settings, secrets })
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

fn place(settings: &SqlConfig) -> String {
    match settings {
        SqlConfig::Postgres(postgres) => format!("{}:{}/{}", postgres.host, postgres.port, postgres.database),
        SqlConfig::Adbc(adbc) => format!("driver {}", adbc.driver),
    }
}

fn report(name: &ConnectionName, settings: &SqlConfig, seen: &DatabaseInfo, findings: &mut DoctorFindings) {
    let server =
        seen.server.clone().unwrap_or_else(|| "the driver is there, and opens the database".to_owned());
    findings.passed("credentials", server);
    findings.clock(seen.clock);
    if seen.pooled {
        findings.passed(
            "pooling",
            "a transaction pooler such as PgBouncer stands in between; no setting and no statement stays on its \
             server connections",
        );
    }
    match seen.may_write {
        Some(true) if !tables::are_kept(settings) => findings.note(
            "permission",
            "the user could do more than read",
            format!("queries run in a transaction that can only read; still, give connection `{name}` a user with nothing but `select`"),
        ),
        Some(false) => findings.passed("permission", "the user can do nothing but read"),
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

/// What another command would say, and for a driver where it was looked for.
pub(super) fn failed(error: &SqlError, findings: &mut DoctorFindings) {
    let check = match &error.trouble {
        SqlErrorKind::Driver => "driver",
        SqlErrorKind::Credentials | SqlErrorKind::Certificate => "credentials",
        SqlErrorKind::Permission | SqlErrorKind::RowSecurity | SqlErrorKind::Writes => "permission",
        SqlErrorKind::MissingColumn { .. } | SqlErrorKind::DuplicateColumn(_) => "columns",
        SqlErrorKind::Query | SqlErrorKind::TypeGuess(_) | SqlErrorKind::TempTable(_) => "query",
        SqlErrorKind::Unreachable
        | SqlErrorKind::Busy
        | SqlErrorKind::Broken
        | SqlErrorKind::Timeout
        | SqlErrorKind::Stopped
        | SqlErrorKind::Local => "reach",
    };
    findings.failed(check, error.to_string(), sql_hint(error).unwrap_or_default());
    if error.trouble == SqlErrorKind::Driver {
        let folders = environment::driver_folders().into_iter().map(|folder| {
            let found = std::fs::read_dir(&folder).map(|entries| {
                let mut names: Vec<String> =
                    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                names.sort_unstable();
                names.join(", ")
            });
            let has = match found {
                Ok(names) if names.is_empty() => "which is empty".to_owned(),
                Ok(names) => format!("which has {names}"),
                Err(error) => format!("which cannot be read: {error}"),
            };
            format!("looked for in {}, {has}", folder.display())
        });
        if let Some(finding) = findings.list.last_mut() {
            finding.remedies.extend(folders);
            finding.remedies.push("and where the system looks for libraries (LD_LIBRARY_PATH)".to_owned());
        }
    }
}
