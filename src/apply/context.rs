//! Inputs and outcome of an apply.

use std::collections::BTreeMap;
use std::time::Duration;

use super::health::ConnectionHealth;
use super::stop::{ApplyStop, Interrupt};
use crate::connector::destination::DeliveryEndpoint;
use crate::connector::rate_limit::{Admission, RateLimiter};
use crate::model::{Clock, CohortId, Progress, RunId};
use crate::plan::CohortNaming;
use crate::retry::{RetryPolicy, jitter};
use crate::state::{Journal, JournalEvent, StateWriter};
use crate::wait_log;

/// The most jitter of a wait, so that waiting cohorts do not continue at once.
pub(super) const JITTER_MAX: Duration = Duration::from_secs(1);

/// The inputs of an apply besides its plan and its destination.
#[derive(Clone, Copy)]
pub struct ApplyContext<'a> {
    /// The health of the workspace, shared by all its cohorts.
    pub health: &'a ConnectionHealth,
    /// Attempts and waits of one request.
    pub retry: RetryPolicy,
    /// The longest time until Braze has handled a request without a response.
    pub settle_again_after: Duration,
    /// The state.
    pub state: &'a StateWriter,
    /// The journal of the run.
    pub journal: &'a Journal,
    /// The run.
    pub run: &'a RunId,
    /// The clock.
    pub clock: Clock,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
    /// The request to stop.
    pub interrupt: &'a Interrupt,
}

impl ApplyContext<'_> {
    /// Admits one more request and returns its slot. If the rate limit is used up, frees the slot, waits and returns
    /// `None`. Fails when the endpoint has failed, or a stop is requested.
    pub(super) async fn admit<S>(
        &self,
        endpoint: DeliveryEndpoint,
        limiter: &RateLimiter,
        slot: S,
    ) -> Result<Option<S>, ApplyStop> {
        self.health.check(endpoint)?;
        self.interrupt.check()?;
        self.state.check_lease()?;
        match limiter.admit(self.clock.now()) {
            Admission::Go => Ok(Some(slot)),
            Admission::Wait(wait) => {
                drop(slot);
                wait_log::log_rate_limit("braze", "Braze's rate limit is used up", wait);
                self.interrupt.sleep(wait + jitter(wait.min(JITTER_MAX))).await?;
                Ok(None)
            }
            Admission::TooLong(until) => {
                Err(self.health.report(endpoint, ApplyStop::RateLimited(Some(until))))
            }
        }
    }
}

/// The outcome of an apply.
#[derive(Debug, Default)]
pub struct ApplyOutcome {
    /// The name that Braze accepted.
    pub named: Option<CohortNaming>,
    /// Added members.
    pub added: u64,
    /// Removed members.
    pub removed: u64,
    /// Rejected identifiers.
    pub rejected: u64,
    /// Rejected identifiers that were to be removed and may still be members.
    pub rejected_removals: u64,
    /// The message of the first rejection, also of an identifier that stays in doubt.
    pub first_rejection: Option<String>,
    /// Members of this apply that are in doubt.
    pub in_doubt: u64,
    /// The number of requests by outcome code.
    pub requests_by_outcome: BTreeMap<&'static str, u64>,
    /// The reason for an early stop.
    pub stop_reason: Option<ApplyStop>,
}

impl ApplyOutcome {
    /// Requests sent, with and without a response.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests_by_outcome.values().sum()
    }

    /// Records an error as the reason for the stop, unless there is an earlier one.
    pub fn stop(&mut self, result: Result<(), ApplyStop>) {
        if let Err(stop) = result {
            self.stop_reason.get_or_insert(stop);
        }
    }

    /// The journal's last event of the cohort.
    #[must_use]
    pub fn finished(&self, cohort: &CohortId) -> JournalEvent {
        JournalEvent::Finished {
            cohort: cohort.to_string(),
            added: self.added,
            removed: self.removed,
            rejected: self.rejected,
            in_doubt: self.in_doubt,
            error: self.stop_reason.as_ref().map(ToString::to_string),
            stopped: self.stop_reason.as_ref().is_some_and(ApplyStop::is_requested),
        }
    }

    /// Whether Braze accepted a name or a change.
    #[must_use]
    pub fn changed_anything(&self) -> bool {
        self.named.is_some() || self.added > 0 || self.removed > 0
    }

    /// Whether the apply ended without a stop, members in doubt, or rejected removals.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.stop_reason.is_none() && self.in_doubt == 0 && self.rejected_removals == 0
    }
}
