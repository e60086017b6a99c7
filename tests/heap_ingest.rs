//! The sandbox's server-side API of Heap, called without our client: as strict as Heap's documents.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::*;

const JSON: (&str, &str) = ("content-type", "application/json");
const TRACK: &str = "/api/track";

fn post(sandbox: &Sandbox, path: &str, body: &Value) -> Response {
    http(&sandbox.url, "POST", path, &[JSON], &body.to_string())
}

#[track_caller]
fn check(sandbox: &Sandbox, path: &str, body: &Value, status: u16, text: &str) {
    let response = post(sandbox, path, body);
    assert_eq!((response.status, response.body.as_str()), (status, text), "{body}");
}

fn report(sandbox: &Sandbox, path: &str) -> Value {
    let (status, body) = sandbox.get(path);
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn event(identity: &str, name: &str, key: &str) -> Value {
    json!({ "identity": identity, "event": name, "idempotency_key": key, "properties": { "n": 1 } })
}

fn bulk(events: &[Value]) -> Value {
    json!({ "app_id": "11", "events": events })
}

#[test]
fn events_are_stored_once_and_one_invalid_element_rejects_all() {
    let sandbox = Sandbox::start();
    let good = bulk(&[event("a", "Email Open", "k1"), event("b", "Email Open", "k2")]);
    assert!(post(&sandbox, TRACK, &good).status < 300);
    let mixed = bulk(&[event("c", "Email Open", "k3"), json!({ "identity": "c", "event": 7 })]);
    check(&sandbox, TRACK, &mixed, 400, "postBody.events[1].event should be string");
    let single = json!({ "app_id": "11", "user_id": "42", "event": "Seen", "properties": { "tags": ["a", "b"] },
                         "timestamp": "2026-03-10T22:21:56+00:00", "idempotency_key": "k0" });
    assert!(post(&sandbox, TRACK, &single).status < 300);
    assert!(post(&sandbox, TRACK, &bulk(&[event("a", "Other", "k1")])).status < 300, "a no-op");
    check(
        &sandbox,
        TRACK,
        &json!({ "app_id": "9", "identity": "a", "event": "e" }),
        400,
        "postBody is not of a known app_id",
    );
    assert_eq!(http(&sandbox.url, "POST", TRACK, &[JSON], "{").status, 400);
    assert_eq!(http(&sandbox.url, "POST", TRACK, &[], &good.to_string()).status, 400, "JSON only");
    assert_eq!(http(&sandbox.url, "GET", TRACK, &[], "").status, 405);

    assert_eq!(
        report(&sandbox, "/_sandbox/heap/events/count"),
        json!({ "stored": 3, "duplicates": 1, "received": 4, "dropped": 0,
                "by_event": { "Email Open": 2, "Seen": 1 } })
    );
    assert_eq!(sandbox.get("/_sandbox/heap/events/keys").1, "k0\nk1\nk2\n");
    let seen: Value = serde_json::from_str(&sandbox.get("/_sandbox/heap/events?event=Seen").1).unwrap();
    assert_eq!(
        seen,
        json!({ "user_id": 42, "event": "Seen", "timestamp": "2026-03-10T22:21:56+00:00",
                "idempotency_key": "k0", "properties": { "tags": "a||b" } })
    );
    assert_eq!(sandbox.get("/_sandbox/heap/events?identity=a").1.lines().count(), 1);
    assert_eq!(sandbox.get("/_sandbox/heap/events?limit=2").1.lines().count(), 2);
    assert_eq!(report(&sandbox, "/_sandbox/heap/requests")["statuses"]["400"], 4);
}

#[test]
fn a_success_has_several_body_forms() {
    let sandbox = Sandbox::start();
    let mut faces: Vec<(u16, String)> = (0..3)
        .map(|n| post(&sandbox, TRACK, &bulk(&[event("a", "e", &format!("k{n}"))])))
        .map(|response| (response.status, response.body))
        .collect();
    faces.sort();
    assert_eq!(faces, [(200, String::new()), (200, "{}".to_owned()), (204, String::new())]);
    let sandbox = Sandbox::with(&["--heap-responses", "object", "--heap-app-id", "77", "--heap-lenient"]);
    let body =
        json!({ "app_id": "77", "identity": "a", "event": "e", "properties": { "deep": { "x": true } } });
    for _ in 0..3 {
        check(&sandbox, TRACK, &body, 200, "{}");
    }
}

#[test]
fn users_are_identified_and_get_properties() {
    let sandbox = Sandbox::start();
    let ok = |path: &str, body: Value| assert!(post(&sandbox, path, &body).status < 300, "{body}");
    ok(TRACK, json!({ "app_id": "11", "user_id": "7", "event": "Before" }));
    ok("/api/v1/identify", json!({ "app_id": "11", "user_id": "7", "identity": "a@x.io" }));
    ok("/api/v1/identify", json!({ "app_id": "11", "user_id": "7", "identity": "b@x.io" }));
    let path = "/api/add_user_properties";
    ok(path, json!({ "app_id": "11", "identity": "a@x.io", "properties": { "email": "a@x.io", "Role": 1 } }));
    ok(
        path,
        json!({ "app_id": "11", "users": [{ "identity": "a@x.io", "properties": { "Role": "Admin" } },
                                             { "identity": "new", "properties": {} }] }),
    );
    let user = report(&sandbox, "/_sandbox/heap/users/a@x.io");
    assert_eq!(
        (&user["properties"], &user["merged_user_ids"], &user["events"]),
        (&json!({ "email": "a@x.io", "Role": "Admin" }), &json!([7]), &json!(1))
    );
    assert_eq!(report(&sandbox, "/_sandbox/heap/users/new")["events"], 0);
    assert_eq!(sandbox.get("/_sandbox/heap/users/absent").0, 404);
    assert_eq!(report(&sandbox, "/_sandbox/heap/requests")["identifies_ignored"], 1);
    let bad = json!({ "app_id": "11", "identity": "a", "properties": { "iD": 1 } });
    check(&sandbox, path, &bad, 400, "postBody.users[0].properties property name 'iD' is invalid");
    let long = json!({ "app_id": "11", "identity": "a".repeat(256), "properties": {} });
    check(&sandbox, path, &long, 400, "postBody.users[0].identity should NOT be longer than 255 characters");
    let account = json!({ "app_id": 11, "account_id": "acme", "properties": { "plan": "pro" } });
    check(&sandbox, "/api/add_account_properties", &account, 200, "OK");
    assert_eq!(report(&sandbox, "/_sandbox/heap/accounts/acme")["properties"], json!({ "plan": "pro" }));
}

#[test]
fn rate_limits_reject_or_drop_or_are_off() {
    let single = |n: usize| json!({ "app_id": "11", "identity": "a", "event": "e", "idempotency_key": format!("s{n}") });
    let many = |n: usize| bulk(&(0..n).map(|i| event("b", "e", &format!("b{n}-{i}"))).collect::<Vec<_>>());
    let run = |limits: &str| {
        let sandbox = Sandbox::with(&["--heap-limits", limits]);
        let singles = (0..31).filter(|n| post(&sandbox, TRACK, &single(*n)).status < 300).count();
        let bulks = [900, 101].map(|n| post(&sandbox, TRACK, &many(n)).status);
        let count = report(&sandbox, "/_sandbox/heap/events/count");
        (singles, bulks[1] < 300, count["stored"].as_u64().unwrap(), count["dropped"].as_u64().unwrap())
    };
    assert_eq!(run("429"), (30, false, 930, 0));
    assert_eq!(run("silent-drop"), (31, true, 1_030, 2));
    assert_eq!(run("off"), (31, true, 1_032, 0));
    let short = Sandbox::with(&["--heap-minute", "200"]);
    (0..30).for_each(|n| assert!(post(&short, TRACK, &single(n)).status < 300 || n > 0));
    until("the window has capacity again", || post(&short, TRACK, &single(99)).status < 300);
}

#[test]
fn random_faults_lose_responses_and_nothing_else() {
    let sandbox = Sandbox::with(&["--heap-limits", "off"]);
    sandbox.faults(
        r#"[{"on":"track","times":0,"share":0.1,"do":{"status":429}},
            {"on":"track","times":0,"share":0.1,"do":{"status":503}},
            {"on":"track","times":0,"share":0.1,"do":"reset"},
            {"on":"track","times":0,"share":0.1,"do":"lose_answer"}]"#,
    );
    let (mut requests, mut lost) = (0, 0);
    for n in 0..60 {
        loop {
            requests += 1;
            let body = bulk(&[event("a", "e", &format!("k{n:02}"))]).to_string();
            let status = try_http(&sandbox.url, "POST", TRACK, &[JSON], &body).map_or(0, |r| r.status);
            lost += u64::from(status == 0);
            if (200..300).contains(&status) {
                break;
            }
        }
    }
    assert!(requests > 70 && lost > 3, "{requests} {lost}");
    let count = report(&sandbox, "/_sandbox/heap/events/count");
    assert_eq!(count["stored"], 60);
    assert!(count["duplicates"].as_u64().unwrap() > 0, "a response was lost and the event was repeated");
    assert_eq!(report(&sandbox, "/_sandbox/heap/requests")["endpoints"]["track"], requests);
}

