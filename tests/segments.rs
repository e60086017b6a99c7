//! Segment checks: findings of `check`, `plan` and `status` about segments that use the cohorts, with their
//! first date.

use serde_json::{Value, json};

use crate::support::listener::Listener;
use crate::support::watch::{SHORT_TIMEOUTS, Watch};
use crate::support::*;

/// A segment that includes `carts` and excludes `free`, with a campaign and a Canvas.
const WIN_BACK: &str = "    rest_api_key: { env: TEST_REST_KEY }
segments:
  - id: win_back
    connection: braze
    segment: { name: Win back }
    include: [carts]
    exclude: [free]
    used_by:
      campaigns: [ { name: We miss you } ]
      canvases: [ { name: Come back } ]
";

/// A setup without findings: a segment with 200 users, created and filled.
struct Setup {
    w: Workspace,
    sandbox: Sandbox,
}

impl Setup {
    fn new() -> Self {
        Self::with(Sandbox::start(), WIN_BACK)
    }

    fn with(sandbox: Sandbox, more: &str) -> Self {
        let w = Workspace::new();
        w.config(&sandbox, &["carts", "free"], more);
        w.source("carts", users(300)).source("free", users(300).skip(200));
        w.run(&["reconcile"]).expect(0);
        let setup = Self { w, sandbox };
        setup.make("segments", json!([{ "name": "Win back", "include": ["carts"], "exclude": ["free"] }]));
        setup.make("campaigns", json!([{ "name": "We miss you" }]));
        setup.make("canvases", json!([{ "name": "Come back" }]));
        setup
    }

    fn make(&self, kind: &str, items: Value) {
        self.sandbox.admin_post(&format!("/_sandbox/{kind}"), &items.to_string());
    }

