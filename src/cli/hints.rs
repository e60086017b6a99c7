//! Remedies for the errors of other modules.

use std::io::ErrorKind;
use std::path::Path;

use super::suggested_command::suggested;
use crate::config::did_you_mean;
use crate::connector::file::FileError;
use crate::connector::heap_connect::DumpError;
use crate::connector::sql::{SqlError, SqlErrorKind};
use crate::foreign::escaped;
use crate::reconcile::PlanError;
use crate::source::DesiredError;
use crate::state::StateError;

/// How to get a whole segment out of Heap.
pub(super) const FULL_SYNC: &str = "ask Heap for a full sync: switch each segment off and on again at the integration in \
                                    Heap, and wait until its pages are in the inbox (`syncline status`)";

/// Remedies for a damaged file of the state.
pub(super) fn damaged_hints(path: &Path) -> Vec<String> {
    let names: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
    let restore = "nothing was sent; restore the file from a backup".to_owned();
    match names.as_slice() {
        [.., "format.json"] => vec![format!(
            "nothing was sent. The file never changes: copy {} over it; without that copy, restore it from any backup \
             of this state",
            path.with_file_name("format.copy.json").display()
        )],
        [.., "cohorts", id, "versions", _] => vec![
            restore,
            "without a backup, delete the file. Then these two commands send everyone again who may be in the cohort, and \
             remove who should not be:"
                .to_owned(),
            suggested("resync") + &format!(" {id} --yes"),
            suggested("reconcile"),
        ],
        [.., "cohorts", id, _, _] => vec![
            restore,
            format!(
                "without a backup, move the folder cohorts/{id} of the state away. Then this command sends all members \
                 again; members who have left the source since stay in Braze: {} cohorts/{id}",
                suggested("state accept")
            ),
        ],
        _ => vec![
            restore,
            "without a backup, move the state away and start with an empty one: then all members are sent again and none can be \
             removed"
                .to_owned(),
        ],
    }
}

/// Remedies for a part of the state that is older than the last commit.
pub(super) fn older_hints(entry: &str) -> Vec<String> {
    let restore = "nothing was sent; restore the newer files, if there is a copy".to_owned();
    let accept = format!("{} {entry}", suggested("state accept"));
    match entry.split_once('/') {
        Some(("cohorts", id)) => vec![
            restore,
            format!(
                "to send all members again and remove all others: {} {id} --yes, then {}",
                suggested("resync"),
                suggested("reconcile")
            ),
            format!("to accept the present files: {accept}"),
        ],
        Some(("segments", _)) => vec![restore, FULL_SYNC.to_owned(), format!("then stop `watch`: {accept}")],
        _ => vec![restore, format!("to accept the present files: {accept}")],
    }
}

/// Remedies for a folder of the state that does not do what it must.
pub(super) fn folder_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(
            "nothing was sent; this user must be able to write there, or `state:` must name another folder",
        ),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Some(
            "nothing was sent; `state:` must name a folder, and there is a file of that name on the way to it",
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("free some space on that disk; the state is intact")
        }
        _ => None,
    }
}

/// Remedies for a cohort that could not be planned, a line each.
pub(super) fn plan_hints(error: &PlanError) -> Vec<String> {
    let hints = match error {
        PlanError::Desired(DesiredError::State(StateError::Older { entry, .. }))
        | PlanError::State(StateError::Older { entry, .. }) => older_hints(entry),
        PlanError::Desired(DesiredError::State(StateError::Damaged { path, .. }))
        | PlanError::State(StateError::Damaged { path, .. }) => damaged_hints(path),
        PlanError::Workspace(name, _) => vec![
            "nothing was sent to this workspace; restore the file from a backup".to_owned(),
            format!(
                "or, if the keys belong to the workspace of the state: {} {name}",
                suggested("state adopt")
            ),
        ],
        _ => remedy(error).into_iter().collect(),
    };
    hints.iter().map(|hint| escaped(hint).into_owned()).collect()
}

fn remedy(error: &PlanError) -> Option<String> {
    match error {
        PlanError::Desired(error) => source_hint(error),
        PlanError::NoConnection(name) => {
            Some(format!("keep connection `{name}` in the config until the cohort is emptied"))
        }
        PlanError::State(_) | PlanError::Workspace(..) | PlanError::Order(_) | PlanError::Saved(_) => None,
        PlanError::Internal(_) => Some("please report it with the text on stderr".to_owned()),
    }
}

