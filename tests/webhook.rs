//! Cohorts from Heap segments: the sandbox delivers changes, and `watch` applies them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

const SECRET: &str = "whsec_test";

/// A config with cohorts from Heap segments, by id and number.
fn config_of(url: &str, cohorts: &[(&str, u64)], heap: &str) -> String {
    let connection = format!("  heap: {{ kind: heap, webhook_secret: {{ env: TEST_WEBHOOK }}{heap} }}\n");
    let mut text = config(url, &[], &(connection + SHORT_TIMEOUTS));
    for (id, segment) in cohorts {
        text.push_str(&cohort_entry(
            id,
            "    guard: { max_added: 100000%, max_removed: 100%, allow_empty: true }\n",
        ));
        text = text
            .replace(
                &format!("{{ kind: file, path: {id}.csv }}"),
                &format!("{{ kind: heap_segment, connection: heap, segment_id: {segment} }}"),
            )
            .replace("external_id: identity", "external_id: id");
    }
    text
}

struct Scene {
    w: Workspace,
    sandbox: Sandbox,
}

impl Scene {
    fn new(cohorts: &[(&str, u64)]) -> Self {
        Self::with(cohorts, "")
    }

    fn with(cohorts: &[(&str, u64)], heap: &str) -> Self {
        let (w, sandbox) = (Workspace::new(), Sandbox::start());
        w.write("sync.yaml", config_of(&sandbox.url, cohorts, heap));
        Self { w, sandbox }
    }

    fn watch(&self) -> Watch {
        let watch = Watch::from_command(self.w.command(&["watch"]).env("TEST_WEBHOOK", SECRET));
        watch.until_ready();
        watch
    }

    /// Sets the target and the format of the sandbox's deliveries.
    fn deliver_to(&self, watch: &Watch, how: &Value) {
        let mut webhook = json!({ "url": format!("{}/heap/heap", watch.endpoints()), "secret": SECRET, "page_len": 10, "first_wait": 20 });
        webhook.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        self.post("/_sandbox/heap/webhook", &webhook);
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let response =
            http(&self.sandbox.url, "POST", path, &[("content-type", "application/json")], &body.to_string());
        assert!((200..300).contains(&response.status), "{path}: {} {}", response.status, response.body);
        serde_json::from_str(&response.body).unwrap_or(Value::Null)
    }

    fn segment(&self, id: u64, name: &str, ids: impl Iterator<Item = String>) {
        let members: Vec<String> = ids.collect();
        self.post("/_sandbox/heap/segments", &json!({ "id": id, "name": name, "members": members }));
    }

    fn sync(&self) -> Value {
        self.post("/_sandbox/heap/sync", &json!({}))
    }

    fn segment_members(&self, id: u64) -> BTreeSet<String> {
        let ids = self.sandbox.get(&format!("/_sandbox/heap/segments/{id}/members")).1;
        members(ids.lines().map(str::to_owned))
    }

    #[track_caller]
    fn until_in_braze(&self, cohort: &str, segment: u64) {
        let expected = self.segment_members(segment);
        until(&format!("{cohort} has the segment's members"), || self.sandbox.members(cohort) == expected);
    }

    fn segment_report(&self) -> Value {
        self.w.run(&["status", "--format", "json"]).expect(0).json()["heap_connections"][0].clone()
    }
}

#[test]
fn segment_changes_in_heap_change_members_in_braze() {
    let scene = Scene::new(&[("free", 7)]);
    let watch = scene.watch();
    until("the cohort waits for Heap", || watch.ready()["not_in_sync"]["free"] == "waiting");
    scene.deliver_to(&watch, &json!({ "duplicates": 0.5, "shuffle": true, "at_once": 4 }));
    scene.segment(7, "Free customers", users(95));
    scene.sync();
    scene.until_in_braze("free", 7);
    scene.post(
        "/_sandbox/heap/segments/7/change",
        &json!({ "add": ["new-1", "new-2"], "remove": ["user-0", "user-1"] }),
    );
    scene.sync();
    scene.until_in_braze("free", 7);
    assert_eq!(scene.sandbox.members("free").len(), 95);
    scene.post("/_sandbox/heap/segments/7/rename", &json!({ "name": "Freeloaders" }));
    scene.post("/_sandbox/heap/segments/7/change", &json!({ "add": ["new-3"] }));
    scene.sync();
    scene.until_in_braze("free", 7);
    assert_eq!(scene.segment_report()["segments"][0]["name"], "Freeloaders");
    assert_eq!(
        scene.sandbox.names(),
        [("free".to_owned(), "Free".to_owned())],
        "the config sets the name in Braze"
    );
    scene.post("/_sandbox/heap/segments/7/drain", &json!({}));
    until("the cohort is empty", || scene.sandbox.members("free").is_empty());
    assert_eq!(watch.stop(), 0);
    scene.w.run(&["state", "verify"]).expect(0);
}

