//! People whom Braze does not know when they are sent. It takes them in without a word and forgets them, so whoever
//! is declared with `preflight:` is asked for: before they are sent, and again after a while.
//!
//! # Expected flow
//! Braze is asked for those who enter before they are sent, and for those whom it did not know once `retry_unknown`
//! has passed. What it says is written down. Whom it knows by then is added once more by the next plan, which shows it.
//!
//! # Caveats
//! An answer is as old as the question. When Braze cannot be asked, that is told, members are sent all the same, and
//! the next run asks for them.

use std::collections::{BTreeMap, BTreeSet};

use super::report::CohortPlan;
use super::{ApplyResources, PlanInputs};
use crate::apply::ApplyOutcome;
use crate::config::{CohortConfig, PreflightConfig};
use crate::connector::braze::BrazeClient;
use crate::connector::braze::rest::IDS_MAX;
use crate::model::{ChangeOp, CohortId, Identifier, IdentifierKind, MemberKey, Timestamp};
use crate::plan::Approved;
use crate::state::{CheckTime, OutboxUser, Spool, StateError, UnknownUser, UnknownUsers};

/// So many are asked for in a run, unless a sample is larger, and so many are remembered.
const STRANGERS_MAX: usize = 100_000;

/// What a plan knows of people whom Braze did not know.
#[derive(Clone, Debug)]
pub struct PreflightPlan {
    settings: PreflightConfig,
    list: UnknownUsers,
    /// The list is not what is written down.
    is_changed: bool,
    /// Whom Braze knows now: they are sent again.
    pub known: u64,
    /// Whom it is asked for again.
    pub due: u64,
    /// Whom it does not know.
    pub unknown: u64,
}

/// What Braze said.
#[derive(Clone, Debug, Default)]
pub struct PreflightReport {
    /// For how many of those who enter it was asked.
    pub asked: u64,
    /// Whom of them it does not know.
    pub unknown: u64,
    /// Whom it knows who were unknown before: the next run sends them again.
    pub known_now: u64,
    /// Whom it still does not know, in all.
    pub waiting: u64,
    /// Why it could not be asked.
    pub trouble: Option<String>,
    /// There were too many to ask for, or to remember.
    pub too_many: u64,
}

impl PreflightPlan {
    /// Whether there is nobody to ask for, and nothing to write down.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.due == 0 && !self.is_changed
    }
}

/// Whom Braze knows now, by the keys of the record.
pub(super) fn known(
    cohort: &CohortConfig,
    inputs: PlanInputs<'_>,
) -> Result<BTreeSet<MemberKey>, StateError> {
    if cohort.preflight.is_none() {
        return Ok(BTreeSet::new());
    }
    let list = inputs.state.strangers(&cohort.id)?;
    let key = |stranger: &UnknownUser| {
        let mut packed = Vec::new();
        stranger.who.identifier().pack_into(&mut packed);
        MemberKey::of(inputs.state.seed(), &packed)
    };
    Ok(list.people.iter().filter(|stranger| stranger.is_known).map(key).collect())
}

/// What is known of a cohort's strangers, beside its plan.
pub(super) fn plan(
    cohort: &CohortConfig,
    mut plan: CohortPlan,
    inputs: PlanInputs<'_>,
) -> Result<CohortPlan, StateError> {
    let Some(settings) = cohort.preflight else { return Ok(plan) };
    let (mut list, now) = (inputs.state.strangers(&cohort.id)?, inputs.clock.now());
    let before = list.people.len();
    if !list.people.is_empty() && plan.verdict.approved.changes(ChangeOp::Remove) > 0 {
        let mut gone = BTreeSet::new();
        let wanted: BTreeSet<OutboxUser> = list.people.iter().map(|stranger| stranger.who.clone()).collect();
        plan.verdict.approved.list_mut(ChangeOp::Remove).for_each(|packed| {
            let who = Identifier::unpack(packed).ok().map(|(who, _)| OutboxUser::from(who));
            gone.extend(who.filter(|who| wanted.contains(who)));
            Ok(())
        })?;
        list.people.retain(|stranger| !gone.contains(&stranger.who));
    }
    let count = |is: &dyn Fn(&UnknownUser) -> bool| list.people.iter().filter(|one| is(one)).count() as u64;
    plan.strangers = Some(PreflightPlan {
        settings,
        is_changed: list.people.len() != before,
        known: count(&|stranger| stranger.is_known),
        due: count(&|stranger| is_due(stranger, settings, now)),
        unknown: count(&|stranger| !stranger.is_known),
        list,
    });
    Ok(plan)
}

fn is_due(stranger: &UnknownUser, settings: PreflightConfig, now: Timestamp) -> bool {
    let wait = jiff::SignedDuration::try_from(settings.retry_unknown).unwrap_or(jiff::SignedDuration::MAX);
    !stranger.is_known && now.duration_since(stranger.asked.0) >= wait
}

/// Whom Braze knows and whom not, as far as it has said so.
#[derive(Default)]
struct PreflightAnswers {
    known: BTreeMap<OutboxUser, bool>,
    trouble: Option<String>,
}

impl PreflightAnswers {
    fn take(&mut self, asked: &[Identifier<'_>], unknown: &[Identifier<'_>]) {
        self.known.extend(asked.iter().map(|who| (OutboxUser::from(*who), !unknown.contains(who))));
    }
}

/// A cohort's strangers while its members are sent.
pub(super) struct PreflightRun<'a> {
    cohort: CohortId,
    plan: PreflightPlan,
    means: &'a ApplyResources,
    /// Whom Braze knows by now, and who are among those that this run sends.
    sent_again: BTreeSet<OutboxUser>,
    pub(super) said: PreflightReport,
}

