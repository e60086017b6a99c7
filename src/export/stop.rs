//! Why a run of an export stops early.

use crate::apply;
use crate::contained::Panicked;
use crate::model::{Timestamp, timestamp_text};
use crate::state::StateError;

/// Why a run of an export stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportStop {
    /// There is no way to Heap: no environment id.
    #[error("there is no `app_id` for this connection")]
    NoKeys,
    /// Heap takes nothing from us.
    #[error("Heap refuses the environment: {0}")]
    Unauthorized(String),
    /// Heap does not answer, or answers with 5xx, and the retries are spent.
    #[error("Heap is not available: {0}")]
    Unavailable(String),
    /// Heap refuses for now, and the retries are spent.
    #[error("Heap's rate limit is used up{}", .0.map(|at| format!(" until {}", timestamp_text(at))).unwrap_or_default())]
    RateLimited(Option<Timestamp>),
    /// An answer that no request of ours should get.
    #[error("Heap answered with status {0}: {1}")]
    Unexpected(u16, String),
    /// Heap refuses every single event, and has taken none.
    #[error("Heap refuses the events: {0}")]
    Refused(String),
    /// The source cannot be read.
    #[error("{0}")]
    Source(String),
    /// A person asked to stop.
    #[error("stopped as requested")]
    Interrupted,
    /// Somebody else may be writing to the state by now.
    #[error("this process lost its hold on the state, and sends nothing more")]
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

/// Of an interrupt: a person asked to stop.
impl From<apply::ApplyStop> for ExportStop {
    fn from(_: apply::ApplyStop) -> Self {
        Self::Interrupted
    }
}
