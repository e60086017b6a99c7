//! Life cycle of a cohort: created, filled, changed, renamed, orphaned, emptied.

use std::collections::BTreeSet;
use std::fs;

use crate::support::*;

#[test]
fn a_cohort_is_created_filled_and_then_in_sync_without_requests() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(2_500)).source("trials", users(10));
    w.run(&["reconcile"])
        .expect(0)
        .says(&["created \"Carts\", added 2,500", "Applied: 2 cohorts, 2,510 added"]);
    assert_eq!(sandbox.members("carts"), members(users(2_500)));
    assert_eq!(sandbox.members("trials"), members(users(10)));
    assert_eq!(sandbox.writes(), 2 + 3 + 1);

    w.run(&["reconcile"]).expect(0).says(&["In sync: 2 cohorts, 2,510 members, 0 requests to Braze."]);
    assert_eq!(sandbox.writes(), 6, "nothing was sent");
}

#[test]
fn only_the_changed_line_is_planned_and_sent() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(2_000));
    w.run(&["reconcile"]).expect(0);
    w.replace("carts.csv", &w.read("carts.csv").replace("user-77\n", "user-new\n"));

    let plan = w.run(&["plan", "--format", "json"]).expect(0).json();
    let changes = &plan["cohorts"][0]["changes"];
    assert_eq!((changes["added"].as_u64(), changes["removed"].as_u64()), (Some(1), Some(1)));
    let before = sandbox.requests();
    let report = w.run(&["reconcile", "--format", "json"]).expect(0).json();
    assert_eq!(report["result"], "applied");
    assert_eq!((report["requests"].as_u64(), report["digest"].as_str()), (Some(2), plan["digest"].as_str()));
    let after = sandbox.requests();
    assert_eq!(after["added"].as_u64().unwrap() - before["added"].as_u64().unwrap(), 1);
    assert_eq!(after["removed"].as_u64().unwrap() - before["removed"].as_u64().unwrap(), 1);
    assert_eq!(after["mixed"], 0, "removals and additions are never in one request");

    let mut expected = members(users(2_000));
    expected.remove("external_id user-77");
    expected.insert("external_id user-new".to_owned());
    assert_eq!(sandbox.members("carts"), expected);
}

#[test]
fn the_example_of_the_repository_works() {
    let w = Workspace::new();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args(["sync.yaml", "examples"].map(|path| root().join(path)))
        .arg(w.path(""))
        .status();
    assert!(copied.unwrap().success());
    w.run(&["reconcile"]).expect(0).says(&[
        "Applied: 3 cohorts, 11,200 added, 0 removed, 16 requests; 1 export, 2,434 events to Heap in 3 requests.",
    ]);
    agrees_with_the_files(&w);
    w.run(&["reconcile"])
        .expect(0)
        .says(&["In sync: 3 cohorts, 11,200 members, 0 requests to Braze; 1 export, 0 events to Heap"]);

    let csv = w.read("examples/data/abandoned_checkout.csv");
    let line = csv.lines().find(|line| line.starts_with("shopper-00")).unwrap();
    let person = line.split(',').next().unwrap();
    w.replace("examples/data/abandoned_checkout.csv", &csv.replace(person, "shopper-new@example.com"));
    w.run(&["reconcile"]).expect(0).says(&["added 1, removed 1"]);
    agrees_with_the_files(&w);
}

/// Starts a sandbox with the memory of the built-in one, and compares.
fn agrees_with_the_files(w: &Workspace) {
    let memory = w.path(".syncline/sandbox/braze");
    let sandbox = Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    assert_eq!(
        sandbox.members("abandoned_checkout"),
        expected_checkout(&w.read("examples/data/abandoned_checkout.csv"))
    );
    let trial = w.read("examples/data/trial_in_trouble.ndjson");
    assert_eq!(sandbox.members("trial_in_trouble"), trial.lines().filter_map(expected_trial).collect());
    assert_eq!(sandbox.members("spring_promotion").len(), 3_400);
}

/// The rules of the example, written independently.
fn expected_checkout(csv: &str) -> BTreeSet<String> {
    let person = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(|f| f.trim_matches('"').trim()).collect();
        let [identity, heap, device, ..] = fields[..] else { return None };
        let bad = ["[REDACTED]", "null", "undefined"].contains(&identity)
            || identity.len() > 987
            || fields.len() != 5;
        match (bad, identity, heap, device) {
            (true, ..) | (_, "", "", "") => None,
            (_, "", "", device) => Some(format!("device_id {device}")),
            (_, "", heap, _) => Some(format!("alias heap_user_id:{heap}")),
            (_, identity, ..) => Some(format!("external_id {identity}")),
        }
    };
    csv.lines().skip(1).filter_map(person).collect()
}

fn expected_trial(line: &str) -> Option<String> {
    let row: serde_json::Value = serde_json::from_str(line).unwrap();
    match (row["user_id"].as_str(), row["crm_id"].as_u64(), row["device"].as_str()) {
        (Some("None"), ..) => None,
        (Some(user), ..) => Some(format!("external_id {user}")),
        (None, Some(crm), _) => Some(format!("alias crm_id:{crm}")),
        (None, None, Some(device)) => Some(format!("device_id {device}")),
        _ => None,
    }
}

