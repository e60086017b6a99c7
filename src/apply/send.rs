//! One batch at a time, until Braze has had the last word on each of its members.
//!
//! What an answer means is settled here and nowhere else (Braze, "Partner cohort import" and "API
//! errors"): 400 and 413 halve the batch until the offender is alone; 423, 429, 5xx and silence are
//! tried again, since adding and removing are set operations; 401 and what nobody expected end the
//! workspace's run.
//!
//! A 400 for a single identifier is that identifier's fault only if Braze takes others: until it has, the
//! identifier is a suspect, and stays in doubt.

use std::collections::VecDeque;
use std::time::Duration;

use super::ledger::InDoubtLedger;
use super::stop::Api;
use super::{ApplyContext, ApplyOutcome, ApplyStop, blocking};
use tokio::sync::SemaphorePermit;

use crate::connector::braze::{Admission, BrazeReply, ReplyDetails, RowError};
use crate::connector::{backoff, jitter};
use crate::model::{ChangeOp, CohortId, DeliveryMethod, Identifier, RowSet};
use crate::plan::CohortNaming;
use crate::state::{JournalEvent, LEASE_ENDED, Reject, RejectLog, SpoolBatch, StateWriter};

/// So many single identifiers refused without one taken in between are no matter of single identifiers.
const SUSPECTS_MAX: usize = 10;
/// Most time that is added to a wait, so that many who wait do not return at once.
const JITTER_MAX: Duration = Duration::from_secs(1);
/// From here on a wait is told without `-v` as well.
const LONG_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Sender<'a> {
    pub(super) cohort: &'a CohortId,
    /// How its members reach Braze.
    pub(super) delivery: &'a DeliveryMethod,
    pub(super) context: ApplyContext<'a>,
    pub(super) ledger: InDoubtLedger<'a>,
    pub(super) rejects: &'a mut RejectLog,
    pub(super) outcome: &'a mut ApplyOutcome,
    /// Refused by themselves since Braze last took anybody.
    pub(super) suspects: Vec<SuspectRow>,
    /// An attempt of the last request had no answer: Braze may handle it late.
    pub(super) unanswered: bool,
}

/// An identifier that Braze refused by itself, while nothing shows that it would take any.
pub(super) struct SuspectRow {
    op: ChangeOp,
    row: u64,
    value: String,
    message: String,
}

/// What is asked of Braze.
#[derive(Clone, Copy)]
enum SendRequest<'a> {
    /// To name the cohort.
    Name(&'a str),
    /// To add or remove members.
    Change(ChangeOp, &'a [Identifier<'a>]),
}

/// What Braze made of a request in the end.
enum RequestVerdict {
    Accepted,
    /// Accepted but for these.
    Complaints {
        named: Vec<RowError>,
        other: Option<String>,
        /// Whether whoever is not named was taken.
        rest_done: bool,
    },
    /// Not taken because of something in it.
    TooMuch {
        /// What Braze says.
        message: String,
        /// An earlier attempt had no answer: it may have been taken all the same.
        unsure: bool,
    },
}

impl<'a> Sender<'a> {
    /// Names the cohort, if it is to be named.
    pub(super) async fn name(&mut self, naming: Option<CohortNaming>) -> Result<(), ApplyStop> {
        let Some(naming) = naming else { return Ok(()) };
        let verdict = self.until_settled(SendRequest::Name(naming.name())).await;
        if !self.unanswered {
            self.ledger.name_answered();
        }
        match verdict? {
            RequestVerdict::Accepted => {}
            RequestVerdict::Complaints { other, .. } => {
                return Err(ApplyStop::Refused(
                    other.unwrap_or_else(|| "it complains about the name".to_owned()),
                ));
            }
            RequestVerdict::TooMuch { message, .. } => return Err(ApplyStop::Refused(message)),
        }
        blocking(|| self.ledger.named(naming.name()))?;
        self.outcome.named = Some(naming);
        Ok(())
    }

