//! One answer from the findings about a user in a cohort. Pure.

use super::cohort_facts::{CohortFacts, MissingProfile, RecordedIdentifier};
use super::reject_search::RejectedRow;
use super::source_rows::{SourceFinding, SourceRow, SourceRowOutcome};
use crate::model::{ChangeOp, MemberStanding, Timestamp};

/// Whether the user is in the cohort.
#[derive(Clone, Debug)]
pub enum Verdict<'a> {
    /// Braze has accepted the user under these identifiers.
    Member {
        /// The identifiers.
        recorded: Vec<&'a RecordedIdentifier>,
        /// Why the next run removes the user: the source was read, and has no row that matches the user.
        leaving: Option<Absence<'a>>,
    },
    /// The user was sent, and Braze has no profile.
    NoProfile(MissingProfile),
    /// A request has no answer: the user may be a member or not.
    InDoubt {
        /// The identifier.
        recorded: &'a RecordedIdentifier,
        /// Until when a late request may still change the member.
        late_until: Option<Timestamp>,
        /// Braze has rejected the identifier since, with its message, if it is kept.
        reject: Option<&'a RejectedRow>,
    },
    /// Braze has rejected the identifier.
    RejectedByBraze {
        /// The identifier.
        recorded: &'a RecordedIdentifier,
        /// The reject with Braze's message, if it is kept.
        reject: Option<&'a RejectedRow>,
    },
    /// The user is not a member.
    NotMember(Absence<'a>),
}

/// Why a user is not a member.
#[derive(Clone, Debug)]
pub enum Absence<'a> {
    /// The source has a row that the next run sends, unless the guard blocks it.
    NotSent(&'a SourceRow),
    /// A row of the user was rejected when the source was read just now.
    SourceRowRejected(&'a SourceRow),
    /// A row names the user, and an earlier rule of the cohort matches another user.
    OtherUser(&'a SourceRow),
    /// A row of the user was rejected in a run.
    RowRejected(&'a RejectedRow),
    /// Braze has accepted the removal.
    Removed(&'a RecordedIdentifier),
    /// The cohort was emptied, and its source was not read.
    Emptied,
    /// Nothing was sent to the cohort yet.
    NothingSent,
    /// The source was read and has no row of the user.
    NotInSource,
    /// No file of the state names the user.
    NotRecorded,
}

impl Verdict<'_> {
    /// The verdict as a stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Member { .. } => "member",
            Self::NoProfile(_) => "no_profile",
            Self::InDoubt { .. } => "in_doubt",
            Self::RejectedByBraze { .. } => "rejected_by_braze",
            Self::NotMember(absence) => match absence {
                Absence::NotSent(_) => "not_sent",
                Absence::SourceRowRejected(_) | Absence::RowRejected(_) => "row_rejected",
                Absence::OtherUser(_) => "other_user",
                Absence::Removed(_) => "removed",
                Absence::Emptied => "emptied",
                Absence::NothingSent => "nothing_sent",
                Absence::NotInSource => "not_in_source",
                Absence::NotRecorded => "not_recorded",
            },
        }
    }
}

/// Returns the answer.
#[must_use]
pub fn verdict(facts: &CohortFacts) -> Verdict<'_> {
    let having = |wanted: &[MemberStanding]| -> Vec<&RecordedIdentifier> {
        let has = |found: &&RecordedIdentifier| found.member.standing.is_some_and(|is| wanted.contains(&is));
        facts.recorded.iter().filter(has).collect()
    };
    let source = facts.source.as_ref().and_then(|source| source.as_ref().ok());
    let sent = having(&[MemberStanding::Member]);
    let members: Vec<_> = sent.iter().copied().filter(|found| found.missing_profile.is_none()).collect();
    if !members.is_empty() {
        let leaving = source.filter(|source| source.matched().is_none());
        let leaving = leaving.map(|source| absence(facts, Some(source)));
        return Verdict::Member { recorded: members, leaving };
    }
    // A member without a profile is not in doubt: Braze drops it. Another identifier of the user may be.
    let late_add = |found: &&RecordedIdentifier| {
        found.member.standing != Some(MemberStanding::Member)
            && (found.member.late.contains_key(&ChangeOp::Add) || found.member.may_be_member())
    };
    let of_braze = facts.rejects.iter().find(|reject| reject.is_of_braze());
    let in_doubt = having(&[MemberStanding::InDoubt, MemberStanding::Disputed]).into_iter().next();
    if let Some(recorded) = in_doubt.or_else(|| facts.recorded.iter().find(late_add)) {
        let late_until = recorded.member.late.values().max().copied();
        let is_disputed = recorded.member.standing == Some(MemberStanding::Disputed);
        return Verdict::InDoubt { recorded, late_until, reject: of_braze.filter(|_| is_disputed) };
    }
    if let Some(missing) = sent.iter().find_map(|found| found.missing_profile) {
        return Verdict::NoProfile(missing);
    }
    if let Some(recorded) = having(&[MemberStanding::Rejected]).into_iter().next() {
        return Verdict::RejectedByBraze { recorded, reject: of_braze };
    }
    Verdict::NotMember(absence(facts, source))
}

