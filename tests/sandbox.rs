//! The sandbox's partner API, called without our client: as strict as Braze's documents.

use serde_json::{Value, json};

use crate::support::*;

const AGENT: (&str, &str) = ("user-agent", "partner-Acme-Test/1.0");
const JSON: (&str, &str) = ("content-type", "application/json");

fn post(sandbox: &Sandbox, path: &str, body: &Value) -> Response {
    http(&sandbox.url, "POST", path, &[AGENT, JSON], &body.to_string())
}

fn keys(more: Value) -> Value {
    let mut body = json!({ "partner_api_key": PARTNER_KEY, "client_secret": IMPORT_KEY, "cohort_id": "c" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn check(sandbox: &Sandbox, path: &str, body: &Value, status: u16, message: &str) {
    let response = post(sandbox, path, body);
    assert_eq!(
        (response.status, response.body),
        (status, json!({ "message": message }).to_string()),
        "{body}"
    );
}

const NAMES: &str = "/partners/heap/cohorts";
const USERS: &str = "/partners/heap/cohorts/users";

#[test]
fn requests_are_validated_in_the_documented_order() {
    let sandbox = Sandbox::start();
    let changes = json!([{ "user_ids": ["u1"] }]);
    let good = keys(json!({ "cohort_changes": changes }));
    let without = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    check(&sandbox, USERS, &json!({}), 401, "Invalid Partner API key");
    check(&sandbox, USERS, &without("partner_api_key", json!("x")), 401, "Invalid Partner API key");
    check(&sandbox, USERS, &without("client_secret", json!("x")), 401, "Invalid client secret");
    let echo = format!("Partner not enabled for client with client secret: {IMPORT_KEY}");
    check(&sandbox, "/partners/other/cohorts/users", &good, 401, &echo);
    check(&sandbox, USERS, &without("cohort_id", json!(7)), 400, "`cohort_id` must be a valid string");
    let shape = post(&sandbox, USERS, &without("cohort_changes", json!("[]")));
    assert!(shape.status == 400 && shape.body.contains("`cohort_changes` must be an array of objects"));
    let many: Vec<String> = users(1_001).collect();
    let limit = "Only 1,000 `user_ids`, `device_ids`, and `aliases` are allowed per request";
    check(&sandbox, USERS, &without("cohort_changes", json!([{ "user_ids": many }])), 400, limit);
    let split = json!([{ "user_ids": &many[..600] }, { "device_ids": &many[600..] }]);
    check(&sandbox, USERS, &without("cohort_changes", split), 400, limit);
    check(&sandbox, USERS, &good, 201, "success");
    check(&sandbox, USERS, &without("cohort_changes", json!([])), 201, "success");

    let name = |name: &str, at: &str| keys(json!({ "name": name, "created_at": at }));
    check(&sandbox, NAMES, &name("", "2026-01-01T00:00:00Z"), 400, "`name` must be a non-empty string");
    check(
        &sandbox,
        NAMES,
        &name("C", "yesterday"),
        400,
        "`created_at` must be a valid time as an ISO-8601 string",
    );
    check(&sandbox, NAMES, &name("C", "2026-01-01T00:00:00+05:00"), 201, "success");
    assert_eq!(sandbox.names(), [("c".to_owned(), "C".to_owned())]);
    assert_eq!(sandbox.members("c"), members(["u1".to_owned()]));
}

#[test]
fn headers_and_sizes_are_checked() {
    let sandbox = Sandbox::start();
    let body = keys(json!({ "cohort_changes": [] })).to_string();
    let status =
        |headers: &[(&str, &str)], body: &str| http(&sandbox.url, "POST", USERS, headers, body).status;
    assert_eq!(status(&[AGENT], &body), 415);
    assert_eq!(status(&[JSON], &body), 400);
    assert_eq!(status(&[JSON, ("user-agent", "reqwest/0.13")], &body), 400);
    assert_eq!(status(&[AGENT, JSON], "{"), 400);
    assert_eq!(status(&[AGENT, JSON], &format!("{body}{}", " ".repeat(4 << 20))), 413);
    assert_eq!(http(&sandbox.url, "GET", USERS, &[AGENT], "").status, 405);
    assert_eq!(
        http(&sandbox.url, "GET", "/partners/heap/cohorts/list", &[AGENT], "").status,
        404,
        "Braze has none"
    );
}

#[test]
fn every_response_has_the_rate_limit_and_the_full_hour() {
    let sandbox = Sandbox::with(&["--rate-limit", "3"]);
    let good = keys(json!({ "cohort_changes": [] }));
    let first = post(&sandbox, USERS, &good);
    let header = |response: &Response, name: &str| {
        let line = response
            .headers
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        line.unwrap_or_default()
    };
    assert_eq!(
        (header(&first, "x-ratelimit-limit"), header(&first, "x-ratelimit-remaining")),
        ("3".into(), "2".into())
    );
    assert_eq!(header(&first, "x-ratelimit-reset").parse::<u64>().unwrap() % 3600, 0);
    let refused = post(&sandbox, USERS, &json!({}));
    assert!(
        refused.headers.lines().any(|line| line.trim() == "x-ratelimit-remaining:"),
        "{}",
        refused.headers
    );
    post(&sandbox, USERS, &good);
    assert_eq!(post(&sandbox, USERS, &good).status, 429);
}

#[test]
fn a_second_write_to_a_cohort_finds_it_locked() {
    let sandbox = Sandbox::with(&["--latency", "300"]);
    let body = keys(json!({ "cohort_changes": [{ "user_ids": ["u1"] }] }));
    let other = {
        let mut b = body.clone();
        b["cohort_id"] = json!("d");
        b
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| post(&sandbox, USERS, &body).status);
        until("the first write", || sandbox.requests()["users"] == 1);
        let second = scope.spawn(|| post(&sandbox, USERS, &body));
        let elsewhere = scope.spawn(|| post(&sandbox, USERS, &other).status);
        let second = second.join().unwrap();
        assert_eq!((second.status, second.body), (423, json!({ "message": "Resource locked" }).to_string()));
        assert_eq!((first.join().unwrap(), elsewhere.join().unwrap()), (201, 201));
    });
}

#[test]
fn the_admin_api_creates_and_identifies_users() {
    let sandbox = Sandbox::with(&["--profiles", "created"]);
    let ids = json!([
        { "external_id": "u1", "aliases": [{ "alias_label": "crm", "alias_name": "7" }], "device_ids": ["d1"] },
        { "device_ids": ["d2"] },
    ]);
    sandbox.admin_post("/_sandbox/users", &ids.to_string());
    let send = |ids: Value| post(&sandbox, USERS, &keys(json!({ "cohort_changes": [ids] }))).status;
    assert_eq!(send(json!({ "user_ids": ["unknown"], "device_ids": ["d1"] })), 201, "silently ignored");
    assert!(sandbox.members("c").is_empty());
    assert_eq!(sandbox.requests()["ignored"], 2);
    assert_eq!(
        send(json!({ "aliases": [{ "alias_label": "crm", "alias_name": "7" }], "device_ids": ["d2"] })),
        201
    );
    assert_eq!(sandbox.members("c"), ["device_id d2", "external_id u1"].map(str::to_owned).into());
    sandbox.admin_post("/_sandbox/identify", r#"{"device_id":"d2","external_id":"u2"}"#);
    assert_eq!(send(json!({ "device_ids": ["d2"], "should_remove": true })), 201);
    assert_eq!(sandbox.members("c"), members(["u1", "u2"].map(str::to_owned)), "stuck, as in Braze");
}

#[test]
fn the_admin_api_says_what_does_not_exist() {
    let sandbox = Sandbox::start();
    for (path, says) in [
        ("/_sandbox/cohorts/gone/members", "no cohort `gone`"),
        ("/_sandbox/cohorts/gone/members", "GET /_sandbox/attributes/syncline_cohorts/gone"),
        ("/_sandbox/profiles/gone", "no profile `gone`"),
        ("/_sandbox/segments/gone/members", "no segment `gone`"),
        ("/_sandbox/heap/users/gone", "no user `gone`"),
        ("/_sandbox/heap/accounts/gone", "no account `gone`"),
        ("/_sandbox/heap/segments/7/members", "no segment `7`"),
        ("/_sandbox/cohort", "no path `cohort`. GET /_sandbox/ lists the paths"),
    ] {
        let (status, text) = sandbox.get(path);
        assert!(status == 404 && text.contains(says), "{path}: {status} {text}");
    }
    let json = [("content-type", "application/json")];
    let segment = r#"[{"name": "S", "include": ["gone"]}]"#;
    let refused = http(&sandbox.url, "POST", "/_sandbox/segments", &json, segment);
    assert_eq!(refused.status, 400, "no filter can name a cohort that does not exist");
    assert!(refused.body.contains("filter on \"syncline_cohorts=gone\""), "{}", refused.body);
}

#[test]
fn strict_naming_is_optional() {
    let sandbox = Sandbox::with(&["--strict-naming"]);
    let body = keys(json!({ "cohort_changes": [{ "user_ids": ["u1"] }] }));
    assert_eq!(post(&sandbox, USERS, &body).status, 400);
    let (w, _) = (Workspace::new(), ());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    assert_eq!(sandbox.members("carts"), members(users(3)), "our client sends the name first");
}

#[test]
fn our_client_has_the_user_agent_that_braze_requires() {
    // The sandbox rejects other user agents, so all tests check the form; this one checks the organization.
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "    organization: AcmeData\n").source("carts", users(1));
    w.run(&["reconcile"]).expect(0);
    w.config(&sandbox, &["carts"], "    organization: acmeData\n");
    w.run(&["reconcile"]).expect(3).says(&["one word in Pascal case"]);
}

#[test]
fn two_sandboxes_cannot_share_a_memory_folder() {
    let w = Workspace::new();
    let memory = w.path("memory");
    let _first = Sandbox::with(&["--memory", memory.to_str().unwrap()]);
    w.run(&["sandbox", "--port", "0", "--memory", "memory"])
        .expect(1)
        .says(&["another sandbox uses the memory"]);
}