#[test]
fn events_and_their_keys_survive_a_restart() {
    let w = Workspace::new();
    let memory = w.path("memory");
    let start = || Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    let anonymous = json!({ "user_id": "9007199254740991", "event": "e", "idempotency_key": "k2",
                            "properties": { "n": 0.5, "s": "\u{1f600}" } });
    let body = bulk(&[event("a", "e", "k1"), anonymous]);
    let first = start();
    assert!(post(&first, TRACK, &body).status < 300);
    let stored = first.get("/_sandbox/heap/events");
    drop(first);
    let second = start();
    assert!(post(&second, TRACK, &body).status < 300);
    assert_eq!(report(&second, "/_sandbox/heap/events/count")["stored"], 2);
    assert_eq!(report(&second, "/_sandbox/heap/events/count")["duplicates"], 2);
    assert_eq!(second.get("/_sandbox/heap/events"), stored);
}

fn sandbox_events(sandbox: &Sandbox) -> usize {
    sandbox.get("/_sandbox/heap/events").1.lines().count()
}

#[test]
fn accept_all_only_counts_events() {
    let sandbox = Sandbox::with(&["--heap-accept-all", "--heap-body-max", "5000"]);
    for _ in 0..2 {
        let body = bulk(&[event("a", "e", "k"), json!({ "event": 7 })]);
        assert!(post(&sandbox, TRACK, &body).status < 300);
    }
    let count = report(&sandbox, "/_sandbox/heap/events/count");
    assert_eq!((&count["received"], &count["stored"]), (&json!(4), &json!(0)));
    assert_eq!(http(&sandbox.url, "POST", TRACK, &[JSON], &" ".repeat(5_001)).status, 413);
}

