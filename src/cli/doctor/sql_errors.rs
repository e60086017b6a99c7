//! Errors of databases as findings, with remedies.

use super::DoctorFindings;
use crate::cli::environment;
use crate::cli::hints::sql_hint;
use crate::connector::sql::{SqlError, SqlErrorKind};

/// Adds an error with its remedies, and for a missing driver the folders that were searched.
pub(super) fn failed(error: &SqlError, findings: &mut DoctorFindings) {
    let check = match &error.kind {
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
    if error.kind == SqlErrorKind::Driver {
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
            format!("searched {}, {has}", folder.display())
        });
        if let Some(finding) = findings.list.last_mut() {
            finding.remedies.extend(folders);
            finding.remedies.push("and where the system looks for libraries (LD_LIBRARY_PATH)".to_owned());
        }
    }
}
