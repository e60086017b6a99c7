//! The reasons for which an export run stops early.

use crate::apply;
use crate::contained::Panicked;
use crate::model::{Timestamp, timestamp_text};
use crate::state::StateError;

/// The reason for which an export run stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportStop {
    /// The connection has no environment id.
    #[error("there is no `app_id` for this connection")]
    NoKeys,
    /// Heap rejects the environment id.
    #[error("Heap rejects the environment: {0}")]
    Unauthorized(String),
    /// Heap does not answer, or answers with 5xx, and the retries are spent.
    #[error("Heap is not available: {0}")]
    Unavailable(String),
    /// Heap's rate limit is used up, and the retries are spent.
    #[error("Heap's rate limit is used up{}", .0.map(|at| format!(" until {}", timestamp_text(at))).unwrap_or_default())]
    RateLimited(Option<Timestamp>),
    /// A status that Heap does not document for the request.
    #[error("Heap answered with status {0}: {1}")]
    Unexpected(u16, String),
    /// Heap rejects every event and has accepted none.
    #[error("Heap rejects the events: {0}")]
    Refused(String),
    /// The source cannot be read.
    #[error("{0}")]
    Source(String),
    /// You asked to stop.
    #[error("stopped as requested")]
    Interrupted,
    /// Another process may write to the state by now.
    #[error("this process lost the lease of the state, and sends nothing more")]
    LeaseLost,
    /// The state failed.
    #[error("{0}")]
    State(String),
    /// A bug stopped it.
    #[error("{0}")]
    Internal(#[from] Panicked),
}

impl From<StateError> for ExportStop {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Lost => Self::LeaseLost,
            other => Self::State(other.to_string()),
        }
    }
}

/// An export's only `ApplyStop` is an interrupt.
impl From<apply::ApplyStop> for ExportStop {
    fn from(_: apply::ApplyStop) -> Self {
        Self::Interrupted
    }
}
