//! In-doubt ledger: the recorded membership of a cohort while its plan is sent. All changes start in doubt; responses
//! acknowledge or reject them.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::context::ApplyContext;
use super::stop::ApplyStop;
use crate::model::{ChangeOp, CohortId, RowSet, Timestamp};
use crate::plan::{MembershipPlan, Sides};
use crate::state::{JournalEvent, Membership, PartRef, SourceMark, Spool, StateError};

/// Batches, and time, between two checkpoints.
const CHECKPOINT_BATCHES: u32 = 100;
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

pub(super) struct InDoubtLedger<'a> {
    cohort: CohortId,
    context: ApplyContext<'a>,
    /// The membership with all outcomes so far.
    membership: Membership,
    /// The membership before this apply.
    initial: Membership,
    /// Indexes of this apply's two parts in the membership.
    parts: Sides<Option<usize>>,
    started_at: Timestamp,
    /// The name to send was not in doubt before.
    is_new_name: bool,
    /// Members in doubt that this apply does not send.
    unsent_doubt: u64,
    batches_since_commit: u32,
    last_commit: Instant,
    is_dirty: bool,
}

impl<'a> InDoubtLedger<'a> {
    /// Writes all changes as parts in doubt, and commits a version that names them.
    pub(super) fn open(
        plan: &mut MembershipPlan<Spool>,
        sides: Sides<bool>,
        name: Option<&str>,
        membership: Membership,
        context: ApplyContext<'a>,
    ) -> Result<Self, ApplyStop> {
        let tally = plan.tally;
        let if_unsent = |sent: bool, members: u64| if sent { 0 } else { members };
        let mut ledger = Self {
            cohort: plan.cohort.clone(),
            context,
            initial: membership.clone(),
            membership,
            parts: Sides::default(),
            started_at: context.clock.now(),
            is_new_name: false,
            unsent_doubt: if_unsent(sides.removes, tally.doubt_removed)
                + if_unsent(sides.adds, tally.doubt_added)
                + tally.left_in_doubt,
            batches_since_commit: 0,
            last_commit: context.clock.monotonic(),
            is_dirty: false,
        };
        if ledger.membership.number != plan.base {
            return Err(ApplyStop::Stale);
        }
        ledger.review_late(plan, sides);
        if let Some(name) = name {
            ledger.is_new_name = ledger.membership.mark_name_sent(name);
        }
        for op in [ChangeOp::Remove, ChangeOp::Add] {
            if *sides.of(op) && !plan.changes.of(op).is_empty() {
                let part = ledger.write_part(op, plan.changes.of_mut(op))?;
                *ledger.parts.of_mut(op) = Some(ledger.membership.parts.len());
                ledger.membership.parts.push(part);
            }
        }
        ledger.membership.source = None;
        // Members that are removed or sent again are in doubt from here on.
        let if_sent = |sent: bool, members: u64| if sent { members } else { 0 };
        let moved_to_doubt = if_sent(sides.removes, tally.removed) + if_sent(sides.adds, tally.added_again);
        ledger.membership.members = Some(tally.members - moved_to_doubt);
        ledger.commit()?;
        Ok(ledger)
    }

    fn write_part(&self, op: ChangeOp, spool: &mut Spool) -> Result<PartRef, StateError> {
        let mut part = self.context.state.part(&self.cohort, op)?;
        part.set_run(Some(self.context.run.as_str()));
        spool.for_each(|packed| part.push(packed))?;
        part.finish()
    }

    /// The time of the cohort's first plan, which is sent with its name.
    pub(super) fn created_at(&self) -> Timestamp {
        self.membership.created_at
    }

    /// Takes the parts back after an apply without an effect in Braze, so that it leaves no member in doubt.
    pub(super) fn withdraw(&mut self) -> Result<(), StateError> {
        self.membership = Membership { number: self.membership.number, ..self.initial.clone() };
        (self.parts, self.unsent_doubt) = (Sides::default(), self.initial.in_doubt);
        self.commit()
    }

    /// Members that earlier runs have left in doubt.
    pub(super) fn initial_doubt(&self) -> u64 {
        self.initial.in_doubt
    }

    /// Records that each request with the name has a response, so Braze handles none of them late.
    pub(super) fn mark_name_answered(&mut self) {
        if std::mem::take(&mut self.is_new_name) {
            self.membership.mark_name_answered();
            self.is_dirty = true;
        }
    }

    /// Commits the name that Braze accepted.
    pub(super) fn commit_name(&mut self, name: &str) -> Result<(), StateError> {
        self.membership.record_name(name, self.started_at, self.certain_at());
        self.is_dirty = true;
        self.checkpoint()
    }

    /// Records the source of a plan that was applied completely, so that an unchanged source is not read again.
    pub(super) fn set_source_mark(&mut self, mark: Option<SourceMark>) {
        self.membership.source = mark;
        self.is_dirty = true;
    }

