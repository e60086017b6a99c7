//! Identifiers of users: canary people appear in no log at any verbosity, and in no comment, dashboard, notification or
//! metric, on any failure.

use serde_json::{Value, json};

use crate::support::listener::Listener;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// A part of every identifier. No other text contains it, in any case.
pub(crate) const CANARY: &str = "xanthippe";

pub(crate) fn person(number: usize) -> String {
    format!("{CANARY}.{number}@example.com")
}

pub(crate) fn people(number: usize) -> impl Iterator<Item = String> {
    (0..number).map(person)
}

#[track_caller]
fn expect_no_person(what: &str, text: &str) {
    let text = text.to_lowercase();
    let at = text.find(CANARY).map(|at| text[at.saturating_sub(300)..].chars().take(600).collect::<String>());
    assert_eq!(at, None, "{what}");
}

/// Runs a command with the most verbose log in both forms.
#[track_caller]
fn check(w: &Workspace, args: &[&str]) {
    for more in [&["-vvv"][..], &["-vvv", "--log-format", "json"]] {
        let run = w.run(&[args, more].concat());
        assert_ne!(run.code, 64, "{args:?}: {}", run.stderr);
        expect_no_person(&format!("{args:?}"), &format!("{}{}", run.stdout, run.stderr));
    }
}

/// Every command that shows a run.
#[track_caller]
fn check_all(w: &Workspace) {
    check(w, &["plan", "--format", "markdown"]);
    check(w, &["plan"]);
    check(w, &["plan", "--format", "json"]);
    check(w, &["reconcile"]);
    check(w, &["reconcile", "--format", "json"]);
    check(w, &["doctor"]);
    check(w, &["status"]);
    check(w, &["history", "--format", "json"]);
}

/// Responses that repeat identifiers of the request: as they are, in JSON, encoded, and cut.
fn repeating_replies() -> Vec<Value> {
    let one = person(0);
    let encoded = one.replace('@', "%40");
    let message = format!("invalid: {one}, [\"{one}\"], {encoded}");
    // Long messages are cut within an identifier.
    let long = format!("{}{one}", "x ".repeat(145));
    let mut replies = Vec::new();
    for status in [400, 401, 403, 404, 413, 423, 429, 500] {
        let body = json!({ "message": message, "errors": [message] });
        replies
            .push(json!({ "reply": { "status": status, "headers": [["retry-after", "0"]], "body": body } }));
    }
    replies.push(json!({ "reply": { "status": 400, "body": { "message": long } } }));
    replies.push(json!({ "done_but": { "message": "success", "errors": [message] } }));
    replies
        .push(json!({ "done_but": { "message": "success", "errors": [{ "type": message, "index": 0 }] } }));
    replies.push(json!({ "done_but": { "message": message } }));
    replies.push(json!("reset"));
    replies
}

fn with_two_attempts(text: &str) -> String {
    text.replace("attempts: 4", "attempts: 2")
}

#[test]
fn no_person_is_shown_with_any_response_of_braze() {
    for (delivery, connection) in
        [("", ""), ("    deliver: { attribute: is_canary }\n", "    rest_api_key: { env: TEST_REST_KEY }\n")]
    {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let text = config(&sandbox.url, &[], connection) + &cohort_entry("carts", delivery);
        w.write("sync.yaml", with_two_attempts(&text)).source("carts", people(3));
        for reply in repeating_replies() {
            sandbox.faults(&json!([{ "contains": person(0), "times": 0, "do": reply }]).to_string());
            check(&w, &["reconcile"]);
        }
        check(&w, &["history"]);
        sandbox.faults("[]");
        check_all(&w);
        // Blocked by the guard.
        w.source("carts", people(1));
        check_all(&w);
        drop(sandbox);
        w.source("carts", people(4));
        check_all(&w);
    }
}

