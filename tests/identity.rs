//! Identity map: imported from files and events, shown, and followed by re-keys of members.

use serde_json::json;

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// A cohort with members by any identifier in their row.
const RULES: &str = "  - id: carts
    name: Carts
    to: braze
    source: { kind: file, path: carts.csv }
    match:
      - external_id: identity
      - alias: { label: heap_user_id, name: heap }
      - device_id: device
";

fn world() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", config(&sandbox.url, &[], "") + RULES);
    (w, sandbox)
}

fn carts(w: &Workspace, rows: &[&str]) {
    w.write("carts.csv", format!("identity,heap,device\n{}\n", rows.join("\n")));
}

#[track_caller]
fn check(sandbox: &Sandbox, members: &[&str]) {
    let mut found: Vec<String> = sandbox.members("carts").into_iter().collect();
    found.sort();
    assert_eq!(found, members);
}

#[test]
fn members_are_rekeyed_when_their_owner_becomes_known() {
    let (w, sandbox) = world();
    carts(&w, &["u1,,", ",,d2", ",7,", ",,d4", "u5,,", ",,d5"]);
    // A file written moments ago may change again within the same timestamp.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    w.run(&["reconcile"]).expect(0);
    let source =
        |w: &Workspace| w.run(&["plan", "--format", "json"]).expect(0).json()["cohorts"][0]["source"].clone();
    assert_eq!(source(&w)["read"], json!(false));
    check(
        &sandbox,
        &[
            "alias heap_user_id:7",
            "device_id d2",
            "device_id d4",
            "device_id d5",
            "external_id u1",
            "external_id u5",
        ],
    );
    w.write("who.csv", "id,device,heap\nu2,d2,\nu7,,7\nu5,d5,\n");
    let import = [
        "identity",
        "import",
        "who.csv",
        "--external-id",
        "id",
        "--device-id",
        "device",
        "--alias",
        "heap_user_id=heap",
    ];
    w.run(&import).expect(0).says(&["read 3 rows, 3 with an owner"]);
    let writes = sandbox.writes();
    let plan = w.run(&["plan"]).expect(0);
    let plan = plan.says(&[
        "+ add 2",
        "- remove 3",
        "3 members re-keyed",
        "members 6 → 5: 0 enter, 1 leaves",
        "3 re-keyed to their owner",
    ]);
    drop(plan);
    let tally = &w.run(&["plan", "--format", "json"]).expect(0).json()["cohorts"][0]["changes"];
    assert_eq!((&tally["rekeyed"], &tally["added"], &tally["removed"]), (&json!(3), &json!(2), &json!(3)));
    assert_eq!(sandbox.writes(), writes, "a plan sends nothing");
    w.run(&["plan", "--out", "saved.plan"]).expect(0);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(0);
    check(
        &sandbox,
        &["device_id d4", "external_id u1", "external_id u2", "external_id u5", "external_id u7"],
    );
    // In sync: nothing to send and nothing to read.
    w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort"]);
    let unchanged = source(&w);
    assert_eq!((&unchanged["read"], &unchanged["rekeyed"]), (&json!(false), &json!(3)));
    w.run(&["state", "verify"]).expect(0);
}

#[test]
fn several_members_with_one_owner_count_as_removals() {
    let (w, sandbox) = world();
    let devices: Vec<String> = (0..20).map(|n| format!(",,d{n}")).collect();
    carts(&w, &devices.iter().map(String::as_str).collect::<Vec<_>>());
    w.run(&["reconcile"]).expect(0);
    let shared: String = (0..20).map(|n| format!("kiosk,d{n}\n")).collect();
    w.write("who.csv", format!("id,device\n{shared}"));
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    w.run(&["reconcile"]).expect(6).says(&["removals blocked"]);
    assert_eq!(sandbox.members("carts").len(), 20);
}

