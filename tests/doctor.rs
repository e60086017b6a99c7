//! `doctor`: reports passed checks, describes each failure with a remedy, and changes nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use crate::support::drivers::Driver;
use crate::support::postgres::Postgres;
use crate::support::*;

/// A cohort of the config, read from `warehouse`.
fn cohort_from_warehouse(id: &str, source: &str) -> String {
    let source = format!("{{ kind: sql, connection: warehouse, {source} }}");
    cohort_entry(id, "").replace(&format!("{{ kind: file, path: {id}.csv }}"), &source)
}

#[test]
fn all_checks_pass_and_nothing_is_changed() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["doctor"]).expect(0).says(&[
        "state .syncline",
        "there is none yet",
        "connection braze (http://127.0.0.1",
        "ok Braze accepts the keys",
        "the clocks agree",
        "requests left in this hour",
        "MiB free",
        "cohort carts",
        "carts.csv can be read and has the columns",
        " checks passed",
    ]);
    assert!(!w.path(".syncline").exists(), "nothing was written");
    assert_eq!((sandbox.names().len(), sandbox.requests()["added"].as_u64()), (0, Some(0)));
    w.run(&["reconcile"]).expect(0);
    let before = w.snapshot(".syncline");
    w.run(&["doctor"]).expect(0).says(&["can be read: 1 cohort", "not locked"]);
    assert_eq!(w.snapshot(".syncline"), before);
    assert_eq!(sandbox.members("carts").len(), 3);
}

#[test]
fn the_example_passes_without_network() {
    let w = Workspace::new();
    let config = root().join("sync.yaml");
    w.run(&["doctor", "-c", config.to_str().unwrap()])
        .expect(0)
        .says(&["the sandbox, inside this program", " checks passed"]);
}

#[test]
fn all_failures_are_reported_at_once_with_remedies() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more = "  away: { kind: braze, endpoint: 'http://127.0.0.1:1', data_import_key: { env: TEST_IMPORT_KEY }, partner_api_key: { env: TEST_PARTNER_KEY } }
  keyless: { kind: braze, instance: US-01, data_import_key: { env: TEST_UNSET_KEY }, partner_api_key: { env: TEST_PARTNER_KEY } }
  heap: { kind: heap, region: eu, webhook_secret: { file: gone } }
  warehouse: { kind: adbc, driver: warehouse_of_tomorrow }\n";
    let text = config(&sandbox.url, &["gone", "carts"], more) + &cohort_from_warehouse("asked", "table: t");
    w.write("sync.yaml", text).write("carts.csv", "identify\nuser-1\n");
    let mut command = w.command(&["doctor", "--format", "json"]);
    command.env("TEST_IMPORT_KEY", "wr0ng-key").env("ADBC_DRIVER_PATH", w.path("drivers"));
    w.write("drivers/other.toml", "");
    let run = run(command).expect(11);
    assert!(!run.stdout.contains("wr0ng-key"), "{}", run.stdout);
    let found = run.json();
    assert_eq!((found["command"].as_str(), found["result"].as_str()), (Some("doctor"), Some("failed")));
    let failed: Vec<String> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["status"] == "failed")
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            let remedies: Vec<&str> =
                finding["remedies"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
            assert!(!remedies.is_empty(), "{finding}");
            format!("{} {} {} {}", text("about"), text("check"), text("message"), remedies.join(" "))
        })
        .collect();
    for (at, texts) in [
        &["connection away", "reach", "does not answer", "may this machine reach it"][..],
        &["connection braze", "credentials", "rejects the keys", "check `data_import_key:`"],
        &["connection keyless", "secrets", "TEST_UNSET_KEY is not set", "set TEST_UNSET_KEY"],
        &["connection heap", "secrets", "cannot read", "gone"],
        &[
            "connection warehouse",
            "driver",
            "Driver not found",
            "install the driver",
            "drivers, which has other.toml",
        ],
        &["cohort gone", "source", "gone.csv"],
        &["cohort carts", "source", "has no column `identity`", "Did you mean `identify`?"],
        &["cohort asked", "driver", "Driver not found"],
    ]
    .iter()
    .enumerate()
    {
        assert!(texts.iter().all(|text| failed[at].contains(text)), "{texts:?}\n{}", failed[at]);
    }
    assert_eq!(failed.len(), 8, "{failed:#?}");
}

/// A config with a REST key only, and a cohort whose users are looked up.
fn rest_key_only(url: &str) -> String {
    format!(
        "version: 1
connections:
  braze: {{ kind: braze, endpoint: '{url}', rest_api_key: {{ env: TEST_REST_KEY }} }}
cohorts:
  - {{ id: carts, name: Carts, to: braze, deliver: attribute, source: {{ kind: file, path: carts.csv }}, match: [ {{ external_id: identity }} ], preflight: {{}} }}
"
    )
}

