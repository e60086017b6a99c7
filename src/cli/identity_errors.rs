//! Errors of identity imports: message, hints and exit code.

use std::io::ErrorKind;

use super::error::{CommandError, file_hint};
use super::exit::Exit;
use crate::connector::heap_connect::DumpError;
use crate::identity::ImportError;

/// An error of an identity import.
pub(super) fn of_import(error: ImportError) -> CommandError {
    let (remote, hint) = match &error {
        ImportError::State(_) | ImportError::Busy => (None, None),
        ImportError::File(error) => (None, file_hint(error)),
        ImportError::Dump(error) => (error.remote_kind(), dump_hint(error)),
    };
    let exit = match remote {
        Some(ErrorKind::PermissionDenied) => Exit::Credentials,
        Some(ErrorKind::Other) => Exit::Unavailable,
        _ => Exit::Failed,
    };
    let failed = match error {
        ImportError::State(error) => return error.into(),
        error => CommandError::new(exit, format!("nothing was learned: {error}")),
    };
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
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
            "name the place that has `manifests/` and `sync_<dump_id>/` in it"
        }
        DumpError::NoBucket { .. } => "name it as s3://, gs:// or az://, or name a folder",
        DumpError::TwoManifests { .. }
        | DumpError::Manifest { .. }
        | DumpError::Gone { .. }
        | DumpError::Row { .. } => {
            "a dump that cannot be read in full is not used, nor is any after it that builds on it. Copy it again, or \
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
