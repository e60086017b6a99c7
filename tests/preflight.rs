//! Preflight: unknown users are looked up, reported, and sent again once they exist in Braze.

use serde_json::{Value, json};

use crate::support::*;

/// A sandbox in which only these users exist.
fn with_existing_users(ids: impl IntoIterator<Item = String>) -> Sandbox {
    let sandbox = Sandbox::with(&["--profiles", "created"]);
    create_users(&sandbox, ids);
    sandbox
}

fn create_users(sandbox: &Sandbox, ids: impl IntoIterator<Item = String>) {
    let ids: Vec<Value> = ids.into_iter().map(|id| json!({ "external_id": id })).collect();
    sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
}

fn config(w: &Workspace, sandbox: &Sandbox, more: &str) {
    w.config(sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", w.read("sync.yaml") + more);
}

fn exports(sandbox: &Sandbox) -> u64 {
    sandbox.requests()["rest"]["endpoints"]["export_ids"].as_u64().unwrap_or(0)
}

#[test]
fn users_are_sent_again_once_they_exist() {
    for more in ["", "    deliver: attribute\n"] {
        let (w, sandbox) = (Workspace::new(), with_existing_users(users(100)));
        config(&w, &sandbox, &format!("    preflight: {{ retry_unknown: 1ms }}\n{more}"));
        w.source("carts", users(120));
        let inside = || match more {
            "" => sandbox.members("carts").len(),
            _ => sandbox.get("/_sandbox/attributes/syncline_cohorts/carts").1.lines().count(),
        };
        w.run(&["reconcile"]).expect(0).says(&["unknown to Braze: 20 of 120 new members"]);
        assert_eq!((inside(), exports(&sandbox)), (100, 3), "fifty per request");
        w.run(&["plan"]).expect(0).says(&["20 users unknown to Braze, so not in the cohort"]);
        create_users(&sandbox, users(115).skip(100));
        w.run(&["reconcile"]).expect(0).says(&["15 users formerly unknown to Braze, with a profile now"]);
        let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
        assert_eq!(plan["cohorts"][0]["unknown_users"]["sent_again"], 15);
        w.run(&["plan"])
            .expect(0)
            .says(&["15 users formerly unknown to Braze, with a profile now", "+ add 15"]);
        w.run(&["reconcile"]).expect(0);
        assert_eq!(inside(), 115);
        // The others are dropped once they leave.
        w.source("carts", users(115));
        w.run(&["reconcile"]).expect(0);
        w.run(&["reconcile"]).expect(0);
        let asked = exports(&sandbox);
        let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
        assert_eq!(
            (exports(&sandbox), &report["result"]),
            (asked, &json!("in_sync")),
            "no user is left to look up"
        );
    }
}

#[test]
fn unknown_users_are_looked_up_again_after_a_delay_and_by_sample() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(1)));
    config(&w, &sandbox, "    preflight: { sample: 10, retry_unknown: 24h }\n");
    w.source("carts", users(60));
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    let reported = &report["cohorts"][0]["unknown_users"];
    assert_eq!((&reported["looked_up"], exports(&sandbox)), (&json!(10), 1));
    create_users(&sandbox, users(60));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(exports(&sandbox), 1);
}

#[test]
fn aliases_are_looked_up_and_devices_are_not() {
    let (w, sandbox) = (Workspace::new(), with_existing_users([]));
    let anna = json!([{ "external_id": "anna", "aliases": [{ "alias_label": "crm", "alias_name": "7" }] }]);
    sandbox.admin_post("/_sandbox/users", &anna.to_string());
    config(&w, &sandbox, "    preflight: { retry_unknown: 1ms }\n");
    let rules = "{ external_id: identity }, { alias: { label: crm, name: crm } }, { device_id: device }";
    w.write("sync.yaml", w.read("sync.yaml").replace("{ external_id: identity }", rules));
    w.write("carts.csv", "identity,crm,device\n,7,\n,8,\n,,d1\nanna,,\n");
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    let reported = &report["cohorts"][0]["unknown_users"];
    assert_eq!((&reported["looked_up"], &reported["unknown"]), (&json!(3), &json!(1)));
}

#[test]
fn without_preflight_no_user_is_looked_up() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(1)));
    config(&w, &sandbox, "");
    w.source("carts", users(20)).run(&["reconcile"]).expect(0);
    assert_eq!(exports(&sandbox), 0);
    assert!(!w.path(".syncline/unknown_users").exists());
}

#[test]
fn a_failed_lookup_does_not_stop_the_run() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(20)));
    config(&w, &sandbox, "    preflight: {}\n");
    sandbox.admin_post("/_sandbox/keys", r#"[{"key": "narrow", "permissions": ["segments.list"]}]"#);
    w.source("carts", users(20));
    let mut command = w.command(&["reconcile"]);
    command.env("TEST_REST_KEY", "narrow");
    run(command).expect(7).says(&["the lookup of unknown users failed", "users.export.ids"]);
    assert_eq!(sandbox.members("carts").len(), 20);
    w.run(&["state", "adopt", "braze"]).expect(0);
    create_users(&sandbox, users(25));
    w.source("carts", users(25));
    sandbox.faults(r#"[{"on": "export_ids", "times": 0, "do": {"reply": {"status": 403}}}]"#);
    w.run(&["reconcile"]).expect(7);
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0).says(&["25 users formerly unknown to Braze, with a profile now"]);
}

#[test]
fn a_crash_after_the_lookup_loses_no_user() {
    let (w, sandbox) = (Workspace::new(), with_existing_users(users(10)));
    config(&w, &sandbox, "    preflight: { retry_unknown: 1ms }\n");
    sandbox.faults(r#"[{"on": "users", "do": "hang_after"}]"#);
    w.source("carts", users(12));
    let mut run = w.command(&["reconcile"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the users are sent", || sandbox.members("carts").len() == 10);
    run.kill().unwrap();
    run.wait().unwrap();
    create_users(&sandbox, users(12));
    (0..3).for_each(|_| drop(w.run(&["reconcile"])));
    assert_eq!(sandbox.members("carts"), members(users(12)));
}
