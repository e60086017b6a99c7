//! `history` and `approve`: one entry for each run, with its operator, its command, and the reason of its result.

use serde_json::{Value, json};

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// The runs as JSON, newest first.
fn history(w: &Workspace, args: &[&str]) -> Vec<Value> {
    let args = [&["history", "--format", "json"], args].concat();
    w.run(&args).expect(0).json()["runs"].as_array().unwrap().clone()
}

fn run_as(w: &Workspace, args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = w.command(args);
    command.envs(variables.iter().copied());
    run(command)
}

const ANNA: &[(&str, &str)] = &[("USER", "anna"), ("HOSTNAME", "laptop")];

#[test]
fn a_run_over_cohorts_and_exports_is_one_entry_with_its_operator_and_its_command() {
    let w = Workspace::new();
    markdown::copy_example(&w);
    let github = [
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/cohorts"),
        ("GITHUB_RUN_ID", "17"),
        ("GITHUB_ACTOR", "ben"),
        ("HOSTNAME", "runner-1"),
    ];
    let report = run_as(&w, &["reconcile", "--format", "json"], &github).expect(0).json();
    run_as(&w, &["reconcile", "--max-removes", "spring_promotion=7"], ANNA).expect(0);
    let runs = history(&w, &[]);
    let [idle, first] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((&first["run"], &first["result"]), (&report["run"], &json!("applied")));
    assert_eq!((&first["user"], &first["host"]), (&json!("ben"), &json!("runner-1")));
    assert_eq!(first["ci_url"], "https://github.com/acme/cohorts/actions/runs/17");
    assert_eq!(first["arguments"], json!(["reconcile", "--format", "json"]));
    assert_eq!((&first["added"], first["cohorts"].as_array().unwrap().len()), (&json!(11_200), 3));
    let exports = report["exports"].as_array().unwrap();
    assert_eq!((&first["exports"][0]["sent"], exports.len()), (&exports[0]["sent"], 1));
    let requests = report["requests"].as_u64().unwrap() + exports[0]["requests"].as_u64().unwrap();
    assert_eq!(first["requests"], requests);
    assert!(first["duration_seconds"].as_f64().unwrap() > 0.0 && first["began_at"] != first["ended_at"]);
    assert_eq!(
        (&idle["result"], &idle["command"], &idle["ci_url"]),
        (&json!("in_sync"), &json!("reconcile"), &json!(null))
    );
    let text = w.run(&["history"]).expect(0).stdout;
    let began = first["began_at"].as_str().unwrap();
    assert!(
        text.contains(&format!("{} {} UTC  applied: 11,200 added, 0 removed", &began[..10], &began[11..16])),
        "{text}"
    );
    assert!(
        text.contains(" by ben@runner-1: reconcile --format json\n    https://github.com/acme/"),
        "{text}"
    );
    assert!(text.contains(" by anna@laptop: reconcile --max-removes spring_promotion=7"), "{text}");
    assert!(text.find("in sync: ") < text.find("applied: "), "newest first: {text}");
}

/// Forty of fifty members would leave. Returns the digest of the blocked plan.
fn blocked(w: &Workspace, sandbox: &Sandbox) -> String {
    w.config(sandbox, &["carts", "trials"], "").source("carts", users(50)).source("trials", users(1));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(10)).source("trials", users(2));
    let text = w.run(&["reconcile"]).expect(6).stdout;
    let (_, digest) = text.split_once("syncline approve carts --plan ").unwrap();
    digest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_blocked_run_and_the_approval_that_lifts_it_are_in_the_history_with_their_reasons() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let digest = blocked(&w, &sandbox);
    let reason = "removals blocked: 40 of 50 members would leave (80.0%), `guard.max_removed` allows 30%";
    let run = &history(&w, &[])[0];
    assert_eq!(run["result"], "applied_in_part");
    let carts = run["cohorts"].as_array().unwrap().iter().find(|cohort| cohort["id"] == "carts").unwrap();
    assert_eq!(carts["blocked"], json!([reason]));
    w.run(&["history", "-n", "1"])
        .expect(0)
        .says(&[&format!("    carts: {reason}"), "    trials: added 1, removed 0"]);
    let approve = ["approve", "carts", "--plan", &digest, "--reason", "the campaign\nhas \u{1b}[31mended "];
    run_as(&w, &approve, ANNA).expect(0).says(&["the approval expires at "]);
    let words = "approved until ";
    let plan = w.run(&["plan"]).expect(0).says(&[words]);
    assert!(plan.stdout.contains(" by anna@laptop: \"the campaign has [31mended\""), "{}", plan.stdout);
    let planned = w.run(&["plan", "--format", "json"]).expect(0).json();
    let approval = &planned["cohorts"][0]["approval"];
    assert_eq!((&approval["plan"], &approval["by"]["user"]), (&json!(digest), &json!("anna")));
    w.run(&["plan", "--format", "markdown"])
        .expect(0)
        .says(&["approved until", "the campaign has [31mended"]);
    w.run(&["reconcile"]).expect(0).says(&["removed 40", words]);
    let carts = &history(&w, &[])[0]["cohorts"][0];
    assert_eq!(carts["approval"]["reason"], "the campaign has [31mended");
    assert_eq!((&carts["approval"]["plan"], &carts["removed"]), (&json!(digest), &json!(40)));
    w.run(&["history", "-n", "1"])
        .expect(0)
        .says(&[" by anna@laptop: \"the campaign has [31mended\" sha256:"]);
}