#[test]
fn heaps_users_and_migrations_apply_in_any_order() {
    let (w, sandbox) = world();
    carts(&w, &[",5,", ",8,", ",9,", ",30,"]);
    w.write("migrations.ndjson", "{\"from_user_id\":5,\"to_user_id\":6,\"time\":1}\n{\"from_user_id\":6,\"to_user_id\":7,\"time\":2}\n{\"from_user_id\":8,\"to_user_id\":9,\"time\":3}\n{\"from_user_id\":9,\"to_user_id\":8,\"time\":4}\n");
    w.run(&["identity", "import", "migrations.ndjson", "--layout", "heap-user-migrations"])
        .expect(0)
        .says(&["read 4 rows, 4 merged"]);
    w.run(&["identity", "show", "5"]).expect(0).says(&["no owner is known for 5"]);
    w.write("users.csv", "user_id,identity,email\n7,u7,x\n8,,x\n30,[REDACTED],x\n");
    w.run(&["identity", "import", "users.csv", "--layout", "heap-users"]).expect(0).says(&[
        "1 with an owner",
        "2 rows rejected: 1 row without an external id, 1 placeholder instead of an identifier",
    ]);
    w.run(&["identity", "show", "5"]).expect(0).says(&["alias heap_user_id 5 is u7"]);
    w.run(&["reconcile"]).expect(0);
    check(
        &sandbox,
        &["alias heap_user_id:30", "alias heap_user_id:8", "alias heap_user_id:9", "external_id u7"],
    );
}

#[test]
fn a_device_with_two_owners_is_reported_and_the_last_import_wins() {
    let (w, _sandbox) = world();
    w.write("who.csv", "id,device\nu1,d1\nu2,d1\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    w.run(&import).expect(0).says(&["! once another owner than before; the newest evidence counts"]);
    w.run(&["identity", "show", "d1"]).expect(0).says(&["device d1 is u2, seen 20"]);
    w.run(&["identity", "stats"]).expect(0).says(&["1 entry in 1 file", "1 claim by another owner"]);
    let stats = w.run(&["identity", "stats", "--format", "json"]).expect(0).json();
    assert_eq!((&stats["entries"], &stats["conflicts"]), (&json!(1), &json!(1)));
    w.run(&["forget", "u2"]).expect(0).says(&["erased 1 entry of the identity map"]);
    w.run(&["identity", "show", "d1"]).expect(0).says(&["no owner is known for d1"]);
}

#[test]
fn an_incomplete_file_imports_nothing() {
    let (w, _sandbox) = world();
    w.write("who.csv", "id,device\nu1,d1\nu2,d2");
    let import = |more: &[&str]| w.run(&[&["identity", "import", "who.csv"], more].concat());
    import(&["--external-id", "id", "--device-id", "device"]).expect(1).says(&["nothing was imported"]);
    w.run(&["identity", "stats"]).expect(0).says(&["0 entries"]);
    w.write("who.csv", "id,device\nu1,d1\n");
    import(&["--external-id", "id", "--device-id", "phone"]).expect(1).says(&["has no column `phone`"]);
    import(&["--external-id", "id"]).expect(64).says(&["--device-id or --alias"]);
    import(&["--device-id", "device"]).expect(64).says(&["--external-id"]);
    import(&["--alias", "crm"]).expect(64);
    w.run(&["identity", "show", "d1"]).expect(0).says(&["the identity map is empty"]);
}

/// A Braze event has a device and its owner; a cohort with the device follows.
#[test]
fn an_event_with_an_identity_rekeys_a_member_at_once() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let heap = format!("  heap: {{ kind: heap, endpoint: {}, app_id: 11 }}\n{SHORT_TIMEOUTS}", sandbox.url);
    let exports = "exports:
  - id: posted
    source: { kind: currents_http, token: { env: TEST_TOKEN } }
    to: heap
    flush_every: 50ms
";
    w.write("sync.yaml", config(&sandbox.url, &[], &heap) + RULES + exports);
    carts(&w, &["u1,,", ",,d2"]);
    let watch = Watch::from_command(w.command(&["watch"]).env("TEST_TOKEN", "t0ken"));
    watch.until_ready();
    until("both members are in", || sandbox.members("carts").len() == 2);
    check(&sandbox, &["device_id d2", "external_id u1"]);
    let event = json!({ "events": [{
        "event_type": "users.behaviors.app.SessionStart", "id": "e1",
        "user": { "user_id": "b2", "external_user_id": "u2", "device_id": "d2" },
        "properties": {}, "time": 1_767_225_600,
    }]});
    let headers = [("content-type", "application/json"), ("authorization", "Bearer t0ken")];
    let posted = http(&watch.endpoints(), "POST", "/currents/posted", &headers, &event.to_string());
    assert_eq!(posted.status, 200, "{}", posted.body);
    until("the device is replaced by its owner", || !sandbox.members("carts").contains("device_id d2"));
    until("the owner is in", || sandbox.members("carts").contains("external_id u2"));
    check(&sandbox, &["external_id u1", "external_id u2"]);
}

