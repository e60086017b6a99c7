//! Why an apply stops early, and how the cohorts of one workspace learn of each other's trouble.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::contained::Panicked;
use crate::model::{DeliveryMethod, Timestamp, timestamp_text};
use crate::state::StateError;

/// Why an apply stopped before its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyStop {
    /// The keys are not good.
    #[error("Braze refuses the keys: {0}")]
    Unauthorized(String),
    /// There are no keys to ask with.
    #[error("there are no keys for this connection")]
    NoKeys,
    /// The keys are not those of the workspace that the state is about.
    #[error("the {key} of `{connection}` is not the one that this state's records were sent with")]
    OtherWorkspace {
        /// The connection.
        connection: String,
        /// What kind of key it is.
        key: &'static str,
    },
    /// Braze does not answer, or answers with 5xx, and the retries are spent.
    #[error("Braze is not available: {0}")]
    Unavailable(String),
    /// The rate limit resets too late to wait for.
    #[error("the rate limit is used up{}", .0.map(|at| format!(" until {}", timestamp_text(at))).unwrap_or_default())]
    RateLimited(Option<Timestamp>),
    /// Another write to the cohort never ended.
    #[error("Braze keeps the cohort locked (423)")]
    Locked,
    /// An answer that no request of ours should get.
    #[error("Braze answered with status {0}: {1}")]
    Unexpected(u16, String),
    /// A 2xx that is not Braze's answer: a proxy, a portal or another server.
    #[error(
        "status {0} with {1}: this is not Braze's answer, so what was sent is in doubt; check `endpoint:` and proxies"
    )]
    Foreign(u16, &'static str),
    /// Braze refuses the request for what is in it, and it is not single identifiers.
    #[error("Braze refuses the request: {0}")]
    Refused(String),
    /// Some who were to leave may still be there, and whoever is to enter may be the same people.
    #[error(
        "removals are not settled; the additions wait for them, as a person may be in both under two identifiers"
    )]
    Unsettled,
    /// The guard blocks a part of a plan that is applied as a whole.
    #[error("not sent: the guard blocks a part of the saved plan, which is applied as a whole or not at all")]
    Blocked,
    /// A person asked to stop.
    #[error("stopped as requested")]
    Interrupted,
    /// The plan starts from a version that is no longer the newest.
    #[error("the record has changed since the plan was made")]
    Stale,
    /// Somebody else may be writing to the state by now.
    #[error("this process lost the lease on the state, and sends nothing more")]
    LeaseLost,
    /// The state failed.
    #[error("{0}")]
    State(String),
    /// A bug stopped it.
    #[error("{0}")]
    Internal(#[from] Panicked),
}

impl From<StateError> for ApplyStop {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Conflict { .. } => Self::Stale,
            StateError::Lost => Self::LeaseLost,
            other => Self::State(other.to_string()),
        }
    }
}

/// An API of a workspace: each has its own key permissions and its own rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// The partner's cohort import.
    CohortImport,
    /// Attributes of users.
    TrackUsers,
    /// Campaigns and Canvases.
    Trigger,
}

impl Api {
    /// The API that a delivery uses.
    pub(super) fn of(delivery: &DeliveryMethod) -> Self {
        match delivery {
            DeliveryMethod::CohortImport => Self::CohortImport,
            DeliveryMethod::Array(_) | DeliveryMethod::Boolean(_) => Self::TrackUsers,
        }
    }
}

/// Whether the APIs of a workspace still answer. Once one cohort has found that an API does not, the other cohorts
/// that use this API stop too; those that use another one go on.
#[derive(Debug, Default)]
pub struct ConnectionHealth([OnceLock<ApplyStop>; 3]);

impl ConnectionHealth {
    /// Fails if the API was given up on.
    ///
    /// # Errors
    /// Why it was.
    pub(super) fn check(&self, api: Api) -> Result<(), ApplyStop> {
        self.0[api as usize].get().map_or(Ok(()), |halt| Err(halt.clone()))
    }

    /// Gives up on the API, if the reason is about all of it.
    pub(super) fn report(&self, api: Api, halt: ApplyStop) -> ApplyStop {
        match halt {
            ApplyStop::Unauthorized(_)
            | ApplyStop::Unavailable(_)
            | ApplyStop::RateLimited(_)
            | ApplyStop::Foreign(..)
            | ApplyStop::Unexpected(..) => self.0[api as usize].get_or_init(|| halt).clone(),
            other => other,
        }
    }
}

/// Whether a person wants to stop. What is under way is finished and recorded first.
#[derive(Clone, Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// An interrupt and the switch that sets it off.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Fails if somebody wants to stop.
    ///
    /// # Errors
    /// [`Halt::Interrupted`].
    pub fn check(&self) -> Result<(), ApplyStop> {
        if *self.0.borrow() { Err(ApplyStop::Interrupted) } else { Ok(()) }
    }

    /// Waits until somebody wants to stop.
    pub async fn wanted(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            // Whoever could want it is gone.
            std::future::pending::<()>().await;
        }
    }

    /// Sleeps, unless somebody wants to stop before that.
    ///
    /// # Errors
    /// [`Halt::Interrupted`].
    pub async fn sleep(&self, time: std::time::Duration) -> Result<(), ApplyStop> {
        let mut receiver = self.0.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            Ok(_) = receiver.wait_for(|stop| *stop) => Err(ApplyStop::Interrupted),
        }
    }
}
