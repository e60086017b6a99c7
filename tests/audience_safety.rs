//! Audience safety: no failure may leave a user in or out of an audience permanently.

use crate::support::*;

fn ready(count: usize) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(count));
    (w, sandbox)
}

const REJECTED: &str = r#"{"reply":{"status":400,"body":{"message":"no good"}}}"#;

/// A fault for every request that contains this text.
fn fault_for(text: &str, what: &str) -> String {
    format!(r#"[{{"on":"users","contains":"\"{text}\"","times":0,"do":{what}}}]"#)
}

#[test]
fn a_rejected_removal_is_reported_and_retried() {
    let (w, sandbox) = ready(20);
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(18));
    sandbox.faults(&fault_for("user-19", REJECTED));
    w.run(&["reconcile"])
        .expect(7)
        .says(&["removed 1; 19 members", "1 member could not be removed; the next run tries again"]);
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0).says(&["removed 1; 18 members"]);
    assert_eq!(sandbox.members("carts"), members(users(18)));
}

#[test]
fn a_cohort_is_not_closed_while_it_has_members() {
    let (w, sandbox) = ready(20);
    w.run(&["reconcile"]).expect(0);
    let removed = "removed: [ { cohort: carts, members: remove } ]\n";
    w.config(&sandbox, &["trials"], removed).source("trials", users(1));
    sandbox.faults(&fault_for("user-7", REJECTED));
    w.run(&["reconcile"]).expect(7).says(&["1 member could not be removed"]);
    w.run(&["status"]).says(&["carts"]);
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0).says(&["removed 1; 0 members"]);
    assert!(sandbox.members("carts").is_empty());
}