#[test]
fn users_are_deleted_with_a_token() {
    let sandbox = Sandbox::with(&["--heap-minute", "2000"]);
    post(&sandbox, TRACK, &bulk(&[event("a", "e", "k1"), event("b", "e", "k2")]));
    let basic = |key: &str| {
        let value = base64::engine::general_purpose::STANDARD.encode(format!("11:{key}"));
        let header = format!("Basic {value}");
        http(&sandbox.url, "POST", "/api/public/v0/auth_token", &[("authorization", &header)], "")
    };
    assert_eq!(basic("wrong").status, 401);
    let token: Value = serde_json::from_str(&basic("sandbox-heap-api-key").body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let ask = |method: &str, path: &str, body: &str| {
        http(&sandbox.url, method, path, &[("authorization", &bearer), JSON], body)
    };
    assert_eq!(ask("POST", "/api/public/v0/user_deletion", r#"{"users":[{"name":"a"}]}"#).status, 400);
    let requested =
        ask("POST", "/api/public/v0/user_deletion", r#"{"users":[{"identity":"a"},{"user_id":7}]}"#);
    assert_eq!(requested.status, 201);
    let requested: Value = serde_json::from_str(&requested.body).unwrap();
    assert_eq!(requested["status"], "pending");
    let path = requested["deletion_request_location"].as_str().unwrap();
    let status =
        |response: Response| serde_json::from_str::<Value>(&response.body).unwrap()["status"].clone();
    assert_eq!(status(ask("GET", path, "")), "pending");
    assert_eq!(sandbox_events(&sandbox), 2);
    assert_eq!(status(ask("GET", path, "")), "complete");
    assert_eq!(sandbox_events(&sandbox), 1);
    assert_eq!(ask("GET", "/api/public/v0/deletion_status/none", "").status, 404);
    let list = report(&sandbox, "/_sandbox/heap/deletions");
    assert_eq!(list[0]["users"], json!([{ "identity": "a" }, { "user_id": 7 }]));
    let none = http(&sandbox.url, "GET", path, &[], "");
    assert!(none.status == 401 && none.body.contains("err"), "{}", none.body);
}
