//! The preflight check of a cohort during an apply.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{PreflightPlan, is_due};
use crate::apply::ApplyOutcome;
use crate::blocking;
use crate::connector::destination::{LOOKUP_MAX, ProfileLookup};
use crate::model::{ChangeOp, Clock, CohortId, Identifier, IdentifierKind, Timestamp};
use crate::plan::ApprovedPlan;
use crate::state::{CheckTime, OutboxUser, Spool, StateError, StateWriter, UnknownUser, UnknownUsers};

/// Users per run that Braze is asked for unless `sample` is larger, and unknown users that are recorded.
const USERS_MAX: usize = 100_000;

/// The answers of Braze.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreflightReport {
    /// Entering users that Braze was asked for.
    pub looked_up: u64,
    /// Entering users that Braze does not know.
    pub unknown: u64,
    /// Users that were unknown and are known now. The next run adds them again.
    pub known_now: u64,
    /// All users that are still unknown.
    pub waiting: u64,
    /// Why Braze could not be asked.
    pub error: Option<String>,
    /// Users beyond the limit: they were not asked for, or not recorded.
    pub too_many: u64,
}

/// The preflight check of a cohort while its members are sent.
pub(in crate::reconcile) struct PreflightRun<'a> {
    cohort: CohortId,
    plan: PreflightPlan,
    state: &'a StateWriter,
    /// Unknown users that are known by now and that this run adds again.
    added_again: BTreeSet<OutboxUser>,
    report: PreflightReport,
}

impl<'a> PreflightRun<'a> {
    /// Asks Braze for the entering users and the due unknown users. Records the answers before members are sent.
    pub(in crate::reconcile) async fn begin(
        cohort: &CohortId,
        plan: PreflightPlan,
        approved: &mut ApprovedPlan<Spool>,
        profiles: Option<&dyn ProfileLookup>,
        (state, clock): (&'a StateWriter, Clock),
    ) -> Result<Self, StateError> {
        let (added_again, report) = (BTreeSet::new(), PreflightReport::default());
        let mut run = Self { cohort: cohort.clone(), plan, state, added_again, report };
        let entering = run.entering(approved)?;
        let now = clock.now();
        let due = run.plan.list.users.iter().filter(|user| is_due(user, run.plan.settings, now));
        let due: Vec<OutboxUser> = due.map(|user| user.user.clone()).collect();
        let before = run.plan.list.clone();
        let answers = ask(&entering, &due, profiles).await;
        record_answers(&mut run.plan.list, &mut run.report, &entering, &due, answers, now);
        if run.plan.is_changed || run.plan.list != before {
            let list = &mut run.plan.list;
            blocking::in_place(|| state.put_unknown_users(cohort, list))?;
        }
        Ok(run)
    }

    /// The entering users that Braze is asked for, at most `sample` of them. Notes those that are added again.
    fn entering(&mut self, approved: &mut ApprovedPlan<Spool>) -> Result<Vec<OutboxUser>, StateError> {
        let mut users = Vec::new();
        if approved.changes(ChangeOp::Add) == 0 {
            return Ok(users);
        }
        let sample = self.plan.settings.sample;
        let limit = sample.map_or(USERS_MAX, |sample| usize::try_from(sample).unwrap_or(usize::MAX));
        let mut too_many = 0;
        let known = self.plan.list.users.iter().filter(|user| user.has_profile);
        let known: BTreeSet<OutboxUser> = known.map(|user| user.user.clone()).collect();
        approved.list_mut(ChangeOp::Add).for_each(|packed| {
            let Ok((user, _)) = Identifier::unpack(packed) else { return Ok(()) };
            let is_full = users.len() >= limit;
            too_many += u64::from(is_full && sample.is_none() && user.kind != IdentifierKind::DeviceId);
            if user.kind == IdentifierKind::DeviceId || (known.is_empty() && is_full) {
                return Ok(());
            }
            let user = OutboxUser::from(user);
            if known.contains(&user) {
                self.added_again.insert(user);
            } else if !is_full {
                users.push(user);
            }
            Ok(())
        })?;
        self.report.too_many = too_many;
        Ok(users)
    }

    /// Ends the check after members are sent: removes the users from the list that Braze accepted again. The report is
    /// returned also if that cannot be recorded.
    pub(in crate::reconcile) fn end(
        mut self,
        outcome: &ApplyOutcome,
    ) -> (PreflightReport, Result<(), StateError>) {
        if !outcome.is_complete() || self.added_again.is_empty() {
            return (self.report, Ok(()));
        }
        let added_again = &self.added_again;
        self.plan.list.users.retain(|user| !added_again.contains(&user.user));
        let (cohort, list) = (&self.cohort, &mut self.plan.list);
        let recorded = blocking::in_place(|| self.state.put_unknown_users(cohort, list));
        (self.report, recorded)
    }
}

/// Whether Braze knows each user, up to the first error.
#[derive(Default)]
struct PreflightAnswers {
    is_known: BTreeMap<OutboxUser, bool>,
    error: Option<String>,
}

async fn ask(
    entering: &[OutboxUser],
    due: &[OutboxUser],
    profiles: Option<&dyn ProfileLookup>,
) -> PreflightAnswers {
    let mut answers = PreflightAnswers::default();
    let users: Vec<Identifier<'_>> = due.iter().chain(entering).map(OutboxUser::identifier).collect();
    for kind in [IdentifierKind::ExternalId, IdentifierKind::Alias] {
        let of_kind: Vec<Identifier<'_>> = users.iter().filter(|user| user.kind == kind).copied().collect();
        for batch in of_kind.chunks(LOOKUP_MAX) {
            let Some(profiles) = profiles else {
                answers.error = Some("there is no REST API key".to_owned());
                return answers;
            };
            match profiles.unknown_users(kind, batch).await {
                Ok(unknown) => {
                    let known = batch.iter().map(|user| (OutboxUser::from(*user), !unknown.contains(user)));
                    answers.is_known.extend(known);
                }
                Err(error) => {
                    answers.error = Some(error);
                    return answers;
                }
            }
        }
    }
    answers
}

/// Updates the list of unknown users and the report. Users without an answer stay due for the next run.
fn record_answers(
    list: &mut UnknownUsers,
    report: &mut PreflightReport,
    entering: &[OutboxUser],
    due: &[OutboxUser],
    answers: PreflightAnswers,
    now: Timestamp,
) {
    let mut users: BTreeMap<OutboxUser, UnknownUser> =
        list.users.drain(..).map(|user| (user.user.clone(), user)).collect();
    for who in due {
        if let (Some(user), Some(is_known)) = (users.get_mut(who), answers.is_known.get(who)) {
            (user.checked_at, user.has_profile) = (CheckTime(now), *is_known);
            report.known_now += u64::from(*is_known);
        }
    }
    for who in entering {
        let is_known = answers.is_known.get(who).copied();
        report.looked_up += u64::from(is_known.is_some());
        report.unknown += u64::from(is_known == Some(false));
        let asked = if is_known.is_some() { now } else { Timestamp::UNIX_EPOCH };
        let user = UnknownUser {
            user: who.clone(),
            since: CheckTime(now),
            checked_at: CheckTime(asked),
            has_profile: false,
        };
        match is_known {
            Some(true) => drop(users.remove(who)),
            _ if users.len() < USERS_MAX => drop(users.insert(who.clone(), user)),
            _ => report.too_many += 1,
        }
    }
    report.waiting = users.values().filter(|user| !user.has_profile).count() as u64;
    report.error = answers.error;
    list.users = users.into_values().collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: &str) -> OutboxUser {
        Identifier { kind: IdentifierKind::ExternalId, label: "", value }.into()
    }

