//! Responses of Braze and the resulting state: every rule, tested with a fault in the sandbox.

use std::time::Instant;

use crate::support::*;

fn ready(count: usize, more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], more).source("carts", users(count));
    (w, sandbox)
}

#[track_caller]
fn in_sync(w: &Workspace, sandbox: &Sandbox, count: usize) {
    assert_eq!(sandbox.members("carts"), members(users(count)));
    w.assert_in_sync(sandbox);
}

#[test]
fn one_invalid_identifier_in_a_thousand_rejects_no_other() {
    let (w, sandbox) = ready(1_000, "");
    sandbox.faults(r#"[{"on":"users","contains":"\"user-617\"","times":0,"do":{"reply":{"status":400,"body":{"message":"user-617 is no good"}}}}]"#);
    w.run(&["reconcile"])
        .expect(0)
        .says(&["added 999; 999 members", "1 identifier rejected by Braze: [user] is no good"]);
    let mut expected = members(users(1_000));
    expected.remove("external_id user-617");
    assert_eq!(sandbox.members("carts"), expected);
    assert!(sandbox.requests()["users"].as_u64().unwrap() <= 21, "found by bisection");

    let rejects = w.snapshot(".syncline/rejects");
    let text = String::from_utf8(rejects[0].1.clone()).unwrap();
    let (line, checksum) = text.rsplit_once(",\"checksum\":").unwrap();
    assert_eq!(
        line,
        "{\"reason\":\"rejected_by_braze\",\"detail\":\"[user] is no good\",\"column\":\"add\",\"value\":\"external_id user-617\""
    );
    assert!(checksum.ends_with("}\n"), "one line: {text}");
    // It is recorded as rejected and not sent again.
    let before = sandbox.writes();
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
    w.run(&["plan"]).expect(0).says(&["1 rejected by Braze before, not sent again"]);
    assert_eq!(sandbox.writes(), before);
    // `--retry-rejected` sends it again.
    sandbox.faults("[]");
    w.run(&["plan", "--retry-rejected"]).expect(0).says(&["add 1"]);
    w.run(&["reconcile", "--retry-rejected"]).expect(0).says(&["added 1; 1,000 members"]);
    assert_eq!(sandbox.members("carts"), members(users(1_000)));
}

#[test]
fn several_invalid_identifiers_are_each_found() {
    let (w, sandbox) = ready(1_000, "");
    let bad = [3, 4, 500, 999];
    let faults =
        bad.map(|n| format!(r#"{{"on":"users","contains":"\"user-{n}\"","times":0,"do":{{"status":400}}}}"#));
    sandbox.faults(&format!("[{}]", faults.join(",")));
    w.run(&["reconcile"]).expect(0).says(&["added 996", "4 identifiers rejected"]);
    let expected = members((0..1_000).filter(|n| !bad.contains(n)).map(|n| format!("user-{n}")));
    assert_eq!(sandbox.members("carts"), expected);
}

#[test]
fn a_400_for_every_request_stops_instead_of_rejecting_all() {
    let (w, sandbox) = ready(1_000, "");
    sandbox.faults(r#"[{"on":"users","times":0,"do":{"reply":{"status":400,"body":{"message":"cohort_id must be a valid string"}}}}]"#);
    w.run(&["reconcile"]).expect(7).says(&["Braze rejects the request: cohort_id must be a valid string"]);
    assert!(sandbox.requests()["users"].as_u64().unwrap() < 60, "not one request per member");
    assert!(sandbox.members("carts").is_empty());
}

#[test]
fn a_400_for_the_name_stops_the_cohort() {
    let (w, sandbox) = ready(5, "");
    sandbox.faults(r#"[{"on":"cohorts","do":{"status":400}}]"#);
    w.run(&["reconcile"]).expect(1).says(&["Braze rejects the request"]);
    assert!(sandbox.members("carts").is_empty(), "a cohort gets its name before its members");
    w.run(&["reconcile"]).expect(0);
    in_sync(&w, &sandbox, 5);
}

#[test]
fn invalid_keys_stop_the_connection_without_retries() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "    cohorts_at_once: 1\n");
    w.source("carts", users(5)).source("trials", users(5));
    let mut command = w.command(&["reconcile"]);
    command.env("TEST_IMPORT_KEY", "wrong-key-canary");
    run(command).expect(4).says(&["Braze rejects the keys: Invalid client secret"]);
    assert_eq!(
        sandbox.requests()["statuses"],
        serde_json::json!({ "401": 1 }),
        "the other cohort sent no request"
    );
    w.run(&["reconcile"]).expect(0);
    in_sync(&w, &sandbox, 5);
}

/// Braze has rejected each request, or no request has reached it: the run changed nothing, and nothing is in doubt.
#[test]
fn a_rejected_request_leaves_no_member_in_doubt() {
    let (w, sandbox) = ready(5, "");
    let nothing_in_doubt = |shown: Run, says: &str| {
        let shown = shown.says(&[says, "unchanged, 0 members"]);
        assert!(!shown.stdout.contains("in doubt"), "{}", shown.stdout);
        let status = w.run(&["status"]).expect(0);
        assert!(!status.stdout.contains("in doubt"), "{}", status.stdout);
    };
    for (status, code) in [(401, 4), (403, 4), (429, 5), (404, 1)] {
        sandbox.faults(&format!(r#"[{{"times": 0, "do": {{"status": {status}}}}}]"#));
        let shown = w.run(&["reconcile"]).expect(code);
        nothing_in_doubt(shown, "stopped:");
    }
    sandbox.faults("[]");
    let config = w.read("sync.yaml");
    w.write("sync.yaml", config.replace(&sandbox.url, "http://127.0.0.1:1"));
    nothing_in_doubt(w.run(&["reconcile"]).expect(5), "Braze is not available: not reached");
    w.write("sync.yaml", config);
    sandbox.faults(r#"[{"on": "cohorts", "times": 0, "do": "lose_answer"}]"#);
    w.run(&["reconcile"]).expect(5).says(&["5 members in doubt"]);
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0);
    in_sync(&w, &sandbox, 5);
}

#[test]
fn a_secret_in_a_message_of_braze_is_not_shown() {
    let (w, sandbox) = ready(5, "    partner: other\n");
    let run = w.run(&["reconcile", "-vvv"]).expect(4);
    assert!(!format!("{run:?}").contains(IMPORT_KEY));
    run.says(&["Partner not enabled for client with client secret: [secret]"]);
    drop(sandbox);
}

#[test]
fn a_request_that_is_too_large_is_halved() {
    let (w, sandbox) = ready(1_000, "");
    sandbox.faults(r#"[{"on":"users","times":3,"do":{"status":413}}]"#);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.requests()["users"], 3 + 4);
    in_sync(&w, &sandbox, 1_000);
}

#[test]
fn temporary_failures_are_retried() {
    for fault in
        [r#"{"status":423}"#, r#"{"status":500}"#, r#"{"status":503}"#, r#""reset""#, r#""lose_answer""#]
    {
        let (w, sandbox) = ready(2_000, "");
        sandbox.faults(&format!(
            r#"[{{"on":"cohorts","do":{fault}}},{{"on":"users","skip":1,"times":3,"do":{fault}}}]"#
        ));
        w.run(&["reconcile"]).expect(0);
        in_sync(&w, &sandbox, 2_000);
    }
}

#[test]
fn exhausted_retries_leave_members_in_doubt_for_the_next_run() {
    for (fault, says) in [
        (r#"{"status":503}"#, "Braze is not available: status 503"),
        (r#"{"status":423}"#, "Braze keeps the cohort locked (423)"),
        (r#""reset""#, "Braze is not available: no answer"),
        (r#""lose_answer""#, "Braze is not available: no answer"),
    ] {
        let (w, sandbox) = ready(3_000, "");
        sandbox.faults(&format!(r#"[{{"on":"users","skip":1,"times":0,"do":{fault}}}]"#));
        w.run(&["reconcile"]).expect(7).says(&[
            says,
            "2,000 members in doubt; the next run settles them",
            "Applied in part",
        ]);
        assert_eq!(sandbox.requests()["users"], 1 + 4);
        w.run(&["status"]).expect(0).says(&["1,000 members in braze", "2,000 in doubt"]);
        w.run(&["plan"]).expect(0).says(&["in doubt from an earlier run: 2,000 to add again, 0 to remove"]);
        sandbox.faults("[]");
        w.run(&["reconcile"]).expect(0).says(&["added 2,000"]);
        in_sync(&w, &sandbox, 3_000);
    }
}

#[test]
fn a_member_in_doubt_who_is_no_longer_desired_is_removed() {
    let (w, sandbox) = ready(2_000, "");
    sandbox.faults(r#"[{"on":"users","times":0,"do":"lose_answer"}]"#);
    w.run(&["reconcile"]).expect(7);
    assert_eq!(sandbox.members("carts").len(), 1_000, "some members are in, without a response");
    sandbox.faults("[]");
    w.source("carts", users(1));
    let plan = w.run(&["plan"]).expect(6);
    plan.says(&["1 to add again, 1,999 to remove again", "1,999 of 2,000 members would leave"]);
    w.run(&["reconcile", "--max-removes", "carts=1999"]).expect(0);
    in_sync(&w, &sandbox, 1);
}

#[test]
fn an_unreachable_braze_is_reported_as_unavailable() {
    let (w, sandbox) = ready(5, "    retry: { attempts: 2, first_wait: 1ms }\n");
    w.write(
        "sync.yaml",
        w.read("sync.yaml").replacen(
            "    retry: { attempts: 4, first_wait: 10ms, longest_wait: 3s }\n",
            "",
            1,
        ),
    );
    sandbox.faults(r#"[{"times":0,"do":{"status":502}}]"#);
    w.run(&["reconcile"]).expect(5).says(&["status 502"]);
    drop(sandbox);
    w.run(&["reconcile"]).expect(5).says(&["not reached (", "connection refused"]);
}

#[test]
fn a_response_after_the_timeout_does_not_count() {
    let (w, sandbox) = ready(5, "    timeout: 100ms\n");
    w.write("sync.yaml", w.read("sync.yaml").replacen("    timeout: 2s\n", "", 1));
    sandbox.faults(r#"[{"on":"users","times":0,"do":"hang_after"}]"#);
    w.run(&["reconcile"]).expect(7).says(&["no answer (timed out)", "5 members in doubt"]);
    sandbox.faults("[]");
    until("the hanging requests are abandoned", || {
        let before = sandbox.requests()["statuses"]["423"].as_u64().unwrap_or(0);
        w.run(&["reconcile"]);
        sandbox.requests()["statuses"]["423"].as_u64().unwrap_or(0) == before
    });
    in_sync(&w, &sandbox, 5);
}

#[test]
fn an_unexpected_status_stops_the_connection() {
    for status in [302, 404, 415] {
        let (w, sandbox) = ready(5, "");
        sandbox.faults(&format!(r#"[{{"on":"users","times":0,"do":{{"status":{status}}}}}]"#));
        w.run(&["reconcile"]).expect(7).says(&[&format!("Braze responded with status {status}")]);
        assert_eq!(sandbox.requests()["users"], 1, "a retry would not help");
    }
}

#[test]
fn a_run_waits_for_the_rate_limit() {
    for args in [
        ["--rate-limit", "3", "--rate-window", "1"].as_slice(),
        &["--rate-limit", "3", "--rate-window", "1", "--retry-after"],
    ] {
        let (w, sandbox) = (Workspace::new(), Sandbox::with(args));
        w.config(&sandbox, &["carts"], "    batch: 100\n").source("carts", users(900));
        let began = Instant::now();
        w.run(&["reconcile"]).expect(0);
        assert!(began.elapsed().as_millis() > 1_900, "ten requests need four windows of one second");
        assert_eq!(sandbox.members("carts"), members(users(900)));
        let refused = sandbox.requests()["statuses"]["429"].as_u64().unwrap_or(0);
        assert!(refused <= 1, "the headers show when the limit is exhausted: {refused}");
    }
}

#[test]
fn every_rate_limit_header_of_a_429_is_obeyed() {
    let soon = r#"[["x-ratelimit-reset","-"],["x-ratelimit-retry-after","1"]]"#;
    let seconds = r#"[["x-ratelimit-reset","1"]]"#;
    let standard = r#"[["x-ratelimit-reset","-"],["retry-after","1"]]"#;
    for headers in [soon, seconds, standard] {
        let (w, sandbox) = ready(5, "");
        sandbox
            .faults(&format!(r#"[{{"on":"users","do":{{"reply":{{"status":429,"headers":{headers}}}}}}}]"#));
        let began = Instant::now();
        w.run(&["reconcile"]).expect(0);
        assert!(began.elapsed().as_millis() >= 900, "{headers}");
        assert_eq!(sandbox.requests()["users"], 2);
    }
}

#[test]
fn a_rate_limit_that_resets_too_late_ends_the_run_at_once() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--rate-limit", "2", "--rate-window", "86400"]));
    w.config(&sandbox, &["carts"], "    batch: 100\n").source("carts", users(500));
    w.run(&["reconcile"]).expect(7).says(&[
        "the rate limit is used up until",
        "added 100",
        "400 members in doubt",
    ]);
    assert_eq!(sandbox.writes(), 2, "the headers showed an exhausted limit");
}

#[test]
fn row_errors_in_a_success_reject_those_rows_and_settle_the_others() {
    let (w, sandbox) = ready(100, "");
    let body = r#"{"message":"success","errors":[{"type":"EXTERNAL_USER_ID_TOO_LARGE","input_array":"user_ids","index":3},{"type":"BAD","input_array":"user_ids","index":7}]}"#;
    sandbox.faults(&format!(r#"[{{"on":"users","do":{{"done_but":{body}}}}}]"#));
    w.run(&["reconcile"])
        .expect(0)
        .says(&["added 98", "2 identifiers rejected by Braze: EXTERNAL_USER_ID_TOO_LARGE"]);
    assert_eq!(sandbox.requests()["users"], 2, "the others were sent again separately");
    w.run(&["reconcile"]).expect(0).says(&["In sync"]);
}

#[test]
fn errors_without_rows_in_a_success_leave_members_in_doubt() {
    let (w, sandbox) = ready(100, "");
    sandbox.faults(r#"[{"on":"users","times":0,"do":{"done_but":{"message":"success","errors":["something went wrong"]}}}]"#);
    w.run(&["reconcile"]).expect(7).says(&["100 members in doubt"]);
    assert_eq!(sandbox.requests()["users"], 2);
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0).says(&["added 100"]);
    in_sync(&w, &sandbox, 100);
}

#[test]
fn a_failure_of_one_cohort_does_not_stop_others() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(5)).source("trials", users(5));
    sandbox.faults(r#"[{"cohort_id":"carts","times":0,"do":{"status":423}}]"#);
    w.run(&["reconcile"]).expect(7).says(&["Braze keeps the cohort locked", "trials", "added 5"]);
    assert_eq!(sandbox.members("trials"), members(users(5)));
}

#[test]
fn a_stop_finishes_the_current_request() {
    let (w, sandbox) = ready(3_000, "    batch: 100\n");
    sandbox.faults(r#"[{"on":"users","skip":5,"times":0,"do":{"delay":100}}]"#);
    let child = w
        .command(&["reconcile"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("the sixth request", || sandbox.requests()["users"].as_u64().unwrap() >= 7);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("stopped as requested"), "{said}");
    let sent = sandbox.members("carts").len();
    w.run(&["status"]).expect(0).says(&[
        &format!("{} members in braze", group(sent)),
        "carts  \"Carts\": stopped since",
        "stopped as requested",
        "1 cohort: 1 stopped.",
    ]);
    let status = w.run(&["status", "--format", "json"]).expect(0).json();
    assert_eq!(status["cohorts"][0]["last_outcome"]["result"], "stopped");
    let history = w.run(&["history"]).expect(0).says(&["applied in part", "; stopped as requested"]);
    assert!(
        !history.stdout.contains("failed") && !history.stdout.contains("stopped: "),
        "{}",
        history.stdout
    );
    sandbox.faults("[]");
    w.run(&["reconcile"]).expect(0);
    in_sync(&w, &sandbox, 3_000);
}

fn group(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}