/// The remedy for a source that was not read.
pub(super) fn source_hint(error: &DesiredError) -> Option<String> {
    match error {
        DesiredError::File(error) => file_hint(error),
        DesiredError::Sql(error) => sql_hint(error),
        DesiredError::Dump(error) => dump_hint(error),
        DesiredError::Scratch(_) => Some("is the disk for temporary files full?".to_owned()),
        DesiredError::SegmentNotReceived { received, .. } if received.is_empty() => Some(
            "in Heap, toggle the segment to the integration that sends webhooks to `syncline watch`"
                .to_owned(),
        ),
        DesiredError::SegmentNotReceived { .. } => {
            Some("correct `segment_id:`, or toggle the segment to the integration in Heap".to_owned())
        }
        DesiredError::State(_) | DesiredError::Stopped => None,
    }
}

/// Remedies for files that were not read.
pub(super) fn file_hint(error: &FileError) -> Option<String> {
    Some(match error {
        FileError::Io { .. } if error.remote_kind() == Some(ErrorKind::NotFound) => {
            "no member was added or removed. Put the object back, or correct `path:`".to_owned()
        }
        FileError::Io { .. } if error.remote_kind().is_some() => {
            "no member was added or removed. Is the bucket the right one, and are there credentials? They come from AWS_…, \
             GOOGLE_… or AZURE_… variables, or from the machine's identity"
                .to_owned()
        }
        FileError::NoMatch { .. } | FileError::Io { .. } => {
            "a source that cannot be read is not an empty one: no member was removed. Put the file back, or correct `path:`".to_owned()
        }
        FileError::Truncated { .. } | FileError::Damaged { .. } => {
            "no member was added or removed. Export it again under another name, and rename it when it is complete".to_owned()
        }
        FileError::NoFinalNewline { .. } => {
            "no member was added or removed. Export it again under another name, and rename it when it is complete; \
             if a last row without a line break is right, set `final_newline: optional` under the cohort's `source:`"
                .to_owned()
        }
        FileError::Foreign { remedy, .. } => format!("no member was added or removed. To use it: {remedy}"),
        FileError::Unpack { .. } => "no member was added or removed. Export it again".to_owned(),
        FileError::Changed { .. } | FileError::FilesChanged { .. } => {
            "no member was added or removed. Write the file under another name, rename it when it is complete, then run again".to_owned()
        }
        FileError::MissingColumn { column, found, .. } => missing_column(column, found),
        FileError::NoHeader { .. } => {
            "no member was added or removed. Export the file with a header row; its first row is not shown here".to_owned()
        }
        FileError::DuplicateColumn { .. } => "rename one of the two columns".to_owned(),
        FileError::Malformed { .. } => "no member was added or removed. Correct the row, or export the file again".to_owned(),
        FileError::List { .. } => {
            "correct it, or write a narrower pattern. An inaccessible file may contain members".to_owned()
        }
        FileError::BadKey { .. } => "copy the object to another key, or write a narrower pattern".to_owned(),
        FileError::BadGlob { .. } => "correct the wildcards in `path:`".to_owned(),
        FileError::Outside { .. } => "name its folder under `roots:` at the top of the config".to_owned(),
        FileError::UnknownFormat { .. } => "add `format: csv`, `tsv`, `ndjson`, `parquet` or `avro` to the source".to_owned(),
        FileError::Stopped => return None,
    })
}

