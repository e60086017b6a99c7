//! `status`: last good runs, outcomes with their reasons, pending approvals and next runs, also for many cohorts.

use std::fs;

use serde_json::{Value, json};

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

fn status(w: &Workspace) -> Value {
    w.run(&["status", "--format", "json"]).expect(0).json()
}

fn cohort(status: &Value, id: &str) -> Value {
    status["cohorts"].as_array().unwrap().iter().find(|cohort| cohort["id"] == id).unwrap().clone()
}

fn at_width(w: &Workspace, args: &[&str], width: usize) -> String {
    let mut command = w.command(args);
    command.env("COLUMNS", width.to_string());
    run(command).expect(0).stdout
}

/// A time of the JSON output as the text shows it.
fn shown(time: &Value) -> String {
    let time = time.as_str().unwrap();
    format!("{} {} UTC", &time[..10], &time[11..16])
}

/// `carts` is blocked, `trials` fails, `vip` is in sync.
fn with_problems() -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["vip", "carts", "trials"], "");
    w.source("vip", users(3)).source("carts", users(50)).source("trials", users(2));
    w.run(&["reconcile"]).expect(0);
    w.source("carts", users(10));
    fs::remove_file(w.path("trials.csv")).unwrap();
    w.run(&["reconcile"]).expect(1);
    (w, sandbox)
}

#[test]
fn problems_come_first_with_their_reason_since_when_and_the_command() {
    let (w, _sandbox) = with_problems();
    w.run(&["reconcile"]).expect(1);
    let json = status(&w);
    let [vip, carts, trials] = ["vip", "carts", "trials"].map(|id| cohort(&json, id));
    let runs = w.run(&["history", "--format", "json"]).json()["runs"].clone();
    assert_eq!(
        (&carts["last_outcome"]["result"], &trials["last_outcome"]["result"]),
        (&json!("blocked"), &json!("failed"))
    );
    assert_eq!(carts["last_outcome"]["run"], runs[0]["run"]);
    let second = runs[1]["ended_at"].as_str().unwrap()[..19].to_owned();
    assert_eq!(carts["blocked_since"].as_str().unwrap()[..19], second, "since the first of the two runs");
    assert_eq!(carts["last_good_run"]["run"], runs[2]["run"]);
    assert_eq!((&vip["last_good_run"]["run"], &vip["blocked_since"]), (&runs[0]["run"], &Value::Null));
    assert_eq!(vip["next_run"], json!({ "by": "reconcile", "at": null, "on_change": false }));
    let text = w.run(&["status"]).expect(0).stdout;
    let (since, good) = (shown(&carts["blocked_since"]), shown(&carts["last_good_run"]["at"]));
    for part in [
        format!("! carts  \"Carts\": blocked since {since} ("),
        "    removals blocked: 40 of 50 members would leave (80.0%), `guard.max_removed` allows 30%\n"
            .to_owned(),
        "    50 members in braze (http".to_owned(),
        format!("    last good run: {good}, "),
        "    to approve exactly this plan: syncline approve carts --plan sha256:".to_owned(),
        "! trials  \"Trials\": failed since ".to_owned(),
        "3 cohorts: 1 in sync, 1 blocked, 1 failed".to_owned(),
        "Next run: when you run `syncline reconcile`.".to_owned(),
    ] {
        assert!(text.contains(&part), "missing: {part}\n{text}");
    }
    assert!(text.contains("trials.csv"), "the reason of the failure: {text}");
    let row = text.lines().find(|line| line.starts_with("vip ")).unwrap();
    let vip_good = shown(&vip["last_good_run"]["at"]).replace(" UTC", "");
    assert!(
        row.contains(" 3  ") && row.contains(&vip_good) && row.ends_with(" ago") | row.ends_with("just now"),
        "{row}"
    );
    assert!(text.find("! trials") < text.find("vip "), "{text}");
    let command = text.lines().find_map(|line| line.split("plan: ").nth(1)).unwrap();
    run_pasted(&w, command).expect(0);
}

