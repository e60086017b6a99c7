//! Destination in memory for tests, with scripted faults.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::connector::destination::{DeliveryEndpoint, Destination, RequestFailure, RequestOutcome};
use crate::connector::rate_limit::RateLimiter;
use crate::model::{ChangeOp, CohortId, Identifier, Timestamp};

/// The time of all tests.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// The fault of one request.
#[derive(Clone, Debug)]
pub(crate) enum DestinationFault {
    /// The request is done, and its response is this one.
    After(RequestOutcome),
    /// The request is not done, and its response is this one.
    Instead(RequestOutcome),
    /// The request is done, and the operator asks to stop.
    Interrupt,
}

/// A destination that holds its members in memory. Each request takes the next fault of the script.
pub(crate) struct FakeDestination {
    /// Identifiers that are rejected with a 400.
    pub(crate) bad: BTreeSet<&'static str>,
    pub(crate) is_resend_free: bool,
    pub(crate) limiter: RateLimiter,
    pub(crate) interrupt: watch::Sender<bool>,
    script: Mutex<VecDeque<DestinationFault>>,
    content: Mutex<FakeContent>,
}

/// The content of a destination, and its log.
#[derive(Default)]
pub(crate) struct FakeContent {
    pub(crate) name: Option<String>,
    pub(crate) members: BTreeSet<String>,
    /// Each request with the number of its members.
    pub(crate) requests: Vec<(Option<ChangeOp>, usize)>,
}

impl FakeDestination {
    pub(crate) fn new(interrupt: watch::Sender<bool>) -> Self {
        Self {
            bad: BTreeSet::new(),
            is_resend_free: true,
            limiter: RateLimiter::hourly(Duration::ZERO),
            interrupt,
            script: Mutex::default(),
            content: Mutex::default(),
        }
    }

    /// The faults of the next requests.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = DestinationFault>) {
        *self.script.lock().unwrap() = faults.into_iter().collect();
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, FakeContent> {
        self.content.lock().unwrap()
    }

    fn respond(
        &self,
        op: Option<ChangeOp>,
        members: usize,
        done: impl FnOnce(&mut FakeContent),
    ) -> RequestOutcome {
        self.limiter.complete(None);
        let mut content = self.content();
        content.requests.push((op, members));
        match self.script.lock().unwrap().pop_front() {
            Some(DestinationFault::Instead(outcome)) => {
                if let RequestOutcome::Failed(RequestFailure::RateLimited(until)) = outcome {
                    self.limiter.close(until, now());
                }
                return outcome;
            }
            Some(DestinationFault::After(outcome)) => {
                done(&mut content);
                return outcome;
            }
            Some(DestinationFault::Interrupt) => drop(self.interrupt.send_replace(true)),
            None => {}
        }
        done(&mut content);
        RequestOutcome::Accepted
    }
}

impl Destination for FakeDestination {
    fn endpoint(&self) -> DeliveryEndpoint {
        DeliveryEndpoint::CohortImport
    }

    fn rate_limiter(&self) -> &RateLimiter {
        &self.limiter
    }

    fn is_resend_free(&self) -> bool {
        self.is_resend_free
    }

    fn name_cohort<'a>(
        &'a self,
        _cohort: &'a CohortId,
        name: &'a str,
        _created_at: Timestamp,
    ) -> BoxFuture<'a, RequestOutcome> {
        let outcome = self.respond(None, 0, |content| content.name = Some(name.to_owned()));
        Box::pin(std::future::ready(outcome))
    }

    fn change<'a>(
        &'a self,
        _cohort: &'a CohortId,
        op: ChangeOp,
        members: &'a [Identifier<'a>],
    ) -> BoxFuture<'a, RequestOutcome> {
        let outcome = if members.iter().any(|member| self.bad.contains(member.value)) {
            self.content().requests.push((Some(op), members.len()));
            self.limiter.complete(None);
            RequestOutcome::Failed(RequestFailure::BadRequest("invalid identifier".to_owned()))
        } else {
            self.respond(Some(op), members.len(), |content| {
                for member in members {
                    match op {
                        ChangeOp::Add => content.members.insert(member.value.to_owned()),
                        ChangeOp::Remove => content.members.remove(member.value),
                    };
                }
            })
        };
        Box::pin(std::future::ready(outcome))
    }
}
