//! Cohorts that are delivered as attributes of profiles, by a customer without a partner key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::*;

/// The people who have a cohort in their array.
fn in_array(sandbox: &Sandbox, cohort: &str) -> BTreeSet<String> {
    with(sandbox, "syncline_cohorts", cohort)
}

fn with(sandbox: &Sandbox, attribute: &str, value: &str) -> BTreeSet<String> {
    let (status, body) = sandbox.get(&format!("/_sandbox/attributes/{attribute}/{value}"));
    assert_eq!(status, 200);
    body.lines().map(str::to_owned).collect()
}

/// A config whose cohorts are delivered by attribute, with no partner key in sight.
fn config(sandbox: &Sandbox, cohorts: &[&str], more: &str) -> String {
    let text = crate::support::config(&sandbox.url, &[], "    rest_api_key: { env: TEST_REST_KEY }\n");
    let text = text.replace("    data_import_key: { env: TEST_IMPORT_KEY }\n", "");
    let text = text.replace("    partner_api_key: { env: TEST_PARTNER_KEY }\n", "");
    let entry = |id: &&str| cohort_entry(id, "    deliver: attribute\n");
    text + &cohorts.iter().map(entry).collect::<String>() + more
}

/// Only people whom Braze knows, since attributes make nobody.
fn known(people: impl IntoIterator<Item = String>) -> Sandbox {
    let sandbox = Sandbox::with(&["--people", "known"]);
    let people: Vec<Value> = people.into_iter().map(|id| json!({ "external_id": id })).collect();
    sandbox.door("/_sandbox/people", &json!(people).to_string());
    sandbox
}

fn track(sandbox: &Sandbox) -> u64 {
    sandbox.requests()["rest"]["endpoints"]["users_track"].as_u64().unwrap_or(0)
}

#[test]
fn people_enter_and_leave_an_array_and_the_cost_is_told() {
    let (w, sandbox) = (Workspace::new(), known(users(200)));
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
    assert_eq!(sandbox.writes(), 0, "nothing of the cohort import is used");
    w.source("carts", users(170).skip(20));
    w.run(&["plan"]).expect(0).says(&["+ add 10", "- remove 20", "2 requests, 30 data points"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(170).skip(20)));
    assert_eq!(in_array(&sandbox, "free"), members(users(10)), "others are left alone");
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["cohorts"][0]["delivery"], "array:syncline_cohorts");
}

#[test]
fn a_boolean_of_its_own() {
    let (w, sandbox) = (Workspace::new(), known(users(20)));
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
    assert_eq!(with(&sandbox, "in_carts", "true").len(), 0, "emptied in the way in which it was filled");
}

#[test]
fn whoever_is_known_by_device_only_cannot_be_reached() {
    let (w, sandbox) = (Workspace::new(), known(users(3)));
    let text =
        config(&sandbox, &["carts"], "").replace("identity } ]", "identity }, { device_id: device } ]");
    w.write("sync.yaml", text).write("carts.csv", "identity,device\nuser-0,d0\n,d1\nuser-1,\n");
    w.run(&["plan"]).expect(0).says(&["1 row not used: 1 device_id_by_attribute"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(2)));
    let rejects = w.read_all(".syncline/rejects");
    assert!(rejects.contains("device_id_by_attribute") && rejects.contains("d1"), "{rejects}");
}

#[test]
fn an_alias_is_reached_and_nobody_is_made() {
    let (w, sandbox) = (Workspace::new(), known(users(1)));
    let people = json!([{ "external_id": "anna", "aliases": [{ "alias_label": "crm", "alias_name": "7" }] }]);
    sandbox.door("/_sandbox/people", &people.to_string());
    let text = config(&sandbox, &["carts"], "").replace(
        "{ external_id: identity }",
        "{ external_id: identity }, { alias: { label: crm, name: crm } }",
    );
    w.write("sync.yaml", text).write("carts.csv", "identity,crm\nuser-0,\nstranger,\n,7\n,8\n");
    w.run(&["reconcile"]).expect(0);
    let expected = ["external_id anna", "external_id user-0"].map(str::to_owned);
    assert_eq!(in_array(&sandbox, "carts"), BTreeSet::from(expected));
}

