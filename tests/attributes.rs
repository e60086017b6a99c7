//! Delivery by attribute, for customers without a partner key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

/// Users with a cohort in their array.
fn in_array(sandbox: &Sandbox, cohort: &str) -> BTreeSet<String> {
    with(sandbox, "syncline_cohorts", cohort)
}

fn with(sandbox: &Sandbox, attribute: &str, value: &str) -> BTreeSet<String> {
    let (status, body) = sandbox.get(&format!("/_sandbox/attributes/{attribute}/{value}"));
    assert_eq!(status, 200);
    body.lines().map(str::to_owned).collect()
}

/// A config with cohorts delivered by attribute, without a partner key.
fn config(sandbox: &Sandbox, cohorts: &[&str], more: &str) -> String {
    let text = crate::support::config(&sandbox.url, &[], "    rest_api_key: { env: TEST_REST_KEY }\n");
    let text = text.replace("    data_import_key: { env: TEST_IMPORT_KEY }\n", "");
    let text = text.replace("    partner_api_key: { env: TEST_PARTNER_KEY }\n", "");
    let entry = |id: &&str| cohort_entry(id, "    deliver: attribute\n");
    text + &cohorts.iter().map(entry).collect::<String>() + more
}

/// Only existing users, because attributes create no profiles.
fn with_existing_users(ids: impl IntoIterator<Item = String>) -> Sandbox {
    let sandbox = Sandbox::with(&["--profiles", "created"]);
    let ids: Vec<Value> = ids.into_iter().map(|id| json!({ "external_id": id })).collect();
    sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
    sandbox
}

fn track(sandbox: &Sandbox) -> u64 {
    sandbox.requests()["rest"]["endpoints"]["users_track"].as_u64().unwrap_or(0)
}

#[test]
fn users_enter_and_leave_an_array_and_the_cost_is_shown() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(200)));
    w.write("sync.yaml", config(&sandbox, &["carts", "free"], ""));
    w.source("carts", users(160)).source("free", users(10));
    w.run(&["plan"]).expect(0).says(&[
        "carts  \"Carts\" in braze, by array attribute `syncline_cohorts`",
        "+ add 160",
        "3 requests, 160 data points",
    ]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(160)));
    assert_eq!(in_array(&sandbox, "free"), members(users(10)));
    let rest = sandbox.requests()["rest"].clone();
    assert_eq!((track(&sandbox), &rest["data_points"]), (4, &json!(170)));
    assert_eq!(sandbox.writes(), 0, "the cohort import is not used");
    w.source("carts", users(170).skip(20));
    w.run(&["plan"]).expect(0).says(&["+ add 10", "- remove 20", "2 requests, 30 data points"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(170).skip(20)));
    assert_eq!(in_array(&sandbox, "free"), members(users(10)), "other elements stay");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["cohorts"][0]["delivery"], "array:syncline_cohorts");
}

#[test]
fn a_cohort_can_be_a_boolean_attribute() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(20)));
    let text = config(&sandbox, &["carts"], "    attribute: { boolean: in_carts }\n");
    w.write("sync.yaml", text).source("carts", users(12));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(with(&sandbox, "in_carts", "true"), members(users(12)));
    w.source("carts", users(9));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(with(&sandbox, "in_carts", "true"), members(users(9)));
    assert_eq!(with(&sandbox, "in_carts", "false"), members(users(12).skip(9)));
    w.write(
        "sync.yaml",
        w.read("sync.yaml").split("cohorts:").next().unwrap().to_owned()
            + "removed: [ { cohort: carts, members: remove } ]\n",
    );
    w.run(&["reconcile"]).expect(0);
    assert_eq!(with(&sandbox, "in_carts", "true").len(), 0, "emptied with its recorded delivery");
}

#[test]
fn users_with_only_a_device_are_rejected() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(3)));
    let text =
        config(&sandbox, &["carts"], "").replace("identity } ]", "identity }, { device_id: device } ]");
    w.write("sync.yaml", text).write("carts.csv", "identity,device\nuser-0,d0\n,d1\nuser-1,\n");
    w.run(&["plan"]).expect(0).says(&["1 row rejected: 1 device id, which attributes cannot address"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(2)));
    let rejects = w.read_all(".syncline/rejects");
    assert!(rejects.contains("device_id_by_attribute") && rejects.contains("d1"), "{rejects}");
}