#[test]
fn a_reason_has_a_limit_and_may_be_missing() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let digest = blocked(&w, &sandbox);
    let approve = ["approve", "carts", "--plan", &digest, "--format", "json"];
    let none = w.run(&approve).expect(0).json();
    assert_eq!(none["reason"], Value::Null);
    let long = w.run(&[&approve[..], &["--reason", &"x".repeat(100_000)]].concat()).expect(0).json();
    assert_eq!(long["reason"].as_str().unwrap().chars().count(), 501);
    assert_eq!(w.run(&[&approve[..], &["--reason", " \n"]].concat()).expect(0).json()["reason"], Value::Null);
}

#[test]
fn a_run_that_fails_before_its_first_cohort_is_in_the_history_with_its_reason() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    let mut command = w.command(&["reconcile"]);
    command.env_remove("TEST_IMPORT_KEY");
    run(command).expect(4);
    let [failed] = &history(&w, &[])[..] else { panic!("one run") };
    let error = failed["errors"][0].as_str().unwrap();
    assert!(error.contains("TEST_IMPORT_KEY"), "{error}");
    assert_eq!((&failed["result"], &failed["cohorts"]), (&json!("failed"), &json!([])));
    w.run(&["history"]).expect(0).says(&["  failed: 0 requests, took ", "    failed: ", "TEST_IMPORT_KEY"]);
    let other = format!("sha256:{}", "0".repeat(64));
    w.run(&["reconcile", "--expect", &other]).expect(9);
    let stale = &history(&w, &["-n", "1"])[0];
    assert!(stale["errors"][0].as_str().unwrap().contains(&other), "{stale}");
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    w.run(&["reconcile"]).expect(1);
    let unread = &history(&w, &["-n", "1"])[0];
    assert_eq!((&unread["result"], &unread["errors"]), (&json!("failed"), &json!([])));
    assert!(unread["cohorts"][0]["error"].as_str().unwrap().contains("carts.csv"), "{unread}");
    w.run(&["history", "-n", "1"]).expect(0).says(&["    carts: not planned: "]);
}

#[test]
fn a_saved_plan_that_is_blocked_is_in_the_history() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    blocked(&w, &sandbox);
    w.run(&["plan", "--out", "saved.plan"]).expect(6);
    w.run(&["reconcile", "--plan", "saved.plan"]).expect(6);
    let run = &history(&w, &["-n", "1"])[0];
    assert_eq!(
        (&run["result"], &run["arguments"]),
        (&json!("blocked"), &json!(["reconcile", "--plan", "saved.plan"]))
    );
    assert_eq!(run["cohorts"][0]["id"], "carts");
}

#[test]
fn the_history_of_one_cohort_has_only_the_runs_that_concern_it() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(5)).source("trials", users(1));
    w.run(&["reconcile"]).expect(0);
    for number in 2..5 {
        w.source("trials", users(number));
        w.run(&["reconcile"]).expect(0);
    }
    let carts = history(&w, &["--cohort", "carts", "-n", "2"]);
    assert_eq!(carts.len(), 1, "the oldest run is found beyond the limit");
    assert_eq!((&carts[0]["cohorts"][0]["id"], &carts[0]["added"]), (&json!("carts"), &json!(5)));
    assert_eq!(carts[0]["cohorts"].as_array().unwrap().len(), 1);
    assert_eq!(history(&w, &["--cohort", "trials", "-n", "2"]).len(), 2);
    assert_eq!(history(&w, &["--cohort", "trials", "--cohort", "carts"]).len(), 4);
    w.run(&["history", "--cohort", "trails"])
        .expect(64)
        .says(&["no cohort `trails`", "did you mean `trials`?"]);
    w.config(&sandbox, &["trials", "empty"], "").source("empty", users(0));
    assert_eq!(history(&w, &["--cohort", "carts"]).len(), 1, "an orphaned cohort has a history");
    w.run(&["history", "--cohort", "empty"]).expect(0).says(&["No run with changes"]);
}