impl<'a> PreflightRun<'a> {
    /// Asks for those who enter and for those who are due, and writes down what Braze says before anybody is sent.
    pub(super) async fn begin(
        cohort: &CohortId,
        plan: PreflightPlan,
        approved: &mut Approved<Spool>,
        braze: Option<&BrazeClient>,
        means: &'a ApplyResources,
    ) -> Result<Self, StateError> {
        let (sent_again, said) = (BTreeSet::new(), PreflightReport::default());
        let mut asking = Self { cohort: cohort.clone(), plan, means, sent_again, said };
        let entering = asking.entering(approved)?;
        let now = means.clock.now();
        let due =
            asking.plan.list.people.iter().filter(|stranger| is_due(stranger, asking.plan.settings, now));
        let due: Vec<OutboxUser> = due.map(|stranger| stranger.who.clone()).collect();
        let before = asking.plan.list.clone();
        let answers = asking.ask(&entering, &due, braze).await;
        asking.learn(&entering, &due, answers, now);
        if asking.plan.is_changed || asking.plan.list != before {
            let list = &mut asking.plan.list;
            tokio::task::block_in_place(|| means.state.put_strangers(cohort, list))?;
        }
        Ok(asking)
    }

    /// Those who enter, as many as are to be asked for.
    fn entering(&mut self, approved: &mut Approved<Spool>) -> Result<Vec<OutboxUser>, StateError> {
        let mut people = Vec::new();
        if approved.changes(ChangeOp::Add) == 0 {
            return Ok(people);
        }
        let sample = self.plan.settings.sample;
        let most = sample.map_or(STRANGERS_MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let mut too_many = 0;
        let known = self.plan.list.people.iter().filter(|stranger| stranger.is_known);
        let known: BTreeSet<OutboxUser> = known.map(|stranger| stranger.who.clone()).collect();
        approved.list_mut(ChangeOp::Add).for_each(|packed| {
            let Ok((who, _)) = Identifier::unpack(packed) else { return Ok(()) };
            let is_full = people.len() >= most;
            too_many += u64::from(is_full && sample.is_none() && who.kind != IdentifierKind::DeviceId);
            if who.kind == IdentifierKind::DeviceId || (known.is_empty() && is_full) {
                return Ok(());
            }
            let who = OutboxUser::from(who);
            if known.contains(&who) {
                self.sent_again.insert(who);
            } else if !is_full {
                people.push(who);
            }
            Ok(())
        })?;
        self.said.too_many = too_many;
        Ok(people)
    }

    async fn ask(
        &self,
        entering: &[OutboxUser],
        due: &[OutboxUser],
        braze: Option<&BrazeClient>,
    ) -> PreflightAnswers {
        let mut answers = PreflightAnswers::default();
        let people: Vec<Identifier<'_>> = due.iter().chain(entering).map(OutboxUser::identifier).collect();
        let rest = braze.and_then(BrazeClient::rest);
        for kind in [IdentifierKind::ExternalId, IdentifierKind::Alias] {
            let these: Vec<Identifier<'_>> = people.iter().filter(|who| who.kind == kind).copied().collect();
            for some in these.chunks(IDS_MAX) {
                let Some(rest) = rest else {
                    answers.trouble = Some("there is no REST API key".to_owned());
                    return answers;
                };
                match rest.unknown_users(kind, some).await {
                    Ok(unknown) => answers.take(some, &unknown),
                    Err(error) => {
                        answers.trouble = Some(error.to_string());
                        return answers;
                    }
                }
            }
        }
        answers
    }

    /// For whom there is no answer, it is asked with the next run.
    fn learn(
        &mut self,
        entering: &[OutboxUser],
        due: &[OutboxUser],
        answers: PreflightAnswers,
        now: Timestamp,
    ) {
        let mut list: BTreeMap<OutboxUser, UnknownUser> =
            self.plan.list.people.drain(..).map(|stranger| (stranger.who.clone(), stranger)).collect();
        for who in due {
            if let (Some(stranger), Some(is_known)) = (list.get_mut(who), answers.known.get(who)) {
                (stranger.asked, stranger.is_known) = (CheckTime(now), *is_known);
                self.said.known_now += u64::from(*is_known);
            }
        }
        for who in entering {
            let is_known = answers.known.get(who).copied();
            self.said.asked += u64::from(is_known.is_some());
            self.said.unknown += u64::from(is_known == Some(false));
            let asked = if is_known.is_some() { now } else { Timestamp::UNIX_EPOCH };
            let stranger = UnknownUser {
                who: who.clone(),
                since: CheckTime(now),
                asked: CheckTime(asked),
                is_known: false,
            };
            match is_known {
                Some(true) => drop(list.remove(who)),
                _ if list.len() < STRANGERS_MAX => drop(list.insert(who.clone(), stranger)),
                _ => self.said.too_many += 1,
            }
        }
        self.said.waiting = list.values().filter(|stranger| !stranger.is_known).count() as u64;
        self.said.trouble = answers.trouble;
        self.plan.list.people = list.into_values().collect();
    }

    /// Members are sent. Unknown users that were sent again and taken are unknown no more. What Braze said is returned
    /// also when that cannot be recorded.
    pub(super) fn end(mut self, outcome: &ApplyOutcome) -> (PreflightReport, Result<(), StateError>) {
        if !outcome.is_whole() || self.sent_again.is_empty() {
            return (self.said, Ok(()));
        }
        let sent_again = &self.sent_again;
        self.plan.list.people.retain(|stranger| !sent_again.contains(&stranger.who));
        let (cohort, list) = (&self.cohort, &mut self.plan.list);
        let put = tokio::task::block_in_place(|| self.means.state.put_strangers(cohort, list));
        (self.said, put)
    }
}
