//! Tests of the stages of one cohort's apply, in their order, over a workspace in memory.

use std::time::Duration;

use super::run_fixture::{FakeWorkspace, RunFixture, advance, alias, device, external, now};
use crate::apply::ApplyStop;
use crate::apply::fake_destination::DestinationFault;
use crate::connector::destination::{RequestFailure, RequestOutcome};
use crate::model::ChangeOp;
use crate::state::{CheckTime, DueTrigger, Membership, Outbox, Transition};

const TRIGGERS: &str = "    on_enter: { campaign: welcome, cool_down: 1s }
    on_exit: { campaign: goodbye, cool_down: 1s }
";
const HOUR: Duration = Duration::from_secs(3600);
const LOST: RequestOutcome = RequestOutcome::Failed(RequestFailure::Unavailable(503));

fn no_lines() -> Vec<String> {
    Vec::new()
}

/// A cohort with one member `ada`, and triggers for later transitions.
fn filled() -> RunFixture {
    let fixture = RunFixture::new(TRIGGERS);
    fixture.record(ChangeOp::Add, &[external("ada")], true);
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stages_run_in_the_order_of_durability() {
    let (fixture, braze) =
        (RunFixture::new(&format!("{TRIGGERS}    preflight: {{}}\n")), FakeWorkspace::new());
    fixture.record(ChangeOp::Add, &[external("ada")], true);
    fixture.source(&["bob,"]);
    let report = fixture.run(&braze).await;
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(braze.take_log(), ["look up bob", "remove ada", "add bob", "welcome bob", "goodbye ada"]);
    assert_eq!((fixture.due(), fixture.plan().is_idle()), (no_lines(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_fill_fires_no_trigger() {
    let (fixture, braze) = (RunFixture::new(TRIGGERS), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,"]);
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["add ada bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_a_response_triggers_once_it_is_settled() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,"]);
    braze.destination.script([DestinationFault::After(LOST)]);
    let report = fixture.run(&braze).await;
    assert_eq!((report.outcome.in_doubt, report.outcome.stop_reason.is_some()), (1, true), "{report:?}");
    assert_eq!((braze.take_log(), fixture.due()), (vec!["add bob".to_owned()], vec!["bob".to_owned()]));
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["add bob", "welcome bob"]);
    advance(2 * HOUR);
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), no_lines(), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_left_before_the_member_was_settled_fires_no_trigger() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,"]);
    braze.destination.script([DestinationFault::After(LOST)]);
    fixture.run(&braze).await;
    fixture.source(&["ada,"]);
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["add bob", "remove bob"]);
    assert_eq!(fixture.due(), no_lines());
}

/// After a crash between the list of due triggers and the membership, users on the list never entered or left.
#[tokio::test(flavor = "multi_thread")]
async fn due_triggers_without_a_transition_are_dropped() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.source(&["ada,"]);
    let due = |transition, user| DueTrigger {
        transition,
        user: external(user).into(),
        at: CheckTime(now()),
        properties: Default::default(),
        omitted: Vec::new(),
    };
    let listed =
        vec![due(Transition::Enter, "bob"), due(Transition::Exit, "ada"), due(Transition::Enter, "ada")];
    let mut outbox = Outbox { due: listed, ..Outbox::default() };
    fixture.state.put_outbox(fixture.id(), &mut outbox).unwrap();
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["welcome ada"], "a settled member");
    assert_eq!(fixture.due(), no_lines());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_without_a_response_is_never_repeated() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,"]);
    braze.trigger_outcomes.lock().unwrap().push_back(LOST);
    let report = fixture.run(&braze).await;
    assert_eq!((report.triggered[0].unanswered.len(), report.is_complete()), (1, false), "{report:?}");
    assert!(report.rejects_file.is_some(), "its user is in the rejects");
    braze.take_log();
    for _ in 0..2 {
        advance(HOUR);
        fixture.run(&braze).await;
        assert_eq!((braze.take_log(), fixture.due()), (no_lines(), no_lines()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_recipient_does_not_delay_the_others() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,", "cyd,"]);
    let bad = || RequestOutcome::Failed(RequestFailure::BadRequest("invalid recipient".to_owned()));
    braze.trigger_outcomes.lock().unwrap().extend([bad(), bad(), RequestOutcome::Accepted]);
    let report = fixture.run(&braze).await;
    let done = &report.triggered[0];
    assert_eq!((done.sent, done.rejected.len(), fixture.due()), (1, 1, no_lines()), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_that_cannot_be_looked_up_do_not_delay_members_and_are_looked_up_again() {
    let (fixture, braze) = (RunFixture::new("    preflight: { retry_unknown: 1h }\n"), FakeWorkspace::new());
    fixture.source(&["ada,", "bob,"]);
    *braze.lookup_error.lock().unwrap() = Some("timed out".to_owned());
    let report = fixture.run(&braze).await;
    assert_eq!(report.preflight_report.unwrap().error.as_deref(), Some("timed out"));
    assert_eq!(braze.take_log(), ["look up ada bob", "add ada bob"]);
    *braze.lookup_error.lock().unwrap() = None;
    braze.without_profile.lock().unwrap().insert("bob".to_owned());
    let report = fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["look up ada bob"], "nothing is known about them");
    assert_eq!(report.preflight_report.unwrap().waiting, 1);
    let expected = [("ada".to_owned(), true), ("bob".to_owned(), false)];
    assert_eq!(fixture.unknown_users(), expected);
    // `ada` may have been unknown when it was sent, so it is sent again. `bob` waits for his next check.
    fixture.run(&braze).await;
    assert_eq!(
        (braze.take_log(), fixture.unknown_users()),
        (vec!["add ada".to_owned()], expected[1..].to_vec())
    );
    advance(2 * HOUR);
    braze.without_profile.lock().unwrap().clear();
    fixture.run(&braze).await;
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["look up bob", "add bob"]);
    assert_eq!(fixture.unknown_users(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_user_stays_on_the_list_until_the_member_is_accepted_again() {
    let (fixture, braze) = (RunFixture::new("    preflight: { retry_unknown: 1h }\n"), FakeWorkspace::new());
    fixture.source(&["ada,"]);
    braze.without_profile.lock().unwrap().insert("ada".to_owned());
    fixture.run(&braze).await;
    braze.without_profile.lock().unwrap().clear();
    advance(2 * HOUR);
    fixture.run(&braze).await;
    braze.destination.script([DestinationFault::Instead(LOST)]);
    fixture.run(&braze).await;
    assert_eq!(fixture.unknown_users(), [("ada".to_owned(), true)], "its request has no response");
    braze.take_log();
    fixture.run(&braze).await;
    assert_eq!((braze.take_log(), fixture.unknown_users()), (vec!["add ada".to_owned()], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_with_the_keys_of_another_workspace() {
    let mismatch = || {
        let connection = "braze".to_owned();
        Some(ApplyStop::OtherWorkspace { connection, key: "REST API key" })
    };
    let (fixture, braze) = (RunFixture::new("    preflight: { retry_unknown: 1h }\n"), FakeWorkspace::new());
    fixture.source(&["ada,"]);
    let report = fixture.apply_unless(mismatch(), fixture.plan(), &braze).await;
    assert_eq!((report.outcome.stop_reason, braze.take_log()), (mismatch(), no_lines()));
    // The same when only profiles would be looked up.
    braze.without_profile.lock().unwrap().insert("ada".to_owned());
    fixture.run(&braze).await;
    braze.take_log();
    advance(2 * HOUR);
    let report = fixture.apply_unless(mismatch(), fixture.plan(), &braze).await;
    assert_eq!((report.outcome.stop_reason, braze.take_log()), (mismatch(), no_lines()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekey_fires_no_trigger() {
    let (fixture, braze) = (RunFixture::new(TRIGGERS), FakeWorkspace::new());
    fixture.record(ChangeOp::Add, &[device("phone"), external("bob"), alias("crm-1")], true);
    fixture.source(&["bob,", ",phone"]);
    fixture.identify(&[(device("phone"), "ada"), (alias("crm-1"), "bob")]);
    let report = fixture.run(&braze).await;
    assert!(report.is_complete(), "{report:?}");
    // The alias is bob for Braze, so bob is added again after it was removed.
    assert_eq!(braze.take_log(), ["remove crm-1 phone", "add ada bob"]);
    assert_eq!(fixture.due(), no_lines());
    // The owner enters and leaves like any other user.
    fixture.source(&["bob,"]);
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["remove ada", "goodbye ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_rekey_fires_no_trigger() {
    let (fixture, braze) = (RunFixture::new(TRIGGERS), FakeWorkspace::new());
    fixture.record(ChangeOp::Add, &[device("phone")], true);
    fixture.source(&[",phone"]);
    fixture.identify(&[(device("phone"), "ada")]);
    // The removal is done, and the addition of the owner has no response.
    braze
        .destination
        .script([DestinationFault::After(RequestOutcome::Accepted), DestinationFault::After(LOST)]);
    fixture.run(&braze).await;
    assert_eq!(braze.take_log(), ["remove phone", "add ada"]);
    fixture.run(&braze).await;
    assert_eq!((braze.take_log(), fixture.due()), (vec!["add ada".to_owned()], no_lines()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_of_a_blocked_change_does_not_fire() {
    let (mut fixture, braze) = (filled(), FakeWorkspace::new());
    fixture.reconfigure(&format!("{TRIGGERS}    protect: true\n"));
    fixture.source(&[]);
    let plan = fixture.plan();
    assert!(!plan.verdict.violations.is_empty() && !plan.sends(), "{plan:?}");
    fixture.apply(plan, &braze).await;
    assert_eq!((braze.take_log(), fixture.due()), (no_lines(), no_lines()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_the_last_version_does_not_let_a_request_count_as_handled_too_early() {
    let (fixture, braze) = (filled(), FakeWorkspace::new());
    let (last, tomorrow) = (fixture.membership(), now() + 24 * HOUR);
    let later = Membership { number: last.number + 1, written_at: tomorrow, ..last };
    fixture.state.commit(fixture.id(), &later).unwrap();
    fixture.source(&["ada,", "bob,"]);
    braze.destination.script([DestinationFault::After(LOST)]);
    fixture.run(&braze).await;
    let late = fixture.membership().uncertain_until().unwrap();
    assert_eq!(late, tomorrow + HOUR, "the request may arrive until an hour after the right time");
}
