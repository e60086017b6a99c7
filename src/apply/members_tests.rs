//! Tests of an apply over a state in a temporary folder and a destination in memory.

use std::time::Duration;

use tempfile::TempDir;

use super::context::{ApplyContext, ApplyOutcome};
use super::fake_destination::{DestinationFault, FakeDestination, now};
use super::health::ConnectionHealth;
use super::members::apply;
use super::stop::{ApplyStop, Interrupt, StopCause};
use crate::connector::destination::{RequestFailure, RequestOutcome, RowError};
use crate::model::{
    ChangeOp, Clock, CohortId, DeliveryMethod, Identifier, IdentifierKind, MemberKey, NoProgress, RunId,
};
use crate::plan::{CohortNaming, DiffTally, GuardPolicy, MembershipPlan, Sides, guard};
use crate::retry::RetryPolicy;
use crate::state::{
    Holder, Journal, Location, Membership, RecordedWorkspace, RejectLog, SourceMark, Spool, StateWriter,
};

struct Fixture {
    folder: TempDir,
    state: StateWriter,
    journal: Journal,
    run: RunId,
    rejects: RejectLog,
    cohort: CohortId,
    health: ConnectionHealth,
    interrupt: Interrupt,
}

impl Fixture {
    fn new() -> (Self, FakeDestination) {
        let folder = tempfile::tempdir().unwrap();
        let holder = Holder { host: "test".to_owned(), process: 1, since: now(), renewal: None };
        let location = Location::Folder(folder.path().join("state"));
        let state = StateWriter::open(&location, &holder, Clock::new(now), 7).unwrap();
        let run = RunId::new(now(), 1);
        let (switch, interrupt) = Interrupt::new();
        let (journal, rejects) = (state.journal(&run, now()).unwrap(), state.rejects(&run, "carts"));
        let (cohort, health) = (CohortId::new("carts").unwrap(), ConnectionHealth::default());
        let fixture = Self { folder, state, journal, run, rejects, cohort, health, interrupt };
        (fixture, FakeDestination::new(switch))
    }

    fn membership(&self) -> Membership {
        let workspace = RecordedWorkspace {
            connection: "braze".to_owned(),
            endpoint: "test".to_owned(),
            partner: "partner".to_owned(),
            delivery: DeliveryMethod::CohortImport,
        };
        let recorded = self.state.reader().version(&self.cohort).unwrap();
        recorded.unwrap_or_else(|| Membership::first(&self.run, now(), workspace))
    }

    /// Sorted identifiers in a spool.
    fn spool(&self, users: &[String]) -> Spool {
        let pack = |user: &String| {
            let (mut packed, kind) = (Vec::new(), IdentifierKind::ExternalId);
            Identifier { kind, label: "", value: user }.pack_into(&mut packed);
            packed
        };
        let mut packed: Vec<Vec<u8>> = users.iter().map(pack).collect();
        packed.sort_by_key(|packed| MemberKey::of(self.state.reader().seed(), packed));
        let mut spool = Spool::default();
        packed.iter().for_each(|packed| spool.push(packed).unwrap());
        spool
    }

    fn plan(&self, removes: &[String], adds: &[String], tally: DiffTally) -> MembershipPlan<Spool> {
        let membership = self.membership();
        let naming = membership.name.is_none().then(|| CohortNaming::Create { name: "Carts".to_owned() });
        MembershipPlan {
            cohort: self.cohort.clone(),
            base: membership.number,
            naming,
            tally: DiffTally { members: membership.members.unwrap_or_default(), unchanged: 1, ..tally },
            source: None,
            samples: Sides::default(),
            sums: Sides::default(),
            mixed: false,
            delivery: DeliveryMethod::CohortImport,
            next_delivery: None,
            target: String::new(),
            settles: None,
            changes: Sides { removes: self.spool(removes), adds: self.spool(adds) },
            batch_len_max: 8,
            requests_per_hour: 1_000,
        }
    }

    fn additions(&self, adds: &[String]) -> MembershipPlan<Spool> {
        self.plan(&[], adds, DiffTally { added: adds.len() as u64, ..DiffTally::default() })
    }

    async fn apply(&mut self, plan: MembershipPlan<Spool>, destination: &FakeDestination) -> ApplyOutcome {
        let (membership, mut policy) = (self.membership(), GuardPolicy::default());
        policy.limits.from_members = u64::MAX;
        let verdict = guard(plan, &policy);
        assert_eq!(verdict.violations, []);
        let moment = Duration::from_millis(1);
        let context = ApplyContext {
            health: &self.health,
            retry: RetryPolicy { attempts: 3, first_wait: moment, longest_wait: moment },
            settle_again_after: Duration::from_secs(3600),
            state: &self.state,
            journal: &self.journal,
            run: &self.run,
            clock: Clock::new(now),
            progress: &NoProgress,
            interrupt: &self.interrupt,
        };
        let mark = SourceMark { fingerprint: "source".to_owned(), matched: Default::default(), rejected: 0 };
        let outcome =
            apply(verdict.approved, membership, Some(mark), &mut self.rejects, destination, context).await;
        if outcome.requests() > 0 {
            assert_eq!(self.membership().in_doubt, outcome.in_doubt);
        }
        outcome
    }
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|user| format!("user-{user}")).collect()
}

