//! Requests that Braze executes late: after the run that sent them ended and a later run settled their members.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

/// A cohort of ten users. Requests without a response are over as soon as the next run starts.
fn cohort_of_ten(more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids: Vec<Value> = users(13).map(|id| json!({ "external_id": id })).collect();
    sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
    let connection = "    rest_api_key: { env: TEST_REST_KEY }\n    settle_again_after: 1ms\n";
    w.config(&sandbox, &["carts"], connection);
    w.write("sync.yaml", w.read("sync.yaml") + more).source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

fn in_array(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.get("/_sandbox/attributes/syncline_cohorts/carts").1.lines().map(str::to_owned).collect()
}

/// Three users enter; the run is killed while Braze has the request and has not executed it yet.
fn killed_while_three_enter(w: &Workspace, sandbox: &Sandbox) {
    w.source("carts", users(13)).kill_during_request(sandbox, "users", "users");
}

fn release(sandbox: &Sandbox) {
    sandbox.admin_post("/_sandbox/release", "");
}

#[test]
fn a_request_of_a_killed_run_is_handled_after_the_next_run() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10));
    w.run(&["reconcile"]).expect(0).says(&["removed 3; 10 members"]);
    w.run(&["status"]).expect(0).says(&["10 members", "not certain until 20"]);
    w.run(&["state", "gc"]).expect(0);
    release(&sandbox);
    assert_eq!(sandbox.members("carts"), members(users(13)), "the late request has undone the removal");
    w.run(&["plan"]).expect(0).says(&["- remove 3", "3 members of these again"]);
    w.run(&["reconcile"]).expect(0).says(&["removed 3; 10 members"]);
    assert_eq!(sandbox.members("carts"), members(users(10)));
    w.assert_in_sync(&sandbox);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["cohorts"][0]["membership"]["uncertain_until"], Value::Null);
}

#[test]
fn a_request_that_timed_out_is_handled_after_its_retry_and_the_next_run() {
    let (w, sandbox) = cohort_of_ten("");
    w.write("sync.yaml", w.read("sync.yaml").replace("settle_again_after: 1ms", "settle_again_after: 8s"));
    sandbox.faults(r#"[{"on": "users", "do": "hold"}]"#);
    w.source("carts", users(13)).run(&["reconcile"]).expect(0).says(&["added 3; 13 members"]);
    w.source("carts", users(10)).run(&["reconcile"]).expect(0).says(&["removed 3"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts").len(), 13);
    until("the users are removed once more", || {
        w.run(&["reconcile"]).expect(0);
        sandbox.members("carts") == members(users(10))
    });
}

#[test]
fn a_late_removal_is_undone_as_well() {
    let (w, sandbox) = cohort_of_ten("");
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "hold"}]"#);
    w.source("carts", users(8)).run(&["reconcile"]).expect(5).says(&["2 members in doubt"]);
    sandbox.faults("[]");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0).says(&["added 2; 10 members"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts").len(), 8);
    w.run(&["reconcile"]).expect(0).says(&["added 2; 10 members"]);
    assert_eq!(sandbox.members("carts"), members(users(10)));
    w.assert_in_sync(&sandbox);
}

#[test]
fn a_member_that_the_late_request_leaves_correct_is_not_sent_again() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    w.run(&["reconcile"]).expect(0).says(&["added 3; 13 members"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts"), members(users(13)));
    w.assert_in_sync(&sandbox);
}

#[test]
fn the_second_settle_may_be_late_as_well() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    release(&sandbox);
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "hold"}]"#);
    w.run(&["reconcile"]).expect(5).says(&["3 members in doubt"]);
    sandbox.faults("[]");
    // They enter again before the postponed removals are executed.
    w.source("carts", users(13)).run(&["reconcile"]).expect(0).says(&["added 3; 13 members"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts"), members(users(10)));
    w.run(&["reconcile"]).expect(0).says(&["added 3; 13 members"]);
    assert_eq!(sandbox.members("carts"), members(users(13)));
    w.assert_in_sync(&sandbox);
}

#[test]
fn attributes_are_settled_again_too() {
    let (w, sandbox) = cohort_of_ten("    deliver: attribute\n");
    sandbox.faults(r#"[{"on": "users_track", "times": 0, "do": "hold"}]"#);
    w.source("carts", users(13)).run(&["reconcile"]).expect(5);
    sandbox.faults("[]");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    release(&sandbox);
    assert_eq!(in_array(&sandbox).len(), 13);
    w.run(&["reconcile"]).expect(0).says(&["removed 3"]);
    assert_eq!(in_array(&sandbox), members(users(10)));
}

#[test]
fn a_delivery_change_waits_for_late_requests_of_the_old_delivery() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    w.write("sync.yaml", w.read("sync.yaml") + "    deliver: attribute\n    guard: { max_removed: 100% }\n");
    w.source("carts", users(10)).run(&["reconcile"]).expect(0).says(&["removed 13"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts").len(), 3);
    w.run(&["reconcile"]).expect(0).says(&["removed 3"]);
    w.run(&["reconcile"]).expect(0).says(&["added 10"]);
    assert_eq!((sandbox.members("carts").len(), in_array(&sandbox)), (0, members(users(10))));
}

#[test]
fn an_emptied_cohort_stays_empty() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    let connections = w.read("sync.yaml").split("cohorts:").next().unwrap().to_owned();
    w.write("sync.yaml", connections + "removed: [ { cohort: carts, members: remove } ]\n");
    w.run(&["reconcile"]).expect(0).says(&["removed 13"]);
    release(&sandbox);
    assert_eq!(sandbox.members("carts").len(), 3);
    w.run(&["reconcile"]).expect(0).says(&["removed 3"]);
    assert_eq!(sandbox.members("carts").len(), 0);
    w.assert_in_sync(&sandbox);
}

#[test]
fn a_saved_plan_keeps_late_requests_that_it_does_not_cover() {
    let (w, sandbox) = cohort_of_ten("");
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    w.source("carts", users(11)).run(&["plan", "--out", "saved.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(0);
    release(&sandbox);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(11)));
    w.assert_in_sync(&sandbox);
}

#[test]
fn plan_and_status_show_an_uncertain_cohort() {
    let (w, sandbox) = cohort_of_ten("");
    w.write("sync.yaml", w.read("sync.yaml").replace("    settle_again_after: 1ms\n", ""));
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10)).run(&["reconcile"]).expect(0);
    w.run(&["plan"]).expect(0).says(&["In sync", "not certain until 20"]);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    let record = &status["cohorts"][0]["membership"];
    assert_eq!((&record["uncertain"], record["uncertain_until"].is_string()), (&3.into(), true));
    w.assert_in_sync(&sandbox);
}

#[test]
fn watch_settles_members_again() {
    let (w, sandbox) = cohort_of_ten("");
    let settle = w.read("sync.yaml").replace("settle_again_after: 1ms", "settle_again_after: 4s");
    w.write("sync.yaml", settle + watch::SHORT_TIMEOUTS + "  schedule: { every: 24h }\n");
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10));
    let watch = watch::Watch::start(&w);
    until("the next run settles them", || sandbox.requests()["removed"].as_u64().unwrap() >= 3);
    release(&sandbox);
    until("the members are settled again", || sandbox.members("carts") == members(users(10)));
    drop(watch);
    assert_eq!(sandbox.requests()["removed"], 6);
}