/// Accepted without a response, rejected on retry: still a member, and removed once not desired.
#[test]
fn a_reject_does_not_clear_an_earlier_doubt() {
    let (w, sandbox) = ready(20);
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(22));
    sandbox.faults(&fault_for("user-21", r#""lose_answer""#));
    w.run(&["reconcile"]).expect(5).says(&["2 members in doubt"]);
    sandbox.faults(&fault_for("user-21", REJECTED));
    w.run(&["reconcile"]).expect(0).says(&["1 identifier rejected"]);
    sandbox.faults("[]");
    w.source("carts", users(21));
    w.run(&["reconcile"]).expect(0).says(&["removed 1"]);
    assert_eq!(sandbox.members("carts"), members(users(21)));
}

/// The same within one run: one attempt is accepted without a response, the next is rejected.
#[test]
fn a_reject_after_a_lost_response_leaves_the_member_in_doubt() {
    let (w, sandbox) = ready(1);
    w.write("carts.csv", "identity\nuser-0\nuser-1\n");
    let fault = |what: &str| format!(r#"{{"on":"users","contains":"\"user-1\"","do":{what}}}"#);
    sandbox.faults(&format!("[{},{}]", fault(r#""lose_answer""#), fault(REJECTED)));
    w.config(&sandbox, &["carts"], "    batch: 1\n");
    w.run(&["reconcile"]).expect(7).says(&["1 member in doubt"]);
    w.source("carts", users(1));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(1)));
}

/// A 400 proves nothing about an identifier while Braze accepts no other.
#[test]
fn an_outage_of_braze_rejects_no_member_permanently() {
    let (w, sandbox) = ready(50);
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(80));
    sandbox.faults(&format!(r#"[{{"on":"users","times":0,"do":{REJECTED}}}]"#));
    for _ in 0..3 {
        let run = w.run(&["reconcile"]).expect(1);
        assert!(!run.stdout.contains("in doubt"), "each request was rejected: {}", run.stdout);
        run.says(&["Braze rejects the request: no good", "nothing was changed"]);
    }
    // One identifier alone may be the reason itself.
    w.source("carts", users(51));
    w.run(&["reconcile", "--max-removes", "carts=80"]).expect(7).says(&["1 member in doubt"]);
    sandbox.faults("[]");
    w.source("carts", users(80));
    w.run(&["reconcile"]).expect(0).says(&["80 members"]);
    assert_eq!(sandbox.members("carts"), members(users(80)));
}

#[test]
fn a_single_rejected_identifier_stays_in_doubt_until_braze_accepts_another() {
    let (w, sandbox) = ready(10);
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(11));
    sandbox.faults(&fault_for("user-10", REJECTED));
    w.run(&["reconcile"])
        .expect(7)
        .says(&["accepted no other to compare with: no good", "1 member in doubt"]);
    w.source("carts", users(12));
    w.run(&["reconcile"]).expect(0).says(&["added 1; 11 members", "1 identifier rejected by Braze: no good"]);
    w.run(&["reconcile"]).expect(0).says(&["1 identifier rejected by Braze before, not sent", "In sync"]);
}

#[test]
fn a_success_that_rejects_every_row_is_not_a_success() {
    for reply in [
        r#"{"status":200,"body":{"message":"fatal","errors":{"a":"b"}}}"#,
        r#"{"status":200,"body":{"message":"success","errors":"the workspace is read only"}}"#,
        r#"{"status":200,"body":"<html>Please log in</html>"}"#,
    ] {
        let (w, sandbox) = ready(5);
        sandbox.faults(&format!(r#"[{{"on":"users","times":0,"do":{{"reply":{reply}}}}}]"#));
        let run = w.run(&["reconcile"]);
        assert_ne!(run.code, 0, "{reply}");
        run.says(&["5 members in doubt"]);
        sandbox.faults("[]");
        w.run(&["reconcile"]).expect(0).says(&["added 5"]);
        assert_eq!(sandbox.members("carts"), members(users(5)));
    }
}

/// Two workspaces of one company share the instance and the partner, and differ only in their keys.
#[test]
fn another_workspace_on_the_same_instance_is_distinguished() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let with = |connection: &str, formerly: &str, more: &str| {
        config(&sandbox.url, &["carts"], &format!("{formerly}{more}"))
            .replace("  braze:\n", &format!("  {connection}:\n"))
            .replace("to: braze", &format!("to: {connection}"))
    };
    w.write("sync.yaml", with("brand_a", "", "")).source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    w.write("sync.yaml", with("brand_b", "", ""));
    w.run(&["reconcile"]).expect(6).says(&["everything blocked", "`brand_a`", "`brand_b`", "formerly"]);
    w.write("sync.yaml", with("brand_b", "    formerly: [brand_a]\n", ""));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["cohorts"][0]["membership"]["connection"], "brand_b", "{status}");
}

#[test]
fn a_cohort_that_was_emptied_can_be_filled_elsewhere() {
    let (w, sandbox, other) = (Workspace::new(), Sandbox::start(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3)).source("trials", users(1));
    w.run(&["reconcile"]).expect(0);
    w.config(&sandbox, &["trials"], "removed: [ { cohort: carts, members: remove } ]\n");
    w.run(&["reconcile"]).expect(0);
    let trials = config(&sandbox.url, &["trials"], "");
    let second = format!(
        "  elsewhere: {{ kind: braze, endpoint: '{}', data_import_key: {{ env: TEST_IMPORT_KEY }}, partner_api_key: {{ env: TEST_PARTNER_KEY }} }}\ncohorts:\n",
        other.url
    );
    let carts = cohort_entry("carts", "").replace("to: braze", "to: elsewhere");
    w.write("sync.yaml", trials.replace("cohorts:\n", &second) + &carts);
    w.run(&["reconcile"]).expect(0).says(&["created \"Carts\", added 3; 3 members"]);
    assert_eq!(other.members("carts"), members(users(3)));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

const TWO_RULES: &str = "    match: [ { external_id: identity }, { alias: { label: crm, name: crm } } ]\n";

fn two_rules(w: &Workspace, sandbox: &Sandbox) {
    let text = config(&sandbox.url, &["carts"], "");
    w.write("sync.yaml", text.replace("    match: [ { external_id: identity } ]\n", TWO_RULES));
}

/// A user who is removed by one identifier after being added by another would be out permanently.
#[test]
fn with_several_rules_additions_and_removals_are_blocked_together() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    two_rules(&w, &sandbox);
    let rows = |first: &str, bad: &str| {
        format!("identity,crm\n{first}\n{bad}{}", users(18).map(|u| format!("{u},\n")).collect::<String>())
    };
    w.replace("carts.csv", &rows(",1", ""));
    w.run(&["reconcile"]).expect(0);
    w.replace("carts.csv", &rows("u1,1", "broken\n"));
    let before = sandbox.writes();
    w.run(&["reconcile"])
        .expect(6)
        .says(&["removals blocked: 1 row could not be read", "unchanged, 19 members"]);
    assert_eq!(sandbox.writes(), before, "the addition waits as well");
    w.replace("carts.csv", &rows("u1,1", ""));
    w.run(&["reconcile"]).expect(0).says(&["added 1, removed 1; 19 members"]);
    assert!(sandbox.members("carts").contains("external_id u1"));
}

#[test]
fn additions_wait_while_a_removal_is_in_doubt() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    two_rules(&w, &sandbox);
    w.replace("carts.csv", "identity,crm\n,1\nu2,2\n");
    w.run(&["reconcile"]).expect(0);
    w.replace("carts.csv", "identity,crm\nu1,1\nu2,2\n");
    let vague = r#"{"done_but":{"message":"success","errors":["something"]}}"#;
    sandbox.faults(&format!(r#"[{{"on":"users","contains":"should_remove","times":2,"do":{vague}}}]"#));
    w.run(&["reconcile"]).expect(1).says(&["removals are in doubt", "2 members in doubt"]);
    w.run(&["reconcile"]).expect(0).says(&["added 1, removed 1; 2 members"]);
    assert_eq!(sandbox.members("carts"), members(["u1".to_owned(), "u2".to_owned()]));
}

#[test]
fn an_inaccessible_file_is_not_skipped() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "").replace("path: carts.csv", "path: 'part-*.csv'");
    w.write("sync.yaml", text);
    for part in 0..4 {
        w.write(&format!("part-{part}.csv"), csv(users(20).skip(part * 5).take(5)));
    }
    w.run(&["reconcile"]).expect(0).says(&["20 members"]);
    std::fs::remove_file(w.path("part-2.csv")).unwrap();
    std::os::unix::fs::symlink("nowhere", w.path("part-2.csv")).unwrap();
    w.run(&["reconcile"]).expect(1).says(&["part-2.csv", "nothing was removed"]);
    assert_eq!(sandbox.members("carts").len(), 20);
}

#[test]
fn an_empty_ndjson_file_is_an_incomplete_export() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "").replace("path: carts.csv", "path: 'part-*.ndjson'");
    w.write("sync.yaml", text);
    for part in 0..4 {
        let rows: String = (0..5).map(|n| format!("{{\"identity\":\"u{part}{n}\"}}\n")).collect();
        w.write(&format!("part-{part}.ndjson"), rows);
    }
    w.run(&["reconcile"]).expect(0).says(&["20 members"]);
    w.write("part-2.ndjson", "");
    w.run(&["reconcile"]).expect(6).says(&["removals blocked", "part-2.ndjson"]);
    assert_eq!(sandbox.members("carts").len(), 20);
}

