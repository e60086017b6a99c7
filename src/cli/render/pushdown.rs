//! Text and JSON of the pushdown: whether a source was compared in its database, and why not.

use serde_json::{Value, json};

use crate::cli::output::{count, dim, yellow};
use crate::reconcile::PushdownReport;

/// A line about the pushdown, if the config enables it.
pub(super) fn line(compared: Option<&PushdownReport>) -> Option<String> {
    Some(match compared? {
        PushdownReport::InDatabase { transferred, rows } => {
            let (transferred, rows) = (count(*transferred), count(*rows));
            dim(&format!("    pushdown: {transferred} of {rows} rows were transferred"))
        }
        PushdownReport::InFull { reason } => format!("    {} read in full: {reason}", yellow("!")),
    })
}

/// A line about a mirror table that is not up to date.
pub(super) fn table_error_line(what: &str) -> String {
    let table = "the mirror table could not be written; the next run reads the source in full";
    format!("  {} {table}: {what}", yellow("!"))
}

/// The pushdown as JSON.
pub(super) fn to_json(compared: Option<&PushdownReport>, error: Option<&str>) -> Value {
    match compared {
        None if error.is_none() => Value::Null,
        None => json!({ "table_error": error }),
        Some(PushdownReport::InDatabase { transferred, rows }) => {
            json!({ "used": true, "keys_read": transferred, "rows": rows, "table_error": error })
        }
        Some(PushdownReport::InFull { reason }) => {
            json!({ "used": false, "reason": reason.to_string(), "table_error": error })
        }
    }
}