    fn id(&self, kind: &str, name: &str) -> String {
        let all: Value = serde_json::from_str(&self.sandbox.get(&format!("/_sandbox/{kind}")).1).unwrap();
        let found = all.as_array().unwrap().iter().find(|item| item["name"] == name);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Changes the one item of this kind.
    fn change(&self, kind: &str, name: &str, fields: Value) {
        let mut item = json!({ "id": self.id(kind, name) });
        item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.make(kind, json!([item]));
    }

    fn check(&self, code: i32) -> Value {
        self.w.run(&["check", "--format", "json"]).expect(code).json()
    }

    /// Codes of the findings of the only segment.
    fn codes(&self, code: i32) -> Vec<String> {
        codes(&self.check(code)["segments"][0])
    }
}

fn codes(segment: &Value) -> Vec<String> {
    segment["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

fn finding(report: &Value, code: &str) -> Value {
    let findings = report["segments"][0]["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("{report:#}")).clone()
}

#[test]
fn a_segment_without_findings_lists_what_braze_does_not_expose() {
    let setup = Setup::new();
    let report = setup.check(0);
    assert_eq!(report["result"], "in_sync");
    let segment = &report["segments"][0];
    assert_eq!((&segment["verdict"], &segment["size"]["users"]), (&json!("in_sync"), &json!(200)));
    assert_eq!(segment["expected"], json!({ "min": 200, "max": 200 }));
    assert_eq!(codes(segment), ["target_unchecked"], "a permanent note");
    let shown = setup.w.run(&["check"]).expect(0).says(&[
        "win_back  segment \"Win back\" in braze: in sync, 200 users on ",
        "not checked: Braze's API does not expose which segments a campaign or Canvas targets",
        "In sync: 1 segment.",
    ]);
    assert!(!shown.stdout.contains('!'), "{}", shown.stdout);
    assert_eq!(setup.w.run(&["check", "--format", "github"]).expect(0).stdout.trim(), "");
    let written = setup.sandbox.writes();
    setup.w.run(&["check"]).expect(0);
    assert_eq!(setup.sandbox.writes(), written, "nothing is written in Braze");
}

/// After a change in Braze, the next check reports it with its date, and later checks repeat it.
fn expect_finding(kind: &str, name: &str, fields: Value, code: &str, words: &[&str]) {
    let setup = Setup::new();
    let fine = setup.check(0)["segments"][0]["in_sync_at"].clone();
    setup.change(kind, name, fields);
    let first = setup.check(10);
    let found = finding(&first, code);
    assert_eq!((&first["result"], &found["level"]), (&json!("drifted"), &json!("drift")));
    assert_eq!(found["absent_at"], fine, "the last check without the finding");
    let second = setup.check(10);
    assert_eq!(finding(&second, code)["since"], found["since"], "since the first check with the finding");
    assert_eq!(second["segments"][0]["since"], first["segments"][0]["since"]);
    setup.w.run(&["check"]).expect(10).says(words).says(&["Not in sync: 1 segment drifted."]);
    setup.w.run(&["status"]).expect(0).says(&["win_back  a segment: drifted, since ", words[0]]);
    let annotation = setup.w.run(&["check", "--format", "github"]).expect(10).stdout;
    assert!(
        annotation.starts_with("::error file=sync.yaml,line=12,title=segment win_back::"),
        "{annotation}"
    );
}

#[test]
fn a_renamed_segment() {
    let words = ["the segment \"Win back\" is now named \"Other\"", "write `name: Other` (sync.yaml:14)"];
    expect_finding("segments", "Win back", json!({ "name": "Other" }), "segment_renamed", &words);
}

#[test]
fn an_archived_segment() {
    let words = ["the segment \"Win back\" is archived", "unarchive \"Win back\""];
    expect_finding("segments", "Win back", json!({ "archived": true }), "segment_archived", &words);
}

#[test]
fn a_segment_with_another_filter() {
    let words = ["its filters do not name Carts", "filter \"Heap Cohorts\" includes \"Carts\""];
    expect_finding(
        "segments",
        "Win back",
        json!({ "include": ["free"], "exclude": [] }),
        "filter_lacks_cohort",
        &words,
    );
}

#[test]
fn a_segment_with_a_description_that_no_longer_names_the_cohorts() {
    let words = ["its filters no longer name Carts, Free"];
    expect_finding("segments", "Win back", json!({ "description": "opaque" }), "filter_lacks_cohort", &words);
}

#[test]
fn a_paused_campaign() {
    let words = ["the campaign \"We miss you\" is stopped or paused; last edited 2", "resume it"];
    expect_finding("campaigns", "We miss you", json!({ "enabled": false }), "use_stopped", &words);
}

#[test]
fn an_archived_campaign() {
    let words = ["the campaign \"We miss you\" is archived"];
    expect_finding("campaigns", "We miss you", json!({ "archived": true }), "use_archived", &words);
}

#[test]
fn a_canvas_reset_to_draft() {
    let words = ["the Canvas \"Come back\" is a draft", "launch it"];
    expect_finding("canvases", "Come back", json!({ "draft": true }), "use_draft", &words);
}

#[test]
fn a_resolved_finding_is_noted_as_an_edit() {
    let setup = Setup::new();
    setup.check(0);
    setup.change(
        "campaigns",
        "We miss you",
        json!({ "enabled": false, "updated_at": "2026-01-01T00:00:00+00:00" }),
    );
    assert_eq!(setup.codes(10), ["use_stopped", "use_edited", "target_unchecked"]);
    setup.change(
        "campaigns",
        "We miss you",
        json!({ "enabled": true, "updated_at": "2026-01-02T00:00:00+00:00" }),
    );
    let report = setup.check(0);
    assert_eq!(report["segments"][0]["verdict"], "in_sync");
    assert!(finding(&report, "use_edited")["text"].as_str().unwrap().contains("2026-01-02"));
    assert_eq!(setup.codes(0), ["target_unchecked"], "an edit is reported once");
}

#[test]
fn a_missing_segment_comes_with_the_steps_to_create_it() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "free"], WIN_BACK).source("carts", users(3)).source("free", users(1));
    w.run(&["check"]).expect(10).says(&[
        "Braze lists no segment \"Win back\"; archived segments are not listed",
        "in Braze, under Audience, Segments: create a segment called \"Win back\"",
        "filter \"Heap Cohorts\" includes \"Carts\"",
        "filter \"Heap Cohorts\" does not include \"Free\", with AND",
        "Braze has no campaign \"We miss you\"",
    ]);
    // A segment that was never there has not drifted.
    let shown = w.run(&["check"]).expect(10).says(&[
        "win_back  segment \"Win back\" in braze: not found yet",
        "Not in sync: 1 segment not found yet.",
    ]);
    assert!(!shown.stdout.contains("drifted"), "{}", shown.stdout);
    w.run(&["status"]).expect(0).says(&["win_back  a segment: not found yet"]);
    w.run(&["check", "--format", "markdown"]).expect(10).says(&["| `win_back` | **not found yet** |"]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "Win back"}]"#);
    w.run(&["check"]).expect(10).says(&["win_back  segment \"Win back\" in braze: drifted, since"]);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "Win back", "archived": true}]"#);
    w.run(&["check"]).expect(10).says(&["in braze: drifted, since", "Not in sync: 1 segment drifted."]);
    w.run(&["check", "win_bock"])
        .expect(64)
        .says(&["the config has no segment `win_bock`", "did you mean `win_back`?"]);
}

