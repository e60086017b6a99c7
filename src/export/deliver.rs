//! Delivery of batches to Heap: several requests at once, retried until each event is accepted or rejected.
//!
//! A 400 or 413 halves the batch until the faulty event is alone. 429, 5xx and missing answers are retried, which
//! the idempotency keys make harmless. Events over the limit of one user are held in the state and delay no others;
//! events over Heap's total limit wait here.
//!
//! A 400 for a single event is that event's fault only if Heap accepts others. Until it has accepted one, the event
//! is a suspect and nothing is settled.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::ExportStop;
use super::batch::{BatchOrigin, EventBatch, user_in};
use super::ledger::{ExportLedger, checkpoint, locked};
use crate::apply::Interrupt;
use crate::connector::destination::RequestFailure;
use crate::connector::heap::{EventAdmission, HeapCall, HeapClient, UserKey};
use crate::model::{Clock, ExportId};
use crate::retry::{Retry, RetryPolicy};
use crate::state::{HoldReason, IdentityMap, Journal, JournalEvent, LEASE_ENDED, Reject, StateWriter};
use crate::wait_log;

/// The interval between two commits of settled events.
const CHECKPOINT: Duration = Duration::from_secs(5);
/// After so many rejected events and no accepted one, Heap rejects them all for another reason.
const SUSPECTS_MAX: u64 = 10;
/// The wait when pending requests decide how much the limit still allows.
const SOON: Duration = Duration::from_millis(20);
/// The largest number of users over their limit that are remembered.
const BUSY_MAX: usize = 100_000;

/// The delivery of one export's events to one Heap environment.
pub(super) struct HeapDelivery<'a> {
    pub(super) export: &'a ExportId,
    pub(super) heap: &'a HeapClient,
    pub(super) retry: RetryPolicy,
    pub(super) at_once: usize,
    pub(super) state: &'a StateWriter,
    pub(super) journal: &'a Journal,
    pub(super) ledger: &'a Mutex<ExportLedger>,
    pub(super) identity: &'a Mutex<IdentityMap>,
    pub(super) clock: Clock,
    pub(super) interrupt: &'a Interrupt,
    /// Events that Heap accepted, and events that it rejected one by one.
    pub(super) taken: AtomicU64,
    pub(super) rejections: AtomicU64,
    /// Users with an event that was held because of their limit.
    pub(super) busy: Mutex<HashSet<UserKey>>,
}

/// A batch that Heap has answered, with the elements that it rejected and its messages.
struct DeliveryResult {
    batch: EventBatch,
    rejected: Vec<(usize, String)>,
}

/// The part of the rate limit that a batch uses, by element; empty without a limit. Dropping it counts the elements
/// as accepted, because their outcome is unknown.
struct ReservedLimits<'a> {
    heap: &'a HeapClient,
    clock: Clock,
    users: Vec<Option<UserKey>>,
}

impl ReservedLimits<'_> {
    fn settle(&mut self, part: Range<usize>, taken: bool) {
        let users = self.users.get_mut(part).into_iter().flatten().filter_map(Option::take);
        self.heap.limiter.settle(users, taken, self.clock.monotonic());
    }

    /// Counts elements a second time: Heap may have accepted them, and they are sent again.
    fn count_again(&self, part: Range<usize>) {
        let users = self.users.get(part).into_iter().flatten().filter_map(|user| *user);
        self.heap.limiter.count_again(users, self.clock.monotonic());
    }
}

impl Drop for ReservedLimits<'_> {
    fn drop(&mut self) {
        self.settle(0..self.users.len(), true);
    }
}

/// A batch divided by the rate limits.
struct AdmittedBatch<'a> {
    now: Option<(EventBatch, ReservedLimits<'a>)>,
    /// Elements over Heap's total limit.
    later: Option<EventBatch>,
}

