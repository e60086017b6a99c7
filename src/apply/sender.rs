//! Sends one batch at a time until each of its members has a final outcome.
//!
//! Reactions to a response (Braze, "Partner cohort import" and "API errors"):
//! - 400 and 413: the batch is bisected until the rejected member is alone.
//! - 423, 429, 5xx and no response: retried, because adding and removing are set operations.
//! - 401 and unexpected statuses: the run of the workspace ends.
//!
//! A 400 for a single identifier proves a fault of that identifier only if Braze accepts others. Until then the
//! identifier is a suspect, and stays in doubt.

use std::collections::VecDeque;

use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use super::context::{ApplyContext, ApplyOutcome, JITTER_MAX};
use super::ledger::InDoubtLedger;
use super::stop::ApplyStop;
use crate::blocking;
use crate::connector::destination::{Destination, RequestFailure, RequestOutcome, RowError};
use crate::connector::rate_limit::Admission;
use crate::model::{ChangeOp, CohortId, Identifier, RowSet, Stage};
use crate::plan::CohortNaming;
use crate::retry::{Retry, jitter};
use crate::state::{JournalEvent, LEASE_ENDED, Reject, RejectLog, SpoolBatch};

/// Single identifiers rejected in a row without an accepted one, after which the request itself must be at fault.
const SUSPECTS_MAX: usize = 10;

pub(super) struct Sender<'a> {
    cohort: &'a CohortId,
    destination: &'a dyn Destination,
    context: ApplyContext<'a>,
    pub(super) ledger: InDoubtLedger<'a>,
    rejects: &'a mut RejectLog,
    pub(super) outcome: &'a mut ApplyOutcome,
    /// Identifiers rejected alone since the last accepted request.
    suspects: Vec<SuspectRow>,
    /// An attempt of the last request may be handled late.
    may_be_late: bool,
    /// Each request so far was certainly not done.
    pub(super) nothing_done: bool,
}

/// An identifier that was rejected alone, before any other was accepted.
struct SuspectRow {
    op: ChangeOp,
    row: u64,
    identifier: String,
    message: String,
}

#[derive(Clone, Copy)]
enum SendRequest<'a> {
    Name(&'a str),
    Change(ChangeOp, &'a [Identifier<'a>]),
}

