//! Sends the triggers that a plan has chosen, for at most fifty people in a request. It does not choose recipients.
//!
//! # Guarantees
//! A recipient is on disk as under way before the request that names them, and is in no later request unless Braze has
//! said that it did nothing. A request without an answer is never repeated: Braze has no idempotency key for triggers,
//! and may handle the request late, so that a second one could send the message twice.
//!
//! A request that Braze rejects is halved until the rejected recipient is alone. A single rejected recipient is at fault
//! only if Braze takes others: until then it stays due.

use std::collections::VecDeque;
use std::ops::Range;

use crate::config::Trigger;
use crate::connector::braze::{Admission, BrazeReply, RECIPIENTS_MAX, Recipient};
use crate::model::{CohortId, Timestamp};
use crate::state::{
    CheckTime, DueTrigger, JournalEvent, LEASE_ENDED, Outbox, RecentTriggers, StateError, Transition,
};

use super::stop::Api;
use super::{ApplyContext, ApplyStop, blocking};

/// Bytes of properties in one request. Braze names no limit for it, and 50 KB for one recipient.
const PROPERTIES_LEN_MAX: usize = 512 << 10;
/// Single recipients rejected in a row, while none was taken, after which the request itself must be at fault.
const SUSPECTS_MAX: usize = 10;

/// What became of one action.
#[derive(Clone, Debug, Default)]
pub struct TriggerOutcome {
    /// For how many people it was triggered.
    pub sent: u64,
    /// Recipients of requests without an answer. They are not sent again.
    pub lost: Vec<DueTrigger>,
    /// Recipients that Braze rejects by themselves, each with its reason. They are due no more.
    pub rejected: Vec<(DueTrigger, String)>,
    /// What Braze says although it took the request.
    pub notice: Option<String>,
    /// Why it stopped early. The remaining recipients are still due.
    pub trouble: Option<String>,
}

/// Triggers one action. What was done is in `done`, also after an error.
///
/// # Errors
/// When the state does not take what must be recorded.
pub async fn trigger(
    cohort: &CohortId,
    (crossing, action): (Transition, &Trigger),
    people: &[DueTrigger],
    outbox: &mut Outbox,
    context: ApplyContext<'_>,
    done: &mut TriggerOutcome,
) -> Result<(), StateError> {
    let mut sending = Sending { people, outbox, done, suspects: Vec::new(), taken: false };
    let mut parts = portions(people);
    while let Some(part) = parts.pop_front() {
        if let Err(halt) = admitted(context).await {
            sending.done.trouble = Some(halt.to_string());
            break;
        }
        sending.begin(&part);
        if let Err(error) = blocking(|| context.state.put_outbox(cohort, sending.outbox)) {
            context.braze.trigger_gate().forget();
            return Err(error);
        }
        let recipients: Vec<Recipient<'_>> =
            people[part.clone()].iter().map(|due| (due.who.identifier(), &due.properties)).collect();
        let asked = context.braze.trigger(action.of, &action.id, &recipients);
        let (answer, notice) = match context.state.within_lease(asked).await {
            Some((reply, notice)) => (reply.answer, notice),
            None => {
                context.braze.trigger_gate().forget();
                (BrazeReply::NoAnswer(LEASE_ENDED.to_owned()), None)
            }
        };
        let (now, word) = (context.clock.now(), answer.word());
        sending.done.notice = sending.done.notice.take().or(notice);
        let next = sending.settle(answer, part.clone(), now);
        let event = JournalEvent::triggered(cohort, crossing == Transition::Enter, part.len() as u64, word);
        let journaled = context.journal.append(now, event);
        if journaled.is_err() {
            blocking(|| context.state.put_outbox(cohort, sending.outbox))?;
            return journaled;
        }
        match next {
            Next::GoOn => {}
            Next::Halve => {
                let middle = part.start + part.len() / 2;
                parts.push_front(middle..part.end);
                parts.push_front(part.start..middle);
            }
            Next::Stop => break,
        }
    }
    if let Some((_, why)) = sending.suspects.first() {
        sending.done.trouble.get_or_insert_with(|| why.clone());
    }
    blocking(|| context.state.put_outbox(cohort, outbox))
}

/// The recipients of each request: at most as many as Braze takes, and at most so many bytes of properties.
fn portions(people: &[DueTrigger]) -> VecDeque<Range<usize>> {
    let len =
        |due: &DueTrigger| due.properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let (mut parts, mut start, mut sum) = (VecDeque::new(), 0, 0);
    for (at, due) in people.iter().enumerate() {
        let len = len(due);
        if at > start && (at - start == RECIPIENTS_MAX || sum + len > PROPERTIES_LEN_MAX) {
            parts.push_back(start..at);
            (start, sum) = (at, 0);
        }
        sum += len;
    }
    if start < people.len() {
        parts.push_back(start..people.len());
    }
    parts
}

