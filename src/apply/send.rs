//! One batch at a time, until Braze has had the last word on each of its members.
//!
//! What an answer means is settled here and nowhere else (Braze, "Partner cohort import" and "API
//! errors"): 400 and 413 halve the batch until the offender is alone; 423, 429, 5xx and silence are
//! tried again, since adding and removing are set operations; 401 and what nobody expected end the
//! workspace's pass.

use std::collections::VecDeque;
use std::time::Duration;

use super::ledger::Ledger;
use super::{Context, Halt, Outcome};
use crate::connector::braze::{Answer, RowError};
use crate::model::{CohortId, Identifier, Op, Timestamp};
use crate::plan::Naming;
use crate::state::{Batch, Event, Reject, RejectLog};

/// From so many refused identifiers on, more refused than accepted is no matter of single identifiers.
const REFUSED_FROM: u64 = 10;
/// Most time that is added to a wait, so that many who wait do not return at once.
const JITTER_MAX: Duration = Duration::from_secs(1);
/// From here on a wait is told without `-v` as well.
const LONG_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Sender<'a> {
    pub(super) cohort: &'a CohortId,
    pub(super) context: Context<'a>,
    pub(super) ledger: Ledger<'a>,
    pub(super) rejects: &'a mut RejectLog,
    pub(super) outcome: &'a mut Outcome,
}

/// What is asked of Braze.
#[derive(Clone, Copy)]
enum Request<'a> {
    /// To name the cohort.
    Name(&'a str),
    /// To add or remove members.
    Change(Op, &'a [Identifier<'a>]),
}

/// What Braze made of a request in the end.
enum Verdict {
    Accepted,
    /// Accepted but for these.
    Complaints(Vec<RowError>, Option<String>),
    /// Not taken because of something in it.
    TooMuch(String),
}