#[test]
fn runs_of_an_earlier_version_and_damaged_lines_are_shown_as_they_are() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    let lines = |events: &[&str]| {
        events
            .iter()
            .map(|event| format!("{{\"at\":\"2026-01-02T03:04:05.000Z\",{event}}}\n"))
            .collect::<String>()
    };
    let old = lines(&[
        r#""event":"began","syncline":"0.0.1","config":"ab""#,
        r#""event":"finished","cohort":"carts","added":7,"removed":2,"rejected":0,"in_doubt":0,"error":null"#,
        r#""event":"ended","result":"applied","requests":2"#,
    ]);
    let run = "20260102t030405000z-000001";
    w.write(&format!(".syncline/journal/2026/01/02/{run}.ndjson"), with_line_checksums(run, &old));
    let lost = "20260103t030405000z-000001";
    let text = with_line_checksums(lost, &old).replacen("\"ab\"", "\"cd\"", 1);
    w.write(&format!(".syncline/journal/2026/01/03/{lost}.ndjson"), text);
    let runs = history(&w, &[]);
    assert_eq!(runs.len(), 3);
    for old in &runs[1..] {
        assert_eq!((&old["added"], &old["user"], &old["command"]), (&json!(7), &Value::Null, &Value::Null));
        assert_eq!(old["began_at"], "2026-01-02T03:04:05.000Z");
    }
    let shown = format!(
        "2026-01-02 03:04 UTC  applied: 7 added, 2 removed, 0 requests, took 0.0 s\n    {run}\n    carts: added 7, removed 2"
    );
    w.run(&["history"]).expect(0).says(&[&shown, "skipped damaged lines: 1"]);
}

#[test]
fn watch_records_each_change_of_condition_once() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more = SHORT_TIMEOUTS.replace("watch:\n", "watch:\n  schedule: { every: 1s }\n  poll: 1s\n");
    w.config(&sandbox, &["carts"], &more).source("carts", users(50));
    let mut command = w.command(&["watch"]);
    command.envs(ANNA.iter().copied());
    let watch = Watch::from_command(&mut command);
    watch.until_ready();
    until("the members arrive", || sandbox.members("carts").len() == 50);
    let condition = || watch.ready()["not_in_sync"]["carts"].as_str().unwrap_or_default().to_owned();
    w.source("carts", users(10));
    until("it is blocked", || condition() == "blocked");
    std::fs::remove_file(w.path("carts.csv")).unwrap();
    until("it fails", || condition() == "failing");
    let failures = || watch.metric("syncline_runs_total{result=\"failing\"}");
    let before = failures();
    until("it fails again", || failures() >= before + 2.0);
    w.source("carts", users(51));
    until("it is in sync", || sandbox.members("carts").len() == 51);
    assert_eq!(watch.stop(), 0);
    let runs = history(&w, &[]);
    let results: Vec<&str> = runs.iter().map(|run| run["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["applied", "failed", "blocked", "applied"]);
    assert!(runs.iter().all(|run| run["command"] == "watch" && run["user"] == "anna"), "{runs:?}");
    assert!(runs[1]["cohorts"][0]["error"].as_str().unwrap().contains("carts.csv"), "{}", runs[1]);
    assert!(
        runs[2]["cohorts"][0]["blocked"][0].as_str().unwrap().contains("40 of 50 members"),
        "{}",
        runs[2]
    );
}

/// A `watch` without a key, with a used address, or with an invalid config does not start. The state is known.
#[test]
fn failed_starts_are_in_the_history_unless_another_process_holds_the_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], SHORT_TIMEOUTS).source("carts", users(5));
    let without_key = |w: &Workspace| {
        let mut command = w.command(&["watch"]);
        command.env_remove("TEST_PARTNER_KEY");
        run(command)
    };
    without_key(&w).expect(4);
    assert!(!w.path(".syncline").exists(), "no state is created for it");
    w.run(&["reconcile"]).expect(0);
    without_key(&w).expect(4);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let valid = w.read("sync.yaml");
    let address = format!("admin: {}", taken.local_addr().unwrap());
    w.replace("sync.yaml", &valid.replace("admin: 127.0.0.1:0", &address));
    w.run(&["watch"]).expect(1);
    w.replace("sync.yaml", &valid.replace("name: Carts", "nam: Carts"));
    w.run(&["watch"]).expect(3);
    w.run(&["reconcile"]).expect(3);
    w.run(&["validate"]).expect(3);
    w.replace("sync.yaml", &valid);
    let runs = history(&w, &[]);
    let shown: Vec<[&str; 2]> =
        runs.iter().map(|run| ["command", "result"].map(|key| run[key].as_str().unwrap())).collect();
    let failed = ["reconcile", "watch", "watch", "watch"].map(|command| [command, "failed"]);
    assert_eq!(shown, [&failed[..], &[["reconcile", "applied"]]].concat());
    let error = |at: usize| runs[at]["errors"][0].as_str().unwrap().to_owned();
    assert!(
        error(0).starts_with("the config has ") && error(0).contains(": unknown-key at sync.yaml:"),
        "{runs:?}"
    );
    assert_eq!(error(1), error(0));
    assert!(error(2).contains("cannot listen on") && error(3).contains("has no partner API key"), "{runs:?}");
    w.run(&["status"]).expect(0).says(&["the last run failed: reconcile", "the config has "]);
    // The holder of the state alone may write to it.
    let watch = Watch::start(&w);
    watch.until_in_sync();
    without_key(&w).expect(4);
    assert_eq!(watch.stop(), 0);
    assert_eq!(history(&w, &[]).iter().filter(|run| run["result"] == "failed").count(), 4);
}