#[test]
fn rejected_users_do_not_block_emptying_a_protected_cohort() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let cohort = cohort_entry("carts", "    protect: true\n");
    w.write("sync.yaml", config(&sandbox.url, &[], "") + &cohort).source("carts", users(4));
    sandbox.faults(&fault_for("user-3", REJECTED));
    w.run(&["reconcile"]).expect(0).says(&["added 3"]);
    w.source("carts", ["user-3".to_owned()]);
    w.run(&["reconcile"]).expect(6).says(&["the cohort is protected"]);
    assert_eq!(sandbox.members("carts").len(), 3);
}

/// Additions during a block of removals must not lower their percentage for the next run.
#[test]
fn a_block_does_not_disappear_in_later_runs() {
    let (w, sandbox) = ready(100);
    w.run(&["reconcile"]).expect(0);
    let others = |n: usize| (0..n).map(|n| format!("other-{n}"));
    w.source("carts", users(60).chain(others(240)));
    w.run(&["reconcile"]).expect(6).says(&["40 of 100 members would leave (40.0%)"]);
    for _ in 0..2 {
        let share = "40 of 340 members would leave (40.0% of the 100 when removals were first blocked)";
        w.run(&["reconcile"]).expect(6).says(&[share]);
    }
    assert_eq!(sandbox.members("carts").len(), 340);
    w.run(&["reconcile", "--max-removes", "carts=40"]).expect(0);
    w.source("carts", users(60).chain(others(160)));
    w.run(&["reconcile"]).expect(0).says(&["removed 80; 220 members"]);
}

