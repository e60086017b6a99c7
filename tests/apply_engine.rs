//! Apply engine: foreign responses, reports after errors, stops, and the guard with members in doubt.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::*;

const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";

fn filled(count: usize, more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let campaign = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]);
    sandbox.admin_post("/_sandbox/campaigns", &campaign.to_string());
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", w.read("sync.yaml") + more).source("carts", users(count));
    w.run(&["reconcile"]).expect(0);
    (w, sandbox)
}

fn with_trigger(more: &str) -> (Workspace, Sandbox) {
    filled(10, &format!("    on_enter: {{ campaign: {CAMPAIGN}{more} }}\n"))
}

fn recipients(sandbox: &Sandbox) -> Vec<String> {
    let all: Value = serde_json::from_str(&sandbox.get("/_sandbox/sends").1).unwrap();
    let recipients = all.as_array().unwrap().iter().flat_map(|send| send["recipients"].as_array().unwrap());
    let mut recipients: Vec<String> =
        recipients.map(|recipient| recipient["external_user_id"].as_str().unwrap().to_owned()).collect();
    recipients.sort();
    recipients
}

#[test]
fn a_foreign_response_leaves_members_in_doubt() {
    let replies = [
        json!({ "status": 200, "body": {} }),
        json!({ "status": 201, "body": { "ok": true } }),
        json!({ "status": 202, "body": [] }),
        json!({ "status": 200, "body": "<html>Please log in</html>" }),
    ];
    for (on, more) in [("users", ""), ("cohorts", ""), ("users_track", "    deliver: attribute\n")] {
        for reply in &replies {
            let (w, sandbox) = (Workspace::new(), Sandbox::start());
            w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
            w.write("sync.yaml", w.read("sync.yaml") + more).source("carts", users(20));
            sandbox.faults(&json!([{ "on": on, "times": 0, "do": { "reply": reply } }]).to_string());
            let report = w.run(&["reconcile"]).expect(7);
            report.says(&["this is not Braze's answer", "20 members in doubt"]);
            sandbox.faults("[]");
            w.run(&["reconcile"]).expect(0).says(&["added 20; 20 members"]);
        }
    }
}

/// A server that responds 204 to every request, as some gateways do.
#[test]
fn an_empty_success_is_not_a_response_of_braze() {
    let (w, listener) = (Workspace::new(), listener::Listener::start());
    w.write("sync.yaml", config(listener.url(), &["carts"], "")).source("carts", users(20));
    w.run(&["reconcile"]).expect(7).says(&["status 204 with an empty body", "20 members in doubt"]);
    w.run(&["status"]).expect(0).says(&["0 members", "20 in doubt"]);
    assert_eq!(listener.posts().len(), 1, "the first response shows that the server is not Braze");
}

#[test]
fn a_trigger_with_a_foreign_response_is_never_repeated() {
    let (w, sandbox) = with_trigger("");
    let reply = json!([{ "on": "campaigns_trigger", "do": { "reply": { "status": 200, "body": {} } } }]);
    sandbox.faults(&reply.to_string());
    w.source("carts", users(13));
    let report = w.run(&["reconcile", "--format", "json"]).expect(7).json();
    assert_eq!(report["cohorts"][0]["triggers"]["list"][0]["unanswered"], 3);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 0);
}

#[test]
fn the_error_of_a_redirect_shows_its_target() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(5));
    let to = [["location", "https://rest.iad-09.example/partners/heap?key=canary"]];
    sandbox.faults(&json!([{ "do": { "reply": { "status": 301, "headers": to } } }]).to_string());
    let run = w.run(&["reconcile"]).expect(1);
    assert!(!format!("{run:?}").contains("canary"));
    run.says(&["redirected to https://rest.iad-09.example/partners/heap; set `endpoint:`"]);
}

#[test]
fn a_408_is_retried_and_every_form_of_retry_after_is_read() {
    let after = |value: &str| json!({ "reply": { "status": 429, "headers": [["retry-after", value]] } });
    // A date in the past and a fraction. If neither were read, the wait would be an hour, longer than this
    // config allows.
    for fault in [json!({ "status": 408 }), after("Wed, 17 Jun 2020 20:17:10 GMT"), after("0.2")] {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        w.config(&sandbox, &["carts"], "").source("carts", users(5));
        sandbox.faults(&json!([{ "on": "users", "do": fault }]).to_string());
        w.run(&["reconcile"]).expect(0).says(&["added 5"]);
        assert_eq!(sandbox.requests()["users"], 2);
    }
}

#[test]
fn the_guard_counts_removals_of_members_in_doubt() {
    let (w, sandbox) = filled(1_000, "");
    sandbox.faults(r#"[{"on":"users","times":0,"do":"lose_answer"}]"#);
    w.run(&["resync", "carts", "--yes"]).expect(7).says(&["1,000 members in doubt"]);
    sandbox.faults("[]");
    w.source("carts", users(100));
    w.run(&["reconcile"]).expect(6).says(&["900", "1,000", "30%"]);
    assert_eq!(sandbox.members("carts").len(), 1_000);
    // Percentages are still of all members once some are settled.
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sandbox.members("carts").len(), 1_000);
    w.run(&["reconcile", "--max-removes", "carts=900"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(100)));
}

#[test]
fn the_guard_counts_removals_after_an_unanswered_first_fill() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(1_000));
    sandbox.faults(r#"[{"on":"users","times":0,"do":"lose_answer"}]"#);
    w.run(&["reconcile"]).expect(7);
    sandbox.faults("[]");
    w.source("carts", users(100));
    w.run(&["reconcile"]).expect(6);
    assert_eq!(sandbox.members("carts").len(), 1_000);
    // A percentage that the guard allows is applied, settled or in doubt.
    w.source("carts", users(900)).run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(900)));
}