#[test]
fn a_pending_approval_has_its_end_its_operator_and_its_reason() {
    let (w, _sandbox) = with_problems();
    let plan = cohort(&status(&w), "carts")["last_outcome"]["plan"].as_str().unwrap().to_owned();
    let mut approve = w.command(&["approve", "carts", "--plan", &plan, "--reason", "the campaign has ended"]);
    approve.env("USER", "anna").env("HOSTNAME", "laptop");
    let approved = run(approve).expect(0).says(&["the approval expires at "]);
    assert!(approved.stdout.contains(&shown(&cohort(&status(&w), "carts")["approvals"][0]["expires_at"])));
    let approval = cohort(&status(&w), "carts")["approvals"][0].clone();
    assert_eq!((&approval["plan"], &approval["reason"]), (&json!(plan), &json!("the campaign has ended")));
    assert_eq!(approval["by"], json!({ "user": "anna", "host": "laptop" }));
    let until = shown(&approval["expires_at"]);
    let line =
        format!("approved until {until} by anna@laptop: \"the campaign has ended\"; the next run applies it");
    let text = w.run(&["status"]).expect(0).says(&[&line]).stdout;
    assert!(!text.contains("to approve exactly this plan"), "{text}");
    w.source("carts", users(9));
    w.run(&["reconcile"]).expect(1);
    w.run(&["status"]).expect(0).says(&["another plan is approved until ", "to approve exactly this plan: "]);
    w.source("carts", users(10));
    w.run(&["reconcile"]).expect(1).says(&["removed 40"]);
    let carts = cohort(&status(&w), "carts");
    assert_eq!((&carts["approvals"], &carts["blocked_since"]), (&json!([]), &Value::Null));
}

#[test]
fn a_run_that_failed_as_a_whole_is_shown_until_the_next_run() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    let mut command = w.command(&["reconcile"]);
    command.env_remove("TEST_IMPORT_KEY");
    run(command).expect(4);
    let json = status(&w);
    assert!(json["failed_run"]["error"].as_str().unwrap().contains("TEST_IMPORT_KEY"), "{json}");
    assert_eq!(cohort(&json, "carts")["last_outcome"]["result"], "in_sync");
    w.run(&["status"]).expect(0).says(&["! the last run failed: reconcile, ", "TEST_IMPORT_KEY"]);
    w.run(&["reconcile"]).expect(0);
    assert_eq!(status(&w)["failed_run"], Value::Null);
}

#[test]
fn a_state_without_outcomes_and_a_damaged_document_are_shown_as_unknown() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    let files = || w.snapshot(".syncline/outcomes");
    let newest = files().pop().unwrap();
    fs::remove_dir_all(w.path(".syncline/outcomes")).unwrap();
    w.run(&["status"]).expect(0).says(&["carts", "not recorded", "1 cohort."]);
    assert_eq!(cohort(&status(&w), "carts")["last_outcome"], Value::Null);
    let name = newest.0.file_name().unwrap().to_str().unwrap();
    let damaged = String::from_utf8(newest.1.clone()).unwrap().replace("in_sync", "in_sink");
    w.write(&format!(".syncline/outcomes/{name}"), damaged);
    w.run(&["status"]).expect(0).says(&["the last outcomes are unknown until the next run: ", name]);
    assert!(status(&w)["outcomes_error"].as_str().unwrap().contains(name));
    w.run(&["state", "verify"]).expect(0).says(&[name]);
    w.run(&["reconcile"]).expect(0);
    let json = status(&w);
    assert_eq!(
        (&json["outcomes_error"], &cohort(&json, "carts")["last_outcome"]["result"]),
        (&Value::Null, &json!("in_sync"))
    );
    w.run(&["state", "verify"]).expect(0);
}

/// Sixty cohorts with long ids: each that needs nothing has one line, and no line is too long but a command.
#[test]
fn sixty_cohorts_fit_the_width_and_piped_output_is_complete() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let ids: Vec<String> =
        (0..60).map(|number| format!("spring_{number:02}_abandoned_checkout_germany_austria")).collect();
    w.config(&sandbox, &ids.iter().map(String::as_str).collect::<Vec<_>>(), "");
    ids.iter().for_each(|id| drop(w.source(id, users(20)).path("")));
    w.run(&["reconcile"]).expect(0);
    w.source(&ids[7], users(1)).source(&ids[31], users(2)).source(&ids[3], users(21));
    fs::remove_file(w.path(&format!("{}.csv", ids[59]))).unwrap();
    w.run(&["reconcile"]).expect(1);
    for width in [60, 80] {
        let text = at_width(&w, &["status"], width);
        let is_too_long = |line: &&str| line.chars().count() > width && !line.trim().starts_with("syncline ");
        assert_eq!(text.lines().find(is_too_long), None, "{width}: {text}");
        let rows = text.lines().filter(|line| line.starts_with("spring_") && line.contains('…')).count();
        assert_eq!(rows, 57, "{width}: {text}");
        assert!(text.starts_with(&format!("! {}", ids[7])), "{width}: {text}");
        assert!(text.contains("60 cohorts: 57 in sync, 2 blocked, 1 failed"), "{width}: {text}");
        let history = at_width(&w, &["history"], width);
        assert_eq!(history.lines().find(is_too_long), None, "{width}: {history}");
        let lines = history.lines().filter(|line| line.contains(&ids[3])).count();
        assert_eq!(lines, 2, "the first run and the change: {history}");
        assert_eq!(history.lines().filter(|line| line.contains(&ids[4])).count(), 1, "{history}");
    }
    let piped = w.run(&["status"]).expect(0).stdout;
    assert!(ids.iter().all(|id| piped.contains(id.as_str())) && !piped.contains('…'), "{piped}");
    assert!(piped.lines().any(|line| line.chars().count() > 80), "names and ids are complete");
}

