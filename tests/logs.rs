//! Log lines: what each verbosity adds, the fields of each line as text and as JSON, and warnings about webhooks.

use serde_json::Value;

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// The lines of a run with `--log-format json`.
fn lines(w: &Workspace, args: &[&str]) -> Vec<Value> {
    let said = w.run(&[args, &["--log-format", "json"]].concat()).stderr;
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn with_message<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

#[test]
fn each_v_adds_lines_and_every_line_has_its_run() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(3)).source("trials", users(2));
    assert_eq!(lines(&w, &["plan"]), Vec::<Value>::new());
    let runs_and_cohorts = lines(&w, &["plan", "-v"]);
    let messages: Vec<&str> = runs_and_cohorts.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["the run begins; it only plans", "planned", "planned", "the run ends"]);
    let levels = |args: &[&str]| {
        let lines = lines(&w, args);
        let run = lines[0]["run"].as_str().unwrap().to_owned();
        assert!(lines.iter().all(|line| line["run"] == *run), "one run: {lines:#?}");
        let count = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
        (count("INFO"), count("DEBUG") > 0, count("TRACE") > 0)
    };
    assert_eq!(levels(&["plan", "-v"]), (4, false, false));
    assert_eq!(levels(&["plan", "-vv"]), (4, true, false));
    assert_eq!(levels(&["reconcile", "-vvv"]), (6, true, true));
    // The same run is in the history.
    let run = lines(&w, &["reconcile", "-v"])[0]["run"].clone();
    w.run(&["history"]).expect(0).says(&[run.as_str().unwrap()]);
}

#[test]
fn two_v_log_each_request_and_the_access_to_source_and_state() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(120));
    let limited = r#"{"status":429,"headers":[["retry-after","1"],["x-request-id","req-7"]]}"#;
    sandbox.faults(&format!(r#"[{{"on":"users","do":{{"reply":{limited}}}}}]"#));
    let lines = lines(&w, &["reconcile", "-vv"]);
    let requests = with_message(&lines, "request");
    let users: Vec<&&Value> = requests.iter().filter(|line| line["op"] == "add").collect();
    assert_eq!(requests.len(), users.len() + 1, "the name: {requests:#?}");
    for line in &requests {
        assert_eq!(line["method"], "POST");
        assert!(line["endpoint"].as_str().unwrap().starts_with(&format!("{}/partners/", sandbox.url)));
        assert!(line["ms"].is_u64() && line["cohort"] == "carts", "{line}");
    }
    let first = users[0];
    assert_eq!(
        (&first["status"], &first["retry_after"], &first["request_id"]),
        (&429.into(), &"1".into(), &"req-7".into())
    );
    assert_eq!(users[1]["status"], 201);
    assert_eq!(users[1]["members"], users[0]["members"]);
    let source = with_message(&lines, "source read");
    assert_eq!(
        (&source[0]["rows"], &source[0]["source"], &source[0]["cohort"]),
        (&120.into(), &"file".into(), &"carts".into())
    );
    let state = with_message(&lines, "state");
    let operations: std::collections::BTreeSet<&str> =
        state.iter().map(|line| line["operation"].as_str().unwrap()).collect();
    assert!(operations.is_superset(&["put", "read"].into()), "{operations:?}");
    assert!(state.iter().any(|line| line["path"].as_str().unwrap().contains("carts")));
    // The retry is a warning with fields.
    let retry = lines.iter().find(|line| line["level"] == "WARN").unwrap();
    assert_eq!(
        (&retry["vendor"], &retry["attempt"], &retry["attempts"]),
        (&"braze".into(), &2.into(), &4.into())
    );
    assert_eq!(retry["cause"], "Braze limits the rate (429)");
    assert!(retry["wait_ms"].as_u64().unwrap() > 0);

    let text = w.run(&["reconcile", "-vv"]).expect(0).stderr;
    let line = text.lines().find(|line| line.contains(" source read ")).unwrap();
    assert!(line.contains("DEBUG source read rows=120 source=file ms="), "{line}");
    assert!(line.contains(" cohort=carts run="), "{line}");
}

#[test]
fn json_lines_have_hints() {
    let w = Workspace::new();
    w.write("sync.yaml", config("http://127.0.0.1:1", &["carts"], "")).source("carts", users(3));
    let lines = lines(&w, &["plan", "crats"]);
    let error = lines.last().unwrap();
    assert_eq!((&error["level"], &error["exit_code"]), (&"ERROR".into(), &64.into()));
    assert_eq!(error["hints"], serde_json::json!(["did you mean `carts`?"]));
}

const HEAP: &str = "  heap: { kind: heap, webhook_secret: { env: TEST_WEBHOOK } }\n";

/// A `watch` with a webhook endpoint of Heap.
fn watch(w: &Workspace, sandbox: &Sandbox, args: &[&str]) -> Watch {
    w.config(sandbox, &["carts"], &format!("{HEAP}{SHORT_TIMEOUTS}")).source("carts", users(3));
    let mut command = w.command(&[&["watch"], args].concat());
    let watch = Watch::from_command(command.env("TEST_WEBHOOK", "whsec_test"));
    watch.until_ready();
    watch
}

#[test]
fn rejected_deliveries_are_warnings_with_the_likely_cause_and_limited_in_number() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let watch = watch(&w, &sandbox, &[]);
    #[allow(clippy::disallowed_methods, reason = "a test signs with the present time")]
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let wrong = format!("ts:{now},hmac:AAAA");
    let post =
        |path: &str, headers: &[(&str, &str)]| http(&watch.endpoints(), "POST", path, headers, "").status;
    for _ in 0..12 {
        assert_eq!(post("/private/anna@example.com", &[]), 404);
        assert_eq!(post("/heap/heap", &[("heap-hash", &wrong)]), 403);
    }
    watch.until_logs(
        "a request for an unknown path was rejected; the URL in Heap or Braze has another path",
        10,
    );
    watch.until_logs("a delivery was rejected: Invalid signature; `webhook_secret` differs", 10);
    let log = watch.log();
    assert_eq!(log.matches("a request for an unknown path").count(), 10, "{log}");
    assert_eq!(log.matches("Invalid signature").count(), 10, "{log}");
    assert!(log.contains("WARN") && log.contains(" endpoint=heap status=403 "), "{log}");
    assert!(!log.contains("anna"), "{log}");
}

#[test]
fn warnings_of_watch_have_hints_as_json() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let watch = watch(&w, &sandbox, &["--log-format", "json"]);
    assert_eq!(http(&watch.endpoints(), "POST", "/heap/heap", &[], "{}").status, 400);
    w.source("carts", users(0));
    watch.until_logs("a delivery was rejected: Heap-Hash is missing", 1);
    watch.until_logs("to approve exactly this plan: ", 1);
    let log = watch.log();
    // The addresses of a server are logged as warnings, too.
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let blocked = lines.iter().find(|line| line["hints"].to_string().contains("to approve exactly")).unwrap();
    assert_eq!((&blocked["cohort"], &blocked["level"]), (&"carts".into(), &"WARN".into()));
    assert!(blocked["hints"].as_array().unwrap().len() > 1, "{blocked}");
    let rejected = lines.iter().find(|line| line["endpoint"] == "heap").unwrap();
    assert!(rejected["hints"][0].as_str().unwrap().contains("`Heap-Hash`"), "{rejected}");
    assert!(lines.iter().all(|line| line["run"].as_str().is_some_and(|run| !run.is_empty())));
}
