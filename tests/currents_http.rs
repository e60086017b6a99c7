//! Currents posted to `watch`, and exports in its queue: every acknowledged event is in Heap once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const TOKEN: &str = "t0ken-Of-Braze==";
const JSON: (&str, &str) = ("content-type", "application/json");

/// A config with one endpoint, and optionally more exports.
fn config(sandbox: &Sandbox, export: &str, more: &str) -> String {
    format!(
        "version: 1
connections:
  heap:
    kind: heap
    endpoint: {}
    app_id: 11
    limits: {{ per_identity: off, per_app: off }}
    retry: {{ attempts: 20, first_wait: 5ms, longest_wait: 1s }}
{SHORT_TIMEOUTS}{more}exports:
  - id: posted
    source: {{ kind: currents_http, token: {{ env: TEST_TOKEN }}, token_previous: {{ env: TEST_OLD_TOKEN }} }}
    to: heap
    flush_every: 50ms
    anonymous: hash
    pii: keep
{export}",
        sandbox.url
    )
}

fn watch(w: &Workspace) -> Watch {
    let watch =
        Watch::from_command(w.command(&["watch"]).env("TEST_TOKEN", TOKEN).env("TEST_OLD_TOKEN", "old"));
    watch.until_ready();
    watch
}

fn scene(export: &str, more: &str) -> (Workspace, Sandbox) {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    w.write("sync.yaml", config(&sandbox, export, more));
    (w, sandbox)
}

/// Makes the sandbox post events. Returns its report.
fn post(sandbox: &Sandbox, watch: &Watch, how: &Value) -> Value {
    let mut body = json!({ "url": format!("{}/currents/posted", watch.endpoints()), "token": TOKEN, "first_wait": 20,
                           "redacted": 0, "odd_times": 0, "unknown_types": 0.02 });
    body.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
    let response = http(&sandbox.url, "POST", "/_sandbox/currents/post", &[JSON], &body.to_string());
    assert!(response.status < 300, "{}", response.body);
    serde_json::from_str(&response.body).unwrap_or_default()
}

fn lines(sandbox: &Sandbox, path: &str) -> BTreeSet<String> {
    sandbox.get(path).1.lines().map(str::to_owned).collect()
}

fn keys(sandbox: &Sandbox) -> BTreeSet<String> {
    lines(sandbox, "/_sandbox/heap/events/keys")
}

fn acknowledged(sandbox: &Sandbox) -> BTreeSet<String> {
    lines(sandbox, "/_sandbox/currents/acknowledged")
}