#[test]
fn one_rejected_recipient_delays_no_other() {
    let (w, sandbox) = with_trigger("");
    let bad = json!({ "reply": { "status": 400, "body": { "message": "user-33 is no good" } } });
    let fault = json!([{ "on": "campaigns_trigger", "contains": "\"user-33\"", "times": 0, "do": bad }]);
    sandbox.faults(&fault.to_string());
    w.source("carts", users(70));
    let args = ["reconcile", "--max-adds", "carts=60"];
    w.run(&args).expect(0).says(&["for 59 users", "1 recipient rejected by Braze: [user] is no good"]);
    let expected: std::collections::BTreeSet<String> =
        users(70).skip(10).filter(|user| user != "user-33").collect();
    assert_eq!(recipients(&sandbox).into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
    assert_eq!(recipients(&sandbox).len(), 59, "each user once");
    assert!(w.read_all(".syncline/rejects").contains("trigger_rejected"));
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    assert_eq!(recipients(&sandbox).len(), 59);
}

#[test]
fn an_invalid_request_rejects_no_recipient() {
    let (w, sandbox) = with_trigger("");
    sandbox.faults(r#"[{"on": "campaigns_trigger", "times": 0, "do": {"status": 400}}]"#);
    w.source("carts", users(70)).run(&["reconcile", "--max-adds", "carts=60"]).expect(7);
    assert!(!w.read_all(".syncline/rejects").contains("trigger_rejected"));
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0);
    assert_eq!(recipients(&sandbox).len(), 60, "the triggers were still pending");
}

/// Due triggers are recorded before the membership. A crash in between leaves users in the list who never
/// entered.
#[test]
fn a_trigger_fires_only_for_a_settled_member() {
    let (w, sandbox) = with_trigger(", at_most: 1");
    w.source("carts", users(13)).run(&["reconcile"]).expect(0);
    let fired = recipients(&sandbox);
    assert_eq!(fired.len(), 1);
    let remaining = users(13).skip(10).find(|user| !fired.contains(user)).unwrap();
    let newest = w.snapshot(".syncline/triggers/carts").pop().unwrap();
    let due = String::from_utf8(newest.1).unwrap();
    let paid = due.replace(&remaining, "has-paid");
    assert_ne!(due, paid);
    let name = newest.0.strip_prefix(w.path(".syncline")).unwrap_or(&newest.0).to_str().unwrap();
    let name = name.trim_start_matches(".syncline/");
    w.write(&format!(".syncline/{name}"), with_checksum(name, &paid));
    for _ in 0..3 {
        w.run(&["reconcile"]).expect(0);
    }
    let expected: Vec<String> = users(13).skip(10).filter(|user| *user != remaining).collect();
    assert_eq!(recipients(&sandbox), expected);
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

#[test]
fn an_error_after_sending_keeps_the_report() {
    let (w, sandbox) = with_trigger("");
    sandbox.faults(r#"[{"on": "campaigns_trigger", "do": "hang"}]"#);
    w.source("carts", users(13));
    let mut child = w.command(&["reconcile", "--format", "json"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let hanging = || sandbox.requests()["rest"]["endpoints"]["campaigns_trigger"].as_u64() == Some(1);
    until("members are sent and the trigger request hangs", hanging);
    // The next file of the trigger list already exists, so the state does not accept the next write.
    let newest = w.snapshot(".syncline/triggers/carts").pop().unwrap().0;
    let number: u64 = newest.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    w.write(&format!(".syncline/triggers/carts/{:012}.json", number + 1), "{}");
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(report["cohorts"][0]["added"], 3, "{report}");
    assert_eq!(report["result"], "applied_in_part");
    w.run(&["history", "-n", "1"]).expect(0).says(&["applied in part", "added 3", "stopped:"]);
}

#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_stop_before_the_first_request_leaves_nothing_in_doubt() {
    let (w, sandbox) = filled(10, "    preflight: {}\n");
    let sent = sandbox.writes();
    sandbox.faults(r#"[{"on": "export_ids", "times": 0, "do": "hang"}]"#);
    w.source("carts", users(13));
    let lookups = || sandbox.requests()["rest"]["endpoints"]["export_ids"].as_u64().unwrap_or(0);
    let before = lookups();
    let mut command = w.command(&["reconcile"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("Braze gets the preflight request before members", || lookups() > before);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stdout).unwrap().contains("nothing was sent"));
    assert_eq!(sandbox.writes(), sent);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(
        (&status["cohorts"][0]["membership"]["in_doubt"], &status["cohorts"][0]["membership"]["members"]),
        (&json!(0), &json!(10))
    );
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0).says(&["added 3; 13 members"]);
}

/// A source that never ends keeps planning from ending.
#[cfg(unix)]
#[test]
fn a_stop_while_planning_reports_that_nothing_was_sent() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/people.csv", socket.local_addr().unwrap());
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "");
    w.write("sync.yaml", w.read("sync.yaml").replace("path: carts.csv", &format!("path: {url}")));
    let mut command = w.command(&["reconcile"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _stream = socket.accept().unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stderr).unwrap().contains("stopped, nothing sent"));
    assert_eq!(sandbox.writes(), 0);
    w.run(&["status"]).expect(0).says(&["nothing sent yet"]);
}