#[test]
fn an_empty_segment_of_a_small_cohort_is_never_in_sync() {
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let segment = |size: &str| {
        format!(
            "    rest_api_key: {{ env: TEST_REST_KEY }}\nsegments:\n  - {{ id: s, connection: braze, segment: {{ name: S }}, include: [carts]{size} }}\n"
        )
    };
    w.config(&sandbox, &["carts"], &segment("")).source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    // A size of today may be older than the change of today: the second check knows what was expected.
    w.run(&["check"]).expect(1).says(&["0 users on ", "expected 10; Braze's size may be older"]);
    w.config(&sandbox, &["carts"], &segment(", size: { min: 0% }"));
    w.run(&["check"]).expect(0).says(&["in sync, 0 users on ", ", expected 10\n"]);
    let (w, sandbox) = (Workspace::new(), Sandbox::with(&["--profiles", "created"]));
    let ids: Vec<Value> = users(4).map(|id| json!({ "external_id": id })).collect();
    sandbox.admin_post("/_sandbox/users", &json!(ids).to_string());
    w.config(&sandbox, &["carts"], &segment("")).source("carts", users(10));
    w.run(&["reconcile"]).expect(0);
    sandbox.admin_post("/_sandbox/segments", r#"[{"name": "S", "include": ["carts"]}]"#);
    w.run(&["check"]).expect(0).says(&["in sync, 4 users on ", ", expected 10 (within `slack` 10)"]);
}

#[test]
fn a_config_without_segments_says_so() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts"], "").source("carts", users(1));
    w.run(&["reconcile"]).expect(0);
    let shown = w.run(&["check"]).expect(0);
    assert_eq!(
        shown.stdout.trim_end(),
        "The config declares no segments to check: add them under `segments:`."
    );
}