#[test]
fn the_next_run_of_watch_follows_the_schedule_of_each_cohort() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["vip"], SHORT_TIMEOUTS);
    let daily = "    schedule: { cron: { at: \"0 4 * * *\", time_zone: UTC } }\n";
    w.write("sync.yaml", text + &cohort_entry("carts", daily))
        .source("vip", users(3))
        .source("carts", users(3));
    let watch = Watch::start(&w);
    watch.until_in_sync();
    let json = status(&w);
    assert_eq!(json["is_watched"], true);
    let [vip, carts] = ["vip", "carts"].map(|id| cohort(&json, id));
    assert_eq!((&vip["next_run"]["by"], &vip["next_run"]["on_change"]), (&json!("watch"), &json!(true)));
    let parse = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let hour = parse(&vip["next_run"]["at"]).duration_since(parse(&vip["last_outcome"]["at"]));
    assert_eq!(hour.as_secs(), 3600, "the schedule of the config");
    assert!(carts["next_run"]["at"].as_str().unwrap().ends_with("T04:00:00.000Z"), "{carts}");
    let text = w.run(&["status"]).expect(0).stdout;
    let row = text.lines().find(|line| line.starts_with("carts ")).unwrap();
    assert!(row.ends_with(" 04:00") && text.contains("next run"), "{text}");
    w.source("carts", users(0));
    until("it is blocked", || watch.ready()["not_in_sync"]["carts"] == "blocked");
    until("it is recorded", || cohort(&status(&w), "carts")["last_outcome"]["result"] == "blocked");
    w.run(&["status"]).expect(0).says(&["next run: when its source changes, at the latest ", " 04:00 UTC"]);
    fs::remove_file(w.path("vip.csv")).unwrap();
    until("it fails", || cohort(&status(&w), "vip")["last_outcome"]["result"] == "failed");
    let vip = cohort(&status(&w), "vip");
    let retry = parse(&vip["next_run"]["at"]).duration_since(parse(&vip["last_outcome"]["at"]));
    assert!(retry.as_secs() <= 1, "the longest wait of a retry: {vip}");
    assert_eq!(watch.stop(), 0);
    let json = status(&w);
    assert_eq!(
        (&json["is_watched"], &cohort(&json, "vip")["next_run"]["by"]),
        (&json!(false), &json!("reconcile"))
    );
}

/// In an incident the config may be the cause.
#[test]
fn an_invalid_config_hides_nothing_that_the_state_records() {
    let (w, _sandbox) = with_problems();
    let valid = w.read("sync.yaml");
    let runs = w.run(&["history"]).expect(0).stdout;
    let invalid = valid.replace("name: Vip", "nam: Vip");
    assert_ne!(invalid, valid);
    w.replace("sync.yaml", &invalid);
    let shown = w.run(&["status"]).expect(0).says(&[
        "carts  \"Carts\": blocked since",
        "to approve exactly this plan: syncline approve carts --plan sha256:",
        "vip",
        "3 cohorts: 1 in sync, 1 blocked, 1 failed",
    ]);
    assert!(!shown.stdout.contains("orphaned"), "{}", shown.stdout);
    assert!(
        shown.stderr.contains("warning: the config has") && shown.stderr.contains("sync.yaml:"),
        "{}",
        shown.stderr
    );
    assert_eq!(w.run(&["history"]).expect(0).stdout, runs);
    let report = status(&w);
    assert_eq!(
        (&report["is_config_valid"], &report["cohorts"][0]["declared"]),
        (&json!(false), &Value::Null)
    );
    // Where the state is, is not guessed.
    for unknown in ["stat: .other\n", "state: { path: 7 }\n"] {
        w.replace("sync.yaml", &valid.replace("connections:\n", &format!("{unknown}connections:\n")));
        w.run(&["status"]).expect(3);
        w.run(&["history"]).expect(3);
    }
    w.replace("sync.yaml", &valid);
    assert_eq!(status(&w)["is_config_valid"], true);
}
