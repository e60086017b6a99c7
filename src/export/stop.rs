//! Reasons for an early stop of an export run.

use crate::apply::StopCause;
use crate::connector::currents::StorageError;
use crate::model::{Timestamp, timestamp_text};
use crate::state::StateError;

/// The reason for an early stop of an export run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportStop {
    /// The connection has no environment id.
    #[error("there is no `app_id` for this connection")]
    NoKeys,
    /// Heap rejects the environment.
    #[error("Heap rejects the environment: {0}")]
    Unauthorized(String),
    /// Heap does not respond, or responds with 5xx, and all attempts failed.
    #[error("Heap is not available: {0}")]
    Unavailable(String),
    /// Heap responds with 429, and all attempts failed.
    #[error("Heap's rate limit is used up{}", .0.map(|at| format!(" until {}", timestamp_text(at))).unwrap_or_default())]
    RateLimited(Option<Timestamp>),
    /// An unexpected status.
    #[error("Heap responded with status {0}: {1}")]
    Unexpected(u16, String),
    /// Heap rejects single events, and has accepted none.
    #[error("Heap rejects the events: {0}")]
    Rejected(String),
    /// The source cannot be read.
    #[error("{0}")]
    Source(String),
    /// The store with the source does not respond, or responds with a temporary error.
    #[error("{0}")]
    SourceUnavailable(String),
    /// A reason in this process or its state.
    #[error(transparent)]
    Local(#[from] StopCause),
}

impl ExportStop {
    /// Whether the operator asked for the stop, so that it is no failure.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self == Self::Local(StopCause::Interrupted)
    }

    /// Whether an operator must act, because a retry alone does not help.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::NoKeys
            | Self::Unauthorized(_)
            | Self::Unexpected(..)
            | Self::Rejected(_)
            | Self::Source(_) => true,
            Self::Unavailable(_) | Self::RateLimited(_) | Self::SourceUnavailable(_) => false,
            Self::Local(cause) => cause.needs_operator(),
        }
    }
}

impl From<StorageError> for ExportStop {
    fn from(error: StorageError) -> Self {
        let text = error.to_string();
        match error.is_remote() && error.kind() == std::io::ErrorKind::Other {
            true => Self::SourceUnavailable(text),
            false => Self::Source(text),
        }
    }
}

impl From<StateError> for ExportStop {
    fn from(error: StateError) -> Self {
        Self::Local(error.into())
    }
}