#[test]
fn a_device_with_two_owners_is_ambiguous_and_the_newest_evidence_wins() {
    let (w, sandbox) = world();
    carts(&w, &[",,d1", ",,d2", ",,d2", ",,d3"]);
    w.write("who.csv", "id,device\nu1,d1\nu2,d2\nu9,d2\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"];
    w.run(&import).expect(0).says(&["once another owner than before"]);
    w.run(&["identity", "show", "d1"]).expect(0).says(&["device d1 is u1, seen "]);
    w.run(&["identity", "show", "d2"]).expect(0).says(&["is u9", "other evidence names another owner"]);
    w.run(&["plan"]).expect(0).says(&["1 duplicate; 3 re-keyed to their owner, 2 of them ambiguous"]);
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    let source = &report["cohorts"][0]["source"];
    assert_eq!((&source["rekeyed"], &source["ambiguous"]), (&json!(3), &json!(2)));
    check(&sandbox, &["device_id d3", "external_id u1", "external_id u9"]);
}

#[test]
fn members_that_differ_only_by_case_are_reported_and_used() {
    let (w, sandbox) = world();
    carts(&w, &["Anna@x.test,,", "anna@x.test,,", "Ben,,", "Ben,,", ",A,", ",a,", ",,a"]);
    let reported = "4 members with the same id but for upper and lower case";
    w.run(&["plan", "--show-identifiers"]).expect(0).says(&[
        reported,
        "external_id Anna@x.test",
        "heap_user_id:A",
    ]);
    w.run(&["plan"]).expect(0).says(&["such as"]);
    let markdown = w.run(&["plan", "--format", "markdown"]).expect(0);
    markdown.says(&[reported]);
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    assert_eq!(report["cohorts"][0]["source"]["case_colliding"], 4);
    assert_eq!(sandbox.members("carts").len(), 6, "Braze treats them as different users");
}

/// Braze treats an alias and its id as one user: removing one removes both.
#[test]
fn a_member_by_alias_and_id_stays_when_both_are_one_user() {
    for is_saved in [false, true] {
        let (w, sandbox) = world();
        let anna = json!([{ "external_id": "anna", "aliases": [{ "alias_label": "heap_user_id", "alias_name": "7" }] }]);
        sandbox.admin_post("/_sandbox/users", &anna.to_string());
        carts(&w, &["anna,,", ",7,", "ben,,", "carl,,"]);
        w.run(&["reconcile"]).expect(0);
        check(&sandbox, &["external_id anna", "external_id ben", "external_id carl"]);
        w.write("who.csv", "id,heap\nanna,7\n");
        let import = ["identity", "import", "who.csv", "--external-id", "id", "--alias", "heap_user_id=heap"];
        w.run(&import).expect(0);
        let plan = w.run(&["plan", "--format", "json", "--out", "saved.plan"]).expect(0).json();
        let tally = &plan["cohorts"][0]["changes"];
        assert_eq!(
            (&tally["removed"], &tally["added"], &tally["sent_again"]),
            (&json!(1), &json!(0), &json!(1))
        );
        let args: &[&str] = if is_saved { &["reconcile", "--plan", "saved.plan"] } else { &["reconcile"] };
        w.run(args).expect(0).says(&["3 members"]);
        check(&sandbox, &["external_id anna", "external_id ben", "external_id carl"]);
        w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 3 members"]);
    }
}