#[test]
fn segments_in_the_sandbox_inside_the_program_are_no_part_of_a_verdict() {
    let w = Workspace::new();
    let segments = "segments:\n  - { id: s, connection: braze, segment: { name: S }, include: [carts] }\n";
    w.write("sync.yaml", in_program_config() + segments);
    w.source("carts", users(3));
    w.run(&["reconcile"]).expect(0);
    w.run(&["check"]).expect(0).says(&[
        "s  segment \"S\" in braze: not checked: the sandbox inside the program has no dashboard",
        "use `syncline sandbox`",
        "Not checked: 1 segment.",
    ]);
    let report = w.run(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(report["segments"][0]["verdict"], "not_checked");
    assert_eq!(w.run(&["check", "--format", "github"]).expect(0).stdout.trim(), "");
    for command in ["plan", "status", "doctor"] {
        let shown = w.run(&[command]).expect(0);
        assert!(!shown.stdout.contains("segment"), "{}", shown.stdout);
    }
    w.run(&["state", "adopt", "braze"]).expect(64).says(&["has no keys to adopt"]);
}

#[test]
fn remedies_of_a_check_keep_its_environment() {
    let setup = Setup::new();
    let here = setup.w.read("sync.yaml") + "environments:\n  local: { state: .syncline }\n";
    setup.w.write("sync.yaml", here);
    let mut command = setup.w.command(&["check", "-e", "local"]);
    setup.sandbox.admin_post("/_sandbox/keys", r#"[{"key": "other", "permissions": []}]"#);
    setup.w.run(&["check", "-e", "local"]).expect(0);
    command.env("TEST_REST_KEY", "other");
    run(command).expect(4).says(&["syncline state adopt -e local braze"]);
}

#[test]
fn all_pages_of_the_segment_list_are_read() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    let mut more = "    rest_api_key: { env: TEST_REST_KEY }\nsegments:\n".to_owned();
    for n in 0..350 {
        more.push_str(&format!(
            "  - {{ id: s{n}, connection: braze, segment: {{ name: S {n} }}, include: [carts] }}\n"
        ));
    }
    w.config(&sandbox, &["carts"], &more).source("carts", users(100));
    w.run(&["reconcile"]).expect(0);
    let made: Vec<Value> =
        (0..350).map(|n| json!({ "name": format!("S {n}"), "include": ["carts"] })).collect();
    sandbox.admin_post("/_sandbox/segments", &json!(made).to_string());
    let report = w.run(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(report["segments"].as_array().unwrap().len(), 350);
    assert!(report["segments"].as_array().unwrap().iter().all(|segment| segment["verdict"] == "in_sync"));
    let requests = sandbox.requests()["rest"]["endpoints"].clone();
    assert_eq!(requests["segments_list"], 5, "four pages, and one without new items");
    assert_eq!((&requests["segments_details"], &requests["segments_series"]), (&json!(350), &json!(350)));
}

#[test]
fn an_ambiguous_name_is_a_finding() {
    let setup = Setup::new();
    setup.make("segments", json!([{ "id": "3aca937b-9bbc-4e42-9370-05e411967b2b", "name": "Win back" }]));
    setup.w.run(&["check"]).expect(1).says(&[
        "unknown",
        "2 segments are named \"Win back\"",
        "`segment: { id: … }` (sync.yaml:14)",
        "Incomplete: 1 segment unknown.",
    ]);
    let id = setup.id("segments", "Win back");
    let by_id = WIN_BACK.replace("{ name: Win back }", &format!("{{ id: {id} }}"));
    setup.w.config(&setup.sandbox, &["carts", "free"], &by_id);
    setup.check(0);
    // If two campaigns have one name, the unarchived one is used.
    let other = "3aca937b-9bbc-4e42-9370-05e411967b2c";
    setup.make("campaigns", json!([{ "id": other, "name": "We miss you", "archived": true }]));
    setup.check(0);
    setup.make("campaigns", json!([{ "id": other, "archived": false }]));
    assert_eq!(setup.codes(1)[0], "use_ambiguous");
}

#[test]
fn a_tag_connects_campaigns_to_a_segment() {
    let tagged = WIN_BACK.replace("      canvases:", "      tag: heap\n      canvases:");
    let setup = Setup::with(Sandbox::start(), &tagged);
    assert_eq!(setup.codes(10)[..2], ["use_untagged", "use_untagged"]);
    setup.change("campaigns", "We miss you", json!({ "tags": ["heap"] }));
    setup.change("canvases", "Come back", json!({ "tags": ["heap", "other"] }));
    setup.check(0);
}

#[test]
fn missing_permissions_are_not_reported_as_in_sync() {
    let setup = Setup::new();
    setup.check(0);
    let all = ["segments.list", "segments.details", "campaigns.list", "campaigns.details", "canvas.list"];
    setup.sandbox.admin_post("/_sandbox/keys", &json!([{ "key": "narrow", "permissions": all }]).to_string());
    let with = |key: &str| {
        let run = |args: &[&str]| {
            let mut command = setup.w.command(args);
            command.env("TEST_REST_KEY", key);
            run(command)
        };
        run(&["state", "adopt", "braze"]).expect(0);
        run(&["check"])
    };
    with("narrow").expect(4).says(&[
        "unknown",
        "its size not reported by Braze: the REST key lacks the permission `segments.data_series`",
        "Canvas \"Come back\" not reported by Braze",
        "a key's permissions cannot be changed",
    ]);
    let response =
        with("canary-rest-key").expect(4).says(&["the REST key is rejected: Invalid API key: [secret]"]);
    assert!(!format!("{response:?}").contains("canary-rest-key"));
    for (_, bytes) in setup.w.snapshot(".syncline") {
        assert!(!String::from_utf8_lossy(&bytes).contains("canary-rest-key"), "and none in the state");
    }
    let mut command = setup.w.command(&["check"]);
    command.env_remove("TEST_REST_KEY");
    let without_key = run(command).expect(4);
    let says = [
        "in braze: not checked: connection `braze`",
        "TEST_REST_KEY is not set",
        "Incomplete: 1 segment not checked.",
    ];
    without_key.says(&says);
    let mut command = setup.w.command(&["check", "--format", "json"]);
    command.env_remove("TEST_REST_KEY");
    let report = run(command).expect(4).json();
    assert_eq!(
        (&report["result"], &report["segments"][0]["verdict"]),
        (&json!("unknown"), &json!("not_checked"))
    );
}

#[test]
fn a_drift_persists_while_braze_is_unreachable() {
    let setup = Setup::new();
    setup.check(0);
    setup.change("campaigns", "We miss you", json!({ "enabled": false }));
    let since = finding(&setup.check(10), "use_stopped")["since"].clone();
    setup.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    let report = setup.check(5);
    assert_eq!(report["result"], "unknown");
    setup.sandbox.faults("[]");
    assert_eq!(finding(&setup.check(10), "use_stopped")["since"], since);
}

/// A check without a response reports neither the presence nor the absence of a finding.
#[test]
fn a_finding_quotes_the_last_check_that_saw_its_evidence() {
    let setup = Setup::new();
    let absent_at = setup.check(0)["segments"][0]["since"].clone();
    setup.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    setup.check(5);
    setup.sandbox.faults("[]");
    setup.change("campaigns", "We miss you", json!({ "enabled": false }));
    let first = finding(&setup.check(10), "use_stopped");
    assert_eq!(first["absent_at"], absent_at, "the check between them saw no campaign");
    // The campaign is checked successfully while another request fails.
    setup.change("campaigns", "We miss you", json!({ "enabled": true }));
    setup.sandbox.faults(r#"[{"on": "segments_series", "times": 0, "do": {"status": 503}}]"#);
    let report = setup.check(5);
    assert_eq!(finding(&report, "not_reported")["absent_at"], first["since"]);
    setup.sandbox.faults("[]");
    setup.change("campaigns", "We miss you", json!({ "enabled": false }));
    let second = finding(&setup.check(10), "use_stopped");
    assert!(second["since"].as_str() > first["since"].as_str(), "it was fine between them");
    assert!(second["absent_at"].as_str() > first["since"].as_str());
}

#[test]
fn temporary_failures_are_retried_by_checks() {
    let setup = Setup::new();
    setup.sandbox.faults(
        r#"[{"on": "segments_list", "do": {"status": 503}}, {"on": "segments_details", "do": "reset"},
            {"on": "campaigns_list", "do": {"reply": {"status": 429, "headers": [["x-ratelimit-retry-after", "1"]]}}},
            {"on": "canvas_list", "do": "lose_answer"}]"#,
    );
    setup.check(0);
    // An invalid list is not an empty one.
    setup
        .sandbox
        .faults(r#"[{"on": "segments_list", "times": 0, "do": {"done_but": {"message": "success"}}}]"#);
    let report = setup.check(1);
    assert_eq!(report["result"], "unknown");
    assert!(finding(&report, "not_reported")["text"].as_str().unwrap().contains("missing field `segments`"));
    setup.sandbox.faults(r#"[{"on": "segments_list", "times": 0, "do": {"done_but": "<html>"}}]"#);
    setup.check(1);
}

#[test]
fn a_plan_shows_the_verdicts_and_never_fails_by_them() {
    let setup = Setup::new();
    setup.check(0);
    let before = setup.w.snapshot(".syncline");
    let plan = setup.w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["segments"][0]["verdict"], "in_sync");
    setup.change("segments", "Win back", json!({ "archived": true }));
    setup.w.run(&["plan"]).expect(0).says(&[
        "win_back  segment \"Win back\" in braze: drifted",
        "Not in sync: nothing would be sent; 1 segment drifted.",
    ]);
    setup.w.run(&["plan", "--format", "markdown"]).expect(0).says(&[
        ":warning: Segments not in sync",
        "**Not in sync: 1 segment drifted.**",
        "| `win_back` | **drifted** |",
        "the segment \"Win back\" is archived",
    ]);
    assert_eq!(setup.w.snapshot(".syncline"), before, "a plan changes nothing");
    let mut command = setup.w.command(&["plan"]);
    command.env_remove("TEST_REST_KEY");
    run(command)
        .expect(0)
        .says(&["not checked", "In sync: 2 cohorts, nothing to send; 1 segment not checked."]);
    let mut command = setup.w.command(&["plan", "--format", "markdown"]);
    command.env_remove("TEST_REST_KEY");
    let comment = run(command).expect(0);
    assert!(!comment.stdout.contains("ot in sync"), "{}", comment.stdout);
    comment.says(&[":warning: Incomplete segment checks", "| `win_back` | not checked |"]);
    setup.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    setup.w.run(&["plan", "carts"]).expect(0).says(&["Braze does not respond: status 503"]);
}

#[test]
fn a_size_reveals_drift_that_the_description_does_not() {
    let opaque = json!({ "description": "people of interest" });
    let setup = Setup::new();
    setup.change("segments", "Win back", opaque);
    assert_eq!(setup.codes(0), ["filter_by_size", "target_unchecked"]);
    // The wrong cohort, visible only by the size: but Braze may have counted before the last change.
    setup.change("segments", "Win back", json!({ "include": ["free"], "exclude": [] }));
    let report = setup.check(1);
    assert_eq!(codes(&report["segments"][0])[..2], ["size_unknown", "filter_unreadable"]);
    assert!(finding(&report, "size_unknown")["text"].as_str().unwrap().contains("may be older"));
    // Once the expected size before that day is recorded, this no longer excuses it.
    let checks = ".syncline/checks/win_back/versions";
    let newest = std::fs::read_dir(setup.w.path(checks)).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let earlier = r#""expectations": [ { "day": "2026-01-01", "min": 200, "max": 200 },"#;
    let check = std::fs::read_to_string(&newest).unwrap();
    let edited = check.replacen(r#""expectations": ["#, earlier, 1);
    assert_ne!(check, edited);
    let name = format!("checks/win_back/versions/{}", newest.file_name().unwrap().to_str().unwrap());
    setup.w.write(newest.to_str().unwrap(), with_checksum(&name, &edited));
    let low = finding(&setup.check(10), "size_low");
    assert!(low["text"].as_str().unwrap().contains("it is too small: 100 users on "), "{low}");
    setup.change("segments", "Win back", json!({ "include": ["carts", "free"] }));
    let high = finding(&setup.check(10), "size_high");
    assert!(high["text"].as_str().unwrap().contains("300 users on "), "{high}");
    // A segment without analytics tracking has no size, and the check says so.
    setup.change("segments", "Win back", json!({ "analytics_tracking_enabled": false }));
    setup.w.run(&["check"]).expect(1).says(&["analytics tracking is off", "turn on Analytics Tracking"]);
}

#[test]
fn canaries_are_checked() {
    let canaries = format!("{WIN_BACK}    canaries: [user-7, user-250, new-user]\n");
    let sandbox = Sandbox::with(&["--profiles", "created"]);
    let known: Vec<Value> = users(300).map(|id| json!({ "external_id": id })).collect();
    sandbox.admin_post("/_sandbox/users", &json!(known).to_string());
    let setup = Setup::with(sandbox, &canaries);
    let report = setup.check(10);
    let text = |code| finding(&report, code)["text"].as_str().unwrap().to_owned();
    assert!(text("canary_unknown").starts_with("Braze does not know external_id ne…er;"));
    let absent = text("canary_absent");
    let both = "canaries external_id ne…er, external_id us…50 are not among the recorded members";
    assert!(absent.contains(both), "user-250 is excluded: {absent}");
    assert_eq!(setup.sandbox.requests()["rest"]["endpoints"]["export_ids"], 1);
}

#[test]
fn members_in_doubt_widen_the_expected_size() {
    let setup = Setup::new();
    setup.w.source("carts", users(320));
    setup.sandbox.faults(r#"[{"on": "users", "times": 0, "do": "lose_answer"}]"#);
    setup.w.run(&["reconcile"]).expect(5);
    setup.sandbox.faults("[]");
    let expected = setup.check(0)["segments"][0]["expected"].clone();
    assert_eq!(expected, json!({ "min": 200, "max": 220 }));
}

#[test]
fn a_check_does_not_need_to_hold_the_state() {
    let setup = Setup::new();
    setup.check(0);
    let mut command = setup.w.command(&["watch"]);
    let config = setup.w.read("sync.yaml") + "watch: { listen: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    setup.w.write("sync.yaml", config);
    let mut watching = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the state is held", || setup.w.run(&["state", "ls"]).stdout.contains("process"));
    setup.w.run(&["check"]).expect(0).says(&["so this check is not recorded"]);
    watching.kill().unwrap();
    watching.wait().unwrap();
}

/// A setup with `watch` and frequent checks.
fn watched() -> (Setup, Watch, Listener) {
    let listener = Listener::start();
    let often = format!("{WIN_BACK}    check: {{ every: 200ms }}\n");
    let setup = Setup::with(Sandbox::start(), &often);
    let notify = "  notify: [ { url: { env: TEST_NOTIFY } } ]\n";
    let config = setup.w.read("sync.yaml") + SHORT_TIMEOUTS + notify;
    setup.w.write("sync.yaml", config);
    let watch = Watch::from_command(setup.w.command(&["watch"]).env("TEST_NOTIFY", listener.url()));
    watch.until_ready();
    (setup, watch, listener)
}

fn verdict(watch: &Watch, verdict: &str) -> bool {
    let name = format!("syncline_segment_verdict{{segment=\"win_back\",verdict=\"{verdict}\"}}");
    watch.metric(&name) > 0.5
}

fn kinds(listener: &Listener) -> Vec<String> {
    let about = |body: &Value| body["about"] == "segment win_back";
    let posts = listener.posts().into_iter().filter(|(_, body)| about(body));
    posts.map(|(_, body)| body["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn watch_checks_on_a_separate_schedule() {
    let (setup, watch, listener) = watched();
    until("it is in sync", || verdict(&watch, "in_sync"));
    setup.change("campaigns", "We miss you", json!({ "enabled": false }));
    until("the segment has drifted", || verdict(&watch, "drifted"));
    assert!(!verdict(&watch, "in_sync"));
    until("the drift is reported", || kinds(&listener) == ["drift"]);
    let text = listener.posts().last().unwrap().1["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("the campaign \"We miss you\" is stopped or paused"), "{text}");
    let page = watch.get("/").body;
    assert!(page.contains("Segments in Braze") && page.contains("is stopped or paused"), "{page}");
    setup.w.run(&["status"]).expect(0).says(&["win_back  a segment: drifted, since "]);
    setup.change("campaigns", "We miss you", json!({ "enabled": true }));
    until("it is in sync again", || verdict(&watch, "in_sync"));
    until("the recovery is reported", || kinds(&listener) == ["drift", "recovery"]);
    assert_eq!(watch.stop(), 0);
    let mut command = setup.w.command(&["watch"]);
    command.env("TEST_NOTIFY", listener.url()).env_remove("TEST_REST_KEY");
    run(command).expect(4).says(&["has no REST API key", "TEST_REST_KEY is not set"]);
}

#[test]
fn watch_reports_failed_checks_and_continues() {
    let (setup, watch, listener) = watched();
    until("it is in sync", || verdict(&watch, "in_sync"));
    setup.sandbox.faults(r#"[{"on": "segments_list", "times": 0, "do": {"reply": {"status": 403, "body": {"message": "no"}}}}]"#);
    until("the verdict is unknown", || verdict(&watch, "unknown"));
    until("the unknown verdict is reported", || kinds(&listener) == ["failure"]);
    setup.w.source("carts", users(310));
    until("cohorts are applied", || setup.sandbox.members("carts").len() == 310);
    setup.sandbox.faults("[]");
    until("it is in sync again", || verdict(&watch, "in_sync"));
    until("the recovery is reported", || kinds(&listener) == ["failure", "recovery"]);
    // A segment that leaves the config is neither checked nor shown.
    let config = setup.w.read("sync.yaml");
    let without =
        config.split("segments:").next().unwrap().to_owned() + &config[config.find("cohorts:").unwrap()..];
    setup.w.replace("sync.yaml", &without);
    until("the segment is gone", || !watch.get("/metrics").body.contains("win_back"));
    setup.w.replace("sync.yaml", &config);
    until("the segment is back", || verdict(&watch, "in_sync"));
    assert_eq!(watch.stop(), 0);
}