#[test]
fn aliases_are_updated_and_no_profile_is_created() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(1)));
    let ids = json!([{ "external_id": "anna", "aliases": [{ "alias_label": "crm", "alias_name": "7" }] }]);
    sandbox.admin_post("/_sandbox/users", &ids.to_string());
    let text = config(&sandbox, &["carts"], "").replace(
        "{ external_id: identity }",
        "{ external_id: identity }, { alias: { label: crm, name: crm } }",
    );
    w.write("sync.yaml", text).write("carts.csv", "identity,crm\nuser-0,\nunknown,\n,7\n,8\n");
    w.run(&["reconcile"]).expect(0);
    let expected = ["external_id anna", "external_id user-0"].map(str::to_owned);
    assert_eq!(in_array(&sandbox, "carts"), BTreeSet::from(expected));
}

#[test]
fn errors_of_single_rows_reject_them_and_the_others_are_recorded() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(20)));
    sandbox.admin_post(
        "/_sandbox/rejects",
        r#"[{"external_id": "user-3", "type": "BLACKLISTED_EXTERNAL_USER_ID"},
            {"external_id": "user-7", "type": "EXTERNAL_USER_ID_TOO_LARGE"}]"#,
    );
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(20));
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    let cohort = &report["cohorts"][0];
    assert_eq!((&cohort["rejected_by_braze"], &cohort["in_doubt"]), (&json!(2), &json!(0)));
    assert_eq!((&cohort["added"], track(&sandbox)), (&json!(18), 1), "in one request");
    let rejects = w.read_all(".syncline/rejects");
    assert_eq!(rejects.lines().count(), 2, "{rejects}");
    for (who, why) in [("user-3", "BLACKLISTED_EXTERNAL_USER_ID"), ("user-7", "EXTERNAL_USER_ID_TOO_LARGE")] {
        let line = rejects.lines().find(|line| line.contains(&format!("external_id {who}\""))).unwrap();
        assert!(line.contains(why), "{line}");
    }
    let expected = members(users(20).filter(|id| id != "user-3" && id != "user-7"));
    assert_eq!(in_array(&sandbox, "carts"), expected);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(track(&sandbox), 1, "rejected users are not sent again");
    sandbox.admin_post("/_sandbox/rejects", "[]");
    w.run(&["reconcile", "--retry-rejected"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(20)));
}

#[test]
fn errors_without_a_row_leave_the_request_in_doubt() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(100)));
    sandbox.admin_post(
        "/_sandbox/rejects",
        r#"[{"external_id": "user-3", "type": "something", "indexed": false}]"#,
    );
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(100));
    let report = w.run(&["reconcile", "--format", "json"]).expect(7).json();
    let cohort = &report["cohorts"][0];
    let (doubt, added) = (cohort["in_doubt"].as_u64().unwrap(), cohort["added"].as_u64().unwrap());
    assert!([25, 75].contains(&doubt) && doubt + added == 100, "{cohort}");
    assert_eq!(track(&sandbox), 2, "not sent again in the same run: each attempt costs data points");
    sandbox.admin_post("/_sandbox/rejects", "[]");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(100)));
}

#[test]
fn a_request_with_only_invalid_rows_rejects_each_of_them() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(20)));
    let bad: Vec<Value> =
        (0..12).map(|n| json!({ "external_id": format!("user-{n}"), "type": "BAD" })).collect();
    sandbox.admin_post("/_sandbox/rejects", &json!(bad).to_string());
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(12));
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    assert_eq!(report["cohorts"][0]["rejected_by_braze"], 12);
    assert_eq!(track(&sandbox), 1);
}

#[test]
fn lost_responses_and_both_kinds_of_rate_limit_headers_are_handled() {
    for arguments in [&["--profiles", "created"][..], &["--profiles", "created", "--track-in-seconds"]] {
        let (w, sandbox) = (Workspace::new(), Sandbox::with(arguments));
        let ids: Vec<Value> = users(300).map(|id| json!({ "external_id": id })).collect();
        sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
        sandbox.faults(
            r#"[{"on": "users_track", "times": 1, "do": "lose_answer"}, {"on": "users_track", "times": 1, "do": {"status": 503}},
                {"on": "users_track", "do": {"reply": {"status": 429, "headers": [["x-ratelimit-retry-after", "1"]]}}}]"#,
        );
        w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(300));
        w.run(&["reconcile"]).expect(0);
        assert_eq!(in_array(&sandbox, "carts"), members(users(300)));
    }
}

