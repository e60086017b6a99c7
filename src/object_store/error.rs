//! Error texts of stores and web servers: short, without secrets and without the query of any address.

use std::io;

use object_store::Error;

use crate::foreign::{escaped, without_secrets};

/// Longest store message that is quoted.
const MESSAGE_LEN_MAX: usize = 300;

/// The error as an I/O error with the store's message.
#[must_use]
pub fn io_error(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotImplemented { .. } | Error::NotSupported { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error_text(error))
}

/// The message with all causes: short, without secrets and without the query of any address.
pub(super) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    // Secrets are removed before queries of addresses: a partial secret would not be recognized.
    let text = without_secrets(&text).into_owned();
    let words = text.split_whitespace().map(|word| word.split('?').next().unwrap_or(word));
    escaped(&words.collect::<Vec<_>>().join(" ")).chars().take(MESSAGE_LEN_MAX).collect()
}
