//! What the journal tells of the time before this process: runs, and how large cohorts were.

use crate::dashboard::HistoryView;
use crate::model::{CohortId, RunId, Timestamp};
use crate::state::{JournalEvent, RunRecord};

/// What single cohorts gained and lost, the newest first.
pub(super) fn runs(records: &[RunRecord]) -> Vec<HistoryView> {
    let mut all = Vec::new();
    for record in records {
        let result = record.entries.iter().rev().find_map(|entry| match &entry.event {
            JournalEvent::Ended { result, .. } => Some(result.clone()),
            _ => None,
        });
        let result = result.unwrap_or_else(|| "interrupted".to_owned());
        for entry in &record.entries {
            let JournalEvent::Finished { cohort, added, removed, error, .. } = &entry.event else { continue };
            let (Ok(at), Ok(cohort)) = (entry.at.parse(), CohortId::new(cohort)) else { continue };
            let run = RunId::named(&record.run);
            let (added, removed, error) = (*added, *removed, error.clone());
            all.push(HistoryView { at, run, cohort, added, removed, result: result.clone(), error });
        }
    }
    all
}

/// How many members a cohort had after each run, the oldest first, given how many it has now.
pub(super) fn sizes(records: &[RunRecord], cohort: &CohortId, now: u64) -> Vec<(Timestamp, u64)> {
    let (mut sizes, mut members) = (Vec::new(), now);
    for past in runs(records).into_iter().filter(|past| past.cohort == *cohort) {
        sizes.push((past.at, members));
        members = (members + past.removed).saturating_sub(past.added);
    }
    sizes.reverse();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::JournalEntry;

    fn record(at: &str, added: u64, removed: u64) -> RunRecord {
        let finished = JournalEvent::Finished {
            cohort: "carts".to_owned(),
            added,
            removed,
            rejected: 0,
            in_doubt: 0,
            error: None,
        };
        let ended = JournalEvent::Ended { result: "applied".to_owned(), requests: 1 };
        let entries = [finished, ended].map(|event| JournalEntry { at: at.to_owned(), event }).to_vec();
        RunRecord { run: format!("p-{at}"), entries }
    }

    #[test]
    fn sizes_are_told_backwards_from_what_there_is_now() {
        let records = [
            record("2026-11-24T03:00:00.000Z", 0, 5),
            record("2026-11-24T02:00:00.000Z", 10, 0),
            record("2026-11-24T01:00:00.000Z", 100, 0),
        ];
        let sizes = sizes(&records, &CohortId::new("carts").unwrap(), 105);
        assert_eq!(sizes.iter().map(|(_, members)| *members).collect::<Vec<_>>(), [100, 110, 105]);
        assert_eq!(runs(&records)[0].result, "applied");
    }
}