#[test]
fn every_webhook_format_gives_the_same_members() {
    for how in [
        json!({ "timestamps": "s" }),
        json!({ "wrapped": true, "both_in_one_page": true }),
        json!({ "retry_timestamps": "first", "late_duplicates": 0.5 }),
        json!({ "bad_signatures": 0.3 }),
    ] {
        let scene = Scene::new(&[("free", 7)]);
        let watch = scene.watch();
        scene.deliver_to(&watch, &how);
        for round in 0..4 {
            scene.segment(7, "Free", users(40).skip(round * 5));
            scene.sync();
        }
        scene.until_in_braze("free", 7);
        assert_eq!(
            watch.metric("syncline_heap_deliveries_total{connection=\"heap\",outcome=\"invalid\"}"),
            0.0,
            "{how}"
        );
    }
}

#[test]
fn an_undeclared_segment_is_stored_and_can_be_declared_later() {
    let scene = Scene::new(&[("free", 7)]);
    let watch = scene.watch();
    scene.deliver_to(&watch, &json!({}));
    scene.segment(7, "Free", users(5));
    scene.segment(8, "Paying", users(12));
    scene.sync();
    scene.until_in_braze("free", 7);
    scene.w.run(&["status"]).expect(0).says(&[
        "segment 8 \"Paying\": 12 members",
        "no cohort uses it",
        "source: { kind: heap_segment, connection: heap, segment_id: 8 }",
    ]);
    scene.w.replace("sync.yaml", &config_of(&scene.sandbox.url, &[("free", 7), ("paying", 8)], ""));
    scene.until_in_braze("paying", 8);
    drop(watch);
    // Without `watch`, a run uses the known members.
    let typo = config_of(&scene.sandbox.url, &[("paying", 9)], "");
    scene.w.write("sync.yaml", typo);
    scene.w.run(&["plan", "paying"]).expect(0).says(&[
        "waits: Heap has not sent segment 9 yet; it has sent 7 \"Free\", 8 \"Paying\"",
        "correct `segment_id:`",
    ]);
}

#[test]
fn a_sync_with_a_missing_page_removes_no_members_at_first() {
    let scene = Scene::with(&[("free", 7)], ", webhook: { incomplete_after: 3s }");
    let watch = scene.watch();
    scene.deliver_to(&watch, &json!({}));
    scene.segment(7, "Free", users(40));
    scene.sync();
    scene.until_in_braze("free", 7);
    // Twenty leave and ten enter, in three pages, one of them never sent.
    scene.deliver_to(&watch, &json!({ "lose": [2] }));
    let after = users(40).skip(20).chain((0..10).map(|i| format!("new-{i}")));
    scene.segment(7, "Free", after);
    scene.sync();
    until("a new member is in", || {
        scene.sandbox.members("free").iter().any(|member| member.contains("new-"))
    });
    assert!(scene.sandbox.members("free").is_superset(&members(users(40))), "no member has left yet");
    let report = scene.segment_report();
    assert_eq!(report["segments"][0]["waits_for"][0]["missing"], json!([2]));
    until("the page was given up", || scene.sandbox.members("free").len() < 50);
    until("it is reported", || !scene.segment_report()["segments"][0]["gaps"].as_array().unwrap().is_empty());
    scene.w.run(&["status"]).expect(0).says(&["pages 2 of 3 never arrived", "membership may be incomplete"]);
    watch.until_logs("pages [2] of 3 never arrived", 1);
}