#[test]
fn a_missing_key_or_permission_is_an_error() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(3)));
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(3));
    sandbox.admin_post("/_sandbox/keys", r#"[{"key": "narrow", "permissions": ["segments.list"]}]"#);
    let with = |key: &str| {
        let mut command = w.command(&["reconcile"]);
        command.env("TEST_REST_KEY", key);
        run(command)
    };
    with("narrow").expect(4);
    let refused = with("canary-rest-key").expect(4);
    assert!(!format!("{refused:?}").contains("canary-rest-key"));
    let mut command = w.command(&["reconcile"]);
    command.env_remove("TEST_REST_KEY");
    run(command).expect(4).says(&["TEST_REST_KEY is not set"]);
    assert_eq!(in_array(&sandbox, "carts").len(), 0);
    w.run(&["reconcile"]).expect(0);
    // From now on the state records this key; another key is another workspace.
    w.source("carts", users(2));
    with("narrow").expect(6).says(&["the REST API key of `braze` is not the one"]);
}

#[test]
fn an_array_attribute_holds_a_limited_number_of_cohorts() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(3)));
    let ids = ["a1", "a2", "a3"];
    let limited =
        |ids: &[&str]| config(&sandbox, ids, "").replace("    retry:", "    array_elements: 2\n    retry:");
    for id in ids {
        w.source(id, users(3));
    }
    w.write("sync.yaml", limited(&ids[1..]));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", limited(&ids));
    w.run(&["reconcile"]).expect(6).says(&[
        "additions blocked: the array attribute `syncline_cohorts` would hold 3 cohorts",
        "Braze cuts off elements beyond 2",
    ]);
    assert_eq!(in_array(&sandbox, "a1").len(), 0, "existing members stay");
    assert_eq!(in_array(&sandbox, "a3").len(), 3);
    // A cohort that left the config still counts until it is emptied.
    w.write("sync.yaml", limited(&["a1", "a2"]));
    w.run(&["reconcile"]).expect(6);
    let emptied = limited(&["a1", "a2"]) + "removed: [ { cohort: a3, members: remove } ]\n";
    w.write("sync.yaml", emptied);
    w.run(&["reconcile"]).expect(6);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "a1").len(), 3);
}

/// A cohort of twenty users, delivered by cohort import, with `attribute` in the new config.
fn before_delivery_change() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(30)));
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n").source("carts", users(20));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", w.read("sync.yaml") + "    deliver: attribute\n");
    (w, sandbox)
}

#[test]
fn the_plan_shows_a_delivery_change() {
    let (w, sandbox) = before_delivery_change();
    let said = [
        "delivery change from cohort import to array attribute `syncline_cohorts`",
        "the next run sends 20 members",
    ];
    w.run(&["plan"]).expect(6).says(&said).says(&["removals blocked: 20 of 20 members would leave"]);
    let plan = w.run(&["plan", "--format", "json"]).expect(6).json();
    assert_eq!(plan["cohorts"][0]["delivery_change_to"], "array:syncline_cohorts");
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sandbox.members("carts").len(), 20, "the guard blocks it");
    w.run(&["reconcile", "--max-removes", "carts=20"])
        .expect(0)
        .says(&["no member is left in cohort import"]);
    assert_eq!((sandbox.members("carts").len(), in_array(&sandbox, "carts").len()), (0, 0));
    w.run(&["plan"]).expect(0).says(&["by array attribute `syncline_cohorts`", "+ add 20"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(20)));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    // And back, with a saved plan.
    w.write("sync.yaml", w.read("sync.yaml").replace("    deliver: attribute\n", ""));
    w.run(&["plan", "--out", "saved.plan", "--max-removes", "carts=20"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan", "--max-removes", "carts=20"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts").len(), 0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(20)));
}

