//! The planned triggers of a cohort as a value.

use std::collections::BTreeMap;

use crate::config::Trigger;
use crate::model::Timestamp;
use crate::state::{DueTrigger, Outbox, Transition};

/// The triggers of a cohort in a run.
#[derive(Clone, Debug)]
pub struct TriggersPlan {
    /// Each configured trigger with its users and counts.
    pub triggers: Vec<TriggerPlan>,
    /// Triggers that an earlier run sent without an answer. They are not sent again.
    pub unanswered: Vec<DueTrigger>,
    /// The list of due triggers that is recorded before members are sent.
    pub(super) outbox: Outbox,
    /// Triggers that this run makes due. They are taken back if nothing is sent.
    pub(in crate::reconcile) new: Vec<DueTrigger>,
    /// Whether the list of due triggers changed.
    pub(super) is_changed: bool,
}

impl TriggersPlan {
    /// Whether there is nothing to trigger and nothing to record.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unanswered.is_empty() && !self.is_changed && self.users() == 0
    }

    /// The number of users that a trigger would fire for.
    #[must_use]
    pub fn users(&self) -> u64 {
        self.triggers.iter().map(|plan| plan.now.len() as u64).sum()
    }
}

/// One configured trigger of a cohort in a run.
#[derive(Clone, Debug)]
pub struct TriggerPlan {
    /// Enter or exit.
    pub transition: Transition,
    /// The configured trigger.
    pub trigger: Trigger,
    /// The users that it fires for now, the oldest entry first.
    pub now: Vec<DueTrigger>,
    /// The number of users who wait for a later run.
    pub waiting: u64,
    /// The end of the quiet hours, if it is within them.
    pub quiet_until: Option<Timestamp>,
    /// Users in cool-down.
    pub in_cool_down: u64,
    /// Users with an entry older than `within`.
    pub expired: u64,
    /// Users known by device only, which a campaign cannot address.
    pub unreachable: u64,
    /// Users of the first fill.
    pub first_fill: u64,
    /// Whether too many users enter or leave at once, so that it fires for none of them.
    pub too_many: bool,
}

impl TriggerPlan {
    /// Omitted properties with the number of users: a value exceeds the limits or is not a scalar.
    #[must_use]
    pub fn left_out(&self) -> BTreeMap<&str, u64> {
        omitted_properties(&self.now)
    }
}

/// Omitted properties with the number of users.
pub(super) fn omitted_properties(due: &[DueTrigger]) -> BTreeMap<&str, u64> {
    let mut users = BTreeMap::new();
    for property in due.iter().flat_map(|due| &due.omitted) {
        *users.entry(property.as_str()).or_default() += 1;
    }
    users
}