#[test]
fn what_is_wrong_with_single_rows_is_told_of_them_and_the_others_are_recorded() {
    let (w, sandbox) = (Workspace::new(), known(users(20)));
    sandbox.door(
        "/_sandbox/rejects",
        r#"[{"external_id": "user-3", "type": "BLACKLISTED_EXTERNAL_USER_ID"},
            {"external_id": "user-7", "type": "EXTERNAL_USER_ID_TOO_LARGE"}]"#,
    );
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(20));
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    let cohort = &report["cohorts"][0];
    assert_eq!((&cohort["refused_by_braze"], &cohort["in_doubt"]), (&json!(2), &json!(0)));
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
    assert_eq!(track(&sandbox), 1, "whoever was refused is not sent again");
    sandbox.door("/_sandbox/rejects", "[]");
    w.run(&["reconcile", "--retry-refused"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(20)));
}

#[test]
fn errors_that_name_nobody_leave_the_request_in_doubt() {
    let (w, sandbox) = (Workspace::new(), known(users(100)));
    sandbox
        .door("/_sandbox/rejects", r#"[{"external_id": "user-3", "type": "something", "indexed": false}]"#);
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(100));
    let report = w.run(&["reconcile", "--format", "json"]).expect(7).json();
    let cohort = &report["cohorts"][0];
    let (doubt, added) = (cohort["in_doubt"].as_u64().unwrap(), cohort["added"].as_u64().unwrap());
    assert!([25, 75].contains(&doubt) && doubt + added == 100, "{cohort}");
    assert_eq!(track(&sandbox), 2, "it is not sent again in the same run: that would cost as much");
    sandbox.door("/_sandbox/rejects", "[]");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(100)));
}

#[test]
fn a_request_of_bad_rows_only_is_a_400_that_names_them() {
    let (w, sandbox) = (Workspace::new(), known(users(20)));
    let bad: Vec<Value> =
        (0..12).map(|n| json!({ "external_id": format!("user-{n}"), "type": "BAD" })).collect();
    sandbox.door("/_sandbox/rejects", &json!(bad).to_string());
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(12));
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    assert_eq!(report["cohorts"][0]["refused_by_braze"], 12);
    assert_eq!(track(&sandbox), 1);
}

#[test]
fn a_lost_answer_and_both_kinds_of_limit_headers() {
    for arguments in [&["--people", "known"][..], &["--people", "known", "--track-in-seconds"]] {
        let (w, sandbox) = (Workspace::new(), Sandbox::with(arguments));
        let people: Vec<Value> = users(300).map(|id| json!({ "external_id": id })).collect();
        sandbox.door("/_sandbox/people", &json!(people).to_string());
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
fn a_key_that_may_not_or_is_not_there() {
    let (w, sandbox) = (Workspace::new(), known(users(3)));
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(3));
    sandbox.door("/_sandbox/keys", r#"[{"key": "narrow", "permissions": ["segments.list"]}]"#);
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
    // From here on the key is the state's, and another one is another workspace's.
    w.source("carts", users(2));
    with("narrow").expect(6).says(&["the REST API key of `braze` is not the one"]);
}

#[test]
fn an_array_has_room_for_so_many_cohorts() {
    let (w, sandbox) = (Workspace::new(), known(users(3)));
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
        "additions withheld: with it 3 cohorts would be in the array attribute `syncline_cohorts`",
        "Braze cuts off what is over 2",
    ]);
    assert_eq!(in_array(&sandbox, "a1").len(), 0, "whoever is in it already stays");
    assert_eq!(in_array(&sandbox, "a3").len(), 3);
    // One that has left the config is still in it, until it is emptied.
    w.write("sync.yaml", limited(&["a1", "a2"]));
    w.run(&["reconcile"]).expect(6);
    let emptied = limited(&["a1", "a2"]) + "removed: [ { cohort: a3, members: remove } ]\n";
    w.write("sync.yaml", emptied);
    w.run(&["reconcile"]).expect(6);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "a1").len(), 3);
}

/// A cohort of twenty people by cohort import, whose config says `attribute` from now on.
fn about_to_move() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), known(users(30)));
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n").source("carts", users(20));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", w.read("sync.yaml") + "    deliver: attribute\n");
    (w, sandbox)
}