/// The same when the alias leaves the source and the id does not.
#[test]
fn an_alias_that_leaves_does_not_remove_its_owner() {
    let (w, sandbox) = world();
    let anna =
        json!([{ "external_id": "anna", "aliases": [{ "alias_label": "heap_user_id", "alias_name": "7" }] }]);
    sandbox.admin_post("/_sandbox/users", &anna.to_string());
    carts(&w, &["anna,,", ",7,", ",8,", "ben,,"]);
    w.run(&["reconcile"]).expect(0);
    w.write("who.csv", "id,heap\nanna,7\nben,8\n");
    let import = ["identity", "import", "who.csv", "--external-id", "id", "--alias", "heap_user_id=heap"];
    w.run(&import).expect(0);
    carts(&w, &["anna,,", "new,,"]);
    w.run(&["reconcile"]).expect(0);
    check(&sandbox, &["external_id anna", "external_id new"]);
    w.run(&["state", "verify"]).expect(0);
}

/// Braze ignores the device of an identified user, also in removals.
#[test]
fn a_device_with_an_owner_is_removed_by_the_owners_id() {
    for is_saved in [false, true] {
        let (w, sandbox) = world();
        carts(&w, &["u1,,", ",,d2", ",,d3", "u4,,"]);
        w.run(&["reconcile"]).expect(0);
        sandbox.admin_post("/_sandbox/identify", r#"{"device_id": "d2", "external_id": "u2"}"#);
        carts(&w, &["u1,,", ",,d3", "u4,,"]);
        w.run(&["reconcile"]).expect(0).says(&["removed 1"]);
        check(&sandbox, &["device_id d3", "external_id u1", "external_id u2", "external_id u4"]);
        w.write("who.csv", "id,device\nu2,d2\nu3,d3\n");
        w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
        w.run(&["plan", "--out", "saved.plan"])
            .expect(0)
            .says(&["- remove 2", "1 of the removed were sent by device"]);
        let args: &[&str] = if is_saved { &["reconcile", "--plan", "saved.plan"] } else { &["reconcile"] };
        w.run(args).expect(0).says(&["3 members"]);
        check(&sandbox, &["external_id u1", "external_id u3", "external_id u4"]);
        w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 3 members"]);
        w.run(&["state", "verify"]).expect(0);
    }
}

/// A rejected identifier stays rejected under each of its names.
#[test]
fn an_owner_that_braze_rejects_is_not_sent_again() {
    let (w, sandbox) = world();
    carts(&w, &["u1,,", ",,d2", "u3,,"]);
    w.run(&["reconcile"]).expect(0);
    w.write("who.csv", "id,device\nu2,d2\n");
    w.run(&["identity", "import", "who.csv", "--external-id", "id", "--device-id", "device"]).expect(0);
    sandbox.faults(r#"[{"on":"users","contains":"\"u2\"","times":0,"do":{"reply":{"status":400,"body":{"message":"no good"}}}}]"#);
    carts(&w, &["u1,,", ",,d2", "u3,,", "u4,,"]);
    w.run(&["reconcile"]).says(&["1 identifier rejected by Braze"]);
    for _ in 0..2 {
        w.run(&["reconcile", "--format", "json"]).expect(0);
        let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
        let tally = &plan["cohorts"][0]["changes"];
        assert_eq!(
            (&tally["added"], &tally["removed_again"], &tally["removed"]),
            (&json!(0), &json!(0), &json!(0))
        );
        // One more user, so that the source is read again.
        carts(&w, &["u1,,", ",,d2", "u3,,", "u4,,", "u4,,"]);
    }
    check(&sandbox, &["external_id u1", "external_id u3", "external_id u4"]);
}