fn rename(w: &Workspace, from: &str, to: &str) {
    w.write("sync.yaml", w.read("sync.yaml").replace(&format!("name: {from}"), &format!("name: {to}")));
}

fn name(sandbox: &Sandbox) -> String {
    sandbox.names().remove(0).1
}

#[test]
fn the_name_sent_by_a_killed_run_is_replaced() {
    let (w, sandbox) = cohort_of_ten("");
    rename(&w, "Carts", "Baskets");
    w.kill_during_request(&sandbox, "cohorts", "names");
    // The config has the recorded name again, but Braze may have the other one.
    rename(&w, "Baskets", "Carts");
    w.run(&["plan"]).expect(0).says(&["send the name \"Carts\" again"]);
    w.run(&["reconcile"]).expect(0).says(&["sent the name \"Carts\" again"]);
    w.run(&["status"]).expect(0).says(&["not certain until 20"]);
    release(&sandbox);
    assert_eq!(name(&sandbox), "Baskets", "the late request has brought the other name");
    w.run(&["reconcile"]).expect(0).says(&["sent the name \"Carts\" again"]);
    assert_eq!(name(&sandbox), "Carts");
    w.assert_in_sync(&sandbox);
}

#[test]
fn an_old_name_with_a_timed_out_request_is_not_restored() {
    let (w, sandbox) = cohort_of_ten("");
    sandbox.faults(r#"[{"on": "cohorts", "do": "hold"}]"#);
    rename(&w, "Carts", "Baskets");
    w.run(&["reconcile"]).expect(0).says(&["renamed \"Carts\" to \"Baskets\""]);
    w.write("sync.yaml", w.read("sync.yaml").replace("settle_again_after: 1ms", "settle_again_after: 4s"));
    sandbox.faults(r#"[{"on": "cohorts", "do": "hold"}]"#);
    rename(&w, "Baskets", "Trolleys");
    w.run(&["reconcile"]).expect(0).says(&["renamed"]);
    rename(&w, "Trolleys", "Bags");
    w.run(&["reconcile"]).expect(0).says(&["renamed \"Trolleys\" to \"Bags\""]);
    release(&sandbox);
    assert_ne!(name(&sandbox), "Bags");
    until("the name is sent once more", || {
        w.run(&["reconcile"]).expect(0);
        name(&sandbox) == "Bags"
    });
    w.assert_in_sync(&sandbox);
}

#[test]
fn the_dashboard_shows_until_when_a_cohort_is_uncertain() {
    let (w, sandbox) = cohort_of_ten("");
    w.write(
        "sync.yaml",
        w.read("sync.yaml").replace("    settle_again_after: 1ms\n", "") + watch::SHORT_TIMEOUTS,
    );
    killed_while_three_enter(&w, &sandbox);
    w.source("carts", users(10));
    let watch = watch::Watch::start(&w);
    until("the page shows it", || watch.get("/").body.contains("not certain until "));
    watch.until_in_sync();
    drop(watch);
    // It is known from before the restart, too.
    let watch = watch::Watch::start(&w);
    until("the page shows it again", || watch.get("/").body.contains("not certain until "));
}

#[test]
fn late_requests_of_many_runs_are_in_few_files() {
    let (w, sandbox) = cohort_of_ten("");
    w.write("sync.yaml", w.read("sync.yaml").replace("    settle_again_after: 1ms\n", ""));
    for count in 11..23 {
        sandbox.faults(r#"[{"on": "users", "do": "reset"}]"#);
        w.source("carts", users(count)).run(&["reconcile"]).expect(0).says(&["added 1"]);
    }
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["cohorts"][0]["membership"]["uncertain"], 12, "each user once");
    let newest = w.snapshot(".syncline/cohorts/carts/versions").pop().unwrap().1;
    let version: Value = serde_json::from_slice(&newest).unwrap();
    assert!(version["late"].as_array().unwrap().len() <= 7, "{version}");
    w.assert_in_sync(&sandbox);
}