#[test]
fn a_rate_limit_with_a_past_reset_still_waits() {
    let (w, sandbox) = ready(5);
    let past = r#"{"status":429,"headers":[["x-ratelimit-reset","1"]]}"#;
    w.write("sync.yaml", w.read("sync.yaml").replace("first_wait: 10ms", "first_wait: 400ms"));
    sandbox.faults(&format!(r#"[{{"on":"users","times":2,"do":{{"reply":{past}}}}}]"#));
    let began = std::time::Instant::now();
    w.run(&["reconcile"]).expect(0);
    assert!(began.elapsed().as_millis() >= 600, "at least 200 ms, then 400");
    drop(sandbox);
}

#[test]
fn a_state_without_its_key_seed_is_not_changed() {
    let (w, _sandbox) = ready(5);
    w.run(&["reconcile"]).expect(0);
    std::fs::remove_file(w.path(".syncline/format.json")).unwrap();
    let before = w.snapshot(".syncline");
    for command in ["plan", "reconcile"] {
        w.run(&[command]).expect(1).says(&["format.json", "it is missing", "restore it"]);
    }
    let ours = |files: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| !path.ends_with("lease.json")).collect()
    };
    assert_eq!(ours(w.snapshot(".syncline")), ours(before));
}

/// The rejects are on disk before the membership records them.
#[test]
fn the_reason_of_a_reject_survives_a_crash() {
    let (w, sandbox) = ready(4_000);
    w.config(&sandbox, &["carts"], "    batch: 10\n");
    let hang = r#"{"on":"users","skip":350,"times":0,"do":"hang"}"#;
    let refuse = fault_for("user-5", REJECTED);
    sandbox.faults(&format!("[{hang},{}", &refuse[1..]));
    let mut child = w.command(&["reconcile"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    until("350 requests", || sandbox.requests()["users"].as_u64().unwrap() > 350);
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.faults("[]");
    let version = w.snapshot(".syncline/cohorts/carts/versions").pop().unwrap().1;
    let version_text = String::from_utf8(version).unwrap();
    let known = !version_text.contains("\"rejected\": []");
    let reported = w
        .snapshot(".syncline/rejects")
        .iter()
        .any(|(_, text)| String::from_utf8_lossy(text).contains("external_id user-5\""));
    assert!(!known || reported, "{version_text}");
    w.run(&["reconcile"]).expect(0);
}

#[test]
fn an_unchanged_source_is_not_read() {
    let (w, sandbox) = ready(50);
    w.write("carts.csv", "identity\nuser-0\nuser-0\nnull\nuser-1\n");
    // A file written moments ago may change again within the same timestamp.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let report = |run: Run| run.json()["cohorts"][0].clone();
    let first = report(w.run(&["reconcile", "--format", "json"]).expect(0));
    assert_eq!((&first["source"]["read"], &first["members"]), (&true.into(), &2.into()));
    let second = report(w.run(&["reconcile", "--format", "json"]).expect(0));
    assert_eq!(second["source"]["read"], false);
    for field in ["rows", "duplicates", "rejects", "files"] {
        assert_eq!(second["source"][field], first["source"][field], "{field}");
    }
    // Other rules for the same file.
    w.write(
        "sync.yaml",
        w.read("sync.yaml").replace("path: carts.csv", "path: carts.csv, null_values: ['user-1']"),
    );
    let other = report(w.run(&["reconcile", "--format", "json"]).expect(0));
    assert_eq!((&other["source"]["read"], &other["members"]), (&true.into(), &1.into()));
    // Same length and modification time: the change time (ctime) still differs.
    let time = std::fs::metadata(w.path("carts.csv")).unwrap().modified().unwrap();
    w.write("carts.csv", "identity\nuser-0\nuser-0\nnull\nuser-9\n");
    std::fs::File::options().write(true).open(w.path("carts.csv")).unwrap().set_modified(time).unwrap();
    w.run(&["reconcile"]).expect(0).says(&["added 1"]);
    assert!(sandbox.members("carts").contains("external_id user-9"));
}