/// Remedies for a database that gave no rows.
pub(super) fn sql_hint(error: &SqlError) -> Option<String> {
    let database = &error.database;
    Some(match &error.kind {
        SqlErrorKind::Unreachable => format!(
            "no member was added or removed. Is `host:` of connection `{database}` right, and may this machine reach it?"
        ),
        SqlErrorKind::Busy => format!(
            "no member was added or removed. The server has no free connection, or is starting. Run again, free a connection, or \
             raise `connect_timeout:` of connection `{database}` to wait for longer"
        ),        SqlErrorKind::Broken => {
            "no member was added or removed. Run again; an incomplete result is not used"
                .to_owned()
        }
        SqlErrorKind::Certificate => format!(
            "set the CA that signed the server's certificate: `ca: file.pem` of connection `{database}`"
        ),
        SqlErrorKind::Credentials => {
            format!("check `user:`, `password:` and `database:` of connection `{database}`")
        }
        SqlErrorKind::Permission => {
            "grant the user `usage` on the schema and `select` on what the query reads".to_owned()
        }
        SqlErrorKind::RowSecurity => {
            "no member was added or removed. Give the user `bypassrls` (`alter role … bypassrls`), or read from a view \
             with an owner that sees all rows, and put the condition into it"
                .to_owned()
        }
        SqlErrorKind::Query => "no member was added or removed. Try the query in a client of the database".to_owned(),
        SqlErrorKind::TypeGuess(column) => {
            let column = column.as_deref().unwrap_or("id");
            format!(
                "no member was added or removed. Cast the column to text in the query, so that every row has the same type: `select cast({column} as text) as {column} ...`; for a file that DuckDB reads, add `all_varchar = true` to `read_csv`, or name the types in `columns`"
            )
        }
        SqlErrorKind::Writes => "the query of a source must not write".to_owned(),
        SqlErrorKind::TempTable(_) => {
            "no member was added or removed. The driver must support bulk inserts into temporary tables, like those \
             of DuckDB and SQLite"
                .to_owned()
        }
        SqlErrorKind::Timeout => format!(
            "no member was added or removed. Make the query cheaper, or raise `statement_timeout:` of connection `{database}`"
        ),
        SqlErrorKind::Driver => format!(
            "install the driver, or name its file under `driver:` of connection `{database}`; `syncline doctor` shows the searched folders"
        ),
        SqlErrorKind::MissingColumn { column, found } => missing_column(column, found),
        SqlErrorKind::DuplicateColumn(_) => "rename one of the two with `as`".to_owned(),
        SqlErrorKind::Stopped | SqlErrorKind::Local => return None,
    })
}

fn missing_column(column: &str, found: &[String]) -> String {
    // One field that holds what separates fields elsewhere is a whole header row.
    let holds = |delimiter| matches!(found, [one] if one.contains(delimiter));
    if holds('\t') {
        return "no member was added or removed. Its header contains tabs: set `format: tsv` under `source:`"
            .to_owned();
    }
    for delimiter in [';', '|', ','] {
        if holds(delimiter) {
            return format!(
                "no member was added or removed. Its header is one field with `{delimiter}` in it: \
                 set `delimiter: '{delimiter}'` under `source:`"
            );
        }
    }
    match (did_you_mean(column, found.iter().map(String::as_str)), found) {
        (Some(near), _) => format!("no member was added or removed. Did you mean `{near}`?"),
        (None, []) => "no member was added or removed".to_owned(),
        (None, found) => format!("no member was added or removed. It has `{}`", found.join("`, `")),
    }
}

/// Remedies for unreadable dumps.
pub(super) fn dump_hint(error: &DumpError) -> Option<String> {
    let hint = match error {
        DumpError::List { .. } if error.remote_kind().is_some_and(|kind| kind != ErrorKind::NotFound) => {
            "is the bucket the right one, and are there credentials that may list it? They come from AWS_…, GOOGLE_… \
             or AZURE_… variables, or from the machine's identity"
        }
        DumpError::List { .. } | DumpError::NoDump { .. } => {
            "use the address that contains `manifests/` and `sync_<dump_id>/`"
        }
        DumpError::NoBucket { .. } => "name it as s3://, gs:// or az://, or name a folder",
        DumpError::TwoManifests { .. }
        | DumpError::Manifest { .. }
        | DumpError::Gone { .. }
        | DumpError::Row { .. } => {
            "an incomplete dump and the later dumps that build on it are not used. Copy it again, or \
             ask Heap for a full sync"
        }
        DumpError::NoBeginning { .. } => {
            "ask Heap for a full sync of the table; single files can be learned from with `--layout heap-users`"
        }
        DumpError::NoTable { found, .. } => {
            return Some(format!("the newest dump has: {}", found.join(", ")));
        }
        DumpError::NoColumn { .. } => "choose the property in Heap Connect, or name another column",
        DumpError::File(error) => return file_hint(error),
    };
    Some(hint.to_owned())
}
