//! Errors of identity imports: message, hints and exit code.

use std::io::ErrorKind;

use super::error::CommandError;
use super::exit::Exit;
use super::hints::{dump_hint, file_hint};
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
        error => CommandError::new(exit, format!("nothing was imported: {error}")),
    };
    match hint {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}
