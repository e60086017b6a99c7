//! The state of a cohort: its label, its sign and its position in the list.

use super::html::Html;
use super::view::{CohortStateView, NextStep};

/// The labels of states, in the order of the summary.
pub(super) const LABELS: [&str; 10] = [
    "needs approval",
    "needs a decision",
    "needs a fix",
    "stale",
    "failing",
    "waiting for Heap",
    "updating",
    "stopped",
    "new",
    "in sync",
];

/// The label of a state.
pub(super) fn label(state: &CohortStateView) -> &'static str {
    LABELS[match state {
        CohortStateView::Blocked { approve_command: Some(_), .. }
        | CohortStateView::BlockedInRecord { approve_command: Some(_), .. } => 0,
        CohortStateView::Blocked { approve_command: None, .. }
        | CohortStateView::BlockedInRecord { approve_command: None, .. } => 1,
        CohortStateView::Failing { next: NextStep::NeedsOperator { .. }, .. } => 2,
        CohortStateView::Stale { .. } => 3,
        CohortStateView::Failing { next: NextStep::Retry { .. }, .. } => 4,
        CohortStateView::WaitingForHeap { .. } => 5,
        CohortStateView::Updating { .. } => 6,
        CohortStateView::Stopped { .. } => 7,
        CohortStateView::New => 8,
        CohortStateView::InSync => 9,
    }]
}

/// A label as a value in the address.
pub(super) fn code(label: &str) -> String {
    label.replace(' ', "-").to_lowercase()
}

/// Whether an operator must act.
pub(super) fn needs_attention(state: &CohortStateView) -> bool {
    rank(state) == 0
}

/// The position of a state in the list.
pub(super) fn rank(state: &CohortStateView) -> u8 {
    match state {
        CohortStateView::Blocked { .. }
        | CohortStateView::BlockedInRecord { .. }
        | CohortStateView::Stale { .. }
        | CohortStateView::Failing { next: NextStep::NeedsOperator { .. }, .. } => 0,
        CohortStateView::Failing { .. } => 1,
        CohortStateView::WaitingForHeap { .. }
        | CohortStateView::Updating { .. }
        | CohortStateView::Stopped { .. }
        | CohortStateView::New => 2,
        CohortStateView::InSync => 3,
    }
}

/// Writes the label, with a sign that does not depend on color.
pub(super) fn badge(html: &mut Html, state: &CohortStateView) {
    let (class, sign) = match state {
        CohortStateView::InSync => ("state good", "✓"),
        CohortStateView::Blocked { .. }
        | CohortStateView::BlockedInRecord { .. }
        | CohortStateView::Stale { .. } => ("state blocked", "!"),
        CohortStateView::Failing { .. } => ("state failing", "✕"),
        CohortStateView::WaitingForHeap { .. } | CohortStateView::Stopped { .. } | CohortStateView::New => {
            ("state idle", "…")
        }
        CohortStateView::Updating { .. } => ("state idle", "→"),
    };
    html.node("span", &[("class", class)], |html| {
        html.leaf("span", &[("aria-hidden", "true")], sign);
        html.text(label(state));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_labels_are_unique_words() {
        let codes: Vec<String> = LABELS.iter().map(|label| code(label)).collect();
        assert_eq!(codes[2], "needs-a-fix");
        let unique: std::collections::BTreeSet<&String> = codes.iter().collect();
        assert_eq!(unique.len(), LABELS.len());
        assert!(
            codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')),
            "{codes:?}"
        );
    }
}
