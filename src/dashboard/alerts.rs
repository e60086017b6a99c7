//! What is not as it should be, the worst first, and on whom it waits.

use super::format::{count, counted, length, plural};
use super::view::{
    CohortStateView, CohortView, DashboardView, InboxView, MissingPagesView, NextStep, RoleView,
    SegmentVerdictView,
};

/// On whom something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlertWait {
    /// Nobody else can help.
    OnPerson,
    /// It is tried again, or comes by itself.
    OnNobody,
}

/// One thing that is not as it should be.
#[derive(Debug)]
pub(super) struct Alert {
    /// On whom it waits.
    pub(super) waits: AlertWait,
    /// Where the page says more.
    pub(super) anchor: String,
    /// What it is about.
    pub(super) about: String,
    /// What is the matter.
    pub(super) what: String,
}

/// Everything that is not as it should be.
pub(super) fn of(board: &DashboardView) -> Vec<Alert> {
    let mut all: Vec<Alert> = Vec::new();
    if let Some(ignored) = &board.config.ignored {
        let what = format!("the new config has {} and is not in use", plural(ignored.problems, "problem"));
        all.push(matter(AlertWait::OnPerson, "config", "Config", what));
    }
    all.extend(board.cohorts.iter().filter_map(|cohort| of_cohort(board, cohort)));
    board.inboxes.iter().for_each(|inbox| of_inbox(inbox, &mut all));
    for export in &board.exports {
        if let Some(trouble) = &export.trouble {
            all.push(matter(waits(trouble.then), "exports", &export.id, trouble.why.clone()));
        }
    }
    for segment in board.segments.iter().filter(|segment| segment.verdict == SegmentVerdictView::Drifted) {
        let what = format!("the segment in Braze has drifted: {}", segment.why.join("; "));
        all.push(matter(AlertWait::OnPerson, "segments", &segment.name, what));
    }
    all.sort_by_key(|matter| matter.waits);
    all
}

fn matter(waits: AlertWait, anchor: &str, about: &str, what: String) -> Alert {
    Alert { waits, anchor: anchor.to_owned(), about: about.to_owned(), what }
}

fn waits(then: NextStep) -> AlertWait {
    match then {
        NextStep::TriedAgain { .. } => AlertWait::OnNobody,
        NextStep::NeedsPerson => AlertWait::OnPerson,
    }
}

/// Where the page tells of a cohort.
pub(super) fn anchor(cohort: &CohortView) -> String {
    format!("cohort-{}", cohort.id)
}

fn of_cohort(board: &DashboardView, cohort: &CohortView) -> Option<Alert> {
    let (waits, what) = match &cohort.state {
        CohortStateView::InSync | CohortStateView::New | CohortStateView::Updating { .. } => return None,
        CohortStateView::WaitingForHeap { .. } => {
            (AlertWait::OnNobody, "waits for Heap’s first sync".to_owned())
        }
        CohortStateView::Withheld { refusals, .. } => {
            let held = refusals.iter().map(|refusal| format!("{} blocked: {}", refusal.what, refusal.why));
            (AlertWait::OnPerson, held.collect::<Vec<_>>().join("; "))
        }
        CohortStateView::Failing { why, then, .. } => (waits(*then), why.clone()),
        CohortStateView::Stale { after } => (AlertWait::OnPerson, stale(board, cohort, *after)),
    };
    Some(matter(waits, &anchor(cohort), &cohort.name, what))
}

/// Why a cohort is called stale.
pub(super) fn stale(board: &DashboardView, cohort: &CohortView, after: std::time::Duration) -> String {
    let limit = length(after);
    match cohort.last_good {
        Some(last) => {
            let age = length(board.now.duration_since(last).unsigned_abs());
            format!("no good run for {age}; {limit} is the limit")
        }
        None => format!("there was never a good run; {limit} is the limit"),
    }
}

fn of_inbox(inbox: &InboxView, all: &mut Vec<Alert>) {
    let about = |pages: &MissingPagesView| format!("{} ({})", pages.name, pages.segment);
    let how_many = |pages: &MissingPagesView| {
        format!("{} of {}", count(pages.missing), counted(pages.pages, "page", "pages"))
    };
    for gap in &inbox.gaps {
        let what = format!(
            "{} of a Heap sync never came, so who is in the segment is not quite known; sync it again in Heap",
            how_many(gap)
        );
        all.push(matter(AlertWait::OnPerson, "heap", &about(gap), what));
    }
    for pages in &inbox.missing {
        let what =
            format!("{} of a Heap sync are still to come; until then nobody is removed", how_many(pages));
        all.push(matter(AlertWait::OnNobody, "heap", &about(pages), what));
    }
}

/// The page in a few words.
pub(super) fn headline(board: &DashboardView, matters: &[Alert]) -> String {
    let persons = matters.iter().filter(|matter| matter.waits == AlertWait::OnPerson).count() as u64;
    let others = matters.len() as u64 - persons;
    match (persons, others) {
        (0, _) if matches!(board.role, RoleView::StandingBy { .. }) => "Standing by".to_owned(),
        (0, 0) if board.cohorts.is_empty() => "Nothing to keep in sync yet".to_owned(),
        (0, 0) if board.cohorts.iter().all(|cohort| matches!(cohort.state, CohortStateView::InSync)) => {
            "Everything is in sync".to_owned()
        }
        (0, 0) => "All is well".to_owned(),
        (0, _) => "Nothing needs you".to_owned(),
        (1, _) => "1 thing needs a person".to_owned(),
        (n, _) => format!("{} things need a person", count(n)),
    }
}