    /// Records accepted rows.
    pub(super) fn acknowledge(&mut self, op: ChangeOp, rows: Range<u64>) {
        let count = rows.end - rows.start;
        if let Some(part) = self.part(op) {
            part.acknowledged.insert(rows);
        }
        if let (ChangeOp::Add, Some(members)) = (op, &mut self.membership.members) {
            *members += count;
        }
        self.is_dirty = true;
    }

    /// Records a request with these rows and without a response, which Braze may still handle.
    pub(super) fn add_late(&mut self, op: ChangeOp, rows: &RowSet) {
        let until = self.certain_at();
        if let Some(part) = *self.parts.of(op) {
            self.membership.add_late(part, rows, until);
            self.is_dirty = true;
        }
    }

    /// Updates the recorded late requests before the plan is sent.
    fn review_late(&mut self, plan: &MembershipPlan<Spool>, sides: Sides<bool>) {
        let until = self.certain_at();
        if self.initial.in_doubt > 0 {
            // This plan settles their members for the first time. A later one will settle them again.
            self.membership.late.iter_mut().for_each(|late| late.until = late.until.max(until));
        } else if let Some(at) = plan.settles.filter(|_| sides.removes && sides.adds) {
            self.membership.late.retain(|late| late.until > at);
        }
        // A killed run could not record its requests, so any row in doubt may have been in one.
        self.membership.note_late_doubt(until);
    }

    /// Ends the sending. Requests without a response are recorded already, and the other rows in doubt were in no request
    /// that Braze may still handle.
    pub(super) fn finish(&mut self) {
        for index in [self.parts.removes, self.parts.adds].into_iter().flatten() {
            if let Some(part) = self.membership.parts.get_mut(index).filter(|part| part.in_doubt() > 0) {
                part.noted = true;
                self.is_dirty = true;
            }
        }
    }

    /// The time by which Braze has handled every request sent so far. A clock that is behind the last version is wrong: by
    /// its time, a request could count as handled before it was sent.
    fn certain_at(&self) -> Timestamp {
        let now = self.context.clock.now().max(self.initial.written_at);
        now.checked_add(self.context.settle_again_after).unwrap_or(now)
    }

    /// Records a rejected row.
    pub(super) fn reject(&mut self, op: ChangeOp, row: u64) {
        if let Some(part) = self.part(op) {
            part.rejected.insert(row..row + 1);
        }
        if op == ChangeOp::Remove {
            self.membership.members = None; // the row may still be a member, so the count is unknown
        }
        self.is_dirty = true;
    }

    fn part(&mut self, op: ChangeOp) -> Option<&mut PartRef> {
        let index = (*self.parts.of(op))?;
        self.membership.parts.get_mut(index)
    }

    /// Whether some removed members may still be in the cohort.
    pub(super) fn has_unsettled_removals(&self) -> bool {
        let part = self.parts.removes.and_then(|index| self.membership.parts.get(index));
        part.is_some_and(|part| part.acknowledged.len() < part.rows)
    }

    /// Rows of this apply that are neither acknowledged nor rejected.
    pub(super) fn in_doubt(&self) -> u64 {
        let parts = [self.parts.removes, self.parts.adds].into_iter().flatten();
        parts.filter_map(|index| self.membership.parts.get(index)).map(PartRef::in_doubt).sum()
    }

    /// Counts a finished batch. Returns whether a checkpoint is due.
    pub(super) fn count_batch(&mut self) -> bool {
        self.batches_since_commit += 1;
        let since_commit = self.context.clock.monotonic().saturating_duration_since(self.last_commit);
        self.batches_since_commit >= CHECKPOINT_BATCHES || since_commit >= CHECKPOINT_EVERY
    }

    /// Commits the outcomes since the last commit, if there are any.
    pub(super) fn checkpoint(&mut self) -> Result<(), StateError> {
        if self.is_dirty { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StateError> {
        let now = self.context.clock.now();
        self.membership.run = self.context.run.as_str().into();
        self.membership.written_at = now;
        self.membership.in_doubt = self.in_doubt() + self.unsent_doubt;
        // A failed commit keeps its number for the next attempt: versions have no gaps.
        let next = Membership { number: self.membership.number + 1, ..self.membership.clone() };
        self.context.state.commit(&self.cohort, &next)?;
        self.membership = next;
        let (cohort, version) = (self.cohort.to_string(), self.membership.number);
        self.context
            .journal
            .append(now, JournalEvent::Committed { cohort, version, in_doubt: self.membership.in_doubt })?;
        (self.batches_since_commit, self.last_commit, self.is_dirty) =
            (0, self.context.clock.monotonic(), false);
        self.context.journal.publish()
    }
}
