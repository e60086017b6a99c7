//! Keeps a cohort's record while its plan is being sent: in doubt first, acknowledged by and by.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::{Context, Halt};
use crate::model::{CohortId, Op, RowSet, Timestamp};
use crate::plan::{Plan, Sides};
use crate::state::{Event, RunRef, SourceMark, Spool, StateError, Version};

/// Acknowledged batches, and time, after which a version records them.
const CHECKPOINT_BATCHES: u32 = 100;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

pub(super) struct Ledger<'a> {
    cohort: CohortId,
    context: Context<'a>,
    version: Version,
    /// The record as it was before this apply.
    before: Version,
    /// Where the two runs of this apply are among the version's.
    runs: Sides<Option<usize>>,
    /// When this apply began.
    opened: Timestamp,
    /// The name that is sent was not in doubt before.
    is_new_name: bool,
    /// Members in doubt that this apply does not send.
    other_doubt: u64,
    batches: u32,
    last: Instant,
    dirty: bool,
}

impl<'a> Ledger<'a> {
    /// Writes what will be sent as runs in doubt, and commits a version that names them.
    pub(super) fn open(
        plan: &mut Plan<Spool>,
        sides: Sides<bool>,
        name: Option<&str>,
        record: Version,
        context: Context<'a>,
    ) -> Result<Self, Halt> {
        let tally = plan.tally;
        let kept = |sent: bool, members: u64| if sent { 0 } else { members };
        let mut ledger = Self {
            cohort: plan.cohort.clone(),
            context,
            before: record.clone(),
            version: record,
            runs: Sides::default(),
            opened: context.clock.now(),
            is_new_name: false,
            other_doubt: kept(sides.removes, tally.doubt_removed)
                + kept(sides.adds, tally.doubt_added)
                + tally.left_in_doubt,
            batches: 0,
            last: Instant::now(),
            dirty: false,
        };
        if ledger.version.number != plan.base {
            return Err(Halt::Stale);
        }
        ledger.review_late(plan, sides);
        if let Some(name) = name {
            ledger.is_new_name = ledger.version.sending_name(name);
        }
        for op in [Op::Remove, Op::Add] {
            if *sides.of(op) && !plan.changes.of(op).is_empty() {
                let run = ledger.write_run(op, plan.changes.of_mut(op))?;
                *ledger.runs.of_mut(op) = Some(ledger.version.runs.len());
                ledger.version.runs.push(run);
            }
        }
        ledger.version.source = None;
        // Those who are being sent away, or sent again, are no members from here on, but in doubt.
        let counted = |sent: bool, members: u64| if sent { members } else { 0 };
        let away = counted(sides.removes, tally.removed) + counted(sides.adds, tally.sent_again);
        ledger.version.members = Some(tally.members - away);
        ledger.commit()?;
        Ok(ledger)
    }

    fn write_run(&self, op: Op, spool: &mut Spool) -> Result<RunRef, StateError> {
        let mut run = self.context.state.run(&self.cohort, op)?;
        spool.for_each(|packed| run.push(packed))?;
        run.finish()
    }

    /// When the cohort was first planned, which is what Braze is told.
    pub(super) fn created_at(&self) -> Timestamp {
        self.version.created_at
    }

    /// Nothing was sent: takes the runs back, so that none of their members is in doubt.
    pub(super) fn withdraw(&mut self) -> Result<(), StateError> {
        self.version = Version { number: self.version.number, ..self.before.clone() };
        (self.runs, self.other_doubt) = (Sides::default(), self.before.in_doubt);
        self.commit()
    }

    /// Every request with the name has an answer: Braze handles none of them late.
    pub(super) fn name_answered(&mut self) {
        if std::mem::take(&mut self.is_new_name) {
            self.version.name_answered();
            self.dirty = true;
        }
    }

    /// Braze has taken the name.
    pub(super) fn named(&mut self, name: &str) -> Result<(), StateError> {
        self.version.named(name, self.opened, self.certain_at());
        self.dirty = true;
        self.checkpoint()
    }

    /// Everything was done: the source as it was read needs no reading again.
    pub(super) fn mark(&mut self, mark: Option<SourceMark>) {
        self.version.source = mark;
        self.dirty = true;
    }