#[test]
fn a_rest_key_is_tested_without_alarm() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.write("sync.yaml", rest_key_only(&sandbox.url)).source("carts", users(3));
    let shown = w.run(&["doctor"]).expect(0).says(&[
        "ok the REST key may use `/users/track` (Braze rejects the empty test, as expected)",
        "ok the REST key may export users by id",
    ]);
    assert!(!shown.stdout.contains('!'), "{}", shown.stdout);
    let mut command = w.command(&["doctor"]);
    command.env("TEST_REST_KEY", "wrong");
    let shown = run(command).expect(11).says(&[
        "check `rest_api_key:` of connection `braze`, its permission `users.track`, and the instance",
    ]);
    assert!(!shown.stdout.contains("partner"), "{}", shown.stdout);
}

#[test]
fn a_vendor_that_is_not_reached_fails_once() {
    let w = Workspace::new();
    w.write("sync.yaml", rest_key_only("http://127.0.0.1:1")).source("carts", users(3));
    let shown = w.run(&["doctor"]).expect(11).says(&["Braze does not answer", "may this machine reach it?"]);
    assert!(!shown.stdout.contains("permission"), "{}", shown.stdout);
    let report = w.run(&["doctor", "--format", "json"]).expect(11).json();
    let failed = report["findings"].as_array().unwrap().iter().filter(|f| f["status"] == "failed").count();
    assert_eq!(failed, 1, "{report:#}");
}

#[test]
fn permissions_of_databases_and_errors_of_queries_are_reported() {
    let Some(server) = Postgres::start() else { return };
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    server.sql(
        "create table carts as select 'user-1' as identity; create table secret (identity text);
         create role reader login; grant select on carts to reader",
    );
    let doctor = |user: &str, cohorts: &[&str]| {
        let mut text = config(&sandbox.url, &[], &server.connection(&format!("user: {user}, tls: off")));
        text.extend(
            cohorts.iter().enumerate().map(|(at, source)| cohort_from_warehouse(&format!("c{at}"), source)),
        );
        w.write("sync.yaml", text);
        w.run(&["doctor"])
    };
    doctor("owner", &["table: carts"]).expect(0).says(&[
        "ok PostgreSQL ",
        "! the user has write permissions",
        "only `select`",
        "ok the clocks agree",
        "connections are used",
        "the query is allowed and has the columns",
        "1 note",
    ]);
    doctor(
        "reader",
        &["table: carts", "query: \"select identity from carts where identity like $1\", params: [x]"],
    )
    .expect(0)
    .says(&["ok the user has only read permissions", " checks passed"]);
    doctor("reader", &["table: secret", "table: carts", "query: \"select 1 as id\"", "table: nowhere"])
        .expect(11)
        .says(&[
            "permission denied",
            "grant the user",
            "no column `identity`",
            "nowhere",
            "3 of ",
            "checks failed.",
        ]);
    server.stop("fast");
    doctor("reader", &["table: carts"]).expect(11).says(&["cannot be reached", "Is `host:` of connection"]);
}

#[test]
fn an_installed_driver_is_reported() {
    for driver in [Driver::sqlite(), Driver::duckdb()].into_iter().flatten() {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        driver.sql(&w.path("data.db"), "create table carts as select 'user-1' as identity");
        let connection = driver.connection("data.db", "");
        w.write(
            "sync.yaml",
            config(&sandbox.url, &[], &connection) + &cohort_from_warehouse("carts", "table: carts"),
        );
        w.run(&["doctor"])
            .expect(0)
            .says(&["the driver is installed and opens the database", "the query is allowed"]);
        w.write(
            "sync.yaml",
            config(&sandbox.url, &[], &connection) + &cohort_from_warehouse("carts", "table: gone"),
        );
        w.run(&["doctor"]).expect(11).says(&["rejects the query"]);
    }
}

/// A server with another `Date` header has another clock.
#[test]
fn a_wrong_clock_is_reported() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        let (stream, _) = socket.accept().unwrap();
        let (mut reader, mut line, mut len) = (BufReader::new(stream), String::new(), 0);
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
            line.clear();
        }
        reader.read_exact(&mut vec![0; len]).unwrap();
        let body = r#"{"message":"success"}"#;
        let head = "HTTP/1.1 201 Created\r\ndate: Sat, 01 Jan 2022 00:00:00 GMT";
        let response = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        reader.into_inner().write_all(response.as_bytes()).unwrap();
    });
    let w = Workspace::new();
    w.write("sync.yaml", config(&url, &["carts"], "")).source("carts", users(1));
    w.run(&["doctor"]).expect(11).says(&[
        "this machine's clock is ",
        " s ahead",
        "let NTP set the clock",
        "1 of ",
    ]);
}