impl Sender<'_> {
    /// Names the cohort, if it is to be named.
    pub(super) async fn name(&mut self, naming: Option<Naming>) -> Result<(), Halt> {
        let Some(naming) = naming else { return Ok(()) };
        match self.until_settled(Request::Name(naming.name())).await? {
            Verdict::Accepted => {}
            Verdict::Complaints(_, message) => {
                return Err(Halt::Refused(
                    message.unwrap_or_else(|| "it complains about the name".to_owned()),
                ));
            }
            Verdict::TooMuch(message) => return Err(Halt::Refused(message)),
        }
        self.ledger.named(naming.name())?;
        self.outcome.named = Some(naming);
        Ok(())
    }

    /// Sends a batch, in smaller parts where it must be.
    pub(super) async fn send(&mut self, op: Op, batch: &Batch) -> Result<(), Halt> {
        let mut parts = VecDeque::from([Part { members: (0..batch.len()).collect(), again: false }]);
        while let Some(mut part) = parts.pop_front() {
            let members = batch.identifiers(&part.members)?;
            match self.until_settled(Request::Change(op, &members)).await? {
                Verdict::Accepted => self.accept(op, batch, &part.members),
                Verdict::Complaints(named, other) => {
                    parts.extend(self.settle_complaints(op, batch, &part, &named, other.as_deref())?);
                }
                Verdict::TooMuch(message) if part.members.len() == 1 => {
                    self.refuse(op, batch, part.members[0], &message)?;
                }
                Verdict::TooMuch(_) => {
                    let rest = part.members.split_off(part.members.len() / 2);
                    parts.push_front(Part { members: rest, again: part.again });
                    parts.push_front(part);
                }
            }
        }
        Ok(self.ledger.batch_done()?)
    }

    fn accept(&mut self, op: Op, batch: &Batch, members: &[usize]) {
        match op {
            Op::Add => self.outcome.added += members.len() as u64,
            Op::Remove => self.outcome.removed += members.len() as u64,
        }
        for stretch in members.chunk_by(|a, b| a + 1 == *b) {
            let first = batch.row(stretch[0]);
            self.ledger.acknowledge(op, first..first + stretch.len() as u64);
        }
    }

    /// A 2xx with complaints. Whom it names for good is refused. Of the others nobody can tell, so they
    /// are sent again by themselves, once; if Braze still complains, they stay in doubt.
    fn settle_complaints(
        &mut self,
        op: Op,
        batch: &Batch,
        part: &Part,
        named: &[RowError],
        other: Option<&str>,
    ) -> Result<Option<Part>, Halt> {
        let mut rest = part.members.clone();
        for error in named.iter().filter(|error| !error.again) {
            let Some(member) = part.members.get(error.member) else { continue };
            self.refuse(op, batch, *member, &error.message)?;
            rest.retain(|kept| kept != member);
        }
        let words = other.or_else(|| named.first().map(|error| error.message.as_str())).unwrap_or_default();
        tracing::warn!(cohort = %self.cohort, refused = part.members.len() - rest.len(), "Braze took a request and complained: {words}");
        Ok((!part.again && !rest.is_empty()).then_some(Part { members: rest, again: true }))
    }

    /// Braze will not have this one.
    fn refuse(&mut self, op: Op, batch: &Batch, member: usize, message: &str) -> Result<(), Halt> {
        let identifiers = batch.identifiers(&[member])?;
        let value = identifiers[0].in_full();
        let reject = Reject {
            reason: "refused_by_braze",
            detail: message,
            column: op.as_str(),
            value: &value,
            ..Reject::default()
        };
        self.rejects.push(&reject.line())?;
        let row = batch.row(member);
        self.ledger.refuse(op, row);
        self.outcome.refused += 1;
        self.outcome.refusal.get_or_insert_with(|| message.to_owned());
        let accepted = self.outcome.added + self.outcome.removed;
        if self.outcome.refused >= REFUSED_FROM && self.outcome.refused > accepted {
            return Err(Halt::Refused(message.to_owned()));
        }
        Ok(())
    }

    /// Asks until Braze has said yes or no, or the retries are spent.
    async fn until_settled(&self, request: Request<'_>) -> Result<Verdict, Halt> {
        let mut trouble = Halt::Unavailable("no attempt was made".to_owned());
        for attempt in 1..=self.context.retry.attempts.max(1) {
            self.wait_for_gate().await?;
            let answer = self.ask(request).await?;
            trouble = match settle(answer) {
                Ok(verdict) => return Ok(verdict),
                Err(Trouble::Final(halt)) => return Err(self.context.health.report(halt)),
                Err(Trouble::Passing(halt)) => halt,
            };
            if attempt < self.context.retry.attempts {
                let wait = self.backoff(attempt, &trouble);
                self.tell_retry(attempt, wait, &trouble);
                self.context.interrupt.sleep(wait).await?;
            }
        }
        Err(self.context.health.report(trouble))
    }

    async fn ask(&self, request: Request<'_>) -> Result<Answer, Halt> {
        let Context { braze, journal, clock, .. } = self.context;
        let (reply, op, members) = match request {
            Request::Name(name) => (braze.name(self.cohort, name, self.ledger.created_at()).await, None, 0),
            Request::Change(op, members) => {
                (braze.change(self.cohort, op, members).await, Some(op), members.len() as u64)
            }
        };
        journal.append(clock.now(), Event::sent(self.cohort, op, members, reply.answer.word()))?;
        Ok(reply.answer)
    }

    /// Waits while the rate limit is used up, and gives up when others have, or a person wants to stop.
    async fn wait_for_gate(&self) -> Result<(), Halt> {
        loop {
            self.context.health.check()?;
            self.context.interrupt.check()?;
            let wait = self.context.braze.gate.wait(self.context.clock.now());
            match wait {
                Ok(Duration::ZERO) => return Ok(()),
                Ok(wait) => {
                    self.tell_wait("the rate limit is used up", wait);
                    self.context.interrupt.sleep(wait + jitter(wait.min(JITTER_MAX))).await?;
                }
                Err(late) => return Err(self.context.health.report(Halt::RateLimited(late.until))),
            }
        }
    }

    /// The rate limit's wait is told at the gate, where it is known.
    fn tell_retry(&self, attempt: u32, wait: Duration, trouble: &Halt) {
        let (cohort, attempts) = (self.cohort, self.context.retry.attempts);
        let what = match trouble {
            Halt::RateLimited(_) => {
                return tracing::info!(%cohort, "braze: status 429, attempt {attempt} of {attempts}");
            }
            Halt::Unavailable(what) => what.as_str(),
            Halt::Locked => "status 423, the cohort is locked",
            _ => "no verdict",
        };
        self.tell_wait(&format!("{what}, attempt {attempt} of {attempts}"), wait);
    }

    /// A wait that somebody would take for a program that hangs is told unasked.
    fn tell_wait(&self, what: &str, wait: Duration) {
        let (cohort, seconds) = (self.cohort, wait.as_secs_f64());
        if wait < LONG_WAIT {
            tracing::info!(%cohort, "braze: {what}, again in {seconds:.1} s");
        } else {
            tracing::warn!(%cohort, "braze: {what}, again in {seconds:.0} s");
        }
    }

    /// Doubles with each attempt; half of it is chance. The rate limit has its own clock, at the gate.
    fn backoff(&self, attempt: u32, trouble: &Halt) -> Duration {
        if matches!(trouble, Halt::RateLimited(_)) {
            return Duration::ZERO;
        }
        let retry = self.context.retry;
        let wait = retry.first_wait.saturating_mul(1 << (attempt - 1).min(20)).min(retry.longest_wait);
        wait / 2 + jitter(wait / 2)
    }
}

/// Some members of a batch, by their places in it.
struct Part {
    members: Vec<usize>,
    /// Sent for the second time, after Braze complained about others.
    again: bool,
}

/// Why there is no verdict yet.
enum Trouble {
    /// It may pass.
    Passing(Halt),
    /// It will not.
    Final(Halt),
}

fn settle(answer: Answer) -> Result<Verdict, Trouble> {
    match answer {
        Answer::Accepted => Ok(Verdict::Accepted),
        Answer::AcceptedWithErrors { named, other } => Ok(Verdict::Complaints(named, other)),
        Answer::BadRequest(message) => Ok(Verdict::TooMuch(message)),
        Answer::TooLarge => Ok(Verdict::TooMuch("too large (413)".to_owned())),
        Answer::Unauthorized(message) => Err(Trouble::Final(Halt::Unauthorized(message))),
        Answer::Unexpected(status, message) => Err(Trouble::Final(Halt::Unexpected(status, message))),
        Answer::Locked => Err(Trouble::Passing(Halt::Locked)),
        Answer::RateLimited(until) => {
            Err(Trouble::Passing(Halt::RateLimited(until.unwrap_or(Timestamp::UNIX_EPOCH))))
        }
        Answer::Unavailable(status) => Err(Trouble::Passing(Halt::Unavailable(format!("status {status}")))),
        Answer::NoAnswer(why) => Err(Trouble::Passing(Halt::Unavailable(format!("no answer ({why})")))),
        Answer::NotReached(why) => Err(Trouble::Passing(Halt::Unavailable(format!("not reached ({why})")))),
    }
}

/// A random part of `most`.
fn jitter(most: Duration) -> Duration {
    // Without randomness there is no jitter, and all the same no harm.
    most.mul_f64(f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX))
}
