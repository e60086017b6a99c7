//! Approvals of blocked plans. No event announces them, so the leader polls the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::LeaderContext;
use super::environment::on_thread;
use crate::model::CohortId;
use crate::state::Approval;

/// The approvals of each blocked cohort.
pub(super) type ApprovalList = Vec<(CohortId, Vec<Approval>)>;

/// Finds approvals that are new.
#[derive(Default)]
pub(super) struct ApprovalPoll {
    seen: BTreeMap<CohortId, Vec<Approval>>,
    is_reading: bool,
}

impl ApprovalPoll {
    /// Starts a read, if a cohort is blocked and no read is running. The caller reports its end with [`Self::finish`].
    pub(super) fn start(
        &mut self,
        context: &LeaderContext,
    ) -> Option<impl Future<Output = ApprovalList> + Send + use<>> {
        let blocked = context.status.blocked_cohorts();
        if blocked.is_empty() || std::mem::replace(&mut self.is_reading, true) {
            return None;
        }
        let (state, now) = (Arc::clone(&context.state), context.clock.now());
        let read = move || {
            let approvals =
                |id: CohortId| state.reader().approvals(&id, now).ok().map(|approvals| (id, approvals));
            blocked.into_iter().filter_map(approvals).collect()
        };
        Some(async move { on_thread(read).await.unwrap_or_default() })
    }

    /// Returns the cohorts with a new approval.
    pub(super) fn finish(&mut self, approvals: ApprovalList) -> Vec<CohortId> {
        self.is_reading = false;
        let mut approved = Vec::new();
        for (id, approvals) in approvals {
            if self.seen.get(&id).is_none_or(|seen| *seen != approvals) {
                if !approvals.is_empty() {
                    tracing::info!(cohort = %id, "a plan was approved");
                    approved.push(id.clone());
                }
                self.seen.insert(id, approvals);
            }
        }
        approved
    }

    /// A read ended by a panic.
    pub(super) fn reset(&mut self) {
        self.is_reading = false;
    }
}