#[test]
fn another_delivery_is_a_move_that_the_plan_shows() {
    let (w, sandbox) = about_to_move();
    let said =
        ["moves from cohort import to array attribute `syncline_cohorts`", "sends 20 members to the other"];
    w.run(&["plan"]).expect(6).says(&said).says(&["removals withheld: 20 of 20 members would leave"]);
    let plan = w.run(&["plan", "--format", "json"]).expect(6).json();
    assert_eq!(plan["cohorts"][0]["moves_to"], "array:syncline_cohorts");
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sandbox.members("carts").len(), 20, "the guard holds it");
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(0).says(&["nobody is left by cohort import"]);
    assert_eq!((sandbox.members("carts").len(), in_array(&sandbox, "carts").len()), (0, 0));
    w.run(&["plan"]).expect(0).says(&["by array attribute `syncline_cohorts`", "+ add 20"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(20)));
    w.run(&["reconcile"]).expect(0).says(&["In step"]);
    // And back again, from a saved plan.
    w.write("sync.yaml", w.read("sync.yaml").replace("    deliver: attribute\n", ""));
    w.run(&["plan", "--out", "saved.plan", "--max-removes", "carts=20"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan", "--max-removes", "carts=20"]).expect(0);
    assert_eq!(in_array(&sandbox, "carts").len(), 0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(20)));
}

#[test]
fn a_move_that_stops_leaves_nobody_behind() {
    let (w, sandbox) = about_to_move();
    sandbox.faults(r#"[{"on": "users", "times": 0, "do": "lose_answer"}]"#);
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(5);
    sandbox.faults("[]");
    w.source("carts", users(15));
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(0);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts").len(), 0);
    assert_eq!(in_array(&sandbox, "carts"), members(users(15)));
    // While the source cannot be read, nobody leaves: they could not enter elsewhere.
    w.write("sync.yaml", w.read("sync.yaml") + "    attribute: { boolean: in_carts }\n");
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    w.run(&["reconcile", "--max-removes", "carts=20"]).expect(1);
    assert_eq!(in_array(&sandbox, "carts").len(), 15);
}

#[test]
fn a_segment_on_an_attribute_is_checked_too() {
    let (w, sandbox) = (Workspace::new(), known(users(120)));
    let segments = "segments:
  - { id: s, connection: braze, segment: { name: S }, include: [carts] }
";
    w.write("sync.yaml", config(&sandbox, &["carts"], segments)).source("carts", users(120));
    w.run(&["reconcile"]).expect(0);
    w.run(&["check"]).expect(10).says(&["array \"syncline_cohorts\" includes \"carts\""]);
    sandbox.door("/_sandbox/segments", r#"[{"name": "S", "include": ["syncline_cohorts=carts"]}]"#);
    w.run(&["check"]).expect(0).says(&["in step, 120 people"]);
}

#[test]
fn a_server_moves_a_cohort_by_itself_once_it_may() {
    let (w, sandbox) = about_to_move();
    let lenient =
        w.read("sync.yaml") + "    guard: { max_removed: 100% }\n" + crate::support::watch::PATIENCE;
    w.write("sync.yaml", lenient);
    let watch = crate::support::watch::Watch::from_command(&mut w.command(&["watch"]));
    until("it has moved", || in_array(&sandbox, "carts").len() == 20);
    assert_eq!(sandbox.members("carts").len(), 0);
    assert_eq!(watch.stop(), 0);
}

#[test]
fn it_is_sent_again_in_the_way_in_which_it_was_sent() {
    let (w, sandbox) = (Workspace::new(), known(users(12)));
    w.write("sync.yaml", config(&sandbox, &["carts"], "")).source("carts", users(12));
    w.run(&["reconcile"]).expect(0);
    let before = track(&sandbox);
    w.run(&["resync", "carts"]).expect(0);
    assert_eq!((track(&sandbox), sandbox.writes()), (before + 1, 0));
}

#[test]
fn a_device_whose_owner_is_known_is_reached_as_the_owner() {
    let (w, sandbox) = (Workspace::new(), known(users(30)));
    let text =
        config(&sandbox, &["carts"], "").replace("identity } ]", "identity }, { device_id: device } ]");
    let devices: String = (0..9).map(|n| format!(",d{n}\n")).collect();
    w.write("sync.yaml", text).write("carts.csv", format!("identity,device\nuser-20,\n{devices}"));
    w.write("who.csv", "id,device\nuser-0,d0\nuser-5,d5\nuser-20,d7\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    w.run(&["plan"]).expect(0).says(&[
        "+ add 3",
        "6 rows not used: 6 device_id_by_attribute",
        "3 by their owner",
    ]);
    w.run(&["reconcile"]).expect(0);
    let expected = ["external_id user-0", "external_id user-20", "external_id user-5"].map(str::to_owned);
    assert_eq!(in_array(&sandbox, "carts"), BTreeSet::from(expected));
    let rejects = w.read_all(".syncline/rejects");
    assert!(
        rejects.contains("\"line\":4,") && rejects.contains("d1"),
        "it is told where it stood: {rejects}"
    );
    assert!(!rejects.contains("d5") && !rejects.contains("d7"), "{rejects}");
}