#[test]
fn no_person_is_shown_by_triggers_and_preflight() {
    const CAMPAIGN: &str = "3aca937b-9bbc-4e42-9370-05e411967b2b";
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let campaign = json!([{ "id": CAMPAIGN, "name": "Welcome", "is_api": true }]).to_string();
    sandbox.admin_post("/_sandbox/campaigns", &campaign);
    let more = format!("    preflight: {{}}\n    on_enter: {{ campaign: {CAMPAIGN} }}\n");
    let text = config(&sandbox.url, &[], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", with_two_attempts(&(text + &cohort_entry("carts", &more))));
    w.source("carts", people(2));
    check(&w, &["reconcile"]);
    for (number, reply) in repeating_replies().into_iter().enumerate() {
        // The first user enters again.
        w.source("carts", (1..3 + number).map(person));
        sandbox.faults("[]");
        check(&w, &["reconcile"]);
        w.source("carts", (0..3 + number).map(person));
        let fault = |on: &str| json!({ "on": on, "contains": person(0), "times": 0, "do": reply });
        sandbox.faults(&json!([fault("export_ids"), fault("campaigns_trigger")]).to_string());
        check(&w, &["reconcile"]);
    }
    sandbox.faults("[]");
    check_all(&w);
}

/// Sources that cannot be read, or hold rows that cannot be used.
#[test]
fn no_person_is_shown_with_any_content_of_a_source() {
    let (one, two) = (person(1), person(2));
    let csv = [
        format!("{one},+4915112345678\n"),
        format!("{one};4915112345678\n{two};1\n"),
        format!("{one}\n"),
        "Xanthippe,Berlin\n".to_owned(),
        "xanthippe17\nxanthippe18\n".to_owned(),
        format!("identity,identity\n{one},{two}\n"),
        format!("identity\n{one}\n\"{two}\n"),
        format!("identity,x\n{one}\n{one},{two},{one}\n"),
        format!("identity\n{one}\u{1}\n {one}\n{}\n", one.repeat(60)),
        format!("other,{one}\n1,2\n"),
    ];
    let ndjson = [
        format!("{{\"identity\":\"{one}\"}}\n{{\"identity\":\"{two}\"\n"),
        format!("{{\"{one}\":1}}\n"),
        format!("{{\"identity\":{{\"{one}\":\"{two}\"}}}}\n{{\"identity\":[\"{two}\"]}}\n"),
        format!("{{\"identity\":\"{one}\",\"identity\":\"{two}\"}}\n"),
        format!("{one}\n[\"{two}\"]\n\"{two}\"\n"),
    ];
    let csv = csv.into_iter().map(|text| ("people.csv", text.into_bytes()));
    let broken = [b"identity\n".as_slice(), one.as_bytes(), b"\xff\xfe\n"].concat();
    let zipped = gzip(format!("identity\n{one}\n").as_bytes());
    let files = csv.chain(ndjson.into_iter().map(|text| ("people.ndjson", text.into_bytes()))).chain([
        ("people.csv", broken),
        ("people.csv.gz", zipped[..zipped.len() - 6].to_vec()),
        ("people.parquet", one.clone().into_bytes()),
        ("people.avro", one.clone().into_bytes()),
    ]);
    for (path, bytes) in files {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        let text =
            config(&sandbox.url, &["people"], "").replace("path: people.csv", &format!("path: {path}"));
        w.write("sync.yaml", text).write(path, bytes);
        check_all(&w);
    }
}

/// Posts JSON to the sandbox's admin API.
fn post(sandbox: &Sandbox, path: &str, body: &Value) {
    let response =
        http(&sandbox.url, "POST", path, &[("content-type", "application/json")], &body.to_string());
    assert!((200..300).contains(&response.status), "{path}: {} {}", response.status, response.body);
}

#[test]
fn no_person_is_shown_by_watch() {
    // Each with a state of its own: what was rejected before is not sent again.
    ["text", "json"].into_iter().for_each(watch_shows_no_person);
}

fn watch_shows_no_person(format: &str) {
    let (w, sandbox, ops) = (Workspace::new(), Sandbox::with(&["--heap-limits", "off"]), Listener::start());
    let more = format!(
        "  heap: {{ kind: heap, endpoint: {}, app_id: 11, webhook_secret: {{ env: TEST_WEBHOOK }}, retry: {{ attempts: 2, first_wait: 10ms }} }}\n{SHORT_TIMEOUTS}  \
         notify: [ {{ url: {{ env: OPS }} }}, {{ url: {{ env: OPS }}, format: slack }} ]\n",
        sandbox.url
    );
    let exports = "exports:\n  - { id: posted, source: { kind: currents_http, token: { env: TEST_TOKEN } }, to: heap, flush_every: 50ms, pii: keep }\n";
    let segment = "{ kind: heap_segment, connection: heap, segment_id: 7 }";
    let free = cohort_entry("free", "").replace("{ kind: file, path: free.csv }", segment);
    let text = with_two_attempts(&config(&sandbox.url, &["carts", "bad"], &more));
    w.write("sync.yaml", text + &free.replace("external_id: identity", "external_id: id") + exports);
    w.source("carts", people(3)).write("bad.csv", format!("{},Berlin\n", person(9)));
    let reply = json!({ "status": 400, "body": { "message": format!("invalid: {}", person(0)) } });
    sandbox.faults(
        &json!([{ "on": "users", "contains": person(0), "times": 0, "do": { "reply": reply } },
        { "on": "track", "contains": person(0), "times": 0, "do": { "reply": reply } }])
        .to_string(),
    );
    let mut command = w.command(&["watch", "-vv", "--log-format", format]);
    command.env("TEST_WEBHOOK", "whsec_test").env("TEST_TOKEN", "t0ken").env("OPS", ops.url());
    let watch = Watch::from_command(&mut command);
    watch.until_ready();
    let endpoints = watch.endpoints();
    let url = format!("{endpoints}/heap/heap");
    post(
        &sandbox,
        "/_sandbox/heap/webhook",
        &json!({ "url": url, "secret": "whsec_test", "page_len": 10, "first_wait": 20 }),
    );
    let members: Vec<String> = people(5).collect();
    post(&sandbox, "/_sandbox/heap/segments", &json!({ "id": 7, "name": "S", "members": members }));
    post(&sandbox, "/_sandbox/heap/sync", &json!({}));
    let send = |path: &str, headers: &[(&str, &str)], body: &str| {
        http(&endpoints, "POST", path, headers, body).status
    };
    assert_eq!(send(&format!("/{}", person(0)), &[], ""), 404);
    assert_eq!(send(&format!("/heap/heap?{}", person(0)), &[("heap-hash", &person(2))], &person(1)), 400);
    let token = [("authorization", "Bearer t0ken"), ("content-type", "application/json")];
    assert_eq!(send("/currents/posted", &[("authorization", &format!("Bearer {}", person(3)))], "{}"), 403);
    assert_eq!(send("/currents/posted", &token, &format!("{{\"{}\"", person(3))), 400);
    let event = json!({ "event_type": "users.messages.email.Open", "id": "e1", "time": 1_767_225_600,
        "user": { "external_user_id": person(0), "user_id": "b1" }, "properties": { "email_address": person(0) } });
    assert_eq!(
        send("/currents/posted", &token, &json!({ "events": [event, 7, person(4)] }).to_string()),
        200
    );
    // Braze and Heap have rejected their requests.
    until("both were asked", || {
        let log = watch.log();
        log.contains("/cohorts/users") && log.contains("Heap rejects the events")
    });
    until("a problem is notified", || !ops.posts().is_empty());
    for path in ["/", "/metrics", "/readyz"] {
        expect_no_person(path, &watch.get(path).body);
    }
    expect_no_person("notifications", &format!("{:?}", ops.posts()));
    let log_so_far = watch.log();
    assert_eq!(watch.stop(), 0);
    expect_no_person("the log", &log_so_far);
    check_all(&w);
}