#[test]
fn the_holder_of_the_state_is_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    sandbox.faults(r#"[{"on": "users", "times": 1, "do": "hang"}]"#);
    w.write("sync.yaml", w.read("sync.yaml").replace("timeout: 2s", "timeout: 60s"));
    w.source("carts", users(4));
    let mut busy = w.command(&["reconcile"]).spawn().unwrap();
    until("a run is active", || w.run(&["status"]).stdout.contains("Held by"));
    until("its request is active", || sandbox.requests()["users"] == 2);
    let reported = w.run(&["doctor"]);
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert!(reported.stdout.contains("! held by process"), "{reported:?}");
}

/// Each group of endpoints has its own rate limit, and only the groups that the config uses are requested.
#[test]
fn rate_limits_of_used_endpoints_are_shown() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let text = config(&sandbox.url, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    w.write("sync.yaml", &text).source("carts", users(1));
    let run = w.run(&["doctor"]).expect(0);
    assert!(!run.stdout.contains("/users/export/ids") && !run.stdout.contains("Canvases:"), "{run:?}");
    let segment = "segments: [ { id: s, connection: braze, segment: { name: S }, include: [carts] } ]\n";
    w.write("sync.yaml", format!("{text}{segment}"));
    let run = w.run(&["doctor"]).expect(0).says(&["ok segments, campaigns and Canvases: ", " left until "]);
    assert!(!run.stdout.contains("/users/export/ids"), "{run:?}");
    let preflight = text.replace("name: Carts", "name: Carts\n    preflight: {}");
    w.write("sync.yaml", format!("{preflight}{segment}"));
    w.run(&["doctor"]).expect(0).says(&[
        "requests left in this hour",
        "the REST key may export users by id",
        "ok segments, campaigns and Canvases: ",
        "ok `/users/export/ids`: ",
    ]);
}

#[test]
fn the_rest_key_for_segment_checks_is_tried() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let more = "    rest_api_key: { env: TEST_REST_KEY }
segments: [ { id: win_back, connection: braze, segment: { name: Win back }, include: [carts] } ]\n";
    w.config(&sandbox, &["carts"], more).source("carts", users(1));
    w.run(&["doctor"]).expect(0).says(&["the REST key may list segments: 0 segments"]);
    let mut command = w.command(&["doctor"]);
    command.env("TEST_REST_KEY", "wr0ng-key");
    let reported = run(command).expect(11).says(&["check `rest_api_key:` of connection `braze`"]);
    assert!(!reported.stdout.contains("wr0ng-key"));
}

/// The cohort import and `/users/track` have separate rate limits: an exhausted one does not affect the other.
#[test]
fn rate_limits_are_shown_per_endpoint() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "    rest_api_key: { env: TEST_REST_KEY }\n");
    let attribute = cohort_entry("trials", "    deliver: attribute\n");
    w.write("sync.yaml", w.read("sync.yaml") + &attribute);
    w.source("carts", users(1)).source("trials", users(1));
    let reported = w.run(&["doctor"]).expect(0).says(&[
        "cohort import: requests left in this hour: 249,999 of 250,000",
        "`/users/track`: 2,999 requests left until ",
    ]);
    assert_eq!(reported.stdout.matches("250,000").count(), 1, "{reported:?}");
    sandbox.faults(r#"[{"on": "users_track", "times": 0, "do": {"reply": {"status": 429}}}]"#);
    w.run(&["doctor"]).says(&[
        "ok Braze accepts the keys (cohort import)",
        "requests left in this hour",
        "`/users/track`: Braze's rate limit is used up",
    ]);
}

#[test]
fn blocked_cohorts_and_their_approvals_are_reported() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "trials"], "").source("carts", users(50)).source("trials", users(1));
    w.run(&["reconcile"]).expect(0);
    let healthy = w.run(&["doctor"]).expect(0);
    assert!(!healthy.stdout.contains("blocked"), "{}", healthy.stdout);
    w.source("carts", users(10)).run(&["reconcile"]).expect(6);
    let report = w.run(&["doctor"]).expect(0).stdout;
    let (_, command) =
        report.split_once("to approve exactly this plan: ").unwrap_or_else(|| panic!("{report}"));
    let flat = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("; it waits for an approval: removals blocked: 40 of 50 members"), "{report}");
    assert_eq!(report.matches("blocked since").count(), 1, "{report}");
    run_pasted(&w, command.lines().next().unwrap()).expect(0);
    let approved = w.run(&["doctor"]).expect(0).says(&["approved until", "; the next run applies it"]);
    assert!(!approved.stdout.contains("waits for an approval"), "{}", approved.stdout);
    w.run(&["reconcile"]).expect(0);
    assert!(!w.run(&["doctor"]).expect(0).stdout.contains("blocked"));
    let (path, bytes) = w.snapshot(".syncline/outcomes").pop().unwrap();
    #[allow(clippy::disallowed_methods, reason = "damage on purpose")]
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    w.run(&["doctor"])
        .expect(0)
        .says(&["! what the guard blocks is unknown", "the next run records it again"]);
}