#[test]
fn secrets_can_be_rotated_and_forged_deliveries_are_rejected() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let heap = ", webhook_secret_previous: { env: TEST_OLD_WEBHOOK }";
    w.write("sync.yaml", config_of(&sandbox.url, &[("free", 7)], heap));
    let mut command = w.command(&["watch"]);
    let watch =
        Watch::from_command(command.env("TEST_WEBHOOK", "the new one").env("TEST_OLD_WEBHOOK", SECRET));
    watch.until_ready();
    let scene = Scene { w, sandbox };
    scene.segment(7, "Free", users(3));
    scene.deliver_to(&watch, &json!({ "secret": "another secret", "attempts": 2, "basis": "delivered" }));
    let report = scene.sync();
    assert!(report.to_string().contains("403"), "{report}");
    assert!(scene.w.snapshot(".syncline/inbox").is_empty(), "nothing is written");
    for secret in [SECRET, "the new one"] {
        scene.deliver_to(&watch, &json!({ "secret": secret, "basis": "delivered" }));
        scene.post("/_sandbox/heap/segments/7/change", &json!({ "add": [secret] }));
        scene.sync();
        scene.until_in_braze("free", 7);
    }
    for text in [SECRET, "the new one"] {
        assert!(!watch.log().contains(&format!("{text}\"")), "{}", watch.log());
    }
}

#[test]
fn acknowledged_deliveries_survive_a_kill() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    // The endpoints have the same address after a restart.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = config_of(&sandbox.url, &[("free", 7)], "");
    w.write("sync.yaml", text.replace("listen: 127.0.0.1:0", &format!("listen: 127.0.0.1:{port}")));
    let scene = Scene { w, sandbox };
    let mut watch = scene.watch();
    scene.segment(7, "Free", users(4000));
    // Pages in random order, some twice, some badly signed, each repeated until it is acknowledged.
    let how = json!({ "duplicates": 0.2, "shuffle": true, "bad_signatures": 0.05, "at_once": 4, "seed": 11,
                      "attempts": 1000, "first_wait": 20, "longest_wait": 100 });
    scene.deliver_to(&watch, &how);
    scene.post("/_sandbox/heap/sync?wait=false", &json!({}));
    for round in 0..10 {
        std::thread::sleep(Duration::from_millis(20 * (round % 4)));
        watch.kill();
        watch = scene.watch();
    }
    let acknowledged = || {
        let report: Value = serde_json::from_str(&scene.sandbox.get("/_sandbox/heap/deliveries").1).unwrap();
        report["pages"].as_u64() == report["acknowledged"].as_u64()
    };
    until("every page was acknowledged", acknowledged);
    scene.until_in_braze("free", 7);
    scene.segment(7, "Free", users(4500).skip(700));
    scene.sync();
    scene.until_in_braze("free", 7);
    let forged: Value = serde_json::from_str(&scene.sandbox.get("/_sandbox/heap/deliveries").1).unwrap();
    assert!(forged["forged"].as_u64() > Some(0) && forged["forged_accepted"].as_u64() == Some(0), "{forged}");
    assert_eq!(watch.stop(), 0);
    scene.w.run(&["state", "verify"]).expect(0);
}

#[test]
fn an_undeclared_segment_can_be_imported() {
    let scene = Scene::new(&[("free", 7)]);
    let watch = scene.watch();
    scene.deliver_to(&watch, &json!({}));
    scene.segment(7, "Free customers", users(5));
    scene.segment(8, "Trial: day 3", users(5));
    scene.sync();
    until("Heap has delivered both", || {
        scene.segment_report()["segments"].as_array().is_some_and(|segments| segments.len() == 2)
    });
    let found = scene.w.run(&["import"]).expect(0).says(&[
        "  - id: trial_day_3\n    name: \"Trial: day 3\"\n    to: braze\n",
        "source: {kind: heap_segment, connection: heap, segment_id: 8}\n    match:\n      - external_id: id\n",
    ]);
    assert!(!found.stdout.contains("segment_id: 7"), "the config contains it");
}