fn absence<'a>(facts: &'a CohortFacts, source: Option<&'a SourceFinding>) -> Absence<'a> {
    if let Some(source) = source {
        return match (source.matched(), source.samples.first()) {
            (Some(row), _) => Absence::NotSent(row),
            (None, Some(row)) if matches!(row.outcome, SourceRowOutcome::OtherUser(_)) => {
                Absence::OtherUser(row)
            }
            (None, Some(row)) => Absence::SourceRowRejected(row),
            (None, None) => Absence::NotInSource,
        };
    }
    if facts.is_emptied {
        return Absence::Emptied;
    }
    if let Some(reject) = facts.rejects.iter().find(|reject| reject.is_of_source()) {
        return Absence::RowRejected(reject);
    }
    match facts.recorded.iter().find(|found| found.member.standing.is_none()) {
        Some(removed) => Absence::Removed(removed),
        None if !facts.has_version => Absence::NothingSent,
        None => Absence::NotRecorded,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::cohort_facts::FoundAs;
    use super::*;
    use crate::state::FoundMember;

    fn recorded(standing: Option<MemberStanding>, has_late_add: bool) -> RecordedIdentifier {
        let until = Timestamp::UNIX_EPOCH;
        let mut member = FoundMember::default();
        member.standing = standing;
        member.late = has_late_add.then_some((ChangeOp::Add, until)).into_iter().collect::<BTreeMap<_, _>>();
        RecordedIdentifier { packed: Vec::new(), found_as: FoundAs::Asked, member, missing_profile: None }
    }

    #[test]
    fn a_doubt_about_one_identifier_is_stronger_than_a_missing_profile_of_another() {
        let (since, checked_at, exists_now) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH, false);
        let missing_profile = Some(MissingProfile { since, checked_at, exists_now });
        let missing = |has_late_add| RecordedIdentifier {
            missing_profile,
            ..recorded(Some(MemberStanding::Member), has_late_add)
        };
        for (recorded, code) in [
            (vec![missing(false)], "no_profile"),
            (vec![missing(true)], "no_profile"),
            (vec![missing(false), recorded(Some(MemberStanding::InDoubt), false)], "in_doubt"),
            (vec![missing(false), recorded(Some(MemberStanding::Disputed), false)], "in_doubt"),
            (vec![missing(false), recorded(None, true)], "in_doubt"),
            (vec![missing(false), recorded(Some(MemberStanding::Rejected), false)], "no_profile"),
            (vec![missing(false), recorded(Some(MemberStanding::Member), false)], "member"),
        ] {
            let facts = CohortFacts { recorded, ..CohortFacts::default() };
            assert_eq!(verdict(&facts).code(), code, "{facts:?}");
        }
    }
}