/// Sends one request to the endpoint. Returns its status.
fn request(watch: &Watch, token: Option<&str>, body: &str) -> u16 {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![JSON, ("braze-currents-version", "1")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    http(&watch.endpoints(), "POST", "/currents/posted", &headers, body).status
}

#[test]
fn the_endpoint_responds_as_braze_expects() {
    let (w, sandbox) = scene("", "  limits: { body: 64KiB }\n");
    let watch = watch(&w);
    let event = r#"{"event_type":"never.seen.Before","id":"bare","time":1767225600,"user":{"user_id":"b1","x":[1]},"properties":{"new":{"a":1}}}"#;
    for (status, token, body) in [
        (200, Some(TOKEN), ""),
        (200, Some(TOKEN), r#"{"events":[]}"#),
        (200, Some("old"), "[]"),
        (401, None, ""),
        (401, None, event),
        (403, Some("wrong"), r#"{"events":[]}"#),
        (403, Some("wrong"), "not JSON"),
        (400, Some(TOKEN), "not JSON"),
        (400, Some(TOKEN), r#"{"events":[{"id":1}"#),
        (200, Some(TOKEN), event),
        (200, Some("old"), &format!("[{}]", event.replace("bare", "listed"))),
        (200, Some(TOKEN), &format!(r#"{{"events":[7,null,{{}},{}]}}"#, event.replace("bare", "wrapped"))),
        (200, Some(TOKEN), &"[".repeat(1_000)),
        (413, Some(TOKEN), &format!("[\"{}\"]", "x".repeat(70_000))),
    ] {
        assert_eq!(request(&watch, token, body), status, "{token:?} {body:.60}");
    }
    let unknown = http(&watch.endpoints(), "POST", "/currents/other", &[JSON], "");
    assert_eq!(unknown.status, 404);
    assert_eq!(http(&watch.endpoints(), "GET", "/currents/posted", &[], "").status, 405);
    let expected: BTreeSet<String> = ["bare", "listed", "wrapped"].map(str::to_owned).into();
    until("the events are in Heap", || keys(&sandbox) == expected);
    // An element that is not an event is a reject with a reason.
    until("the rest is reported", || {
        watch.metric("syncline_export_rejects_total{export=\"posted\",reason=\"not_json\"}") > 0.0
    });
    let rejects = w.read_all(".syncline/rejects");
    for reason in ["not_json", "not_an_object", "no_event_type"] {
        assert!(rejects.contains(&format!("\"reason\":\"{reason}\"")), "{reason}: {rejects}");
    }
    assert!(!watch.log().contains(TOKEN) && !w.read_all(".syncline").contains(TOKEN));
    assert_eq!(watch.stop(), 0);
}

/// A small body can contain millions of elements that are not events. They are one reject with a count.
#[test]
fn many_elements_that_are_not_events_are_one_reject() {
    let (w, sandbox) = scene("", "");
    let watch = watch(&w);
    let event = r#"{"event_type":"never.seen.Before","id":"good","time":1767225600,"user":{"user_id":"b1"}}"#;
    let body = format!("[{}{}{event}]", "7,".repeat(100_000), "{},".repeat(50_000));
    assert_eq!(request(&watch, Some(TOKEN), &body), 200);
    assert_eq!(request(&watch, Some(TOKEN), "[8]"), 200);
    let counted = |reason: &str| {
        watch.metric(&format!("syncline_export_rejects_total{{export=\"posted\",reason=\"{reason}\"}}"))
    };
    until("all is counted", || counted("not_an_object") == 100_001.0 && counted("no_event_type") == 50_000.0);
    assert_eq!(keys(&sandbox), BTreeSet::from(["good".to_owned()]));
    assert_eq!(watch.stop(), 0);
    let rejects: Vec<Value> =
        w.read_all(".syncline/rejects").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count_of = |reason: &str| {
        let some = rejects.iter().filter(|reject| reject["reason"] == reason);
        some.map(|reject| (reject["event"].clone(), reject["count"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(count_of("not_an_object"), [(json!("7"), json!(100_000)), (json!("8"), Value::Null)]);
    assert_eq!(count_of("no_event_type"), [(json!("{}"), json!(50_000))]);
}

#[test]
fn acknowledged_events_are_in_heap_once_despite_kills() {
    let (w, sandbox) = scene("    batch: 50\n", "");
    sandbox.faults(
        r#"[{"on":"track","times":0,"share":0.1,"do":{"status":503}},
            {"on":"track","times":0,"share":0.1,"do":"lose_answer"},
            {"on":"track","times":0,"share":0.3,"do":{"delay":5}}]"#,
    );
    for round in 0..4 {
        let watch = watch(&w);
        let before = acknowledged(&sandbox).len();
        let how = json!({ "events": 1_000, "from": round * 1_000, "duplicates": 0.1, "shuffle": true, "at_once": 4,
                          "gzip": round % 2 == 0, "attempts": 1, "probe": round == 0, "batch": 20,
                          "types": ["users.messages.email.Open", "users.behaviors.CustomEvent", "users.messages.sms.Send"] });
        if round < 3 {
            std::thread::scope(|scope| {
                scope.spawn(|| post(&sandbox, &watch, &how));
                until("some are acknowledged", || acknowledged(&sandbox).len() > before + 60 * (round + 1));
                watch.signal(nix::sys::signal::Signal::SIGKILL);
            });
        } else {
            post(&sandbox, &watch, &how);
            until("all is in Heap", || acknowledged(&sandbox).is_subset(&keys(&sandbox)));
            assert_eq!(watch.stop(), 0);
        }
    }
    assert!(acknowledged(&sandbox).len() > 1_000);
    let count: Value = serde_json::from_str(&sandbox.get("/_sandbox/heap/events/count").1).unwrap();
    assert_eq!(count["stored"], keys(&sandbox).len(), "each once");
    w.run(&["state", "verify"]).expect(0).says(&["Intact"]);
    // The inbox is empty, and a separate run finds nothing.
    let mut command = w.command(&["export"]);
    command.env("TEST_TOKEN", TOKEN).env("TEST_OLD_TOKEN", "old");
    run(command).expect(0).says(&["In sync"]);
}

/// One event of each type gives the same event in Heap from both formats.
#[test]
fn every_type_is_equal_from_files_and_posts() {
    let (w, sandbox) = scene("", "");
    let (files, other) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]));
    let text = config(&other, "", "").replace(SHORT_TIMEOUTS, "");
    let at = text.find("    source:").unwrap();
    let end = at + text[at..].find('\n').unwrap();
    files.write(
        "sync.yaml",
        text.replace(&text[at..end], "    source: { kind: currents_storage, path: cur }"),
    );
    let watch = watch(&w);
    let mix = json!({ "events": 600, "seed": 5, "common": true, "anonymous": 0, "odd_times": 0, "redacted": 0, "unknown_types": 0, "unknown_fields": 0 });
    post(&sandbox, &watch, &mix);
    let mut body = mix.clone();
    body["out"] = files.path("cur").to_str().unwrap().into();
    let written = http(&other.url, "POST", "/_sandbox/currents/files", &[JSON], &body.to_string());
    assert!(written.status < 300, "{}", written.body);
    files.run(&["export"]).expect(0);
    let events = |sandbox: &Sandbox| lines(sandbox, "/_sandbox/heap/events");
    until("all is in Heap", || events(&sandbox).len() == events(&other).len());
    let (posted, stored) = (events(&sandbox), events(&other));
    let differ: Vec<_> = posted.symmetric_difference(&stored).take(2).collect();
    assert!(differ.is_empty(), "{differ:#?}");
    let names: BTreeSet<String> = posted
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.len() > 85, "{}", names.len());
}

#[test]
fn a_full_inbox_rejects_posts_and_loses_nothing() {
    let (w, sandbox) = scene("", "  limits: { inbox: 64KiB }\n");
    sandbox.faults(r#"[{"on":"track","times":0,"do":{"status":503}}]"#);
    let watch = watch(&w);
    let event = |n: usize| {
        format!(
            r#"{{"event_type":"users.messages.email.Open","id":"e{n}","time":1767225600,"user":{{"external_user_id":"u{n}"}},"properties":{{"x":"{}"}}}}"#,
            "y".repeat(900)
        )
    };
    let mut taken = BTreeSet::new();
    let statuses: BTreeSet<u16> = (0..120)
        .map(|n| {
            let status = request(&watch, Some(TOKEN), &event(n));
            if status == 200 {
                taken.insert(format!("e{n}"));
            }
            status
        })
        .collect();
    assert_eq!(statuses, BTreeSet::from([200, 503]));
    sandbox.faults("[]");
    until("accepted events are in Heap", || keys(&sandbox) == taken);
    until("the inbox has space again", || request(&watch, Some(TOKEN), &event(500)) == 200);
}

/// An inbox of many files is exported in groups. After a crash, exported groups are not sent again.
#[test]
fn inbox_files_are_deleted_while_the_rest_is_sent() {
    let (w, sandbox) = scene("    batch: 1\n", "");
    let event = |n: usize| {
        format!(
            r#"{{"event_type":"users.messages.email.Open","id":"e{n}","time":1767225600,"user":{{"external_user_id":"u{n}"}},"properties":{{}}}}"#
        )
    };
    sandbox.faults(r#"[{"on":"track","times":0,"do":"hang"}]"#);
    // Each process creates one file.
    for n in 0..6 {
        let watch = watch(&w);
        assert_eq!(request(&watch, Some(TOKEN), &event(n)), 200);
        watch.kill();
    }
    let files = || w.snapshot(".syncline/inbox/currents.posted").len();
    assert_eq!(files(), 6);
    sandbox.faults(r#"[{"on":"track","times":0,"contains":"\"e5\"","do":"hang"}]"#);
    let mut export = w.command(&["export"]);
    let mut export = export.env("TEST_TOKEN", TOKEN).env("TEST_OLD_TOKEN", "old").spawn().unwrap();
    until("four of the files are deleted", || files() == 2);
    export.kill().unwrap();
    export.wait().unwrap();
    sandbox.faults("[]");
    w.run(&["export"]).expect(0);
    assert_eq!((keys(&sandbox).len(), files()), (6, 0));
}

#[test]
fn new_files_are_exported_and_exports_are_shown() {
    let stored = "  - id: stored
    source: { kind: currents_storage, path: cur }
    to: heap
    anonymous: drop
";
    let (w, sandbox) = scene(stored, "  poll: 1h\n");
    let emit = |from: &str| {
        let args = [
            "sandbox",
            "currents",
            "--out",
            "cur",
            "--events",
            "50",
            "--ids",
            "ids",
            "--from",
            from,
            "--anonymous",
            "0",
            "--redacted",
            "0",
            "--odd-times",
            "0",
            "--unknown-types",
            "0",
            "--type",
            "users.messages.email.Open",
            "--hours",
            "1",
            "--prefix",
            from,
        ];
        w.run(&args).expect(0);
        w.read("ids").lines().map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let watch = watch(&w);
    until("a missing folder is reported", || watch.get("/").body.contains("cannot list"));
    let mut all = emit("0");
    until("the first events are in Heap", || keys(&sandbox) == all);
    all.extend(emit("1000"));
    until("events in new folders are in Heap", || keys(&sandbox) == all);
    until("the metric counts it", || {
        (watch.metric("syncline_export_events_total{export=\"stored\",outcome=\"sent\"}") - 100.0).abs() < 0.5
    });
    assert!(watch.metric("syncline_export_requests_total{export=\"stored\",outcome=\"accepted\"}") > 0.0);
    let page = watch.get("/").body;
    for text in ["Exports to Heap", "stored", "posted", "/currents/posted"] {
        assert!(page.contains(text), "{text}");
    }
    // Another config is loaded: events that were excluded are exported.
    let text = w.read("sync.yaml").replace("anonymous: drop", "anonymous: hash");
    w.replace("sync.yaml", &text);
    watch.until_logs("config reloaded", 1);
    assert_eq!(request(&watch, Some(TOKEN), ""), 200, "the connection stays open");
    assert_eq!(watch.stop(), 0);
}