    /// Sends a batch, in smaller parts where it must be.
    pub(super) async fn send(&mut self, op: ChangeOp, batch: &SpoolBatch) -> Result<(), ApplyStop> {
        let mut parts = VecDeque::from([BatchPart { members: (0..batch.len()).collect(), again: false }]);
        let mut taken = false;
        while let Some(mut part) = parts.pop_front() {
            let members = batch.identifiers(&part.members)?;
            let verdict = self.until_settled(SendRequest::Change(op, &members)).await;
            if self.unanswered {
                let row = |member: &usize| batch.row(*member)..batch.row(*member) + 1;
                self.ledger.unanswered(op, &RowSet::from_ranges(part.members.iter().map(row)));
            }
            match verdict? {
                RequestVerdict::Accepted => {
                    taken = true;
                    self.accept(op, batch, &part.members)?;
                }
                RequestVerdict::Complaints { named, other, rest_done } => {
                    let words = other.as_deref();
                    let mut rest = self.refuse_named(op, batch, &part, &named, words)?;
                    if rest_done {
                        let again = |member: &usize| named.iter().any(|e| part.members[e.member] == *member);
                        let done: Vec<usize> = rest.iter().copied().filter(|member| !again(member)).collect();
                        taken |= !done.is_empty();
                        self.accept(op, batch, &done)?;
                        rest.retain(again);
                    }
                    // Of the rest nobody can tell. An attribute costs as much the second time, so it waits.
                    let is_worth_it = rest_done || self.delivery.attribute().is_none();
                    if is_worth_it && !part.again && !rest.is_empty() {
                        parts.push_back(BatchPart { members: rest, again: true });
                    }
                }
                RequestVerdict::TooMuch { message, unsure } if part.members.len() == 1 => {
                    self.suspect(op, batch, part.members[0], message, unsure)?;
                }
                RequestVerdict::TooMuch { .. } => {
                    let rest = part.members.split_off(part.members.len() / 2);
                    parts.push_front(BatchPart { members: rest, again: part.again });
                    parts.push_front(part);
                }
            }
        }
        if taken {
            self.convict()?;
        }
        if self.ledger.batch_done() { self.checkpoint() } else { Ok(()) }
    }

    /// Records what has come together: whoever is refused first, so that no reason is lost.
    pub(super) fn checkpoint(&mut self) -> Result<(), ApplyStop> {
        blocking(|| {
            self.rejects.sync()?;
            Ok(self.ledger.checkpoint()?)
        })
    }

    pub(super) fn has_unsettled_removals(&self) -> bool {
        self.ledger.has_unsettled_removals()
    }

    fn accept(&mut self, op: ChangeOp, batch: &SpoolBatch, members: &[usize]) -> Result<(), ApplyStop> {
        match op {
            ChangeOp::Add => self.outcome.added += members.len() as u64,
            ChangeOp::Remove => self.outcome.removed += members.len() as u64,
        }
        for stretch in members.chunk_by(|a, b| a + 1 == *b) {
            let first = batch.row(stretch[0]);
            self.ledger.acknowledge(op, first..first + stretch.len() as u64);
        }
        self.convict()
    }

    /// A 2xx with complaints. Whom it names for good is refused; the others are given back. Whether they were
    /// taken nobody can tell, unless Braze says so: they are sent again by themselves, once; if it still complains,
    /// they stay in doubt.
    fn refuse_named(
        &mut self,
        op: ChangeOp,
        batch: &SpoolBatch,
        part: &BatchPart,
        named: &[RowError],
        other: Option<&str>,
    ) -> Result<Vec<usize>, ApplyStop> {
        let mut rest = part.members.clone();
        for error in named.iter().filter(|error| !error.again) {
            let Some(member) = part.members.get(error.member) else { continue };
            let suspect = SuspectRow::new(op, batch, *member, error.message.clone())?;
            self.refuse(&suspect)?;
            rest.retain(|kept| kept != member);
        }
        let words = other.or_else(|| named.first().map(|error| error.message.as_str())).unwrap_or_default();
        tracing::warn!(cohort = %self.cohort, refused = part.members.len() - rest.len(), "Braze took a request and complained: {words}");
        Ok(rest)
    }