/// The outcome of a request after all retries.
enum FinalOutcome {
    Accepted,
    AcceptedWithErrors {
        rows: Vec<RowError>,
        other: Option<String>,
        /// Whether the members without an error are accepted.
        others_accepted: bool,
    },
    /// Rejected for its content.
    Rejected {
        message: String,
        /// An earlier attempt had no response, and may have been done.
        may_be_done: bool,
    },
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        cohort: &'a CohortId,
        destination: &'a dyn Destination,
        context: ApplyContext<'a>,
        ledger: InDoubtLedger<'a>,
        rejects: &'a mut RejectLog,
        outcome: &'a mut ApplyOutcome,
    ) -> Self {
        let suspects = Vec::new();
        let (may_be_late, nothing_done) = (false, true);
        Self { cohort, destination, context, ledger, rejects, outcome, suspects, may_be_late, nothing_done }
    }

    /// Names the cohort, if the plan says so.
    pub(super) async fn name_cohort(&mut self, naming: Option<CohortNaming>) -> Result<(), ApplyStop> {
        let Some(naming) = naming else { return Ok(()) };
        let result = self.send_with_retries(SendRequest::Name(naming.name())).await;
        if !self.may_be_late {
            self.ledger.mark_name_answered();
        }
        match result? {
            FinalOutcome::Accepted => {}
            FinalOutcome::AcceptedWithErrors { other, .. } => {
                let message = other.unwrap_or_else(|| "the response has errors about the name".to_owned());
                return Err(ApplyStop::Rejected(message));
            }
            FinalOutcome::Rejected { message, .. } => return Err(ApplyStop::Rejected(message)),
        }
        blocking::in_place(|| self.ledger.commit_name(naming.name()))?;
        self.outcome.named = Some(naming);
        Ok(())
    }

    /// Sends a batch, bisected if necessary.
    pub(super) async fn send(&mut self, op: ChangeOp, batch: &SpoolBatch) -> Result<(), ApplyStop> {
        let all = SubBatch { members: (0..batch.len()).collect(), is_resend: false };
        let (mut queue, mut any_accepted) = (VecDeque::from([all]), false);
        while let Some(mut sub) = queue.pop_front() {
            let identifiers = batch.identifiers(&sub.members)?;
            let result = self.send_with_retries(SendRequest::Change(op, &identifiers)).await;
            if self.may_be_late {
                self.ledger.add_late(op, &sub.rows(batch));
            }
            match result? {
                FinalOutcome::Accepted => {
                    any_accepted = true;
                    self.accept(op, batch, &sub.members)?;
                }
                FinalOutcome::AcceptedWithErrors { rows, other, others_accepted } => {
                    let mut rest = self.reject_rows(op, batch, &sub, &rows, other.as_deref())?;
                    if others_accepted {
                        let has_error =
                            |member: &usize| rows.iter().any(|e| sub.members[e.member] == *member);
                        let accepted: Vec<usize> = rest.iter().copied().filter(|m| !has_error(m)).collect();
                        any_accepted |= !accepted.is_empty();
                        self.accept(op, batch, &accepted)?;
                        rest.retain(has_error);
                    }
                    // Otherwise the outcome of the rest is unknown. A resend that costs money waits, in doubt.
                    let may_resend = others_accepted || self.destination.is_resend_free();
                    if may_resend && !sub.is_resend && !rest.is_empty() {
                        queue.push_back(SubBatch { members: rest, is_resend: true });
                    }
                }
                FinalOutcome::Rejected { message, may_be_done } if sub.members.len() == 1 => {
                    self.suspect(op, batch, sub.members[0], message, may_be_done)?;
                }
                FinalOutcome::Rejected { .. } => {
                    let second_half = sub.members.split_off(sub.members.len() / 2);
                    queue.push_front(SubBatch { members: second_half, is_resend: sub.is_resend });
                    queue.push_front(sub);
                }
            }
        }
        if any_accepted {
            self.reject_suspects()?;
        }
        if self.ledger.count_batch() { self.checkpoint() } else { Ok(()) }
    }

    /// Commits the outcomes so far. Rejects are written first, so that no reason is lost.
    pub(super) fn checkpoint(&mut self) -> Result<(), ApplyStop> {
        blocking::in_place(|| {
            self.rejects.sync()?;
            Ok(self.ledger.checkpoint()?)
        })
    }

    pub(super) fn report_progress(&self, stage: Stage, done: u64) {
        self.context.progress.at(self.cohort, stage, done);
    }

    fn accept(&mut self, op: ChangeOp, batch: &SpoolBatch, members: &[usize]) -> Result<(), ApplyStop> {
        match op {
            ChangeOp::Add => self.outcome.added += members.len() as u64,
            ChangeOp::Remove => self.outcome.removed += members.len() as u64,
        }
        for range in members.chunk_by(|a, b| a + 1 == *b) {
            let first = batch.row(range[0]);
            self.ledger.acknowledge(op, first..first + range.len() as u64);
        }
        self.reject_suspects()
    }

    /// Rejects the members with a final error, after a 2xx with errors. Returns the other members. Unless the response
    /// confirms them, they are sent again once, and stay in doubt if the response still has errors.
    fn reject_rows(
        &mut self,
        op: ChangeOp,
        batch: &SpoolBatch,
        sub: &SubBatch,
        rows: &[RowError],
        other: Option<&str>,
    ) -> Result<Vec<usize>, ApplyStop> {
        let mut rest = sub.members.clone();
        for error in rows.iter().filter(|error| !error.is_transient) {
            let Some(member) = sub.members.get(error.member) else { continue };
            let row = SuspectRow::new(op, batch, *member, error.message.clone())?;
            self.reject(&row)?;
            rest.retain(|kept| kept != member);
        }
        let message = other.or_else(|| rows.first().map(|error| error.message.as_str())).unwrap_or_default();
        let rejected = sub.members.len() - rest.len();
        tracing::warn!(cohort = %self.cohort, rejected, "braze: accepted with errors: {message}");
        Ok(rest)
    }

    /// Handles the rejection of a single identifier.
    fn suspect(
        &mut self,
        op: ChangeOp,
        batch: &SpoolBatch,
        member: usize,
        message: String,
        may_be_done: bool,
    ) -> Result<(), ApplyStop> {
        self.outcome.first_rejection.get_or_insert_with(|| message.clone());
        if may_be_done {
            return Ok(()); // it stays in doubt: an attempt without a response may have been done
        }
        self.suspects.push(SuspectRow::new(op, batch, member, message.clone())?);
        if self.suspects.len() < SUSPECTS_MAX { Ok(()) } else { Err(ApplyStop::Rejected(message)) }
    }

    /// Rejects the suspects: others are accepted, so their identifiers are at fault.
    fn reject_suspects(&mut self) -> Result<(), ApplyStop> {
        std::mem::take(&mut self.suspects).iter().try_for_each(|suspect| self.reject(suspect))
    }

    fn reject(&mut self, rejected: &SuspectRow) -> Result<(), ApplyStop> {
        let SuspectRow { op, row, identifier, message } = rejected;
        let reject = Reject {
            reason: "rejected_by_braze",
            detail: message,
            column: op.as_str(),
            value: identifier,
            ..Reject::default()
        };
        self.rejects.push(&reject.line())?;
        self.ledger.reject(*op, *row);
        self.outcome.rejected += 1;
        self.outcome.rejected_removals += u64::from(*op == ChangeOp::Remove);
        self.outcome.first_rejection.get_or_insert_with(|| message.clone());
        Ok(())
    }

    /// Sends a request until it has a final outcome, or all attempts have failed.
    async fn send_with_retries(&mut self, request: SendRequest<'_>) -> Result<FinalOutcome, ApplyStop> {
        let mut retry = Retry::new(self.context.retry);
        self.may_be_late = false;
        loop {
            let slot = self.admission().await?;
            let outcome = self.send_once(request).await?;
            drop(slot);
            let cause = outcome.retry_cause("Braze");
            let earlier_may_be_done = self.may_be_late;
            self.may_be_late |= outcome.may_be_handled_later();
            let failure = match final_outcome(outcome, earlier_may_be_done) {
                Ok(outcome) => return Ok(outcome),
                Err(AttemptFailure::Final(stop)) => return Err(self.report_failure(stop)),
                Err(AttemptFailure::Transient(stop)) => stop,
            };
            let Some(backoff) = retry.next_wait() else { return Err(self.report_failure(failure)) };
            let wait = match self.destination.rate_limiter().reopening(self.context.clock.now()) {
                Admission::Go => backoff,
                Admission::Wait(wait) => wait + jitter(wait.min(JITTER_MAX)),
                Admission::TooLong(_) => continue, // `admission` ends the attempts
            };
            retry.log_wait("braze", cause.as_deref().unwrap_or("Braze gives no final answer"), wait);
            self.context.interrupt.sleep(wait).await?;
        }
    }

    fn report_failure(&self, stop: ApplyStop) -> ApplyStop {
        self.context.health.report(self.destination.endpoint(), stop)
    }

    /// Sends one request. It is given up when the lease on the state ends, and then is in doubt.
    async fn send_once(&mut self, request: SendRequest<'_>) -> Result<RequestOutcome, ApplyStop> {
        let (response, op, members) = match request {
            SendRequest::Name(name) => {
                (self.destination.name_cohort(self.cohort, name, self.ledger.created_at()), None, 0)
            }
            SendRequest::Change(op, members) => {
                (self.destination.change(self.cohort, op, members), Some(op), members.len() as u64)
            }
        };
        let span = tracing::debug_span!("batch", op = op.map(ChangeOp::as_str), members);
        let outcome = self.context.state.within_lease(response.instrument(span)).await.unwrap_or_else(|| {
            self.destination.rate_limiter().release();
            RequestOutcome::Failed(RequestFailure::NoAnswer(LEASE_ENDED.to_owned()))
        });
        self.nothing_done &= outcome.is_not_done();
        let code = outcome.code();
        *self.outcome.requests_by_outcome.entry(code).or_default() += 1;
        let event = JournalEvent::sent(self.cohort, op, members, code);
        self.context.journal.append(self.context.clock.now(), event)?;
        Ok(outcome)
    }

    /// Waits for a request slot and for the rate limit. Fails when the endpoint has failed, or a stop is requested.
    async fn admission(&self) -> Result<Option<SemaphorePermit<'a>>, ApplyStop> {
        let (endpoint, limiter) = (self.destination.endpoint(), self.destination.rate_limiter());
        loop {
            let slot = match self.destination.slots() {
                Some(slots) => slots.acquire().await.ok(),
                None => None,
            };
            if let Some(slot) = self.context.admit(endpoint, limiter, slot).await? {
                return Ok(slot);
            }
        }
    }
}

