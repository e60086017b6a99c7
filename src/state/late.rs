//! Late requests of a cohort: requests without an answer that Braze may still handle after a later part.

use super::membership::{LateName, LateRequest, Membership};
use super::part::PartRef;
use crate::model::{ChangeOp, RowSet, Timestamp};

impl LateRequest {
    /// Returns the part with exactly these rows in doubt.
    pub(super) fn in_doubt(&self) -> PartRef {
        let others = self.rows.complement(self.part.rows);
        PartRef {
            op: ChangeOp::Remove,
            acknowledged: RowSet::default(),
            rejected: others,
            ..self.part.clone()
        }
    }
}

impl Membership {
    /// Whether a late request may still add members.
    #[must_use]
    pub fn may_gain_late_members(&self) -> bool {
        self.late.iter().any(|late| late.part.op == ChangeOp::Add)
    }

    /// Returns until when a late request may change members or the name.
    #[must_use]
    pub fn uncertain_until(&self) -> Option<Timestamp> {
        self.late_times().max()
    }

    /// Returns when the first late request expires, so that members or the name must be sent again.
    #[must_use]
    pub fn resend_at(&self) -> Option<Timestamp> {
        self.late_times().min()
    }

    fn late_times(&self) -> impl Iterator<Item = Timestamp> {
        let names = self.late_names.iter().filter_map(|late| late.until);
        self.late.iter().map(|late| late.until).chain(names)
    }

    /// Whether Braze may show another name than the recorded one: the last name request had no answer, or a late request
    /// may have restored another name.
    #[must_use]
    pub fn is_name_in_doubt(&self, now: Timestamp) -> bool {
        let is_other = |late: &LateName| Some(&late.name) != self.name.as_ref();
        self.late_names.iter().any(|late| late.until.is_none_or(|until| until <= now && is_other(late)))
    }

    /// Marks a name as in doubt before it is sent. Returns whether it was not in doubt before.
    pub fn mark_name_sent(&mut self, name: &str) -> bool {
        let is_known = self.late_names.iter().any(|late| late.until.is_none() && late.name == name);
        if !is_known {
            self.late_names.push(LateName { name: name.to_owned(), until: None });
        }
        !is_known
    }

    /// Marks all requests with the last name as answered: none of them can be late.
    pub fn mark_name_answered(&mut self) {
        self.late_names.pop_if(|late| late.until.is_none());
    }

    /// Records that Braze has accepted a name that was first sent at `sent`. Unanswered name requests may arrive until
    /// `until`.
    pub fn record_name(&mut self, name: &str, sent: Timestamp, until: Timestamp) {
        self.name = Some(name.to_owned());
        self.late_names.retain(|late| late.until.is_none_or(|until| until > sent));
        self.late_names.iter_mut().for_each(|late| late.until = late.until.or(Some(until)));
    }

    /// Removes requests that can no longer arrive at this time. Returns whether there were any.
    pub fn remove_expired_late(&mut self, at: Timestamp) -> bool {
        let before = (self.late.len(), self.late_names.len());
        self.late.retain(|late| late.until > at);
        self.late_names.retain(|late| late.until.is_none_or(|until| until > at));
        before != (self.late.len(), self.late_names.len())
    }

    /// How many members were in requests without an answer.
    #[must_use]
    pub fn late_members(&self) -> u64 {
        self.late.iter().map(|late| late.rows.len()).sum()
    }

    /// Adds rows of a part that were in requests without an answer.
    pub fn add_late(&mut self, part: usize, rows: &RowSet, until: Timestamp) {
        let Some(part) = self.parts.get(part).filter(|_| !rows.is_empty()) else { return };
        match self.late.iter_mut().find(|late| late.part.id == part.id) {
            Some(late) => {
                late.rows.extend(rows);
                late.until = late.until.max(until);
            }
            None => {
                let part =
                    PartRef { acknowledged: RowSet::default(), rejected: RowSet::default(), ..part.clone() };
                self.late.push(LateRequest { part, rows: rows.clone(), until });
            }
        }
    }

    /// Records all rows in doubt as possibly late. Each part is noted once, because its requests were sent before, and a
    /// later part may have settled them since.
    pub fn note_late_doubt(&mut self, until: Timestamp) {
        for at in 0..self.parts.len() {
            let part = &mut self.parts[at];
            if part.in_doubt() > 0 && !std::mem::replace(&mut part.noted, true) {
                let mut settled = part.acknowledged.clone();
                settled.extend(&part.rejected);
                let rows = settled.complement(part.rows);
                self.add_late(at, &rows, until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::RecordedWorkspace;
    use super::*;
    use crate::model::{DeliveryMethod, RunId};

    #[test]
    fn a_name_without_an_answer_is_in_doubt_until_the_current_name_is_sent_again() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let workspace = RecordedWorkspace {
            connection: String::new(),
            endpoint: String::new(),
            partner: String::new(),
            delivery: DeliveryMethod::CohortImport,
        };
        let mut known = Membership::first(&RunId::new(at(0), 1), at(0), workspace);
        assert!(known.mark_name_sent("A"));
        known.mark_name_answered();
        known.record_name("A", at(0), at(10));
        assert!(known.late_names.is_empty() && !known.is_name_in_doubt(at(100)));
        // The run was killed, so the name is in doubt.
        assert!(known.mark_name_sent("B"));
        assert!(!known.mark_name_sent("B"), "it is noted once");
        assert!(known.is_name_in_doubt(at(1)));
        // The next run sends the old name again, and Braze accepts it.
        assert!(known.mark_name_sent("A"));
        known.mark_name_answered();
        known.record_name("A", at(2), at(12));
        assert_eq!((known.is_name_in_doubt(at(11)), known.resend_at()), (false, Some(at(12))));
        // The late request can no longer arrive, but may have arrived before.
        assert!(known.is_name_in_doubt(at(12)));
        known.mark_name_sent("A");
        known.mark_name_answered();
        assert!(known.is_name_in_doubt(at(12)), "Braze rejected it");
        known.mark_name_sent("A");
        known.mark_name_answered();
        known.record_name("A", at(12), at(22));
        assert!(known.late_names.is_empty());
        // A retry with the same name was answered. The unanswered attempt matters once the name changes.
        known.mark_name_sent("C");
        known.record_name("C", at(30), at(41));
        assert!(!known.is_name_in_doubt(at(50)));
        known.mark_name_sent("D");
        known.mark_name_answered();
        known.record_name("D", at(35), at(45));
        assert_eq!((known.is_name_in_doubt(at(40)), known.is_name_in_doubt(at(41))), (false, true));
        assert!(known.remove_expired_late(at(41)) && !known.remove_expired_late(at(41)));
    }
}