#[test]
fn a_new_name_sends_only_the_name() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(5));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", w.read("sync.yaml").replace("name: Carts", "name: Full carts"));
    w.run(&["plan"]).expect(0).says(&["rename \"Carts\" to \"Full carts\""]);
    w.run(&["reconcile"]).expect(0).says(&["renamed \"Carts\" to \"Full carts\""]);
    assert_eq!(sandbox.names(), [("carts".to_owned(), "Full carts".to_owned())]);
    assert_eq!(sandbox.requests()["users"], 1);
}

#[test]
fn an_orphaned_cohort_keeps_its_members_until_removed() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(40)).source("trials", users(20));
    w.run(&["reconcile"]).expect(0);

    w.config(&sandbox, &["trials"], "");
    w.run(&["plan"])
        .expect(0)
        .says(&["orphaned, not in the config, 40 members stay in Braze", "removed: [{ cohort: carts"]);
    w.run(&["reconcile"]).expect(0).says(&["orphaned, not in the config"]);
    assert_eq!(sandbox.members("carts").len(), 40);

    w.config(&sandbox, &["trials"], "removed: [{ cohort: carts, members: remove }]\n");
    w.run(&["plan"]).expect(0).says(&["remove 40"]);
    w.run(&["reconcile"]).expect(0).says(&["removed 40"]);
    assert_eq!(sandbox.members("carts"), BTreeSet::new());
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(0).says(&["In sync: 1 cohort, 20 members"]);
    assert_eq!(sandbox.writes(), before, "an emptied cohort is not emptied again");

    w.config(&sandbox, &["carts", "trials"], "");
    w.run(&["reconcile"]).expect(0).says(&["added 40"]);
    assert_eq!(sandbox.members("carts").len(), 40, "a removed cohort may return");
}

#[test]
fn cohorts_are_sent_concurrently_with_one_request_per_cohort() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--latency", "15"]));
    let ids = ["a", "b", "c", "d", "e", "f"];
    w.config(&sandbox, &ids, "    batch: 100\n    cohorts_at_once: 3\n");
    for id in ids {
        w.source(id, users(500));
    }
    w.run(&["reconcile"]).expect(0);
    let requests = sandbox.requests();
    assert_eq!(requests["at_once_max"], 3);
    assert_eq!(requests["statuses"], serde_json::json!({ "201": 36 }), "no write met another (423)");
    assert_eq!(requests["identifiers_max"], 100);
}

/// Braze may know one user by two identifiers. The old identifier is removed first; otherwise the user would be
/// out at the end.
#[test]
fn a_member_with_a_better_identifier_stays_in() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let ids: Vec<String> = (0..1_500)
        .map(|n| {
            format!(
                r#"{{"external_id":"user-{n}","aliases":[{{"alias_label":"crm","alias_name":"crm-{n}"}}]}}"#
            )
        })
        .collect();
    sandbox.admin_post("/_sandbox/users", &format!("[{}]", ids.join(",")));
    w.config(&sandbox, &[], "").write(
        "sync.yaml",
        config(&sandbox.url, &[], "")
            + "  - id: carts
    name: Carts
    to: braze
    source: { kind: file, path: carts.csv }
    match: [ { external_id: identity }, { alias: { label: crm, name: crm } } ]
    guard: { max_removed: 100% }
",
    );
    let rows = |identity: &dyn Fn(usize) -> String| -> String {
        (0..1_500).map(|n| format!("{},crm-{n}\n", identity(n))).collect()
    };
    w.replace("carts.csv", &format!("identity,crm\n{}", rows(&|_| String::new())));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(1_500)));
    w.replace("carts.csv", &format!("identity,crm\n{}", rows(&|n| format!("user-{n}"))));
    w.run(&["reconcile"]).expect(0).says(&["added 1,500, removed 1,500"]);
    assert_eq!(sandbox.members("carts"), members(users(1_500)), "no member was removed");
}

#[test]
fn parts_are_parquet_files_with_private_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    let state = w.snapshot(".syncline");
    for (path, bytes) in &state {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
        if path.extension().is_some_and(|e| e == "parquet") {
            assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
        }
    }
    assert_eq!(fs::metadata(w.path(".syncline")).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(state.iter().any(|(path, _)| path.to_string_lossy().contains("/parts/")));
}

#[test]
fn a_second_process_reports_the_holder_of_the_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    sandbox.faults(r#"[{"on":"users","do":"hang"}]"#);
    let mut first = w.command(&["reconcile"]).spawn().unwrap();
    until("the first request", || sandbox.requests()["users"] == 1);
    w.run(&["reconcile"]).expect(8).says(&["the state is held by process", &first.id().to_string()]);
    w.run(&["plan"]).expect(0);
    first.kill().unwrap();
    first.wait().unwrap();
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(3)));
}