fn unavailable() -> DestinationFault {
    DestinationFault::Instead(RequestOutcome::Failed(RequestFailure::Unavailable(503)))
}

fn no_answer_after_it_was_done() -> DestinationFault {
    DestinationFault::After(RequestOutcome::Failed(RequestFailure::NoAnswer("timed out".to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_changes_are_recorded() {
    let (mut fixture, destination) = Fixture::new();
    let outcome = fixture.apply(fixture.additions(&users(20)), &destination).await;
    assert!(outcome.is_complete() && outcome.added == 20, "{outcome:?}");
    assert_eq!(destination.content().requests.len(), 1 + 3, "the name, and batches of eight");
    assert_eq!(destination.content().name.as_deref(), Some("Carts"));
    assert_eq!(destination.content().members.len(), 20);
    let membership = fixture.membership();
    assert_eq!((membership.name.as_deref(), membership.members), (Some("Carts"), Some(20)));
    assert!(membership.source.is_some() && membership.late.is_empty());

    let removed = DiffTally { removed: 5, ..DiffTally::default() };
    let outcome = fixture.apply(fixture.plan(&users(5), &[], removed), &destination).await;
    assert!(outcome.is_complete() && outcome.removed == 5, "{outcome:?}");
    assert_eq!((destination.content().members.len(), fixture.membership().members), (15, Some(15)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_identifier_is_isolated_by_bisection() {
    let (mut fixture, mut destination) = Fixture::new();
    destination.bad.insert("user-5");
    let outcome = fixture.apply(fixture.additions(&users(16)), &destination).await;
    assert_eq!((outcome.added, outcome.rejected, outcome.in_doubt), (15, 1, 0), "{outcome:?}");
    assert_eq!(outcome.requests_by_outcome["bad_request"], 4, "eight, four, two, one");
    assert_eq!(destination.content().members.len(), 15);
    assert!(fixture.membership().source.is_none(), "the source must be read again");
    let file = fixture.rejects.finish().unwrap().unwrap();
    let line = std::fs::read_to_string(fixture.folder.path().join("state").join(file)).unwrap();
    assert!(line.contains("external_id user-5") && line.lines().count() == 1, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_before_any_accepted_identifier_are_not_final() {
    let (mut fixture, mut destination) = Fixture::new();
    destination.bad = ["user-0", "user-1", "user-2"].into();
    let outcome = fixture.apply(fixture.additions(&users(3)), &destination).await;
    assert_eq!((outcome.rejected, outcome.in_doubt), (0, 3), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_bounded() {
    let (mut fixture, destination) = Fixture::new();
    destination.script([unavailable(), unavailable()]);
    let outcome = fixture.apply(fixture.additions(&users(3)), &destination).await;
    assert!(outcome.is_complete() && outcome.requests_by_outcome["unavailable"] == 2, "{outcome:?}");

    let (mut fixture, destination) = Fixture::new();
    destination.script([unavailable(), unavailable(), unavailable()]);
    let outcome = fixture.apply(fixture.additions(&users(3)), &destination).await;
    assert_eq!(outcome.stop_reason, Some(ApplyStop::Unavailable("status 503".to_owned())));
    assert_eq!((outcome.requests(), outcome.in_doubt), (3, 3), "all members are in doubt, none is lost");
    let outcome = fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
    assert_eq!(outcome.requests(), 0, "other cohorts of the endpoint send nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_without_a_response_stay_in_doubt_until_the_next_apply_settles_them() {
    let (mut fixture, destination) = Fixture::new();
    fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
    destination.script((0..3).map(|_| no_answer_after_it_was_done()));
    let outcome = fixture.apply(fixture.additions(&users(10)), &destination).await;
    assert_eq!((outcome.added, outcome.in_doubt), (0, 10), "{outcome:?}");
    let late: u64 = fixture.membership().late.iter().map(|late| late.rows.len()).sum();
    assert_eq!(late, 8, "only the batch that was sent can be handled late");

    fixture.health = ConnectionHealth::default();
    let tally = DiffTally { doubt_added: 10, ..DiffTally::default() };
    let outcome = fixture.apply(fixture.plan(&[], &users(10), tally), &destination).await;
    assert!(outcome.is_complete() && outcome.added == 10, "{outcome:?}");
    assert_eq!((destination.content().members.len(), fixture.membership().members), (10, Some(10)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_between_batches_keeps_the_accepted_members() {
    let (mut fixture, destination) = Fixture::new();
    fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
    destination.script([DestinationFault::Interrupt]);
    let outcome = fixture.apply(fixture.additions(&users(20)), &destination).await;
    assert_eq!(outcome.stop_reason, Some(ApplyStop::Local(StopCause::Interrupted)));
    assert_eq!((outcome.added, outcome.in_doubt, fixture.membership().members), (8, 12, Some(8)));
    assert!(fixture.membership().late.is_empty(), "the response of each request is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_before_the_first_request_leaves_nothing_in_doubt() {
    let (mut fixture, destination) = Fixture::new();
    destination.interrupt.send_replace(true);
    let outcome = fixture.apply(fixture.additions(&users(20)), &destination).await;
    assert_eq!((outcome.requests(), outcome.in_doubt), (0, 0));
    assert!(fixture.membership().parts.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_response_and_a_distant_reset_stop_the_endpoint() {
    let later = now() + Duration::from_secs(60);
    for (response, in_doubt) in [
        (RequestOutcome::Foreign(200, "an empty body"), 3),
        (RequestOutcome::Failed(RequestFailure::Unauthorized("no".to_owned())), 0),
        (RequestOutcome::Failed(RequestFailure::RateLimited(Some(later))), 0),
        (RequestOutcome::Failed(RequestFailure::Unexpected(404, "no".to_owned())), 0),
    ] {
        let (mut fixture, destination) = Fixture::new();
        fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
        destination.script([DestinationFault::Instead(response.clone())]);
        let outcome = fixture.apply(fixture.additions(&users(3)), &destination).await;
        assert_eq!((outcome.requests(), outcome.in_doubt), (1, in_doubt), "{response:?}");
        let is_late = !fixture.membership().late.is_empty();
        assert_eq!(is_late, response.may_be_handled_later(), "{response:?}");
        let again = fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
        assert_eq!(again.stop_reason, None, "a plan without changes needs no endpoint");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_leaves_only_members_of_earlier_requests_in_doubt() {
    let rejection =
        || DestinationFault::Instead(RequestOutcome::Failed(RequestFailure::Unauthorized("no".to_owned())));
    let unknown = || DestinationFault::Instead(RequestOutcome::Foreign(200, "an empty body"));
    let (mut fixture, destination) = Fixture::new();
    fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
    destination.script([unknown()]);
    assert_eq!(fixture.apply(fixture.additions(&users(3)), &destination).await.in_doubt, 3);
    fixture.health = ConnectionHealth::default();
    destination.script([rejection()]);
    let tally = DiffTally { doubt_added: 3, ..DiffTally::default() };
    fixture.apply(fixture.plan(&[], &users(3), tally), &destination).await;
    assert_eq!(fixture.membership().in_doubt, 3, "the earlier request may have been done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_after_an_accepted_batch_keeps_the_accepted_members() {
    let (mut fixture, destination) = Fixture::new();
    fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
    destination.script([
        DestinationFault::After(RequestOutcome::Accepted),
        DestinationFault::Instead(RequestOutcome::Failed(RequestFailure::Unauthorized("no".to_owned()))),
    ]);
    let outcome = fixture.apply(fixture.additions(&users(12)), &destination).await;
    assert_eq!((outcome.added, outcome.in_doubt, fixture.membership().members), (8, 4, Some(8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_with_an_unknown_outcome_are_not_sent_twice() {
    let rows = vec![RowError { member: 0, message: "too large".to_owned(), is_transient: false }];
    let other = Some("something failed".to_owned());
    let errors = RequestOutcome::AcceptedWithErrors { rows, other, others_accepted: false };
    for (is_resend_free, requests, in_doubt) in [(true, 2, 0), (false, 1, 3)] {
        let (mut fixture, mut destination) = Fixture::new();
        fixture.apply(fixture.plan(&[], &[], DiffTally::default()), &destination).await;
        destination.is_resend_free = is_resend_free;
        destination.script([DestinationFault::After(errors.clone())]);
        let outcome = fixture.apply(fixture.additions(&users(4)), &destination).await;
        assert_eq!((outcome.requests(), outcome.rejected, outcome.in_doubt), (requests, 1, in_doubt));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_wait_for_unsettled_removals_of_people_with_two_identifiers() {
    let (mut fixture, mut destination) = Fixture::new();
    fixture.apply(fixture.additions(&users(8)), &destination).await;
    destination.bad.insert("user-0");
    let tally = DiffTally { removed: 2, added: 1, ..DiffTally::default() };
    let mut plan = fixture.plan(&users(2), &["user-9".to_owned()], tally);
    plan.mixed = true;
    let outcome = fixture.apply(plan, &destination).await;
    assert_eq!(outcome.stop_reason, Some(ApplyStop::Unsettled));
    assert_eq!((outcome.removed, outcome.added, outcome.in_doubt), (1, 0, 1), "{outcome:?}");
    assert!(destination.content().requests.iter().skip(2).all(|(op, _)| *op == Some(ChangeOp::Remove)));
}