    fn unknown(value: &str, asked: Timestamp, is_known: bool) -> UnknownUser {
        let since = CheckTime(Timestamp::UNIX_EPOCH);
        UnknownUser { user: id(value), since, checked_at: CheckTime(asked), has_profile: is_known }
    }

    #[test]
    fn known_users_leave_the_list_only_after_they_are_added_again() {
        let now = Timestamp::from_second(60).unwrap();
        let old = Timestamp::UNIX_EPOCH;
        let people = vec![unknown("ada", old, false), unknown("bob", old, false)];
        let mut list = UnknownUsers { users: people, ..UnknownUsers::default() };
        let is_known = BTreeMap::from([(id("ada"), true), (id("bob"), false), (id("new"), true)]);
        let answers = PreflightAnswers { is_known, error: None };
        let mut report = PreflightReport::default();
        record_answers(&mut list, &mut report, &[id("new")], &[id("ada"), id("bob")], answers, now);
        assert_eq!(list.users, [unknown("ada", now, true), unknown("bob", now, false)]);
        assert_eq!(report, PreflightReport { looked_up: 1, known_now: 1, waiting: 1, ..report.clone() });
    }

    #[test]
    fn users_without_an_answer_are_asked_for_in_the_next_run() {
        let now = Timestamp::from_second(60).unwrap();
        let error = Some("timeout".to_owned());
        let answers = PreflightAnswers { is_known: BTreeMap::from([(id("b"), false)]), error: error.clone() };
        let (mut list, mut report) = (UnknownUsers::default(), PreflightReport::default());
        record_answers(&mut list, &mut report, &[id("a"), id("b")], &[], answers, now);
        let asked: Vec<Timestamp> = list.users.iter().map(|user| user.checked_at.0).collect();
        assert_eq!(asked, [Timestamp::UNIX_EPOCH, now]);
        assert_eq!(report, PreflightReport { looked_up: 1, unknown: 1, waiting: 2, error, ..report.clone() });
    }
}