/// What follows an answer.
enum Next {
    GoOn,
    Halve,
    Stop,
}

/// One action while its requests are sent.
struct Sending<'a> {
    people: &'a [DueTrigger],
    outbox: &'a mut Outbox,
    done: &'a mut TriggerOutcome,
    /// Recipients rejected by themselves, while Braze has taken no other.
    suspects: Vec<(usize, String)>,
    /// Whether Braze has taken anyone.
    taken: bool,
}

impl Sending<'_> {
    /// Moves recipients from due to under way.
    fn begin(&mut self, part: &Range<usize>) {
        let some = &self.people[part.clone()];
        let is_one =
            |due: &DueTrigger| some.iter().any(|one| one.crossing == due.crossing && one.who == due.who);
        self.outbox.due.retain(|due| !is_one(due));
        self.outbox.under_way = some.to_vec();
    }

    fn settle(&mut self, answer: BrazeReply, part: Range<usize>, now: Timestamp) -> Next {
        let some = &self.people[part.clone()];
        self.outbox.under_way.clear();
        let recent = |due: &DueTrigger| RecentTriggers {
            crossing: due.crossing,
            who: due.who.clone(),
            at: CheckTime(now),
        };
        let lost = match &answer {
            BrazeReply::Accepted => {
                self.done.sent += some.len() as u64;
                self.outbox.recent.extend(some.iter().map(recent));
                self.taken = true;
                self.convict();
                return Next::GoOn;
            }
            BrazeReply::AcceptedWithErrors { other, .. } => {
                Some(other.clone().unwrap_or_else(|| "Braze took a request and complained".to_owned()))
            }
            BrazeReply::NoAnswer(why) => Some(format!("no answer ({why})")),
            BrazeReply::Unavailable(status) => Some(format!("status {status}")),
            BrazeReply::Foreign(status, what) => {
                Some(format!("status {status} with {what}; not Braze's answer"))
            }
            _ => None,
        };
        if let Some(why) = lost {
            // The cool-down applies as if they had received it.
            self.done.lost.extend_from_slice(some);
            self.outbox.recent.extend(some.iter().map(recent));
            self.done.trouble = Some(why);
            return Next::Stop;
        }
        // Not done: they are due as before, in front.
        self.outbox.due.splice(0..0, some.iter().cloned());
        let message = match answer {
            BrazeReply::BadRequest(_) | BrazeReply::TooLarge if some.len() > 1 => return Next::Halve,
            BrazeReply::BadRequest(why) => return self.suspect(part.start, why),
            BrazeReply::TooLarge => return self.suspect(part.start, "too large (413)".to_owned()),
            BrazeReply::Unauthorized(why) | BrazeReply::Unexpected(_, why) => why,
            BrazeReply::NotReached(why) => format!("not reached ({why})"),
            BrazeReply::RateLimited(_) => "the rate limit is used up".to_owned(),
            other => other.word().to_owned(),
        };
        self.done.trouble = Some(message);
        Next::Stop
    }

    /// Braze rejected a request with a single recipient.
    fn suspect(&mut self, at: usize, why: String) -> Next {
        self.suspects.push((at, why));
        if self.taken {
            self.convict();
        }
        if self.suspects.len() < SUSPECTS_MAX { Next::GoOn } else { Next::Stop }
    }

    /// Braze takes others, so the recipients that it rejected are at fault themselves.
    fn convict(&mut self) {
        for (at, why) in self.suspects.drain(..) {
            let Some(one) = self.people.get(at) else { continue };
            self.outbox.due.retain(|due| due.crossing != one.crossing || due.who != one.who);
            self.done.rejected.push((one.clone(), why));
        }
    }
}

/// Waits for the rate limit, unless it is time to stop.
async fn admitted(context: ApplyContext<'_>) -> Result<(), ApplyStop> {
    loop {
        context.health.check(Api::Trigger)?;
        context.interrupt.check()?;
        context.state.check_lease()?;
        match context.braze.trigger_gate().admit(context.clock.now()) {
            Admission::Go => return Ok(()),
            Admission::Wait(wait) => context.interrupt.sleep(wait).await?,
            Admission::TooLong(until) => return Err(ApplyStop::RateLimited(Some(until))),
        }
    }
}
