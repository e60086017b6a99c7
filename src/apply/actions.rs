//! Triggers what a plan has chosen, for at most fifty people at once. Decides nothing about for whom.
//!
//! # Guarantees
//! Whoever is in a request is on disk as under way before it goes, and never in another request afterwards, unless
//! Braze has said that it did nothing.

use crate::config::Action;
use crate::connector::braze::{Admission, Answer, RECIPIENTS_MAX, Recipient};
use crate::model::{CohortId, Timestamp};
use crate::state::{Crossing, Due, Event, Outbox, Recent, Stamp, StateError};

use super::{Context, Halt, blocking};

/// What became of one action.
#[derive(Clone, Debug, Default)]
pub struct Triggered {
    /// For how many people it was triggered.
    pub sent: u64,
    /// For whom nobody knows: there was no answer. It is not sent again.
    pub lost: Vec<Due>,
    /// What Braze says although it took the request.
    pub notice: Option<String>,
    /// Why it stopped early. Those who are left are still due.
    pub trouble: Option<String>,
}

/// Triggers one action.
///
/// # Errors
/// When the state does not take what must be written down first.
pub async fn trigger(
    cohort: &CohortId,
    (crossing, action): (Crossing, &Action),
    people: &[Due],
    outbox: &mut Outbox,
    context: Context<'_>,
) -> Result<Triggered, StateError> {
    let mut done = Triggered::default();
    for some in people.chunks(RECIPIENTS_MAX) {
        if let Err(halt) = admitted(context).await {
            done.trouble = Some(halt.to_string());
            break;
        }
        outbox.due.retain(|due| !some.iter().any(|one| one.crossing == due.crossing && one.who == due.who));
        outbox.under_way = some.to_vec();
        if let Err(error) = blocking(|| context.state.put_outbox(cohort, outbox)) {
            context.braze.trigger_gate().forget();
            return Err(error);
        }
        let recipients: Vec<Recipient<'_>> =
            some.iter().map(|due| (due.who.identifier(), &due.properties)).collect();
        let (reply, notice) = context.braze.trigger(action.of, &action.id, &recipients).await;
        let (now, word) = (context.clock.now(), reply.answer.word());
        let event = Event::triggered(cohort, crossing == Crossing::Enter, some.len() as u64, word);
        context.journal.append(now, event)?;
        outbox.under_way.clear();
        done.notice = done.notice.or(notice);
        if !settle(reply.answer, some, now, outbox, &mut done) {
            break;
        }
    }
    blocking(|| context.state.put_outbox(cohort, outbox))?;
    Ok(done)
}

/// Whether to go on.
fn settle(answer: Answer, some: &[Due], now: Timestamp, outbox: &mut Outbox, done: &mut Triggered) -> bool {
    let recent = |due: &Due| Recent { crossing: due.crossing, who: due.who.clone(), at: Stamp(now) };
    let trouble = match answer {
        Answer::Accepted => {
            done.sent += some.len() as u64;
            outbox.recent.extend(some.iter().map(recent));
            return true;
        }
        Answer::AcceptedWithErrors { other, .. } => {
            done.lost.extend_from_slice(some);
            other.unwrap_or_else(|| "Braze took a request and complained".to_owned())
        }
        Answer::NoAnswer(why) => {
            done.lost.extend_from_slice(some);
            format!("no answer ({why})")
        }
        Answer::Unavailable(status) => {
            done.lost.extend_from_slice(some);
            format!("status {status}")
        }
        // Not done: they are due as before, in front.
        other => {
            outbox.due.splice(0..0, some.iter().cloned());
            match other {
                Answer::BadRequest(why) | Answer::Unauthorized(why) | Answer::Unexpected(_, why) => why,
                Answer::NotReached(why) => format!("not reached ({why})"),
                Answer::RateLimited(_) => "the rate limit is used up".to_owned(),
                other => other.word().to_owned(),
            }
        }
    };
    // Whoever may have got it is left alone for as long as if they had.
    outbox.recent.extend(done.lost.iter().filter(|due| some.contains(due)).map(recent));
    done.trouble = Some(trouble);
    false
}

/// Waits for the rate limit, unless somebody wants to stop.
async fn admitted(context: Context<'_>) -> Result<(), Halt> {
    loop {
        context.health.check()?;
        context.interrupt.check()?;
        context.state.check_lease()?;
        match context.braze.trigger_gate().admit(context.clock.now()) {
            Admission::Go => return Ok(()),
            Admission::Wait(wait) => context.interrupt.sleep(wait).await?,
            Admission::TooLong(until) => return Err(Halt::RateLimited(Some(until))),
        }
    }
}
