//! Reasons for an early stop, and the operator's request to stop.

use std::time::Duration;

use tokio::sync::watch;

use crate::contained::Panicked;
use crate::model::{Timestamp, timestamp_text};
use crate::state::StateError;

/// A reason to stop that lies in this process or its state, not at a vendor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopCause {
    /// You asked to stop.
    #[error("stopped as requested")]
    Interrupted,
    /// Another process may be writing to the state.
    #[error("this process lost the lease on the state, and sends nothing more")]
    LeaseLost,
    /// The state failed.
    #[error("{0}")]
    State(String),
    /// A bug.
    #[error("{0}")]
    Internal(#[from] Panicked),
}

impl StopCause {
    /// Whether an operator must act, because a retry alone does not help. An error of the state may be one of its store.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        matches!(self, Self::Internal(_))
    }
}

impl From<StateError> for StopCause {
    fn from(error: StateError) -> Self {
        match error {
            StateError::LeaseLost => Self::LeaseLost,
            other => Self::State(other.to_string()),
        }
    }
}

/// The reason for an early stop of an apply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyStop {
    /// The keys are invalid.
    #[error("Braze rejects the keys: {0}")]
    Unauthorized(String),
    /// The connection has no keys.
    #[error("there are no keys for this connection")]
    NoKeys,
    /// The keys belong to another workspace than the recorded one.
    #[error("the {key} of `{connection}` is not the one that this state's members were sent with")]
    OtherWorkspace {
        /// The connection.
        connection: String,
        /// The kind of key.
        key: &'static str,
    },
    /// Braze does not respond, or responds with 5xx, and all attempts failed.
    #[error("Braze is not available: {0}")]
    Unavailable(String),
    /// The rate limit resets after the longest wait.
    #[error("the rate limit is used up{}", .0.map(|at| format!(" until {}", timestamp_text(at))).unwrap_or_default())]
    RateLimited(Option<Timestamp>),
    /// Another write to the cohort did not end.
    #[error("Braze keeps the cohort locked (423)")]
    Locked,
    /// An unexpected status.
    #[error("Braze responded with status {0}: {1}")]
    Unexpected(u16, String),
    /// A 2xx that is not Braze's: a proxy, a portal or another server.
    #[error(
        "status {0} with {1}: this is not Braze's answer, so what was sent is in doubt; check `endpoint:` and proxies"
    )]
    Foreign(u16, &'static str),
    /// Braze rejects the request for its content, and not because of single identifiers.
    #[error("Braze rejects the request: {0}")]
    Rejected(String),
    /// Some removed members may still be in the cohort, and added members may be the same users.
    #[error("removals are in doubt; the additions wait, because a user may be in both with two identifiers")]
    Unsettled,
    /// The guard blocks one side of a plan that is applied as a whole.
    #[error("not sent: the guard blocks a part of the saved plan, which is applied as a whole or not at all")]
    Blocked,
    /// The plan's base is no longer the current version.
    #[error("the recorded membership has changed since the plan was made")]
    Stale,
    /// A reason in this process or its state.
    #[error(transparent)]
    Local(#[from] StopCause),
}

impl ApplyStop {
    /// Whether the operator asked for the stop, so that it is no failure.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self == Self::Local(StopCause::Interrupted)
    }

    /// Whether an operator must act, because a retry alone does not help.
    #[must_use]
    pub fn needs_operator(&self) -> bool {
        match self {
            Self::Unauthorized(_)
            | Self::NoKeys
            | Self::OtherWorkspace { .. }
            | Self::Unexpected(..)
            | Self::Foreign(..)
            | Self::Rejected(_)
            | Self::Blocked => true,
            Self::Unavailable(_) | Self::RateLimited(_) | Self::Locked | Self::Unsettled | Self::Stale => {
                false
            }
            Self::Local(cause) => cause.needs_operator(),
        }
    }
}

impl From<StateError> for ApplyStop {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Conflict { .. } => Self::Stale,
            other => Self::Local(other.into()),
        }
    }
}

/// The operator's request to stop. Requests in flight end and are recorded first.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// An interrupt, and the switch that triggers it.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Fails if a stop is requested.
    ///
    /// # Errors
    /// [`StopCause::Interrupted`].
    pub fn check(&self) -> Result<(), StopCause> {
        if *self.0.borrow() { Err(StopCause::Interrupted) } else { Ok(()) }
    }

    /// Waits until a stop is requested.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            // The switch is gone, so no stop can be requested.
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps, unless a stop is requested first.
    ///
    /// # Errors
    /// [`StopCause::Interrupted`].
    pub async fn sleep(&self, time: Duration) -> Result<(), StopCause> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.requested() => Err(StopCause::Interrupted),
        }
    }
}
