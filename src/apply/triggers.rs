//! Sends the triggers of a plan, for up to fifty users in a request. `reconcile` chooses the recipients.
//!
//! # Guarantees
//! Before a request, its recipients are on disk as in flight. A recipient is in no later request unless the response says
//! that nothing was done. A request without a response is never repeated: Braze has no idempotency key for triggers and
//! may handle the request late, so a second one could send the message twice.
//!
//! A rejected request is bisected until the rejected recipient is alone. A recipient that is rejected alone is at fault
//! only if Braze accepts others; until then it stays due.

use std::collections::VecDeque;
use std::ops::Range;

use tracing::Instrument as _;

use super::context::ApplyContext;
use super::stop::ApplyStop;
use crate::blocking;
use crate::config::Trigger;
use crate::connector::destination::{
    DeliveryEndpoint, RECIPIENTS_MAX, Recipient, RequestFailure, RequestOutcome, TriggerEndpoint,
};
use crate::model::{CohortId, Timestamp};
use crate::state::{
    CheckTime, DueTrigger, JournalEvent, LEASE_ENDED, Outbox, RecentTriggers, StateError, Transition,
};

/// Bytes of properties in one request. Braze documents no limit for it, and 50 KB for one recipient.
const PROPERTIES_LEN_MAX: usize = 512 << 10;
/// Single recipients rejected in a row without an accepted one, after which the request itself must be at fault.
const SUSPECTS_MAX: usize = 10;

/// A trigger to send, with its recipients.
#[derive(Clone, Copy)]
pub struct TriggerRequest<'a> {
    /// The cohort that the users entered or left.
    pub cohort: &'a CohortId,
    /// Enter or exit.
    pub transition: Transition,
    /// The campaign or Canvas.
    pub trigger: &'a Trigger,
    /// The recipients.
    pub users: &'a [DueTrigger],
}

/// The outcome of one trigger.
#[derive(Clone, Debug, Default)]
pub struct TriggerOutcome {
    /// Recipients of accepted requests.
    pub sent: u64,
    /// Recipients of requests without a response. They are not sent again.
    pub unanswered: Vec<DueTrigger>,
    /// Recipients rejected alone, each with the reason. They are no longer due.
    pub rejected: Vec<(DueTrigger, String)>,
    /// Braze's notice in an accepted response.
    pub notice: Option<String>,
    /// The reason for an early stop. The remaining recipients are still due.
    pub stop_reason: Option<String>,
}

/// Sends one trigger. `done` is complete also after an error.
///
/// # Errors
/// When the state cannot be written.
pub async fn trigger(
    request: TriggerRequest<'_>,
    endpoint: &dyn TriggerEndpoint,
    outbox: &mut Outbox,
    context: ApplyContext<'_>,
    done: &mut TriggerOutcome,
) -> Result<(), StateError> {
    let TriggerRequest { cohort, transition, trigger, users } = request;
    let mut sending = TriggerSender { users, outbox, done, suspects: Vec::new(), any_accepted: false };
    let mut queue = batches(users);
    while let Some(batch) = queue.pop_front() {
        if let Err(stop) = admission(endpoint, context).await {
            sending.done.stop_reason = Some(stop.to_string());
            break;
        }
        sending.mark_in_flight(&batch);
        if let Err(error) = blocking::in_place(|| context.state.put_outbox(cohort, sending.outbox)) {
            endpoint.trigger_limiter().release();
            return Err(error);
        }
        let recipients: Vec<Recipient<'_>> =
            users[batch.clone()].iter().map(|due| (due.user.identifier(), &due.properties)).collect();
        let response = endpoint.trigger(trigger.of, &trigger.id, &recipients);
        let span = tracing::debug_span!("batch", members = recipients.len());
        let (outcome, notice) =
            context.state.within_lease(response.instrument(span)).await.unwrap_or_else(|| {
                endpoint.trigger_limiter().release();
                (RequestOutcome::Failed(RequestFailure::NoAnswer(LEASE_ENDED.to_owned())), None)
            });
        let (now, code) = (context.clock.now(), outcome.code());
        sending.done.notice = sending.done.notice.take().or(notice);
        let next = sending.settle(outcome, batch.clone(), now);
        let is_entry = transition == Transition::Enter;
        let event = JournalEvent::triggered(cohort, is_entry, batch.len() as u64, code);
        let journaled = context.journal.append(now, event);
        if journaled.is_err() {
            blocking::in_place(|| context.state.put_outbox(cohort, sending.outbox))?;
            return journaled;
        }
        match next {
            ReplyReaction::Continue => {}
            ReplyReaction::Bisect => {
                let middle = batch.start + batch.len() / 2;
                queue.push_front(middle..batch.end);
                queue.push_front(batch.start..middle);
            }
            ReplyReaction::Stop => break,
        }
    }
    if let Some((_, why)) = sending.suspects.first() {
        sending.done.stop_reason.get_or_insert_with(|| why.clone());
    }
    blocking::in_place(|| context.state.put_outbox(cohort, outbox))
}