    /// Braze has taken these rows.
    pub(super) fn acknowledge(&mut self, op: Op, rows: Range<u64>) {
        let count = rows.end - rows.start;
        if let Some(run) = self.run(op) {
            run.acknowledged.insert(rows);
        }
        if let (Op::Add, Some(members)) = (op, &mut self.version.members) {
            *members += count;
        }
        self.dirty = true;
    }

    /// A request with these rows had no answer, and Braze may still handle it.
    pub(super) fn unanswered(&mut self, op: Op, rows: &RowSet) {
        let until = self.certain_at();
        if let Some(at) = *self.runs.of(op) {
            self.version.add_late(at, rows, until);
            self.dirty = true;
        }
    }

    /// What is known of late requests when a plan begins to be sent.
    fn review_late(&mut self, plan: &Plan<Spool>, sides: Sides<bool>) {
        let until = self.certain_at();
        if self.before.in_doubt > 0 {
            // Their members are settled for the first time: the second time is to come.
            self.version.late.iter_mut().for_each(|late| late.until = late.until.max(until));
        } else if let Some(at) = plan.settles.filter(|_| sides.removes && sides.adds) {
            self.version.late.retain(|late| late.until > at);
        }
        // A run that was killed could not note its requests: any row in doubt may have been in one.
        self.version.add_late_doubt(until);
    }

    /// This apply sends no more. Its requests without an answer are noted already, and its other rows in doubt were in no
    /// request that Braze may still handle.
    pub(super) fn end(&mut self) {
        for at in [self.runs.removes, self.runs.adds].into_iter().flatten() {
            if let Some(run) = self.version.runs.get_mut(at).filter(|run| run.in_doubt() > 0) {
                run.noted = true;
                self.dirty = true;
            }
        }
    }

    /// When Braze has handled every request that was sent until now.
    fn certain_at(&self) -> Timestamp {
        let now = self.context.clock.now();
        now.checked_add(self.context.settle_again_after).unwrap_or(now)
    }

    /// Braze has refused this row.
    pub(super) fn refuse(&mut self, op: Op, row: u64) {
        if let Some(run) = self.run(op) {
            run.refused.insert(row..row + 1);
        }
        if op == Op::Remove {
            self.version.members = None; // perhaps a member still: whoever wants to know must count
        }
        self.dirty = true;
    }

    fn run(&mut self, op: Op) -> Option<&mut RunRef> {
        let at = (*self.runs.of(op))?;
        self.version.runs.get_mut(at)
    }

    /// Whether some who were to leave may still be there.
    pub(super) fn has_unsettled_removals(&self) -> bool {
        let run = self.runs.removes.and_then(|at| self.version.runs.get(at));
        run.is_some_and(|run| run.acknowledged.len() < run.rows)
    }

    /// Rows of this apply that are neither acknowledged nor refused.
    pub(super) fn in_doubt(&self) -> u64 {
        let runs = [self.runs.removes, self.runs.adds].into_iter().flatten();
        runs.filter_map(|at| self.version.runs.get(at)).map(RunRef::in_doubt).sum()
    }

    /// A batch is done. Whether enough has come together to record it.
    pub(super) fn batch_done(&mut self) -> bool {
        self.batches += 1;
        self.batches >= CHECKPOINT_BATCHES || self.last.elapsed() >= CHECKPOINT_EVERY
    }

    /// Records what has come together since the last time.
    pub(super) fn checkpoint(&mut self) -> Result<(), StateError> {
        if self.dirty { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StateError> {
        let now = self.context.clock.now();
        self.version.pass = self.context.pass.as_str().into();
        self.version.written_at = now;
        self.version.in_doubt = self.in_doubt() + self.other_doubt;
        // A number that was not taken is tried again: versions have no gaps.
        let next = Version { number: self.version.number + 1, ..self.version.clone() };
        self.context.state.commit(&self.cohort, &next)?;
        self.version = next;
        let (cohort, version) = (self.cohort.to_string(), self.version.number);
        self.context
            .journal
            .append(now, Event::Committed { cohort, version, in_doubt: self.version.in_doubt })?;
        (self.batches, self.last, self.dirty) = (0, Instant::now(), false);
        self.context.journal.publish()
    }
}