#[test]
fn an_interrupted_delivery_change_leaves_no_member_in_the_old_delivery() {
    let (w, sandbox) = before_delivery_change();
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "lose_answer"}]"#);
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(5);
    sandbox.faults("[]");
    w.source("carts", users(15));
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(15)));
    // While the source cannot be read, no member is removed: the new delivery could not be filled.
    w.write("sync.yaml", w.read("sync.yaml") + "    attribute: { boolean: in_carts }\n");
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(1);
    assert_eq!(in_array(&sandbox, "carts").len(), 15);
}

#[test]
fn a_segment_on_an_attribute_is_checked_too() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(120)));
    let segments = "segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts] }
";
    w.write("sync.yaml", config(&sandbox, &["carts"], segments)).source("carts", users(120));
    w.run(&["reconcile"]).expect(0);
    w.run(&["check"]).expect(10).says(&["\"syncline_cohorts\" includes value \"carts\""]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["syncline_cohorts=carts"]}]"#);
    w.run(&["check"]).expect(0).says(&["in sync, 120 users"]);
}

#[test]
fn every_identifier_has_a_profile_in_the_sandbox_unless_they_are_created() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox, &["carts"], "    preflight: {}\n");
    let segments = "segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts], canaries: [user-1] }
";
    w.write("sync.yaml", text + segments).source("carts", users(120));
    w.run(&["reconcile"]).expect(0).says(&["added 120"]);
    assert_eq!(in_array(&sandbox, "carts"), members(users(120)), "attributes as well as members");
    assert_eq!(sandbox.requests()["ignored"], 0);
    assert_eq!(sandbox.get("/_sandbox/profiles/user-7").0, 200);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["syncline_cohorts=carts"]}]"#);
    w.run(&["check"]).expect(0).says(&["in sync, 120 users", "In sync: 1 segment."]);
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(2)));
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(120));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(2)), "Braze ignores the others");
}

#[test]
fn the_sandbox_inside_the_program_keeps_attributes() {
    let w = Workspace::new();
    w.write("sync.yaml", in_program_config());
    w.source("carts", users(3));
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    let memory = w.path(".syncline/sandbox/braze");
    let sandbox = Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    assert_eq!(in_array(&sandbox, "carts"), members(users(3)));
}

#[test]
fn watch_completes_a_delivery_change_that_the_guard_allows() {
    let (w, sandbox) = before_delivery_change();
    let lenient =
        w.read("sync.yaml") + "    guard: { max_removed: 100% }\n" + crate::support::watch::SHORT_TIMEOUTS;
    w.write("sync.yaml", lenient);
    let watch = crate::support::watch::Watch::from_command(&mut w.command(&["watch"]));
    until("the delivery change is complete", || in_array(&sandbox, "carts").len() == 20);
    assert_eq!(sandbox.members("carts").len(), 0);
    assert_eq!(watch.stop(), 0);
}

#[test]
fn resync_uses_the_recorded_delivery() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(12)));
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(12));
    w.run(&["reconcile"]).expect(0);
    let before = track(&sandbox);
    w.run(&["resync", "carts", "--yes"]).expect(0);
    assert_eq!((track(&sandbox), sandbox.writes()), (before + 1, 0));
}

#[test]
fn a_device_with_a_known_owner_is_delivered_as_the_owner() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(30)));
    let text =
        config(&sandbox, &["carts"], "").replace("identity } ]", "identity }, { device_id: device } ]");
    let devices: String = (0..9).map(|n| format!(",d{n}\n")).collect();
    w.write("sync.yaml", text).write("carts.csv", format!("identity,device\nuser-20,\n{devices}"));
    w.write("who.csv", "id,device\nuser-0,d0\nuser-5,d5\nuser-20,d7\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    w.run(&["plan"]).expect(0).says(&[
        "+ add 3",
        "6 rows rejected: 6 device ids, which attributes cannot address",
        "3 re-keyed to their owner",
    ]);
    w.run(&["reconcile"]).expect(0);
    let expected = ["external_id user-0", "external_id user-20", "external_id user-5"].map(str::to_owned);
    assert_eq!(in_array(&sandbox, "carts"), BTreeSet::from(expected));
    let rejects = w.read_all(".syncline/rejects");
    let has = |device: &str| rejects.contains(&format!("\"value\":\"{device}\""));
    assert!(rejects.contains("\"line\":4,") && has("d1"), "the reject has its position: {rejects}");
    assert!(!has("d5") && !has("d7"), "{rejects}");
}