    /// Braze refused a single identifier.
    fn suspect(
        &mut self,
        op: ChangeOp,
        batch: &SpoolBatch,
        member: usize,
        message: String,
        unsure: bool,
    ) -> Result<(), ApplyStop> {
        self.outcome.refusal.get_or_insert_with(|| message.clone());
        if unsure {
            return Ok(()); // it stays in doubt: an attempt without an answer may have been taken
        }
        self.suspects.push(SuspectRow::new(op, batch, member, message.clone())?);
        if self.suspects.len() < SUSPECTS_MAX { Ok(()) } else { Err(ApplyStop::Refused(message)) }
    }

    /// Braze takes others: whom it refused, it refused for themselves.
    fn convict(&mut self) -> Result<(), ApplyStop> {
        std::mem::take(&mut self.suspects).iter().try_for_each(|suspect| self.refuse(suspect))
    }

    /// Braze will not have this one.
    fn refuse(&mut self, suspect: &SuspectRow) -> Result<(), ApplyStop> {
        let SuspectRow { op, row, value, message } = suspect;
        let reject = Reject {
            reason: "rejected_by_braze",
            detail: message,
            column: op.as_str(),
            value,
            ..Reject::default()
        };
        self.rejects.push(&reject.line())?;
        self.ledger.refuse(*op, *row);
        self.outcome.refused += 1;
        self.outcome.refused_removals += u64::from(*op == ChangeOp::Remove);
        self.outcome.refusal.get_or_insert_with(|| message.clone());
        Ok(())
    }

    /// Asks until Braze has said yes or no, or the retries are spent.
    async fn until_settled(&mut self, request: SendRequest<'_>) -> Result<RequestVerdict, ApplyStop> {
        let mut trouble = ApplyStop::Unavailable("no attempt was made".to_owned());
        self.unanswered = false;
        for attempt in 1..=self.context.retry.attempts.max(1) {
            let seat = self.admitted().await?;
            let answer = self.ask(request).await?;
            drop(seat);
            let unsure = self.unanswered;
            self.unanswered |= answer.may_be_handled_later();
            trouble = match settle(answer, unsure) {
                Ok(verdict) => return Ok(verdict),
                Err(NoVerdict::Final(halt)) => return Err(self.context.health.report(self.api(), halt)),
                Err(NoVerdict::Passing(halt)) => halt,
            };
            if attempt < self.context.retry.attempts {
                let wait = self.backoff(attempt);
                self.tell_retry(attempt, wait, &trouble);
                self.context.interrupt.sleep(wait).await?;
            }
        }
        Err(self.context.health.report(self.api(), trouble))
    }

    async fn ask(&mut self, request: SendRequest<'_>) -> Result<BrazeReply, ApplyStop> {
        let ApplyContext { braze, journal, clock, state, .. } = self.context;
        let (answer, op, members) = match request {
            SendRequest::Name(name) => {
                let asked = braze.name(self.cohort, name, self.ledger.created_at());
                (within_lease(state, asked).await, None, 0)
            }
            SendRequest::Change(op, members) => {
                let asked = braze.change(self.delivery, self.cohort, op, members);
                (within_lease(state, asked).await, Some(op), members.len() as u64)
            }
        };
        let word = answer.word();
        *self.outcome.answers.entry(word).or_default() += 1;
        journal.append(clock.now(), JournalEvent::sent(self.cohort, op, members, word))?;
        Ok(answer)
    }

    fn api(&self) -> Api {
        Api::of(self.delivery)
    }

