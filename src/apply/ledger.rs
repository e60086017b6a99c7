//! Keeps a cohort's record while its plan is being sent: in doubt first, acknowledged by and by.

use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::{ApplyContext, ApplyStop};
use crate::model::{ChangeOp, CohortId, RowSet, Timestamp};
use crate::plan::{MembershipPlan, Sides};
use crate::state::{JournalEvent, Membership, PartRef, SourceMark, Spool, StateError};

/// Acknowledged batches, and time, after which a version records them.
const CHECKPOINT_BATCHES: u32 = 100;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

pub(super) struct InDoubtLedger<'a> {
    cohort: CohortId,
    context: ApplyContext<'a>,
    version: Membership,
    /// The record as it was before this apply.
    before: Membership,
    /// Where the two parts of this apply are among the version's.
    parts: Sides<Option<usize>>,
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

impl<'a> InDoubtLedger<'a> {
    /// Writes what will be sent as parts in doubt, and commits a version that names them.
    pub(super) fn open(
        plan: &mut MembershipPlan<Spool>,
        sides: Sides<bool>,
        name: Option<&str>,
        record: Membership,
        context: ApplyContext<'a>,
    ) -> Result<Self, ApplyStop> {
        let tally = plan.tally;
        let kept = |sent: bool, members: u64| if sent { 0 } else { members };
        let mut ledger = Self {
            cohort: plan.cohort.clone(),
            context,
            before: record.clone(),
            version: record,
            parts: Sides::default(),
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
            return Err(ApplyStop::Stale);
        }
        ledger.review_late(plan, sides);
        if let Some(name) = name {
            ledger.is_new_name = ledger.version.sending_name(name);
        }
        for op in [ChangeOp::Remove, ChangeOp::Add] {
            if *sides.of(op) && !plan.changes.of(op).is_empty() {
                let part = ledger.write_part(op, plan.changes.of_mut(op))?;
                *ledger.parts.of_mut(op) = Some(ledger.version.parts.len());
                ledger.version.parts.push(part);
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

    fn write_part(&self, op: ChangeOp, spool: &mut Spool) -> Result<PartRef, StateError> {
        let mut part = self.context.state.part(&self.cohort, op)?;
        spool.for_each(|packed| part.push(packed))?;
        part.finish()
    }

    /// When the cohort was first planned, which is what Braze is told.
    pub(super) fn created_at(&self) -> Timestamp {
        self.version.created_at
    }

    /// Nothing was sent: takes the parts back, so that none of their members is in doubt.
    pub(super) fn withdraw(&mut self) -> Result<(), StateError> {
        self.version = Membership { number: self.version.number, ..self.before.clone() };
        (self.parts, self.other_doubt) = (Sides::default(), self.before.in_doubt);
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
    pub(super) fn acknowledge(&mut self, op: ChangeOp, rows: Range<u64>) {
        let count = rows.end - rows.start;
        if let Some(part) = self.part(op) {
            part.acknowledged.insert(rows);
        }
        if let (ChangeOp::Add, Some(members)) = (op, &mut self.version.members) {
            *members += count;
        }
        self.dirty = true;
    }

    /// A request with these rows had no answer, and Braze may still handle it.
    pub(super) fn unanswered(&mut self, op: ChangeOp, rows: &RowSet) {
        let until = self.certain_at();
        if let Some(at) = *self.parts.of(op) {
            self.version.add_late(at, rows, until);
            self.dirty = true;
        }
    }

    /// What is known of late requests when a plan begins to be sent.
    fn review_late(&mut self, plan: &MembershipPlan<Spool>, sides: Sides<bool>) {
        let until = self.certain_at();
        if self.before.in_doubt > 0 {
            // Their members are settled for the first time: the second time is to come.
            self.version.late.iter_mut().for_each(|late| late.until = late.until.max(until));
        } else if let Some(at) = plan.settles.filter(|_| sides.removes && sides.adds) {
            self.version.late.retain(|late| late.until > at);
        }
        // A part that was killed could not note its requests: any row in doubt may have been in one.
        self.version.add_late_doubt(until);
    }

    /// This apply sends no more. Its requests without an answer are noted already, and its other rows in doubt were in no
    /// request that Braze may still handle.
    pub(super) fn end(&mut self) {
        for at in [self.parts.removes, self.parts.adds].into_iter().flatten() {
            if let Some(part) = self.version.parts.get_mut(at).filter(|part| part.in_doubt() > 0) {
                part.noted = true;
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
    pub(super) fn refuse(&mut self, op: ChangeOp, row: u64) {
        if let Some(part) = self.part(op) {
            part.refused.insert(row..row + 1);
        }
        if op == ChangeOp::Remove {
            self.version.members = None; // perhaps a member still: whoever wants to know must count
        }
        self.dirty = true;
    }

    fn part(&mut self, op: ChangeOp) -> Option<&mut PartRef> {
        let at = (*self.parts.of(op))?;
        self.version.parts.get_mut(at)
    }

    /// Whether some who were to leave may still be there.
    pub(super) fn has_unsettled_removals(&self) -> bool {
        let part = self.parts.removes.and_then(|at| self.version.parts.get(at));
        part.is_some_and(|part| part.acknowledged.len() < part.rows)
    }

    /// Rows of this apply that are neither acknowledged nor refused.
    pub(super) fn in_doubt(&self) -> u64 {
        let parts = [self.parts.removes, self.parts.adds].into_iter().flatten();
        parts.filter_map(|at| self.version.parts.get(at)).map(PartRef::in_doubt).sum()
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
        self.version.run = self.context.run.as_str().into();
        self.version.written_at = now;
        self.version.in_doubt = self.in_doubt() + self.other_doubt;
        // A number that was not taken is tried again: versions have no gaps.
        let next = Membership { number: self.version.number + 1, ..self.version.clone() };
        self.context.state.commit(&self.cohort, &next)?;
        self.version = next;
        let (cohort, version) = (self.cohort.to_string(), self.version.number);
        self.context
            .journal
            .append(now, JournalEvent::Committed { cohort, version, in_doubt: self.version.in_doubt })?;
        (self.batches, self.last, self.dirty) = (0, Instant::now(), false);
        self.context.journal.publish()
    }
}