impl SuspectRow {
    fn new(op: ChangeOp, batch: &SpoolBatch, member: usize, message: String) -> Result<Self, ApplyStop> {
        let identifiers = batch.identifiers(&[member])?;
        Ok(Self { op, row: batch.row(member), identifier: identifiers[0].in_full(), message })
    }
}

/// Some members of a batch, by index.
struct SubBatch {
    members: Vec<usize>,
    /// Sent for the second time, after a response with errors about other members.
    is_resend: bool,
}

impl SubBatch {
    fn rows(&self, batch: &SpoolBatch) -> RowSet {
        RowSet::from_ranges(self.members.iter().map(|member| batch.row(*member)..batch.row(*member) + 1))
    }
}

/// The failure of one attempt.
enum AttemptFailure {
    /// A retry may succeed.
    Transient(ApplyStop),
    /// A retry is useless.
    Final(ApplyStop),
}

fn final_outcome(outcome: RequestOutcome, may_be_done: bool) -> Result<FinalOutcome, AttemptFailure> {
    let transient = |stop| Err(AttemptFailure::Transient(stop));
    let end = |stop| Err(AttemptFailure::Final(stop));
    let failure = match outcome {
        RequestOutcome::Accepted => return Ok(FinalOutcome::Accepted),
        RequestOutcome::AcceptedWithErrors { rows, other, others_accepted } => {
            return Ok(FinalOutcome::AcceptedWithErrors { rows, other, others_accepted });
        }
        RequestOutcome::Foreign(status, body) => return end(ApplyStop::Foreign(status, body)),
        RequestOutcome::Locked => return transient(ApplyStop::Locked),
        RequestOutcome::Failed(failure) => failure,
    };
    match failure {
        RequestFailure::BadRequest(_) | RequestFailure::TooLarge => {
            Ok(FinalOutcome::Rejected { message: failure.to_string(), may_be_done })
        }
        RequestFailure::Unauthorized(message) => end(ApplyStop::Unauthorized(message)),
        RequestFailure::Unexpected(status, message) => end(ApplyStop::Unexpected(status, message)),
        RequestFailure::RateLimited(until) => transient(ApplyStop::RateLimited(until)),
        RequestFailure::Unavailable(_) | RequestFailure::NoAnswer(_) | RequestFailure::NotReached(_) => {
            transient(ApplyStop::Unavailable(failure.to_string()))
        }
    }
}