impl<'a> HeapDelivery<'a> {
    /// Sends batches until the channel is closed and everything is settled, or until an error stops it.
    pub(super) async fn deliver(&self, mut batches: mpsc::Receiver<EventBatch>) -> Result<(), ExportStop> {
        let (mut in_flight, mut later, mut is_open) = (FuturesUnordered::new(), None, true);
        let mut not_before = self.clock.monotonic();
        let mut next_checkpoint = not_before + CHECKPOINT;
        let mut suspects: Vec<DeliveryResult> = Vec::new();
        while is_open || later.is_some() || !in_flight.is_empty() {
            let has_seat = in_flight.len() < self.at_once;
            let mut next: Option<EventBatch> = None;
            tokio::select! {
                Some(sent) = in_flight.next(), if !in_flight.is_empty() => {
                    suspects.push(sent?);
                    self.settle_answered(&mut suspects)?;
                }
                batch = batches.recv(), if is_open && has_seat && later.is_none() => {
                    is_open = batch.is_some();
                    next = batch;
                }
                () = tokio::time::sleep_until(not_before.into()), if has_seat && later.is_some() => {
                    next = later.take();
                }
                () = tokio::time::sleep_until(next_checkpoint.into()) => {}
                Err(stopped) = self.interrupt.sleep(CHECKPOINT) => return self.end(in_flight, suspects, stopped.into()).await,
            }
            if let Some(batch) = next {
                let admitted = self.admit(batch)?;
                in_flight.extend(admitted.now.map(|(batch, reserved)| self.send(batch, reserved)));
                later = admitted.later;
                let wait = self.heap.limiter.wait_for_app(self.clock.monotonic());
                not_before = self.clock.monotonic() + wait.max(SOON);
                if later.is_some() {
                    wait_log::log_rate_limit("heap", "Heap's limit for all events is used up", wait);
                }
            }
            if next_checkpoint <= self.clock.monotonic() {
                checkpoint(self.ledger, self.identity)?;
                next_checkpoint = self.clock.monotonic() + CHECKPOINT;
            }
        }
        match suspects.into_iter().flat_map(|sent| sent.rejected).next() {
            Some((_, message)) => Err(ExportStop::Rejected(message)),
            None => Ok(()),
        }
    }

    /// Waits for pending requests after an interrupt.
    async fn end(
        &self,
        mut in_flight: FuturesUnordered<impl Future<Output = Result<DeliveryResult, ExportStop>>>,
        mut suspects: Vec<DeliveryResult>,
        stopped: ExportStop,
    ) -> Result<(), ExportStop> {
        while let Some(sent) = in_flight.next().await {
            suspects.extend(sent.ok());
            self.settle_answered(&mut suspects)?;
        }
        Err(stopped)
    }

