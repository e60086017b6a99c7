//! Segments that use the cohorts: what `check`, `plan` and `status` say of them, and since when.

use serde_json::{Value, json};

use crate::support::listener::Listener;
use crate::support::watch::{PATIENCE, Watch};
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

/// A world in which all is well: 200 people in the segment, filled and made.
struct World {
    w: Workspace,
    sandbox: Sandbox,
}

impl World {
    fn new() -> Self {
        Self::with(Sandbox::start(), WIN_BACK)
    }

    fn with(sandbox: Sandbox, more: &str) -> Self {
        let w = Workspace::new();
        w.config(&sandbox, &["carts", "free"], more);
        w.source("carts", users(300)).source("free", users(300).skip(200));
        w.run(&["reconcile"]).expect(0);
        let world = Self { w, sandbox };
        world.make("segments", json!([{ "name": "Win back", "include": ["carts"], "exclude": ["free"] }]));
        world.make("campaigns", json!([{ "name": "We miss you" }]));
        world.make("canvases", json!([{ "name": "Come back" }]));
        world
    }

    fn make(&self, shelf: &str, items: Value) {
        self.sandbox.door(&format!("/_sandbox/{shelf}"), &items.to_string());
    }

    fn id(&self, shelf: &str, name: &str) -> String {
        let all: Value = serde_json::from_str(&self.sandbox.get(&format!("/_sandbox/{shelf}")).1).unwrap();
        let found = all.as_array().unwrap().iter().find(|item| item["name"] == name);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Changes the one thing of this kind that there is.
    fn change(&self, shelf: &str, name: &str, fields: Value) {
        let mut item = json!({ "id": self.id(shelf, name) });
        item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.make(shelf, json!([item]));
    }

    fn check(&self, code: i32) -> Value {
        self.w.run(&["check", "--format", "json"]).expect(code).json()
    }

    /// The findings of the one segment, by their codes.
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
fn all_is_well_and_what_braze_does_not_tell_is_said() {
    let world = World::new();
    let report = world.check(0);
    assert_eq!(report["result"], "in_step");
    let segment = &report["segments"][0];
    assert_eq!((&segment["verdict"], &segment["size"]["people"]), (&json!("in_step"), &json!(200)));
    assert_eq!(segment["expected"], json!({ "least": 200, "most": 200 }));
    assert_eq!(codes(segment), ["target_untold"], "a note, and always there");
    let shown = world.w.run(&["check"]).expect(0).says(&[
        "win_back  segment \"Win back\" in braze: in step, 200 people on ",
        "whom its campaigns and Canvases target, Braze tells nobody",
        "In step: 1 segment.",
    ]);
    assert!(!shown.stdout.contains('!'), "{}", shown.stdout);
    assert_eq!(world.w.run(&["check", "--format", "github"]).expect(0).stdout.trim(), "");
    let written = world.sandbox.writes();
    world.w.run(&["check"]).expect(0);
    assert_eq!(world.sandbox.writes(), written, "nothing is written in Braze");
}

/// Something is changed in Braze; the next check tells, says since when, and goes on saying so.
fn told(shelf: &str, name: &str, fields: Value, code: &str, words: &[&str]) {
    let world = World::new();
    let fine = world.check(0)["segments"][0]["in_step_at"].clone();
    world.change(shelf, name, fields);
    let first = world.check(10);
    let found = finding(&first, code);
    assert_eq!((&first["result"], &found["level"]), (&json!("drifted"), &json!("drift")));
    assert_eq!(found["fine_at"], fine, "the last check that did not find it");
    let again = world.check(10);
    assert_eq!(finding(&again, code)["since"], found["since"], "since the first check that found it");
    assert_eq!(again["segments"][0]["since"], first["segments"][0]["since"]);
    world.w.run(&["check"]).expect(10).says(words).says(&["Not in step: 1 segment drifted."]);
    world.w.run(&["status"]).expect(0).says(&["win_back  a segment: drifted, since ", words[0]]);
    let annotation = world.w.run(&["check", "--format", "github"]).expect(10).stdout;
    assert!(
        annotation.starts_with("::error file=sync.yaml,line=12,title=segment win_back::"),
        "{annotation}"
    );
}

#[test]
fn a_renamed_segment() {
    let words = ["the segment \"Win back\" is called \"Other\" now", "write `name: Other` (sync.yaml:12)"];
    told("segments", "Win back", json!({ "name": "Other" }), "segment_renamed", &words);
}

#[test]
fn an_archived_segment() {
    let words = ["the segment \"Win back\" is archived", "unarchive \"Win back\""];
    told("segments", "Win back", json!({ "archived": true }), "segment_archived", &words);
}

#[test]
fn a_segment_with_another_filter() {
    let words = ["its filters do not name Carts", "filter \"Heap Cohorts\" includes \"Carts\""];
    told(
        "segments",
        "Win back",
        json!({ "include": ["free"], "exclude": [] }),
        "filter_lacks_cohort",
        &words,
    );
}

#[test]
fn a_segment_whose_filters_are_told_in_words_that_say_nothing_any_more() {
    let words = ["its filters do not name Carts, Free any more"];
    told("segments", "Win back", json!({ "description": "opaque" }), "filter_lacks_cohort", &words);
}

#[test]
fn a_paused_campaign() {
    let words = ["the campaign \"We miss you\" is stopped or paused; last edited 2", "resume it"];
    told("campaigns", "We miss you", json!({ "enabled": false }), "use_stopped", &words);
}

#[test]
fn an_archived_campaign() {
    let words = ["the campaign \"We miss you\" is archived"];
    told("campaigns", "We miss you", json!({ "archived": true }), "use_archived", &words);
}

#[test]
fn a_canvas_that_is_a_draft_again() {
    let words = ["the Canvas \"Come back\" is a draft", "launch it"];
    told("canvases", "Come back", json!({ "draft": true }), "use_draft", &words);
}

#[test]
fn well_again_and_known_as_edited() {
    let world = World::new();
    world.check(0);
    world.change(
        "campaigns",
        "We miss you",
        json!({ "enabled": false, "updated_at": "2026-01-01T00:00:00+00:00" }),
    );
    assert_eq!(world.codes(10), ["use_stopped", "use_edited", "target_untold"]);
    world.change(
        "campaigns",
        "We miss you",
        json!({ "enabled": true, "updated_at": "2026-01-02T00:00:00+00:00" }),
    );
    let report = world.check(0);
    assert_eq!(report["segments"][0]["verdict"], "in_step");
    assert!(finding(&report, "use_edited")["text"].as_str().unwrap().contains("2026-01-02"));
    assert_eq!(world.codes(0), ["target_untold"], "an edit is told once");
}

#[test]
fn a_segment_that_is_not_made_yet_comes_with_the_steps() {
    let (w, sandbox) = (Workspace::new(), Sandbox::start());
    w.config(&sandbox, &["carts", "free"], WIN_BACK).source("carts", users(3)).source("free", users(1));
    w.run(&["check"]).expect(10).says(&[
        "Braze lists no segment \"Win back\"; one that is archived is not listed",
        "in Braze, under Audience, Segments: create a segment called \"Win back\"",
        "filter \"Heap Cohorts\" includes \"Carts\"",
        "filter \"Heap Cohorts\" does not include \"Free\", with AND",
        "Braze has no campaign \"We miss you\"",
    ]);
    w.run(&["check", "win_bock"])
        .expect(64)
        .says(&["the config has no segment `win_bock`", "it has win_back"]);
}

#[test]
fn three_hundred_and_fifty_segments_over_four_pages_are_all_seen() {
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
    sandbox.door("/_sandbox/segments", &json!(made).to_string());
    let report = w.run(&["check", "--format", "json"]).expect(0).json();
    assert_eq!(report["segments"].as_array().unwrap().len(), 350);
    assert!(report["segments"].as_array().unwrap().iter().all(|segment| segment["verdict"] == "in_step"));
    let asked = sandbox.requests()["rest"]["endpoints"].clone();
    assert_eq!(asked["segments_list"], 5, "four pages, and one that has nothing new");
    assert_eq!((&asked["segments_details"], &asked["segments_series"]), (&json!(350), &json!(350)));
}

#[test]
fn a_name_that_several_have_is_no_name() {
    let world = World::new();
    world.make("segments", json!([{ "id": "3aca937b-9bbc-4e42-9370-05e411967b2b", "name": "Win back" }]));
    world.w.run(&["check"]).expect(1).says(&[
        "cannot be known",
        "2 segments are called \"Win back\"",
        "`segment: { id: … }` (sync.yaml:12)",
        "Not in step: 1 segment cannot be known.",
    ]);
    let id = world.id("segments", "Win back");
    let by_id = WIN_BACK.replace("{ name: Win back }", &format!("{{ id: {id} }}"));
    world.w.config(&world.sandbox, &["carts", "free"], &by_id);
    world.check(0);
    // Of two campaigns with one name, the one that is not archived is meant.
    let other = "3aca937b-9bbc-4e42-9370-05e411967b2c";
    world.make("campaigns", json!([{ "id": other, "name": "We miss you", "archived": true }]));
    world.check(0);
    world.make("campaigns", json!([{ "id": other, "archived": false }]));
    assert_eq!(world.codes(1)[0], "use_ambiguous");
}

#[test]
fn a_tag_is_a_link_that_braze_tells() {
    let tagged = WIN_BACK.replace("      canvases:", "      tag: heap\n      canvases:");
    let world = World::with(Sandbox::start(), &tagged);
    assert_eq!(world.codes(10)[..2], ["use_untagged", "use_untagged"]);
    world.change("campaigns", "We miss you", json!({ "tags": ["heap"] }));
    world.change("canvases", "Come back", json!({ "tags": ["heap", "other"] }));
    world.check(0);
}

#[test]
fn what_the_key_may_not_ask_is_not_taken_for_fine() {
    let world = World::new();
    world.check(0);
    let all = ["segments.list", "segments.details", "campaigns.list", "campaigns.details", "canvas.list"];
    world.sandbox.door("/_sandbox/keys", &json!([{ "key": "narrow", "permissions": all }]).to_string());
    let with = |key: &str| {
        let run = |args: &[&str]| {
            let mut command = world.w.command(args);
            command.env("TEST_REST_KEY", key);
            run(command)
        };
        run(&["state", "adopt", "braze"]).expect(0);
        run(&["check"])
    };
    with("narrow").expect(4).says(&[
        "cannot be known",
        "its size could not be asked for: the REST key lacks the permission `segments.data_series`",
        "Canvas \"Come back\" could not be asked for",
        "a key's permissions cannot be changed",
    ]);
    let refused =
        with("canary-rest-key").expect(4).says(&["the REST key is refused: Invalid API key: [secret]"]);
    assert!(!format!("{refused:?}").contains("canary-rest-key"));
    for (_, bytes) in world.w.snapshot(".syncline") {
        assert!(!String::from_utf8_lossy(&bytes).contains("canary-rest-key"), "nor in the state");
    }
    let mut command = world.w.command(&["check"]);
    command.env_remove("TEST_REST_KEY");
    run(command).expect(4).says(&["nobody could be asked", "TEST_REST_KEY is not set"]);
}

#[test]
fn a_drift_is_not_forgotten_while_braze_cannot_be_asked() {
    let world = World::new();
    world.check(0);
    world.change("campaigns", "We miss you", json!({ "enabled": false }));
    let since = finding(&world.check(10), "use_stopped")["since"].clone();
    world.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    let report = world.check(5);
    assert_eq!(report["result"], "unknown");
    world.sandbox.faults("[]");
    assert_eq!(finding(&world.check(10), "use_stopped")["since"], since);
}

/// A check that could not ask says nothing of what it did not see: neither that it was fine, nor that it still is not.
#[test]
fn a_finding_quotes_the_last_check_that_saw_its_evidence() {
    let world = World::new();
    let fine_at = world.check(0)["segments"][0]["since"].clone();
    world.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    world.check(5);
    world.sandbox.faults("[]");
    world.change("campaigns", "We miss you", json!({ "enabled": false }));
    let first = finding(&world.check(10), "use_stopped");
    assert_eq!(first["fine_at"], fine_at, "the check between them saw no campaign");
    // The campaign is seen to be fine while something else cannot be asked for.
    world.change("campaigns", "We miss you", json!({ "enabled": true }));
    world.sandbox.faults(r#"[{"on": "segments_series", "times": 0, "do": {"status": 503}}]"#);
    let report = world.check(5);
    assert_eq!(finding(&report, "untold")["fine_at"], first["since"]);
    world.sandbox.faults("[]");
    world.change("campaigns", "We miss you", json!({ "enabled": false }));
    let second = finding(&world.check(10), "use_stopped");
    assert!(second["since"].as_str() > first["since"].as_str(), "it was fine between them");
    assert!(second["fine_at"].as_str() > first["since"].as_str());
}

#[test]
fn trouble_that_runs_is_waited_out() {
    let world = World::new();
    world.sandbox.faults(
        r#"[{"on": "segments_list", "do": {"status": 503}}, {"on": "segments_details", "do": "reset"},
            {"on": "campaigns_list", "do": {"reply": {"status": 429, "headers": [["x-ratelimit-retry-after", "1"]]}}},
            {"on": "canvas_list", "do": "lose_answer"}]"#,
    );
    world.check(0);
    // What is no list is not an empty one.
    world
        .sandbox
        .faults(r#"[{"on": "segments_list", "times": 0, "do": {"done_but": {"message": "success"}}}]"#);
    let report = world.check(1);
    assert_eq!(report["result"], "unknown");
    assert!(finding(&report, "untold")["text"].as_str().unwrap().contains("missing field `segments`"));
    world.sandbox.faults(r#"[{"on": "segments_list", "times": 0, "do": {"done_but": "<html>"}}]"#);
    world.check(1);
}

#[test]
fn a_plan_shows_the_verdicts_and_never_fails_by_them() {
    let world = World::new();
    let before = world.w.snapshot(".syncline");
    let plan = world.w.run(&["plan", "--format", "json"]).expect(0).json();
    assert_eq!(plan["segments"][0]["verdict"], "in_step");
    world.change("segments", "Win back", json!({ "archived": true }));
    world.w.run(&["plan"]).expect(0).says(&[
        "win_back  segment \"Win back\" in braze: drifted",
        "In step: 2 cohorts, nothing to send.",
        "Not as it should be: 1 segment drifted.",
    ]);
    world
        .w
        .run(&["plan", "--format", "markdown"])
        .expect(0)
        .says(&["| `win_back` | **drifted** |", "is archived"]);
    assert_eq!(world.w.snapshot(".syncline"), before, "a plan changes nothing");
    let mut command = world.w.command(&["plan"]);
    command.env_remove("TEST_REST_KEY");
    run(command).expect(0).says(&["nobody could be asked", "1 segment cannot be known"]);
    world.sandbox.faults(r#"[{"times": 0, "do": {"status": 503}}]"#);
    world.w.run(&["plan", "carts"]).expect(0).says(&["Braze does not answer: status 503"]);
}

#[test]
fn a_size_speaks_where_words_do_not() {
    let opaque = json!({ "description": "people of interest" });
    let world = World::new();
    world.change("segments", "Win back", opaque);
    assert_eq!(world.codes(0), ["filter_by_size", "target_untold"]);
    // The wrong cohort, and only the size tells: but what Braze counted may be older than what was sent.
    world.change("segments", "Win back", json!({ "include": ["free"], "exclude": [] }));
    let report = world.check(1);
    assert_eq!(codes(&report["segments"][0])[..2], ["size_untold", "filter_untold"]);
    assert!(finding(&report, "size_untold")["text"].as_str().unwrap().contains("may be older"));
    // Once it is known what was expected before that day, it is no excuse.
    let checks = ".syncline/checks/win_back/versions";
    let newest = std::fs::read_dir(world.w.path(checks)).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let earlier = r#""expectations": [ { "day": "2026-01-01", "least": 200, "most": 200 },"#;
    let check = std::fs::read_to_string(&newest).unwrap();
    let edited = check.replacen(r#""expectations": ["#, earlier, 1);
    assert_ne!(check, edited);
    let name = format!("checks/win_back/versions/{}", newest.file_name().unwrap().to_str().unwrap());
    world.w.write(newest.to_str().unwrap(), with_checksum(&name, &edited));
    let low = finding(&world.check(10), "size_low");
    assert!(low["text"].as_str().unwrap().contains("it is too small: 100 people on "), "{low}");
    world.change("segments", "Win back", json!({ "include": ["carts", "free"] }));
    let high = finding(&world.check(10), "size_high");
    assert!(high["text"].as_str().unwrap().contains("300 people on "), "{high}");
    // A segment without its own analytics says nothing, and that is said.
    world.change("segments", "Win back", json!({ "analytics_tracking_enabled": false }));
    world.w.run(&["check"]).expect(1).says(&["analytics tracking is off", "turn on Analytics Tracking"]);
}

#[test]
fn canaries_are_asked_for() {
    let canaries = format!("{WIN_BACK}    canaries: [user-7, user-250, stranger]\n");
    let world = World::with(Sandbox::start(), &canaries);
    let report = world.check(10);
    let text = |code| finding(&report, code)["text"].as_str().unwrap().to_owned();
    assert!(text("canary_unknown").starts_with("Braze does not know external_id st…er;"));
    let absent = text("canary_absent");
    let both = "canaries external_id st…er, external_id us…50 are not in its cohorts";
    assert!(absent.contains(both), "user-250 is excluded: {absent}");
    assert_eq!(world.sandbox.requests()["rest"]["endpoints"]["export_ids"], 1);
}

#[test]
fn who_is_in_doubt_makes_a_span() {
    let world = World::new();
    world.w.source("carts", users(320));
    world.sandbox.faults(r#"[{"on": "users", "times": 0, "do": "lose_answer"}]"#);
    world.w.run(&["reconcile"]).expect(5);
    world.sandbox.faults("[]");
    let expected = world.check(0)["segments"][0]["expected"].clone();
    assert_eq!(expected, json!({ "least": 200, "most": 220 }));
}

#[test]
fn a_check_does_not_need_to_hold_the_state() {
    let world = World::new();
    world.check(0);
    let mut command = world.w.command(&["watch"]);
    let config = world.w.read("sync.yaml") + "watch: { listen: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    world.w.write("sync.yaml", config);
    let mut watching = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the state to be held", || world.w.run(&["state", "ls"]).stdout.contains("process"));
    world.w.run(&["check"]).expect(0).says(&["so this check is not remembered"]);
    watching.kill().unwrap();
    watching.wait().unwrap();
}

/// A world that is watched, and checked often.
fn watched() -> (World, Watch, Listener) {
    let listener = Listener::start();
    let often = format!("{WIN_BACK}    check: {{ every: 200ms }}\n");
    let world = World::with(Sandbox::start(), &often);
    let notify = "  notify: [ { url: { env: TEST_NOTIFY } } ]\n";
    let config = world.w.read("sync.yaml") + PATIENCE + notify;
    world.w.write("sync.yaml", config);
    let watch = Watch::from_command(world.w.command(&["watch"]).env("TEST_NOTIFY", listener.url()));
    watch.until_ready();
    (world, watch, listener)
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
fn watch_checks_on_a_schedule_of_its_own() {
    let (world, watch, listener) = watched();
    until("it is in step", || verdict(&watch, "in_step"));
    world.change("campaigns", "We miss you", json!({ "enabled": false }));
    until("it has drifted", || verdict(&watch, "drifted"));
    assert!(!verdict(&watch, "in_step"));
    until("the drift is told", || kinds(&listener) == ["drift"]);
    let text = listener.posts().last().unwrap().1["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with("the campaign \"We miss you\" is stopped or paused"), "{text}");
    let page = watch.get("/").body;
    assert!(page.contains("Segments in Braze") && page.contains("is stopped or paused"), "{page}");
    world.w.run(&["status"]).expect(0).says(&["win_back  a segment: drifted, since "]);
    world.change("campaigns", "We miss you", json!({ "enabled": true }));
    until("it is in step again", || verdict(&watch, "in_step"));
    until("and that is told", || kinds(&listener) == ["drift", "recovery"]);
    assert_eq!(watch.stop(), 0);
    let mut command = world.w.command(&["watch"]);
    command.env("TEST_NOTIFY", listener.url()).env_remove("TEST_REST_KEY");
    run(command).expect(4).says(&["has no REST API key", "TEST_REST_KEY is not set"]);
}

#[test]
fn a_watch_that_cannot_ask_says_so_and_goes_on() {
    let (world, watch, listener) = watched();
    until("it is in step", || verdict(&watch, "in_step"));
    world.sandbox.faults(r#"[{"on": "segments_list", "times": 0, "do": {"reply": {"status": 403, "body": {"message": "no"}}}}]"#);
    until("it cannot be known", || verdict(&watch, "unknown"));
    until("that is told", || kinds(&listener) == ["failure"]);
    world.w.source("carts", users(310));
    until("cohorts go on", || world.sandbox.members("carts").len() == 310);
    world.sandbox.faults("[]");
    until("it is in step again", || verdict(&watch, "in_step"));
    until("and that is told", || kinds(&listener) == ["failure", "recovery"]);
    // A segment that leaves the config is not asked about, and not shown.
    let config = world.w.read("sync.yaml");
    let without =
        config.split("segments:").next().unwrap().to_owned() + &config[config.find("cohorts:").unwrap()..];
    world.w.replace("sync.yaml", &without);
    until("it is gone", || !watch.get("/metrics").body.contains("win_back"));
    world.w.replace("sync.yaml", &config);
    until("it is back", || verdict(&watch, "in_step"));
    assert_eq!(watch.stop(), 0);
}