/// The recipients of each request, by index, within the limits of recipients and bytes of properties.
fn batches(users: &[DueTrigger]) -> VecDeque<Range<usize>> {
    let len =
        |due: &DueTrigger| due.properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let (mut batches, mut start, mut sum) = (VecDeque::new(), 0, 0);
    for (index, due) in users.iter().enumerate() {
        let len = len(due);
        if index > start && (index - start == RECIPIENTS_MAX || sum + len > PROPERTIES_LEN_MAX) {
            batches.push_back(start..index);
            (start, sum) = (index, 0);
        }
        sum += len;
    }
    if start < users.len() {
        batches.push_back(start..users.len());
    }
    batches
}

/// The reaction to a response.
enum ReplyReaction {
    Continue,
    Bisect,
    Stop,
}

/// One trigger while its requests are sent.
struct TriggerSender<'a> {
    users: &'a [DueTrigger],
    outbox: &'a mut Outbox,
    done: &'a mut TriggerOutcome,
    /// Recipients rejected alone, by index, before any other was accepted.
    suspects: Vec<(usize, String)>,
    any_accepted: bool,
}

impl TriggerSender<'_> {
    /// Moves recipients from due to in flight.
    fn mark_in_flight(&mut self, batch: &Range<usize>) {
        let sent = &self.users[batch.clone()];
        self.outbox.due.retain(|due| !sent.iter().any(|user| is_same(user, due)));
        self.outbox.in_flight = sent.to_vec();
    }

    fn settle(&mut self, outcome: RequestOutcome, batch: Range<usize>, now: Timestamp) -> ReplyReaction {
        let sent = &self.users[batch.clone()];
        self.outbox.in_flight.clear();
        let recent = |due: &DueTrigger| RecentTriggers {
            transition: due.transition,
            user: due.user.clone(),
            at: CheckTime(now),
        };
        let lost = match &outcome {
            RequestOutcome::Accepted => {
                self.done.sent += sent.len() as u64;
                self.outbox.recent.extend(sent.iter().map(recent));
                self.any_accepted = true;
                self.reject_suspects();
                return ReplyReaction::Continue;
            }
            RequestOutcome::AcceptedWithErrors { other, .. } => {
                Some(other.clone().unwrap_or_else(|| "Braze accepted the request with errors".to_owned()))
            }
            RequestOutcome::Failed(failure) if failure.may_be_done() => Some(failure.to_string()),
            RequestOutcome::Foreign(status, body) => {
                Some(format!("status {status} with {body}; not Braze's answer"))
            }
            _ => None,
        };
        if let Some(why) = lost {
            // The cool-down applies as if they had received the message.
            self.done.unanswered.extend_from_slice(sent);
            self.outbox.recent.extend(sent.iter().map(recent));
            self.done.stop_reason = Some(why);
            return ReplyReaction::Stop;
        }
        // Not done: they are due again, at the front.
        self.outbox.due.splice(0..0, sent.iter().cloned());
        let message = match outcome {
            RequestOutcome::Failed(RequestFailure::BadRequest(_) | RequestFailure::TooLarge)
                if sent.len() > 1 =>
            {
                return ReplyReaction::Bisect;
            }
            RequestOutcome::Failed(failure @ (RequestFailure::BadRequest(_) | RequestFailure::TooLarge)) => {
                return self.suspect(batch.start, failure.to_string());
            }
            RequestOutcome::Failed(failure) => failure.to_string(),
            other => other.code().to_owned(),
        };
        self.done.stop_reason = Some(message);
        ReplyReaction::Stop
    }

    /// Handles the rejection of a single recipient.
    fn suspect(&mut self, index: usize, why: String) -> ReplyReaction {
        self.suspects.push((index, why));
        if self.any_accepted {
            self.reject_suspects();
        }
        if self.suspects.len() < SUSPECTS_MAX { ReplyReaction::Continue } else { ReplyReaction::Stop }
    }

    /// Rejects the suspects: Braze accepts others, so the suspects are at fault.
    fn reject_suspects(&mut self) {
        for (index, why) in self.suspects.drain(..) {
            let Some(user) = self.users.get(index) else { continue };
            self.outbox.due.retain(|due| !is_same(user, due));
            self.done.rejected.push((user.clone(), why));
        }
    }
}

fn is_same(one: &DueTrigger, other: &DueTrigger) -> bool {
    one.transition == other.transition && one.user == other.user
}

/// Waits for the rate limit. Fails when the endpoint has failed, or a stop is requested.
async fn admission(endpoint: &dyn TriggerEndpoint, context: ApplyContext<'_>) -> Result<(), ApplyStop> {
    let limiter = endpoint.trigger_limiter();
    while context.admit(DeliveryEndpoint::Triggers, limiter, ()).await?.is_none() {}
    Ok(())
}