    /// Divides a batch by the rate limits. Events over the limit of one user are held in the state.
    fn admit(&self, batch: EventBatch) -> Result<AdmittedBatch<'a>, ExportStop> {
        let limiter = &self.heap.limiter;
        let mut reserved = ReservedLimits { heap: self.heap, clock: self.clock, users: Vec::new() };
        if limiter.is_unlimited() || batch.call == HeapCall::SetUserProperties {
            return Ok(AdmittedBatch { now: Some((batch, reserved)), later: None });
        }
        let mut fits = Vec::with_capacity(batch.items.len());
        limiter.reserve(batch.items.iter().map(|item| item.user), self.clock.monotonic(), &mut fits);
        let sendable = batch.items.iter().zip(&fits).filter(|(_, fit)| **fit == EventAdmission::Admitted);
        reserved.users = sendable.map(|(item, _)| Some(item.user)).collect();
        if reserved.users.len() == batch.items.len() {
            return Ok(AdmittedBatch { now: Some((batch, reserved)), later: None });
        }
        let mut ledger = locked(self.ledger);
        for (at, item) in
            batch.items.iter().enumerate().filter(|(at, _)| fits[*at] == EventAdmission::UserLimit)
        {
            let mut busy = locked(&self.busy);
            if busy.len() < BUSY_MAX {
                busy.insert(item.user);
            }
            // An event that is held for this limit already stays held.
            if !matches!(item.origin, BatchOrigin::Waiting { is_unidentified: false, .. }) {
                let element = batch.element(at);
                ledger.wait_for(HoldReason::Limit { who: &user_in(element) }, false, element)?;
                ledger.done(item.origin);
            }
        }
        ledger.advance();
        let of = |wanted| batch.only(|at| fits[at] == wanted);
        Ok(AdmittedBatch {
            now: of(EventAdmission::Admitted).map(|batch| (batch, reserved)),
            later: of(EventAdmission::AppLimit),
        })
    }

    /// Sends a batch, halving it where Heap rejects it.
    async fn send(
        &self,
        batch: EventBatch,
        mut reserved: ReservedLimits<'a>,
    ) -> Result<DeliveryResult, ExportStop> {
        let (mut parts, mut rejected) = (VecDeque::new(), Vec::new());
        parts.push_back(0..batch.items.len());
        while let Some(part) = parts.pop_front() {
            match self.send_until_settled(&batch, &part, &reserved).await? {
                None => {
                    self.taken.fetch_add(part.len() as u64, Ordering::Relaxed);
                    reserved.settle(part, true);
                }
                Some(message) if part.len() == 1 => {
                    reserved.settle(part.clone(), false);
                    self.suspect(&message)?;
                    rejected.push((part.start, message));
                }
                Some(_) => {
                    let middle = part.start + part.len() / 2;
                    parts.extend([part.start..middle, middle..part.end]);
                }
            }
        }
        Ok(DeliveryResult { batch, rejected })
    }

    fn suspect(&self, message: &str) -> Result<(), ExportStop> {
        let rejections = self.rejections.fetch_add(1, Ordering::Relaxed) + 1;
        let is_hopeless = rejections >= SUSPECTS_MAX && self.taken.load(Ordering::Relaxed) == 0;
        if is_hopeless { Err(ExportStop::Rejected(message.to_owned())) } else { Ok(()) }
    }

    /// Sends a range of a batch until Heap accepts it (`None`) or rejects something in it (its message).
    async fn send_until_settled(
        &self,
        batch: &EventBatch,
        part: &Range<usize>,
        reserved: &ReservedLimits<'_>,
    ) -> Result<Option<String>, ExportStop> {
        let is_whole = *part == (0..batch.items.len());
        let body = if is_whole { batch.body() } else { batch.body_of(part.clone()) };
        let mut retry = Retry::new(self.retry);
        loop {
            self.interrupt.check()?;
            self.state.check_lease()?;
            let asked = self.heap.send(batch.call, body.clone());
            let span = tracing::debug_span!("batch", events = part.len());
            let answer = self.state.within_lease(asked.instrument(span)).await;
            let answer = answer.unwrap_or_else(|| Err(RequestFailure::NoAnswer(LEASE_ENDED.to_owned())));
            let answer = answer.map_err(|failure| masked(failure, batch, part));
            self.note(batch.call, part.len(), &answer)?;
            let Err(failure) = answer else { return Ok(None) };
            if failure.may_be_done() {
                reserved.count_again(part.clone());
            }
            let wait = retry.next_wait().map(|wait| self.wait_after(&failure, wait));
            let cause = failure.retry_cause("Heap");
            let error = match failure {
                RequestFailure::BadRequest(_) | RequestFailure::TooLarge => {
                    return Ok(Some(failure.to_string()));
                }
                RequestFailure::Unauthorized(message) => return Err(ExportStop::Unauthorized(message)),
                RequestFailure::Unexpected(status, message) => {
                    return Err(ExportStop::Unexpected(status, message));
                }
                RequestFailure::RateLimited(until) => ExportStop::RateLimited(until),
                RequestFailure::Unavailable(_)
                | RequestFailure::NoAnswer(_)
                | RequestFailure::NotReached(_) => ExportStop::Unavailable(failure.to_string()),
            };
            let Some(wait) = wait.filter(|wait| *wait <= self.retry.longest_wait) else {
                return Err(error);
            };
            retry.log_wait("heap", cause.as_deref().unwrap_or("Heap gives no final answer"), wait);
            self.interrupt.sleep(wait).await?;
        }
    }

    /// The wait before the next attempt: the one that Heap asks for, or the backoff.
    fn wait_after(&self, failure: &RequestFailure, backoff: Duration) -> Duration {
        match failure {
            RequestFailure::RateLimited(Some(until)) => {
                let wait = Duration::try_from(until.duration_since(self.clock.now())).unwrap_or_default();
                wait + backoff.min(Duration::from_secs(1))
            }
            _ => backoff,
        }
    }

    fn note(
        &self,
        call: HeapCall,
        events: usize,
        answer: &Result<(), RequestFailure>,
    ) -> Result<(), ExportStop> {
        let word = answer.as_ref().map_or_else(RequestFailure::code, |()| "accepted");
        *locked(self.ledger).tally.requests_by_outcome.entry(word).or_default() += 1;
        let posted = JournalEvent::Posted {
            export: self.export.to_string(),
            operation: call.as_str().to_owned(),
            events: events as u64,
            outcome: word.to_owned(),
        };
        Ok(self.journal.append(self.clock.now(), posted)?)
    }

    /// Settles answered batches. While Heap has accepted nothing, rejections are not final.
    fn settle_answered(&self, suspects: &mut Vec<DeliveryResult>) -> Result<(), ExportStop> {
        if self.taken.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let mut ledger = locked(self.ledger);
        for DeliveryResult { batch, rejected } in suspects.drain(..) {
            for (at, message) in &rejected {
                let element = String::from_utf8_lossy(batch.element(*at)).into_owned();
                ledger.reject(&Reject {
                    reason: "rejected_by_heap",
                    detail: message,
                    column: batch.call.as_str(),
                    sent: Some(&element),
                    ..Reject::default()
                })?;
            }
            let what = if batch.call == HeapCall::Track { "sent" } else { "user_properties" };
            ledger.sent(what, (batch.items.len() - rejected.len()) as u64);
            batch.items.iter().for_each(|item| ledger.done(item.origin));
        }
        ledger.advance();
        Ok(())
    }
}

/// The failure without the identities of these events.
fn masked(failure: RequestFailure, batch: &EventBatch, part: &Range<usize>) -> RequestFailure {
    if !failure.has_message() {
        return failure;
    }
    let users: Vec<String> = part.clone().map(|index| user_in(batch.element(index))).collect();
    failure.without_users(users.iter().map(String::as_str))
}