    /// Waits for a turn and for the rate limit, and gives up when others have, or a person wants to stop.
    async fn admitted(&self) -> Result<Option<SemaphorePermit<'a>>, ApplyStop> {
        let ApplyContext { braze, health, interrupt, state, clock, .. } = self.context;
        loop {
            let seat = braze.seat().await;
            health.check(self.api())?;
            interrupt.check()?;
            state.check_lease()?;
            match braze.gate(self.delivery).admit(clock.now()) {
                Admission::Go => return Ok(seat),
                Admission::Wait(wait) => {
                    drop(seat);
                    self.tell_wait("the rate limit is used up", wait);
                    interrupt.sleep(wait + jitter(wait.min(JITTER_MAX))).await?;
                }
                Admission::TooLong(until) => {
                    return Err(health.report(self.api(), ApplyStop::RateLimited(Some(until))));
                }
            }
        }
    }

    /// The rate limit's wait is told at the gate, where it is known.
    fn tell_retry(&self, attempt: u32, wait: Duration, trouble: &ApplyStop) {
        let (cohort, attempts) = (self.cohort, self.context.retry.attempts);
        let what = match trouble {
            ApplyStop::RateLimited(_) => {
                return tracing::info!(%cohort, "braze: status 429, attempt {attempt} of {attempts}");
            }
            ApplyStop::Unavailable(what) => what.as_str(),
            ApplyStop::Locked => "status 423, the cohort is locked",
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

    /// Doubles with each attempt; half of it is chance. While the gate is closed, waiting is its matter.
    fn backoff(&self, attempt: u32) -> Duration {
        let ApplyContext { braze, retry, clock, .. } = self.context;
        if braze.gate(self.delivery).is_closed(clock.now()) {
            return Duration::ZERO;
        }
        backoff(retry, attempt)
    }
}

/// The answer to a request that is given up when the lease on the state ends: then it is in doubt.
async fn within_lease(state: &StateWriter, asked: impl Future<Output = ReplyDetails>) -> BrazeReply {
    let reply = state.within_lease(asked).await;
    reply.map_or_else(|| BrazeReply::NoAnswer(LEASE_ENDED.to_owned()), |reply| reply.answer)
}

impl SuspectRow {
    fn new(op: ChangeOp, batch: &SpoolBatch, member: usize, message: String) -> Result<Self, ApplyStop> {
        let identifiers = batch.identifiers(&[member])?;
        Ok(Self { op, row: batch.row(member), value: identifiers[0].in_full(), message })
    }
}

/// Some members of a batch, by their places in it.
struct BatchPart {
    members: Vec<usize>,
    /// Sent for the second time, after Braze complained about others.
    again: bool,
}

/// Why there is no verdict yet.
enum NoVerdict {
    /// It may run.
    Passing(ApplyStop),
    /// It will not.
    Final(ApplyStop),
}

fn settle(answer: BrazeReply, unsure: bool) -> Result<RequestVerdict, NoVerdict> {
    match answer {
        BrazeReply::Accepted => Ok(RequestVerdict::Accepted),
        BrazeReply::AcceptedWithErrors { named, other, rest_done } => {
            Ok(RequestVerdict::Complaints { named, other, rest_done })
        }
        BrazeReply::BadRequest(message) => Ok(RequestVerdict::TooMuch { message, unsure }),
        BrazeReply::TooLarge => Ok(RequestVerdict::TooMuch { message: "too large (413)".to_owned(), unsure }),
        BrazeReply::Unauthorized(message) => Err(NoVerdict::Final(ApplyStop::Unauthorized(message))),
        BrazeReply::Foreign(status, what) => Err(NoVerdict::Final(ApplyStop::Foreign(status, what))),
        BrazeReply::Unexpected(status, message) => {
            Err(NoVerdict::Final(ApplyStop::Unexpected(status, message)))
        }
        BrazeReply::Locked => Err(NoVerdict::Passing(ApplyStop::Locked)),
        BrazeReply::RateLimited(until) => Err(NoVerdict::Passing(ApplyStop::RateLimited(until))),
        BrazeReply::Unavailable(status) => {
            Err(NoVerdict::Passing(ApplyStop::Unavailable(format!("status {status}"))))
        }
        BrazeReply::NoAnswer(why) => {
            Err(NoVerdict::Passing(ApplyStop::Unavailable(format!("no answer ({why})"))))
        }
        BrazeReply::NotReached(why) => {
            Err(NoVerdict::Passing(ApplyStop::Unavailable(format!("not reached ({why})"))))
        }
    }
}
